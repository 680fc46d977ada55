"""Policies that act alike: as two seeds of a row, or as somebody else's work.

Equal files are found by their hashes (`quick`).  Another text in a graph, its nodes in another
order or another exporter give other files and the same policies.  So all policies for a task, of
the submission and of those beside it, are asked about the same observations, which are drawn anew
each time: nobody can make a policy that is different on these only.

    compare_behaviour   is what the verifier calls
    main                is the process: `python -m rmdp_bench.submission.behaviour`
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rmdp_bench.envs import get_environment
from rmdp_bench.envs.mo_worlds import find_mo_world
from rmdp_bench.runs.solver_loading import CONTROLS
from rmdp_bench.solution import Policy
from rmdp_bench.solution.storage import parse_solution
from rmdp_bench.submission.bounded import read_bytes
from rmdp_bench.submission.marks import confusable
from rmdp_bench.submission.quick import Checked
from rmdp_bench.submission.rows import MAX_RECORDS_BYTES, RECORDS_FILE, RowFiles
from rmdp_bench.submission.sandbox.budget import Budget
from rmdp_bench.submission.sandbox.children import Limits, printable, run_in_sandbox
from rmdp_bench.submission.sandbox.confinement import answer_job
from rmdp_bench.submission.schema import SUBMISSION_FILE, read_submission
from rmdp_bench.submission.scores import assignment_shape
from rmdp_bench.tasks import Task, get_task

N_ENVS = 32
N_STEPS = {True: 32, False: 8}
"""Whether actions are discrete -> steps of uniform actions in each environment, after each of which
the policies are asked; a number says more than a choice."""
N_STEPS_OF_DAYS = 144
"""The same of worlds that only show in the course of an episode what policies are for: a patient's
meals, which are announced in one step of a hundred.  The steps are spread over the episode, and
each patient's doses are uniform up to a share of the greatest, so that some have too little and
others too much."""
TOLERANCE = {True: 0.002, False: 0.01}
"""Whether actions are discrete -> share of observations with another choice, or mean distance of
the number that differs most, up to which two policies are one.  Of the board's rows, where solvers
do not share an optimum, the closest of different runs differ by 0.012 (CartPole) and 0.12
(Hopper)."""
NAMED_SHARE = 0.5
"""Of the policies of a seed that another one has, from which on it is named."""
MAX_ANSWER_BYTES = 16 * 2**20
_STEPS_PER_SEED = 2000
"""Of play, which loading and asking the policies of one seed may take at most."""


@dataclass(frozen=True)
class Equality:
    """Two seeds whose policies act alike.

    Attributes:
        seed: SUBMISSION/TASK/SOLVER/seed-S, of the submission that is checked.
        other: the same of another seed, of any submission.
        share: of the policies that are in use, which the other has too.
        is_refused: whether this cannot be chance: all policies, of two seeds of a row or of two
            groups of authors, on a task where solvers do not meet in one optimum.
    """

    seed: str
    other: str
    share: float
    is_refused: bool

    def __str__(self) -> str:
        """A sentence."""
        how = "all policies act" if self.share == 1.0 else f"{self.share:.0%} of the policies act"
        return f"{how} alike: {self.seed} and {self.other}"


def compare_behaviour(checked: Checked, limits: Limits, budget: Budget) -> list[str]:
    """Ask all policies of a submission, and of those beside it for the same tasks, the same.

    Args:
        checked: from `check_submission`.
        limits: of a process that plays one seed; this one may take a share of it for each.
        budget: of the submission.

    Returns:
        A sentence for each two rows with seeds that act alike, and for each submission that could
        not be asked: they are for the reviewer.

    Raises:
        ValueError: two seeds of a row, or seeds of different authors, have the same policies; or a
            policy of the submission fails.
    """
    tasks = sorted({row.task for row in checked.submission.rows})
    own = checked.folder.resolve()
    others = [
        path
        for path in sorted(own.parent.iterdir())
        if path != own and not path.is_symlink() and (path / SUBMISSION_FILE).is_file()
    ]
    parts = {
        path: [
            folder  # not a link: what the process may read is what stands there
            for task in tasks
            if (folder := path / task).is_dir() and not folder.is_symlink()
        ]
        for path in others
    }
    parts = {path: folders for path, folders in parts.items() if folders}
    n_seeds = sum(_count_seeds(path, tasks) for path in (own, *parts))
    readable = [path / SUBMISSION_FILE for path in parts] + list(itertools.chain(*parts.values()))
    answer = run_in_sandbox(
        "behaviour",
        {
            "directory": str(own),
            "others": [str(path) for path in parts],
            "tasks": tasks,
            "entropy": secrets.randbits(31),
        },
        readable=[checked.folder, *readable],
        budget=budget,
        cpu_seconds=limits.cpu_seconds(n_seeds * _STEPS_PER_SEED),
        max_bytes=MAX_ANSWER_BYTES,
    )
    try:
        document = json.loads(answer)
        found = [Equality(**equality) for equality in document["equal"]]
        failed = {str(name): str(reason) for name, reason in document["failed"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # Only if the process is not itself any more.
        raise ValueError(f"{own}: the process that asks the policies is damaged") from error
    for equality in found:
        if equality.is_refused:
            reason = f"{checked.folder}: {equality}; they are one work, submit it once"
            raise ValueError(printable(reason))
    rows: dict[tuple[str, str], list[Equality]] = {}
    for equality in sorted(found, key=lambda equality: -equality.share):
        key = equality.seed.rpartition("/")[0], equality.other.rpartition("/")[0]
        rows.setdefault(key, []).append(equality)
    alike = []
    for first, *more in rows.values():
        rest = f" (and {len(more)} more pairs of seeds of these rows)" if more else ""
        alike.append(printable(f"{first}{rest}"))
    return alike + [
        printable(f"could not be compared with {name}: {reason}") for name, reason in failed.items()
    ]


def _count_seeds(folder: Path, tasks: Sequence[str]) -> int:
    """Seeds of a submission for some tasks, about: what strangers wrote is counted, not parsed."""
    count = 0
    for task in tasks:
        for path in folder.glob(f"{task}/*/{RECORDS_FILE}"):
            with contextlib.suppress(ValueError):  # a broken one is named when it is asked
                count += read_bytes(path, MAX_RECORDS_BYTES).count(b'"record"')
    return count


def compare_job(job: Mapping[str, Any]) -> bytes:
    """Compare what a job names, in this process.

    Args:
        job: directory and others, absolute, the names of the tasks, and the seed of the
            observations (entropy).

    Returns:
        JSON: "equal", the fields of each `Equality`, and "failed", name of another submission ->
        why it could not be asked.

    Raises:
        ValueError: a policy of the submission fails.
    """
    import onnxruntime  # not for the verifier, which only asks

    onnxruntime.set_default_logger_severity(4)
    own, failed = Path(job["directory"]), {}
    folders = [own, *map(Path, job["others"])]
    authors: dict[str, frozenset[str]] = {}
    equal: list[dict[str, Any]] = []
    for name in job["tasks"]:
        task = get_task(name)
        observations = draw_observations(task, job["entropy"])
        seeds: dict[str, NDArray[Any]] = {}
        for folder in folders:
            try:
                submission = read_submission(folder)
                authors[folder.name] = frozenset(map(confusable, submission.authors))
                seeds |= _ask_all(folder, task, observations)
            except Exception as error:
                if folder == own:
                    raise
                failed[folder.name] = str(error)
        equal += _compare_all(own.name, task, seeds, authors)
    return json.dumps({"equal": equal, "failed": failed}).encode()


def draw_observations(task: Task, seed: int) -> list[NDArray[Any]]:
    """Observations (N_ENVS, d) of some steps of some episodes with uniform actions."""
    envs = gym.make_vec(task.env_id, num_envs=N_ENVS, **task.env_kwargs)
    n_drawn, n_between, shares = N_STEPS[_is_discrete(envs)], 1, None
    if find_mo_world(task.env_id) is None and get_environment(task.env_id).hidden_reward:
        n_drawn, n_between = N_STEPS_OF_DAYS, task.max_episode_steps // N_STEPS_OF_DAYS
        shares = 10.0 ** np.random.default_rng(seed).uniform(-3.0, 0.0, (N_ENVS, 1))
    try:
        observations, _ = envs.reset(seed=seed)
        envs.action_space.seed(seed)
        drawn = [np.array(observations)]
        while len(drawn) < n_drawn:
            for _ in range(n_between):
                actions = envs.action_space.sample()
                actions = actions if shares is None else (shares * actions).astype(actions.dtype)
                observations = envs.step(actions)[0]
            drawn.append(np.array(observations))
    finally:
        envs.close()
    return drawn


def _is_discrete(envs: gym.vector.VectorEnv[Any, Any, Any]) -> bool:
    return isinstance(envs.single_action_space, gym.spaces.Discrete)


def _ask_all(folder: Path, task: Task, observations: Sequence[NDArray[Any]]) -> dict[str, Any]:
    """NAME/TASK/SOLVER/seed-S -> actions (policies in use, observations, ...) of each seed."""
    asked = {}
    for path in sorted(folder.glob(f"{task.id}/*/{RECORDS_FILE}")):
        row = RowFiles(path.parent)
        for seed in range(len(row.seeds)):
            if not row.policy_names(seed):
                continue
            where = row.where(seed)
            solution = parse_solution(row.solution(seed), where, assignment_shape(task))
            used = np.flatnonzero(solution.assignment.max(axis=0) > 0.0).tolist()
            try:
                actions = [_ask(solution.policies[j], f"policy {j}", observations) for j in used]
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            asked[where.removeprefix(f"{folder.parent}/")] = np.stack(actions)
    return asked


def _ask(policy: Policy, name: str, observations: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Actions (observations, ...) of a policy, asked in batches of a size that it may expect."""
    policy.reset(N_ENVS)
    parts = []
    for batch in observations:
        try:
            actions = np.asarray(policy.act(batch))
        except Exception as error:
            raise ValueError(f"{name} fails in act(): {error}") from error
        if actions.shape[:1] != batch.shape[:1]:
            raise ValueError(
                f"{name} gives actions of shape {actions.shape} for {len(batch)} observations"
            )
        parts.append(actions)
    return np.concatenate(parts)


