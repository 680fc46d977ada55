"""Which submissions a pull request changes: `python -m scripts.changed_submissions REPO BASE HEAD`.

Prints the names of their folders, one in each line. Exit code 2 and one line on stderr if the
request changes the marks or the list of the suite's own submissions, which only maintainers write,
or has a name that no submission can have.

With --remarks it prints what a reviewer has to see, one in each line, with exit code 1 if there is
anything: a submission that is there already and is changed or deleted, and everything that is
changed beside submissions. The repository is only read with git; nothing of it is run.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rmdp_bench.submission import MARKS_FILE, SUBMISSION_NAME, SUITE_FILE

FOLDER = "leaderboards/submissions"
MAX_ERROR = 500
"""Characters of a message that are printed."""
MAX_REMARKS = 100
"""That are printed; of the others, the number."""
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
    names = set()
    for path in _changed_paths(repository, base, head, (FOLDER, *OF_MAINTAINERS)):
        if path in OF_MAINTAINERS or path.startswith(tuple(f"{p}/" for p in OF_MAINTAINERS)):
            raise ValueError(f"{path}: the maintainers write this file when they measure a row")
        name, _, rest = path.removeprefix(f"{FOLDER}/").partition("/")
        if path == FOLDER or not re.fullmatch(SUBMISSION_NAME, name) or not rest:
            raise ValueError(f"{path!r} is not in the folder of a submission")
        names.add(name)
    return sorted(names & _submissions(repository, head))


def remarks(repository: Path, base: str, head: str) -> list[str]:
    """What a reviewer has to see of a request, beside new submissions: a line for each.

    Whose a submission is git does not know: its own authors' changes are named like others'.

    Args:
        repository: as in `changed_submissions`.
        base: the same.
        head: the same.

    Raises:
        ValueError: git fails.
    """
    paths = _changed_paths(repository, base, head, ())
    parted = _git(repository, "merge-base", base, head).strip()
    before = _submissions(repository, base) | _submissions(repository, parted)
    after = _submissions(repository, head)
    changed: dict[str, int] = {}
    beside = []
    for path in paths:
        name, _, rest = path.removeprefix(f"{FOLDER}/").partition("/")
        if not path.startswith(f"{FOLDER}/") or not rest:
            beside.append(f"changes {ascii(path)}, which is of no submission")
        elif name in before:
            changed[name] = changed.get(name, 0) + 1
    own = [
        f"changes the submission {ascii(name)}, which is there already ({number} files)"
        if name in after
        else f"deletes the submission {ascii(name)}"
        for name, number in sorted(changed.items())
    ]
    return own + beside


def _changed_paths(repository: Path, base: str, head: str, places: Sequence[str]) -> list[str]:
    """Files that differ, below some places or (none given) anywhere."""
    for commit in (base, head):
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise ValueError(f"{commit!r} is not the hash of a commit")
    # Without renames: of a file that is moved git would name the new place only, and a submission
    # that has lost it would not be checked.
    options = ("--name-only", "--no-renames", "--ignore-submodules=none", "-z")
    return _git(repository, "diff", *options, f"{base}...{head}", "--", *places).split("\0")[:-1]


def _submissions(repository: Path, commit: str) -> set[str]:
    """Names of those that are there."""
    listed = _git(repository, "ls-tree", "--name-only", "-z", commit, f"{FOLDER}/").split("\0")
    return {path.removeprefix(f"{FOLDER}/") for path in listed[:-1]}


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    done = subprocess.run(command, capture_output=True)
    if done.returncode != 0:
        raise ValueError(f"git fails: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace")


def main(arguments: Sequence[str]) -> int:
    """Print the names, or the remarks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("repository", type=Path)
    parser.add_argument("base")
    parser.add_argument("head")
    parser.add_argument("--remarks", action="store_true")
    options = parser.parse_args(arguments)
    read = remarks if options.remarks else changed_submissions
    try:
        lines = read(options.repository, options.base, options.head)
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())[:MAX_ERROR]}", file=sys.stderr)
        return 2
    if not options.remarks:
        print("".join(f"{line}\n" for line in lines), end="")
        return 0
    for line in lines[:MAX_REMARKS]:
        print(f"for the reviewer: this request {line}")
    if len(lines) > MAX_REMARKS:
        print(f"for the reviewer: and {len(lines) - MAX_REMARKS} more")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
