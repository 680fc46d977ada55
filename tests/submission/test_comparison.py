"""Claims against played episodes: what is refused, what passes, and the sandbox that plays."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rmdp_bench.evaluation import evaluate
from rmdp_bench.scoring import agent_returns, greedy_assignment, social_welfare
from rmdp_bench.solution import Solution, save_solution
from rmdp_bench.submission import full
from rmdp_bench.submission.comparison import (
    FAIR_HALF_WIDTH,
    GOOD_HALF_WIDTH,
    Comparison,
    compare,
    compare_profiles,
    episodes_wanted,
    half_width,
)
from rmdp_bench.submission.held_out import MAX_EPISODES, draw_held_out, play_in_rounds
from rmdp_bench.submission.marks import FIRST_HELD_OUT_SEED
from rmdp_bench.submission.replay import EpisodeReturns
from rmdp_bench.submission.rows import RowFiles
from rmdp_bench.submission.sandbox.budget import Budget
from rmdp_bench.submission.sandbox.children import Limits, play_in_sandbox
from rmdp_bench.submission.scores import welfare_range
from rmdp_bench.tasks import get_online_task, get_task
from tests.helpers.submission_toys import pack_solution
from tests.helpers.toys import LinearPolicy

HOPPER = get_online_task("HopperVel-n100-k2-v0")
N_KNOWN = 20


def simulated(
    seed: int,
    spread: float,
    *,
    n_seeds: int = 3,
    raised: float = 0.0,
    tuned: float = 0.0,
    collapse: float = 0.0,
    elsewhere: bool = False,
    common: float = 0.5,
) -> Comparison:
    """A row of simulated episodes, whose luck is common to the seeds by a share `common`.

    `raised`: added to each claim; `tuned`: to the known episodes themselves; `collapse`: the chance
    that an episode is worth nothing; `elsewhere`: whether rounding makes other draws of the known
    episodes, as on another machine where every episode takes another course.
    """
    rng = np.random.default_rng(seed)

    def episodes(number: int) -> Any:
        luck = np.sqrt(common) * rng.normal(size=(1, number))
        luck = luck + np.sqrt(1.0 - common) * rng.normal(size=(n_seeds, number))
        fine = rng.random((n_seeds, number)) >= collapse
        return (50.0 + spread * luck) * fine

    known = episodes(N_KNOWN) + tuned
    held_out = play_in_rounds(lambda _, number: episodes(number), 40, 2000, 1.0, lambda: 0.0)
    claims = (episodes(N_KNOWN) + tuned if elsewhere else known).mean(axis=1) + raised
    nudged = episodes(N_KNOWN) + tuned if elsewhere else known
    return compare(claims.tolist(), known, held_out, nudged)


CASES = [(0.0, 0.0), (1.0, 0.0), (10.0, 0.0), (1.0, 0.03)]


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize(("spread", "collapse"), CASES)
def test_honest_claims_pass(spread: float, collapse: float, elsewhere: bool) -> None:
    refused = 0
    for seed in range(20):
        try:
            simulated(seed, spread, collapse=collapse, elsewhere=elsewhere).check()
        except ValueError:
            refused += 1
    assert refused <= 1  # one in 250 is expected


@pytest.mark.parametrize(("spread", "collapse"), CASES)
@pytest.mark.parametrize("raised", [0.5, -0.5, 3.0])
def test_claims_that_differ_from_an_exact_replay_are_refused(
    spread: float, collapse: float, raised: float
) -> None:
    """However far the episodes spread: nothing but rounding explains it, and it does nothing."""
    for seed in range(5):
        with pytest.raises(ValueError, match="on the same episodes"):
            simulated(seed, spread, raised=raised, collapse=collapse).check()


def test_a_bias_of_all_seeds_is_found_where_that_of_one_is_not() -> None:
    """Plus two points on each of ten seeds, each of which could be another machine's luck."""
    for seed in range(5):
        comparison = simulated(seed, 3.0, n_seeds=10, raised=2.0, elsewhere=True, common=0.0)
        for distances in comparison.seeds:
            distances.check()
        with pytest.raises(ValueError, match="mean over 10 seeds: claimed is a social welfare"):
            comparison.check()
        with pytest.raises(ValueError, match="on the same episodes"):
            comparison.row.check()


def test_a_claim_may_hold_a_fall_that_nothing_else_has_seen() -> None:
    """Of another machine's episodes, where rounding makes other ones of most."""
    rng = np.random.default_rng(0)
    known, nudged = rng.normal(30.0, 0.2, size=(2, 3, 20))
    held_out = rng.normal(30.0, 0.2, size=(3, 51))
    claimed = nudged.copy()
    claimed[1, 7] = 3.0
    compare(claimed.mean(axis=1).tolist(), known, held_out, nudged).check()
    claimed[1, 8] = claimed[1, 9] = 3.0
    with pytest.raises(ValueError, match="on the same episodes"):
        compare(claimed.mean(axis=1).tolist(), known, held_out, nudged).check()
    claimed[1] = nudged[1] + 27.0 / 20  # as much higher
    with pytest.raises(ValueError, match="on the same episodes"):
        compare(claimed.mean(axis=1).tolist(), known, held_out, nudged).check()
    few = known.copy()
    few[:, 0] -= 0.1  # where rounding changes few of them
    claimed[1] = known[1]
    claimed[1, 7] = 3.0
    with pytest.raises(ValueError, match="on the same episodes"):
        compare(claimed.mean(axis=1).tolist(), known, held_out, few).check()


