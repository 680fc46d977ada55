"""Sweeps: many runs from one plan, on this machine, on a Ray cluster or on SLURM.

A plan (`plan.py`) is a TOML file; it becomes jobs (`jobs.py`). A job is one `rmdp-bench run` in a
process of its own, of one solver, task and settings, and a batch of seeds. Launchers (`local.py`,
`on_ray.py`, `on_slurm.py`) differ only in where they call `execute`, which all of them share.

What is known of a sweep is in its folder, and nowhere else:

    OUT/[FOLDER/]ADDRESS/TASK/SOLVER/seed-S/    run directories, as `rmdp-bench run` makes them
    OUT/sweep/plans/NAME.json                   what a plan has asked for, for `sweep status`
    OUT/sweep/claims/                           locks of the seeds whose jobs are under way
    OUT/sweep/failures/                         seeds that failed, until `sweep retry`
    OUT/sweep/logs/                             what the processes printed
    OUT/sweep/launches/                         drivers at work, which `sweep cancel` asks to stop

ADDRESS hashes the solver, its file, all its settings, transitions, episodes, device and the version
of the package, so that a directory says what one seed is, whatever batch, plan, driver or engine it
ran in: what is finished there is not run again, and another request never comes across it.
"""

from __future__ import annotations

from rmdp_bench.sweep.jobs import Job, execute
from rmdp_bench.sweep.plan import Plan, make_jobs, read_plan
from rmdp_bench.sweep.status import Status, cancel, forget_failures, read_status

__all__ = [
    "Job",
    "Plan",
    "Status",
    "cancel",
    "execute",
    "forget_failures",
    "make_jobs",
    "read_plan",
    "read_status",
]
