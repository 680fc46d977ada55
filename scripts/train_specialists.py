"""Train specialists: what can be reached for one agent, by the suite's PPO.

    python -m scripts.train_specialists agents rmdp/HalfCheetahHet-n500-v1
    python -m scripts.train_specialists targets rmdp/AntVel-n100-v0

`agents`: one for every agent that an offline task of the environment scores, held-out ones too: the
references of an environment whose optimum nobody knows.  `targets`: `--number` of them for evenly
spaced speeds, from the least to the greatest that an agent wants; at the end the welfare of k of
them, chosen and assigned exactly (`reachable.json`): an attainable number for every k, beside the
ceiling, which legs do not reach.

Results are in OUT/KIND/ENV/NAME, with the better of the seeds named.  What is finished is not
trained again, and what was interrupted goes on: the same command does both.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench import evaluate, get_population
from rmdp_bench.cli.running import parse_seeds
from rmdp_bench.facility_location import select
from rmdp_bench.files import read_json, write_json
from rmdp_bench.population import DynamicsPopulation, TargetPopulation
from rmdp_bench.solution import Solution, load_policy
from rmdp_bench.tasks import choose_heldout, list_tasks
from scripts.specialists import RESULT_FILE, Specialist, train_specialist

TRANSITIONS = {"agents": 2_000_000, "targets": 1_000_000}
SEEDS = {"agents": "0:3", "targets": "0:2"}


def list_specialists(kind: str, env_id: str, number: int) -> dict[str, Specialist]:
    """Name of a folder -> whom it is for.

    Raises:
        ValueError: the environment has no such agents.
    """
    population = get_population(env_id)
    if kind == "targets":
        if not isinstance(population, TargetPopulation):
            raise ValueError(f"nobody in {env_id} wants a speed; expected a velocity environment")
        low, high = float(population.targets.min()), float(population.targets.max())
        return {
            f"target-{t}": Specialist(env_id, target=float(speed))
            for t, speed in enumerate(np.linspace(low, high, number))
        }
    if not isinstance(population, DynamicsPopulation):
        raise ValueError(f"the agents of {env_id} do not differ in dynamics")
    agents = (*population.test_agents, *choose_heldout(population))
    return {f"agent-{agent}": Specialist(env_id, agent=agent) for agent in agents}


def measure_reachable(env_id: str, folders: dict[str, Path]) -> dict[str, Any]:
    """Welfare of the best k specialists for every k, and the columns that it follows from."""
    task = next(task for task in list_tasks() if task.env_id == env_id)
    task = replace(task, n_representatives=1)
    columns: list[NDArray[np.float64]] = []
    for folder in folders.values():
        record = read_json(folder / RESULT_FILE)
        seed = record["seeds"][int(np.argmax(record["returns"]))]
        policy = load_policy(folder / f"policy-{seed}.onnx")
        alone = Solution([policy], np.ones((task.n_agents, 1)))
        columns.append(evaluate(task, alone).welfare_matrix[:, 0])
    matrix = np.stack(columns, axis=1)  # (n, number)
    welfare = {}
    for k in range(1, matrix.shape[1] + 1):
        welfare[str(k)] = select(matrix, k, on_a_line=True).welfare
    return {"env_id": env_id, "specialists": list(folders), "welfare": welfare} | {
        "columns": matrix.T.tolist()
    }


def main() -> None:
    """Train those that are named, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("kind", choices=tuple(TRANSITIONS))
    parser.add_argument("env_id")
    parser.add_argument("--only", nargs="+", help="names such as agent-3")
    parser.add_argument("--number", type=int, default=11, help="of targets")
    parser.add_argument("--transitions", type=int, help="with each seed")
    parser.add_argument("--seeds", help="0:3 is 0, 1, 2")
    parser.add_argument("--out", type=Path, default=Path("runs/specialists"))
    arguments = parser.parse_args()
    try:
        wanted = list_specialists(arguments.kind, arguments.env_id, arguments.number)
        seeds = parse_seeds(arguments.seeds or SEEDS[arguments.kind])
        unknown = set(arguments.only or ()) - set(wanted)
        if unknown:
            raise ValueError(f"there is no {unknown.pop()}, expected some of {', '.join(wanted)}")
    except ValueError as error:
        parser.error(str(error))
    base = arguments.out / arguments.kind / arguments.env_id
    transitions = arguments.transitions or TRANSITIONS[arguments.kind]
    for name in arguments.only or wanted:
        print(name, flush=True)
        record = train_specialist(wanted[name], transitions, seeds, base / name)
        print(f"{name}: {np.round(record['returns'], 1).tolist()}", flush=True)
    folders = {name: base / name for name in wanted}
    if arguments.kind == "targets" and all(
        (folder / RESULT_FILE).is_file() for folder in folders.values()
    ):
        reachable = measure_reachable(arguments.env_id, folders)
        write_json(base / "reachable.json", reachable)
        print({k: round(value, 2) for k, value in reachable["welfare"].items()})


if __name__ == "__main__":
    main()
