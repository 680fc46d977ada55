"""What a dataset covers: states, agents and lengths of episodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.plotting.style import (
    MARKERS,
    add_legend,
    check_not_empty,
    colour_of,
    count,
    draw_panels,
    save,
)

Array = NDArray[np.float64]
BINS = 60


def plot_dataset(
    observations: Array,
    lengths: Array,
    parameters: Mapping[str, Array],
    returns: Array,
    policies: NDArray[np.int64],
    out: Path | str,
    *,
    title: str,
) -> Path:
    """Draw three kinds of panels: covered states, return against each parameter, lengths.

    States are shown by their two components; where there are more, by the two directions in which
    the standardised components vary most (principal components).

    Args:
        observations: (N, d), d >= 2: all states that were visited.
        lengths: (E,) steps of each episode.
        parameters: name and unit -> (A,): what distinguishes the agents.
        returns: (A,) return of each agent.
        policies: (A,) index of the policy that acted for each, -1 for uniform actions.
        out: file to write.
        title: headline.

    Returns:
        `out`, as a path.

    Raises:
        ValueError: there is nothing to plot, or an unknown format.
    """
    check_not_empty(lengths, "lengths")
    check_not_empty(parameters, "parameters")
    n_panels = 2 + len(parameters)
    points, labels = in_a_plane(observations, "observation")
    with draw_panels(n_panels, 2 if n_panels == 4 else 3, (3.4, 2.8)) as (figure, panels):
        axes = panels[0]
        axes.set_title("visited states")
        counts = np.histogram2d(points[:, 0], points[:, 1], bins=BINS)
        mesh = axes.pcolormesh(*counts[1:], np.log10(counts[0].T + 1.0), cmap="Greys")
        mesh.set_rasterized(True)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        for axes, (name, values) in zip(panels[1:-1], parameters.items(), strict=True):
            for policy in np.unique(policies):
                chosen = policies == policy
                axes.plot(
                    values[chosen],
                    returns[chosen],
                    ls="",
                    marker=MARKERS[policy % len(MARKERS)],
                    ms=3,
                    color=colour_of(policy),
                    label=str(policy),
                )
            axes.set_title("return of each agent")
            axes.set_xlabel(name)
            axes.set_ylabel("return")
        panels[-1].set_title("episodes")
        panels[-1].hist(lengths, bins=BINS // 2, color=colour_of(0))
        panels[-1].set_xlabel("steps")
        panels[-1].set_ylabel("number of episodes")
        if len(np.unique(policies)) > 1:
            add_legend(figure, "policy", numeric=True)
        description = (
            f"{count(len(lengths), 'episode')} of {lengths.min():.0f} to {lengths.max():.0f} "
            f"steps; returns of {count(len(returns), 'agent')} from {returns.min():.4g} to "
            f"{returns.max():.4g}."
        )
        return save(figure, out, title, description)


def in_a_plane(points: Array, name: str) -> tuple[Array, list[str]]:
    """Show points (N, d) as (N, 2), and say what their coordinates are.

    A single component goes to the horizontal axis; of more than two, the two directions in which
    the standardised components vary most (principal components).
    """
    if points.shape[1] == 1:
        return np.column_stack((points[:, 0], np.zeros(len(points)))), [f"{name} 0", ""]
    if points.shape[1] == 2:
        return points, [f"{name} 0", f"{name} 1"]
    spread = points.std(axis=0)
    scaled = (points - points.mean(axis=0)) / np.where(spread > 0.0, spread, 1.0)
    variances, directions = np.linalg.eigh(np.cov(scaled.T))
    shares = variances[::-1] / variances.sum()
    directions = directions[:, :-3:-1]
    # An eigenvector has no sign of its own: its largest entry shall be positive.
    directions *= np.sign(directions[np.abs(directions).argmax(axis=0), [0, 1]])
    labels = [f"principal component {j + 1} ({100 * shares[j]:.0f} %)" for j in (0, 1)]
    return scaled @ directions, labels
