"""The updates of one seed as compiled loops, without Python and without its lock.

`train_critics` and `train_actors` make the steps of `losses.make_step` with slopes written out, and
`estimate_advantages` states what `updates` has in torch, for one seed's arrays. Products
are BLAS calls; what stands between them are loops that the compiler fuses and vectorises. All
numbers are float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from baselines.common.compilation import (
    F1,
    F2,
    F3,
    Array,
    Number,
    adam_move,
    adam_step,
    f32,
    fetch_add,
    inner,
    outer,
    yield_core,
)

# tanh as a ratio of two polynomials, the one that Eigen uses: within 2.5e-7 of the exact value,
# and ten times as fast as a call of the library's.
_TANH_BOUND = f32(7.90531110763549805)
_P1, _P3, _P5 = f32(4.89352455891786e-03), f32(6.37261928875436e-04), f32(1.48572235717979e-05)
_P7, _P9 = f32(5.12229709037114e-08), f32(-8.60467152213735e-11)
_P11, _P13 = f32(2.00018790482477e-13), f32(-2.76076847742355e-16)
_Q0, _Q2 = f32(4.89352518554385e-03), f32(2.26843463243900e-03)
_Q4, _Q6 = f32(1.18534705686654e-04), f32(1.19825839466702e-06)

_HALF_LOG_TWO_PI = f32(0.5 * math.log(2 * math.pi))

# Counters of `train_critics`, each in a line of the cache of its own.
TAKEN, FINISHED, PUBLISHED, N_COUNTERS = 0, 16, 32, 48
_SPINS = 1000  # some 50 microseconds, as long as a small head takes


@inner
def hidden_parts(row: Array, d: int, h: int, n_layers: int) -> tuple[Array, ...]:
    """The first four of the parts that `split` returns."""
    e = h if n_layers == 2 else 0
    a = d * h
    b = a + h
    c = b + e * e
    return row[:a].reshape(d, h), row[a:b], row[b:c].reshape(e, e), row[c : c + e]


@inner
def shared_size(parts: tuple[Array, ...]) -> int:
    """Parameters of the hidden layers, of parts as `split` or `hidden_parts` returns them."""
    return parts[0].size + parts[1].size + parts[2].size + parts[3].size


@inner
def split(row: Array, k: int, d: int, h: int, o: int, n_layers: int) -> tuple[Array, ...]:
    """The parts of a seed's parameters, as in HeadedNetwork.

    Weights and biases of the hidden layers, (d, h), (h,), (h, h), (h,), and of the heads, (k, h, o)
    and (k, o); with one hidden layer those of the second one are empty.
    """
    hidden = hidden_parts(row, d, h, n_layers)
    f = shared_size(hidden)
    g = f + k * h * o
    return (
        hidden[0],
        hidden[1],
        hidden[2],
        hidden[3],
        row[f:g].reshape(k, h, o),
        row[g : g + k * o].reshape(k, o),
    )


@inner
def hidden_layer(inputs: Array, weight: Array, bias: Array, hidden: Array) -> None:
    """Write tanh(inputs @ weight + bias) (B, h) into `hidden`."""
    np.dot(inputs, weight, hidden)
    for b in range(hidden.shape[0]):
        for i in range(hidden.shape[1]):
            x = hidden[b, i] + bias[i]
            x = _TANH_BOUND if x > _TANH_BOUND else x
            x = -_TANH_BOUND if x < -_TANH_BOUND else x
            y = x * x
            p = ((_P13 * y + _P11) * y + _P9) * y + _P7
            p = ((p * y + _P5) * y + _P3) * y + _P1
            q = ((_Q6 * y + _Q4) * y + _Q2) * y + _Q0
            hidden[b, i] = x * p / q


@inner
def hidden_gradient(
    inputs: Array, hidden: Array, slope: Array, weight_gradient: Array, bias_gradient: Array
) -> None:
    """Write the hidden layer's gradient, from the slope (B, h) of the loss by its output."""
    bias_gradient[:] = f32(0.0)
    for b in range(slope.shape[0]):
        for i in range(slope.shape[1]):
            s = slope[b, i] * (f32(1.0) - hidden[b, i] * hidden[b, i])
            slope[b, i] = s
            bias_gradient[i] += s
    np.dot(inputs.T, slope, weight_gradient)


