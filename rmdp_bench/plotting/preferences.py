"""Who is assigned to whom, by preference (paper Figures 4 and 5), and what it brings them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmdp_bench.ceilings import EPISODE_STEPS, ConstantSpeedOptimum
from rmdp_bench.plotting.style import (
    INK,
    MARKERS,
    PALETTE,
    add_legend,
    check_not_empty,
    colour_of,
    count,
    draw_panels,
    fit_square,
    hatch_of,
    save,
    to_assignment,
)
from rmdp_bench.population import Population, TargetPopulation, is_on_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
LARGEST_LEGEND = 10
QUIET, BACKGROUND = "#A9A9A9", "#EEEEEE"


def order_representatives(
    population: Population, assignment: ArrayLike, returns: ArrayLike
) -> NDArray[np.int64]:
    """Give the columns of an assignment in the order of what these representatives serve.

    That is the mean target of their agents, or the mean index where agents are not on a line; each
    agent counts with what it receives, so that one who is served by nobody, but has to be assigned,
    does not matter. Figures of columns in this order have the same colours for the same service.

    Args:
        population: n agents.
        assignment: (n, k), rows on the simplex.
        returns: (n,) of the agents.

    Returns:
        (k,) columns; those that serve nobody come last.

    Raises:
        ValueError: an assignment that is not (n, k).
    """
    weights = to_assignment(assignment, population.n_agents)
    served = weights * np.clip(returns, 0.0, None)[:, None]
    places = np.arange(population.n_agents, dtype=np.float64)
    if is_on_line(population):
        places = population.targets
    totals = served.sum(axis=0)
    means = places @ served / np.where(totals > 0.0, totals, 1.0)
    return np.argsort(np.where(totals > 0.0, means, np.inf), kind="stable")


def plot_preferences(
    population: Population,
    assignment: ArrayLike | Mapping[str, ArrayLike],
    out: Path | str,
    *,
    title: str = "Agents' preferences, coloured by representative",
    target_label: str = "target",
) -> Path:
    """Draw the agents' preferences coloured by the representative they are assigned to.

    Targets give a stacked histogram, in which an agent counts with its weight on each
    representative. Other preferences have no line to lie on: the agents are laid out row by row on
    a square (for Resource Gathering, the grid itself), each with its representative's number, the
    more tinted the greater its weight.

    Args:
        population: n agents.
        assignment: (n, k), rows on the simplex; or solver -> such an array, for a panel each.
        out: file to write.
        title: headline.
        target_label: name and unit of the targets.

    Returns:
        `out`, as a path.

    Raises:
        ValueError: no assignment, one that is not (n, k), or an unknown format.
    """
    given = assignment if isinstance(assignment, Mapping) else {"": assignment}
    check_not_empty(given, "assignment")
    weights = {name: to_assignment(values, population.n_agents) for name, values in given.items()}
    on_line = is_on_line(population)
    n_columns = 2 if len(weights) == 4 else min(3, len(weights))
    size = (3.0, 3.1) if not on_line else (4.6, 2.9) if len(weights) == 1 else (3.6, 2.7)
    lines = []
    with draw_panels(len(weights), n_columns, size) as (
        figure,
        panels,
    ):
        for axes, (name, values) in zip(panels, weights.items(), strict=True):
            axes.set_title(name)
            if is_on_line(population):
                _draw_histogram(axes, population.targets, values)
                axes.set_xlabel(target_label)
                axes.set_ylabel("number of agents")
            else:
                _draw_membership(axes, values)
            sizes = [f"{size:g}" for size in np.round(values.sum(axis=0), 1)]
            lines.append(f"{name or 'Agents'} per representative: {', '.join(sizes)}.")
        if on_line and max(values.shape[1] for values in weights.values()) <= LARGEST_LEGEND:
            add_legend(figure, "representative", numeric=True)
        return save(figure, out, title, " ".join(lines))


def plot_returns_by_target(
    population: TargetPopulation,
    served: Mapping[str, tuple[ArrayLike, ArrayLike]],
    optimum: ConstantSpeedOptimum | None,
    out: Path | str,
    *,
    title: str = "Agents' returns by target",
    target_label: str = "target",
) -> Path:
    """Draw what each agent receives, coloured by the representative it is assigned to.

    Behind the agents is what one with any target would receive in the exact optimum, if that is
    known.

    Args:
        population: n agents.
        served: solver -> assignment (n, k) and returns of the agents (n,), percent of a perfect
            episode; a panel each.
        optimum: of the same agents, in episodes of `ceilings.EPISODE_STEPS`; None: not known.
        out: file to write.
        title: headline.
        target_label: name and unit of the targets.

    Returns:
        `out`, as a path.

    Raises:
        ValueError: no solver, an assignment that is not (n, k), returns that are not (n,), or an
            unknown format.
    """
    check_not_empty(served, "served")
    n_panels = len(served)
    n_columns = 2 if n_panels == 4 else min(3, n_panels)
    low, high = _range(population.targets)
    margin = 0.02 * (high - low) + 1e-9
    lines = []
    if optimum is not None:
        places, best = _returns_at_optimum(population, optimum, low - margin, high + margin)
        ceiling = f"exact ceiling: mean {optimum.welfare:.1f}"
        lines.append(f"{ceiling}.")
    size = (4.6, 2.9) if n_panels == 1 else (3.5, 2.5)
    with draw_panels(n_panels, n_columns, size) as (figure, panels):
        for panel, (name, (assignment, returns)) in enumerate(served.items()):
            axes = panels[panel]
            weights = to_assignment(assignment, population.n_agents)
            values = np.asarray(returns, dtype=np.float64)
            if values.shape != (population.n_agents,):
                expected = f"({population.n_agents},)"
                raise ValueError(f"{name}: returns have shape {values.shape}, expected {expected}")
            axes.set_title(f"{name}: mean {values.mean():.1f}")
            if optimum is not None:
                axes.fill_between(places, best, color=BACKGROUND, lw=0.0)
                axes.plot(places, best, color=QUIET, lw=0.8, label=ceiling)
            _draw_agents(axes, population.targets, values, weights)
            axes.set_xlim(low - margin, high + margin)
            axes.set_ylim(-4.0, 104.0)
            if panel + n_columns >= n_panels:
                axes.set_xlabel(target_label)
            if panel % n_columns == 0:
                axes.set_ylabel("return of the agent (%)")
            empty = int((values < 1.0).sum())
            lines.append(
                f"{name}: mean {values.mean():.1f}, {count(empty, 'agent')} with less than 1."
            )
        if max(np.shape(assignment)[1] for assignment, _ in served.values()) <= LARGEST_LEGEND:
            add_legend(figure, "")
        return save(figure, out, title, " ".join(lines))


def _range(targets: Array) -> tuple[float, float]:
    """From 0, unless the targets are farther from it than from each other, to the greatest."""
    low, high = float(targets.min()), float(targets.max())
    return (min(0.0, low) if low <= high - low else low), high


def _returns_at_optimum(
    population: TargetPopulation, optimum: ConstantSpeedOptimum, low: float, high: float
) -> tuple[Array, Array]:
    """Targets (g,) in a range, every kink among them, and what an agent there receives (g,).

    Kinks are the speeds, where one stops to reach, and where two are equally near.
    """
    speeds = optimum.speeds
    places = np.linspace(low, high, 401)
    ends = [speeds - population.width, speeds + population.width]
    kinks = np.concatenate([speeds, *ends, (speeds[1:] + speeds[:-1]) / 2])
    places = np.union1d(places, kinks[(kinks > places[0]) & (kinks < places[-1])])
    anyone = TargetPopulation(places, population.width, population.peak)
    return places, EPISODE_STEPS * anyone.rewards(speeds[:, None]).max(axis=0)


def _draw_agents(axes: Axes, targets: Array, returns: Array, weights: Array) -> None:
    """A mark for each agent: colour and shape are those of its main representative."""
    main = weights.argmax(axis=1)
    for j in range(weights.shape[1]):
        # Colours come again after eight; a shape's turn comes one later then.
        marker = MARKERS[(j + j // len(PALETTE)) % len(MARKERS)]
        axes.plot(
            targets[main == j],
            returns[main == j],
            ls="",
            marker=marker,
            color=colour_of(j),
            ms=5,
            mec="white",
            mew=0.4,
            label=f"representative {j}",
            clip_on=False,
        )


def _draw_histogram(axes: Axes, targets: Array, weights: Array) -> None:
    """Stacked bars, the first representative at the bottom."""
    n_agents, k = weights.shape
    edges = np.linspace(*_range(targets), (20 if n_agents <= 200 else 40) + 1)
    below = np.zeros(len(edges) - 1)
    for representative in range(k):
        heights = np.histogram(targets, edges, weights=weights[:, representative])[0]
        axes.bar(
            edges[:-1],
            heights,
            np.diff(edges),
            below,
            align="edge",
            label=f"{representative}",
            color=colour_of(representative),
            hatch=hatch_of(representative),
            edgecolor="white",
            linewidth=0.4,
        )
        below += heights
    axes.set_ylim(0.0, 1.05 * below.max())
    axes.locator_params(axis="y", integer=True)


def _draw_membership(axes: Axes, weights: Array) -> None:
    """A square of agents, row by row, with the number of each one's main representative."""
    n_agents = len(weights)
    n_columns = math.ceil(math.sqrt(n_agents))
    for agent, representative in enumerate(weights.argmax(axis=1).tolist()):
        row, column = divmod(agent, n_columns)
        axes.fill_between(
            [column - 0.5, column + 0.5],
            row - 0.5,
            row + 0.5,
            facecolor=colour_of(representative),
            alpha=float(weights[agent, representative]),
            hatch=hatch_of(representative),
            edgecolor="white",
            linewidth=1.0,
        )
        axes.text(
            *(column, row, str(representative)),
            ha="center",
            va="center",
            color=INK,
            fontsize=min(9.0, 45.0 / n_columns),
            bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "none"},
        )
    fit_square(axes, n_columns, math.ceil(n_agents / n_columns))
