"""Files that are small on a disk: refused before they are large in memory, by their bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from rmdp_bench.solution import load_policy
from rmdp_bench.solution.onnx_bounds import count_parts
from rmdp_bench.solution.onnx_rules import check_graph
from rmdp_bench.solution.storage import parse_solution
from rmdp_bench.submission.rows import RowFiles
from tests.helpers.bomb_toys import (
    N_ACTIONS,
    N_AGENTS,
    N_OBSERVATIONS,
    deflated_zeros,
    endless_directory,
    header,
    honest_assignments,
    honest_policies,
    model,
    node,
    part,
    sequences,
    shared_bytes,
    tensor,
    value,
    varint,
)
from tests.helpers.checkout import ROOT, needs_submissions
from tests.helpers.hostile_toys import (
    ASSIGNMENT,
    POLICY,
    RESULT,
    WELFARE,
    Damage,
    array,
    graph,
    put,
)
from tests.helpers.submission_toys import copy_of

MIB = 2**20
MEMORY_MIB = 768
"""That the process which checks may take beside its libraries."""
CPU_SECONDS = 30.0
"""For one file, on any machine; the slowest takes one."""
ARGMAX = helper.make_node("ArgMax", ["observation"], ["action"], axis=1, keepdims=0)
UNKNOWN = "that this version does not have"
CUT = "cut off"

BOMBS: dict[str, tuple[Damage, str]] = {
    "empty attributes": (put(POLICY, node(part(5, b"") * 2 * MIB)), "more than 60000 attributes"),
    "empty tensors": (put(POLICY, model(part(5, b"") * (32 * MIB - 8))), "more than 20000 tensors"),
    "one row of sixty million policies": (
        put(ASSIGNMENT, header("(1, 60000000)", "|u1") + bytes(60_000_000)),
        "has shape (1, 60000000), expected (25, 3)",
    ),
    "a truth as a size": (put(ASSIGNMENT, header("(True, 3)") + bytes(24)), "expected sizes"),
    "empty nodes": (put(POLICY, model(part(1, b"") * 2 * MIB)), "more than 20000 nodes"),
    "empty inputs": (put(POLICY, model(part(11, b"") * 2 * MIB)), "more than 60000 values"),
    "empty values": (put(POLICY, model(part(13, b"") * 2 * MIB)), "more than 60000 values"),
    "sparse tensors": (put(POLICY, model(part(15, b"") * 2 * MIB)), "more than 1000 sparse"),
    "empty graphs": (
        put(POLICY, node(part(5, part(11, b"") * 2 * MIB))), "more than 1000 graphs"
    ),
    "remarks without end": (put(POLICY, part(14, b"") * 2 * MIB), "more than 600000 messages"),
    "quantisation without end": (
        put(POLICY, model(part(14, b"") * 2 * MIB)), "more than 600000 messages"
    ),
    "axes without end": (
        put(POLICY, value(part(1, part(2, part(1, b"") * 2 * MIB)))), "more than 600000 messages"
    ),
    "a million names": (put(POLICY, node(part(1, b"") * 2 * MIB)), "more than 1000000 fields"),
    "a million texts in a tensor": (
        put(POLICY, tensor(part(6, b"") * 2 * MIB)), "more than 1000000 fields"
    ),
    "sizes of a tensor, one by one": (
        put(POLICY, tensor(b"\x08\x01" * 2 * MIB)), "more than 1000000 fields"
    ),
    "sizes of a tensor, packed": (put(POLICY, tensor(part(1, b"\x01" * 60 * MIB))), "packed"),
    "whole numbers that grow": (put(POLICY, tensor(part(7, b"\x01" * 60 * MIB))), "packed"),
    "a graph that is written a thousand times": (
        put(POLICY, part(7, part(1, b"") * 100) * 1000), "more than 20000 nodes"
    ),
    "a name of many megabytes": (
        put(POLICY, model(part(2, b"x" * 20 * MIB))), "at most 65536"
    ),
    "an operator of many megabytes": (
        put(POLICY, node(part(4, b"A" * 20 * MIB) + part(7, b"evil"))), "at most 65536"
    ),
    "many texts that are just not too long": (
        put(POLICY, node(part(1, b"x" * 65_536) * 500)), "bytes of text"
    ),
    "sequences in each other": (put(POLICY, sequences(10_000)), "messages in each other"),
    "fields of the future": (put(POLICY, part(1000, b"") * 2 * MIB), UNKNOWN),
    "numbers in fields of the future": (put(POLICY, varint(8 * 999) + b"\x01"), UNKNOWN),
    "a message where a number belongs": (put(POLICY, part(1, b"\x08")), UNKNOWN),
    "groups in groups": (put(POLICY, b"\x3b" * MIB), UNKNOWN),
    "a number without end": (put(POLICY, b"\x08" + b"\xff" * MIB), "more than ten bytes"),
    "longer than the file": (put(POLICY, b"\x3a" + varint(2**62)), CUT),
    "longer than what it is in": (
        put(POLICY, model(b"\x0a\x7f") + bytes(200)), CUT
    ),
    "cut in a number": (put(POLICY, b"\x08\x80"), CUT),
    "a header of sixty megabytes": (
        put(ASSIGNMENT, header("(25, 3)", version=2, padding=60 * MIB)), "cannot read"
    ),
    "sizes beyond any machine": (
        put(ASSIGNMENT, header(f"({'9' * 4000}, {'9' * 4000})")), "expected sizes"
    ),
    "nothing of a great size": (put(ASSIGNMENT, header(f"(0, {10**30})")), "expected sizes"),
    "sizes that are fractions": (put(ASSIGNMENT, header("(25.0, 3.0)")), "cannot read"),
    "elements of no size": (put(ASSIGNMENT, header("(25, 3)", "|V0")), "expected numbers"),
    "elements of another machine": (
        put(ASSIGNMENT, header("(25, 3)", ">f8") + bytes(600)), "expected numbers"
    ),
    "elements that are arrays": (
        put(ASSIGNMENT, array(np.zeros((25, 3), [("a", "<f8", 10**4)]))), "expected numbers"
    ),
    "zeros packed as returns": (
        put(WELFARE, deflated_zeros("(1, 2500000)", 20_000_000)), "bytes, at most 16984 are allowed"
    ),
    "a promise packed as returns": (
        put(WELFARE, deflated_zeros("(1, 60000000000)", 1000)), "expected (25, 3)"
    ),
    "entries that share their bytes": (put(WELFARE, shared_bytes(16, MIB)), "arrays.npz"),
    "four billion entries": (put(WELFARE, endless_directory()), "arrays.npz"),
    "a record of four megabytes of lists": (
        put(RESULT, '{"system": {"a": [' + "[]," * 1_300_000 + "[]]}}"), "that its records need"
    ),
    "a manifest of four megabytes of lists": (
        lambda folder: (folder / "manifest.json").write_text(
            '{"schema_version": 2, "files": {"a": [' + "[]," * 1_300_000 + "[]]}}"
        ),
        "manifest.json is not valid",
    ),
}  # fmt: skip

CHECK = f"""
import json, sys, time
from pathlib import Path
import onnx, onnxruntime
from rmdp_bench.submission.sandbox.confinement import confine
from rmdp_bench.submission.quick import check_submission
folders = sys.argv[1:]
check_submission(Path(folders[0]))
confine({MEMORY_MIB}, {int(CPU_SECONDS * len(BOMBS))}, 10**6)
for folder in folders:
    began = time.process_time()
    try:
        check_submission(Path(folder))
        message = ""
    except Exception as error:
        message = f"{{type(error).__name__}}: {{error}}"
    print(json.dumps([Path(folder).parents[1].name, message, time.process_time() - began]))
