"""The directed order of the package's modules."""

from __future__ import annotations

# A module of rmdp_bench imports only modules to its left (or parts of its own package).
ORDER = (
    *(
        "files",
        "counts",
        "messages",
        "terminal",
        "warning_filters",
        "cores",
        "system",
        "energy",
        "population",
        "scoring",
    ),
    *("facility_location", "ceilings", "references", "envs", "tasks", "own_tasks"),
    *("stable_baselines", "solution", "datasets", "evaluation", "runs", "submission"),
    *("leaderboard", "sweep", "plotting", "cli"),
)
