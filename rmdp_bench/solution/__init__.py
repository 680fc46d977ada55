"""Solutions: k policies and an assignment of the agents to them.

policies       in memory
storage        in files
onnx_export    a torch module, or a model of Stable-Baselines3, as such a file
onnx_rules     what a graph may be before it runs, with onnx_bounds for its raw bytes
"""

from __future__ import annotations

from rmdp_bench.solution.policies import OnnxPolicy, Policy, Solution
from rmdp_bench.solution.storage import load_policy, load_solution, save_solution

__all__ = [
    "OnnxPolicy",
    "Policy",
    "Solution",
    "load_policy",
    "load_solution",
    "save_solution",
]
