"""What every module that generates parts of documents uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rmdp_bench import EnvironmentEntry
from rmdp_bench.envs.mo_worlds import MultiObjectiveWorld
from rmdp_bench.warning_filters import ignored_warnings

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
GLUCOSE_FILE = ROOT / "benchmarks" / "results" / "glucose.json"
CONTROLLERS_CURVE = GLUCOSE_FILE.with_name("glucose_controllers.json")
GENERATORS: dict[str, Callable[[], str]] = {}
"""Name of a block -> what writes it."""
MO_FACTS: Mapping[str, tuple[gym.Space[Any], gym.Space[Any], tuple[str, ...]]] = {
    "rmdp/DeepSeaTreasure-n100-v0": (
        gym.spaces.Box(0, 11, (2,), np.int32),
        gym.spaces.Discrete(4),
        ("treasure", "time"),
    ),
    "rmdp/FruitTree-n100-v0": (
        gym.spaces.Box(0, 63, (2,), np.int32),
        gym.spaces.Discrete(2),
        ("protein", "carbohydrates", "fats", "vitamins", "minerals", "water"),
    ),
    "rmdp/Minecart-n100-v0": (
        gym.spaces.Box(-1.0, 1.0, (7,), np.float32),
        gym.spaces.Discrete(6),
        ("first ore", "second ore", "fuel"),
    ),
}
"""World of MO-Gymnasium -> observations, actions and objectives.

Documents are made where the optional extra is not there: it has no wheel for the newest Python.
"""


def spaces_of(
    entry: EnvironmentEntry | MultiObjectiveWorld,
) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Of observations and of actions; of optional worlds without making them."""
    if isinstance(entry, MultiObjectiveWorld):
        return MO_FACTS[entry.id][:2]
    with ignored_warnings(DeprecationWarning):  # of a first version
        env = gym.make(entry.id)
    env.close()
    return env.observation_space, env.action_space


def generated(function: Callable[[], str]) -> Callable[[], str]:
    """Make a function the source of the block with its name (`-` for `_`)."""
    GENERATORS[function.__name__.replace("_", "-")] = function
    return function


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
