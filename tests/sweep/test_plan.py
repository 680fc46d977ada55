"""Plans: how they are written, what they become, and what is said of wrong ones."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from rmdp_bench.cli import main
from rmdp_bench.sweep import Job, make_jobs, read_plan
from rmdp_bench.sweep.jobs import as_text
from tests.sweep.toys import OTHER, TASK, walks, write_plan


def jobs_of(text: str, n_places: float | None = None) -> list[Job]:
    return make_jobs(read_plan(write_plan(text)), n_places)


def address(text: str) -> str:
    (folder,) = {job.folder for job in jobs_of(text)}
    return folder


def test_lists_make_a_grid_and_values_that_are_lists_stand_in_one() -> None:
    settings = "settings = { noise = [0.5, 0.25], table = [[1, 2], [3]], seconds = 0.5 }"
    jobs = jobs_of(walks("0", settings))
    assert len(jobs) == len({(job.folder, *job.tasks) for job in jobs}) == 8
    assert [job.settings for job in jobs[:4]] == [
        ("noise=0.5", "table=[1, 2]", "seconds=0.5"),
        ("noise=0.5", "table=[3]", "seconds=0.5"),
        ("noise=0.25", "table=[1, 2]", "seconds=0.5"),
        ("noise=0.25", "table=[3]", "seconds=0.5"),
    ]


@pytest.mark.parametrize(
    ("written", "seeds"),
    [('"0:3"', (0, 1, 2)), ('"7"', (7,)), ('"0,2:4"', (0, 2, 3)), ("[3, 1]", (3, 1))],
)
def test_seeds(written: str, seeds: tuple[int, ...]) -> None:
    text = f'[[runs]]\nsolvers = "walk.py"\ntasks = "{TASK}"\nseeds = {written}'
    assert read_plan(write_plan(text)).rows[0].seeds == seeds
    assert [job.seeds for job in jobs_of(text)] == [(seed,) for seed in seeds]


def test_the_command_line_reads_the_seeds_that_jobs_write() -> None:
    from rmdp_bench.cli.running import parse_seeds

    for seeds in [(0,), (0, 1, 2), (3, 1), (0, 1, 5, 7, 8)]:
        assert tuple(parse_seeds(as_text(seeds))) == seeds
    assert as_text((0, 1, 2, 5)) == "0:3,5"


def test_keys_above_the_runs_hold_for_all_of_them() -> None:
    plan = read_plan(
        write_plan('cores = 3\nseeds = "0:2"\n' + walks("0:1") + "cores = 2\n" + walks("5"))
    )
    assert [(row.seeds, row.cores, row.transitions) for row in plan.rows] == [
        ((0,), 2, 120),
        ((5,), 3, 120),
    ]


def test_an_address_says_what_a_seed_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not with whom it ran, nor on how much of which machine."""
    first = address(walks("0"))
    for same in [
        walks("0:7"),
        walks("3", "cores = 2"),
        walks("0:4", "seeds_per_batch = 4"),
        walks("0", "settings = { noise = 0.5 }"),
    ]:
        assert address(same) == first
    others = [
        walks("0", "settings = { noise = 0.75 }"),
        walks("0", "transitions = 240"),
        walks("0", "episodes = 3"),
        walks("0", 'device = "cuda"'),
        walks("0").replace("walk.py", "step.py"),
    ]
    text = Path("walk.py").read_text(encoding="utf-8")
    Path("step.py").write_text(text, encoding="utf-8")
    found = [address(other) for other in others]
    Path("walk.py").write_text(text + "# changed\n", encoding="utf-8")
    plan = Path("plan.toml")
    plan.write_text(plan.read_text(encoding="utf-8").replace("step.py", "walk.py"), "utf-8")
    found.append(make_jobs(read_plan(plan))[0].folder)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99")
    found.append(address(walks("0")))
    assert len({first, *found}) == len(found) + 1
    assert address(walks("0", 'folder = "mine"')) == f"mine/{found[-1]}"


def test_the_same_runs_of_several_rows_are_there_once() -> None:
    jobs = jobs_of(walks("0:3") + walks("2:5"))
    seeds = [(job.tasks, seed) for job in jobs for seed in job.seeds]
    assert len(seeds) == len(set(seeds)) == 2 * 5


