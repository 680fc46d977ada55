"""Learned paths on a grid (paper Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmdp_bench.messages import shown
from rmdp_bench.plotting.style import (
    INK,
    colour_of,
    count,
    draw_panels,
    fit_square,
    save,
    to_assignment,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
LANE = 0.13
"""Distance of a path to the line between the middles of tiles, in tiles."""


def plot_paths(
    paths: Sequence[Sequence[tuple[int, int]]],
    assignment: ArrayLike,
    out: Path | str,
    *,
    grid_size: int = 5,
    title: str = "Paths that the representatives take",
    policies: Sequence[int] | None = None,
) -> Path:
    """Draw the path of every representative over the grid, one panel each.

    A path keeps to the right of the line between tiles, so that a way out and back shows as two
    lanes. Tinted tiles are those of the agents assigned to the representative.

    Args:
        paths: k paths of (row, column), the start included; a path that comes home ends where it
            starts.
        assignment: (n, k), rows on the simplex; agent i wants tile i, counted along the rows.
        out: file to write.
        grid_size: rows and columns of the grid.
        title: headline.
        policies: (k,) numbers of the policies where they are saved, if they have another order.

    Returns:
        `out`, as a path.

    Raises:
        ValueError: an empty path, a place off the grid, an assignment that is not
            (grid_size**2, k), or an unknown format.
    """
    weights = to_assignment(assignment, grid_size**2, len(paths))
    for representative, path in enumerate(paths):
        places = np.asarray(path)
        if (
            places.ndim != 2
            or places.shape[1] != 2
            or places.min() < 0
            or places.max() >= grid_size
        ):
            raise ValueError(
                f"path {representative} is {shown(path)}, expected (row, column) pairs from 0 to "
                f"{grid_size - 1}"
            )
    n_columns = min(5, len(paths))
    lines = []
    with draw_panels(len(paths), n_columns, (2.1, 2.4)) as (figure, panels):
        for representative, (axes, path) in enumerate(zip(panels, paths, strict=True)):
            served = weights[:, representative].reshape(grid_size, grid_size)
            _draw_tiles(axes, served, colour_of(representative))
            _draw_path(axes, np.asarray(path, dtype=float)[:, ::-1], colour_of(representative))
            home = "home in" if tuple(path[-1]) == tuple(path[0]) else "not home after"
            line = f"{count(served.sum(), 'agent')}, {home} {count(len(path) - 1, 'step')}"
            saved = "" if policies is None else f" (policy {policies[representative]})"
            name = f"representative {representative}{saved}"
            axes.set_title(f"{name}\n{line}", fontsize=8)
            lines.append(f"{name.capitalize()}: {line}.")
        return save(figure, out, title, " ".join(lines))


def _draw_tiles(axes: Axes, served: Array, colour: str) -> None:
    """The grid, tinted by the weight of each tile's agent."""
    size = len(served)
    for row, column in np.argwhere(served > 0.0).tolist():
        alpha = 0.28 * served[row, column]
        axes.fill_between(
            [column - 0.5, column + 0.5], row - 0.5, row + 0.5, color=colour, alpha=alpha, lw=0
        )
    for edge in np.arange(size + 1) - 0.5:
        axes.plot([edge, edge], [-0.5, size - 0.5], color="#BBBBBB", lw=0.6)
        axes.plot([-0.5, size - 0.5], [edge, edge], color="#BBBBBB", lw=0.6)
    fit_square(axes, size, size)


def _draw_path(axes: Axes, points: Array, colour: str) -> None:
    """A lane with an arrow per step, from the dot at home; a cross where it ends elsewhere."""
    column, row = points[0]
    frame = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) * 0.44
    axes.plot(*(points[0] + frame).T, color=INK, lw=1.2)
    axes.plot([column], [row], "o", color=INK, ms=4, zorder=4)
    moves = points[1:][np.any(np.diff(points, axis=0) != 0.0, axis=1)]
    if not moves.size:
        return
    corners, middles, directions = _lane(np.vstack((points[:1], moves)))
    axes.plot(*corners.T, color=colour, lw=1.6, solid_joinstyle="round")
    axes.quiver(
        *middles.T,
        *directions.T,
        color=colour,
        angles="xy",
        pivot="mid",
        units="xy",
        scale=4.5,
        width=0.001,
        headwidth=230,
        headlength=230,
        headaxislength=230,
        zorder=3,
    )
    if (points[-1] != points[0]).any():
        axes.plot(*corners[-1:].T, "x", color=INK, ms=6, mew=1.5, zorder=4)


def _lane(points: Array) -> tuple[Array, Array, Array]:
    """Move a path of unit steps to its right-hand side (x to the right, y down); tours are closed.

    Returns:
        Corners of the lane (c, 2), the middle of each step (t, 2), its direction (t, 2).
    """
    directions = np.diff(points, axis=0)
    sides = np.stack((-directions[:, 1], directions[:, 0]), axis=1) * LANE
    closed = (points[0] == points[-1]).all()
    corners = [] if closed else [points[0] + sides[0]]
    for step in range(0 if closed else 1, len(directions)):  # at 0 the last step comes before
        before, after, point = sides[step - 1], sides[step], points[step]
        if (before == after).all():
            corners.append(point + after)
        elif (before == -after).all():  # a U-turn, drawn around the point
            ahead = directions[step - 1] * LANE
            corners += [point + before + ahead, point + after + ahead]
        else:
            corners.append(point + before + after)
    corners.append(corners[0] if closed else points[-1] + sides[-1])
    middles = (points[:-1] + points[1:]) / 2 + sides
    return np.array(corners), middles, directions
