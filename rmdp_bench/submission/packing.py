"""Packing: from run directories to the folder of a submission."""

from __future__ import annotations

import shutil
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rmdp_bench.files import TEMPORARY_PREFIX, write_text
from rmdp_bench.runs import Result, find_results
from rmdp_bench.submission.files import write_manifest
from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.schema import (
    SUBMISSION_FILE,
    Submission,
    read_submission,
    submission_to_toml,
    without_nulls,
)

_REQUIRED = {
    "authors": "--author",
    "method": "--method",
    "licence": "--licence",
    "n_online_evaluations": "--online-evaluations",
}
"""Field that has no default -> the option that gives it."""


def pack(
    runs: Sequence[Path], name: str, out: Path, about: Mapping[str, Any], *, replace: bool = False
) -> Path:
    """Copy runs into a new submission, describe them, and check the whole.

    Nothing is there before everything is: a submission that does not pass the quick check is not
    written.

    Args:
        runs: folders with run directories, at any depth; of a solver on a task the seeds 0, 1, ...
        name: of the submission.
        out: folder in which its folder is made.
        about: fields of `Submission`; None: not given.
        replace: whether a submission of this name may be there. Its README.md is kept, and so are
            the fields that `about` does not give.

    Returns:
        The folder of the submission.

    Raises:
        ValueError: a run is damaged, a field is missing or wrong, or the folder is there already.
    """
    folder = out / name
    if folder.exists() and not replace:
        raise ValueError(f"{folder} is there already; give --replace to make it anew")
    records = find_results(runs)
    given = {key: _normalised(value) for key, value in about.items() if value is not None}
    if "description" in given:  # of several lines, for example
        given["description"] = " ".join(str(given["description"]).splitlines())
    if folder.exists():
        given = read_submission(folder).model_dump(exclude={"rows"}, exclude_none=True) | given
    submission = _describe(name, records, given)
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=out))
    try:
        new = scratch / "new" / name
        new.mkdir(parents=True)
        write_text(new / SUBMISSION_FILE, submission_to_toml(submission))
        for directory, result in records.items():
            _copy(directory, result, new / result.task / result.solver / f"seed-{result.seed}")
        if (folder / "README.md").is_file():
            shutil.copyfile(folder / "README.md", new / "README.md")
        write_manifest(new)
        try:
            check_submission(new)
        except ValueError as error:  # its place is not the one the user will see
            raise ValueError(str(error).replace(f"{new}", str(folder))) from error
        if folder.exists():
            folder.rename(scratch / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _describe(name: str, records: Mapping[Path, Result], given: Mapping[str, Any]) -> Submission:
    """The submission.toml of some records."""
    missing = [option for field, option in _REQUIRED.items() if not given.get(field, "") != ""]
    if missing:
        raise ValueError(f"a submission needs {', '.join(missing)}")
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
        "schema_version": 1,
        "name": name,
        "division": division,
        "rows": [rows[key] for key in sorted(rows)],
    }
    try:
        return Submission.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the submission"
        raise ValueError(f"{field}: {first['msg']}") from error


def _normalised(value: Any) -> Any:
    """Texts in Unicode's normal form C: an accent and its letter as one."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    return [_normalised(part) for part in value] if isinstance(value, list) else value


def _copy(directory: Path, result: Result, target: Path) -> None:
    """Copy what a record names."""
    if target.exists():
        raise ValueError(f"{directory}: seed {result.seed} is there twice")
    target.mkdir(parents=True)
    arrays = result.welfare_matrix or result.returns
    for name in ("result.json", arrays, result.curve):
        if name is not None:
            _copy_file(directory / name, target / name)
    if result.solution is not None:
        (target / result.solution).mkdir()
        for path in sorted((directory / result.solution).iterdir()):
            _copy_file(path, target / result.solution / path.name)


def _copy_file(source: Path, target: Path) -> None:
    if not source.is_file():
        raise ValueError(f"{source} is missing; run its seed again")
    shutil.copyfile(source, target)
