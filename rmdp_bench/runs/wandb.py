"""Scalars for Weights & Biases, which the extra `wandb` brings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PROJECT = "rmdp_bench"
"""Unless WANDB_PROJECT says otherwise."""


class WandbWriter:
    """One run of the tracker, for one seed.

    Where it goes, and whether anywhere, the tracker's own variables say: WANDB_MODE=offline keeps
    it in the run directory, in `wandb`, from where `wandb sync` sends it.

    Raises:
        ImportError: the package wandb is not installed.
        ValueError: the tracker refuses, for want of a login for instance.
    """

    def __init__(self, directory: Path) -> None:
        """Begin the run, which is named after its directory, TASK/SOLVER/seed-S."""
        import os

        import wandb

        directory.mkdir(parents=True, exist_ok=True)
        task, solver, seed = directory.resolve().parts[-3:]
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                dir=str(directory),
                group=f"{task}/{solver}",
                name=f"{task}/{solver}/{seed}",
                reinit="create_new",  # seeds that train together have a run each
                settings=wandb.Settings(console="off", silent=True),
            )
        except wandb.errors.Error as error:
            raise ValueError(
                f"wandb refuses: {error}; `wandb login`, or WANDB_MODE=offline to keep the run here"
            ) from error
        self._run.define_metric("*", step_metric="transitions")

    def write(self, transitions: int, scalars: Mapping[str, float | None]) -> None:
        """Add one point to each scalar; transitions per policy are the x axis."""
        known = {name: value for name, value in scalars.items() if value is not None}
        self._run.log(known | {"transitions": transitions})

    def restart(self, transitions: int) -> None:
        """Say where a resumed run goes on; what is drawn after it is drawn again."""
        self._run.summary["resumed_at"] = transitions

    def close(self) -> None:
        """Write out and end the run."""
        self._run.finish()
