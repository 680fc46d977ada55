"""Settings under which online solvers take seconds."""

from __future__ import annotations

from typing import Any

SETTINGS: dict[str, dict[str, Any]] = {
    "em": {},
    "em_plus": {},
    "end_to_end": {"assignment_learning_rate": 0.02},
    "clustering": {},
    "parameter_cover": {},
    "affinity_grouping": {"pretraining": 0.6, "n_subsets": 40, "n_projected": 16},
    "random_assignment": {},
}

SMALL = {"batch_size": 256, "minibatch_size": 32, "learning_rate": 3e-3, "n_envs": 8}

SMALL_UNIVERSAL: dict[str, Any] = {
    "hidden_size": 32,
    "n_envs": 8,
    "batch_size": 512,
    "minibatch_size": 64,
    "learning_rate": 3e-3,
    "segment": 10,
    "n_candidates": 21,
    "n_proposals": 10,
    "n_episodes": 2,
}
