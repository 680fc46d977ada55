"""Social welfare against the budget (paper Figures 2 and 3) and during training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmdp_bench.plotting.style import (
    INK,
    add_legend,
    check_not_empty,
    count,
    draw_panels,
    line_styles,
    save,
)
from rmdp_bench.scoring import align_curves, standard_error
from rmdp_bench.tasks import PERFECT_EPISODE

Array = NDArray[np.float64]
WELFARE_LABEL = f"social welfare ({PERFECT_EPISODE})"
LEAST_SPAN = 10.0
"""Least height of the axis, percent: small differences must look small."""


def plot_welfare_by_budget(
    rows: Mapping[str, Mapping[int, Sequence[float]]],
    ceilings: Mapping[int, float],
    out: Path | str,
    *,
    title: str = "Social welfare against the number of representatives",
    ceiling_label: str = "exact ceiling",
    order: Sequence[str] = (),
    label: str = WELFARE_LABEL,
) -> Path:
    """Draw the mean social welfare of each solver for each k, with standard errors over seeds.

    Args:
        rows: solver -> k -> social welfare of each seed, percent. A single seed has no interval.
        ceilings: k -> greatest social welfare possible; budgets without one are left out.
        out: file to write.
        title: headline.
        ceiling_label: name of the dashed line.
        order: solvers of several figures, for each to look the same in all of them.
        label: of the axis of welfare.

    Returns:
        `out`, as a path.

    Raises:
        ValueError: no solver, no seed, a value that is not finite, or an unknown format.
    """
    check_not_empty(rows, "rows")
    styles = line_styles(rows, order)
    budgets = sorted({budget for by_budget in rows.values() for budget in by_budget})
    check_not_empty(budgets, "budgets")
    place = {budget: float(index) for index, budget in enumerate(budgets)}
    known = [budget for budget in budgets if ceilings.get(budget) is not None]
    lines = []
    with draw_panels(1, 1, (6.4, 3.6)) as (figure, (axes,)):
        for budget in known:
            ends = [place[budget] - 0.42, place[budget] + 0.42]
            name = ceiling_label if budget == known[0] else None
            axes.plot(ends, [ceilings[budget]] * 2, color=INK, dashes=(4, 2), lw=1.3, label=name)
            lines.append(f"{ceiling_label} at k = {budget}: {ceilings[budget]:.1f}.")
        for index, (solver, by_budget) in enumerate(rows.items()):
            check_not_empty(by_budget, f"the budgets of {solver}")
            shift = 0.12 * (index - (len(rows) - 1) / 2)
            points = []
            for budget in sorted(by_budget):
                mean, error = _mean_and_error(by_budget[budget], f"{solver}, k = {budget}")
                points.append((place[budget] + shift, mean, error))
                lines.append(f"{solver} at k = {budget}: {mean:.1f} ± {error:.1f}.")
            x, means, errors = np.transpose(points)
            style = styles[solver]
            row_name = _name(solver, by_budget.values())
            axes.errorbar(x, means, errors, capsize=2.5, label=row_name, ms=5, **style)
        axes.set_xticks(list(place.values()), [str(budget) for budget in budgets])
        axes.set_xlim(-0.6, len(budgets) - 0.4)
        axes.set_xlabel("number of representatives k")
        axes.set_ylabel(label)
        low, high = axes.get_ylim()
        widen = max(0.0, LEAST_SPAN - (high - low)) / 2
        axes.set_ylim(low - widen, high + widen)
        axes.grid(axis="y")
        add_legend(figure, "mean ± standard error")
        return save(figure, out, title, " ".join(lines))


def plot_fairness(
    rows: Mapping[str, Mapping[int, Sequence[tuple[float, float]]]],
    out: Path | str,
    *,
    title: str = "The price of fairness",
    order: Sequence[str] = (),
) -> Path:
    """Draw social welfare against what the worst agent has, a line over k for each row.

    Up is more for all agents together, to the right more for the one who has least: what a line of
    another objective lies below the utilitarian one is its price, what it lies to the right of it
    what is bought.

    Args:
        rows: solver and objective -> k -> (return of the worst agent, social welfare) of each seed,
            percent.
        out: file to write.
        title: headline.
        order: rows of several figures, for each to look the same in all of them.

    Returns:
        `out`, as a path.

    Raises:
        ValueError: no row, no seed, a value that is not finite, or an unknown format.
    """
    check_not_empty(rows, "rows")
    styles, lines = line_styles(rows, order), []
    with draw_panels(1, 1, (6.4, 4.0)) as (figure, (axes,)):
        for name, by_budget in rows.items():
            check_not_empty(by_budget, f"the budgets of {name}")
            points = []
            for budget in sorted(by_budget):
                worst, welfare = np.transpose(by_budget[budget])
                place = [_mean_and_error(v, f"{name}, k = {budget}") for v in (worst, welfare)]
                points.append([value for pair in place for value in pair])
                axes.annotate(
                    f"k = {budget}",
                    (place[0][0], place[1][0]),
                    textcoords="offset points",
                    xytext=(5, -10),
                    color=INK,
                    fontsize=7,
                )
                lines.append(
                    f"{name} at k = {budget}: worst agent {place[0][0]:.1f}, social welfare "
                    f"{place[1][0]:.1f}."
                )
            x, x_error, y, y_error = np.transpose(points)
            label = _name(name, by_budget.values())
            axes.errorbar(x, y, y_error, x_error, capsize=2, label=label, ms=5, **styles[name])
        axes.set_xlabel(f"return of the worst agent ({PERFECT_EPISODE})")
        axes.set_ylabel(WELFARE_LABEL)
        axes.margins(0.12)
        axes.grid()
        add_legend(figure, "mean ± standard error")
        return save(figure, out, title, " ".join(lines))


def plot_learning_curves(
    curves: Mapping[str, Sequence[tuple[ArrayLike, ArrayLike]]],
    ceiling: float | None,
    out: Path | str,
    *,
    title: str = "Social welfare during training",
    ceiling_label: str = "exact ceiling",
    order: Sequence[str] = (),
    label: str = WELFARE_LABEL,
) -> Path:
    """Draw the mean over seeds against transitions per policy, with a band of standard errors.

    Seeds that were evaluated at different points are interpolated linearly, over the stretch that
    all of them cover.

    Args:
        curves: solver -> for each seed (transitions per policy (T,), social welfare (T,) percent).
        ceiling: greatest social welfare possible, or None.
        out: file to write.
        title: headline.
        ceiling_label: name of the dashed line.
        order: solvers of several figures, for each to look the same in all of them.
        label: of the axis of welfare.

    Returns:
        `out`, as a path.

    Raises:
        ValueError: no solver, no seed, an empty curve, values that are not finite, transitions
            that do not increase, or an unknown format.
    """
    check_not_empty(curves, "curves")
    styles = line_styles(curves, order)
    lines = [] if ceiling is None else [f"{ceiling_label}: {ceiling:.1f}."]
    with draw_panels(1, 1, (6.4, 3.6)) as (figure, (axes,)):
        if ceiling is not None:
            axes.axhline(ceiling, color=INK, dashes=(4, 2), lw=1.3, label=ceiling_label)
        for solver, seeds in curves.items():
            transitions, welfare = align_curves(seeds, solver)
            columns = [_mean_and_error(column, solver) for column in welfare.T]
            mean, error = np.transpose(columns)
            style = styles[solver]
            name = _name(solver, [seeds])
            spacing = max(1, len(transitions) // 8)
            axes.plot(transitions, mean, label=name, ms=4, markevery=spacing, **style)
            axes.fill_between(
                transitions, mean - error, mean + error, color=style["color"], alpha=0.2, lw=0
            )
            lines.append(
                f"{solver} after {transitions[-1]:,.0f} transitions: "
                f"{mean[-1]:.1f} ± {error[-1]:.1f}."
            )
        axes.xaxis.set_major_formatter(_short_number)
        axes.set_xlim(left=0.0)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.set_xlabel("transitions per policy")
        axes.set_ylabel(label)
        axes.grid()
        add_legend(figure, "mean ± standard error")
        return save(figure, out, title, " ".join(lines))


def _name(solver: str, seeds: Iterable[Sequence[Any]]) -> str:
    """The solver's name with its number of seeds, or the least and greatest of them."""
    numbers = sorted({len(values) for values in seeds})
    least = f"{numbers[0]} to " if len(numbers) > 1 else ""
    return f"{solver} ({least}{count(numbers[-1], 'seed')})"


def _mean_and_error(values: ArrayLike, name: str) -> tuple[float, float]:
    """Mean and standard error over seeds; the error of one seed is 0, that is, not drawn."""
    seeds = np.asarray(values, dtype=np.float64).ravel()
    if not seeds.size or not np.isfinite(seeds).all():
        raise ValueError(f"{name}: welfare is {seeds.tolist()}, expected a finite number per seed")
    return float(seeds.mean()), float(np.nan_to_num(standard_error(seeds)))


def _short_number(value: float, position: float = 0.0) -> str:
    """1500000 -> 1.5M."""
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
