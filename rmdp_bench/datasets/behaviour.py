"""Behaviour policies: who collected the data.

Those of heterogeneous environments: each was trained for one agent and acts for all others as it
would for its own. They are decent, not perfect: what they reach is in their records, and as a table
in `data/behaviour/README.md` of the package. `scripts/train_behaviour_policies.py` of the
repository trains and measures them.

Those of the velocity environments: the policies of a solution that a solver of the suite found, in
two qualities. `scripts/store_velocity_policies.py` stores them, with the record of the run.

Source of the parameters: PerSim (Agarwal et al. 2021, arXiv 2102.06961) and its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from rmdp_bench.files import read_json
from rmdp_bench.solution import Policy, load_policy, load_solution

_DATA = Path(str(resources.files("rmdp_bench"))) / "data"

_HALF_CHEETAH = ((1.4, 0.6), (1.4, 1.4), (0.6, 0.6), (0.6, 1.4))
BEHAVIOUR_PARAMETERS: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "rmdp/CartPoleHet-n500-v0": (
        (6.0, 0.5),
        (14.0, 0.5),
        (10.0, 0.5),
        (10.0, 0.675),
        (10.0, 0.325),
    ),
    "rmdp/MountainCarHet-n500-v0": ((3e-4,), (7.5e-4,), (1.75e-3,), (2.5e-3,), (3e-3,)),
    "rmdp/HalfCheetahHet-n500-v0": _HALF_CHEETAH,
    "rmdp/HalfCheetahHet-n500-v1": _HALF_CHEETAH,
}
"""Environment id -> parameters (n_policies, p) of the agents that the policies were trained for.

Columns are those of the environment's population.
"""


def load_behaviour_policies(env_id: str) -> list[Policy]:
    """Load the behaviour policies of an environment, in the order of `BEHAVIOUR_PARAMETERS`.

    They are deterministic and take observations (E, d) of the environment. Each call opens the
    files again.

    Raises:
        ValueError: the environment has none, or a file is missing or damaged.
    """
    return [load_policy(path) for path in _paths(env_id, "onnx")]


def load_behaviour_records(env_id: str) -> list[dict[str, Any]]:
    """Load how the policies were made, and what they reach, in the same order.

    Returns:
        For each policy what `scripts/train_behaviour_policies.py` has written: command, settings,
        seed, versions, machine, and its returns for the agent it was trained for and for the test
        agents, in units of the environment's reward.

    Raises:
        ValueError: the environment has none, or a file is missing or damaged.
    """
    return [read_json(path) for path in _paths(env_id, "json")]


def load_velocity_policies(env_id: str, quality: str) -> list[Policy]:
    """Load the policies of a stored solution; each serves other agents, so they run at many speeds.

    They are deterministic and take observations (E, d) of the environment. Each call opens the
    files again.

    Args:
        env_id: of a velocity environment.
        quality: "medium" or "expert".

    Raises:
        ValueError: there is no such solution, or its files are missing or damaged.
    """
    return list(load_solution(velocity_folder(env_id, quality) / "solution").policies)


def velocity_folder(env_id: str, quality: str) -> Path:
    """Where the solution of an environment and its record are, or shall be."""
    return _DATA / "velocity" / env_id / quality


def _paths(env_id: str, suffix: str) -> list[Path]:
    if env_id not in BEHAVIOUR_PARAMETERS:
        raise ValueError(
            f"there are no behaviour policies for {env_id!r}, "
            f"expected one of {', '.join(BEHAVIOUR_PARAMETERS)}"
        )
    folder = _DATA / "behaviour" / env_id
    return [folder / f"policy-{j}.{suffix}" for j in range(len(BEHAVIOUR_PARAMETERS[env_id]))]