@inner
def forward(inputs: Array, parts: tuple[Array, ...], layers: Array) -> None:
    """Write the hidden layers (layers, B, h) of inputs (B, d)."""
    hidden_layer(inputs, parts[0], parts[1], layers[0])
    if layers.shape[0] == 2:
        hidden_layer(layers[0], parts[2], parts[3], layers[1])


@inner
def add_squares(total: Number, array: Array) -> Any:
    """The total plus the square of the Euclidean norm of a contiguous array."""
    flat = array.ravel()
    for i in range(flat.shape[0]):
        total += flat[i] * flat[i]
    return total


@inner
def add_scaled(target: Array, source: Array, factor: Number) -> None:
    """Add `factor` times a contiguous array to another one."""
    flat, own = target.ravel(), source.ravel()
    for i in range(own.shape[0]):
        flat[i] += factor * own[i]


@inner
def backward(
    inputs: Array,
    layers: Array,
    start: int,
    slope: Array,
    below: Array,
    weight_2: Array,
    own_parts: tuple[Array, ...],
    head_parts: tuple[Array, Array, Array],
    max_norm: float,
) -> Any:
    """Write one representative's gradient, the head's scaled to `max_norm` with all of it.

    Args:
        inputs: (B, d) of the representative.
        layers: (layers, rows, h) of these or more.
        start: of the representative's rows of them.
        slope: (B, h) of the loss by the last layer, overwritten.
        below: (B, h) overwritten.
        weight_2: (h, h) of the second layer, if there is one.
        own_parts: its gradient of the hidden layers, written; `add_parts` scales it.
        head_parts: gradients of its head (h, o), (o,) and (o,) or (0,), scaled.
        max_norm: bound on the norm of all of it.

    Returns:
        The factor that the bound asks for, at most 1.
    """
    lower = layers[0, start : start + slope.shape[0]]
    if layers.shape[0] == 2:
        upper = layers[1, start : start + slope.shape[0]]
        hidden_gradient(lower, upper, slope, own_parts[2], own_parts[3])
        np.dot(slope, weight_2.T, below)
        hidden_gradient(inputs, lower, below, own_parts[0], own_parts[1])
    else:
        hidden_gradient(inputs, lower, slope, own_parts[0], own_parts[1])
    head, bias, log_std = head_parts
    total = add_squares(f32(0.0), own_parts[0])
    total = add_squares(total, head)
    total = add_squares(total, own_parts[1])
    total = add_squares(total, bias)
    total = add_squares(total, log_std)
    total = add_squares(total, own_parts[2])
    total = add_squares(total, own_parts[3])
    clip = f32(max_norm) / (np.sqrt(total) + f32(1e-6))
    clip = f32(1.0) if clip > f32(1.0) else clip
    head *= clip
    bias *= clip
    log_std *= clip
    return clip


@inner
def add_parts(gradients: tuple[Array, ...], own_parts: tuple[Array, ...], clip: Number) -> None:
    """Add `clip` times a representative's gradient of the hidden layers to that of all."""
    add_scaled(gradients[0], own_parts[0], clip)
    add_scaled(gradients[1], own_parts[1], clip)
    add_scaled(gradients[2], own_parts[2], clip)
    add_scaled(gradients[3], own_parts[3], clip)


