"""RunLog: what a solver sees of the run it is part of.

The harness makes one and gives it to `solve(task, config, seeds, device, log)`.  A training loop
uses it like this:

    resumed = log.load_checkpoint()
    if resumed is not None:
        arrays, states = resumed            # continue from there
    while transitions < task.transitions:
        ...                                 # collect, update
        log.progress(transitions, {"train_social_welfare": [...]})     # one value per seed
        if log.evaluation_due(transitions):
            log.evaluate(transitions, solutions)                       # one Solution per seed
        if log.checkpoint_due():
            log.save_checkpoint(transitions, arrays, states)
            if log.stop_requested:
                raise Interrupted

If the training also solves the environment's tasks with other budgets, `log.add_solutions` takes
their solutions. A solver may use none of it; then there is no curve, and an interrupted run starts
again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.envs.core.counting import steps_made
from rmdp_bench.evaluation import evaluate_all
from rmdp_bench.runs.checkpoints import CHECKPOINT_SECONDS, Checkpoints, stack_arrays
from rmdp_bench.runs.clock import Clock
from rmdp_bench.runs.curve import CURVE_EPISODES, CURVE_SEED, Curve, Row, count_points
from rmdp_bench.runs.display import Display, NoDisplay
from rmdp_bench.runs.tensorboard import ScalarWriter
from rmdp_bench.runs.wandb import WandbWriter
from rmdp_bench.scoring import agent_returns, social_welfare
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OfflineTask, Task, get_task

TRACKERS = {"wandb": WandbWriter}
"""What `run --track` knows."""


class Interrupted(BaseException):
    """A solver raises it after it saved a checkpoint because a stop was requested.

    Not an Exception: what takes those for failures, of a policy or a model, lets it pass.
    """


@dataclass(frozen=True)
class OtherTask:
    """What a run gives for another task than its own.

    Attributes:
        task: it, with the transitions and evaluation episodes of the run's own.
        solutions: one for each seed.
        transitions: per policy, that these policies took.
    """

    task: Task
    solutions: Sequence[Solution]
    transitions: int


class RunLog:
    """Curve, progress and checkpoints of one group of seeds that train together."""

    def __init__(
        self,
        task: Task,
        seeds: Sequence[int],
        directories: Sequence[Path] | None = None,
        *,
        resume_at: int | None = None,
        display: Display | None = None,
        tensorboard: bool = False,
        track: str | None = None,
        stop: threading.Event | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        """Begin to log; the clocks start.

        Args:
            task: its `transitions` are the budget per policy.
            seeds: R of them.
            directories: the R seed directories; None: nothing is written.
            resume_at: number of the checkpoint that all seeds have; None: from the start.
            display: where progress is shown; None: nowhere.
            tensorboard: whether scalars are also written for TensorBoard.
            track: a tracker of `TRACKERS` that gets the scalars too; None: none.
            stop: set from outside to ask the solver to stop.
            checkpoint_seconds: time between checkpoints.
        """
        self.task = task
        self.seeds = tuple(seeds)
        self.transitions = 0
        """Transitions per policy that the solver has reported."""
        self._total = task.transitions
        self._unit = "updates" if isinstance(task, OfflineTask) else "transitions per policy"
        self.restoring: Path | None = None
        """A checkpoint that was loaded, until training has gone on from it."""
        self._counted_before: int | None = 0
        self._count_started = steps_made()
        self.others: list[OtherTask] = []
        """Solutions of other tasks that the solver has handed in."""
        folders = tuple(directories or ())
        self._curve = Curve(len(self.seeds), [folder / "curve.csv" for folder in folders])
        self._has_curve = False
        self._clock = Clock(len(self.seeds))
        self._checkpoints = Checkpoints(folders, resume_at, checkpoint_seconds)
        self._display = display or NoDisplay()
        self._set_total(self._total)
        self._stop = stop or threading.Event()
        self._train_welfare: list[float | None] = [None] * len(self.seeds)
        self._loss: float | None = None
        self._is_scoring = False
        self._writers: list[ScalarWriter | WandbWriter] = []
        if tensorboard:
            self._writers += [ScalarWriter(folder / "tensorboard") for folder in folders]
        if track is not None:
            self._writers += [TRACKERS[track](folder) for folder in folders]

    @property
    def curves(self) -> list[list[Row]]:
        """Points of each seed's learning curve."""
        return self._curve.rows

    @property
    def stop_requested(self) -> bool:
        """Whether the solver should save a checkpoint and raise `Interrupted`."""
        return self._stop.is_set()

    @property
    def reached(self) -> str:
        """How far training is, in words."""
        of_total = f" of {self._total:,}" if self._total else ""
        return f"{self.transitions:,}{of_total} {self._unit}"

    @property
    def steps_counted(self) -> int | None:
        """Environment steps of all policies and seeds so far, over all sessions of the run.

        Those of the curve's points are left out. None: the checkpoint that the run goes on from
        does not say how many there were before it.
        """
        here = steps_made() - self._count_started
        return None if self._counted_before is None else self._counted_before + here

    @property
    def wall_seconds(self) -> list[float]:
        """Time of each seed's run so far, over all its sessions."""
        return self._clock.wall_seconds

    @property
    def train_seconds(self) -> list[float]:
        """The same without evaluation and without the start-up before `load_checkpoint`."""
        return self._clock.train_seconds

    def evaluation_due(self, transitions: int) -> bool:
        """Whether another of the curve's evenly spaced points is reached.

        They are spread over the task's transitions, or those that the solver means to use: 20, or
        fewer where a budget is so short that they would take more than a tenth of its steps. The
        end of training is a point in any case, if this was ever asked. An offline task has no
        curve.
        """
        if isinstance(self.task, OfflineTask):
            return False
        self._has_curve = True
        n_points = count_points(self.task, self._total)
        return self._curve.is_due(transitions, self._total, n_points)

    def evaluate(self, transitions: int, solutions: Sequence[Solution]) -> None:
        """Add a point to the curve of every seed, from a few deterministic episodes.

        Args:
            transitions: per policy, so far.
            solutions: one per seed, with the policies as they are now.

        Raises:
            ValueError: a solution does not fit the task, a policy fails, or the task is offline:
                there, whoever watches returns during training has tried them in the environment.
        """
        if isinstance(self.task, OfflineTask):
            raise ValueError(f"{self.task.id} is an offline task: it has no learning curve")
        self._check_one_per_seed(solutions, "solutions")
        wall = self.wall_seconds
        with self._clock.pause():
            evaluations = evaluate_all(
                self.task, solutions, n_episodes=CURVE_EPISODES, seed=CURVE_SEED, is_counted=False
            )
            returns = [
                agent_returns(evaluation.welfare_matrix, solution.assignment)
                for solution, evaluation in zip(solutions, evaluations, strict=True)
            ]
            welfare = [float(social_welfare(own)) for own in returns]
            reached = [transitions] * len(self.seeds)
            self._curve.add(list(zip(reached, wall, welfare, self._train_welfare, strict=True)))
            self._write_scalars(transitions, {"eval/social_welfare": welfare})
            self._report(transitions)

    def progress(
        self,
        transitions: int,
        scalars: Mapping[str, Sequence[float]] | None = None,
        *,
        total: int | None = None,
    ) -> None:
        """Tell how far training is.

        Args:
            transitions: per policy, so far; offline gradient steps.
            scalars: name -> one value per seed. "train_social_welfare" (percent) is shown and kept
                in the next row of the curve; "loss" is shown. None: nothing but the progress.
            total: gradient steps in all, offline; online the transitions per policy that the solver
                means to use. None: the task's transitions.

        Raises:
            ValueError: not one value per seed.
        """
        scalars = scalars or {}
        for name, values in scalars.items():
            self._check_one_per_seed(values, f"values of {name!r}")
        self.restoring = None
        if total is not None:
            self._set_total(total)
        if "loss" in scalars:
            self._loss = float(np.mean(scalars["loss"]))
        if "train_social_welfare" in scalars:
            self._train_welfare = [float(value) for value in scalars["train_social_welfare"]]
        self._write_scalars(transitions, {f"train/{name}": v for name, v in scalars.items()})
        self._report(transitions)

    def _set_total(self, total: int) -> None:
        self._total = total
        self._display.set_total(total or None, self._unit)

    def checkpoint_due(self) -> bool:
        """Whether to save a checkpoint: every few minutes, and when a stop is requested."""
        return self.stop_requested or self._checkpoints.is_due()

    def save_checkpoint(
        self,
        transitions: int,
        arrays: Mapping[str, NDArray[Any]],
        states: Sequence[Mapping[str, Any]],
    ) -> None:
        """Save all that training continues from; atomic for each seed.

        Args:
            transitions: per policy, so far.
            arrays: name -> array with the seeds as leading axis.
            states: one per seed, anything that JSON holds (integers of any size).

        Raises:
            ValueError: arrays or states of another form.
        """
        self._check_one_per_seed(states, "states")
        self.restoring = None
        reached = self.get_state(transitions)
        self._checkpoints.save(
            arrays,
            [
                {"solver": _checked_json(state)} | own
                for state, own in zip(states, reached, strict=True)
            ],
        )
        self.transitions = max(self.transitions, transitions)

    def get_state(self, transitions: int) -> list[dict[str, Any]]:
        """What the log knows of each seed, for `set_state`; `transitions` per policy, so far."""
        counted, n_seeds = self.steps_counted, len(self.seeds)
        wall, train = self.wall_seconds, self.train_seconds
        return [
            {
                "transitions": transitions,
                "total": self._total,
                "steps_counted": None if counted is None else _share(counted, r, n_seeds),
                "curve": self.curves[r],
                "has_curve": self._has_curve,
                "train_social_welfare": self._train_welfare[r],
                "wall_seconds": wall[r],
                "train_seconds": train[r],
            }
            for r in range(n_seeds)
        ]

    def set_state(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Go on from `get_state`, one of each seed; curves lose the rows that came after it."""
        self.transitions = int(states[0]["transitions"])
        self._set_total(int(states[0].get("total", self._total)))
        counted: list[Any] = [state.get("steps_counted") for state in states]
        self._counted_before = None if None in counted else sum(counted)
        self._train_welfare = [state["train_social_welfare"] for state in states]
        self._clock.set_before(
            [state["wall_seconds"] for state in states],
            [state["train_seconds"] for state in states],
        )
        for writer in self._writers:
            writer.restart(self.transitions)
        self._curve.set_rows([state["curve"] for state in states])
        self._has_curve = bool(states[0].get("has_curve", False))
        self._report(self.transitions)

    def load_checkpoint(self) -> tuple[dict[str, NDArray[Any]], list[dict[str, Any]]] | None:
        """What `save_checkpoint` was given, if there is one for all seeds; else None.

        Call it when all is set up: the clock of training starts here.

        Raises:
            ValueError: the checkpoint is damaged.
        """
        if self.transitions == 0:
            self._clock.start_training()
        saved = self._checkpoints.load()
        if saved is None:
            return None
        self.restoring = self._checkpoints.source
        self.set_state([checkpoint.state for checkpoint in saved])
        return stack_arrays(saved), [checkpoint.state["solver"] for checkpoint in saved]

    def add_solutions(self, task_id: str, solutions: Sequence[Solution], transitions: int) -> None:
        """Hand in solutions of another task, which the same training gives.

        They are scored and recorded in that task's run directories, if nothing else is there.

        Args:
            task_id: another budget of this run's environment.
            solutions: one per seed, as `solve` returns them.
            transitions: per policy of that task, of all that these policies took.

        Raises:
            ValueError: not one per seed, the environment is another, or the task has a solution.
        """
        self._check_one_per_seed(solutions, f"solutions of {task_id}")
        alike = {name: getattr(self.task, name) for name in ("transitions", "n_eval_episodes")}
        task = replace(get_task(task_id), **alike)
        if task.env_id != self.task.env_id or task.track != self.task.track:
            raise ValueError(f"{task_id} is of another environment than {self.task.id}")
        if task_id in {self.task.id, *(other.task.id for other in self.others)}:
            raise ValueError(f"{task_id} has a solution from this run already")
        self.others.append(OtherTask(task, tuple(solutions), transitions))

    def begin_scoring(self) -> None:
        """Say from now on that the policies are scored; the harness calls it."""
        self._is_scoring = True
        self._display.begin_scoring()
        self._report(self.transitions)

    def complete_curve(self, solutions: Sequence[Solution]) -> None:
        """End a curve, if there is one, with the final solutions; the harness calls it."""
        has_curve = self._has_curve or self._curve.reached > 0
        if has_curve and self._curve.reached < self.transitions:
            self.evaluate(self.transitions, solutions)

    def close(self) -> None:
        """Close what is open."""
        for writer in self._writers:
            writer.close()

    def _report(self, transitions: int) -> None:
        self.transitions = max(self.transitions, transitions)
        evaluated = self._curve.latest("social_welfare")
        parts = ["scoring policies"] if self._is_scoring else []
        parts += [
            f"{name} {sum(known) / len(known):.1f} %"
            for name, values in (("welfare", evaluated), ("training", self._train_welfare))
            if (known := [value for value in values if value is not None])
        ]
        if self._loss is not None:
            parts.append(f"loss {self._loss:.3g}")
        self._display.update(transitions, ", ".join(parts))

    def _write_scalars(
        self, transitions: int, scalars: Mapping[str, Sequence[float | None]]
    ) -> None:
        for r, writer in enumerate(self._writers):
            writer.write(transitions, {name: values[r] for name, values in scalars.items()})

    def _check_one_per_seed(self, values: Sequence[Any], what: str) -> None:
        if len(values) != len(self.seeds):
            raise ValueError(f"{len(values)} {what}, expected one for each of {self.seeds}")


def _share(total: int, r: int, n_seeds: int) -> int:
    """The r-th of n_seeds even shares, which add up to the total."""
    return (r + 1) * total // n_seeds - r * total // n_seeds


def _checked_json(state: Mapping[str, Any]) -> dict[str, Any]:
    try:
        copy: dict[str, Any] = json.loads(json.dumps(state))
    except (TypeError, ValueError) as error:
        raise ValueError(f"a checkpoint state must be JSON: {error}") from error
    return copy
