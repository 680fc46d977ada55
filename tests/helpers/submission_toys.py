"""A small honest submission, and ways to change one so that everything still fits together."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import lzma
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from onnx import TensorProto, helper

from rmdp_bench.cli import main
from rmdp_bench.evaluation import Evaluation
from rmdp_bench.files import write_json
from rmdp_bench.runs import make_request, run
from rmdp_bench.runs.running import score_solution
from rmdp_bench.solution import load_solution
from rmdp_bench.solution.storage import read_saved_solution
from rmdp_bench.submission import RowMark, archives, read_marks
from rmdp_bench.submission.files import list_files
from rmdp_bench.submission.marks import submission_sha256
from rmdp_bench.submission.packing import pack, unpack_row
from rmdp_bench.submission.rows import RowFiles, SeedRecord, row_contents
from rmdp_bench.tasks import get_task
from tests.helpers.checkout import ROOT
from tests.helpers.toys import constant, make_graph

TASK = "ResourceGathering-n25-k3-v0"
SOLVER = "evolution_strategies"
ROW = f"{TASK}/{SOLVER}"
ABOUT: dict[str, Any] = {
    "authors": ["Ada Ångström", "李四"],
    "method": "evolution strategies",
    "differences": ["trained on 10,000 transitions"],
    "licence": "MIT",
    "n_online_evaluations": 0,
}


def run_example(out: Path) -> Path:
    """Two seeds of the example, trained for a moment."""
    request = make_request(
        str(ROOT / "examples" / "evolution_strategies.py"),
        TASK,
        seeds=(0, 1),
        out=out,
        transitions=10_000,
        settings=["n_directions=8"],
    )
    with mock.patch("rmdp_bench.solution.onnx_export.export_module", _export_quickly):
        run(request)
    return out


def _export_quickly(module: Any, inputs: Mapping[str, Any]) -> bytes:
    """The example's linear layer as a graph; torch's exporter takes seconds to be loaded."""
    weights = constant("weights", module.module.weight.detach().numpy().T)
    product = helper.make_node("MatMul", ["observation", "weights"], ["scores"])
    greatest = helper.make_node("ArgMax", ["scores"], ["action"], axis=1, keepdims=0)
    whole: dict[str, tuple[int, list[Any]]] = {"action": (TensorProto.INT64, ["E"])}
    return make_graph([product, greatest], outputs=whole, tensors=[weights])


def make_submission(folder: Path) -> Path:
    """Two seeds of the example, packed."""
    return pack([run_example(folder / "runs")], "honest", folder / "submissions", ABOUT)


def copy_of(submission: Path, folder: Path) -> Path:
    """A copy in a folder of its own."""
    target = folder / "submissions" / submission.name
    shutil.copytree(submission, target, symlinks=True)
    return target


def pack_solution(solution: Path, row: Path) -> Path:
    """A row of one seed that has saved policies, and nothing else."""
    files = read_saved_solution(solution)
    assignment = files.pop("assignment.npy")
    policies = {f"seed-0/{name}": data for name, data in files.items()}
    seeds = [SeedRecord(record={})]
    row.mkdir(parents=True)
    for name, data in row_contents(seeds, {"seed-0/assignment.npy": assignment}, policies).items():
        (row / name).write_bytes(data)
    return row


def mark_of(submission: Path, task: str, solver: str) -> RowMark | None:
    """What marks.json beside the folder of submissions says of a row as it is."""
    marks = read_marks(submission.parent.parent / "marks.json")
    return marks.of(submission_sha256(submission)).get((task, solver))


def quick_archive(contents: dict[str, bytes]) -> bytes:
    """An archive as `submit` writes it, in less time."""

    def pack_quickly(content: bytes) -> bytes:
        filters = [{"id": lzma.FILTER_LZMA1, "preset": 0, **archives._FILTER}]
        return archives._START + lzma.compress(content, lzma.FORMAT_RAW, filters=filters)

    with mock.patch.object(archives, "_pack", pack_quickly):
        return archives.write_archive(contents)


@contextlib.contextmanager
def unpacked(submission: Path) -> Iterator[Path]:
    """A folder with the run directories of a submission, TASK/SOLVER/seed-S, to be changed.

    At the end they are packed again, whatever they are then, and the manifest agrees with it.
    """
    with tempfile.TemporaryDirectory() as folder:
        for path in submission.glob("*/*/records.json"):
            unpack_row(RowFiles(path.parent), Path(folder))
        yield Path(folder)
        for path in submission.glob("*/*"):
            if path.is_dir():
                shutil.rmtree(path)
        for row in sorted(Path(folder).glob("*/*")):
            _pack_row(row, submission / row.relative_to(folder))
    rehash(submission)


def _pack_row(row: Path, target: Path) -> None:
    """Put anything that looks like run directories into the files of a row, unseen."""
    target.mkdir(parents=True, exist_ok=True)
    records, policies = [], {}
    arrays: dict[str, bytes] | None = {}
    hostile = b""
    for path in sorted(path for path in row.rglob("*") if path.is_file()):
        seed, _, name = path.relative_to(row).as_posix().partition("/")
        data = path.read_bytes()
        is_seed = re.fullmatch("seed-(0|[1-9][0-9]*)", seed)
        if is_seed and name == "result.json":
            curve = path.with_name("curve.csv")
            text = curve.read_bytes().decode(errors="surrogateescape") if curve.exists() else None
            lines = None if text is None else text.removesuffix("\n").split("\n")
            records.append(b'{"record": %b, "curve": %b}' % (data, json.dumps(lines).encode()))
        elif is_seed and name == "solution/assignment.npy":
            arrays = arrays if arrays is None else arrays | {f"{seed}/assignment.npy": data}
        elif is_seed and name in ("welfare.npz", "returns.npz"):
            entries = _entries(data)
            hostile = hostile if entries is not None else data
            own = {f"{seed}/{entry}": content for entry, content in (entries or {}).items()}
            arrays = None if arrays is None or entries is None else arrays | own
        elif is_seed and name.startswith("solution/"):
            policies[f"{seed}/{name.removeprefix('solution/')}"] = data
        elif not is_seed or name != "curve.csv":
            (target / seed / name).parent.mkdir(parents=True, exist_ok=True)
            (target / seed / name).write_bytes(data)
    seeds = b",\n".join(records)
    (target / "records.json").write_bytes(b'{"schema_version": 2, "seeds": [%b]}\n' % seeds)
    # An archive that is an attack by its form is one in the place of the row's, too.
    (target / "arrays.npz").write_bytes(hostile if arrays is None else quick_archive(arrays))
    if policies:
        (target / "policies.zip").write_bytes(quick_archive(policies))


def _entries(data: bytes) -> dict[str, bytes] | None:
    """What is in a .npz file; None if it is not one that anybody would write."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            listed = archive.infolist()
            kinds = {entry.compress_type for entry in listed} <= {0, zipfile.ZIP_DEFLATED}
            kinds &= data[:4] in (b"PK\3\4", b"PK\5\6")
            if not kinds or len(listed) > 16 or sum(e.file_size for e in listed) > 2**25:
                return None
            found = {entry.filename: archive.read(entry) for entry in listed}
            return found if len(found) == len(listed) and archive.comment == b"" else None
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, EOFError):
        return None


