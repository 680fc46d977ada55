"""Rounds of held-out evaluation seeds: committed to first, revealed later.

The seeds that `verify --full` plays follow from a secret, 32 random bytes. While a round is open
the repository has only the secret's hash, so that nobody can tune policies to its seeds; when the
round is closed the secret is published, and everybody can check that it has that hash and play the
same episodes again.

Round 0 is public from the start: it is for trying things out, for tests, and for continuous checks
that have no secrets.
"""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from rmdp_bench.evaluation import EVALUATION_SEED
from rmdp_bench.files import read_json
from rmdp_bench.submission.bounded import read_text

ROUNDS_FILE = Path(str(files("rmdp_bench"))) / "data" / "rounds.json"
_FIRST = EVALUATION_SEED + 2**32
"""Above all seeds that scoring, curves and predictions use."""


class Round(BaseModel):
    """A row of rounds.json."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    number: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hash of the secret's 32 bytes."""
    secret: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """The 32 bytes in hexadecimal digits; None while the round is open."""


def list_rounds(path: Path = ROUNDS_FILE) -> list[Round]:
    """All rounds, by number.

    Raises:
        ValueError: the file is damaged, or a secret does not have the hash that was committed.
    """
    rounds = [Round.model_validate(row) for row in read_json(path)["rounds"]]
    for place, entry in enumerate(rounds):
        if entry.number != place:
            raise ValueError(f"{path}: round {entry.number} is at place {place}")
        if entry.secret is not None and _sha256(entry.secret) != entry.sha256:
            raise ValueError(f"{path}: the secret of round {place} is not the one committed to")
    return rounds


def get_secret(number: int | None = None, file: Path | None = None) -> tuple[int, str]:
    """The number of a round, and its secret.

    Args:
        number: None: the newest round whose secret is known: revealed, or that of `file`.
        file: that holds the secret of an open round.

    Raises:
        ValueError: no such round; it is open and no file is given, or the file's secret is not the
            one committed to.
    """
    rounds = list_rounds()
    if file is None:
        known = {entry.number: entry.secret for entry in rounds if entry.secret is not None}
        chosen = max(known) if number is None else number
        if chosen not in known:
            state = "open" if 0 <= chosen < len(rounds) else "not there"
            raise ValueError(
                f"round {chosen} is {state}; its secret is needed (--secret FILE), known are "
                f"{', '.join(map(str, known))}"
            )
        return chosen, known[chosen]
    secret = read_text(file, 1000).strip()
    if not re.fullmatch(r"[0-9a-f]{64}", secret):
        raise ValueError(f"{file} does not hold 64 hexadecimal digits")
    fitting = [entry.number for entry in rounds if entry.sha256 == _sha256(secret)]
    if not fitting or number not in (None, fitting[0]):
        wanted = "any round" if number is None else f"round {number}"
        raise ValueError(f"the secret in {file} is not that of {wanted}")
    return fitting[0], secret


def held_out_seed(secret: str, task_id: str) -> int:
    """Seed of the first held-out episode of a task; episode e has this plus e."""
    digest = hashlib.sha256(bytes.fromhex(secret) + task_id.encode()).digest()
    return _FIRST + int.from_bytes(digest[:7], "big")


def _sha256(secret: str) -> str:
    return hashlib.sha256(bytes.fromhex(secret)).hexdigest()
