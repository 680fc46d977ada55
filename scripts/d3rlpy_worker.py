"""Train d3rlpy's discrete BCQ or CQL on arrays.

    python scripts/d3rlpy_worker.py DATA.npz SETTINGS.json OUT_FOLDER
    python scripts/d3rlpy_worker.py DATA.npz SETTINGS.json

Runs in an environment with d3rlpy, which need not have anything else of this repository. For each
seed it writes OUT_FOLDER/SEED.npz: the actions of the trained policy at the first observations of
the data, and the weights and biases of its linear layers, q.0, q.1, ... and, for BCQ,
imitation.0, imitation.1, ... `compare_with_d3rlpy` reads them.

Without a folder it answers `benchmarks.peers`: for each line on the standard input, a number, it
makes so many updates of the first seed, as ours are made, on one thread and with denormal numbers
as zeros, and prints the seconds that they took.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_PROBES = 500


def main(data_file: str, settings_file: str, out_folder: str | None = None) -> None:
    """Train and save every seed, or answer each line."""
    settings = json.loads(Path(settings_file).read_text(encoding="utf-8"))
    with np.load(data_file, allow_pickle=False) as data:
        arrays = dict(data)
    if out_folder is None:
        answer(arrays, settings)
        return
    for seed in settings["seeds"]:
        saved: dict[str, Any] = train(arrays, settings, seed)
        np.savez(Path(out_folder) / f"{seed}.npz", **saved)


def answer(arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> None:
    """Make as many updates as each line of the standard input says, and print their seconds."""
    answers = sys.stdout
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        fit, _ = make_learner(arrays, settings, settings["seeds"][0])
        fit(1)
        print("ready", file=answers, flush=True)
        for line in sys.stdin:
            start = time.perf_counter()
            fit(int(line))
            print(time.perf_counter() - start, file=answers, flush=True)


def make_learner(
    arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any], seed: int
) -> tuple[Callable[[int], None], Any]:
    """What makes so many updates of a seed's learner, and the learner."""
    d3rlpy: Any = importlib.import_module("d3rlpy")
    d3rlpy.seed(seed)
    dataset = d3rlpy.dataset.MDPDataset(
        arrays["observations"],
        arrays["actions"],
        arrays["rewards"],
        arrays["terminals"],
        arrays["timeouts"],
        action_space=d3rlpy.ActionSpace.DISCRETE,
        action_size=settings["n_actions"],
    )
    common = {
        "encoder_factory": d3rlpy.models.encoders.VectorEncoderFactory(settings["hidden_dims"]),
        "learning_rate": settings["learning_rate"],
        "batch_size": settings["batch_size"],
        "gamma": settings["gamma"],
        "target_update_interval": settings["target_update_interval"],
    }
    if settings["algorithm"] == "bcq":
        config = d3rlpy.algos.DiscreteBCQConfig(
            action_flexibility=settings["threshold"],
            beta=settings["logit_penalty"],
            share_encoder=False,
            **common,
        )
    else:
        config = d3rlpy.algos.DiscreteCQLConfig(alpha=settings["conservative_weight"], **common)
    learner = config.create(device="cpu:0")

    def fit(n_updates: int) -> None:
        learner.fit(
            dataset,
            n_steps=n_updates,
            n_steps_per_epoch=n_updates,
            show_progress=False,
            logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        )

    return fit, learner


def train(
    arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any], seed: int
) -> dict[str, NDArray[Any]]:
    """Train one seed; returns what is saved."""
    fit, learner = make_learner(arrays, settings, seed)
    fit(settings["n_updates"])
    modules = learner.impl.modules
    saved = {"probes": learner.predict(arrays["observations"][:N_PROBES])}
    networks = {"q": modules.q_funcs[0]}
    if settings["algorithm"] == "bcq":
        networks["imitation"] = modules.imitator
    for name, network in networks.items():
        for index, parameter in enumerate(network.parameters()):
            saved[f"{name}.{index}"] = parameter.detach().numpy()
    return saved


if __name__ == "__main__":
    main(*sys.argv[1:])
