"""Claims against played episodes: what is refused, what passes, and the sandbox that plays."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmdp_bench.evaluation import evaluate
from rmdp_bench.scoring import agent_returns, greedy_assignment, social_welfare
from rmdp_bench.solution import Solution, save_solution
from rmdp_bench.submission.comparison import MAX_REPLAY_DISTANCE, Comparison, compare
from rmdp_bench.submission.player import play_job
from rmdp_bench.submission.rounds import held_out_seed
from rmdp_bench.submission.sandbox import Limits, play_in_sandbox
from rmdp_bench.tasks import get_task
from tests.toys import LinearPolicy

HOPPER = get_task("HopperVel-n100-k2-v0")
N_KNOWN, N_HELD_OUT = 20, 40


def simulated(
    seed: int, spread: float, raised: float = 0.0, tuned: float = 0.0, collapse: float = 0.0
) -> Comparison:
    """A claim on simulated episodes of 12 entries.

    `raised`: added to the claim; `tuned`: to the known episodes themselves; `collapse`: the chance
    that an episode is worth nothing.
    """
    rng = np.random.default_rng(seed)
    weights = np.full(12, 1 / 12)
    level = rng.uniform(10, 60, size=12)
    common = rng.normal(scale=spread, size=(N_KNOWN + N_HELD_OUT, 1))
    episodes = (level + common) * (rng.random(common.shape) >= collapse)
    known, held_out = episodes[:N_KNOWN] + tuned, episodes[N_KNOWN:]
    entries = known.mean(axis=0) + raised
    return compare(float(entries @ weights), entries, weights, known, held_out)


@pytest.mark.parametrize(("spread", "collapse"), [(0.0, 0.0), (1.0, 0.0), (5.0, 0.0), (1.0, 0.03)])
def test_honest_claims_pass(spread: float, collapse: float) -> None:
    for seed in range(100):
        simulated(seed, spread, collapse=collapse).check()


@pytest.mark.parametrize(("spread", "collapse"), [(0.0, 0.0), (1.0, 0.0), (5.0, 0.0), (1.0, 0.03)])
@pytest.mark.parametrize("raised", [3.0, -3.0])
def test_raised_claims_are_refused(spread: float, collapse: float, raised: float) -> None:
    assert MAX_REPLAY_DISTANCE < 3.0
    for seed in range(20):
        with pytest.raises(ValueError, match="on the same episodes"):
            simulated(seed, spread, raised, collapse=collapse).check()


def test_policies_tuned_to_known_episodes_are_refused() -> None:
    for seed in range(20):
        with pytest.raises(ValueError, match="on held-out episodes, interval"):
            simulated(seed, spread=1.0, tuned=3.0).check()


def test_other_returns_with_the_same_welfare_are_refused() -> None:
    rng = np.random.default_rng(0)
    weights = np.full(12, 1 / 12)
    episodes = rng.uniform(10, 60, size=12) + rng.normal(size=(60, 1))
    entries = episodes[:20].mean(axis=0)
    welfare = float(entries @ weights)
    compare(welfare, entries, weights, episodes[:20], episodes[20:]).check()
    swapped = np.roll(entries, 1)
    with pytest.raises(ValueError, match="not those of these policies"):
        compare(welfare, swapped, weights, episodes[:20], episodes[20:]).check()


@pytest.fixture(scope="module")
def hoppers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty saved solutions of robots that fall sooner or later."""
    folders = []
    for number in range(20):
        rng = np.random.default_rng(number)
        policies = [LinearPolicy(0.5 * rng.normal(size=(11, 3))) for _ in range(2)]
        matrix = evaluate(HOPPER, Solution(policies, np.eye(2)[np.arange(100) % 2]), n_episodes=2)
        folder = tmp_path_factory.mktemp("hopper")
        save_solution(Solution(policies, greedy_assignment(matrix.welfare_matrix)), folder)
        folders.append(folder)
    return folders


def play_hopper(folder: Path, round_number: int) -> tuple[Any, Any, Any, Any]:
    """Claimed entries, weights, the same episodes again, and held-out ones."""
    secret = f"{round_number:064x}"
    job = {
        "directory": str(folder),
        "task": HOPPER.id,
        "episodes": {"known": [2**31, 20], "held_out": [held_out_seed(secret, HOPPER.id), 40]},
    }
    played = play_job(job)
    weights = np.load(folder / "assignment.npy").ravel() / HOPPER.n_agents
    return played["known"].mean(axis=0), weights, played["known"], played["held_out"]


def test_twenty_of_twenty_honest_robots_pass_and_no_raised_one(hoppers: list[Path]) -> None:
    welfare = []
    for number, folder in enumerate(hoppers):
        entries, weights, known, held_out = play_hopper(folder, number)
        claimed = float(entries @ weights)
        welfare.append(claimed)
        compare(claimed, entries, weights, known, held_out).check()
        with pytest.raises(ValueError, match="claimed is"):
            compare(claimed + 3.0, entries + 3.0, weights, known, held_out).check()
    assert np.std(welfare) > 0.0


def test_sandbox_plays_what_is_played_here(hoppers: list[Path]) -> None:
    played = play_in_sandbox(hoppers[0], HOPPER, {"few": (2**31, 3)}, Limits())
    here = play_job(
        {"directory": str(hoppers[0]), "task": HOPPER.id, "episodes": {"few": [2**31, 3]}}
    )
    np.testing.assert_array_equal(played["few"], here["few"])
    assignment = np.load(hoppers[0] / "assignment.npy")
    matrix = played["few"].mean(axis=0).reshape(100, 2)
    welfare = social_welfare(agent_returns(matrix, assignment))
    assert welfare == pytest.approx(matrix.ravel() @ assignment.ravel() / 100)


def test_sandbox_hands_on_no_secret(hoppers: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    class Recorder(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            given.update(keywords)
            super().__init__(["false"], **keywords)

    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setattr(subprocess, "Popen", Recorder)
    with pytest.raises(ValueError, match="crash the process"):
        play_in_sandbox(hoppers[0], HOPPER, {"few": (2**31, 3)}, Limits())
    assert "SECRET_TOKEN" not in given["env"]
    assert given["start_new_session"]
    assert not Path(given["cwd"]).exists()  # an empty folder that has gone
