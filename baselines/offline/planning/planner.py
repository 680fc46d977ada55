"""Planning for many environments at once, with any dynamics.

    PlannerPolicy     one agent's policy: plans in `act`, for all its E episodes together
    JointPolicy       several agents' policies in lockstep, where one dynamics has all of them
      Planner         proposes plans: random shooting (discrete), cross-entropy (continuous)
      Dynamics        rolls the plans of all environments and gives their returns (dynamics.py)

Sizes and rules are those of PerSim (Agarwal et al. 2021, arXiv 2102.06961) and of its code.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.common.settings import check_range
from baselines.common.threads import one_thread
from baselines.offline.common.spaces import action_space, is_discrete
from baselines.offline.planning.dynamics import Dynamics, Objective, make_generator, objective_for
from rmdp_bench.evaluation import ask_to_go_on
from rmdp_bench.solution import Policy
from rmdp_bench.tasks import Task

Evaluate = Callable[[Tensor], Tensor]
"""Of plans (A, S, H, ...) of A environments: returns (A, S)."""
Proposals = Generator[Tensor, Tensor, Tensor]
"""Yields plans (A, S, H, ...), is sent their returns (A, S), and returns actions (A, ...)."""


@dataclass(frozen=True)
class PlannerConfig:
    """Settings of the planners; the defaults are those of random shooting (PerSim's code)."""

    n_sequences: int = 1000
    """Plans that are compared for each decision (cross-entropy: in each iteration)."""
    horizon: int = 50
    """Steps of a plan."""
    n_elites: int = 50
    """Cross-entropy: best plans, to which the distribution is fitted."""
    n_iterations: int = 5
    """Cross-entropy: smoothed fits, after a first one that is not smoothed."""
    smoothing: float = 0.1
    """Cross-entropy: weight of the mean and deviation before in each smoothed fit."""
    least_deviation: float = 0.3
    """Cross-entropy: the initial standard deviation is uniform from this one ..."""
    greatest_deviation: float = 0.6
    """... to this one, drawn for each decision."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        check_range(self, 1, math.inf, "n_sequences", "horizon")
        check_range(self, 2, math.inf, "n_elites")
        check_range(self, 0, math.inf, "n_iterations")
        check_range(self, 0.0, 1.0, "smoothing")
        check_range(self, 1e-6, math.inf, "least_deviation")
        check_range(self, self.least_deviation, math.inf, "greatest_deviation")


def planner_settings(task: Task) -> dict[str, Any]:
    """Settings of the planner that a task replaces, by name of the field."""
    if is_discrete(task.env_id):
        return {}
    return {"n_sequences": 200, "horizon": 30}


def decide(proposals: Proposals, evaluate: Evaluate) -> Tensor:
    """The actions (A, ...) that proposals end with; who waits for them is asked at each turn."""
    plans = next(proposals)
    while True:
        ask_to_go_on()
        try:
            plans = proposals.send(evaluate(plans))
        except StopIteration as end:
            actions: Tensor = end.value
            return actions


class Planner(ABC):
    """Chooses actions for some of E environments, and remembers each one's plan.

    Each environment has a generator of its own, so that none depends on others.
    """

    def __init__(self, config: PlannerConfig, device: torch.device, key: tuple[int, ...]) -> None:
        """Draw on the device, from generators whose seeds follow from `key`."""
        self.config, self.device, self._key = config, device, key

    def reset(self, n_envs: int) -> None:
        """Begin E = n_envs episodes: forget all plans, and draw the same numbers again."""
        self._generators = [make_generator(self.device, *self._key, e) for e in range(n_envs)]
        self._previous: Tensor | None = None
        """Of each environment's last plan, (E, H, ...): what it did not execute, shifted."""

    @abstractmethod
    def propose(self, envs: Tensor) -> Proposals:
        """Propose plans that begin where environments are; in the end give their actions.

        Args:
            envs: (A,) int64, which ones; an environment left out once is never asked for again.

        Returns:
            A generator, whose value is (A,) int64 or (A, a).
        """

    def _draw(self, envs: Tensor, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        return torch.stack([draw(self._generators[e]) for e in envs.tolist()])

    def _remember(self, envs: Tensor, plans: Tensor) -> None:
        """Keep plans (A, H, ...) without their first action; a zero follows at the end."""
        if self._previous is None:
            self._previous = plans.new_zeros(len(self._generators), *plans.shape[1:])
        self._previous[envs, :-1] = plans[:, 1:]


class RandomShooting(Planner):
    """The best of uniformly random sequences of discrete actions, and of the previous best.

    Sequence 0 is the best of the decision before without its first action; a random one is added
    at its end. In the first decision of an episode it is random.
    """

    def __init__(
        self, config: PlannerConfig, n_actions: int, device: torch.device, key: tuple[int, ...]
    ) -> None:
        """Draw from actions 0 to n_actions - 1."""
        super().__init__(config, device, key)
        self.n_actions = n_actions

    def propose(self, envs: Tensor) -> Proposals:
        """Propose random sequences, once; the best one's first action is taken."""
        shape = (self.config.n_sequences, self.config.horizon)

        def draw(generator: torch.Generator) -> Tensor:
            return torch.randint(self.n_actions, shape, generator=generator, device=self.device)

        plans = self._draw(envs, draw)  # (A, S, H)
        if self._previous is not None:
            plans[:, 0, :-1] = self._previous[envs, :-1]
        # The first among equals, so that the previous plan is kept.
        returns = yield plans
        best = plans[torch.arange(len(plans), device=self.device), returns.argmax(1)]
        self._remember(envs, best)
        return best[:, 0]


class CrossEntropy(Planner):
    """The cross-entropy method on sequences of actions in [-1, 1].

    Plans are normal, each component truncated to [-1, 1]. The first fit to the elites replaces mean
    and deviation; each of the `n_iterations` that follow replaces all but the share `smoothing` of
    them. The mean of the last elites is executed. The mean begins as the one of the decision before
    without its first action and with a zero at its end; in an episode's first decision, as zero.
    """

    def __init__(
        self, config: PlannerConfig, action_size: int, device: torch.device, key: tuple[int, ...]
    ) -> None:
        """Draw actions (action_size,)."""
        super().__init__(config, device, key)
        self.action_size = action_size

    def propose(self, envs: Tensor) -> Proposals:
        """Propose as many times as there are fits; the elites' mean is taken."""
        config, shape = self.config, (self.config.horizon, self.action_size)
        means = torch.zeros(len(envs), *shape, device=self.device)
        if self._previous is not None:
            means = self._previous[envs]
        spread = config.greatest_deviation - config.least_deviation
        deviations = config.least_deviation + spread * self._uniform(envs, (1, 1))
        deviations = deviations.expand_as(means)
        for iteration in range(config.n_iterations + 1):
            uniform = self._uniform(envs, (config.n_sequences, *shape))
            plans = truncated_normal(means[:, None], deviations[:, None], uniform)
            returns = yield plans
            best = returns.topk(config.n_elites, dim=1).indices  # (A, elites)
            elites = plans[torch.arange(len(plans), device=self.device)[:, None], best]
            kept = config.smoothing if iteration else 0.0
            means = kept * means + (1.0 - kept) * elites.mean(1)
            deviations = kept * deviations + (1.0 - kept) * elites.std(1)
        self._remember(envs, means)
        return elites.mean(1)[:, 0]

    def _uniform(self, envs: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Numbers (A, *shape) in [0, 1)."""
        return self._draw(
            envs, lambda generator: torch.rand(shape, generator=generator, device=self.device)
        )


def truncated_normal(means: Tensor, deviations: Tensor, uniform: Tensor) -> Tensor:
    """Normal numbers given that they are in [-1, 1], from uniform ones in [0, 1)."""
    deviations = deviations.clamp_min(1e-4)  # elites may agree
    low = torch.special.ndtr((-1.0 - means) / deviations)
    high = torch.special.ndtr((1.0 - means) / deviations)
    normal: Tensor = torch.special.ndtri(low + (high - low) * uniform)
    return (means + deviations * normal).clamp(-1.0, 1.0)


class PlannerPolicy:
    """The policy of one agent: at every step it plans anew, in all its episodes at once."""

    def __init__(
        self, dynamics: Dynamics, planner: Planner, objective: Objective, seed: int
    ) -> None:
        """Plan with a dynamics of the agent.

        Args:
            dynamics: has no other user while an episode lasts.
            planner: draws on the dynamics' device.
            objective: of the environment.
            seed: of the noise of a stochastic dynamics.
        """
        self.dynamics, self.planner, self.objective = dynamics, planner, objective
        self._seed = seed

    def reset(self, n_envs: int) -> None:
        """Begin E = n_envs episodes; those after two resets get the same random numbers."""
        self.dynamics.begin(n_envs, self._seed)
        self.planner.reset(n_envs)
        self._ended = torch.zeros(n_envs, dtype=torch.bool, device=self.dynamics.device)
        self._before: tuple[Tensor, Tensor] | None = None

    @one_thread()
    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions (E,) int64 or (E, a) float32 for observations (E, d).

        An episode that has terminated, as far as its observations tell, gets action 0 from then on.
        """
        seen, envs, proposals = self.ask(observations)
        planned = None
        if proposals is not None:
            planned = decide(
                proposals,
                lambda plans: self.dynamics.evaluate(self.objective, seen[envs], plans, envs),
            )
        return self.answer(seen, envs, planned)

    def ask(self, observations: NDArray[Any]) -> tuple[Tensor, Tensor, Proposals | None]:
        """What there is to plan for observations (E, d): these, (A,) which of them, and plans.

        There are none, if all episodes have ended.
        """
        dynamics = self.dynamics
        seen = torch.as_tensor(observations, dtype=dynamics.dtype, device=dynamics.device)
        if self._before is not None:
            dynamics.observe(*self._before, seen)
            self._ended |= self.objective.terminated(*self._before, seen)
        envs = (~self._ended).nonzero()[:, 0]
        is_wanted = len(envs) > 0 or self._before is None
        return seen, envs, self.planner.propose(envs) if is_wanted else None

    def answer(self, seen: Tensor, envs: Tensor, planned: Tensor | None) -> NDArray[Any]:
        """Actions (E, ...) at what `ask` gave, from those that were planned."""
        if planned is not None:
            actions = planned.new_zeros(len(seen), *planned.shape[1:])
            actions[envs] = planned
        else:
            assert self._before is not None
            actions = torch.zeros_like(self._before[1])
        self._before = seen, actions
        chosen: NDArray[Any] = actions.cpu().numpy()
        return chosen

    @staticmethod
    def join_policies(policies: Sequence[Policy], n_rows: Sequence[int]) -> JointPolicy | None:
        """One policy for all episodes of several, the first's before the second's; None if none is.

        Args:
            policies: of several agents.
            n_rows: episodes of each.
        """
        own = [policy for policy in policies if isinstance(policy, PlannerPolicy)]
        settings = {(policy.planner.config, policy.objective) for policy in own}
        if len(own) < len(policies) or len(settings) > 1:
            return None
        dynamics = own[0].dynamics.join([each.dynamics for each in own])
        return None if dynamics is None else JointPolicy(own, n_rows, dynamics)


class JointPolicy:
    """The policies of several agents in lockstep: all their plans are rolled out in one call.

    They do what each does alone, but for rounding, and their own dynamics evaluate nothing.
    """

    def __init__(
        self, policies: Sequence[PlannerPolicy], n_rows: Sequence[int], dynamics: Dynamics
    ) -> None:
        """Join policies with one objective.

        Args:
            policies: G of them, with one planner's settings.
            n_rows: (G,) episodes of each.
            dynamics: its environment g is the world of policy g.
        """
        self._policies, self._n_rows, self._dynamics = tuple(policies), tuple(n_rows), dynamics

    def reset(self, n_envs: int) -> None:
        """Begin the episodes of all policies, `n_envs` in all."""
        for policy, size in zip(self._policies, self._n_rows, strict=True):
            policy.reset(size)
        self._dynamics.begin(len(self._policies), 0)

    @one_thread()
    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions (E, ...) for observations (E, d)."""
        parts = np.split(observations, np.cumsum(self._n_rows)[:-1])
        asked = [policy.ask(part) for policy, part in zip(self._policies, parts, strict=True)]
        planned: dict[int, Tensor] = {}
        waiting = {g: next(own) for g, (_, _, own) in enumerate(asked) if own is not None}
        while waiting:
            ask_to_go_on()
            returns = self._evaluate(asked, waiting)
            plans, waiting = waiting, {}
            for g, own in zip(plans, returns, strict=True):
                proposals = asked[g][2]
                assert proposals is not None
                try:
                    waiting[g] = proposals.send(own)
                except StopIteration as end:
                    planned[g] = end.value
        return np.concatenate(
            [
                policy.answer(seen, envs, planned.get(g))
                for g, (policy, (seen, envs, _)) in enumerate(
                    zip(self._policies, asked, strict=True)
                )
            ]
        )

    def _evaluate(
        self, asked: Sequence[tuple[Tensor, Tensor, Proposals | None]], plans: dict[int, Tensor]
    ) -> Sequence[Tensor]:
        """Returns of each policy's plans."""
        sizes = [len(own) for own in plans.values()]
        starts = torch.cat([seen[envs] for seen, envs, _ in (asked[g] for g in plans)])
        worlds = torch.tensor(list(plans)).repeat_interleave(torch.tensor(sizes))
        returns = self._dynamics.evaluate(
            self._policies[0].objective,
            starts,
            torch.cat(list(plans.values())),
            worlds.to(starts.device),
        )
        parts: Sequence[Tensor] = returns.split(sizes)
        return parts


def check_planner(env_id: str, config: PlannerConfig) -> None:
    """Refuse sizes with which one cannot plan in an environment.

    Raises:
        ValueError: fewer plans than elites.
    """
    if not is_discrete(env_id) and config.n_sequences < config.n_elites:
        raise ValueError(
            f"n_elites is {config.n_elites}; expected at most n_sequences, {config.n_sequences}"
        )


def make_policy(
    env_id: str, dynamics: Dynamics, config: PlannerConfig, *, seed: int, agent: int
) -> PlannerPolicy:
    """The policy that plans in an environment, by the planner that suits its actions.

    Args:
        env_id: of an environment whose agents differ in dynamics.
        dynamics: of one agent.
        config: sizes of the planner.
        seed: of the run, >= 0.
        agent: >= 0; agents of one seed plan with different random numbers.

    Raises:
        ValueError: the environment has no known reward, or sizes do not fit.
    """
    check_planner(env_id, config)
    objective, space, key = objective_for(env_id), action_space(env_id), (seed, agent)
    planner: Planner
    if isinstance(space, gym.spaces.Discrete):
        planner = RandomShooting(config, int(space.n), dynamics.device, key)
    else:
        assert isinstance(space, gym.spaces.Box), space
        planner = CrossEntropy(config, space.shape[0], dynamics.device, key)
    noise_seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    return PlannerPolicy(dynamics, planner, objective, noise_seed)
