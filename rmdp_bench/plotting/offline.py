"""What offline solvers reach for each agent, and what they learn about the agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.plotting.datasets import in_a_plane
from rmdp_bench.plotting.style import (
    INK,
    add_legend,
    check_not_empty,
    count,
    draw_panels,
    line_styles,
    save,
)

Array = NDArray[np.float64]


def plot_factors(
    factors: Array, parameters: Mapping[str, Array], out: Path | str, *, title: str
) -> Path:
    """Draw agents by what was learned about them, coloured by each hidden parameter.

    PerSim's Figure 1, with principal components where the paper has t-SNE: distances keep their
    meaning, and the same factors give the same picture.

    Args:
        factors: (n, r).
        parameters: name and unit -> (n,), one panel each.
        out: file to write.
        title: headline.

    Returns:
        `out`, as a path.

    Raises:
        ValueError: there is nothing to plot, or an unknown format.
    """
    check_not_empty(factors, "factors")
    check_not_empty(parameters, "parameters")
    points, labels = in_a_plane(factors, "factor")
    with draw_panels(len(parameters), len(parameters), (4.0, 3.2)) as (figure, panels):
        for axes, (name, values) in zip(panels, parameters.items(), strict=True):
            dots = axes.scatter(points[:, 0], points[:, 1], c=values, s=10, cmap="cividis")
            figure.colorbar(dots, ax=axes, label=name)
            axes.set_xlabel(labels[0])
            axes.set_ylabel(labels[1])
        description = (
            f"Learned factors of {count(len(factors), 'agent')} in a plane, coloured by "
            f"{' and by '.join(parameters)}."
        )
        return save(figure, out, title, description)


def plot_agent_returns(
    returns: Mapping[str, Sequence[Sequence[float]]],
    agents: Sequence[str],
    out: Path | str,
    *,
    title: str,
    order: Sequence[str] = (),
) -> Path:
    """Draw the normalised return of each scored agent, a mark for each seed of each solver.

    Args:
        returns: solver -> for each seed the returns (A,), in percent: 0 is that of uniform actions,
            100 the reference.
        agents: (A,) what the agents are called.
        out: file to write.
        title: headline.
        order: solvers of several figures, for each to look the same in all of them.

    Returns:
        `out`, as a path.

    Raises:
        ValueError: there is nothing to plot, or an unknown format.
    """
    check_not_empty(returns, "returns")
    styles = line_styles(returns, order)
    check_not_empty(agents, "agents")
    words = []
    with draw_panels(1, 1, (7.0, 3.4)) as (figure, (axes,)):
        for level, name in ((0.0, "uniform actions"), (100.0, "reference")):
            axes.axhline(level, color=INK, lw=0.8, dashes=(4, 2))
            axes.annotate(name, (0.0, level), (2, 2), textcoords="offset points", fontsize=7)
        for index, (solver, seeds) in enumerate(returns.items()):
            values = np.array(seeds, np.float64)
            offset = 0.8 * ((index + 0.5) / len(returns) - 0.5)
            places = np.tile(np.arange(len(agents)) + offset, (len(values), 1))
            style = styles[solver]
            axes.plot(
                places.ravel(),
                values.ravel(),
                ls="",
                marker=style["marker"],
                ms=4,
                color=style["color"],
                label=solver,
            )
            words.append(f"{solver} {values.mean():.1f}")
        axes.set_xticks(range(len(agents)), agents)
        axes.set_xlim(-0.5, len(agents) - 0.5)
        axes.grid(axis="y")
        axes.set_ylabel("normalised return")
        axes.set_xlabel("agent")
        add_legend(figure, "solver")
        return save(figure, out, title, f"Mean over agents and seeds: {', '.join(words)}.")


def plot_sorted_returns(
    returns: Mapping[str, Sequence[Sequence[float]]],
    out: Path | str,
    *,
    title: str,
    order: Sequence[str] = (),
) -> Path:
    """Draw the returns of many agents from the worst to the best, a line for each solver.

    Args:
        returns: solver -> for each seed the returns (A,), all on one scale; a line is the mean over
            the seeds of the sorted ones.
        out: file to write.
        title: headline.
        order: solvers of several figures, for each to look the same in all of them.

    Returns:
        `out`, as a path.

    Raises:
        ValueError: there is nothing to plot, or an unknown format.
    """
    check_not_empty(returns, "returns")
    styles, words = line_styles(returns, order), []
    with draw_panels(1, 1, (6.0, 3.4)) as (figure, (axes,)):
        for solver, seeds in returns.items():
            values = np.sort(np.array(seeds, np.float64), axis=1).mean(axis=0)
            shares = 100.0 * (np.arange(len(values)) + 0.5) / len(values)
            axes.plot(shares, values, label=solver, color=styles[solver]["color"])
            words.append(f"{solver} {values.mean():.1f}")
        axes.grid(axis="y")
        axes.set_ylabel("return")
        axes.set_xlabel("percent of the agents, from the worst on")
        add_legend(figure, "solver")
        return save(figure, out, title, f"Mean over agents and seeds: {', '.join(words)}.")
