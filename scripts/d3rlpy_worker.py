"""Train d3rlpy's discrete BCQ or CQL on arrays; `compare_with_d3rlpy` calls it.

    python scripts/d3rlpy_worker.py DATA.npz SETTINGS.json OUT_FOLDER

Runs in an environment with d3rlpy, which need not have anything else of this repository. For each
seed it writes OUT_FOLDER/SEED.npz: the actions of the trained policy at the first observations of
the data, and the weights and biases of its linear layers, q.0, q.1, ... and, for BCQ,
imitation.0, imitation.1, ...
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_PROBES = 500


def main(data_file: str, settings_file: str, out_folder: str) -> None:
    """Train and save every seed."""
    settings = json.loads(Path(settings_file).read_text(encoding="utf-8"))
    with np.load(data_file, allow_pickle=False) as data:
        arrays = dict(data)
    for seed in settings["seeds"]:
        saved: dict[str, Any] = train(arrays, settings, seed)
        np.savez(Path(out_folder) / f"{seed}.npz", **saved)


def train(
    arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any], seed: int
) -> dict[str, NDArray[Any]]:
    """Train one seed; returns what is saved."""
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
    learner.fit(
        dataset,
        n_steps=settings["n_updates"],
        n_steps_per_epoch=settings["n_updates"],
        show_progress=False,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
    )
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