def test_a_fall_may_be_as_deep_as_welfare_may_be_low() -> None:
    """Where 0 is no bound a mean below it has room below itself, too, and none above."""
    rng = np.random.default_rng(0)
    known, nudged = rng.normal(-30.0, 0.2, size=(2, 3, 20))
    held_out = rng.normal(-30.0, 0.2, size=(3, 51))
    least, _ = welfare_range(get_task("Glucose-n100-k3-v0"))
    claimed = nudged.copy()
    claimed[1, 7] = -300.0
    claims = claimed.mean(axis=1).tolist()
    compare(claims, known, held_out, nudged, least=least).check()
    with pytest.raises(ValueError, match="on the same episodes"):  # one episode may have lost 20
        compare(claims, known, held_out, nudged, least=-50.0).check()
    with pytest.raises(ValueError, match="on the same episodes"):
        compare(claims, known, held_out, known, least=least).check()  # rounding does nothing
    with pytest.raises(ValueError, match="returns of the agents are not those"):
        compare(claims, known, held_out, nudged, [(6.0, 5.0)] * 3, least=least).check()
    claimed[1] = nudged[1] + 270.0 / 20
    with pytest.raises(ValueError, match="on the same episodes"):
        compare(claimed.mean(axis=1).tolist(), known, held_out, nudged, least=least).check()


