"""PerSim's training and roll-outs as compiled loops, for one hidden layer and discrete actions.

`model` states the same in torch; `tests/baselines/offline/test_persim.py` holds the one against the
other.
"""

from __future__ import annotations

import numpy as np

from baselines.common.compilation import F1, F2, F3, Array, adam_step, f32, inner, outer

LANES = 4
"""Size of an observation in `roll_out`; a smaller one is filled up with zeros."""


@inner
def split(
    row: Array, n: int, n_actions: int, d: int, h: int, r: int
) -> tuple[Array, Array, Array, Array, Array, Array, Array, Array]:
    """The parts of a member's parameters, in the order of `FactoredModel.parameters`.

    That is (n, r), (r,) of agents, (A, r), (r,) of actions, (d, h), (h, d r), (h,), (d r,) of
    states: each layer's weights, then its biases; the two weights of states before their biases.
    """
    a = n * r
    b = a + r
    c = b + n_actions * r
    e = c + r
    g = e + d * h
    i = g + h * d * r
    j = i + h
    return (
        row[:a].reshape(n, r),
        row[a:b],
        row[b:c].reshape(n_actions, r),
        row[c:e],
        row[e:g].reshape(d, h),
        row[g:i].reshape(h, d * r),
        row[i:j],
        row[j:],
    )


@outer(f"{F1}, {F1}, {F1}, i8, i8, i8, i8, {F2}, i8[::1], i8[::1], {F2}, i8[::1], i8, i8, f8, {F1}")
def train_epoch(
    parameters: Array,
    first: Array,
    second: Array,
    n_agents: int,
    n_actions: int,
    hidden_size: int,
    rank: int,
    inputs: Array,
    agents: Array,
    actions: Array,
    targets: Array,
    order: Array,
    batch_size: int,
    n_steps: int,
    learning_rate: float,
    loss: Array,
) -> None:
    """One pass of one member over the data: a step of Adam for each mini-batch.

    Args:
        parameters: (P,), changed in place, as are Adam's moments.
        first: (P,) Adam's first moment.
        second: (P,) Adam's second moment.
        n_agents: n.
        n_actions: A.
        hidden_size: h.
        rank: r.
        inputs: (N, d).
        agents: (N,).
        actions: (N,).
        targets: (N, d).
        order: (N,) rows, in the order in which they are used; the last mini-batch may be smaller.
        batch_size: B.
        n_steps: Adam's steps so far.
        learning_rate: Adam's step size.
        loss: (1,), written: mean squared error over the pass.
    """
    d, h, r = inputs.shape[1], hidden_size, rank
    gradient = np.empty_like(parameters)
    u, u_bias, w, w_bias, weight, v, bias, v_bias = split(parameters, n_agents, n_actions, d, h, r)
    slopes = split(gradient, n_agents, n_actions, d, h, r)
    u_slope, u_bias_slope, w_slope, w_bias_slope = slopes[:4]
    weight_slope, v_slope, bias_slope, v_bias_slope = slopes[4:]
    rows = np.empty((batch_size, d), f32)
    hidden = np.empty((batch_size, h), f32)
    slope = np.empty((batch_size, h), f32)
    outputs = np.empty((batch_size, d * r), f32)
    own_u, own_w = np.empty(r, f32), np.empty(r, f32)
    total = 0.0
    for start in range(0, order.shape[0], batch_size):
        batch = order[start : start + batch_size]
        size = batch.shape[0]
        x, z, s, y = rows[:size], hidden[:size], slope[:size], outputs[:size]
        for b in range(size):
            x[b] = inputs[batch[b]]
        np.dot(x, weight, z)
        for b in range(size):
            for i in range(h):
                z[b, i] = max(z[b, i] + bias[i], f32(0.0))
        np.dot(z, v, y)

        gradient[:] = f32(0.0)
        factor = f32(2.0 / (size * d))
        for b in range(size):
            row = batch[b]
            agent, action = agents[row], actions[row]
            for f in range(r):
                own_u[f] = u[agent, f] + u_bias[f]
                own_w[f] = w[action, f] + w_bias[f]
            for k in range(d):
                error = -targets[row, k]
                for f in range(r):
                    y[b, k * r + f] += v_bias[k * r + f]
                    error += own_u[f] * own_w[f] * y[b, k * r + f]
                total += error * error
                error *= factor
                # From here on y holds the loss's slopes by the outputs.
                for f in range(r):
                    by_product = error * y[b, k * r + f]
                    u_slope[agent, f] += by_product * own_w[f]
                    w_slope[action, f] += by_product * own_u[f]
                    y[b, k * r + f] = error * own_u[f] * own_w[f]
                    v_bias_slope[k * r + f] += y[b, k * r + f]
        # Every agent and every action has a share of its own in the common bias.
        for f in range(r):
            for agent in range(n_agents):
                u_bias_slope[f] += u_slope[agent, f]
            for action in range(n_actions):
                w_bias_slope[f] += w_slope[action, f]

        np.dot(z.T, y, v_slope)
        np.dot(y, v.T, s)
        for b in range(size):
            for i in range(h):
                s[b, i] = s[b, i] if z[b, i] > f32(0.0) else f32(0.0)
                bias_slope[i] += s[b, i]
        np.dot(x.T, s, weight_slope)
        n_steps += 1
        adam_step(parameters, gradient, first, second, n_steps, learning_rate, 1e-8, np.inf)
    loss[0] = total / (order.shape[0] * d)


@outer(f"{F3}, {F2}, f4[:,:,:,::1], {F3}, i8[:,:,::1], f4[:,:,:,:,::1]")
def roll_out(
    weight: Array, bias: Array, folded: Array, folded_bias: Array, plans: Array, states: Array
) -> None:
    """Roll sequences of actions out in every member of `simulator.PersonalSimulator`.

    A step of a candidate reads 9 h weights, which the innermost cache holds, and writes 4 numbers.

    Args:
        weight: (M, 4, h) of the hidden layer.
        bias: (M, h).
        folded: (M, A, 4, h) last layer, the agent's and the action's factors contracted into it.
        folded_bias: (M, A, 4).
        plans: (E, S, H) actions.
        states: (M, E, S, H + 1, 4): the first is where the plan begins, the others are written.
    """
    n_envs, n_plans, n_steps = plans.shape
    for m in range(weight.shape[0]):
        w0, w1, w2, w3 = weight[m, 0], weight[m, 1], weight[m, 2], weight[m, 3]
        b = bias[m]
        for e in range(n_envs):
            for p in range(n_plans):
                x = states[m, e, p]
                for t in range(n_steps):
                    x0, x1, x2, x3 = x[t, 0], x[t, 1], x[t, 2], x[t, 3]
                    a = plans[e, p, t]
                    v0, v1 = folded[m, a, 0], folded[m, a, 1]
                    v2, v3 = folded[m, a, 2], folded[m, a, 3]
                    y0 = x0 + folded_bias[m, a, 0]
                    y1 = x1 + folded_bias[m, a, 1]
                    y2 = x2 + folded_bias[m, a, 2]
                    y3 = x3 + folded_bias[m, a, 3]
                    for i in range(b.shape[0]):
                        z = b[i] + x0 * w0[i] + x1 * w1[i] + x2 * w2[i] + x3 * w3[i]
                        z = max(z, f32(0.0))
                        y0 += z * v0[i]
                        y1 += z * v1[i]
                        y2 += z * v2[i]
                        y3 += z * v3[i]
                    x[t + 1, 0], x[t + 1, 1], x[t + 1, 2], x[t + 1, 3] = y0, y1, y2, y3