@outer(
    f"{F3}, {F3}, {F3}, {F3}, {F3}, b1, f8[:,::1], f8[:,::1], f8, "
    "f8[:,:,:], f4[:,:,:], f4[:,:,:], f4[:,:,:], f4[:,:,:]"
)
def act(
    hidden_weight: Array,
    hidden_bias: Array,
    heads: Array,
    head_biases: Array,
    log_std: Array,
    is_normal: bool,
    mean: Array,
    scale: Array,
    bound: float,
    raw: Array,
    noise: Array,
    observations: Array,
    outputs: Array,
    actions: Array,
) -> None:
    """One step of all representatives of all seeds.

    Args:
        hidden_weight: (R, d, h), like the next four as in HeadedNetwork.
        hidden_bias: (R, 1, h).
        heads: (R k, h, o).
        head_biases: (R k, 1, o).
        log_std: (R k, 1, o), used if `is_normal`.
        is_normal: whether outputs are means of normal actions, or logits.
        mean: (R, d) subtracted from observations.
        scale: (R, d) factor on the difference.
        bound: on its absolute value.
        raw: (R k, E, d) observations.
        noise: (R k, E, o).
        observations: (R k, E, d), written.
        outputs: (R k, E, o), written.
        actions: (R k, E, a), written.
    """
    n_seeds, d, h = hidden_weight.shape
    n_policies, n_envs, o = outputs.shape
    k = n_policies // n_seeds
    inputs = np.empty((k * n_envs, d), f32)
    hidden = np.empty((k * n_envs, h), f32)
    own = np.empty((n_envs, o), f32)
    for seed in range(n_seeds):
        for j in range(k):
            for e in range(n_envs):
                for i in range(d):
                    x = (raw[seed * k + j, e, i] - mean[seed, i]) * scale[seed, i]
                    inputs[j * n_envs + e, i] = min(max(x, -bound), bound)
                observations[seed * k + j, e] = inputs[j * n_envs + e]
        hidden_layer(inputs, hidden_weight[seed], hidden_bias[seed, 0], hidden)
        for j in range(k):
            p = seed * k + j
            np.dot(hidden[j * n_envs : (j + 1) * n_envs], heads[p], own)
            for e in range(n_envs):
                best = f32(-np.inf)
                if not is_normal:
                    actions[p, e, 0] = f32(0.0)  # also if no output is a number
                for c in range(o):
                    output = own[e, c] + head_biases[p, 0, c]
                    outputs[p, e, c] = output
                    if is_normal:
                        actions[p, e, c] = output + np.exp(log_std[p, 0, c]) * noise[p, e, c]
                    elif output + noise[p, e, c] > best:
                        best = output + noise[p, e, c]
                        actions[p, e, 0] = c


@outer("f8[:,:], i8[::1]")
def choose_best(table: Array, chosen: Array) -> None:
    """Replace `chosen` (n,) by the columns of the rows' greatest numbers, of `table` (n, k).

    A choice that is among the greatest stays; of several others the first is taken.
    """
    for i in range(table.shape[0]):
        best = chosen[i]
        greatest = table[i, best]
        for j in range(table.shape[1]):  # without a branch that nobody can predict
            is_greater = table[i, j] > greatest
            greatest = table[i, j] if is_greater else greatest
            best = j if is_greater else best
        chosen[i] = best


@inner
def gather(observations: Array, rows: Array, inputs: Array) -> None:
    """Write rows (B,) of every representative's observations (k, M, d) into (k B, d)."""
    n_rows = rows.shape[0]
    for j in range(observations.shape[0]):
        for b in range(n_rows):
            inputs[j * n_rows + b] = observations[j, rows[b]]


@inner
def empty_parts(parts: tuple[Array, ...]) -> tuple[Array, ...]:
    """Arrays in the shapes of the hidden layers' weights and biases, as `split` has them."""
    return (
        np.empty_like(parts[0]),
        np.empty_like(parts[1]),
        np.empty_like(parts[2]),
        np.empty_like(parts[3]),
    )


@inner
def wait_for(progress: Array, batch: int) -> None:
    """Return when the hidden layers are those that mini-batch number `batch` begins with."""
    spins = 0
    while fetch_add(progress, PUBLISHED, 0) < batch:
        spins += 1
        if spins % _SPINS == 0:
            yield_core()


