"""Compare discrete BCQ and CQL with d3rlpy's: the same data and settings, returns in the world.

    python -m venv D3
    D3/bin/pip install -c constraints.txt torch==2.13.0
    D3/bin/pip install --dry-run d3rlpy==2.8.1        # torch must not be in what it would install
    D3/bin/pip install d3rlpy==2.8.1
    python -m scripts.compare_with_d3rlpy --d3rlpy-python D3/bin/python --out benchmarks/results

d3rlpy has an environment of its own because its pins conflict with ours (gymnasium 1.0.0); the
constraint is for torch alone. Data and trained networks are exchanged as npz files without
pickles. Its policies act here from their weights, which first have to give the actions that d3rlpy
itself gives at observations of the data.

Both learn one policy from everybody's trajectories, with observations as they are. What differs:
d3rlpy copies its target network every 200 updates, ours follows by 0.005 at each; d3rlpy starts its
layers as PyTorch does, as we do, from other random numbers, and leaves out the last transition of a
trajectory that the time limit cut.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from baselines.offline.common.data import LoggedData, load_data
from baselines.offline.common.spaces import n_discrete_actions
from baselines.offline.model_free import bcq, cql
from rmdp_bench.evaluation import EVALUATION_SEED, play
from rmdp_bench.files import write_json, write_text
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Policy
from rmdp_bench.system import system_record, versions
from rmdp_bench.tasks import OfflineTask, get_offline_task

WORKER = Path(__file__).with_name("d3rlpy_worker.py")
TASKS = ("CartPoleHet-n500-random-v1", "CartPoleHet-n500-pure-v1")
HIDDEN_DIMS = (64, 64)
LEARNING_RATE = 1e-3
TARGET_UPDATE_INTERVAL = 200
N_EPISODES = 10
"""For each test agent."""
SOLVERS = {"bcq": bcq, "cql": cql}


class WeightsPolicy:
    """The greedy policy of networks that are given as weights and biases of linear layers."""

    def __init__(self, saved: Mapping[str, NDArray[Any]], threshold: float) -> None:
        """Take what the worker saved; a threshold matters only with an imitation network."""
        self.saved, self.threshold = saved, threshold

    def reset(self, n_envs: int) -> None:
        """Begin episodes; the policy has no memory."""

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions (E,) at observations (E, d)."""
        values = self._outputs("q", observations)
        if "imitation.0" in self.saved:
            logits = self._outputs("imitation", observations)
            shares = np.exp(logits - logits.max(1, keepdims=True))
            values = np.where(shares > self.threshold, values, -np.inf)
        actions: NDArray[Any] = values.argmax(1)
        return actions

    def _outputs(self, name: str, observations: NDArray[Any]) -> NDArray[Any]:
        rows = observations.astype(np.float32)
        n_layers = sum(key.startswith(f"{name}.") for key in self.saved) // 2
        for layer in range(n_layers):
            weight, bias = (self.saved[f"{name}.{2 * layer + part}"] for part in range(2))
            rows = rows @ weight.T + bias
            if layer < n_layers - 1:
                rows = np.maximum(rows, 0)
        return rows


def mean_return(task: OfflineTask, policy: Policy) -> float:
    """Over the test agents, some episodes each."""
    agents = [agent for agent in task.eval_agents for _ in range(N_EPISODES)]
    seeds = [EVALUATION_SEED + episode % N_EPISODES for episode in range(len(agents))]
    return float(play(task, [policy], [len(agents)], seeds, agents=agents).returns.mean())


def write_data(data: LoggedData, path: Path) -> None:
    """The arrays that d3rlpy's dataset is made of."""
    ends = np.zeros(len(data.rewards), np.bool_)
    ends[data.starts[1:].numpy() - 1] = True
    terminals = data.terminated.numpy()
    np.savez(
        path,
        observations=data.observations.numpy(),
        actions=data.actions.numpy(),
        rewards=data.rewards.numpy(),
        terminals=terminals.astype(np.float32),
        timeouts=(ends & ~terminals).astype(np.float32),
    )


def write_settings(
    task: OfflineTask, config: Any, name: str, seeds: Sequence[int], path: Path
) -> None:
    """What d3rlpy's learner is made of."""
    settings = dataclasses.asdict(config) | {
        "algorithm": name,
        "gamma": task.gamma,
        "n_actions": n_discrete_actions(task),
        "target_update_interval": TARGET_UPDATE_INTERVAL,
        "seeds": list(seeds),
    }
    path.write_text(json.dumps(settings), encoding="utf-8")


def train_ours(task: OfflineTask, config: Any, name: str, seeds: Sequence[int]) -> list[float]:
    """Returns of our policies, one for each seed."""
    solutions = SOLVERS[name].solve(task, config, seeds, "cpu", RunLog(task, seeds))
    return [mean_return(task, solution.policies[0]) for solution in solutions]


