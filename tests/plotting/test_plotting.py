from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib
import numpy as np
import pytest
from matplotlib import image
from PIL import Image

from rmdp_bench.ceilings import constant_speed_optimum
from rmdp_bench.plotting import (
    plot_dataset,
    plot_learning_curves,
    plot_paths,
    plot_preferences,
    plot_returns_by_target,
    plot_welfare_by_budget,
    preferences,
)
from rmdp_bench.plotting.paths import LANE, _lane
from rmdp_bench.plotting.preferences import _returns_at_optimum
from rmdp_bench.plotting.style import PALETTE
from rmdp_bench.population import LinearPopulation, TargetPopulation
from rmdp_bench.scoring import align_curves
from tests.helpers.checkout import ROOT

OUT_AND_BACK = [(4, 2), (3, 2), (2, 2), (3, 2), (4, 2)]
ROUND = [(4, 2), (4, 1), (3, 1), (3, 2), (4, 2)]
LOST = [(4, 2), (3, 2), (3, 3)]
BUMP = [(4, 2), (4, 2)]
POPULATION = TargetPopulation.uniform(100, 4.0, seed=0)


def one_hot(representatives: Any, k: int) -> Any:
    return np.eye(k)[np.asarray(representatives)]


def draw_paths(out: Path) -> Path:
    return plot_paths(
        [OUT_AND_BACK, ROUND, LOST, BUMP], one_hot(np.arange(25) % 3, 4), out, title="Tours"
    )


def draw_welfare(out: Path) -> Path:
    rows = {"em": {1: [70.0, 74.0], 3: [85.0, 87.0]}, "random_assignment": {3: [60.0]}}
    return plot_welfare_by_budget(rows, {1: 74.0, 3: 88.9}, out)


def draw_preferences(out: Path) -> Path:
    return plot_preferences(POPULATION, one_hot(np.arange(100) % 5, 5), out)


SERVED = {"em": (one_hot(np.arange(100) % 5, 5), np.linspace(0.0, 50.0, 100))}


def draw_returns(out: Path, served: Any = SERVED) -> Path:
    return plot_returns_by_target(POPULATION, served, constant_speed_optimum(POPULATION, 5), out)


def draw_grid(out: Path) -> Path:
    return plot_preferences(LinearPopulation.tiles(), {"em": one_hot(np.arange(25) % 9, 9)}, out)


def draw_curves(out: Path) -> Path:
    curves = {
        "em": [([0, 1000, 2000], [0.0, 20.0, 30.0]), ([0, 1000, 2000], [0.0, 24.0, 32.0])],
        "clustering": [([500], [10.0])],
    }
    return plot_learning_curves(curves, 36.4, out)


def draw_dataset(out: Path) -> Path:
    generator = np.random.default_rng(0)
    return plot_dataset(
        generator.normal(size=(200, 4)),
        np.array([120.0, 80.0]),
        {"force (N)": np.array([2.0, 5.0]), "half length (m)": np.array([0.5, 0.2])},
        np.array([120.0, 80.0]),
        np.array([0, 3]),
        out,
        title="A dataset",
    )


DRAW = [
    *(draw_paths, draw_welfare, draw_preferences, draw_returns, draw_grid),
    *(draw_curves, draw_dataset),
]


@pytest.mark.parametrize("draw", DRAW)
@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_same_data_gives_the_same_file(
    draw: Callable[[Path], Path], suffix: str, tmp_path: Path
) -> None:
    first = draw(tmp_path / f"first{suffix}")
    second = draw(tmp_path / "made" / f"second{suffix}")
    assert first == tmp_path / f"first{suffix}"
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"first{suffix}", "made"]
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert first.read_bytes().startswith(start)


@pytest.mark.parametrize("draw", DRAW)
def test_picture_is_not_blank_and_nothing_is_cut_off(
    draw: Callable[[Path], Path], tmp_path: Path
) -> None:
    pixels = image.imread(draw(tmp_path / "figure.png"))[..., :3]
    assert pixels.shape[0] > 400 and pixels.shape[1] > 600
    assert 0.02 < (pixels < 0.95).any(axis=-1).mean() < 0.9
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    assert all((edge > 0.95).all() for edge in edges)


def describe(path: Path) -> str:
    with Image.open(path) as picture:
        return str(picture.info["Description"])


