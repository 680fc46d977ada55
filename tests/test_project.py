"""The shape of the project: who imports whom, and whether its documents say what is there."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from scipy import stats

from rmdp_bench.ceilings import EPISODE_STEPS, constant_speed_optimum
from rmdp_bench.cli import main
from rmdp_bench.files import read_json
from rmdp_bench.leaderboard import build_tables
from rmdp_bench.offline import normalise
from rmdp_bench.population import TargetPopulation
from rmdp_bench.results.records import read_result
from rmdp_bench.results.run_log import read_curve
from rmdp_bench.scoring import standard_error
from rmdp_bench.tasks import get_task
from scripts import agents_ablation
from scripts.show_offline_table import format_tables
from tests.checkout import ROOT, needs_submissions, tracked_files

README = (ROOT / "README.md").read_text(encoding="utf-8")
ONLINE_PAGE = (ROOT / "baselines/online/README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# A module of rmdp_bench imports only modules to its left (or parts of its own package).
ORDER = (
    *("files", "terminal", "cores", "system", "energy", "population", "scoring", "ceilings"),
    *("envs", "tasks", "stable_baselines", "graph_bounds", "graphs", "solution", "export"),
    *("datasets", "evaluation", "offline", "results", "submission", "leaderboard", "plotting"),
    "cli",
)
PUBLIC_MODULES = tuple(name for name in ORDER if name not in ("files", "terminal", "graph_bounds"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path) -> Iterator[str]:
    """Dotted names that a file imports; `from a import b` gives `a.b`."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def package_files(package: str) -> list[Path]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    return files


@pytest.mark.parametrize(
    "path", package_files("rmdp_bench"), ids=lambda path: module_name(path) or "rmdp_bench"
)
def test_modules_import_only_leftwards(path: Path) -> None:
    parts = module_name(path).split(".")
    if len(parts) == 1 or parts[1] == "__main__":  # the package's front, which gathers the names
        return
    assert parts[1] in ORDER, f"{parts[1]} has no place in the order of modules"
    for name in imported_names(path):
        imported = name.split(".")
        assert imported[0] != "baselines", f"{path.name} imports {name}"
        if imported[0] == "rmdp_bench":
            assert imported[1] in ORDER, f"{path.name} imports {name} from the package's front"
            assert ORDER.index(imported[1]) <= ORDER.index(parts[1]), f"{path.name}: {name}"


