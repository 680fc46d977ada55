"""Policies of the board, to take away.

They are in the repository's `leaderboards/submissions`. The package has an index of them, with the
hash of every file, so that one without a clone can fetch a row, and only that, when asked to.
"""

from __future__ import annotations

import functools
import hashlib
import json
import urllib.parse
import urllib.request
from collections.abc import Iterable
from http.client import HTTPException
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmdp_bench.files import read_json, write_bytes, write_text
from rmdp_bench.solution import Solution
from rmdp_bench.solution.storage import parse_solution
from rmdp_bench.submission.rows import POLICIES_FILE, RowFiles
from rmdp_bench.tasks import OnlineTask, get_task

if TYPE_CHECKING:
    from rmdp_bench.leaderboard.reading import SubmittedRow

INDEX_FILE = Path(str(files("rmdp_bench"))) / "data" / "policies.json"
SUBMISSIONS = INDEX_FILE.parents[2] / "leaderboards" / "submissions"
"""Of a clone."""
FETCH_SECONDS = 60.0
"""Without an answer, after which fetching fails."""


def load_policies(
    task: str,
    solver: str,
    seed: int = 0,
    *,
    submission: str | None = None,
    fetch_to: Path | str | None = None,
) -> Solution:
    """Load what a solver of the board found on a task: k policies and the assignment.

    Args:
        task: id of a task.
        solver: as its folder on the board is called; of several submissions of one the best counts.
        seed: of the row's, 0 to 9 in most.
        submission: name of the submission to take; None: the first on the board.
        fetch_to: a folder to which the three files of the row are fetched from the repository, if
            they are not there yet. None: nothing is fetched; the files of a clone are read.

    Returns:
        Online, a solution for all agents of the task, (n, k); offline one for `task.eval_agents`.

    Raises:
        ValueError: no such task, row or seed; there are no files and `fetch_to` is None; a file
            cannot be fetched, or is not the one of the index.
    """
    of_task = get_task(task)
    row = _find(task, solver, submission)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < row["seeds"]:
        raise ValueError(
            f"seed is {seed!r}; {solver} on {task} in {row['submission']} has the seeds 0 to "
            f"{row['seeds'] - 1}"
        )
    place = Path(row["submission"], task, row["solver"])
    if fetch_to is not None:
        folder = Path(fetch_to) / place
        _fetch(place, folder, row["files"])
    else:
        folder = SUBMISSIONS / place
        if not folder.is_dir():
            raise ValueError(
                f"there is no folder {folder}: the package is without the board's policies. Give "
                f"fetch_to=FOLDER to fetch {_megabytes(row['files'])} MB from {_address(place)}"
            )
    n_agents = of_task.n_agents if isinstance(of_task, OnlineTask) else len(of_task.eval_agents)
    contents = RowFiles(folder).solution(seed)
    return parse_solution(contents, f"{folder}, seed {seed}", (n_agents, None))


def write_index(rows: Iterable[SubmittedRow], path: Path = INDEX_FILE) -> Path:
    """Store which rows have policies, and the hashes of their files; in the order of the board.

    Returns:
        The path.
    """
    index: dict[Path, dict[str, Any]] = {}
    for row in rows:
        folder = row.files.folder
        if folder in index or not (folder / POLICIES_FILE).is_file():
            continue
        index[folder] = {
            "task": row.summary.task,
            "solver": row.solver,
            "submission": row.submission.name,
            "seeds": len(row.files.seeds),
            "files": {
                file.name: {
                    "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                    "bytes": file.stat().st_size,
                }
                for file in sorted(folder.iterdir())
            },
        }
    entries = sorted(index.values(), key=lambda entry: entry["task"])  # one task: as on the board
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    write_text(path, f'{{"rows": [\n{lines}\n]}}\n')
    return path


@functools.cache
def _index() -> list[dict[str, Any]]:
    if not INDEX_FILE.is_file():
        return []
    rows: list[dict[str, Any]] = read_json(INDEX_FILE)["rows"]
    return rows


def _find(task: str, solver: str, submission: str | None) -> dict[str, Any]:
    """The first row of the index that fits."""
    of_task = [row for row in _index() if row["task"] == task]
    for row in of_task:
        if row["solver"] == solver and submission in (None, row["submission"]):
            return row
    known = ", ".join(f"{row['solver']} ({row['submission']})" for row in of_task)
    wanted = solver if submission is None else f"{solver} in {submission}"
    others = f"it has those of {known}" if known else "no row of this task has policies"
    raise ValueError(f"the board has no policies of {wanted} on {task}; {others}")


def address_of(name: str) -> str:
    """One of the addresses in the package's metadata: Homepage, Repository, Changelog."""
    urls = metadata.metadata("rmdp_bench").get_all("Project-URL") or []
    named: dict[str, str] = dict(url.split(", ", 1) for url in urls)
    return named[name]


def _address(place: Path) -> str:
    """Of a folder of the submissions on the forge."""
    path = urllib.parse.quote(place.as_posix())
    return f"{address_of('Repository')}/raw/main/leaderboards/submissions/{path}"


def _megabytes(wanted: dict[str, dict[str, Any]]) -> str:
    return f"{sum(entry['bytes'] for entry in wanted.values()) / 1e6:.1f}"


def _fetch(place: Path, folder: Path, wanted: dict[str, dict[str, Any]]) -> None:
    """Fetch what is not there; a file is written when its hash is right, and then as a whole."""
    for name, entry in wanted.items():
        path = folder / name
        if path.is_file() and _is_right(path.read_bytes(), entry):
            continue
        address = f"{_address(place)}/{urllib.parse.quote(name)}"
        try:
            with urllib.request.urlopen(address, timeout=FETCH_SECONDS) as answer:
                data = answer.read(entry["bytes"] + 1)
        except (OSError, HTTPException) as error:  # such as an answer that ends too early
            raise ValueError(f"cannot fetch {address}: {error}") from error
        if not _is_right(data, entry):
            raise ValueError(
                f"{address} is not the file of this version's index (sha256 {entry['sha256']}); "
                "install the version of rmdp_bench that belongs to the repository"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)


def _is_right(data: bytes, entry: dict[str, Any]) -> bool:
    own: str = entry["sha256"]
    return hashlib.sha256(data).hexdigest() == own
