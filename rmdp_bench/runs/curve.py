"""Learning curves: the points that a run draws while it trains, and the file curve.csv.

transitions,wall_seconds,social_welfare,train_social_welfare
100352,41.7,12.5,11.9                       one row per evaluation; an unknown value is empty
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rmdp_bench.evaluation import EVALUATION_SEED
from rmdp_bench.files import write_text
from rmdp_bench.tasks import OnlineTask

CURVE_POINTS = 20
"""At most: `count_points`."""
CURVE_EPISODES = 4
CURVE_SEED = EVALUATION_SEED + 2**20
"""The curve has its own episodes, so that watching it says nothing about those that score."""
CURVE_COLUMNS = ("transitions", "wall_seconds", "social_welfare", "train_social_welfare")
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?"
_CURVE_ROW = re.compile(rf"[0-9]{{1,15}},{_NUMBER},(?:{_NUMBER})?,(?:{_NUMBER})?")

Row = dict[str, float | None]
"""Values by name of the column."""


def count_points(task: OnlineTask, total: int) -> int:
    """Points of a curve over `total` transitions per policy, at least one, its end.

    As many, up to `CURVE_POINTS`, as keep their episodes, at full length, within a tenth of the
    steps of training and of the final scoring: a rule of the budget, not of the clock, so that the
    same run has the same points everywhere.
    """
    n_rows = task.n_agents if task.heterogeneous else 1
    of_episode = n_rows * task.max_episode_steps
    steps = total + task.n_eval_episodes * of_episode
    return max(1, min(CURVE_POINTS, steps // (10 * CURVE_EPISODES * of_episode)))


class Curve:
    """The curves of seeds that train together, of evenly spaced points.

    Attributes:
        rows: those of each seed, ascending in transitions.
    """

    def __init__(self, n_seeds: int, files: Sequence[Path]) -> None:
        """Begin without a point.

        Args:
            n_seeds: R.
            files: where the R curves are written; none: nowhere.
        """
        self.rows: list[list[Row]] = [[] for _ in range(n_seeds)]
        self._files = files

    @property
    def reached(self) -> int:
        """Transitions of the last point; 0 without one."""
        done = (int(row["transitions"] or 0) for rows in self.rows for row in rows)
        return max(done, default=0)

    def is_due(self, transitions: int, total: int, n_points: int) -> bool:
        """Whether another of `n_points` spread over `total` transitions is reached."""
        return transitions * n_points // total > self.reached * n_points // total

    def latest(self, column: str) -> list[float | None]:
        """Value of each seed's last point; None without one."""
        return [rows[-1][column] if rows else None for rows in self.rows]

    def add(self, points: Sequence[Sequence[float | None]]) -> None:
        """Add a point to the curve of every seed, and write all.

        Args:
            points: one per seed, values in the order of `CURVE_COLUMNS`.
        """
        for rows, values in zip(self.rows, points, strict=True):
            rows.append(dict(zip(CURVE_COLUMNS, values, strict=True)))
        self._write()

    def set_rows(self, rows: Sequence[Sequence[Row]]) -> None:
        """Go on from the rows of a checkpoint; those that came after it are dropped."""
        self.rows = [list(own) for own in rows]
        self._write()

    def _write(self) -> None:
        for path, rows in zip(self._files, self.rows, strict=False):
            write_curve(path, rows)


def write_curve(path: Path, rows: Sequence[Mapping[str, float | None]]) -> None:
    """Write a learning curve, one row per evaluation; an unknown value is left empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CURVE_COLUMNS)
    for row in rows:
        writer.writerow(["" if row[name] is None else repr(row[name]) for name in CURVE_COLUMNS])
    write_text(path, buffer.getvalue())


def read_curve(path: Path) -> dict[str, list[float]]:
    """Read a learning curve as columns; an unknown value is NaN.

    Raises:
        ValueError: missing, or not a curve; see `parse_curve`.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read the curve {path}: {error}") from error
    return parse_curve(text, str(path))


def parse_curve(text: str, name: str) -> dict[str, list[float]]:
    """The columns of a learning curve as `write_curve` writes it; an unknown value is NaN.

    Args:
        text: of the file. Lines end with a line feed, or on Windows with two characters; nothing
            else that ends lines elsewhere does.
        name: what messages call it.

    Raises:
        ValueError: another first line, a row that is not one, or transitions that do not grow.
    """
    header, *rows = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if header != ",".join(CURVE_COLUMNS):
        raise ValueError(
            f"{name}: the first line is {ascii(header[:100])}, not {','.join(CURVE_COLUMNS)}"
        )
    curve: dict[str, list[float]] = {column: [] for column in CURVE_COLUMNS}
    for number, row in enumerate(rows, start=2):
        if not _CURVE_ROW.fullmatch(row):
            raise ValueError(f"{name}, line {number}: {ascii(row[:100])} is not a row of a curve")
        values = [float(value or "nan") for value in row.split(",")]
        if curve["transitions"] and values[0] <= curve["transitions"][-1]:
            raise ValueError(f"{name}, line {number}: transitions do not grow")
        for column, value in zip(CURVE_COLUMNS, values, strict=True):
            curve[column].append(value)
    return curve