@pytest.mark.parametrize(
    ("task_id", "least"),
    [
        ("HopperVel-n100-k2-v0", 0.0),
        ("Glucose-n100-k3-v0", -1e6),
        ("CartPoleHet-n500-pure-v1", -1e6),
    ],
)
def test_the_full_check_compares_down_to_the_least_welfare_of_the_task(
    task_id: str, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is that of the quick check."""
    task = get_task(task_id)
    assert welfare_range(task)[0] == least
    seen: list[float] = []
    part = EpisodeReturns(np.zeros(20), np.zeros(task.n_agents * task.n_representatives))
    groups = {"known": part, "held_out": part}
    monkeypatch.setattr(full, "play_in_sandbox", lambda *_, **__: (groups, part.entries))
    monkeypatch.setattr(full, "compare", lambda *_, **options: seen.append(options["least"]))
    record = SimpleNamespace(
        seed=0,
        social_welfare=0.0,
        agent_returns=part.entries.tolist(),
        evaluation=SimpleNamespace(seed=2**31, n_episodes=20),
    )
    row = SimpleNamespace(task=task.id, solver="em")
    checked = SimpleNamespace(folder=Path("x"), records={(task.id, "em"): [record]})
    played = (checked, row, draw_held_out(600.0), Limits(), Budget(), lambda line: None)
    full._play(*played)  # type: ignore[arg-type]
    assert seen == [least]


def test_policies_tuned_to_known_episodes_are_refused() -> None:
    for seed in range(5):
        with pytest.raises(ValueError, match="on held-out episodes"):
            simulated(seed, spread=1.0, tuned=3.0).check()


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_spreading_the_own_results_does_not_buy_a_tick(n_seeds: int) -> None:
    """100 on all known episodes, and 100 or nothing, 50 in the mean, on all others."""
    rng = np.random.default_rng(0)
    held_out = 100.0 * rng.integers(2, size=(n_seeds, 2000)).astype(np.float64)
    known = np.full((n_seeds, N_KNOWN), 100.0)
    comparison = compare([100.0] * n_seeds, known, held_out)
    assert comparison.lower_end_only is (n_seeds == 1)
    with pytest.raises(ValueError, match="but its policies reach .* on held-out episodes"):
        comparison.check()


def test_a_policy_that_rounding_changes_much_does_not_cover_another() -> None:
    """Agent by agent, two policies: the second is chaos, the first is claimed too high."""
    replayed = np.zeros((10, 2))
    nudged, claimed = replayed + [0.0, 10.0], replayed + [1.0, 0.0]
    flat = claimed.ravel(), replayed.ravel(), nudged.reshape(1, -1)
    distance, allowed = compare_profiles(*flat)
    assert distance < allowed
    distance, allowed = compare_profiles(*flat, 2)
    assert distance == 1.0 and allowed < 0.1


def test_other_returns_with_the_same_welfare_are_refused() -> None:
    entries = np.random.default_rng(0).uniform(10, 60, size=12)
    same = np.full((1, N_KNOWN), entries.mean())

    def compared(claimed: Any, nudged: Any) -> Comparison:
        profile = compare_profiles(claimed, entries, nudged)
        return compare([claimed.mean()], same, same, None, [profile])

    compared(entries, None).check()
    compared(entries + np.tile([0.3, -0.3], 6), entries - 0.3).check()  # as far as rounding does
    for nudged in (None, entries, entries + 100.0):  # nor does it pay to let rounding do much
        with pytest.raises(ValueError, match="not those of these policies"):
            compared(np.roll(entries, 1), nudged).check()


def test_the_interval_holds_the_mean_and_episodes_are_as_many_as_it_takes() -> None:
    inside = 0
    rng = np.random.default_rng(0)
    for _ in range(200):
        played = play_in_rounds(
            lambda _, n: rng.normal(20.0, 4.0, size=(1, n)), 40, 2000, 1.0, lambda: 0.0
        )
        comparison = compare([20.0], played[:, :20], played)
        low, high = comparison.interval
        inside += low <= 20.0 <= high
        assert comparison.half_width <= GOOD_HALF_WIDTH
        assert 150 <= comparison.n_episodes <= 500
    assert inside >= 180


@pytest.mark.parametrize(
    ("spread", "limit", "wanted"),
    [(0.0, 2000, 40), (1.0, 2000, 40), (25.0, 2000, FAIR_HALF_WIDTH), (25.0, 400, None)],
)
def test_how_many_episodes_are_wanted(spread: float, limit: int, wanted: float | None) -> None:
    episodes = spread * np.random.default_rng(0).permutation(np.tile([-1.0, 1.0], 20))
    n = episodes_wanted(episodes, limit)
    if wanted == 40:
        assert n == 40
    elif wanted is None:
        assert n == limit
    else:
        assert 40 < n < limit
        assert half_width(np.resize(episodes, n)) <= wanted


def test_rounds_end_at_the_limit_of_episodes_and_of_processor_time() -> None:
    rng, spent = np.random.default_rng(0), [0.0]

    def play(start: int, number: int) -> Any:
        spent[0] += number
        return 40.0 * rng.normal(size=(2, number))

    assert play_in_rounds(play, 40, 300, 1e9, lambda: spent[0]).shape == (2, 300)
    spent[0] = 0.0
    assert play_in_rounds(play, 40, 2000, 100.0, lambda: spent[0]).shape == (2, 100)
    spent[0] = 0.0
    assert play_in_rounds(play, 40, 2000, 1.0, lambda: spent[0]).shape == (2, 40)


def test_held_out_episodes_are_drawn_anew() -> None:
    drawn = [draw_held_out() for _ in range(50)]
    assert len({held_out.seed for held_out in drawn}) == 50
    assert len({held_out.n_first for held_out in drawn}) > 5
    for held_out in drawn:
        assert FIRST_HELD_OUT_SEED <= held_out.seed < held_out.seed + MAX_EPISODES < 2**62
        assert 40 <= held_out.n_first <= 60


@pytest.fixture(scope="module")
def hopper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved solution of robots that fall sooner or later."""
    rng = np.random.default_rng(0)
    policies = [LinearPolicy(0.5 * rng.normal(size=(11, 3))) for _ in range(2)]
    matrix = evaluate(HOPPER, Solution(policies, np.eye(2)[np.arange(100) % 2]), n_episodes=2)
    folder = tmp_path_factory.mktemp("hopper")
    saved = Solution(policies, greedy_assignment(matrix.welfare_matrix))
    save_solution(saved, folder / "solution")
    return pack_solution(folder / "solution", folder / "row")


def test_sandbox_gives_welfare_and_entries_that_agree(hopper: Path) -> None:
    episodes = {"known": (2**31, 20), "held_out": (2**40, 30), "nudged": (2**31, 20)}
    played, _ = play_in_sandbox(hopper, 0, HOPPER, episodes, Limits(), Budget(), ["nudged"])
    assignment = RowFiles(hopper).array(0, "assignment", (100, 2))
    for name, (_, number) in episodes.items():
        assert played[name].welfare.shape == (number,)
        matrix = played[name].entries.reshape(100, 2)
        welfare = social_welfare(agent_returns(matrix, assignment))
        assert welfare == pytest.approx(played[name].welfare.mean())
    assert not np.array_equal(played["known"].entries, played["nudged"].entries)


def test_sandbox_hands_on_no_secret(hopper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    class Recorder(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            given.update(keywords)
            super().__init__(["false"], **keywords)

    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setattr(subprocess, "Popen", Recorder)
    with pytest.raises(ValueError, match="crashes the process"):
        play_in_sandbox(hopper, 0, HOPPER, {"few": (2**31, 3)}, Limits(), Budget())
    assert "SECRET_TOKEN" not in given["env"]
    assert given["start_new_session"]
    assert not Path(given["cwd"]).exists()  # an empty folder that has gone