def solver_modules() -> set[str]:
    """Modules of baselines that define `solve` at the top level."""
    found = set()
    for path in package_files("baselines"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if any(isinstance(node, ast.FunctionDef) and node.name == "solve" for node in body):
            found.add(module_name(path))
    return found


def public_names(module: str) -> set[str]:
    """Those of `__all__`; without it, those that the module itself defines."""
    loaded = importlib.import_module(module)
    if hasattr(loaded, "__all__"):
        return set(loaded.__all__)
    assert loaded.__file__ is not None
    names: set[str] = set()
    for node in ast.parse(Path(loaded.__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(target.id for target in targets if isinstance(target, ast.Name))
    return {name for name in names if not name.startswith("_")}


def is_public(name: str) -> bool:
    """Whether solvers may import it: the package, its front's names, and those of its modules.

    What is inside a subpackage is its own affair, and so are `files` and `terminal`.
    """
    match name.split("."):
        case ["rmdp_bench"]:
            return True
        case ["rmdp_bench", first]:
            return first in public_names("rmdp_bench") or first in PUBLIC_MODULES
        case ["rmdp_bench", module, member] if module in PUBLIC_MODULES:
            return member in public_names(f"rmdp_bench.{module}")
    return False


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("rmdp_bench", True),
        ("rmdp_bench.RunLog", True),
        ("rmdp_bench.results", True),
        ("rmdp_bench.results.RunLog", True),
        ("rmdp_bench.tasks.Task", True),
        ("rmdp_bench.population.Population", True),
        ("rmdp_bench.envs.ENVIRONMENTS", True),
        ("rmdp_bench.no_such_name", False),
        ("rmdp_bench.files.write_json", False),
        ("rmdp_bench.results.checkpoints", False),
        ("rmdp_bench.results.checkpoints.write_checkpoints", False),
        ("rmdp_bench.results.*", False),
        ("rmdp_bench.tasks._tasks", False),
        ("rmdp_bench.tasks.dataclass", False),
        ("rmdp_bench.envs.velocity", False),
    ],
)
def test_what_is_public(name: str, public: bool) -> None:
    assert is_public(name) == public


@pytest.mark.parametrize(
    "path", [*package_files("baselines"), *package_files("examples")], ids=module_name
)
def test_solvers_use_public_names_and_no_other_solver(path: Path) -> None:
    solvers = solver_modules()
    assert solvers
    for name in imported_names(path):
        parts = name.split(".")
        # An oracle's dynamics are the simulators themselves, which no solver may know.
        is_oracle = module_name(path) == "baselines.offline.planning.true_dynamics"
        known = is_oracle and parts[1:2] == ["envs"]
        assert known or parts[0] != "rmdp_bench" or is_public(name), f"{path.name} imports {name}"
        if parts[0] == "baselines":
            others = solvers - {module_name(path)}
            if path.name == "__init__.py":  # the front of a family, which gives its solver
                others -= {f"{module_name(path)}.solver"}
            assert not any(name == other or name.startswith(f"{other}.") for other in others), (
                f"{path.name} imports the solver {name}"
            )


# What files of a family of solvers import, beside their own family; "online" and "offline" are the
# solvers that are one file each. A module's own entry adds to that of its family.
FAMILIES: dict[str, set[str]] = {
    "common": set(),
    "online.facility_location": set(),
    "online.ppo": {"common"},
    "online": {"common", "online.ppo"},
    "online.em_plus": {"common", "online.ppo", "online.facility_location"},
    "online.universal": {"common", "online.ppo", "online.facility_location"},
    "offline.common": {"common"},
    "offline.planning": {"common", "offline.common"},
    "offline.model_free": {"common", "offline.common"},
    "offline.persim": {"common", "offline.common", "offline.planning"},
    "offline.persim.persim_bcq": {"offline.model_free"},
    "offline.persim.persim_policy": {"offline.morel"},
    "offline.persim.simulated_worlds": {"offline.morel"},
    "offline.cadm": {"common", "offline.common", "offline.planning"},
    "offline.morel": {"common", "offline.common", "offline.planning"},
}


def families(module: str) -> list[str]:
    """Entries of FAMILIES that a dotted name without "baselines." is in, the narrowest first."""
    parts = module.split(".")
    return [name for i in range(len(parts), 0, -1) if (name := ".".join(parts[:i])) in FAMILIES]


def may_import(module: str, imported: str) -> bool:
    """Whether one module of baselines may import a name of another, both without "baselines."."""
    own = [name for name in families(module) if name != "online" or module.count(".") == 1]
    to = families(imported)[0]
    return to in (set(own) - {"online"}).union(*(FAMILIES[name] for name in own))


@pytest.mark.parametrize(
    ("module", "imported", "allowed"),
    [
        ("online.em", "online.ppo.learner.Learner", True),
        ("online.em", "online.end_to_end.Config", False),
        ("online.em", "online.universal.settings", False),
        ("online.ppo.settings", "online.universal.settings.TASK_SETTINGS", False),
        ("online.universal.settings", "online.ppo.settings.DENSE_REWARDS", True),
        ("online.universal.solver", "online.em_plus.places", False),
        ("online.ppo.learner", "offline.common.networks", False),
        ("offline.common.training", "online.ppo.settings", False),
        ("offline.common.training", "offline.planning.planner.action_space", False),
        ("offline.model_free.bcq", "offline.planning.planner", False),
        ("offline.persim.solver", "offline.model_free.batch_constrained", False),
        ("offline.persim.persim_bcq", "offline.model_free.batch_constrained.make_bcq", True),
        ("offline.persim.persim_bcq", "offline.persim.ensembles", True),
        ("offline.morel.solver", "offline.cadm.model", False),
        ("common.settings", "offline.common.data", False),
    ],
)
def test_which_families_may_import_which(module: str, imported: str, allowed: bool) -> None:
    assert may_import(module, imported) == allowed


@pytest.mark.parametrize("path", package_files("baselines"), ids=module_name)
def test_families_of_solvers_import_one_way(path: Path) -> None:
    module = module_name(path).removeprefix("baselines").removeprefix(".")
    if not module:
        return
    assert families(module), f"{module} has no place in the order of families"
    for name in imported_names(path):
        if name.startswith("baselines."):
            imported = name.removeprefix("baselines.")
            assert families(imported), f"{module} imports {name}, which is in no family"
            assert may_import(module, imported), f"{module} imports {name}"


def code_blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))


