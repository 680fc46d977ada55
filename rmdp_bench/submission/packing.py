"""Packing: from run directories to the folder of a submission, and back.

pack               what `submit` does
run_directories    run directories wherever there are rows, for what works with runs
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from rmdp_bench.evaluation.prediction import factor_correlation
from rmdp_bench.files import (
    TEMPORARY_PREFIX,
    check_writable,
    parse_array,
    write_bytes,
    write_text,
)
from rmdp_bench.runs import Result, find_results
from rmdp_bench.runs.records import RESULT_FILE, first_error
from rmdp_bench.solution.onnx_rules import MAX_GRAPH_BYTES
from rmdp_bench.submission.bounded import (
    MAX_ARRAY_BYTES,
    read_arrays,
    read_bytes,
    read_object,
    read_text,
)
from rmdp_bench.submission.files import STRAY_FILE, check_replaceable, write_manifest
from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.rows import (
    ASSIGNMENT,
    RECORDS_FILE,
    RowFiles,
    SeedRecord,
    row_contents,
)
from rmdp_bench.submission.schema import (
    SUBMISSION_FILE,
    Name,
    Submission,
    read_submission,
    submission_to_toml,
    without_nulls,
)
from rmdp_bench.tasks import get_offline_task

REQUIRED = {
    "authors": "--author",
    "method": "--method",
    "licence": "--licence",
    "n_online_evaluations": "--online-evaluations",
}
"""Field that has no default -> the option that gives it."""
_NAME = TypeAdapter(Name)
_FACTOR_BITS = 11
"""Of a learned factor, within the range of its column: as many as a picture shows."""
_MOST_MOVED = 0.01
"""By which that may move a correlation with hidden parameters; the check allows twice as much."""


def pack(
    runs: Sequence[Path],
    name: str,
    out: Path,
    about: Mapping[str, Any],
    *,
    replace: bool = False,
    skip: Callable[[Sequence[Path]], None] | None = None,
) -> Path:
    """Put runs into a new submission, describe them, and check the whole.

    Nothing is there before everything is: a submission that does not pass the quick check, which
    compares it with those in the same folder, is not written.

    Args:
        runs: folders with run directories or rows of submissions, at any depth; of a solver on a
            task the seeds 0, 1, ...
        name: of the submission.
        out: folder in which its folder is made.
        about: fields of `Submission`; None: not given.
        replace: whether a submission of this name may be there. Its README.md is kept, and so are
            the fields that `about` does not give.
        skip: gets the directories of runs of tasks that are not listed, which are left out; None:
            they are an error.

    Returns:
        The folder of the submission.

    Raises:
        ValueError: a run is damaged, none is of a listed task, a field is missing or wrong, or the
            folder is there already or has files of something else.
    """
    try:
        _NAME.validate_python(name)
    except ValidationError as error:
        raise ValueError(first_error(error, "--name")) from error
    check_writable(out)
    folder = out / name
    if folder.exists() and not replace:
        raise ValueError(f"{folder} is there already; give --replace to make it anew")
    given = {key: _normalised(value) for key, value in about.items() if value is not None}
    if "description" in given:  # of several lines, for example
        given["description"] = " ".join(str(given["description"]).splitlines())
    if folder.exists():
        check_replaceable(folder)
        old = read_submission(folder, of_old_layout=True)
        given = old.model_dump(exclude={"rows"}, exclude_none=True) | given
    missing = [option for field, option in REQUIRED.items() if given.get(field, "") == ""]
    if missing:
        raise ValueError(f"a submission needs {', '.join(missing)}")
    with run_directories(runs) as directories:
        records = _listed(find_results(directories), skip)
        submission = _describe(name, records, given)
        out.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=out))
        try:
            new = scratch / "new" / name
            with _named({**_places(new, records), str(new): str(folder)}):
                write_submission(new, submission, records)
                if (folder / "README.md").is_file():
                    shutil.copyfile(folder / "README.md", new / "README.md")
                check_submission(new, beside=out)
            if folder.exists():
                folder.rename(scratch / "old")
            new.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def write_submission(folder: Path, submission: Submission, records: Mapping[Path, Result]) -> None:
    """Write the files of a submission, which is not checked.

    Args:
        folder: of it, which is created.
        submission: its description.
        records: run directory -> record, of all its rows.

    Raises:
        ValueError: a run is damaged.
    """
    folder.mkdir(parents=True)
    write_text(folder / SUBMISSION_FILE, submission_to_toml(submission))
    _write_rows(records, folder)
    write_manifest(folder)


def _listed(
    records: Mapping[Path, Result], skip: Callable[[Sequence[Path]], None] | None
) -> dict[Path, Result]:
    """Leave out runs of tasks that are not listed.

    Raises:
        ValueError: all are of such tasks, or one is and there is no `skip`.
    """
    own = [directory for directory, result in records.items() if result.custom is not None]
    listed = {path: result for path, result in records.items() if result.custom is None}
    if own and (skip is None or not listed):
        raise ValueError(
            f"{own[0]} is of {records[own[0]].task}, which is not one of the listed tasks "
            "(`rmdp-bench list tasks`) and cannot be submitted; "
            + ("leave it out" if listed else "there are no other runs")
        )
    if own and skip is not None:
        skip(own)
    return listed


def _describe(name: str, records: Mapping[Path, Result], given: Mapping[str, Any]) -> Submission:
    """The submission.toml of some records."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for directory, result in records.items():
        settings = without_nulls(result.config)
        row = rows.setdefault(
            (result.task, result.solver),
            {"task": result.task, "solver": result.solver, "seeds": [], "settings": settings},
        )
        if row["settings"] != settings:
            raise ValueError(
                f"{directory}: seeds of {result.solver} on {result.task} have different settings; "
                f"a submission has one for each, so leave some out"
            )
        if result.seed in row["seeds"]:
            raise ValueError(
                f"{directory}: seed {result.seed} of {result.solver} on {result.task} is there "
                f"twice"
            )
        row["seeds"].append(result.seed)
    for row in rows.values():
        row["seeds"].sort()
    division = "open" if given.get("differences") else "closed"
    fields = dict(given) | {
        "schema_version": 2,
        "name": name,
        "division": division,
        "rows": [rows[key] for key in sorted(rows)],
    }
    try:
        return Submission.model_validate(fields)
    except ValidationError as error:
        raise ValueError(first_error(error, "the submission")) from error


