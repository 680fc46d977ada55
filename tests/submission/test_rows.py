"""Rows of three files: packed, read, unpacked, and converted from folders of seeds."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic_submissions import make_mark
from rmdp_bench.cli import main
from rmdp_bench.files import read_json, write_json
from rmdp_bench.runs.records import make_result
from rmdp_bench.solution import load_solution
from rmdp_bench.solution.storage import parse_solution
from rmdp_bench.submission import read_marks
from rmdp_bench.submission.archives import MAX_ENTRIES, open_archive, write_archive
from rmdp_bench.submission.marks import add_mark, submission_sha256
from rmdp_bench.submission.packing import pack, run_directories
from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.rows import RowFiles, format_json
from scripts.convert_submissions import compare_seeds, convert, old_sha256
from tests.helpers.checkout import ROOT
from tests.helpers.submission_toys import ABOUT, ROW, SOLVER, TASK, copy_of, refused

Capture = pytest.CaptureFixture[str]


def runs_of(submission: Path) -> Path:
    """What the honest submission was packed from."""
    return submission.parent.parent / "runs"


def old_submission(honest: Path, folder: Path) -> Path:
    """The honest submission as schema 1 had it."""
    old = folder / "submissions" / "honest"
    shutil.copytree(runs_of(honest), old, ignore=shutil.ignore_patterns("checkpoint", "run.json"))
    for name in ("error.txt", ".lock"):
        for path in old.rglob(name):
            path.unlink()
    text = (honest / "submission.toml").read_text()
    text = text.replace("schema_version = 2", "schema_version = 1")
    (old / "submission.toml").write_text(text)
    (old / "README.md").write_text("kept\n")
    write_json(old / "manifest.json", {"schema_version": 1, "files": {}})
    return old


def test_a_row_is_three_files(honest_submission: Path) -> None:
    files = sorted(p.relative_to(honest_submission).as_posix()
                   for p in honest_submission.rglob("*") if p.is_file())  # fmt: skip
    row = [f"{ROW}/{name}" for name in ("arrays.npz", "policies.zip", "records.json")]
    assert files == [*row, "manifest.json", "submission.toml"]


def test_what_was_packed_comes_back(honest_submission: Path) -> None:
    with run_directories([honest_submission]) as folders:
        (folder,) = folders
        for seed in (0, 1):
            old = runs_of(honest_submission) / ROW / f"seed-{seed}"
            new = folder / ROW / f"seed-{seed}"
            assert (new / "result.json").read_bytes() == (old / "result.json").read_bytes()
            for path in (old / "solution").iterdir():
                assert (new / "solution" / path.name).read_bytes() == path.read_bytes()
            with np.load(old / "welfare.npz") as one, np.load(new / "welfare.npz") as other:
                assert sorted(one) == sorted(other)
                for name in one:
                    np.testing.assert_array_equal(one[name], other[name], strict=True)
    assert not folder.exists()


def test_others_can_read_it(honest_submission: Path) -> None:
    """NumPy the arrays, zipfile the policies, and any reader of JSON the records."""
    row, run = honest_submission / ROW, runs_of(honest_submission) / ROW / "seed-1"
    with np.load(row / "arrays.npz") as arrays, np.load(run / "welfare.npz") as own:
        np.testing.assert_array_equal(arrays["seed-1/welfare_matrix"], own["welfare_matrix"])
    with zipfile.ZipFile(row / "policies.zip") as archive:
        assert archive.testzip() is None
        data = archive.read("seed-1/policy-0.onnx")
    assert data == (run / "solution" / "policy-0.onnx").read_bytes()
    document = json.loads((row / "records.json").read_text())
    assert document["seeds"][1]["record"] == read_json(run / "result.json")


def test_a_solution_in_a_row_acts_as_the_one_in_a_folder(honest_submission: Path) -> None:
    row = RowFiles(honest_submission / ROW)
    one = parse_solution(row.solution(0), row.where(0))
    other = load_solution(runs_of(honest_submission) / ROW / "seed-0" / "solution")
    np.testing.assert_array_equal(one.assignment, other.assignment)
    seen = np.random.default_rng(0).normal(size=(50, 27)).astype(np.float32)
    for mine, theirs in zip(one.policies, other.policies, strict=True):
        np.testing.assert_array_equal(mine.act(seen), theirs.act(seen))


def test_the_same_runs_give_the_same_bytes(honest_submission: Path, tmp_path: Path) -> None:
    again = pack([runs_of(honest_submission)], "honest", tmp_path, ABOUT)
    assert submission_sha256(again) == submission_sha256(honest_submission)


def test_rows_can_be_packed_again(honest_submission: Path, tmp_path: Path) -> None:
    """As maintainers do when there are more runs of one."""
    folder = copy_of(honest_submission, tmp_path)
    before = submission_sha256(folder)
    pack([folder], "honest", folder.parent, {}, replace=True)
    assert submission_sha256(folder) == before


def test_rows_are_scored_and_drawn_as_runs_are(
    honest_submission: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = []
    for runs in (runs_of(honest_submission), honest_submission):
        assert main(["score", str(runs), "--json"]) == 0
        printed.append(json.loads(capsys.readouterr().out))
    assert printed[0] == printed[1]
    assert main(["plot", str(honest_submission / ROW), "--out", "figures"]) == 0
    assert (tmp_path / "figures" / f"preferences-{TASK}.png").is_file()


def test_records_have_short_lines_and_one_value_each(honest_submission: Path) -> None:
    text = (honest_submission / ROW / "records.json").read_text()
    assert max(map(len, text.splitlines())) <= 100
    assert re.search(r'^ +"social_welfare": [0-9.]+,$', text, flags=re.M)


@pytest.mark.parametrize(
    "value",
    [
        {}, [], {"a": []}, [[], {}], {"a": {"b": [1.5, None, True, "x" * 200]}}, [None] * 200,
        {"k" * 90: [1, 2, 3] * 40}, ["line"] * 50, [1e-300, -0.0, 10**15] * 30, "text", 3,
    ],
)  # fmt: skip
def test_json_of_short_lines_is_the_same_json(value: object) -> None:
    assert json.dumps(json.loads(format_json(value))) == json.dumps(value)


def test_archives_are_what_they_were_made_of() -> None:
    rng = np.random.default_rng(0)
    contents = {
        "seed-0/empty.npy": b"",
        "seed-0/zeros.npy": bytes(10**6),
        **{f"seed-{i}/random.npy": rng.bytes(1000 * i) for i in range(1, 20)},
    }
    data = write_archive(dict(reversed(contents.items())))
    assert data == write_archive(contents)
    archive = open_archive(data, "x", re.compile(".*"), 100, 10**8)
    assert {name: archive.read(name, 10**7) for name in archive.entries} == contents
    assert list(archive.entries) == sorted(contents)
    with pytest.raises(ValueError, match="unpacks to 1000000 bytes, at most 999999"):
        archive.read("seed-0/zeros.npy", 999_999)
    with pytest.raises(ValueError, match="21 files in it, at most 20"):
        open_archive(data, "x", re.compile(".*"), 20, 10**8)
    with pytest.raises(ValueError, match="has 65535 files"):
        write_archive(dict.fromkeys(map(str, range(MAX_ENTRIES + 1)), b""))


def test_a_submission_of_schema_1_says_what_converts_it(
    honest_submission: Path, tmp_path: Path, capsys: Capture
) -> None:
    old = old_submission(honest_submission, tmp_path)
    message = refused(capsys, "verify", str(old))
    command = message.partition("pack it anew: ")[2]
    name, *arguments = shlex.split(command)
    assert name == "rmdp-bench" and "of schema 1" in message.replace("in schema 1", "of schema 1")
    assert main(arguments) == 0
    assert main(["verify", str(old)]) == 0
    assert (old / "README.md").read_text() == "kept\n"
    assert RowFiles(old / ROW).result(1) == RowFiles(honest_submission / ROW).result(1)


def test_runs_of_an_earlier_revision_can_be_packed(honest_submission: Path, tmp_path: Path) -> None:
    """Their records lack the fields that came later; they stay as they are."""
    runs = tmp_path / "runs"
    shutil.copytree(runs_of(honest_submission), runs)
    for path in runs.rglob("result.json"):
        document = read_json(path)
        for field in ("transitions_counted", "reassigned_welfare", "energy_joules", "trained_for"):
            document.pop(field, None)
        write_json(path, document)
    folder = pack([runs], "older", tmp_path / "submissions", ABOUT)
    record = RowFiles(folder / ROW).seeds[0].record
    assert "reassigned_welfare" not in record
    assert make_result(record, "it").reassigned_welfare is not None
    check_submission(folder)


def test_converted_submissions_keep_their_marks(honest_submission: Path, tmp_path: Path) -> None:
    old = old_submission(honest_submission, tmp_path)
    marks = tmp_path / "marks.json"
    mark = make_mark(TASK, SOLVER, [1.0, 2.0], [1.0, 2.0])
    add_mark(marks, old_sha256(old), "honest", mark)
    add_mark(marks, "0" * 64, "another", mark)
    assert convert(old) == 2
    check_submission(old)
    assert read_marks(marks).of(submission_sha256(old)) == {(TASK, SOLVER): mark}
    assert set(read_marks(marks).marks) == {submission_sha256(old), "0" * 64}
    assert (old / "README.md").read_text() == "kept\n"
    before = submission_sha256(old)
    assert convert(old) == 0
    assert submission_sha256(old) == before


@pytest.mark.parametrize("step", ["write_directory", "_remove_old_marks"])
def test_a_conversion_that_is_interrupted_loses_no_marks(
    step: str, honest_submission: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = old_submission(honest_submission, tmp_path)
    marks = tmp_path / "marks.json"
    mark = make_mark(TASK, SOLVER, [1.0, 2.0], [1.0, 2.0])
    add_mark(marks, old_sha256(old), "honest", mark)

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"scripts.convert_submissions.{step}", stop)
        convert(old)
    is_new = step == "_remove_old_marks"
    key = submission_sha256(old) if is_new else old_sha256(old)
    assert read_marks(marks).of(key) == {(TASK, SOLVER): mark}
    assert convert(old) == (0 if is_new else 2)
    assert read_marks(marks).marks.keys() == {submission_sha256(old)}
    assert read_marks(marks).of(submission_sha256(old)) == {(TASK, SOLVER): mark}


@pytest.mark.parametrize("name", ["notes.txt", "figures/one.png", f"{ROW}/LICENCE"])
def test_files_of_something_else_are_not_thrown_away(
    name: str, honest_submission: Path, tmp_path: Path
) -> None:
    """Neither by a conversion nor by `submit --replace`, of either layout."""
    old = old_submission(honest_submission, tmp_path)
    new = copy_of(honest_submission, tmp_path / "of this layout")
    for folder in (old, new):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
        (folder / ".DS_Store").write_text("nobody's")
    message = f"{re.escape(repr(name))} has no place in a submission and would be lost"
    with pytest.raises(ValueError, match=message):
        convert(old)
    for folder in (old, new):
        with pytest.raises(ValueError, match=message):
            pack([runs_of(honest_submission)], "honest", folder.parent, ABOUT, replace=True)
        assert (folder / name).read_text() == "mine"
        (folder / name).unlink()
    assert convert(old) == 2
    pack([runs_of(honest_submission)], "honest", new.parent, ABOUT, replace=True)


@pytest.mark.parametrize("name", ["result.json", "welfare.npz", "solution/policy-1.onnx"])
def test_conversion_compares_everything(name: str, honest_submission: Path, tmp_path: Path) -> None:
    one, other = (tmp_path / name for name in ("one", "other"))
    for folder in (one, other):
        shutil.copytree(runs_of(honest_submission) / ROW / "seed-0", folder)
    compare_seeds(one, other)
    if name == "result.json":
        write_json(other / name, read_json(other / name) | {"wall_seconds": 1.0})
    elif name == "welfare.npz":
        with np.load(other / name) as arrays:
            changed = {key: arrays[key] + (key == "welfare_matrix") * 1e-12 for key in arrays}
        np.savez(other / name, **changed)
    else:
        (other / name).write_bytes((other / name).read_bytes() + b" ")
    with pytest.raises(ValueError, match=re.escape(f"{name} is not the same")):
        compare_seeds(one, other)
    (other / name).unlink()
    with pytest.raises(ValueError, match="other files are there"):
        compare_seeds(one, other)


def test_running_needs_no_reader_of_archives() -> None:
    """Some builds of Python lack lzma, which only archives need."""
    code = "import sys; sys.modules['lzma'] = None; import rmdp_bench.submission.packing"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
