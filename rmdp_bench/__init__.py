"""rmdp_bench: a benchmark suite for represented Markov decision processes.

n agents live in the same world and want different things; k < n policies, the representatives,
serve them all. Importing this package registers the environments with Gymnasium and PettingZoo and
stays light: the simulator, ONNX and everything else heavy is loaded when it is first needed.

    import gymnasium as gym
    import rmdp_bench

    env = gym.make("rmdp/HalfCheetahVel-n100-v0")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rmdp_bench.envs import (
    ENVIRONMENTS,
    EnvironmentEntry,
    get_environment,
    get_population,
    register_environments,
)
from rmdp_bench.envs.parallel import (
    heterogeneous_parallel_env,
    parallel_env,
    register_parallel_environments,
)
from rmdp_bench.population import (
    DynamicsPopulation,
    LinearPopulation,
    Population,
    TargetPopulation,
)

if TYPE_CHECKING:
    from rmdp_bench.ceilings import constant_speed_optimum as constant_speed_optimum
    from rmdp_bench.ceilings import resource_gathering_optimum as resource_gathering_optimum
    from rmdp_bench.datasets import load_dataset as load_dataset
    from rmdp_bench.envs.represent import from_mo_gymnasium as from_mo_gymnasium
    from rmdp_bench.envs.represent import represent as represent
    from rmdp_bench.envs.wrappers import AgentReward as AgentReward
    from rmdp_bench.envs.wrappers import BatchedAgentReward as BatchedAgentReward
    from rmdp_bench.envs.wrappers import BatchedVectorReward as BatchedVectorReward
    from rmdp_bench.envs.wrappers import VectorReward as VectorReward
    from rmdp_bench.evaluation import Evaluation as Evaluation
    from rmdp_bench.evaluation import evaluate as evaluate
    from rmdp_bench.leaderboard.policies import load_policies as load_policies
    from rmdp_bench.own_tasks import make_task as make_task
    from rmdp_bench.own_tasks import weigh_objectives as weigh_objectives
    from rmdp_bench.runs import Interrupted as Interrupted
    from rmdp_bench.runs import RunLog as RunLog
    from rmdp_bench.solution import Policy as Policy
    from rmdp_bench.solution import Solution as Solution
    from rmdp_bench.solution import load_solution as load_solution
    from rmdp_bench.solution import save_solution as save_solution
    from rmdp_bench.solution.onnx_export import export_policy as export_policy
    from rmdp_bench.tasks import OfflineTask as OfflineTask
    from rmdp_bench.tasks import OnlineTask as OnlineTask
    from rmdp_bench.tasks import Task as Task
    from rmdp_bench.tasks import get_offline_task as get_offline_task
    from rmdp_bench.tasks import get_online_task as get_online_task
    from rmdp_bench.tasks import get_task as get_task
    from rmdp_bench.tasks import list_tasks as list_tasks

register_environments()
register_parallel_environments()

_LAZY = {
    "represent": "envs.represent",
    "from_mo_gymnasium": "envs.represent",
    "AgentReward": "envs.wrappers",
    "VectorReward": "envs.wrappers",
    "BatchedAgentReward": "envs.wrappers",
    "BatchedVectorReward": "envs.wrappers",
    "constant_speed_optimum": "ceilings",
    "resource_gathering_optimum": "ceilings",
    "load_dataset": "datasets",
    "load_policies": "leaderboard.policies",
    "OfflineTask": "tasks",
    "OnlineTask": "tasks",
    "Task": "tasks",
    "get_offline_task": "tasks",
    "get_online_task": "tasks",
    "get_task": "tasks",
    "list_tasks": "tasks",
    "make_task": "own_tasks",
    "weigh_objectives": "own_tasks",
    "Policy": "solution",
    "Solution": "solution",
    "load_solution": "solution",
    "save_solution": "solution",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "export_policy": "solution.onnx_export",
    "Interrupted": "runs",
    "RunLog": "runs",
}
"""Public names whose modules are imported at first use; type checkers read the imports above."""

__all__ = [
    "ENVIRONMENTS",
    "DynamicsPopulation",
    "EnvironmentEntry",
    "LinearPopulation",
    "Population",
    "TargetPopulation",
    "get_environment",
    "get_population",
    "heterogeneous_parallel_env",
    "parallel_env",
    "register_environments",
    "register_parallel_environments",
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
