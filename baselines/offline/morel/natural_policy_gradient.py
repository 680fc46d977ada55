"""Natural policy gradient for M policies at once, with a learned baseline.

Rajeswaran, Lowrey, Todorov, Kakade, "Towards Generalization and Simplicity in Continuous Control",
NeurIPS 2017 (arXiv 1703.02660), algorithm 1, which MOReL plans with; official code
`aravindr93/mjrl`. The gradient of the surrogate is multiplied by the inverse of the Fisher matrix,
found by conjugate gradients, and the step has the length sqrt(step_size / (g F^-1 g)).

Where we depart from the official code, and why:
  - Paths end at the horizon: what comes after is worth nothing. (The code continues a path by the
    baseline of its last observation, whose targets however are returns that end at the horizon;
    and it does so for paths that ended by termination or by HALT as well, because it compares a
    path's length with itself.)
  - Fisher-vector products use the Fisher matrix's closed form, J' H J with the outputs' own metric
    H, from one forward and one reverse derivative, instead of a second derivative of the KL
    divergence: the same matrix. They are taken on `fisher_rows` visited states.
  - Conjugate gradients start from zero, not from the gradient.
  - The baseline's targets are divided by the discounted length of the horizon, so that a network
    with weights of order one can reach them; no weight decay. Its inputs are standardised
    observations and four powers of the time, as in the code, but of t / H.
  - A step that turns out to change the policy by twice the divergence that it should is halved, as
    in trust-region methods: a policy that is nearly deterministic has a Fisher matrix close to
    zero, and without this the noise of its gradient threw it off again (seen on a toy problem).
  - Softmax policies for discrete actions (the code has Gaussian ones only).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from baselines.offline.common.networks import MemberMLP
from baselines.offline.common.optimization import MemberAdam, minimize
from baselines.offline.morel.actors import Actor
from baselines.offline.morel.model import Paths

_N_TIME_FEATURES = 4
_N_TRIES = 10
"""Of a step that changes a policy by more than it should, each half as long as the one before."""


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """(M, p) of parameters (M, ...) each."""
    return torch.cat([tensor.reshape(len(tensor), -1) for tensor in tensors], 1)


def unflatten(flat: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters by name of `flat` (M, p), in the shapes of `like`."""
    parts = flat.split([tensor[0].numel() for tensor in like.values()], 1)
    shaped = zip(like.items(), parts, strict=True)
    return {name: part.reshape(tensor.shape) for (name, tensor), part in shaped}


def fisher_product(actor: Actor, observations: Tensor) -> Callable[[Tensor], Tensor]:
    """The product of each member's Fisher matrix with a vector (M, p).

    Args:
        actor: M policies.
        observations: (M, B, d), over which the matrix is a mean.
    """
    like = {name: tensor.detach() for name, tensor in actor.named_parameters()}
    flat = flatten(list(like.values()))

    def outputs_of(parameters: Tensor) -> Tensor:
        outputs: Tensor = torch.func.functional_call(
            actor, unflatten(parameters, like), (observations,)
        )
        return outputs

    outputs, pull_back, *_ = torch.func.vjp(outputs_of, flat)
    probabilities = outputs.softmax(-1)
    n_rows = observations.shape[1]

    def multiply(vector: Tensor) -> Tensor:
        change: Tensor = torch.func.jvp(outputs_of, (flat,), (vector,))[1]
        if actor.log_std is None:  # diag(p) - p p'
            weighted = probabilities * change
            weighted = weighted - probabilities * weighted.sum(-1, keepdim=True)
            product: Tensor = pull_back(weighted / n_rows)[0]
            return product
        # 1 / std^2 for the mean, 2 for its logarithm: no outputs depend on that one.
        log_std = like["log_std"]
        (product,) = pull_back(change * (-2 * log_std).exp() / n_rows)
        log_std_part = unflatten(vector, like)["log_std"] * 2
        return product + flatten(
            [log_std_part if name == "log_std" else torch.zeros_like(t) for name, t in like.items()]
        )

    return multiply