def test_pictures_say_in_words_what_they_show(tmp_path: Path) -> None:
    paths = describe(draw_paths(tmp_path / "paths.png"))
    assert "Representative 0: 9 agents, home in 4 steps." in paths
    assert "Representative 2: 8 agents, not home after 2 steps." in paths
    assert "Representative 3: 0 agents, home in 1 step." in paths
    welfare = describe(draw_welfare(tmp_path / "welfare.png"))
    assert "em at k = 1: 72.0 ± 2.0." in welfare and "exact ceiling at k = 3: 88.9." in welfare
    assert "random_assignment at k = 3: 60.0 ± 0.0." in welfare
    curves = describe(draw_curves(tmp_path / "curves.png"))
    assert "em after 2,000 transitions: 31.0 ± 1.0." in curves and "36.4" in curves
    assert "20, 20, 20, 20, 20" in describe(draw_preferences(tmp_path / "preferences.png"))
    returns = describe(draw_returns(tmp_path / "returns.png"))
    assert returns == "exact ceiling: mean 36.5. em: mean 25.0, 2 agents with less than 1."


def colours_in(path: Path) -> set[str]:
    """The colours that fill more than 1 in 1000 pixels."""
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    return {
        "#{:02X}{:02X}{:02X}".format(*colour)
        for colour, number in zip(colours.tolist(), counts, strict=True)
        if number > len(pixels) / 1000
    }


def test_each_representative_has_its_colour(tmp_path: Path) -> None:
    for population in (POPULATION, LinearPopulation.tiles()):
        served = one_hot([3] * (population.n_agents - 10) + [1] * 10, 4)
        colours = colours_in(plot_preferences(population, served, tmp_path / "one.png"))
        assert colours & set(PALETTE) == {PALETTE[1], PALETTE[3]}
    served = one_hot([3] * 50 + [1] * 50, 4)
    drawn = draw_returns(tmp_path / "two.png", {"em": (served, np.linspace(0.0, 50.0, 100))})
    assert colours_in(drawn) & set(PALETTE) == {PALETTE[1], PALETTE[3]}


