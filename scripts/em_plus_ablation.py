"""What each addition of `em_plus` to EM brings.

    python -m scripts.em_plus_ablation HalfCheetahVel-n100-k5-v0
    python -m scripts.em_plus_ablation ResourceGathering-n25-k3-v0 --seeds 0:5 --variants em_plus em

Runs the solver once for each variant, as `rmdp-bench run --set ...` does, into OUT/VARIANT, and
prints a table: everything switched on, each part switched off or on alone, and nothing, which is
EM. What is finished there is not run again, and an interrupted run continues.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from baselines.online.em_plus.solver import config_for
from rmdp_bench.cli.running import parse_seeds
from rmdp_bench.runs import Result, make_request, run
from rmdp_bench.scoring import standard_error
from rmdp_bench.tasks import OnlineTask, get_online_task

PARTS: Mapping[str, tuple[str, str, str]] = {
    "seeding": ("seeding", "true", "false"),
    "split_merge": ("split_merge", "true", "false"),
    "scout": ("scout", "true", "false"),
    "annealing": ("temperature", "5.0", "0.0"),
    "starts": ("n_starts", "3", "1"),
}
"""Part -> the setting that switches it, its value on, its value off."""
HEADER = ("variant", "social welfare", "of the ceiling", "seeds")


def make_variants() -> dict[str, list[str]]:
    """Variant -> settings of `em_plus`."""
    off = [f"{setting}={value}" for setting, _, value in PARTS.values()]
    variants: dict[str, list[str]] = {"default": [], "none": off}
    for name, (setting, on, _) in PARTS.items():
        others = [text for text in off if not text.startswith(f"{setting}=")]
        variants[f"only-{name}"] = [*others, f"{setting}={on}"]
    for name, (setting, on, value) in PARTS.items():
        variants[f"without-{name}"] = [f"{setting}={value}"]
        variants[f"with-{name}"] = [f"{setting}={on}"]
    return variants


def changes_something(settings: Sequence[str], task: OnlineTask) -> bool:
    """Whether settings differ from the task's defaults, so that the variant is worth a run."""
    defaults = config_for(task)
    return any(
        str(getattr(defaults, name)).lower() != value
        for name, value in (text.split("=") for text in settings)
    )


def format_row(name: str, results: Sequence[Result], ceiling: float | None) -> list[str]:
    """One line of the table: mean and standard error over seeds."""
    welfare = np.array([result.social_welfare for result in results])
    spread = f" ± {standard_error(welfare):.2f}" if len(welfare) > 1 else ""
    share = "" if ceiling is None else f"{100 * welfare.mean() / ceiling:.1f} %"
    return [name, f"{welfare.mean():.2f}{spread}", share, str(len(welfare))]


def main() -> None:
    """Run, and print a row as soon as it is known."""
    variants = make_variants()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("task", help="an online one")
    parser.add_argument("--variants", nargs="+", choices=["em", *variants], metavar="VARIANT")
    parser.add_argument("--seeds", default="0:3", help="0:3 is 0, 1, 2")
    parser.add_argument("--transitions", type=int, help="per policy; the task's if not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/em_plus_ablation"))
    arguments = parser.parse_args()
    try:
        task = get_online_task(arguments.task)
        chosen = arguments.variants or ["em", "default", "none"] + [
            name
            for name, settings in variants.items()
            if name not in ("default", "none") and changes_something(settings, task)
        ]
        requests = {
            name: make_request(
                "em" if name == "em" else "em_plus",
                arguments.task,
                seeds=parse_seeds(arguments.seeds),
                transitions=arguments.transitions,
                device=arguments.device,
                out=arguments.out / name,
                settings=variants.get(name, []),
            )
            for name in chosen
        }
    except ValueError as error:
        parser.error(str(error))
    print("| " + " | ".join(HEADER) + " |")
    print("|---" * len(HEADER) + "|")
    for name, request in requests.items():
        print("| " + " | ".join(format_row(name, run(request), task.ceiling)) + " |", flush=True)


if __name__ == "__main__":
    main()
