"""PPO for k representatives, whatever rule moves the assignment of agents to them.

One iteration collects 2048 transitions with every representative (`collection`), turns them into
advantages and targets for all n agents (`agent_advantages`: dynamics are shared, so a transition of
one representative is a sample of everybody's reward; `outcome_critic`: for about 100 who stand for
any number of agents, if the critic is that of the outcome), lets the assignment rule move
(`AssignmentRule`), and makes 10 epochs of mini-batch updates (`Updates.apply`, equations 8 and 9).
Several seeds are trained as one batch: they are the leading axis R of every tensor, and share
nothing. The same seeds repeat bit for bit on one machine. On a CPU all of it but the returns and
log-probabilities runs in compiled loops (`kernels`, `updates_numba`), where a seed gets the same
numbers whoever is trained with it; `updates` states the same in torch, which a GPU runs, and there
a seed trained with others differs by the rounding of batched matrix products.

Departures from the paper, and why:
  - Each representative acts in 8 copies of the world for 256 steps, instead of one for 2048: the
    same batch of 2048 transitions in an eighth of the steps. Observation statistics move between
    batches, not within.
  - The learned log standard deviation starts at -1 (the reference code keeps it there for good).
  - A constant (`advantage_offset`) is added to the standard deviation that normalises advantages:
    without it the noise of a representative that has converged is blown up until it destroys it.
    Advantages are the mean over a representative's own agents, sum_i alpha^i(j) A^ij divided by
    its mass sum_i alpha^i(j), so that the constant means the same for every group and every n.
  - Equations 8 and 9 are means over transitions (and agents), not sums; the clipping of gradients
    and Adam's epsilon are relative to that.
  - Each representative's gradient, by its own head and by the layer that it shares, is clipped as
    if it were alone: the paper trains k policies by losses of their own, and has "gradient norm
    clipping" for each. (The code clips all of them together.)
Departures from the reference code, which are its errors (the paper is followed):
  - The standard deviation is learned; observations are normalised by statistics of the raw ones;
    log-probabilities are those of the sampled action, not of the clipped one; means have no tanh.
  - Time limits bootstrap with the value of the last observation (not in Resource Gathering, where
    the limit is a rule of the game); no transition is dropped.
  - A representative's head is evaluated for its own rows only; one hidden layer, not two.
  - Advantages are normalised over the batch (appendix B), not over the mini-batch; epochs are not
    stopped early at a large divergence. Observation statistics are common to the representatives,
    since the layer that reads the observations is.
Of another objective W than the mean the marginal advantage is its own slope: each agent's A^ij
counts with dW / dV^i at the moving averages of returns (the chain rule on equation 7), smoothed for
the worst agent (`scoring.objective_weights`). Who serves an agent best is the same for every W, as
all rise with every return, so that E-steps do not change.
Schedules are geometric over the run, as in the code; gamma comes from the task.

Earlier runs, those whose configuration has no `training_reward`, divided advantages by all n agents
instead of the group's mass, which damped small groups, and clipped gradients jointly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.common.divergence import check_finite
from baselines.common.loop import State, report
from baselines.common.threads import one_thread
from baselines.online.ppo.assignments import AssignmentRule
from baselines.online.ppo.collection import CollectedBatch, Collector
from baselines.online.ppo.policies import Actors, make_solution
from baselines.online.ppo.settings import PPOConfig, anneal
from baselines.online.ppo.updates import Updates
from rmdp_bench.runs import RunLog
from rmdp_bench.scoring import objective_weights
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask


class PPOLearner:
    """k representatives in training, for R seeds at once.

    Attributes:
        collector: the worlds in which they act.
        actor, critic: the networks.
        iteration: number of updates made.
    """

    def __init__(
        self,
        task: OnlineTask,
        config: PPOConfig,
        seeds: Sequence[int],
        device: str,
        spent: int = 0,
    ) -> None:
        """Make the worlds, the networks and every seed's random generators.

        `spent` of the task's transitions per policy are not for this training.

        On a CPU, train within `one_thread`. All cores are used by the physics while representatives
        act, and by `updates_numba` during an update.
        """
        self.task, self.config, self.device, self.spent = task, config, device, spent
        self.n_seeds, self.n_representatives = len(seeds), task.n_representatives
        self.n_policies, self.n_agents = self.n_seeds * task.n_representatives, task.n_agents
        self.collector = Collector(task, config, seeds, device)
        self.observation_size = self.collector.observation_size
        self.updates = Updates(
            task,
            config,
            seeds,
            device,
            self.collector.actions,
            self.observation_size,
            self.collector.nodes,
        )
        self.actor, self.critic = self.updates.actor, self.updates.critic
        self.iteration = 0

    def collect(self) -> CollectedBatch:
        """Act with the representatives as they are."""
        config = self.config
        shaping = self._anneal(config.shaping, config.final_shaping, linear=True)
        return self.collector.collect(self.actor, shaping)

    def update(self, batch: CollectedBatch, rule: AssignmentRule) -> None:
        """Train on a batch, for the assignment of `rule`.

        Raises:
            FloatingPointError: training has diverged.
        """
        config = self.config
        self.updates.agent_weights = self._agent_weights(rule.served)
        learning_rate = self._anneal(config.learning_rate, config.final_learning_rate)
        entropy = self._anneal(config.entropy_coefficient, config.final_entropy_coefficient)
        self.updates.apply(batch, rule, learning_rate, entropy)
        self.iteration += 1
        networks = (self.actor.flat, self.critic.flat)
        check_finite(networks, f"{self.transitions:,} transitions per policy")

    def _agent_weights(self, served: Tensor) -> Tensor | None:
        """Slopes dW / dV^i (R, n, 1) of the task's objective at the moving averages of returns."""
        if self.task.objective == "utilitarian":
            return None
        table = np.nan_to_num(self.collector.average_returns)
        returns = (served.cpu().numpy() * table).sum(-1)
        weights = objective_weights(returns, self.task.objective)
        return torch.from_numpy(weights[..., None].astype(np.float32)).to(self.device)

    def iterate(self, rule: AssignmentRule) -> None:
        """Collect, let the assignment move, and update."""
        batch = self.collect()
        rule.after_collection(self.collector.average_returns)
        self.update(batch, rule)

    def _anneal(self, start: float, end: float, *, linear: bool = False) -> float:
        own = self.task.transitions - self.spent
        fraction = min(1.0, (self.transitions - self.spent) / own)
        return anneal(start, end, fraction, linear=linear)

    @property
    def transitions(self) -> int:
        """Transitions that each representative has had of the task's."""
        return self.spent + self.iteration * self.config.batch_size

    def train_social_welfare(self, assignment: Tensor) -> list[float]:
        """Each seed's welfare by the moving averages of training returns, the paper's measure."""
        table = self.collector.average_returns
        if np.isnan(self.collector.node_returns).any():
            table = np.nan_to_num(table)
        totals = np.einsum("rik,rik->r", assignment.cpu().numpy(), table)
        return [float(total) / self.n_agents for total in totals]

    def solutions(self, assignment: Tensor) -> list[Solution]:
        """The representatives as they are, one solution for each seed."""
        networks, config = self.actor.split(self.actor.flat), self.config
        return [
            make_solution(
                Actors.from_network(
                    {name: array[seed].copy() for name, array in networks.items()},
                    self.collector.statistics,
                    seed,
                    config.observation_clip if config.normalize_observations else None,
                    discrete=not self.collector.actions.has_log_std,
                ),
                assignment[seed].cpu().numpy().astype(np.float64),
            )
            for seed in range(self.n_seeds)
        ]

    def copy_representative(self, seed: int, source: int, target: int) -> None:
        """Make a seed's representative `target` a copy of `source`: heads and Adam's moments."""
        for network in (self.actor, self.critic):
            network.copy_head(seed, source, target)

    def get_state(
        self, rule: AssignmentRule | None = None
    ) -> tuple[dict[str, npt.NDArray[Any]], list[dict[str, Any]]]:
        """Everything that a run needs to continue bit for bit: arrays (R, ...), and JSON."""
        parts = [self.collector.get_state(), self.updates.get_state()]
        arrays = {name: array for own, _ in parts for name, array in own.items()}
        if rule is not None:
            arrays |= {f"rule.{name}": array for name, array in rule.get_state().items()}
        states = [
            {"iteration": self.iteration} | theirs | mine
            for theirs, mine in zip(*(own for _, own in parts), strict=True)
        ]
        return arrays, states

    def set_state(
        self,
        arrays: Mapping[str, npt.NDArray[Any]],
        states: Sequence[Mapping[str, Any]],
        rule: AssignmentRule | None = None,
    ) -> None:
        """Restore what `get_state` returned."""
        self.iteration = int(states[0]["iteration"])
        self.collector.set_state(arrays, states)
        self.updates.set_state(arrays, states, self.iteration)
        if rule is not None:
            own = (name for name in arrays if name.startswith("rule."))
            rule.set_state({name.removeprefix("rule."): arrays[name] for name in own})

    def close(self) -> None:
        """Close the worlds."""
        self.collector.envs.close()


