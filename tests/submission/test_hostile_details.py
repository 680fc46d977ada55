"""Hostile submissions, of kinds that were tried against the defences of the others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from rmdp_bench.solution import load_solution
from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.replay import play_shuffled
from rmdp_bench.submission.schema import check_name, check_text, read_submission
from rmdp_bench.tasks import get_task
from tests.helpers.hostile_toys import (
    ASSIGNMENT,
    POLICY,
    RESULT,
    SEED,
    WELFARE,
    Damage,
    field,
    graph,
    listed,
    promised,
    put,
    replace,
    toml,
)
from tests.helpers.submission_toys import ROW, SOLVER, TASK, copy_of, rehash, unpacked
from tests.helpers.toys import constant

ARGMAX = helper.make_node("ArgMax", ["observation"], ["action"], axis=1, keepdims=0)
HUGE = 10**400


def lengths(change: Any) -> Damage:
    """Other lengths beside the honest returns."""

    def damage(folder: Path) -> None:
        with unpacked(folder) as runs:
            with np.load(runs / WELFARE) as arrays:
                matrix, own = arrays["welfare_matrix"], arrays["episode_lengths"]
            np.savez(runs / WELFARE, welfare_matrix=matrix, episode_lengths=change(own))

    return damage


def written(name: str, text: str) -> Damage:
    """A field of the record as text, which may be what no encoder writes."""

    def damage(folder: Path) -> None:
        with unpacked(folder) as runs:
            document = json.loads((runs / RESULT).read_text()) | {name: "HERE"}
            (runs / RESULT).write_text(json.dumps(document).replace('"HERE"', text))

    return damage


def device(folder: Path) -> None:
    os.mkfifo(folder / "README.md")


def padded(name: str, size: int) -> Damage:
    """Blanks, which JSON allows, behind what a file says."""

    def damage(folder: Path) -> None:
        text = (folder / name).read_text()
        (folder / name).write_text(text + " " * (size - len(text)))
        if name != "manifest.json":
            rehash(folder)

    return damage


KINDS: dict[str, tuple[Damage, str]] = {
    "episodes of half a step": (lengths(lambda own: own - 0.5 * (own > 1)), "whole numbers"),
    "lengths that are true": (lengths(lambda own: own > 0), "holds true and false"),
    "a training for no task": (field(trained_for="x"), "unknown task"),
    "a training for another robot": (
        field(trained_for="HopperVel-n100-k5-v0"),
        "trained_for is 'HopperVel-n100-k5-v0', which has another environment",
    ),
    "an author who is an accent": (toml('authors = ["\u0301"]'), "an accent without a letter"),
    "an author who is an object": (toml('authors = ["\ufffc"]'), "an invisible character"),
    "a header of many parts before many keys": (
        put("submission.toml", f"[{'a.' * 1900}b]\n" + "".join(f"k{i}=1\n" for i in range(28_000))),
        "nested too deeply",
    ),
    "many keys of many parts": (
        put("submission.toml", "".join(f"x{i}.{'.'.join('a' * 1900)} = 1\n" for i in range(60))),
        "nested too deeply",
    ),
    "a key of parts in quotes": (
        put("submission.toml", "[" + r""""a\"" . 'b' .""" * 10 + "c]"),
        "nested too deeply",
    ),
    "a number of 400 digits as seconds": (written("wall_seconds", str(HUGE)), "wall_seconds"),
    "numbers of 400 digits as returns": (
        written("agent_returns", str([HUGE] * 25)),
        "agent_returns",
    ),
    "a number of 5000 digits": (written("seed", "1" * 5000), "not valid JSON"),
    "a hexadecimal number of 200,000 digits": (
        toml(f"n_online_evaluations = 0x{'F' * 200_000}"),
        "n_online_evaluations",
    ),
    "a pipe beside the rows": (device, "not a plain file"),
    "marks in a task": (put(f"{TASK}/marks.json", "{}"), "has no place"),
    "marks in a seed": (put(f"{SEED}/marks.json", "{}"), "has no place"),
    "a listed file of three megabytes": (listed("a" * 3_000_000), "not there"),
    "a header of three thousand brackets": (put(ASSIGNMENT, promised("(" * 3000)), "cannot read"),
    "a shape of 5000 digits": (put(ASSIGNMENT, promised(f"(25, {'9' * 5000})")), "cannot read"),
    "sizes whose product is none": (
        put(POLICY, graph(ARGMAX, tensors=[
            TensorProto(name="w", data_type=1, dims=[2**32, 2**32], raw_data=b"")])),
        "policy-0.onnx",
    ),
    "observations that the graph brings": (
        put(POLICY, graph(ARGMAX, tensors=[
            TensorProto(name="observation", data_type=1, dims=[1, 27], raw_data=bytes(108))])),
        "inputs are",
    ),
    "chance by its long name": (
        put(POLICY, graph(helper.make_node("RandomUniform", [], ["x"], shape=[1],
                                           domain="ai.onnx"), ARGMAX)),
        "is random",
    ),
    "a record of blanks": (padded(f"{ROW}/records.json", 2**19), "has more than the 266144 bytes"),
    "a manifest of blanks": (padded("manifest.json", 2**17), "files need"),
    "a tick": (toml('method = "es \u2713"'), "a sign that only the board gives"),
    "a tick of an author": (toml('authors = ["A. Name \u2714\ufe0f"]'), "U+2714"),
    "a tick among settings": (field(config={"n_directions": "\u2705"}), "U+2705"),
    "a ticked box": (toml('description = "\u2611 measured"'), "U+2611"),
    "a small tick": (toml('description = "\U0001f5f8"'), "U+1F5F8"),
    "the sign of a recipe": (toml('method = "es \u21bb"'), "U+21BB"),
    "a medal": (toml('method = "\U0001f947 es"'), "U+1F947"),
    "a wide author": (toml('authors = ["\uff21da"]'), "U+FF21"),
    "a bold author": (toml('authors = ["\U0001d400da"]'), "U+1D400"),
    "an author in circles": (toml('authors = ["\u24b6da"]'), "U+24B6"),
    "an author in two alphabets": (
        toml('authors = ["rmdp_bench \u0441ontributors"]'),
        "letters of LATIN and CYRILLIC",
    ),
    "a solver that says that it is verified": (
        replace("submission.toml", f'solver = "{SOLVER}"', 'solver = "em_verified"'),
        "says what only the board says",
    ),
    "observations of no numbers": (
        put(POLICY, graph(ARGMAX, inputs={"observation": (TensorProto.FLOAT, ["E", 0])})),
        "observations of 0, expected 27",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", KINDS)
def test_refused(case: str, honest_submission: Path, tmp_path: Path) -> None:
    damage, message = KINDS[case]
    folder = copy_of(honest_submission, tmp_path)
    damage(folder)
    with pytest.raises(ValueError) as refusal:
        check_submission(folder)
    assert message in str(refusal.value)


@pytest.mark.parametrize("text", ['"\\' * 131_000, '"' + '\\"' * 131_000, "a" * 262_000,
                                  '"' * 262_000, "a" + " ." * 131_000])  # fmt: skip
def test_looking_for_long_keys_takes_no_time(text: str, tmp_path: Path) -> None:
    (tmp_path / "submission.toml").write_text(text)
    with pytest.raises(ValueError, match="is not TOML|nested too deeply"):
        read_submission(tmp_path)  # at once, and not before the tests' limit where it is squared


def test_sentences_and_lists_of_numbers_are_no_keys(
    honest_submission: Path, tmp_path: Path
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    sentences = "We train. It works! " * 30 + "See a.example.org, v1.2.3. J. R. R. T., A. B. C."
    toml(f'description = "{sentences}"')(folder)
    check_submission(folder)


@pytest.mark.parametrize("name", ["verified", "es-Verified", "ver1fied_es"])
def test_no_name_says_what_only_the_board_says(name: str) -> None:
    with pytest.raises(ValueError, match="only the board says"):
        check_name(name)


def test_hard_links_are_plain_files(honest_submission: Path, tmp_path: Path) -> None:
    """Another name of a file is nothing in the folder; git makes a file of its own of each."""
    folder = copy_of(honest_submission, tmp_path)
    (tmp_path / "notes").write_text("What we did.")
    os.link(tmp_path / "notes", folder / "README.md")
    check_submission(folder)
    (tmp_path / "notes").write_text("x" * 2**21)
    with pytest.raises(ValueError, match="README.md has 2097152 bytes"):
        check_submission(folder)


@pytest.mark.parametrize("text", ["\u1ec7", "क्षेत्र", "ü e", "n\u0308a"])
def test_accents_on_letters_are_fine(text: str) -> None:
    assert check_text(text) == text


def of_the_batch(*nodes: Any) -> bytes:
    """A policy that decides by `x`, which these make of all observations."""
    weights = np.random.default_rng(0).normal(size=(27, 4))
    last = [
        helper.make_node("MatMul", ["x", "weights"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["action"], axis=1, keepdims=0),
    ]
    tensors = [constant("weights", weights), constant("axis", 0, np.int64)]
    return graph(*nodes, *last, tensors=tensors)


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("CumSum", ["observation", "axis"], ["x"])],
        [helper.make_node("LpNormalization", ["observation"], ["n"], axis=0, p=1),
         helper.make_node("CumSum", ["n", "axis"], ["x"])],
        [helper.make_node("ReverseSequence", ["observation", "ends"], ["x"], batch_axis=1,
                          time_axis=0)],
    ],
    ids=["sums over rows", "shares of rows", "rows in reverse"],
)  # fmt: skip
def test_operators_over_the_batch_are_found(
    nodes: Any, honest_submission: Path, tmp_path: Path
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    if nodes[-1].op_type == "ReverseSequence":
        rows = [
            helper.make_node("Shape", ["observation"], ["rows"], end=1),
            helper.make_node("Expand", ["rows", "columns"], ["ends"]),
            *nodes,
        ]
        data = of_the_batch(helper.make_node("Constant", [], ["columns"], value_ints=[27]), *rows)
    else:
        data = of_the_batch(*nodes)
    with unpacked(folder) as runs:
        (runs / POLICY).write_bytes(data)
        solution = load_solution(runs / ROW / "seed-0" / "solution")
    episodes = {"known": (2**31, 20), "held_out": (2**40, 10)}
    with pytest.raises(ValueError, match="policy 0 acts by more than the observation"):
        play_shuffled(get_task(TASK), solution, episodes, np.random.default_rng(0))
