"""The suite's own plans: each run is one that `rmdp-bench run` takes, and what they must have."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from rmdp_bench.files import read_json
from rmdp_bench.runs import SOLVERS, load_solver, make_config
from rmdp_bench.runs.solver_loading import form_for
from rmdp_bench.sweep import make_jobs, read_plan
from rmdp_bench.sweep.plan import Row, list_settings, parse_plan
from rmdp_bench.tasks import OnlineTask, get_task
from tests.helpers.checkout import ROOT

FOLDER = ROOT / "benchmarks" / "plans"
PLANS = sorted(path.stem for path in FOLDER.glob("*.toml"))
EM_PLUS_PARTS = {
    "seeding": "seeding",
    "split_merge": "split_merge",
    "scout": "scout",
    "annealing": "temperature",
    "starts": "n_starts",
}
"""Part -> the setting that switches it."""


def rows_of(name: str) -> tuple[Row, ...]:
    return read_plan(FOLDER / f"{name}.toml").rows


def configs(row: Row) -> dict[tuple[str, str], list[Any]]:
    """(task, solver) -> settings of each point; the data sets need not be there."""
    return {
        (task, solver): [
            make_config(form_for(load_solver(solver), get_task(task)), get_task(task), settings)
            for settings in list_settings(row.settings)
        ]
        for task, solver in itertools.product(row.tasks, row.solvers)
    }


@pytest.mark.parametrize("name", PLANS)
def test_every_run_has_settings_and_a_place_of_its_own(name: str) -> None:
    places = [
        (row.folder, task, solver, str(config))
        for row in rows_of(name)
        for (task, solver), found in configs(row).items()
        for config in found
    ]
    assert places and len(set(places)) == len(places)
    for row in rows_of(name):
        assert row.transitions is None or all(
            isinstance(get_task(task), OnlineTask) for task in row.tasks
        )


@pytest.mark.parametrize(
    ("name", "n_jobs"),
    [("quick", 6), ("robots", None), ("papers", None), ("em_plus_parts", None), ("glucose", 90)],
)
def test_online_plans_are_accepted(name: str, n_jobs: int | None) -> None:
    jobs = make_jobs(read_plan(FOLDER / f"{name}.toml"))
    assert n_jobs is None or len(jobs) == n_jobs
    assert not any(Path().iterdir())


def test_the_online_tables_have_all_solvers_at_all_budgets() -> None:
    """Figure 2 with five seeds, Figure 3 with three and the oracle; equation 12 as written."""
    found = {
        (row.folder, task, solver): row.seeds
        for row in rows_of("papers")
        for task, solver in itertools.product(row.tasks, row.solvers)
    }
    solvers = ("em", "end_to_end", "clustering", "random_assignment", "em_plus", "universal")
    for k, solver in itertools.product((1, 2, 3, 5, 10, 25), solvers):
        assert found["online", f"ResourceGathering-n25-k{k}-v0", solver] == (0, 1, 2, 3, 4)
    for k, solver in itertools.product((1, 2, 5, 10), (*solvers, "oracle")):
        assert found["online", f"HalfCheetahVel-n100-k{k}-v0", solver] == (0, 1, 2)
    assert len(found) == 36 + 28 + 1 + 4
    (equation_12,) = [row for row in rows_of("papers") if row.folder == "online-equation-12"]
    ((config,),) = configs(equation_12).values()
    assert config.signal == "advantage" and equation_12.solvers == ("end_to_end",)


def test_the_offline_oracle_runs_once_per_world_at_its_own_size() -> None:
    """It reads no data; the planners of the others are reduced."""
    rows = rows_of("offline")
    (oracle,) = [row for row in rows if row.solvers == ("true_env_mpc",)]
    assert oracle.tasks == ("CartPoleHet-n500-pure-v1", "MountainCarHet-n500-pure-v1")
    assert oracle.settings == {"n_sequences": 1000, "horizon": 80} and oracle.episodes is None
    (persim,) = [row for row in rows if row.solvers == ("persim",)]
    assert len(persim.tasks) == 8 and persim.episodes == 3
    assert persim.settings == {"n_sequences": 100}
    learned = {name for name, module in SOLVERS.items() if ".offline." in module}
    assert {row.solvers[0] for row in rows} == learned - {"persim_policy"}


def test_every_part_of_em_plus_is_switched_once() -> None:
    rows = {row.folder: row for row in rows_of("em_plus_parts")}
    assert rows["em"].solvers == ("em",) and not rows["em"].settings
    (task,) = rows["default"].tasks
    default = make_config(load_solver("em_plus"), get_task(task))
    for part, setting in EM_PLUS_PARTS.items():
        (name,) = {f"without-{part}", f"with-{part}"} & set(rows)  # the other is the default
        ((config,),) = configs(rows[name]).values()
        assert [f for f, v in vars(config).items() if v != getattr(default, f)] == [setting]
        ((alone,),) = configs(rows[f"only-{part}"]).values()
        ((none,),) = configs(rows["none"]).values()
        assert [f for f, v in vars(alone).items() if v != getattr(none, f)] == [setting]


def test_fewer_agents_make_as_many_updates() -> None:
    whole = make_config(load_solver("persim"), get_task("CartPoleHet-n500-pure-v1"))
    for row in rows_of("agents_equal_updates"):
        ((config,),) = configs(row).values()
        assert config.n_epochs * config.n_agents == whole.n_epochs * 500
        assert config.halving_epochs * 2 == config.n_epochs
    assert [row.folder for row in rows_of("agents")] == ["25", "50", "100", "250"]


def test_plans_in_the_document_are_plans() -> None:
    text = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    tables = [block for block in blocks if "[[runs]]" in block]
    assert len(tables) == 2 and len(blocks) == 3
    for block in tables:
        for row in parse_plan(block, "plan", Path(), "plan").rows:
            own = [name for name in row.solvers if not name.endswith(".py")]
            assert configs(dataclasses.replace(row, solvers=tuple(own)))
    (other,) = set(blocks) - {*tables}
    assert set(parse_plan(f"{tables[1]}{other}", "plan", Path(), "plan").slurm) == {
        *("timeout_min", "mem_gb", "slurm_partition", "slurm_array_parallelism"),
    }


@pytest.mark.parametrize(
    ("name", "record", "earlier"),
    [
        ("em_plus_parts", "em_plus_ablation", set()),
        ("learner", "learner_ablation", {"before", "mass"}),
        ("agents", "agents_ablation", set()),
        ("agents_equal_updates", "agents_ablation_equal_updates", set()),
    ],
)
def test_stored_variants_are_those_of_the_plan(name: str, record: str, earlier: set[str]) -> None:
    stored = read_json(ROOT / "benchmarks" / "results" / f"{record}.json")
    assert {*stored["variants"]} - earlier <= {row.folder for row in rows_of(name)}
    assert {task for row in rows_of(name) for task in row.tasks} == {stored["task"]}
    for row in rows_of(name):
        assert row.transitions in (None, stored.get("transitions"))
        if variant := stored["variants"].get(row.folder):
            assert len(variant.get("social_welfare") or variant["returns"]) == len(row.seeds)