"""


def check_in_little_memory(folders: list[Path]) -> dict[str, tuple[str, float]]:
    """Name of each submission -> why it is refused, processor time; all in one process."""
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *map(str, folders)],
        capture_output=True,
        cwd=ROOT,
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (message, seconds) for name, message, seconds in answers}


@pytest.fixture(scope="module")
def refusals(
    honest_submission: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, float]]:
    """Of all bombs."""
    root = tmp_path_factory.mktemp("bombs")
    folders = []
    for case, (damage, _) in BOMBS.items():
        (root / case).mkdir()
        folders.append(copy_of(honest_submission, root / case))
        damage(folders[-1])
    return check_in_little_memory([honest_submission, *folders])


@pytest.mark.parametrize("case", BOMBS)
def test_bombs(case: str, refusals: dict[str, tuple[str, float]]) -> None:
    assert case in refusals, "the process was stopped at an earlier one"
    message, seconds = refusals[case]
    assert message.startswith("ValueError: ")
    assert BOMBS[case][1] in message
    assert "honest/" in message  # the file has a name
    assert len(message) < 1500
    assert seconds < CPU_SECONDS


@pytest.fixture(scope="module")
def honest(
    honest_submission: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, float]]:
    """What is said of honest submissions of all kinds."""
    root = tmp_path_factory.mktemp("kinds")
    damages: dict[str, Damage] = {name: put(POLICY, d) for name, d in honest_policies().items()}
    folders = []
    for name, damage in damages.items():
        (root / name).mkdir()
        folders.append(copy_of(honest_submission, root / name))
        damage(folders[-1])
    return check_in_little_memory([honest_submission, *folders])


@pytest.mark.parametrize("kind", honest_policies())
def test_honest_policies_pass(
    kind: str, honest: dict[str, tuple[str, float]], tmp_path: Path
) -> None:
    assert honest[kind][0] == ""
    (tmp_path / "policy.onnx").write_bytes(honest_policies()[kind])
    actions = load_policy(tmp_path / "policy.onnx").act(np.zeros((5, N_OBSERVATIONS)))
    assert actions.shape == (5,)
    assert ((actions >= 0) & (actions < N_ACTIONS)).all()


@pytest.mark.parametrize("kind", honest_assignments())
def test_honest_assignments_pass(kind: str) -> None:
    policy = next(iter(honest_policies().values()))
    files = {f"policy-{j}.onnx": policy for j in range(3)}
    files["assignment.npy"] = honest_assignments()[kind]
    assignment = parse_solution(files, "honest", (N_AGENTS, 3)).assignment
    assert assignment.argmax(axis=1).tolist() == [i % 3 for i in range(N_AGENTS)]


@needs_submissions
def test_bounds_are_far_from_the_policies_of_the_suite() -> None:
    most: dict[str, int] = {}
    for path in sorted((ROOT / "leaderboards" / "submissions").glob("*/*/*/policies.zip")):
        row = RowFiles(path.parent)
        for name in row.policy_names(0):
            for part_name, number in count_parts(row.solution(0)[name]).items():
                most[part_name] = max(most.get(part_name, 0), number)
    assert most["nodes"] > 10
    assert most["nodes"] <= 200
    assert most["attributes"] <= 600
    assert most["fields"] <= 10_000
    assert most["depth"] <= 20


def test_counts_are_those_of_the_parsed_graph() -> None:
    for data in honest_policies().values():
        counts = count_parts(data)
        parsed = onnx.load_model_from_string(data).graph
        inner = [a.g for n in parsed.node for a in n.attribute if a.HasField("g")]
        graphs = [parsed, *inner]
        assert counts["graphs"] == len(graphs)
        assert counts["nodes"] == sum(len(g.node) for g in graphs)
        assert counts["attributes"] == sum(len(n.attribute) for g in graphs for n in g.node)


def test_just_within_the_bounds_is_parsed() -> None:
    """What refuses these is what stands in them, not how much: the bounds are no tighter."""
    many = graph(*[helper.make_node("Neg", ["observation"], [f"x{i}"]) for i in range(19_999)],
                 ARGMAX)  # fmt: skip
    check_graph(many, "many", shared=False)
    with pytest.raises(ValueError, match="inputs are"):
        check_graph(node(part(5, b"") * 60_000), "many", shared=False)
