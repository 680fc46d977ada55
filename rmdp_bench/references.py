"""References: between which returns the score of an agent with hidden dynamics lies.

`scripts/record_references.py` of the repository measures them.  Until it has, nobody can be scored
for the agent.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from rmdp_bench.files import read_json

REFERENCES_FILE = Path(str(files("rmdp_bench"))) / "data" / "offline_references.json"
HETEROGENEOUS_FILE = REFERENCES_FILE.with_name("heterogeneous_references.json")


def check_references(env_id: str, agents: Iterable[int]) -> None:
    """Check that the references of agents are measured.

    Raises:
        ValueError: those of an agent are not.
    """
    rows = references(env_id)
    missing = [agent for agent in agents if agent not in rows]
    if missing:
        raise ValueError(
            f"the return that counts as 100 is not known yet for agent {missing[0]} of {env_id}; "
            f"`python -m scripts.record_references {env_id}` of the repository measures it"
        )


def references(env_id: str) -> dict[int, tuple[float, float]]:
    """Agent -> mean return of uniform actions, and the reference that is 100, if both are known."""
    return {
        int(agent): (values["random"], values["reference"])
        for agent, values in _read().get(env_id, {"agents": {}})["agents"].items()
        if values.keys() >= {"random", "reference"}
    }


def reference_is(env_id: str) -> str:
    """What the reference of an environment's agents is, in words.

    Raises:
        ValueError: there is none.
    """
    if env_id not in _read():
        raise ValueError(f"there are no reference returns for {env_id}")
    return str(_read()[env_id]["reference_is"])


def single_and_own(env_id: str) -> tuple[float, float] | None:
    """Mean returns that count as 0 and as 100 where k policies serve agents who differ in dynamics.

    The first is that of the best learned policy for all, the second the mean over agents of the
    better of their own tuned controller and a policy that was trained for them alone.
    `scripts/record_glucose_references.py` of the repository measures them for the glucose world.

    Returns:
        Both; None where they are not measured.
    """
    known = _read_heterogeneous().get(env_id, {})
    if not known.keys() >= {"single", "own"}:
        return None
    return known["single"]["return"], known["own"]["return"]


@functools.cache
def _read_heterogeneous() -> dict[str, Any]:
    return read_json(HETEROGENEOUS_FILE)


@functools.cache
def _read() -> dict[str, Any]:
    return read_json(REFERENCES_FILE)
