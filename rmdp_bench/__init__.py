"""rmdp_bench: a benchmark suite for represented Markov decision processes.

n agents live in the same world and want different things; k < n policies, the representatives,
serve them all. Importing this package registers the environments with Gymnasium and stays light:
the simulator, ONNX and everything else heavy is loaded when it is first needed.

    import gymnasium as gym
    import rmdp_bench

    env = gym.make("rmdp/HalfCheetahVel-n100-v0")
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from rmdp_bench.envs import (
    ENVIRONMENTS,
    EnvironmentEntry,
    get_environment,
    get_population,
    register_environments,
)
from rmdp_bench.population import LinearPopulation, Population, TargetPopulation

register_environments()

_LAZY = {
    "AgentReward": "envs.wrappers",
    "VectorReward": "envs.wrappers",
    "parallel_env": "envs.parallel",
    "constant_speed_optimum": "ceilings",
    "resource_gathering_optimum": "ceilings",
    "Task": "tasks",
    "get_task": "tasks",
    "list_tasks": "tasks",
    "Policy": "solution",
    "Solution": "solution",
    "load_solution": "solution",
    "save_solution": "solution",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "RunLog": "results",
}
"""Public names whose modules are imported at first use."""

__all__ = [
    "ENVIRONMENTS",
    "EnvironmentEntry",
    "LinearPopulation",
    "Population",
    "TargetPopulation",
    "get_environment",
    "get_population",
    "register_environments",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    """Import a public name at first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Every public name, imported or not."""
    return sorted({*globals(), *__all__})
