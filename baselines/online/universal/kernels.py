"""The updates of a conditioned policy as compiled loops, without Python and without its lock.

They state for float32 arrays what `learner` states in torch; see `ppo.kernels`.
"""

from __future__ import annotations

import numpy as np

from baselines.common.compilation import F1, F2, Array, Number, adam_step, f32, inner, outer
from baselines.online.ppo.kernels import (
    hidden_gradient,
    hidden_layer,
    normal_slopes,
    softmax_slopes,
)


@inner
def split(flat: Array, d: int, h: int, o: int) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Weights and biases (d, h), (h,), (h, h), (h,), (h, o), (o,), as in TwoLayerNetwork."""
    a = d * h
    b = a + h
    c = b + h * h
    e = c + h
    f = e + h * o
    return (
        flat[:a].reshape(d, h),
        flat[a:b],
        flat[b:c].reshape(h, h),
        flat[c:e],
        flat[e:f].reshape(h, o),
        flat[f : f + o],
    )


@inner
def gather(source: Array, rows: Array, target: Array) -> None:
    """Writes rows (B,) of `source` (M, d) into `target` (B, d)."""
    for b in range(rows.shape[0]):
        target[b] = source[rows[b]]


@inner
def forward(
    parameters: Array, inputs: Array, first_layer: Array, second_layer: Array, outputs: Array
) -> None:
    """Writes both hidden layers (B, h) and the outputs (B, o) of inputs (B, d)."""
    h, o = first_layer.shape[1], outputs.shape[1]
    weight_1, bias_1, weight_2, bias_2, weight_3, bias_3 = split(parameters, inputs.shape[1], h, o)
    hidden_layer(inputs, weight_1, bias_1, first_layer)
    hidden_layer(first_layer, weight_2, bias_2, second_layer)
    np.dot(second_layer, weight_3, outputs)
    outputs += bias_3


@inner
def backward(
    parameters: Array,
    gradient: Array,
    inputs: Array,
    first_layer: Array,
    second_layer: Array,
    slopes: Array,
    hidden_slopes: Array,
    below: Array,
) -> None:
    """Writes the gradient of a loss with the given slopes (B, o) by the outputs.

    `hidden_slopes` and `below` (B, h) are written over.
    """
    d, h, o = inputs.shape[1], first_layer.shape[1], slopes.shape[1]
    _, _, weight_2, _, weight_3, _ = split(parameters, d, h, o)
    gradient_1, bias_1, gradient_2, bias_2, gradient_3, bias_3 = split(gradient, d, h, o)
    np.dot(second_layer.T, slopes, gradient_3)
    bias_3[:] = f32(0.0)
    for b in range(slopes.shape[0]):
        for c in range(o):
            bias_3[c] += slopes[b, c]
    np.dot(slopes, weight_3.T, hidden_slopes)
    hidden_gradient(first_layer, second_layer, hidden_slopes, gradient_2, bias_2)
    np.dot(hidden_slopes, weight_2.T, below)
    hidden_gradient(inputs, first_layer, below, gradient_1, bias_1)


@outer(f"{F1}, {F1}, {F1}, i8, {F2}, {F1}, i8[:,::1], i8, f8, f8, f8")
def train_critic(
    parameters: Array,
    first: Array,
    second: Array,
    hidden_size: int,
    inputs: Array,
    targets: Array,
    order: Array,
    n_steps: int,
    learning_rate: float,
    epsilon: float,
    max_norm: float,
) -> None:
    """A gradient step of the squared error on every mini-batch.

    Args:
        parameters: (P,) changed in place, as are Adam's moments.
        first: (P,) Adam's first moment.
        second: (P,) Adam's second moment.
        hidden_size: h.
        inputs: (M, d).
        targets: (M,).
        order: (mini-batches, B) rows.
        n_steps: Adam's steps so far.
        learning_rate: Adam's step size.
        epsilon: Adam's.
        max_norm: bound on the gradient's norm.
    """
    n_rows = order.shape[1]
    gradient = np.zeros_like(parameters)
    own = np.empty((n_rows, inputs.shape[1]), f32)
    layers = np.empty((4, n_rows, hidden_size), f32)
    outputs = np.empty((n_rows, 1), f32)
    factor = f32(2.0 / n_rows)
    for batch in range(order.shape[0]):
        rows = order[batch]
        gather(inputs, rows, own)
        forward(parameters, own, layers[0], layers[1], outputs)
        for b in range(n_rows):
            outputs[b, 0] = (outputs[b, 0] - targets[rows[b]]) * factor
        backward(parameters, gradient, own, layers[0], layers[1], outputs, layers[2], layers[3])
        step = n_steps + batch + 1
        adam_step(parameters, gradient, first, second, step, learning_rate, epsilon, max_norm)


@outer(f"{F1}, {F1}, {F1}, i8, i8, b1, {F2}, {F2}, {F1}, {F1}, i8[:,::1], i8, f8, f8, f8, f4, f4")
def train_actor(
    parameters: Array,
    first: Array,
    second: Array,
    hidden_size: int,
    n_outputs: int,
    is_normal: bool,
    inputs: Array,
    actions: Array,
    old_log_probs: Array,
    advantages: Array,
    order: Array,
    n_steps: int,
    learning_rate: float,
    epsilon: float,
    max_norm: float,
    clip: Number,
    entropy: Number,
) -> None:
    """A gradient step of PPO's clipped objective and the entropy bonus on every mini-batch.

    Args:
        parameters: (P,) changed in place, as are Adam's moments.
        first: (P,) Adam's first moment.
        second: (P,) Adam's second moment.
        hidden_size: h.
        n_outputs: o.
        is_normal: whether outputs are means of normal actions, or logits.
        inputs: (M, d).
        actions: (M, a).
        old_log_probs: (M,) when the actions were taken.
        advantages: (M,) standardised.
        order: (mini-batches, B) rows.
        n_steps: Adam's steps so far.
        learning_rate: Adam's step size.
        epsilon: Adam's.
        max_norm: bound on the gradient's norm.
        clip: bound on the change of the probability ratio.
        entropy: weight of the entropy bonus.
    """
    n_rows, o = order.shape[1], n_outputs
    gradient = np.zeros_like(parameters)
    log_std = parameters[-o:]  # meaningless for logits, and not used
    log_std_gradient = gradient[-o:]
    own = np.empty((n_rows, inputs.shape[1]), f32)
    layers = np.empty((4, n_rows, hidden_size), f32)
    outputs = np.empty((n_rows, o), f32)
    for batch in range(order.shape[0]):
        rows = order[batch]
        gather(inputs, rows, own)
        forward(parameters, own, layers[0], layers[1], outputs)
        if is_normal:
            normal_slopes(
                outputs,
                log_std,
                log_std_gradient,
                actions,
                old_log_probs,
                advantages,
                rows,
                clip,
                entropy,
            )
        else:
            softmax_slopes(outputs, actions, old_log_probs, advantages, rows, clip, entropy)
        backward(parameters, gradient, own, layers[0], layers[1], outputs, layers[2], layers[3])
        step = n_steps + batch + 1
        adam_step(parameters, gradient, first, second, step, learning_rate, epsilon, max_norm)