@outer(
    f"{F1}, {F1}, {F1}, i8, i8, {F3}, {F3}, i8[:,::1], i8, f8, f8, f8, f8, "
    f"{F1}, {F2}, {F1}, i8[::1]"
)
def train_critics(
    parameters: Array,
    first: Array,
    second: Array,
    hidden_size: int,
    n_layers: int,
    observations: Array,
    targets: Array,
    order: Array,
    n_steps: int,
    learning_rate: float,
    epsilon: float,
    max_norm: float,
    max_norm_of_all: float,
    gradient: Array,
    own_gradients: Array,
    clips: Array,
    progress: Array,
) -> None:
    """Equation 8: a gradient step on every mini-batch.

    Any number of threads call this with the same arrays, at any time, and do the work together:
    each takes the next head of which nobody has taken the mini-batch, and whoever finishes the
    last head of a mini-batch moves what the heads share. That adds up the heads' gradients in
    their order, so that the numbers do not depend on who did what. All is done when all return.

    Args:
        parameters: (P,) of the critics, changed in place, as are Adam's moments.
        first: (P,) Adam's first moment.
        second: (P,) Adam's second moment.
        hidden_size: h.
        n_layers: hidden ones, 1 or 2.
        observations: (k, M, d).
        targets: (k, M, n).
        order: (mini-batches, B) rows.
        n_steps: Adam's steps so far.
        learning_rate: Adam's step size.
        epsilon: Adam's.
        max_norm: bound on the norm of each representative's gradient.
        max_norm_of_all: bound on that of all together; if finite, one thread makes Adam's steps.
        gradient: (P,) overwritten.
        own_gradients: (k, parameters of the hidden layers), overwritten: each representative's.
        clips: (k,) overwritten: their factors.
        progress: (N_COUNTERS,) zeros at the start.
    """
    k, _, n = targets.shape
    d, h, n_rows = observations.shape[2], hidden_size, order.shape[1]
    parts = split(parameters, k, d, h, n, n_layers)
    gradients = split(gradient, k, d, h, n, n_layers)
    heads, head_biases, head_gradients, head_bias_gradients = (*parts[4:], *gradients[4:])
    firsts, seconds = split(first, k, d, h, n, n_layers)[4], split(second, k, d, h, n, n_layers)[4]
    n_shared, n_heads = own_gradients.shape[1], parameters.size - k * n
    inputs = np.empty((n_rows, d), f32)
    layers = np.empty((n_layers, n_rows, h), f32)
    slope, below = np.empty((n_rows, h), f32), np.empty((n_rows, h), f32)
    nothing = np.empty(0, f32)
    errors = np.empty((n_rows, n), f32)
    own_head = np.empty((h, n), f32)  # stays in the cache, where the gradient of all does not
    factor = f32(2.0 / (n_rows * n))
    moves_at_once = max_norm_of_all == np.inf
    while True:
        batch, j = divmod(fetch_add(progress, TAKEN, 1), k)
        if batch >= order.shape[0]:
            break
        step = n_steps + batch + 1
        rows = order[batch]
        wait_for(progress, batch)
        for b in range(n_rows):
            inputs[b] = observations[j, rows[b]]
        forward(inputs, parts, layers)
        np.dot(layers[-1], heads[j], errors)
        bias_gradient_j = head_bias_gradients[j]
        bias_gradient_j[:] = f32(0.0)
        for b in range(n_rows):
            target = targets[j, rows[b]]
            for i in range(n):
                error = (errors[b, i] + head_biases[j, i] - target[i]) * factor
                errors[b, i] = error
                bias_gradient_j[i] += error
        head_gradient = own_head if moves_at_once else head_gradients[j]
        np.dot(layers[-1].T, errors, head_gradient)
        np.dot(errors, heads[j].T, slope)
        own_parts = hidden_parts(own_gradients[j], d, h, n_layers)
        clips[j] = backward(
            inputs,
            layers,
            0,
            slope,
            below,
            parts[2],
            own_parts,
            (head_gradient, bias_gradient_j, nothing),
            max_norm,
        )
        if moves_at_once:
            adam_move(
                heads[j].ravel(),
                head_gradient.ravel(),
                firsts[j].ravel(),
                seconds[j].ravel(),
                step,
                learning_rate,
                epsilon,
                f32(1.0),
            )
        if fetch_add(progress, FINISHED, 1) + 1 < (batch + 1) * k:
            continue
        gradient[:n_shared] = f32(0.0)
        for other in range(k):
            add_parts(gradients, hidden_parts(own_gradients[other], d, h, n_layers), clips[other])
        if moves_at_once:
            for start, stop in ((0, n_shared), (n_heads, parameters.size)):
                adam_move(
                    parameters[start:stop],
                    gradient[start:stop],
                    first[start:stop],
                    second[start:stop],
                    step,
                    learning_rate,
                    epsilon,
                    f32(1.0),
                )
        else:
            adam_step(
                parameters, gradient, first, second, step, learning_rate, epsilon, max_norm_of_all
            )
        fetch_add(progress, PUBLISHED, 1)


