"""Training in several stages, one after the other, in one run with one sequence of checkpoints.

A checkpoint of such a run has the latest state of every stage that has begun; the stages themselves
train as if each had a log of its own:

    stages = Stages(log)
    train_model(..., stages.stage("model"))  # finds itself finished if the run was further on
    train_policy(..., stages.stage("policy"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from rmdp_bench.runs import RunLog

Saved = tuple[dict[str, NDArray[Any]], list[dict[str, Any]]]
"""Arrays by name, with the seeds as leading axis, and one state for each seed."""


class TrainingLog(Protocol):
    """What training needs of a `RunLog`; see there."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the run."""

    @property
    def stop_requested(self) -> bool:
        """Whether to save a checkpoint and raise `Interrupted`."""

    def progress(
        self, transitions: int, scalars: Mapping[str, Sequence[float]], *, total: int | None = None
    ) -> None:
        """Tells how far training is."""

    def checkpoint_due(self) -> bool:
        """Whether to save a checkpoint."""

    def save_checkpoint(
        self,
        transitions: int,
        arrays: Mapping[str, NDArray[Any]],
        states: Sequence[Mapping[str, Any]],
    ) -> None:
        """Saves all that training continues from."""

    def load_checkpoint(self) -> Saved | None:
        """What was saved, if anything was."""


class Stages:
    """The stages of one run."""

    def __init__(self, log: RunLog) -> None:
        """Reads the run's checkpoint, if there is one."""
        self.log = log
        self.saved: dict[str, Saved] = {}
        """Latest state of every stage that has begun, by name."""
        checkpoint = log.load_checkpoint()
        if checkpoint is not None:
            arrays, states = checkpoint
            for name in states[0]:
                prefix = f"{name}/"
                own = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
                self.saved[name] = own, [state[name] for state in states]

    def stage(self, name: str) -> Stage:
        """The log of a stage, whose name has no slash."""
        return Stage(self, name)


class Stage:
    """A `TrainingLog` whose checkpoints are parts of the run's."""

    def __init__(self, stages: Stages, name: str) -> None:
        """Is made by `Stages.stage`."""
        self._stages, self._name = stages, name

    @property
    def seeds(self) -> tuple[int, ...]:
        """See `TrainingLog`."""
        return self._stages.log.seeds

    @property
    def stop_requested(self) -> bool:
        """See `TrainingLog`."""
        return self._stages.log.stop_requested

    def progress(
        self, transitions: int, scalars: Mapping[str, Sequence[float]], *, total: int | None = None
    ) -> None:
        """See `TrainingLog`; the bar of the run is that of the stage it is in."""
        shown = {f"{self._name}_{key}": values for key, values in scalars.items() if key != "loss"}
        if "loss" in scalars:
            shown |= {"loss": scalars["loss"], f"{self._name}_loss": scalars["loss"]}
        self._stages.log.progress(transitions, shown, total=total)

    def checkpoint_due(self) -> bool:
        """See `TrainingLog`."""
        return self._stages.log.checkpoint_due()

    def save_checkpoint(
        self,
        transitions: int,
        arrays: Mapping[str, NDArray[Any]],
        states: Sequence[Mapping[str, Any]],
    ) -> None:
        """See `TrainingLog`; other stages' latest states are saved with it."""
        saved = self._stages.saved
        saved[self._name] = dict(arrays), [dict(state) for state in states]
        self._stages.log.save_checkpoint(
            transitions,
            {f"{name}/{n}": a for name, (own, _) in saved.items() for n, a in own.items()},
            [{name: own[r] for name, (_, own) in saved.items()} for r in range(len(states))],
        )

    def load_checkpoint(self) -> Saved | None:
        """See `TrainingLog`: this stage's part, if it had begun."""
        return self._stages.saved.get(self._name)