def rehash(submission: Path) -> None:
    """Make the manifest agree with the files, so that it is not what refuses them."""
    try:
        files = list_files(submission)
    except ValueError:
        return  # not even their places are right
    seeds: dict[str, list[str]] = {}
    for name in files:
        row = RowFiles(submission / Path(name).parent)
        with contextlib.suppress(ValueError):
            own = [row.fingerprint(seed, row.solution(seed)) for seed in range(len(row.seeds))]
            seeds[Path(name).parent.as_posix()] = own
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    manifest = {"schema_version": 2, "files": hashes, "seeds": seeds}
    (submission / "manifest.json").write_text(json.dumps(manifest))


def edit_json(path: Path, **changes: Any) -> None:
    """Change fields of a JSON file; of a record SUBMISSION/TASK/SOLVER/seed-S/result.json, too."""
    if path.name == "result.json" and not path.exists():
        submission = path.parents[3]
        with unpacked(submission) as runs:
            edit_json(runs / path.relative_to(submission), **changes)
        return
    write_json(path, json.loads(path.read_text()) | changes)


def claim(seed_folder: Path, change: Callable[[Any], Any]) -> None:
    """Forge the returns of SUBMISSION/TASK/SOLVER/seed-S, with a record that agrees with them."""
    submission = seed_folder.parents[2]
    with unpacked(submission) as runs:
        _claim(runs / seed_folder.relative_to(submission), change)


def _claim(seed_folder: Path, change: Callable[[Any], Any]) -> None:
    with np.load(seed_folder / "welfare.npz") as arrays:
        matrix, lengths = change(arrays["welfare_matrix"]), arrays["episode_lengths"]
    np.savez(seed_folder / "welfare.npz", welfare_matrix=matrix, episode_lengths=lengths)
    record = json.loads((seed_folder / "result.json").read_text())
    evaluation = Evaluation(matrix, matrix[:, :, None], lengths, 2**31)
    solution = load_solution(seed_folder / "solution")
    scores = score_solution(get_task(record["task"]), solution, evaluation)
    edit_json(seed_folder / "result.json", **scores)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command line is refused."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) == 1
    assert lines[0].startswith("rmdp-bench: error: ")
    assert lines[0].isprintable()
    return lines[0]