def _compare_all(
    own: str,
    task: Task,
    seeds: Mapping[str, NDArray[Any]],
    authors: Mapping[str, frozenset[str]],
) -> list[dict[str, Any]]:
    """The fields of each `Equality` of the submission `own`."""
    found = []
    for one, other in itertools.combinations(seeds, 2):  # those of the submission stand first
        if one.split("/")[0] != own:
            break
        share = equal_share(seeds[one], seeds[other])
        if share < NAMED_SHARE:
            continue
        row, submission = other.rpartition("/")[0], other.split("/")[0]
        is_row = one.rpartition("/")[0] == row
        is_foreign = authors[own] != authors[submission]
        is_own_control = is_row and row.rpartition("/")[2] in CONTROLS
        may_meet = task.common_optimum or is_own_control
        is_refused = share == 1.0 and not may_meet and (is_row or is_foreign)
        found.append({"seed": one, "other": other, "share": share, "is_refused": is_refused})
    return found


def equal_share(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Share of policies that act like one of the other's, the greater of both directions.

    Which agents a policy serves, and its number, mean nothing.

    Args:
        one: actions (m, N, ...) of m policies for N observations.
        other: the same of other policies, for the same observations.
    """
    if one.shape[1:] != other.shape[1:]:
        return 0.0
    discrete = one.dtype.kind in "iu"
    equal = np.zeros((len(one), len(other)), dtype=bool)
    for j, actions in enumerate(one):
        apart = other != actions if discrete else np.abs(other - actions)
        apart = apart.reshape(*apart.shape[:2], -1).mean(axis=1)  # of each number of an action
        equal[j] = apart.max(axis=1) <= TOLERANCE[discrete]
    return float(max(equal.any(axis=1).mean(), equal.any(axis=0).mean()))


if __name__ == "__main__":
    answer_job(compare_job)
