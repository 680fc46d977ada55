"""Training: one loop for all learners, and several stages of it in one run.

A checkpoint of a run in stages has the latest state of every stage that has begun; the stages
themselves train as if each had a log of its own:

    stages = Stages(log)
    train(model, stages.stage("model"))  # finds itself finished if the run was further on
    train(policies, stages.stage("policy"))
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.common.divergence import check_finite
from baselines.common.threads import denormals_as_zeros
from rmdp_bench.runs import Interrupted, RunLog

Arrays = dict[str, NDArray[Any]]
"""By name, with the seeds as leading axis."""
Saved = tuple[Arrays, list[dict[str, Any]]]
"""Arrays, and one state for each seed."""


class Part(Protocol):
    """A network in training, or one that follows it: what a checkpoint is made of."""

    def tensors(self) -> dict[str, Tensor]:
        """Views (M, ...) by name; a part may have several rows for each member, (M * c, ...)."""

    def set_steps(self, n_steps: int) -> None:
        """Take note of how many steps were made."""


class MemberLearner(ABC):
    """Networks of M members in training, as one batch.

    Attributes:
        n_seeds: R; the first M / R members are the first seed's.
        parts: all that is learned, by name.
        generators: of the CPU, by name, from which updates draw; a multiple of M each.
        done: updates made.
        total: how many there are.
    """

    n_seeds: int
    parts: Mapping[str, Part]
    generators: Mapping[str, Sequence[torch.Generator]] = {}
    done: int = 0
    total: int

    @abstractmethod
    def advance(self) -> dict[str, Tensor]:
        """Make the next updates; gives (M,) by name, or nothing where nothing is to be reported."""

    def tensors(self) -> dict[str, Tensor]:
        """Views by name of all that training continues from, but for generators and `done`."""
        return {
            f"{name}.{own}": tensor
            for name, part in self.parts.items()
            for own, tensor in part.tensors().items()
        }

    def set_steps(self) -> None:
        """Let each part know how many steps it has made, from `done`."""
        for part in self.parts.values():
            part.set_steps(self.done)

    def get_state(self) -> Saved:
        """Copies of everything that training continues from bit for bit."""
        tensors = self.tensors()
        for name, generators in self.generators.items():
            tensors[f"generators.{name}"] = torch.stack([g.get_state() for g in generators])
        arrays = {
            name: tensor.detach().reshape(self.n_seeds, -1, *tensor.shape[1:]).cpu().numpy().copy()
            for name, tensor in tensors.items()
        }
        return arrays, [{"done": self.done} for _ in range(self.n_seeds)]

    def set_state(
        self, arrays: Mapping[str, NDArray[Any]], states: Sequence[Mapping[str, Any]]
    ) -> None:
        """Restore what `get_state` returned."""
        self.done = int(states[0]["done"])
        self.set_steps()
        for name, tensor in self.tensors().items():
            tensor.copy_(torch.from_numpy(arrays[name]).reshape(tensor.shape))
        for name, generators in self.generators.items():
            rows = torch.from_numpy(arrays[f"generators.{name}"]).flatten(0, 1)
            for generator, row in zip(generators, rows, strict=True):
                generator.set_state(row.clone())  # it reads a tensor of its own storage


@denormals_as_zeros()
def train(learner: MemberLearner, log: RunLog | TrainingStage) -> None:
    """Train to the end, from a checkpoint if there is one, and leave one at the end.

    Raises:
        FloatingPointError: training has diverged.
        Interrupted: after a checkpoint, when the log asks to stop.
    """
    resumed = log.load_checkpoint()
    if resumed is not None:
        learner.set_state(*resumed)
    while learner.done < learner.total:
        scalars = learner.advance()
        if scalars:
            check_finite(learner.tensors().values(), f"{learner.done:,} updates")
            means = {
                name: values.detach().reshape(learner.n_seeds, -1).mean(1).tolist()
                for name, values in scalars.items()
            }
            log.progress(learner.done, means, total=learner.total)
        if log.checkpoint_due() or learner.done == learner.total:
            check_finite(learner.tensors().values(), f"{learner.done:,} updates")
            log.save_checkpoint(learner.done, *learner.get_state())
            if log.stop_requested:
                raise Interrupted


class Stages:
    """The stages of one run."""

    def __init__(self, log: RunLog) -> None:
        """Take the run's log; its checkpoint is read when the first stage is set up."""
        self.log = log

    @functools.cached_property
    def saved(self) -> dict[str, Saved]:
        """The latest state of every stage that has begun, by name."""
        arrays, states = self.log.load_checkpoint() or ({}, [{}])
        return {
            name: (
                {
                    n.removeprefix(f"{name}/"): a
                    for n, a in arrays.items()
                    if n.startswith(f"{name}/")
                },
                [state[name] for state in states],
            )
            for name in states[0]
        }

    def stage(self, name: str) -> TrainingStage:
        """The log of a stage, whose name has no slash."""
        return TrainingStage(self, name)


@dataclass(frozen=True)
class TrainingStage:
    """What `train` needs of a `RunLog`; its checkpoints are parts of the run's."""

    stages: Stages
    name: str

    @property
    def stop_requested(self) -> bool:
        """Whether to save a checkpoint and raise `Interrupted`."""
        return self.stages.log.stop_requested

    def progress(
        self, transitions: int, scalars: Mapping[str, Sequence[float]], *, total: int | None = None
    ) -> None:
        """Tell how far training is; the bar of the run is that of the stage it is in."""
        shown = {f"{self.name}_{key}": values for key, values in scalars.items()}
        if "loss" in scalars:
            shown = {"loss": scalars["loss"]} | shown
        self.stages.log.progress(transitions, shown, total=total)

    def checkpoint_due(self) -> bool:
        """Whether to save a checkpoint."""
        return self.stages.log.checkpoint_due()

    def save_checkpoint(
        self, transitions: int, arrays: Arrays, states: list[dict[str, Any]]
    ) -> None:
        """Save this stage's state, and with it the latest of the others."""
        saved = self.stages.saved
        saved[self.name] = arrays, states
        self.stages.log.save_checkpoint(
            transitions,
            {f"{name}/{n}": a for name, (own, _) in saved.items() for n, a in own.items()},
            [{name: own[r] for name, (_, own) in saved.items()} for r in range(len(states))],
        )

    def load_checkpoint(self) -> Saved | None:
        """This stage's state, if it had begun."""
        return self.stages.saved.get(self.name)
