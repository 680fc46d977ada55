"""Tune the clinic's controller for every patient alone, and write the gains with the command.

    python -m scripts.record_clinic_controllers

Pairs of gains play in the worlds of all patients, the unseen and the extrapolating ones too, on
episodes of training: first a coarse grid, then a fine one around the best of it. The best of each
patient is written. They are what the controllers of the data set `rmdp/glucose-het/clinic-v0` are
an imperfect form of, and what a new patient's own controller is. Minutes on one core.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.heterogeneous.controllers import (
    BASAL_RANGE,
    ENVIRONMENT,
    RATIO_RANGE,
    bolus_of,
)
from rmdp_bench.datasets.clinic import CONTROLLERS_FILE
from rmdp_bench.envs import get_population
from rmdp_bench.envs.glucose.boluses import MAX_BOLUS
from rmdp_bench.evaluation import play
from rmdp_bench.files import write_json
from rmdp_bench.population import DynamicsPopulation
from rmdp_bench.tasks import heterogeneous_task

TUNING_SEED = 90_000_000
"""Of the first episode. The data set has the same, so that patients 0 to 3 were tuned on the first
days that they then live in it; with another the gains, and so the data and their hash, would be
others."""
COARSE_POINTS, COARSE_EPISODES = 8, 2
FINE_POINTS, FINE_EPISODES = 5, 4
"""Values of each gain, and episodes of three days of each pair."""


@dataclass(frozen=True)
class ManyControllers:
    """The clinic's controller with gains of its own in every row.

    Attributes:
        gains: (E, 2) basal rate and carbohydrate ratio.
    """

    gains: NDArray[np.float64]

    def reset(self, n_envs: int) -> None:
        """Nothing to do: it has no memory."""

    def act(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Basal rates and boluses, (E, 2)."""
        actions = np.empty((len(observations), 2), np.float32)
        actions[:, 0] = self.gains[:, 0]
        bolus = bolus_of(observations, 1.0) / self.gains[:, 1]
        actions[:, 1] = bolus.clip(0.0, MAX_BOLUS)
        return actions


def best_of(grids: NDArray[np.float64], agents: range, n_episodes: int) -> NDArray[np.float64]:
    """Gains and mean risk of each agent's best pair, (A, 3), of pairs (A, P, 2) of its own."""
    task = heterogeneous_task(ENVIRONMENT, 1)
    n_agents, n_pairs = grids.shape[:2]
    shape = (n_agents, n_pairs, n_episodes)
    played = play(
        task,
        [ManyControllers(grids.reshape(-1, 2).repeat(n_episodes, axis=0))],
        [int(np.prod(shape))],
        [TUNING_SEED + episode for episode in range(n_episodes)] * (n_agents * n_pairs),
        agents=np.repeat(agents, n_pairs * n_episodes).tolist(),
    )
    risks = (-played.returns[:, 0] / played.lengths).reshape(shape).mean(axis=2)
    best, rows = risks.argmin(axis=1), np.arange(n_agents)
    return np.concatenate([grids[rows, best], risks[rows, best][:, np.newaxis]], axis=1)


def pairs(rates: NDArray[np.float64], ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """All pairs (P, 2) of the values of two gains."""
    grid = np.stack(np.meshgrid(rates, ratios, indexing="ij"), axis=-1)
    return np.asarray(grid.reshape(-1, 2))


def tune(agents: range) -> NDArray[np.float64]:
    """Gains and mean risk of some agents, (A, 3)."""
    ends = (BASAL_RANGE, RATIO_RANGE)
    coarse = pairs(*(np.geomspace(*end, COARSE_POINTS) for end in ends))
    best = best_of(np.repeat(coarse[np.newaxis], len(agents), axis=0), agents, COARSE_EPISODES)
    # A step of the coarse grid up and down.
    steps = [(high / low) ** (1.0 / (COARSE_POINTS - 1)) for low, high in ends]
    exponents = np.linspace(-1.0, 1.0, FINE_POINTS)
    factors = pairs(*(step**exponents for step in steps))
    return best_of(best[:, np.newaxis, :2] * factors, agents, FINE_EPISODES)


def main(arguments: Sequence[str] | None = None) -> None:
    """Tune, and write."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--together", type=int, default=10, help="patients that play side by side")
    options = parser.parse_args(given)
    population = get_population(ENVIRONMENT)
    assert isinstance(population, DynamicsPopulation)
    n_all, parts = len(population.parameters), []
    for first in range(0, n_all, options.together):
        parts.append(tune(range(first, min(first + options.together, n_all))))
        print(f"{first}: risks {np.round(parts[-1][:, 2], 2).tolist()}", flush=True)
    rows = np.concatenate(parts)
    print(f"mean risk of the task's patients: {rows[: population.n_agents, 2].mean():.3f}")
    write_json(
        CONTROLLERS_FILE,
        {
            "population": population.content_hash(),
            "command": f"python -m scripts.record_clinic_controllers {shlex.join(given)}".rstrip(),
            "basal": [float(f"{value:.4g}") for value in rows[:, 0]],
            "carbohydrate_ratio": [float(f"{value:.4g}") for value in rows[:, 1]],
            "mean_risk": [float(f"{value:.4g}") for value in rows[:, 2]],
        },
    )


if __name__ == "__main__":
    main()
