"""Streams of random numbers: every purpose has a name, and the number that stored results have."""

from __future__ import annotations

import ast
from enum import IntEnum
from pathlib import Path

import baselines
from baselines.common import streams

KEYED = (
    *("default_rng", "SeedSequence", "make_generators", "member_generators", "normal_blocks"),
    *("generators", "_generators"),
)


def test_numbers_are_those_of_stored_results() -> None:
    """A changed number changes every policy that was trained with it."""
    assert {kind.__name__: {p.name: int(p) for p in kind} for kind in IntEnum.__subclasses__()
            if kind.__module__ == streams.__name__} == {
        "PPO": {"ACTION_NOISE": 1, "MINIBATCHES": 2, "WORLDS": 3, "ASSIGNMENT": 4,
                "CANDIDATES": 5, "PLACES": 6, "STARTS": 7, "SCOUTS": 8, "TIES": 9,
                "PROJECTION": 10, "SUBSETS": 11},
        "Universal": {"TRAINING": 1, "WORLDS": 3, "TRIALS": 5, "CANDIDATES": 6},
        "Replay": {"INITIAL_PARAMETERS": 0, "MINIBATCHES": 1},
        "BCQ": {"TARGET_NOISE": 2, "LATENT_NOISE": 3, "ACTOR_NOISE": 4, "POLICY_NOISE": 5},
        "CQL": {"POLICY_NOISE": 2, "UNIFORM_ACTIONS": 3},
        "PerSim": {"INITIAL_PARAMETERS": 1, "MINIBATCHES": 2, "SIMULATED_EPISODES": 3,
                   "FIRST_OBSERVATIONS": 4, "ACTOR": 5, "BASELINE": 6, "POLICY": 7},
        "CaDM": {"ENCODER": 0, "FORWARD_MODEL": 1, "BACKWARD_MODEL": 2, "BOOTSTRAP": 3,
                 "MINIBATCHES": 4},
        "MOReL": {"MODEL": 0, "ACTOR": 1, "BASELINE": 2, "MODEL_MINIBATCHES": 3, "POLICY": 4},
    }  # fmt: skip


def test_no_purpose_is_a_bare_number() -> None:
    """In the key of a stream; a number that counts, such as that of an update, is a variable."""
    bare = []
    for path in Path(baselines.__path__[0]).rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in KEYED:
                key = [part for own in call.args for part in getattr(own, "elts", [own])]
                if any(isinstance(part, ast.Constant) for part in key):
                    bare.append(f"{path.name}: {ast.unparse(call)}")
    assert not bare
