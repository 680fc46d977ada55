"""Evaluation: policies play, agents are scored.

playing       episodes side by side, and what is refused
online        every agent under every policy, on the same episodes
offline       agents who differ in dynamics, each under its own policy
prediction    what the models and factors of offline solvers foresee
"""

from __future__ import annotations

from rmdp_bench.evaluation.online import Evaluation, Rollout, evaluate, evaluate_all, roll_out
from rmdp_bench.evaluation.playing import (
    EVALUATION_SEED,
    Played,
    ask_to_go_on,
    before_each_step,
    play,
)

__all__ = [
    "EVALUATION_SEED",
    "Evaluation",
    "Played",
    "Rollout",
    "ask_to_go_on",
    "before_each_step",
    "evaluate",
    "evaluate_all",
    "play",
    "roll_out",
]
