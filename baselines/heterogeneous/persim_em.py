"""PerSim's simulators with a budget: k policies that learn inside them, assigned by EM.

From one logged record of each patient, a simulator is fitted for each (`simulators`). In these,
and never in the world, k policies learn, and each patient is assigned to the one that serves best
(`simulated_learning`: facility location over the clinic's controllers, then rounds of an M-step
and an E-step). With k = n everybody has their own. A solution also has:

  - `factors`: the patients' factors, mean of what is believed about them;
  - `predict`: the simulators' forecast; a bolus to come tells of a meal, by the carbohydrates for a
    unit of insulin that the patient's record has;
  - `adapt`: a new patient's simulator is fitted to the record that is given, of a day at least,
    with the other patients as prior, and the policy of least risk in it is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.common import streams
from baselines.common.settings import check_range
from baselines.common.threads import one_thread
from baselines.heterogeneous.clinic_records import (
    check,
    load_records,
    records_of,
    standardised,
)
from baselines.heterogeneous.simulated_learning import Learning, learn_in, risks_in
from baselines.heterogeneous.simulators import (
    GREATEST_GLUCOSE,
    GREATEST_READING,
    LEAST_GLUCOSE,
    LEAST_READING,
    STEP,
    Record,
    Simulators,
    follow,
    functions_of,
    make_simulators,
)
from rmdp_bench.datasets import Episode
from rmdp_bench.evaluation.offline import OfflineSolution
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Policy, Solution
from rmdp_bench.tasks import OfflineTask

__all__ = ["Config", "check", "solve"]


@dataclass(frozen=True)
class Config(Learning):
    """Settings; those of what happens in the simulators are in `Learning`."""

    def __post_init__(self) -> None:
        """Refuse numbers out of their range.

        Raises:
            ValueError: names the value and the range.
        """
        check_range(self, 2, 64, "n_points")
        check_range(self, 1, 10**6, "n_rounds", "n_gradient_steps", "n_episodes", "eval_episodes")
        check_range(self, 1, 30, "train_days", "eval_days")
        check_range(self, 1, 4096, "hidden_size")
        check_range(self, 1e-12, 1.0, "learning_rate")
        check_range(self, 1e-12, 1e12, "max_gradient_norm")


@one_thread()
def solve(
    task: OfflineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Fit the simulators, and learn in them; seeds one after the other.

    Returns:
        An `OfflineSolution` for each seed.
    """
    del device  # rows are few: the CPU
    check(task, config)
    records = load_records(task)
    simulators = make_simulators(records)
    settings = Learning(**{f.name: getattr(config, f.name) for f in fields(Learning)})
    per_seed = config.n_rounds * config.n_gradient_steps
    solutions: list[Solution] = []
    for place, seed in enumerate(seeds):

        def report(done: int, risk: float, place: int = place) -> None:
            risks = [float("nan")] * len(seeds)
            risks[place] = risk
            total = per_seed * len(seeds)
            log.progress(place * per_seed + done, {"simulated_risk": risks}, total=total)

        policies, group_of, _ = learn_in(simulators, task.n_representatives, settings, seed, report)
        solutions.append(
            OfflineSolution(
                list[Policy](policies),
                np.eye(len(policies))[group_of],
                adapt=Adaptation(simulators, list[Policy](policies), settings, seed),
                predict=Forecaster(simulators, records, task.eval_agents),
                factors=standardised(simulators.mean),
            )
        )
    return solutions


@dataclass(frozen=True)
class Adaptation:
    """Matches new patients with the policies of a solution."""

    simulators: Simulators
    policies: Sequence[Policy]
    settings: Learning
    seed: int

    @one_thread()
    def __call__(self, episodes: Sequence[Episode]) -> Solution:
        """The same policies for H patients, by a record of each, of a day at least.

        Raises:
            ValueError: a record is shorter.
        """
        new = make_simulators(records_of(episodes), self.simulators.prior)
        k = len(self.policies)

        def act(observation: Tensor) -> Tensor:
            parts = zip(self.policies, observation.numpy().reshape(k, -1, 7), strict=True)
            return torch.from_numpy(np.concatenate([policy.act(part) for policy, part in parts]))

        for policy in self.policies:
            policy.reset(len(episodes) * self.settings.eval_episodes)

        risks = risks_in(
            *(new, act, k),
            n_days=self.settings.eval_days,
            n_episodes=self.settings.eval_episodes,
            stream=[self.seed, streams.PerSim.POLICY],
        )
        return Solution(self.policies, np.eye(k)[risks.argmin(axis=1)])


class Forecaster:
    """What the simulators foresee of readings."""

    def __init__(
        self, simulators: Simulators, records: Sequence[Record], agents: Sequence[int]
    ) -> None:
        """Take the simulators of some agents, and what each eats for a unit of bolus."""
        self.factors = simulators.mean[list(agents)]
        grams = []
        for agent in agents:
            record, at = records[agent], records[agent].observations[:-1, 3] > 0.0
            basal = np.median(record.doses)
            boluses = (record.doses[at] - basal).clip(min=0.0).sum()
            grams.append(record.observations[:-1, 3][at].sum() / max(boluses, 1e-9))
        self.grams_per_unit = np.array(grams)

    def __call__(
        self, agent: int, observations: NDArray[Any], actions: NDArray[Any]
    ) -> NDArray[np.float32]:
        """Observations (E, n_ahead, 7) after the last actions; see `OfflineSolution.predict`.

        All components but the reading stay what they were.
        """
        seen, given = np.asarray(observations, np.float64), np.asarray(actions, np.float64)
        n_known, n_steps = seen.shape[1], given.shape[1]
        doses = given[..., 0] * (STEP / 60.0) + given[..., 1]
        meals = given[..., 1] * self.grams_per_unit[agent]  # of those to come
        meals[:, :n_known] = seen[:, :, 3]
        _, after = follow(doses, meals)  # (filters, E, T)
        # The level of now: what the last readings say together, more the later ones.
        weights = np.arange(1.0, 4.0)
        recent = seen[:, -3:, 0]
        trend = (seen[:, -1, 0] - seen[:, -5, 0]) / 4.0
        glucose = (recent + trend[:, np.newaxis] * [2.0, 1.0, 0.0]) @ weights / weights.sum()
        found = np.repeat(seen[:, -1:], n_steps - n_known + 1, axis=1)
        for place, step in enumerate(range(n_known - 1, n_steps)):
            functions = np.stack(functions_of(glucose, list(after[..., step])), axis=1)
            glucose = glucose + functions @ self.factors[agent]
            glucose = glucose.clip(LEAST_GLUCOSE, GREATEST_GLUCOSE)
            found[:, place, 0] = glucose.clip(LEAST_READING, GREATEST_READING)
        return found.astype(np.float32)