@inner
def surrogate_slope(log_prob: Number, old_log_prob: Number, advantage: Number, clip: Number) -> Any:
    """Slope of PPO's objective by the log-probability of one action."""
    ratio = f32(math.exp(log_prob - old_log_prob))
    clipped = min(max(ratio, f32(1.0) - clip), f32(1.0) + clip)
    # Not a number stays one: it is not greater than anything.
    return f32(0.0) if ratio * advantage > clipped * advantage else ratio * advantage


@inner
def divergence(log_prob: Number, old_log_prob: Number) -> Any:
    """Of one action, ratio - 1 - log ratio: its mean is unbiased for the KL divergence."""
    change = log_prob - old_log_prob
    return f32(math.exp(change)) - f32(1.0) - change


@inner
def normal_slopes(
    outputs: Array,
    log_std: Array,
    log_std_gradient: Array,
    actions: Array,
    old_log_probs: Array,
    advantages: Array,
    rows: Array,
    clip: Number,
    entropy: Number,
) -> Any:
    """Turn means (B, a) into the loss's slopes by them, and write that by log_std (a,).

    Returns:
        Estimate of the divergence from the policy that collected (`divergence`).
    """
    n_rows, n_components = outputs.shape
    precision = np.exp(-log_std)
    constant, total = f32(0.0), f32(0.0)
    for c in range(n_components):
        constant += log_std[c] + _HALF_LOG_TWO_PI
        log_std_gradient[c] = -entropy
    for b in range(n_rows):
        row = rows[b]
        log_prob = -constant
        for c in range(n_components):
            z = (actions[row, c] - outputs[b, c]) * precision[c]
            outputs[b, c] = z
            log_prob -= f32(0.5) * z * z
        total += divergence(log_prob, old_log_probs[row])
        slope = -surrogate_slope(log_prob, old_log_probs[row], advantages[row], clip) / f32(n_rows)
        for c in range(n_components):
            z = outputs[b, c]
            log_std_gradient[c] += slope * (z * z - f32(1.0))
            outputs[b, c] = slope * z * precision[c]
    return total / f32(n_rows)


@inner
def softmax_slopes(
    outputs: Array,
    actions: Array,
    old_log_probs: Array,
    advantages: Array,
    rows: Array,
    clip: Number,
    entropy: Number,
) -> Any:
    """Turn logits (B, o) into the loss's slopes by them; return what `normal_slopes` does."""
    n_rows, n_actions = outputs.shape
    change = f32(0.0)
    for b in range(n_rows):
        row = rows[b]
        action = int(actions[row, 0])
        logits = outputs[b]
        largest = logits.max()
        total = f32(0.0)
        for c in range(n_actions):
            total += f32(math.exp(logits[c] - largest))
        largest += f32(math.log(total))
        mean_log = f32(0.0)  # minus the entropy
        for c in range(n_actions):
            logits[c] -= largest
            mean_log += f32(math.exp(logits[c])) * logits[c]
        change += divergence(logits[action], old_log_probs[row])
        slope = -surrogate_slope(logits[action], old_log_probs[row], advantages[row], clip) / f32(
            n_rows
        )
        weight = entropy / f32(n_rows)
        for c in range(n_actions):
            probability = f32(math.exp(logits[c]))
            logits[c] = probability * ((logits[c] - mean_log) * weight - slope)
        logits[action] += slope
    return change / f32(n_rows)