def test_documents_name_existing_make_targets() -> None:
    text = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.MULTILINE))
    assert {"demo", "test"} <= named <= make_targets()


def command_lines() -> list[list[str]]:
    """Calls of `rmdp-bench` in the documents' shell blocks and in the Makefile."""
    text = "".join(code_blocks("sh") + code_blocks("sh", ONLINE_PAGE)) + MAKEFILE
    calls = re.findall(r"^\s*(?:\$\(BIN\)/)?rmdp-bench (.+)$", text, flags=re.MULTILINE)
    assert len(calls) >= 6
    return [call.split() for call in calls]


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_documents_name_existing_commands(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = words[: 2 if words[0] in ("datasets", "leaderboard") else 1]
    assert main([*command, "--help"]) == 0
    described = capsys.readouterr().out.split()
    assert [word for word in words if word.startswith("--") and word not in described] == []


def test_datasets_in_the_readme_are_those_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "info", "--markdown"]) == 0
    assert capsys.readouterr().out in README


@needs_submissions
@pytest.mark.parametrize("page", ["README.md", "baselines/online/README.md"])
def test_readme_names_existing_files(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize(
    ("number", "printed"),
    [
        (0, ["(100,)", "(8,) (8, 100)"]),
        (2, ["17 (", ", 4) "]),
        (3, ["(1000000, 5) "]),
        (1, ["[  0  17 600]", "('force', 'half_length') [", "600)", "[ True  True  True]"]),
    ],
)
def test_readme_programs(number: int, printed: list[str], tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(code_blocks("python")[number], encoding="utf-8")
    output = subprocess.run(
        [sys.executable, program],
        cwd=tmp_path,
        env={
            **python_path(),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MINARI_DATASETS_PATH": str(tmp_path / "minari"),
        },
        check=True,
        capture_output=True,
        text=True,
    )
    assert [text for text in printed if text not in output.stdout] == []


def python_path() -> dict[str, str]:
    """The environment variable with which a program elsewhere finds this checkout."""
    return {"PYTHONPATH": str(ROOT)}


def pinned_versions() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin) for pin in pins)
    return {canonicalize_name(name): version for name, version in (p.split("==") for p in pins)}


def supported_pythons() -> list[str]:
    prefix = "Programming Language :: Python :: 3."
    return [f"3.{c.removeprefix(prefix)}" for c in PROJECT["classifiers"] if c.startswith(prefix)]


def test_supported_pythons_are_the_same_everywhere() -> None:
    oldest, *_, newest = supported_pythons()
    assert PROJECT["requires-python"] == f">={oldest}"
    assert f"Python {oldest} or newer" in README
    workflow = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    assert f'python-version: ["{oldest}", "{newest}"]' in workflow
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"one set for Python {oldest} to {newest} on Linux and macOS" in constraints


