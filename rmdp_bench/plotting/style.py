"""How every figure looks and how it is written: style, panels, legend, file.

A file carries its title and a description in words, for readers who cannot see it; the same data
gives the same bytes; and it appears whole or not at all.  Matplotlib is imported when the first
figure is made, without pyplot, whose state is global.
"""

from __future__ import annotations

import io
import logging
import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmdp_bench.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
    *("#E69F00", "#56B4E9", "#332288", "#8A8A8A"),
)
"""Okabe and Ito's colours, with indigo and grey for the yellow and black that lines cannot use."""
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ((), (5, 1.5), (1.5, 1.5), (5, 1.5, 1.5, 1.5))
INK = "#222222"
FORMATS = (".png", ".svg", ".pdf")
NARROWEST = 3.6
CHARACTERS_PER_INCH = 10.5

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.title_fontsize": 8,
    "svg.hashsalt": "rmdp_bench",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Import Matplotlib without its warnings on where it keeps its caches, and that it makes them.

    Without a home that can be written to it takes a temporary folder.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def draw_panels(
    n_panels: int, n_columns: int, size: tuple[float, float]
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of `n_panels` panels of `size` inches; draw and save it within the block."""
    with _without_remarks():
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        n_rows = math.ceil(n_panels / n_columns)
        width = max(NARROWEST, size[0] * n_columns)
        figure = Figure((width, size[1] * n_rows + 0.3), layout="constrained")
        FigureCanvasAgg(figure)
        panels = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
        for unused in panels[n_panels:]:
            unused.set_axis_off()
        yield figure, panels[:n_panels]


def save(figure: Figure, out: Path | str, title: str, description: str) -> Path:
    """Write the figure under its title; `description` says in words what it shows.

    Raises:
        ValueError: the suffix of `out` is not one of the formats.
    """
    path = Path(out)
    if path.suffix not in FORMATS:
        raise ValueError(f"file {path.name!r}: expected one of the formats {', '.join(FORMATS)}")
    n_characters = int(figure.get_figwidth() * CHARACTERS_PER_INCH)
    headline = textwrap.fill(title, n_characters)
    figure.suptitle(headline, x=0.01, ha="left", fontsize=11, fontweight="bold")
    in_words = "Subject" if path.suffix == ".pdf" else "Description"
    metadata: dict[str, Any] = {"Title": title, in_words: description}
    if path.suffix == ".pdf":
        metadata["CreationDate"] = None
    elif path.suffix == ".svg":
        metadata["Date"] = None
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:], dpi=200, metadata=metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())
    return path


def add_legend(figure: Figure, title: str, *, numeric: bool = False) -> None:
    """One entry per label, to the right of the panels; numbers in their order."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    labels = sorted(entries, key=int) if numeric else list(entries)
    handles = [entries[label] for label in labels]
    figure.legend(handles, labels, title=title, loc="outside right center")


def colour_of(index: int) -> str:
    """The colour of a solver or representative."""
    return PALETTE[index % len(PALETTE)]


def hatch_of(index: int) -> str:
    """The hatch that tells apart those whose colour is the same."""
    return HATCHES[index // len(PALETTE) % len(HATCHES)]


def line_styles(solvers: Iterable[str], order: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and dashes of each solver, by its place among those of several figures."""
    return {
        solver: {
            "color": colour_of(index),
            "marker": MARKERS[index % len(MARKERS)],
            "dashes": DASHES[index % len(DASHES)],
            "lw": 1.5,
        }
        for index, solver in enumerate(dict.fromkeys([*order, *solvers]))
    }


def fit_square(axes: Axes, n_columns: int, n_rows: int) -> None:
    """Show a grid of unit tiles from row 0 at the top, and no axes."""
    axes.set_xlim(-0.55, n_columns - 0.45)
    axes.set_ylim(n_rows - 0.45, -0.55)
    axes.set_aspect("equal")
    axes.set_axis_off()


def count(number: float, noun: str) -> str:
    """1 agent, 2 agents, 2.5 agents."""
    return f"{number:.3g} {noun}" + ("" if number == 1 else "s")


def to_assignment(values: ArrayLike, n_agents: int, k: int | None = None) -> Array:
    """Give an assignment as an array (n, k).

    Raises:
        ValueError: another shape, or entries that are not weights.
    """
    weights = np.asarray(values, dtype=np.float64)
    fits = weights.ndim == 2 and len(weights) == n_agents and weights.shape[1] >= 1
    if not fits or (k is not None and weights.shape[1] != k):
        expected = f"({n_agents}, {'k' if k is None else k})"
        raise ValueError(f"assignment has shape {weights.shape}, expected {expected}")
    if not ((weights >= 0.0) & (weights <= 1.0 + 1e-6)).all():
        raise ValueError("assignment has entries that are not weights from 0 to 1")
    return weights


def check_not_empty(values: Any, name: str) -> None:
    """Refuse to plot nothing.

    Raises:
        ValueError: `values` is empty.
    """
    if not len(values):
        raise ValueError(f"{name}: there is nothing to plot")