def test_batches_are_as_large_as_leaves_no_core_idle() -> None:
    def sizes(n_places: float | None, more: str = "", solver: str = "em") -> list[int]:
        row = f'[[runs]]\nsolvers = "{solver}"\ntasks = "{TASK}"\nseeds = "0:24"\n{more}'
        text = row.replace("transitions", "#") + "transitions = 100_000\n"
        return [len(job.seeds) for job in jobs_of(text, n_places)]

    assert sizes(2) == [6, 6, 6, 6] and sizes(1) == [10, 10, 4]  # never more than were measured
    assert sizes(64) == sizes(None) == [1] * 24
    assert sizes(2, solver="walk.py") == [1] * 24  # nobody knows whether it gains by it
    assert sizes(2, "seeds_per_batch = 12\n") == [12, 12]
    assert sizes(64, 'device = "cuda"\n') == [10, 10, 4]


def test_tasks_that_one_training_solves_are_one_job() -> None:
    names = ", ".join(f'"HalfCheetahVel-n100-k{k}-v0"' for k in (5, 10))
    text = f'[[runs]]\nsolvers = ["universal", "em"]\ntasks = [{names}]\ntransitions = 2_000_000\n'
    jobs = jobs_of(text)
    assert sorted((job.solver, len(job.tasks)) for job in jobs) == [
        ("em", 1),
        ("em", 1),
        ("universal", 2),
    ]


WRONG = [
    ("", "has no [[runs]], expected at least one"),
    ("runs = 3\n", "has no [[runs]], expected at least one"),
    ("[[runs]\n", "plan.toml is not TOML: "),
    ("sees = 3\n" + walks("0"), "plan.toml: no key 'sees'; did you mean seeds?"),
    (walks("0", "seeds_batch = 3"), "number 1: no key 'seeds_batch'; did you mean seeds_per_batch"),
    (walks("0") + '[[runs]]\nsolvers = "em"', "number 2 has no tasks, expected a list of ids"),
    (walks("0:x"), "seeds is '0:x', expected text such as"),
    (walks("3:3"), "seeds is '3:3', expected text such as"),
    (walks("0,0"), "one is there twice"),
    (walks("0", "cores = 0"), "cores is 0, expected a positive integer"),
    (walks("0", "cores = true"), "cores is True, expected a positive integer"),
    (walks("0", 'device = "tpu"'), "device is 'tpu', expected cpu or cuda"),
    (walks("0", "gpus = 0.5"), 'has gpus, but device is not "cuda"'),
    (walks("0", 'device = "cuda"\ngpus = 2'), "gpus is 2, expected a number above 0, at most 1"),
    (walks("0", 'folder = "../x"'), "folder is '../x', expected a relative path below"),
    (walks("0", 'folder = "sweep"'), "folder is 'sweep', expected a relative path below"),
    (walks("0", "settings = { noise = [] }"), "an empty list has nothing to try"),
    (walks("0", "settings = { nois = 1 }"), "--set nois=1: no setting 'nois'; did you mean noise?"),
    (walks("0", "settings = { noise = [0.5, 'wide'] }"), "--set noise=wide: "),
    (walks("3000000000"), "seed 3000000000 is not a training seed, expected 0 to"),
    (walks("0").replace("walk.py", "wolk.py"), "there is no solver file"),
    (walks("0").replace(OTHER, "ResourceGathering-n25-k4-v0"), "ResourceGathering-n25-k4-v0"),
    (walks("0") + "slurm = 3\n", "no key 'slurm'"),
    ("slurm = 3\n" + walks("0"), "slurm is 3, expected a table"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_a_wrong_plan_is_refused_in_one_line_before_anything_is_written(
    text: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = write_plan(text)
    before = sorted(Path().rglob("*"))
    assert main(["sweep", str(plan)]) == 2
    assert sorted(p for p in Path().rglob("*") if "__pycache__" not in p.parts) == before
    output = capfd.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert output.err.startswith("rmdp-bench: error: ") and message in output.err


def test_a_plan_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "no.toml"]) == 2
    assert "cannot read the plan no.toml" in capfd.readouterr().err
    for command in ("status", "cancel", "retry"):
        assert main(["sweep", command, "."]) == 2
        assert "is not the folder of a sweep" in capfd.readouterr().err


def test_print_gives_commands_of_what_is_left_and_writes_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    plan = write_plan(walks("0:2", "seeds_per_batch = 2"))
    words = ["sweep", str(plan), "--out", "out", "--print"]
    assert main(words) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 2 and not Path("out").exists()
    assert main(lines[0].split()[1:]) == 0  # a loop of a shell, which the sweep finds
    capfd.readouterr()
    assert main(words) == 0
    assert capfd.readouterr().out.splitlines() == lines[1:]
