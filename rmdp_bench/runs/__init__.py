"""Results: runs, their directories and records, and tables over seeds.

A run directory is OUT/TASK/SOLVER/seed-S/:

    run.json        what was asked for; written first
    curve.csv       transitions (per policy), wall_seconds, social_welfare, train_social_welfare
    progress.json   how far a seed is that runs now; removed at the end
    checkpoint/     what an interrupted run continues from; removed at the end
    solution/       the policies as ONNX and assignment.npy
    welfare.npz     welfare_matrix (n, k) percent, episode_lengths (k, episodes)
    result.json     the record; written last, so it is there only if the seed is complete
"""

from __future__ import annotations

from rmdp_bench.runs.curve import read_curve
from rmdp_bench.runs.log import Interrupted, RunLog
from rmdp_bench.runs.records import Result, find_results, read_result
from rmdp_bench.runs.requests import Request, make_request
from rmdp_bench.runs.running import SolverError, run
from rmdp_bench.runs.solver_loading import SOLVERS, Solver, load_solver, make_config

__all__ = [
    "SOLVERS",
    "Interrupted",
    "Request",
    "Result",
    "RunLog",
    "Solver",
    "SolverError",
    "find_results",
    "load_solver",
    "make_config",
    "make_request",
    "read_curve",
    "read_result",
    "run",
]
