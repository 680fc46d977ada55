"""Which submissions a pull request changes: `python -m scripts.changed_submissions REPO BASE HEAD`.

Prints the names of their folders, one in each line. Exit code 2 and one line on stderr if the
request changes the marks or the list of the suite's own submissions, which only maintainers write,
or has a name that no submission can have. The repository is only read with git; nothing of it is
run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rmdp_bench.submission import MARKS_FILE, SUBMISSION_NAME, SUITE_FILE

FOLDER = "leaderboards/submissions"
OF_MAINTAINERS = tuple(f"leaderboards/{name}" for name in (MARKS_FILE, SUITE_FILE))


def changed_submissions(repository: Path, base: str, head: str) -> list[str]:
    """Names of the folders that differ between two commits and are there in the second.

    Args:
        repository: a checkout.
        base: commit that the request is made to; what it has got since they parted does not count.
        head: commit of the request.

    Raises:
        ValueError: as the module says, or git fails.
    """
    for commit in (base, head):
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise ValueError(f"{commit!r} is not the hash of a commit")
    # Without renames: of a file that is moved git would name the new place only, and a submission
    # that has lost it would not be checked.
    options = ("--name-only", "--no-renames", "-z")
    places = (FOLDER, *OF_MAINTAINERS)
    changed = _git(repository, "diff", *options, f"{base}...{head}", "--", *places)
    names = set()
    for path in changed.split("\0")[:-1]:
        if path in OF_MAINTAINERS or path.startswith(tuple(f"{p}/" for p in OF_MAINTAINERS)):
            raise ValueError(f"{path}: the maintainers write this file when they measure a row")
        name, _, rest = path.removeprefix(f"{FOLDER}/").partition("/")
        if path == FOLDER or not re.fullmatch(SUBMISSION_NAME, name) or not rest:
            raise ValueError(f"{path!r} is not in the folder of a submission")
        names.add(name)
    there = _git(repository, "ls-tree", "--name-only", "-z", head, f"{FOLDER}/").split("\0")
    return sorted(name for name in names if f"{FOLDER}/{name}" in there)


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    done = subprocess.run(command, capture_output=True)
    if done.returncode != 0:
        raise ValueError(f"git fails: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace")


def main(arguments: Sequence[str]) -> int:
    """Print the names."""
    repository, base, head = arguments
    try:
        names = changed_submissions(Path(repository), base, head)
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print("".join(f"{name}\n" for name in names), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
