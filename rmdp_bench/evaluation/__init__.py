"""Evaluation: policies play, agents are scored.

playing       episodes side by side, and what is refused
online        every agent under every policy, on the same episodes
pairs         the same where agents differ in dynamics: each pair on episodes of its own
offline       agents who differ in dynamics, each under its own policy
prediction    what the models and factors of offline solvers foresee
"""

from __future__ import annotations

from rmdp_bench.evaluation.online import Evaluation, Rollout, evaluate, evaluate_all, roll_out
from rmdp_bench.evaluation.pairs import PairRollout, roll_out_pairs
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
    "PairRollout",
    "Played",
    "Rollout",
    "ask_to_go_on",
    "before_each_step",
    "evaluate",
    "evaluate_all",
    "play",
    "roll_out",
    "roll_out_pairs",
]
