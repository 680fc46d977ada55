"""The environments.

registry    the table that everything is derived from
core        what all worlds share: vector and single forms, checks, drawing, counting
rules       dynamics and rewards that solvers need without a simulator
the worlds  velocity (with robots), resource_gathering, classic_het, half_cheetah_het, glucose
wrappers    single rewards, vector rewards
parallel    representatives as agents of PettingZoo
"""

from __future__ import annotations

from rmdp_bench.envs.registry import (
    ENVIRONMENTS,
    EnvironmentEntry,
    TransitionFunction,
    default_n_agents,
    get_environment,
    get_population,
    register_environments,
)

__all__ = [
    "ENVIRONMENTS",
    "EnvironmentEntry",
    "TransitionFunction",
    "default_n_agents",
    "get_environment",
    "get_population",
    "register_environments",
]