@outer(
    f"{F1}, {F1}, {F1}, i8, i8, i8, b1, {F3}, {F3}, {F2}, {F2}, i8[:,::1], i8, f8, f8, f8, f8, "
    "f4, f4, f4, f4"
)
def train_actors(
    parameters: Array,
    first: Array,
    second: Array,
    hidden_size: int,
    n_layers: int,
    n_outputs: int,
    is_normal: bool,
    observations: Array,
    actions: Array,
    old_log_probs: Array,
    advantages: Array,
    order: Array,
    n_steps: int,
    learning_rate: float,
    epsilon: float,
    max_norm: float,
    max_norm_of_all: float,
    clip: Number,
    entropy: Number,
    min_log_std: Number,
    max_kl: Number,
) -> None:
    """Equation 9 and the entropy bonus: a gradient step on every mini-batch.

    Args:
        parameters: (P,) of the actors, changed in place, as are Adam's moments.
        first: (P,) Adam's first moment.
        second: (P,) Adam's second moment.
        hidden_size: h.
        n_layers: hidden ones, 1 or 2.
        n_outputs: o.
        is_normal: whether outputs are means of normal actions, or logits.
        observations: (k, M, d).
        actions: (k, M, a).
        old_log_probs: (k, M) when the actions were taken.
        advantages: (k, M) standardised.
        order: (mini-batches, B) rows.
        n_steps: Adam's steps so far.
        learning_rate: Adam's step size.
        epsilon: Adam's.
        max_norm: bound on the norm of each representative's gradient.
        max_norm_of_all: bound on that of all together.
        clip: bound on the change of the probability ratio.
        entropy: weight of the entropy bonus.
        min_log_std: least log standard deviation, if there are any.
        max_kl: divergence on a mini-batch from which a representative gets no more gradient.
    """
    k, _, d = observations.shape
    h, o, n_rows = hidden_size, n_outputs, order.shape[1]
    gradient = np.zeros_like(parameters)
    parts = split(parameters, k, d, h, o, n_layers)
    gradients = split(gradient, k, d, h, o, n_layers)
    heads, head_biases, head_gradients, head_bias_gradients = (*parts[4:], *gradients[4:])
    own_parts = empty_parts(parts)
    log_stds = parameters[-k * o :].reshape(k, o)  # meaningless for logits, and not used
    log_std_gradients = gradient[-k * o :].reshape(k, o)
    n_deviations = o if is_normal else 0
    learns = np.ones(k, np.bool_)
    inputs = np.empty((k * n_rows, d), f32)
    layers = np.empty((n_layers, k * n_rows, h), f32)
    slope, below = np.empty((n_rows, h), f32), np.empty((n_rows, h), f32)
    outputs = np.empty((n_rows, o), f32)
    for batch in range(order.shape[0]):
        rows = order[batch]
        gather(observations, rows, inputs)
        forward(inputs, parts, layers)
        gradient[: parts[0].size + h + parts[2].size + parts[3].size] = f32(0.0)
        for j in range(k):
            own = layers[-1, j * n_rows : (j + 1) * n_rows]
            np.dot(own, heads[j], outputs)
            outputs += head_biases[j]
            if is_normal:
                change = normal_slopes(
                    outputs,
                    log_stds[j],
                    log_std_gradients[j],
                    actions[j],
                    old_log_probs[j],
                    advantages[j],
                    rows,
                    clip,
                    entropy,
                )
            else:
                change = softmax_slopes(
                    outputs, actions[j], old_log_probs[j], advantages[j], rows, clip, entropy
                )
            learns[j] &= not change > max_kl
            if not learns[j]:
                outputs[:] = f32(0.0)
                log_std_gradients[j, :n_deviations] = f32(0.0)
            bias_gradient_j = head_bias_gradients[j]
            bias_gradient_j[:] = f32(0.0)
            for b in range(n_rows):
                for c in range(o):
                    bias_gradient_j[c] += outputs[b, c]
            np.dot(own.T, outputs, head_gradients[j])
            np.dot(outputs, heads[j].T, slope)
            clip_j = backward(
                inputs[j * n_rows : (j + 1) * n_rows],
                layers,
                j * n_rows,
                slope,
                below,
                parts[2],
                own_parts,
                (head_gradients[j], bias_gradient_j, log_std_gradients[j, :n_deviations]),
                max_norm,
            )
            add_parts(gradients, own_parts, clip_j)
        adam_step(
            parameters,
            gradient,
            first,
            second,
            n_steps + batch + 1,
            learning_rate,
            epsilon,
            max_norm_of_all,
        )
        if is_normal:
            for j in range(k):
                for c in range(o):
                    if log_stds[j, c] < min_log_std:
                        log_stds[j, c] = min_log_std