def _normalised(value: Any) -> Any:
    """Texts in Unicode's normal form C: an accent and its letter as one."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    return [_normalised(part) for part in value] if isinstance(value, list) else value


def _write_rows(records: Mapping[Path, Result], folder: Path) -> None:
    """Write the files of the rows of some run directories, whose seeds are 0, 1, ... each."""
    rows: dict[tuple[str, str], dict[int, Path]] = {}
    for directory, result in records.items():
        rows.setdefault((result.task, result.solver), {})[result.seed] = directory
    for (task, solver), directories in rows.items():
        seeds: list[SeedRecord] = []
        arrays: dict[str, bytes] = {}
        policies: dict[str, bytes] = {}
        for seed in sorted(directories):
            directory = directories[seed]
            result = records[directory]
            seeds.append(_read_seed(directory, result))
            arrays |= {f"seed-{seed}/{name}.npy": data
                       for name, data in _read_arrays(directory, result).items()}  # fmt: skip
            policies |= {f"seed-{seed}/{name}": data
                         for name, data in _read_policies(directory, result).items()}  # fmt: skip
        target = folder / task / solver
        target.mkdir(parents=True)
        for name, data in row_contents(seeds, arrays, policies).items():
            write_bytes(target / name, data)


def _read_seed(directory: Path, result: Result) -> SeedRecord:
    """The record of a run directory, as it is, and the lines of its curve."""
    curve = None
    if result.curve is not None:
        text = read_text(_present(directory / result.curve), MAX_ARRAY_BYTES)
        curve = text.removesuffix("\n").split("\n")
    return SeedRecord(record=read_object(directory / RESULT_FILE), curve=curve)


def _read_arrays(directory: Path, result: Result) -> dict[str, bytes]:
    """The arrays of a run directory as bytes of .npy files."""
    arrays = {}
    measured = result.welfare_matrix or result.returns
    if measured is not None:
        arrays = read_arrays(_present(directory / measured), MAX_ARRAY_BYTES)
        if "factors" in arrays:
            arrays["factors"] = _shortened(arrays["factors"], result.task)
    files = {name: _npy(array) for name, array in arrays.items()}
    if result.solution is not None:
        path = _present(directory / result.solution / f"{ASSIGNMENT}.npy")
        files[ASSIGNMENT] = read_bytes(path, MAX_ARRAY_BYTES)
    return files


def _shortened(factors: NDArray[Any], task_id: str) -> NDArray[Any]:
    """Round learned factors, which else are half the bytes of a planner's row.

    Args:
        factors: (n, r), or whatever else a damaged run has, which stays as it is for the check.
        task_id: of the run.

    Returns:
        float32, the same for factors that are rounded already; or the argument, where the
        correlation with the hidden parameters needs all bits.
    """
    try:
        task = get_offline_task(task_id)
        before = factor_correlation(task, factors)
        fractions, exponents = np.frexp(np.ptp(factors.astype(np.float64), axis=0))
        steps = np.ldexp(1.0, exponents - (fractions == 0.5) - _FACTOR_BITS)
        rounded = (np.round(factors / steps) * steps + 0.0).astype(np.float32)  # of one zero
        after = factor_correlation(task, rounded)
    except ValueError:
        return factors
    moved = max(abs(after[name] - before[name]) for name in before)
    return rounded if moved <= _MOST_MOVED else factors


def _read_policies(directory: Path, result: Result) -> dict[str, bytes]:
    """The policies of a run directory."""
    if result.solution is None:
        return {}
    files = {path.name: path for path in sorted((directory / result.solution).iterdir())}
    names = files.keys() - {f"{ASSIGNMENT}.npy", STRAY_FILE}
    return {name: read_bytes(files[name], MAX_GRAPH_BYTES) for name in sorted(names)}


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _places(folder: Path, records: Mapping[Path, Result]) -> dict[str, str]:
    """What messages about a submission call each seed -> its run directory."""
    places: dict[str, str] = {}
    rows: dict[Path, str] = {}
    for directory, result in records.items():
        row = RowFiles(folder / result.task / result.solver)
        places |= dict.fromkeys(
            (row.record_name(result.seed), row.where(result.seed)), f"{directory}"
        )
        rows.setdefault(row.folder, str(directory.parent))
    return places | {str(row): parent for row, parent in rows.items()}


@contextlib.contextmanager
def _named(places: Mapping[str, str]) -> Iterator[None]:
    """Replace paths in messages of ValueErrors by those that the user knows.

    Args:
        places: path in the message -> path to say; of two that fit, the first.
    """
    try:
        yield
    except ValueError as error:
        message = str(error)
        known = [f"{re.escape(path)}(?![0-9])" for path in places]
        found = (
            re.sub("|".join(known), lambda match: places[match[0]], message) if known else message
        )
        if found == message:
            raise
        raise ValueError(found) from error


def _present(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path} is missing; run its seed again")
    return path


@contextlib.contextmanager
def run_directories(folders: Iterable[Path]) -> Iterator[list[Path]]:
    """Folders with run directories, for as long as the block takes.

    Args:
        folders: with run directories, or rows of submissions, at any depth. Of rows, each once,
            there are run directories in a temporary folder; errors that the block raises name the
            rows.

    Raises:
        ValueError: a row is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="rmdp-bench-") as scratch:
        found: list[Path] = []
        rows: dict[Path, Path] = {}
        for folder in folders:
            own = sorted(path.parent for path in folder.rglob(RECORDS_FILE))
            for row in own:
                if row.resolve() not in rows:
                    rows[row.resolve()] = row
                    found.append(Path(scratch) / str(len(rows)))
                    unpack_row(RowFiles(row), found[-1])
            if not own or any(folder.rglob(RESULT_FILE)):
                found.append(folder)
        unpacked = (Path(scratch) / str(number + 1) for number in range(len(rows)))
        places = {
            str(place / row.parent.name / row.name): str(row)
            for place, row in zip(unpacked, rows.values(), strict=True)
        }
        with _named(places):
            yield found