def conjugate_gradients(
    multiply: Callable[[Tensor], Tensor], target: Tensor, n_iterations: int
) -> Tensor:
    """Solve A x = b for M symmetric positive definite matrices at once, from x = 0.

    Args:
        multiply: vectors (M, p) by the matrices.
        target: b, (M, p).
        n_iterations: at most; a member that has converged stays where it is.
    """
    solution, residual = torch.zeros_like(target), target
    direction, square = residual, target.square().sum(1, keepdim=True)
    enough = 1e-10 * square
    for _ in range(n_iterations):
        product = multiply(direction)
        curvature = (direction * product).sum(1, keepdim=True)
        going = (square > enough) & (curvature > 0)
        length = torch.where(going, square / curvature, 0.0)
        solution = solution + length * direction
        residual = residual - length * product
        next_square = residual.square().sum(1, keepdim=True)
        ratio = torch.where(going, next_square / square, 0.0)
        direction, square = residual + ratio * direction, next_square
    return solution


def natural_gradient(
    actor: Actor, observations: Tensor, gradient: Tensor, damping: float, n_iterations: int
) -> Tensor:
    """(M, p): inverse of (Fisher matrix + damping) times `gradient` (M, p)."""
    multiply = fisher_product(actor, observations)
    return conjugate_gradients(lambda v: multiply(v) + damping * v, gradient, n_iterations)


def valid_steps(paths: Paths) -> Tensor:
    """(M, P, H) bool: steps before a path's end, the last one included."""
    steps = torch.arange(paths.rewards.shape[2], device=paths.rewards.device)
    return steps < paths.lengths.unsqueeze(2)


def discounted_sums(values: Tensor, discount: float) -> Tensor:
    """(..., H) sums of `values` (..., H) from each step to the end."""
    sums, total = torch.empty_like(values), torch.zeros_like(values[..., 0])
    for t in reversed(range(values.shape[-1])):
        total = values[..., t] + discount * total
        sums[..., t] = total
    return sums


class Baseline:
    """The value of a state and a time, by one network for each member."""

    def __init__(
        self, actor: Actor, horizon: int, gamma: float, generators: Sequence[torch.Generator]
    ) -> None:
        """Draw networks of 128-128, which see observations as the actor does."""
        self.actor, self.horizon = actor, horizon
        self.unit = sum(gamma**t for t in range(horizon))
        """Discounted length of the horizon: what values are divided by."""
        n_inputs = actor.mean.shape[-1] + _N_TIME_FEATURES
        # Two outputs, whose mean is the value: on a CPU a product with a single column is rounded
        # otherwise for one member than for several.
        self.network = MemberMLP((n_inputs, 128, 128, 2), generators).to(actor.mean.device)

    def values(self, observations: Tensor, times: Tensor) -> Tensor:
        """(M, B) values, in units of `unit`, at observations (M, B, d) and times (M, B)."""
        inputs = (observations - self.actor.mean) / self.actor.scale
        fraction = (times / self.horizon).unsqueeze(-1)
        powers = [fraction]
        for _ in range(1, _N_TIME_FEATURES):
            powers.append(powers[-1] * fraction)
        outputs: Tensor = self.network(torch.cat((inputs, *powers), -1))
        return outputs.mean(-1)

    @torch.no_grad()
    def advantages(self, paths: Paths, gamma: float, gae_lambda: float) -> Tensor:
        """(M, P, H) generalised advantages; 0 after a path's end."""
        m, p, h = paths.rewards.shape
        times = torch.arange(h, device=paths.rewards.device).repeat(m, p)
        valid = valid_steps(paths)
        values = self.values(paths.observations.flatten(1, 2), times).reshape(m, p, h)
        values = values * self.unit * valid
        following = functional.pad(values[..., 1:], (0, 1))
        differences = (paths.rewards + gamma * following - values) * valid
        return discounted_sums(differences, gamma * gae_lambda)

    def fit(
        self,
        paths: Paths,
        gamma: float,
        batch_size: int,
        n_updates: int,
        optimizer: MemberAdam,
        generators: Sequence[torch.Generator],
    ) -> None:
        """Fit the values to the paths' discounted returns, by `n_updates` gradient steps."""
        horizon = paths.rewards.shape[2]
        returns = discounted_sums(paths.rewards, gamma).flatten(1) / self.unit
        for _ in range(n_updates):
            rows = draw_visited(paths, batch_size, generators)
            values = self.values(gather_rows(paths.observations, rows), rows % horizon)
            errors = values - returns.gather(1, rows)
            minimize(errors.square().mean(1).sum(), optimizer)