@inner
def evaluate(
    parameters: Array,
    hidden_size: int,
    n_representatives: int,
    n_agents: int,
    j: int,
    inputs: Array,
) -> Array:
    """Values (B, n) that the critic of representative j gives to observations (B, d)."""
    parts = split(parameters, n_representatives, inputs.shape[1], hidden_size, n_agents, 1)
    hidden = np.empty((inputs.shape[0], hidden_size), f32)
    hidden_layer(inputs, parts[0], parts[1], hidden)
    values: Array = np.dot(hidden, parts[4][j])
    values += parts[5][j]
    return values


@outer(f"{F1}, i8, i8, i8, {F3}, {F2}, {F2}, i8[:,::1], {F3}, b1[:,::1], {F1}, f8, f8, {F2}")
def estimate_advantages(
    parameters: Array,
    hidden_size: int,
    n_representatives: int,
    j: int,
    observations: Array,
    last_observations: Array,
    final_observations: Array,
    final_rows: Array,
    rewards: Array,
    ended: Array,
    weights: Array,
    gamma: float,
    gae_lambda: float,
    advantages: Array,
) -> None:
    """Generalised advantage estimates of one representative, contracted over the agents.

    They are linear in the rewards and the values, so the actor needs only their weighted sum; the
    agents' own are kept for one step, and the values for a block of steps.

    Args:
        parameters: (P,) of the critics.
        hidden_size: h.
        n_representatives: k.
        j: the representative.
        observations: (T, E, d).
        last_observations: (E, d) after the last step.
        final_observations: (B, d) where truncated episodes ended, if they are to be continued by
            their values.
        final_rows: (B, 2) step and copy of each.
        rewards: (T, E, n), overwritten by the critic's targets.
        ended: (T, E) whether the episode ended at this step.
        weights: (n,) of the agents.
        gamma: discount.
        gae_lambda: lambda.
        advantages: (T, E), written.
    """
    n_times, n_envs, d = observations.shape
    n = rewards.shape[2]
    parts = split(parameters, n_representatives, d, hidden_size, n, 1)
    weight, bias, heads, head_biases = parts[0], parts[1], parts[4], parts[5]
    final_values = evaluate(parameters, hidden_size, n_representatives, n, j, final_observations)
    for b in range(final_rows.shape[0]):
        t, e = final_rows[b]
        for i in range(n):
            rewards[t, e, i] += f32(gamma) * final_values[b, i]
    block = max(1, 64 // n_envs)  # a block's values stay in the cache
    hidden = np.empty((block * n_envs, hidden_size), f32)
    values = np.empty((block * n_envs, n), f32)
    carried = np.zeros((n_envs, n), f32)
    next_values = evaluate(parameters, hidden_size, n_representatives, n, j, last_observations)
    for stop in range(n_times, 0, -block):
        start = max(0, stop - block)
        n_rows = (stop - start) * n_envs
        inputs = observations[start:stop].reshape(n_rows, d)
        hidden_layer(inputs, weight, bias, hidden[:n_rows])
        np.dot(hidden[:n_rows], heads[j], values[:n_rows])
        for t in range(stop - 1, start - 1, -1):
            for e in range(n_envs):
                discount = f32(0.0) if ended[t, e] else f32(gamma)
                decay = discount * f32(gae_lambda)
                total = f32(0.0)
                row = values[(t - start) * n_envs + e]
                for i in range(n):
                    value = row[i] + head_biases[j, i]
                    advantage = (
                        rewards[t, e, i]
                        + discount * next_values[e, i]
                        - value
                        + decay * carried[e, i]
                    )
                    carried[e, i] = advantage
                    next_values[e, i] = value
                    rewards[t, e, i] = value + advantage
                    total += weights[i] * advantage
                advantages[t, e] = total
