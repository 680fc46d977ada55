"""Where the project's files are: a clone, or an unpacked source distribution."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUBMISSIONS = ROOT / "leaderboards" / "submissions"
TOY_SOLVER = Path(__file__).with_name("toy_solver.py")
TOY_OFFLINE_SOLVER = Path(__file__).with_name("toy_offline_solver.py")
IS_CLONE = (ROOT / ".git").exists()

CACHES = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
MADE_HERE = CACHES | {"build", "dist", ".venv"}

NO_SUBMISSIONS = "needs leaderboards/submissions, which only a clone has"
needs_submissions = pytest.mark.skipif(not SUBMISSIONS.is_dir(), reason=NO_SUBMISSIONS)


def tracked_files(*patterns: str) -> list[Path]:
    """Files of the project that fit a pattern of git's; without git all that are there."""
    if not IS_CLONE:
        paths = [path for pattern in patterns or ("*",) for path in ROOT.rglob(pattern)]
        return sorted(path for path in paths if path.is_file() and not MADE_HERE & {*path.parts})
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]