def train(
    learner: PPOLearner,
    rule: AssignmentRule,
    log: RunLog,
    *,
    prepared: Callable[[], bool] | None = None,
) -> None:
    """Train to the end of the task's transitions, with curve points and checkpoints on the way.

    Args:
        learner: the representatives.
        rule: how the assignment moves.
        log: where progress, curve and checkpoints go.
        prepared: None for the training that is scored. Else this only prepares it, until the
            answer is yes, and has no curve.

    Raises:
        Interrupted: after a checkpoint, when the log asks to stop.
    """
    n_iterations = (learner.task.transitions - learner.spent) // learner.config.batch_size
    is_over = prepared or (lambda: False)

    def get_state() -> State:
        arrays, states = learner.get_state(rule)
        return arrays, [state | {"preparation": prepared is not None} for state in states]

    def solutions() -> list[Solution]:
        return learner.solutions(rule.served)

    while learner.iteration < n_iterations and not is_over():
        learner.iterate(rule)
        welfare = {"train_social_welfare": learner.train_social_welfare(rule.served)}
        if prepared is None:
            report(log, learner.transitions, welfare, get_state, solutions)
        else:
            report(log, 0, welfare, get_state, None)


def resume(
    learner: PPOLearner, rule: AssignmentRule, log: RunLog, *, preparation: bool = False
) -> bool:
    """Continue from a checkpoint of this training, if there is one; say whether it did."""
    checkpoint = log.load_checkpoint()
    if checkpoint is None or checkpoint[1][0]["preparation"] != preparation:
        return False
    learner.set_state(*checkpoint, rule)
    return True


@one_thread()
def solve_with_rule(
    task: OnlineTask,
    config: PPOConfig,
    seeds: Sequence[int],
    device: str,
    log: RunLog,
    rule: AssignmentRule,
) -> list[Solution]:
    """Train the representatives of every seed while `rule` moves the assignment.

    Returns:
        One solution for each seed.
    """
    learner = PPOLearner(task, config, seeds, device)
    resume(learner, rule, log)
    train(learner, rule, log)
    learner.close()
    return learner.solutions(rule.served)