def test_drawing_leaves_matplotlib_as_it_was(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    for draw in DRAW:
        draw(tmp_path / "figure.png")
    assert dict(matplotlib.rcParams) == before


def test_matplotlib_is_imported_when_the_first_figure_is_made() -> None:
    code = "import sys, rmdp_bench.plotting; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_lane_keeps_to_the_right_and_a_tour_closes() -> None:
    points = np.array(OUT_AND_BACK, dtype=float)[:, ::-1]
    corners, middles, _ = _lane(points)
    np.testing.assert_allclose(middles[:2, 0], 2 + LANE)  # upwards, to the right of the middle
    np.testing.assert_allclose(middles[2:, 0], 2 - LANE)
    np.testing.assert_array_equal(corners[0], corners[-1])
    corners, _, _ = _lane(np.array(LOST, dtype=float)[:, ::-1])
    np.testing.assert_allclose(corners[[0, -1]], [(2 + LANE, 4), (3, 3 + LANE)])


def test_line_of_the_ceiling_goes_through_every_agent() -> None:
    for k in (1, 5, 120):
        optimum = constant_speed_optimum(POPULATION, k)
        ends = -0.1, float(POPULATION.targets.max()) + 0.1
        places, returns = _returns_at_optimum(POPULATION, optimum, *ends)
        assert (np.diff(places) > 0).all()
        on_line = np.interp(POPULATION.targets, places, returns)
        exact = 1000.0 * POPULATION.rewards(optimum.speeds[:, None]).max(axis=0)
        np.testing.assert_allclose(on_line, exact, atol=1e-9)
        np.testing.assert_allclose(exact.mean(), optimum.welfare)
        assert np.isin(optimum.speeds, places).all()
        np.testing.assert_allclose(returns[np.isin(places, optimum.speeds)], 100.0)
        between = np.linspace(places[0], places[-1], 9999)
        everywhere = TargetPopulation(between, POPULATION.width, POPULATION.peak)
        exact = 1000.0 * everywhere.rewards(optimum.speeds[:, None]).max(axis=0)
        np.testing.assert_allclose(np.interp(between, places, returns), exact, atol=1e-9)


def test_seeds_evaluated_at_different_points_are_interpolated() -> None:
    transitions, welfare = align_curves([([0, 10], [0, 10]), ([5, 20], [0, 30])], "em")
    np.testing.assert_array_equal(transitions, [5, 10])
    np.testing.assert_allclose(welfare, [[5, 10], [0, 10]])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda out: plot_paths([], np.zeros((25, 0)), out), "assignment"),
        (lambda out: plot_paths([[]], np.ones((25, 1)), out), "path 0"),
        (lambda out: plot_paths([[(5, 0)]], np.ones((25, 1)), out), "path 0"),
        (lambda out: plot_paths([ROUND], np.ones((24, 1)), out), r"\(24, 1\)"),
        (lambda out: plot_paths([ROUND], np.full((25, 1), 2.0), out), "weights"),
        (lambda out: plot_welfare_by_budget({}, {}, out), "nothing to plot"),
        (lambda out: plot_welfare_by_budget({"em": {}}, {}, out), "nothing to plot"),
        (lambda out: plot_welfare_by_budget({"em": {}, "x": {1: [1]}}, {}, out), "em"),
        (lambda out: plot_welfare_by_budget({"em": {3: []}}, {}, out), "em, k = 3"),
        (lambda out: plot_welfare_by_budget({"em": {3: [np.nan]}}, {}, out), "em, k = 3"),
        (lambda out: plot_preferences(POPULATION, {}, out), "nothing to plot"),
        (lambda out: plot_preferences(POPULATION, np.ones((99, 1)), out), r"\(99, 1\)"),
        (lambda out: draw_returns(out, {}), "nothing to plot"),
        (lambda out: draw_returns(out, {"em": (np.ones((99, 1)), np.ones(100))}), r"\(99, 1\)"),
        (lambda out: draw_returns(out, {"em": (np.ones((100, 1)), np.ones(99))}), r"em.*\(99,\)"),
        (lambda out: plot_learning_curves({}, None, out), "nothing to plot"),
        (lambda out: plot_learning_curves({"em": []}, None, out), "em"),
        (lambda out: plot_learning_curves({"em": [([], [])]}, None, out), "em"),
        (lambda out: plot_learning_curves({"em": [([1, 2], [1])]}, None, out), "em"),
        (lambda out: plot_learning_curves({"em": [([2, 1], [1, 1])]}, None, out), "em"),
        (lambda out: plot_learning_curves({"em": [([1], [1]), ([2], [1])]}, None, out), "common"),
        (lambda out: draw_welfare(out.with_suffix(".gif")), "gif"),
        (lambda out: draw_welfare(out.with_suffix("")), "formats"),
    ],
)
def test_bad_data_is_refused_and_writes_nothing(
    draw: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


def test_every_budget_of_the_suite_can_be_drawn(tmp_path: Path) -> None:
    plot_paths([ROUND] * 25, np.eye(25), tmp_path / "25.png")
    plot_paths([ROUND], np.ones((25, 1)), tmp_path / "1.png", title="A long title " * 10)
    many = TargetPopulation.uniform(1000, 4.0, seed=0)
    plot_preferences(many, one_hot(np.arange(1000) % 50, 50), tmp_path / "50.svg")
    plot_preferences(
        POPULATION,
        {name: np.full((100, 5), 0.2) for name in ("a", "b", "c", "d", "e")},
        tmp_path / "5.pdf",
    )
    served = {"em": (one_hot(np.arange(1000) % 50, 50), np.ones(1000))}
    optimum = constant_speed_optimum(many, 50)
    plot_returns_by_target(many, served, optimum, tmp_path / "agents.png")
    assert len(list(tmp_path.iterdir())) == 5


def test_agents_of_unknown_ceiling(tmp_path: Path) -> None:
    """A world of somebody's own: no ceiling is drawn, and the axis is where its agents are."""
    agents = TargetPopulation(np.linspace(16.0, 24.0, 9), 2.0, 1.0)
    served = {"em": (np.eye(3)[np.arange(9) // 3], np.full(9, 40.0))}
    drawn = []

    def keep(figure: Any, out: Any, title: str, caption: str) -> Path:
        drawn.append((figure.axes[0].get_xlim(), figure.axes[0].get_ylim(), caption))
        return Path(out)

    with mock.patch.object(preferences, "save", keep):
        plot_returns_by_target(agents, served, None, tmp_path / "agents.png")
    (((low, high), _, caption),) = drawn
    assert 15.0 < low < 16.0 and 24.0 < high < 25.0
    assert "ceiling" not in caption
