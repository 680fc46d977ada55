"""Names of solvers, submissions and authors: which look alike, and which are the suite's.

The first two are ASCII (see `texts`), so of Unicode's list of confusable characters (UTS #39,
confusables.txt) five entries matter: 0 looks like O, 1, I and | like l, and m like rn.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection

from rmdp_bench.results.solvers import SOLVERS

_SKELETON = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l", "m": "rn", "-": "_"})
"""After case-folding, in which I is i and therefore l: then i and l are one, too."""


def confusable(name: str) -> str:
    """A text that names have in common if they look alike: UTS #39's skeleton, case-folded.

    Letters in another style, wide ones for example, are the same letters.
    """
    return unicodedata.normalize("NFKC", name).casefold().translate(_SKELETON)


_OF_THE_SUITE = {confusable(name) for name in SOLVERS}


def shown_name(solver: str, submission: str, suite: Collection[str]) -> str:
    """What a row is called: a name of the suite, or what looks like one, stands alone only there.

    Args:
        solver: of the row.
        submission: it is in.
        suite: names of the suite's own submissions.
    """
    if submission in suite or confusable(solver) not in _OF_THE_SUITE:
        return solver
    return f"{solver} (by {submission})"