def whiten(advantages: Tensor, valid: Tensor) -> Tensor:
    """Advantages of mean 0 and deviation 1 over each member's valid steps; 0 elsewhere."""
    count = valid.sum((1, 2), keepdim=True)
    mean = (advantages * valid).sum((1, 2), keepdim=True) / count
    centred = (advantages - mean) * valid
    deviation = (centred.square().sum((1, 2), keepdim=True) / count).sqrt()
    return centred / (deviation + 1e-6)


def draw_visited(paths: Paths, n_rows: int, generators: Sequence[torch.Generator]) -> Tensor:
    """(M, n_rows) rows of the valid steps, with replacement; row p * H + t is step t of path p."""
    ends = paths.lengths.cumsum(1)  # (M, P)
    uniform = torch.stack(
        [torch.rand(n_rows, generator=g, dtype=torch.float64) for g in generators]
    )
    rank = (uniform.to(ends.device) * ends[:, -1:]).long()
    path = torch.searchsorted(ends, rank, right=True)
    begins = ends - paths.lengths
    return path * paths.rewards.shape[2] + rank - begins.gather(1, path)


def gather_rows(observations: Tensor, rows: Tensor) -> Tensor:
    """(M, B, d) of observations (M, P, H, d) at rows (M, B) from `draw_visited`."""
    flat = observations.flatten(1, 2)
    return flat.gather(1, rows.unsqueeze(2).expand(-1, -1, flat.shape[2]))


def policy_gradient(actor: Actor, paths: Paths, advantages: Tensor) -> Tensor:
    """(M, p) gradient of the mean of log-probability times advantage over the valid steps."""
    logs = actor.log_probabilities(paths.observations.flatten(1, 2), paths.actions.flatten(1, 2))
    count = paths.lengths.sum(1)
    surrogate = (logs * advantages.flatten(1)).sum(1) / count
    return flatten(torch.autograd.grad(surrogate.sum(), list(actor.parameters())))


def divergence(actor: Actor, outputs: Tensor, log_std: Tensor | None, other: Tensor) -> Tensor:
    """(M,) mean KL divergence of the actor's policies from earlier ones.

    Args:
        actor: gives its outputs `other` (M, B, o) now.
        outputs: (M, B, o) the earlier ones.
        log_std: (M, 1, a) the earlier one; None for softmax policies.
        other: see `actor`.
    """
    if actor.log_std is None or log_std is None:
        differences = outputs.log_softmax(-1) - other.log_softmax(-1)
        softmax: Tensor = (outputs.softmax(-1) * differences).sum(-1).mean(1)
        return softmax
    variance = (2 * actor.log_std).exp()
    squares = ((outputs - other).square() + (2 * log_std).exp()) / (2 * variance)
    normal: Tensor = (actor.log_std - log_std + squares - 0.5).sum(-1).mean(1)
    return normal


@torch.no_grad()
def take_step(
    actor: Actor, observations: Tensor, gradient: Tensor, direction: Tensor, step_size: float
) -> None:
    """Move each policy along its direction (M, p), until twice the KL divergence is step_size.

    The length is that of the quadratic approximation; where the true divergence over
    `observations` (M, B, d) is more than twice what it should be, the step is halved until it is
    not, at most nine times; the last is made, however far it leads.
    """
    decrement = (gradient * direction).sum(1, keepdim=True).clamp(min=0.0)
    length = torch.sqrt(step_size / (decrement + 1e-20))
    change = torch.where(decrement > 0, length * direction, 0.0)
    names = dict(actor.named_parameters())
    start = {name: parameter.clone() for name, parameter in names.items()}
    before = actor(observations)
    for _ in range(_N_TRIES):
        for name, part in unflatten(change, names).items():
            names[name].copy_(start[name] + part)
        if actor.log_std is not None:
            actor.log_std.clamp_(min=actor.min_log_std, max=1.0)
        moved = divergence(actor, before, start.get("log_std"), actor(observations))
        too_far = moved > step_size
        if not too_far.any():
            return
        change = torch.where(too_far.unsqueeze(1), 0.5 * change, change)