@pytest.mark.parametrize("system", ["linux", "darwin"])
@pytest.mark.parametrize("python", supported_pythons())
def test_constraints_pin_every_requirement(python: str, system: str) -> None:
    """Direct and transitive, but for torch's CUDA packages, which depend on its build.

    And but for the extra "video": moviepy wants an older pillow than the one that is pinned.
    """
    pins = pinned_versions()
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_system": system.title(),
    }
    extras = PROJECT["optional-dependencies"]
    own = [line for extra, lines in extras.items() if extra != "video" for line in lines]
    pending = [Requirement(line) for line in PROJECT["dependencies"] + own]
    pending = [requirement for requirement in pending if applies(requirement, environment)]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        key = (name, tuple(sorted(requirement.extras)))
        if key in seen or name.startswith(("cuda", "nvidia", "triton")):
            continue
        seen.add(key)
        assert name in pins, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(pins[name], prereleases=True), str(requirement)
        for needed in requirements_of(name):
            if applies(needed, environment, requirement.extras):
                pending.append(needed)


def requirements_of(name: str) -> list[Requirement]:
    """As the installed package states them; none of one that is for other Pythons or systems."""
    try:
        return [Requirement(line) for line in importlib.metadata.requires(name) or []]
    except importlib.metadata.PackageNotFoundError:
        return []


def applies(
    requirement: Requirement, environment: dict[str, str], extras: Iterable[str] = ()
) -> bool:
    marker = requirement.marker
    return marker is None or any(
        marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)
    )