def train_theirs(
    task: OfflineTask, config: Any, name: str, seeds: Sequence[int], python: str, folder: Path
) -> list[float]:
    """Returns of d3rlpy's policies, one for each seed."""
    data_file, settings_file = folder / "data.npz", folder / "settings.json"
    write_settings(task, config, name, seeds, settings_file)
    command = [python, str(WORKER), str(data_file), str(settings_file), str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with np.load(data_file, allow_pickle=False) as data:
        probes = data["observations"]
    found = []
    for seed in seeds:
        with np.load(folder / f"{seed}.npz", allow_pickle=False) as trained:
            saved = dict(trained)
        policy = WeightsPolicy(saved, getattr(config, "threshold", 0.0))
        observations = probes[: len(saved["probes"])]
        agreement = float((policy.act(observations) == saved["probes"]).mean())
        if agreement < 0.99:
            raise RuntimeError(f"the weights give other actions than d3rlpy: {agreement:.2f} agree")
        found.append(mean_return(task, policy))
    return found


def summarise(returns: Sequence[float]) -> dict[str, Any]:
    """Mean, standard error and 95 % interval (Student's t) over seeds."""
    mean, error = float(np.mean(returns)), float(stats.sem(returns))
    width = error * float(stats.t.ppf(0.975, len(returns) - 1))
    return {
        "returns": list(returns),
        "mean": mean,
        "standard_error": error,
        "interval": [mean - width, mean + width],
    }


def compare(
    task: OfflineTask, name: str, arguments: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """One row of the table."""
    config = SOLVERS[name].Config(
        n_agents=arguments.n_agents,
        n_updates=arguments.n_updates,
        hidden_dims=HIDDEN_DIMS,
        learning_rate=LEARNING_RATE,
        normalize_observations=False,
    )
    seeds = range(arguments.n_seeds)
    began = time.perf_counter()
    ours = summarise(train_ours(task, config, name, seeds))
    between = time.perf_counter()
    theirs = summarise(train_theirs(task, config, name, seeds, arguments.d3rlpy_python, folder))
    ended = time.perf_counter()
    low = max(row["interval"][0] for row in (ours, theirs))
    high = min(row["interval"][1] for row in (ours, theirs))
    return {
        "task": task.id,
        "algorithm": name,
        "settings": dataclasses.asdict(config),
        "ours": ours | {"seconds": round(between - began, 1)},
        "d3rlpy": theirs | {"seconds": round(ended - between, 1)},
        "overlap": low <= high,
    }


def read_versions(python: str) -> list[str]:
    """Of d3rlpy and of the torch beside it.

    Raises:
        ValueError: they are not there.
    """
    asked = "import importlib.metadata as m; print(m.version('d3rlpy'), m.version('torch'))"
    try:
        found = subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        message = f"--d3rlpy-python is {python}, expected a Python that has d3rlpy"
        raise ValueError(message) from error
    return found.stdout.split()


def write_report(
    rows: Sequence[dict[str, Any]], arguments: argparse.Namespace, theirs: Sequence[str]
) -> None:
    """Write d3rlpy.json and d3rlpy.md into the folder `arguments.out`."""
    command = (
        "python -m scripts.compare_with_d3rlpy --d3rlpy-python D3/bin/python "
        f"--n-agents {arguments.n_agents} --n-updates {arguments.n_updates} "
        f"--n-seeds {arguments.n_seeds}"
    )
    machine = system_record("cpu") | versions() | {"d3rlpy": theirs[0], "its torch": theirs[1]}
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = {"command": command, "machine": machine, "results": list(rows)}
    write_json(arguments.out / "d3rlpy.json", record)
    lines = [
        "| task | algorithm | ours: mean (s.e.) | d3rlpy: mean (s.e.) | 95 % intervals | overlap |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        both = [row["ours"], row["d3rlpy"]]
        means = " | ".join(f"{r['mean']:.1f} ({r['standard_error']:.1f})" for r in both)
        ranges = "; ".join("{:.1f} to {:.1f}".format(*r["interval"]) for r in both)
        agree = "yes" if row["overlap"] else "no"
        lines.append(f"| {row['task']} | {row['algorithm']} | {means} | {ranges} | {agree} |")
    about = ", ".join(f"{key} {value}" for key, value in machine.items())
    table = "\n".join(lines)
    note = (
        f"Mean return of the five test agents, {N_EPISODES} episodes each, over "
        f"{arguments.n_seeds} seeds. Another process may have used the machine."
    )
    write_text(arguments.out / "d3rlpy.md", f"`{command}` on: {about}\n\n{note}\n\n{table}\n")


def main() -> None:
    """Train all, and write JSON and table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--d3rlpy-python", required=True, help="Python with d3rlpy")
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"))
    parser.add_argument("--n-agents", type=int, default=100, help="trajectories")
    parser.add_argument("--n-updates", type=int, default=4000)
    parser.add_argument("--n-seeds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.n_seeds < 2:
        parser.error(f"--n-seeds is {arguments.n_seeds}, expected at least 2, for an interval")
    try:
        theirs = read_versions(arguments.d3rlpy_python)
    except ValueError as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for task in map(get_offline_task, TASKS):
            write_data(load_data(task, arguments.n_agents), folder / "data.npz")
            for algorithm in SOLVERS:
                rows.append(compare(task, algorithm, arguments, folder))
                print(rows[-1], flush=True)
                write_report(rows, arguments, theirs)  # each time: a stop loses one comparison


if __name__ == "__main__":
    main()