def unpack_row(row: RowFiles, out: Path) -> None:
    """Write the run directories that a row was made of, TASK/SOLVER/seed-S below `out`.

    Task and solver are those of its place: a record may be of another version, or say anything.

    Raises:
        ValueError: the row is damaged.
    """
    for seed, part in enumerate(row.seeds):
        directory = out / row.folder.parent.name / row.folder.name / f"seed-{seed}"
        directory.mkdir(parents=True)
        arrays: dict[str, Any] = {
            name: parse_array(row.array_bytes(seed, name), f"{name} in {row.where(seed)}")
            for name in row.array_names(seed)
            if name != ASSIGNMENT
        }
        named = part.record.get("welfare_matrix"), part.record.get("returns")
        for measured in ("welfare.npz", "returns.npz"):
            if measured in named:
                np.savez_compressed(directory / measured, **arrays)
        curve = row.curve(seed)
        if curve is not None:
            (directory / "curve.csv").write_bytes(curve.encode())
        for name, data in row.solution(seed).items():
            (directory / "solution").mkdir(exist_ok=True)
            (directory / "solution" / name).write_bytes(data)
        text = json.dumps(part.record, indent=2) + "\n"  # as a run writes it
        (directory / RESULT_FILE).write_text(text, encoding="utf-8")
