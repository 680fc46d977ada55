"""Made-up submissions, as many as wanted, for measuring and testing the leaderboard.

They have everything that `leaderboard build` reads, with scores that follow from their arrays; they
have no policies and no manifest, and claim nothing about any solver.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.evaluation import EVALUATION_SEED, Evaluation
from rmdp_bench.evaluation.offline import OfflineEvaluation
from rmdp_bench.evaluation.prediction import N_PREDICTIONS, Prediction
from rmdp_bench.files import write_bytes, write_json, write_text
from rmdp_bench.references import references
from rmdp_bench.runs.running import score_solution
from rmdp_bench.scoring import greedy_assignment
from rmdp_bench.solution import Solution
from rmdp_bench.submission import (
    MARKS_FILE,
    Marks,
    RowMark,
    SeedMark,
    Submission,
    read_submission,
)
from rmdp_bench.submission.comparison import FAIR_HALF_WIDTH
from rmdp_bench.submission.marks import (
    FIRST_HELD_OUT_SEED,
    SubmissionMark,
    submission_sha256,
)
from rmdp_bench.submission.rows import ASSIGNMENT, RowFiles, SeedRecord, row_contents
from rmdp_bench.submission.schema import submission_to_toml
from rmdp_bench.tasks import OfflineTask, OnlineTask, Task, get_task, list_tasks

TASKS = tuple(
    task.id
    for task in list_tasks()
    if task.ceiling is not None or task.env_id in ("rmdp/CartPoleHet-n500-v0",)
)
"""Whose scores can be made up: percent, or with known reference returns."""
METHODS = ("em", "end_to_end", "clustering", "oracle", "universal")
OFFLINE_METHODS = ("persim", "cadm", "bcq", "cql", "behaviour")
N_CURVE_POINTS = 20


class _NoPolicy:
    """Stands where a policy is asked for and only the assignment matters."""

    def reset(self, n_envs: int) -> None:
        raise NotImplementedError

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        raise NotImplementedError


def write_submission(
    folder: Path,
    rows: Sequence[tuple[str, str]],
    seed: int,
    *,
    n_seeds: int = 3,
    changes: dict[str, Any] | None = None,
    record_changes: dict[str, Any] | None = None,
) -> Path:
    """Write one submission.

    Args:
        folder: `submissions/NAME`; it is created.
        rows: (task, solver), each once.
        seed: of all numbers in it.
        n_seeds: of each row.
        changes: other fields of submission.toml.
        record_changes: other fields of every record.

    Returns:
        `folder`.
    """
    rng = np.random.default_rng(seed)
    settings = {"learning_rate": float(rng.choice([1e-4, 3e-4, 1e-3])), "n_envs": 8}
    fields: dict[str, Any] = {
        "schema_version": 2,
        "name": folder.name,
        "authors": ["nobody"],
        "method": "made up",
        "description": "Made up to measure the leaderboard.",
        "division": "closed",
        "licence": "MIT",
        "n_online_evaluations": int(rng.integers(100)),
        "rows": [
            {"task": task, "solver": solver, "seeds": list(range(n_seeds)), "settings": settings}
            for task, solver in rows
        ],
    }
    folder.mkdir(parents=True)
    submission = Submission.model_validate(fields | (changes or {}))
    write_text(folder / "submission.toml", submission_to_toml(submission))
    for task_id, solver in rows:
        task, skill = get_task(task_id), float(rng.uniform(0.2, 0.95))
        seeds, arrays = [], {}
        for number in range(n_seeds):
            record, curve = _base_record(rng, task, solver, number, settings), None
            if isinstance(task, OnlineTask):
                scores, curve, assignment = _make_online(rng, task, skill)
                arrays[f"seed-{number}/{ASSIGNMENT}.npy"] = assignment
            else:
                scores = _make_offline(rng, task, skill)
            document = record | scores | (record_changes or {})
            seeds.append(SeedRecord(record=document, curve=curve))
        target = folder / task_id / solver
        target.mkdir(parents=True)
        for name, data in row_contents(seeds, arrays, {}).items():
            write_bytes(target / name, data)
    return folder


def _base_record(
    rng: np.random.Generator, task: Task, solver: str, seed: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """What does not depend on the track."""
    seconds = float(rng.uniform(600, 6000))
    return {
        "schema_version": 1,
        "task": task.id,
        "solver": solver,
        "solver_sha256": None,
        "config": settings,
        "seed": seed,
        "device": "cuda" if solver == "oracle" else "cpu",
        "transitions": task.transitions,
        "transitions_reported": task.transitions,
        "wall_seconds": seconds * 1.1,
        "train_seconds": seconds,
        "seeds_together": 1,
        "peak_memory_mib": float(rng.uniform(500, 2000)),
        "peak_device_memory_mib": None,
        "evaluation": {"n_episodes": task.n_eval_episodes, "seed": EVALUATION_SEED},
        "system": {"cpu": "a made-up processor", "device": "cpu", "device_name": None},
        "versions": {},
        "git_revision": None,
        "welfare_matrix": None,
        "curve": None,
        "solution": None,
    }


def _make_online(
    rng: np.random.Generator, task: OnlineTask, skill: float
) -> tuple[dict[str, Any], list[str], bytes]:
    """Scores, the lines of the curve, and the bytes of the assignment."""
    n, k = task.n_agents, task.n_representatives
    matrix = 100.0 * rng.random((n, k)) ** 2
    assignment = greedy_assignment(matrix)
    reached = (assignment * matrix).sum(axis=1).mean()
    matrix *= min(1.0, (task.ceiling or 50.0) * skill * rng.uniform(0.93, 1.0) / reached)
    lengths = np.full((k, task.n_eval_episodes), task.max_episode_steps)
    evaluation = Evaluation(matrix, matrix[:, :, None], lengths, EVALUATION_SEED)
    scores = score_solution(task, Solution([_NoPolicy()] * k, assignment), evaluation)
    buffer = io.BytesIO()
    np.save(buffer, assignment, allow_pickle=False)
    transitions = np.linspace(task.transitions / N_CURVE_POINTS, task.transitions, N_CURVE_POINTS)
    learned = scores["social_welfare"] * (1.0 - np.exp(-4.0 * transitions / task.transitions))
    lines = ["transitions,wall_seconds,social_welfare,train_social_welfare"]
    lines += [f"{t:.0f},{t / 1e3},{w:.3f}," for t, w in zip(transitions, learned, strict=True)]
    scores |= {"welfare_matrix": "welfare.npz", "solution": "solution", "curve": "curve.csv"}
    return scores, lines, buffer.getvalue()


def _make_offline(rng: np.random.Generator, task: OfflineTask, skill: float) -> dict[str, Any]:
    known = references(task.env_id)

    def play(agents: Sequence[int], share: float, n_episodes: int) -> Any:
        low, high = np.array([known[agent] for agent in agents]).T[:, :, None]
        return low + (high - low) * share * rng.uniform(0.8, 1.1, (len(agents), n_episodes))

    agents, n_episodes = task.eval_agents, task.n_eval_episodes
    returns = play(agents, skill, n_episodes)
    errors = rng.gamma(2.0, 0.1 / skill, (len(agents), N_PREDICTIONS))
    evaluation = OfflineEvaluation(
        returns=returns,
        lengths=np.full(returns.shape, task.max_episode_steps),
        heldout_returns=play(task.heldout_agents, 0.8 * skill, n_episodes // 4),
        prediction=Prediction(errors, 1.0 - errors) if skill > 0.5 else None,
        factor_correlation={"force": skill, "half_length": skill**2} if skill > 0.7 else None,
        seed=EVALUATION_SEED,
        seconds=60.0 / skill,
    )
    scores = score_solution(task, Solution([_NoPolicy()], np.ones((len(agents), 1))), evaluation)
    return scores | {"returns": "returns.npz"}


def write_many(root: Path, n_submissions: int, seed: int = 0) -> None:
    """Write submissions of one row each, below `root/submissions`, spread over the tasks.

    Every third is marked.
    """
    marked = []
    for number in range(n_submissions):
        task = TASKS[number % len(TASKS)]
        names = METHODS if isinstance(get_task(task), OnlineTask) else OFFLINE_METHODS
        solver = names[(number // len(TASKS)) % len(names)]
        folder = root / "submissions" / f"made-up-{number:04d}"
        write_submission(folder, [(task, solver)], seed + number)
        if number % 3 == 0:
            marked.append(folder)
    write_marks(marked)


def write_marks(folders: Sequence[Path]) -> None:
    """Write a marks.json beside the folder of submissions, as if these reach what they claim."""
    marks = {}
    for folder in folders:
        submission = read_submission(folder)
        rows = []
        for row in submission.rows:
            seeds = RowFiles(folder / row.task / row.solver).seeds
            scores = [seed.record["social_welfare"] for seed in seeds]
            rows.append(make_mark(row.task, row.solver, scores, scores))
        marks[submission_sha256(folder)] = SubmissionMark(name=folder.name, rows=rows)
    if folders:
        document = Marks(marks=marks).model_dump(mode="json")
        write_json(folders[0].parent.parent / MARKS_FILE, document)


def make_mark(
    task: str,
    solver: str,
    claims: Sequence[float],
    scores: Sequence[float],
    *,
    half_width: float = 0.25,
) -> RowMark:
    """A mark as if these had been claimed and measured, one number for each seed."""
    mean = float(np.mean(scores))
    return RowMark(
        task=task,
        solver=solver,
        kind="verified",
        claimed=float(np.mean(claims)),
        measured=mean,
        interval=(mean - half_width, mean + half_width),
        lower_end_only=half_width > FAIR_HALF_WIDTH,
        allowed=1.0,
        held_out_seed=FIRST_HELD_OUT_SEED + 2**55 + 1,
        n_episodes=50,
        seeds=[
            SeedMark(seed=seed, claimed=claim, replayed=claim, measured=score)
            for seed, (claim, score) in enumerate(zip(claims, scores, strict=True))
        ],
        date="2026-01-31",
        revision=None,
        versions={},
    )
