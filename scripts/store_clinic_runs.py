"""Store what runs of the clinic's tasks have reached, for the documents.

    python -m scripts.store_clinic_runs RUNS ... [--out benchmarks/results/glucose_clinic.json]

Of each task and solver: the mean risk over patients and in the worst tenth of them, the times in,
below and above range, the mean risk of new patients, and how well readings are foreseen; the
mean over the seeds, which are given. What a run was given beside the defaults is stored too.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmdp_bench.files import read_json, write_json
from rmdp_bench.runs import load_solver, make_config
from rmdp_bench.runs.records import Result, read_result
from rmdp_bench.tasks import get_offline_task

OUT = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "glucose_clinic.json"


def describe(results: Sequence[Result]) -> dict[str, Any]:
    """What the seeds of one solver on one task have reached, on average."""
    task = get_offline_task(results[0].task)
    usual = make_config(load_solver(results[0].solver), task)
    rows = []
    for result in results:
        assert result.offline is not None and result.measures is not None
        risks = np.sort(-np.array(result.offline.returns) / task.max_episode_steps)
        row = {
            "mean risk": float(risks.mean()),
            "worst tenth": float(risks[-max(1, len(risks) // 10) :].mean()),
            **result.measures,
            "hours": result.wall_seconds / 3600,
        }
        for group in ("unseen", "extrapolating"):
            returns = getattr(result.offline, f"{group}_returns")
            if returns is not None:
                row[f"{group} risk"] = float(-np.mean(returns) / task.max_episode_steps)
        for ahead, errors in (result.offline.forecasts or {}).items():
            row |= {f"{ahead} {name}": value for name, value in errors.model_dump().items()}
        rows.append(row)
    changed = {
        name: value
        for name, value in results[0].config.items()
        if getattr(usual, name) != (tuple(value) if isinstance(value, list) else value)
    }
    return {
        "task": task.id,
        "solver": results[0].solver,
        "seeds": [result.seed for result in results],
        "changed": changed,
        "episodes": results[0].evaluation.n_episodes,
        "scores": {name: float(np.mean([row[name] for row in rows])) for name in rows[0]},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Read and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    groups: dict[tuple[str, ...], list[Result]] = defaultdict(list)
    for folder in options.runs:
        for path in sorted(folder.rglob("result.json")):
            if read_json(path)["task"].endswith("-clinic-v0"):
                result = read_result(path)
                groups[result.task, result.solver, str(result.config)].append(result)
    write_json(options.out, {"rows": [describe(group) for group in groups.values()]})


if __name__ == "__main__":
    main()
