"""Open a round of held-out seeds: `python -m scripts.open_round SECRET_FILE`.

Writes a new secret to a file that is not in the repository, for the maintainers to keep, and its
hash to rounds.json, to be committed. To close the round, put the secret into its row there.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
from pathlib import Path

from rmdp_bench.files import write_json
from rmdp_bench.submission.rounds import ROUNDS_FILE, Round, list_rounds


def open_round(secret_file: Path, rounds_file: Path = ROUNDS_FILE) -> Round:
    """Add a round, and write its secret.

    Args:
        secret_file: must not be there; readable by its owner only.
        rounds_file: where the hash goes.

    Raises:
        ValueError: the secret file is there already, or is inside a git checkout.
    """
    inside = any((folder / ".git").exists() for folder in secret_file.resolve().parents)
    if inside:
        raise ValueError(f"{secret_file} is in a git checkout, where it may be published")
    secret = secrets.token_hex(32)
    entries = list_rounds(rounds_file)
    sha256 = hashlib.sha256(bytes.fromhex(secret)).hexdigest()
    entries.append(Round(number=len(entries), sha256=sha256))
    try:
        descriptor = os.open(secret_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ValueError(f"{secret_file} is there already") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    write_json(rounds_file, {"rounds": [entry.model_dump(mode="json") for entry in entries]})
    return entries[-1]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("secret_file", type=Path)
    entry = open_round(parser.parse_args().secret_file)
    print(f"round {entry.number} is open; commit {ROUNDS_FILE.name}, keep the secret")


if __name__ == "__main__":
    main()