def test_version_is_the_same_everywhere() -> None:
    version = PROJECT["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_no_file_names_a_place_on_one_machine() -> None:
    place = re.compile(rb"(?:^|[^A-Za-z0-9_.])/(?:home|root|Users|work)/", flags=re.MULTILINE)
    files = tracked_files()
    assert ROOT / "README.md" in files
    assert [path.name for path in files if place.search(path.read_bytes())] == []


def test_policies_do_not_name_the_source_files_that_made_them() -> None:
    files = tracked_files("*.onnx")
    assert files
    name = re.compile(rb"\w{2}\.py\b")  # weights may have the three bytes by chance
    assert [path for path in files if name.search(path.read_bytes())] == []


@needs_submissions
def test_results_in_the_readme_are_those_of_the_leaderboard() -> None:
    expected = []
    for table in build_tables(ROOT / "leaderboards"):
        for entry in table.entries:
            if table.task.track != "online" or not entry.source.startswith("reference"):
                continue
            row = entry.summary
            welfare = f"{row.social_welfare:.2f} ± {row.standard_error:.2f}"
            share = f"{100 * (row.share_of_ceiling or 0):.1f} %"
            both = f"{welfare} | {row.reassigned_welfare:.2f}"
            expected.append(f"| `{row.task}` | `{row.solver}` | {both} | {share} |")
    assert expected
    assert [line for line in README.splitlines() if re.match(r"\| `\S+-k\d+-v0` \|", line)] == (
        expected
    )


@needs_submissions
def test_offline_table_on_the_page_is_that_of_the_leaderboard() -> None:
    page = (ROOT / "baselines/offline/README.md").read_text(encoding="utf-8")
    for world, lines in format_tables(ROOT / "leaderboards").items():
        assert len(lines) > 10
        assert f"### {world}\n\n" + "\n".join(lines) + "\n\n" in page


def test_ablation_on_the_page_is_the_stored_one() -> None:
    """The rows of the table, in any order."""
    stored = read_json(ROOT / "benchmarks/results/em_plus_ablation.json")
    ceiling = get_task(stored["task"]).ceiling
    assert ceiling is not None
    expected = set()
    for welfare in stored["social_welfare"].values():
        first, more = (
            f"{np.mean(part):.2f} ± {standard_error(part):.2f}" if part else ""
            for part in (welfare[:3], welfare[3:])
        )
        share = 100 * np.mean(welfare[:3]) / ceiling
        expected.add(f"{first} | {share:.1f} % | {more} |")
    page = (ROOT / "baselines/online/README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^`|]+ \| (\d.* % .*)$", page, flags=re.MULTILINE)
    assert len(rows) == len(expected) == 12
    assert set(rows) == expected


def test_speeds_in_the_readme_are_those_of_the_benchmark() -> None:
    """Task, seeds, speed, share of the floor, plain torch and memory of every row."""
    measured = {}
    for line in (ROOT / "benchmarks/results/training.md").read_text(encoding="utf-8").splitlines():
        if re.match(r"\| \S+-v0 \|", line):
            task, seeds, path, _, _, _, speed, _, share, _, memory = line.strip("| ").split(" | ")
            measured[task.removesuffix("-v0"), seeds, path] = (speed, share, memory)
    rows = re.findall(r"^\| `(\S+-k\d+)` \| (\d+) \| (.*) \|$", README, flags=re.MULTILINE)
    assert rows
    for task, seeds, rest in rows:
        speed, share, memory = measured[task, seeds, "compiled"]
        plain = measured.get((task, seeds, "plain"), ("", "", ""))[0]
        expected = f"{speed} | {100 * float(share):.0f} % | {plain} | {memory} GiB"
        assert rest.split() == expected.split()


@needs_submissions
def test_critics_on_the_page_are_compared_by_their_curves() -> None:
    page = (ROOT / "baselines/online/README.md").read_text(encoding="utf-8")
    welfare = []
    for name in ("reference", "reference-outcome"):
        folder = ROOT / "leaderboards/submissions" / name / "HalfCheetahVel-n100-k5-v0/em"
        curves = [read_curve(path) for path in sorted(folder.glob("seed-*/curve.csv"))]
        welfare.append(np.array([curve["social_welfare"] for curve in curves]))  # (seeds, points)
    transitions = curves[0]["transitions"]
    rows = re.findall(r"^\| ([\d,]+) \| (\S+ ± \S+) \| (\S+ ± \S+) \|$", page, re.MULTILINE)
    assert len(rows) == 5
    for at, *cells in rows:
        point = transitions.index(float(at.replace(",", "")))
        own = [values[:, point] for values in welfare]
        assert cells == [f"{part.mean():.2f} ± {standard_error(part):.2f}" for part in own]
    means = [values.mean(axis=0) for values in welfare]
    widths = [stats.sem(values) * stats.t.ppf(0.975, len(values) - 1) for values in welfare]
    overlap = np.abs(means[0] - means[1]) <= widths[0] + widths[1]
    assert f"overlap at {overlap.sum()} of the {len(overlap)} points" in page


@needs_submissions
def test_ablation_over_agents_on_the_page_is_the_stored_one() -> None:
    page = (ROOT / "baselines/offline/README.md").read_text(encoding="utf-8")
    for name, n_lines in (("agents_ablation", 5), ("agents_ablation_equal_updates", 2)):
        record = read_json(ROOT / f"benchmarks/results/{name}.json")
        task, rows = get_task(record["task"]), record["agents"]
        if name == "agents_ablation":
            folder = ROOT / "leaderboards/submissions/reference-planning" / task.id
            records = sorted(folder.glob("persim/seed-*/result.json"))
            rows["500"] = agents_ablation.summarise([read_result(path) for path in records])
        lines = [agents_ablation.format_row(task, n_agents, row) for n_agents, row in rows.items()]
        assert len(lines) == n_lines and "\n".join(lines) + "\n\n" in page


def read_benchmark(name: str) -> list[dict[str, str]]:
    """Rows of its table, by column."""
    text = (ROOT / f"benchmarks/results/{name}.md").read_text(encoding="utf-8")
    header, _, *rows = [line.strip("| ").split(" | ") for line in text.splitlines() if "|" in line]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_figures_of_a_million_agents_are_those_of_the_benchmark() -> None:
    """In the order of the text."""
    rows = {(row["agents"], row["critic"]): row for row in read_benchmark("agents")}
    many, few = rows["1,000,000", "outcome"], rows["100", "outcome"]
    expected = [many["of the least"], f"{many['memory GiB']} GiB"]
    expected += [many["of a million"], few["of a million"]]
    expected += [rows["10,000", "agents"]["of the least"]]
    expected += [rows["100", "agents"]["welfare"], few["welfare"]]
    section = README.split("## Many agents\n")[1].split("\n## ")[0]
    pattern = r"[\d.]+ x|\d+\.\d+ ± \d+\.\d+|[\d.]+ GiB"
    assert re.findall(pattern, section) == expected


def test_speeds_of_persim_are_those_of_the_benchmarks() -> None:
    """In the order of the text; minutes are those of all decisions of five agents' episodes."""
    trained = {row["world"]: row for row in read_benchmark("persim")}
    rows = read_benchmark("planning")
    planned = {row["world"]: row for row in rows if row["environments"] == "20"}
    (alone,) = (row for row in rows if (row["world"], row["environments"]) == ("half_cheetah", "1"))
    worlds = ("cart_pole", "mountain_car")
    expected = [trained[world]["of plain"] for world in worlds]
    expected += [trained[world]["training minutes"] for world in worlds]
    for world in worlds:
        expected += [planned[world]["batched decisions/s"], planned[world]["of plain"]]
    for world, n_steps in zip(worlds, (200, 500), strict=True):
        seconds = 5 * 20 * n_steps / float(planned[world]["batched decisions/s"])
        expected.append(f"{seconds / 60:.1f}")
    expected += [
        planned["half_cheetah"]["batched decisions/s"],
        planned["half_cheetah"]["of plain"],
    ]
    expected.append(alone["batched decisions/s"])
    page = (ROOT / "baselines/offline/README.md").read_text(encoding="utf-8")
    section = page.split("## Speed of PerSim\n")[1].split("\n## ")[0]
    assert re.findall(r"\d+\.\d+(?: x)?", section) == expected


@pytest.mark.parametrize(
    "record",
    sorted((ROOT / "leaderboards").rglob("result.json")),
    ids=lambda path: "-".join(path.parts[-5:-1]),
)
def test_stored_results_follow_from_the_raw_numbers(record: Path) -> None:
    result = read_result(record)
    task = get_task(result.task)
    if task.track == "offline":
        with np.load(record.parent / "returns.npz", allow_pickle=False) as archive:
            played = archive["episode_returns"].mean(axis=1)
        assert result.offline is not None
        np.testing.assert_allclose(played, result.offline.returns, rtol=1e-6)
        returns = normalise(task, task.eval_agents or (), played)
    else:
        assignment = np.load(record.parent / "solution" / "assignment.npy", allow_pickle=False)
        with np.load(record.parent / "welfare.npz", allow_pickle=False) as archive:
            returns = (assignment * archive["welfare_matrix"]).sum(axis=1)
    np.testing.assert_allclose(returns, result.agent_returns, rtol=1e-6)
    assert result.social_welfare == pytest.approx(returns.mean())


@needs_submissions
def test_splits_on_the_page_of_the_online_solvers_are_those_of_the_stored_runs() -> None:
    """What welfare loses by the split alone, and the agents whom the optimum leaves out."""
    task = get_task("HalfCheetahVel-n100-k5-v0")
    assert isinstance(task.population, TargetPopulation)
    optimum = constant_speed_optimum(task.population, task.n_representatives)
    rewards = EPISODE_STEPS * task.population.rewards(task.population.targets[:, None])
    rows = []
    for submission, solver in (
        ("reference", "em"),
        ("reference-em-plus", "em_plus"),
        ("reference-universal", "universal"),
    ):
        folder = ROOT / "leaderboards/submissions" / submission / task.id / solver
        runs = sorted(folder.glob("seed-*"))
        welfare = np.mean([read_result(run / "result.json").social_welfare for run in runs])
        groups = [np.load(run / "solution/assignment.npy") for run in runs]
        # A target is a best constant speed for any group (`constant_speed_optimum`).
        best = np.array([(rewards @ group).max(axis=0).sum() / task.n_agents for group in groups])
        share, best = 100 * welfare / optimum.welfare, 100 * best / optimum.welfare
        rows.append(
            f"| `{solver}` | {len(runs)} | {share:.1f} | {best.min():.1f} to {best.max():.1f} |"
        )
    assert re.findall(r"^\| `\w+` \| \d .*", ONLINE_PAGE, flags=re.MULTILINE) == rows
    served = EPISODE_STEPS * task.population.rewards(optimum.speeds[:, None]).max(axis=0)
    assert f"{(served < 1.0).sum()} of the {task.n_agents} agents receive less" in ONLINE_PAGE
