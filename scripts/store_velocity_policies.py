"""Store the solutions that collect the data of the velocity environments, with their records.

    rmdp-bench run universal HopperVel-n100-k10-v0 --seeds 0 --out runs
    python -m scripts.store_velocity_policies medium runs/HopperVel-n100-k10-v0/universal/seed-0

The policies and the record of the run are copied to `rmdp_bench/data/velocity/ENVIRONMENT/QUALITY`,
and the table in `rmdp_bench/data/velocity/README.md` is written anew.  A change of policies is a
change of the data: `scripts/record_datasets.py` records them again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rmdp_bench.datasets.behaviour import velocity_folder
from rmdp_bench.files import read_json, write_json, write_text
from rmdp_bench.runs import read_result
from rmdp_bench.solution import load_solution
from rmdp_bench.tasks import get_task, list_tasks

QUALITIES = ("medium", "expert")
KEPT = ("task", "solver", "config", "seed", "transitions", "transitions_reported", "social_welfare")
KEPT_TOO = ("share_of_ceiling", "worst_agent", "train_seconds", "versions", "git_revision")
"""Of the record of a run."""


def main() -> None:
    """Store the solution that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("quality", choices=QUALITIES)
    parser.add_argument("run_directory", type=Path, metavar="RUN_DIR")
    arguments = parser.parse_args()
    result = read_result(arguments.run_directory / "result.json")
    if result.solution is None:
        parser.error(f"{arguments.run_directory} has no saved policies")
    source = arguments.run_directory / result.solution
    load_solution(source)  # refuses what is damaged
    folder = velocity_folder(get_task(result.task).env_id, arguments.quality)
    (folder / "solution").mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        (folder / "solution" / path.name).write_bytes(path.read_bytes())
    record = {name: getattr(result, name) for name in (*KEPT, *KEPT_TOO)}
    write_json(folder / "record.json", record | {"cpu": result.system.get("cpu")})
    write_text(folder.parents[2] / "README.md", describe())


def describe() -> str:
    """The table of all stored solutions."""
    rows = []
    for env_id in dict.fromkeys(task.env_id for task in list_tasks()):
        for quality in QUALITIES:
            path = velocity_folder(env_id, quality) / "record.json"
            if path.exists():
                rows.append((env_id, quality, read_json(path)))
    lines = [
        "# Policies of the velocity datasets",
        "",
        "Solutions of the suite's own solvers, whose policies collect the datasets `medium` and",
        "`expert`: in each episode one of the k policies acts, drawn for it. Social welfare is",
        "that of the solution, each agent under the policy assigned to it, in percent of a",
        "perfect episode; the ceiling is that of k policies. The table is written from the",
        "records beside the policies, which have the settings too, by",
        "`scripts/store_velocity_policies.py`.",
        "",
        "| environment | quality | k | social welfare | of the ceiling | transitions in all |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for env_id, quality, record in rows:
        k = get_task(record["task"]).n_representatives
        total = k * (record["transitions_reported"] or record["transitions"])
        lines.append(
            f"| `{env_id}` | {quality} | {k} | {record['social_welfare']:.2f} | "
            f"{100 * record['share_of_ceiling']:.1f} % | {total:,} |"
        )
    lines += ["", "```sh"]
    for _, _, record in rows:
        lines.append(
            f"rmdp-bench run {record['solver']} {record['task']} --seeds {record['seed']} "
            f"--transitions {record['transitions']}"
        )
    lines.append("```")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
