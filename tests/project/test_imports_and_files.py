"""The shape of the project: who imports whom, what it needs, and what its files hold."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rmdp_bench.evaluation.offline import normalise
from rmdp_bench.submission.rows import RowFiles
from rmdp_bench.tasks import OfflineTask, get_task
from tests.helpers.checkout import ROOT, tracked_files
from tests.helpers.import_order import ORDER

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

PUBLIC_MODULES = {name for name in ORDER if name not in ("files", "counts", "terminal")}
# Not in the front of their package, which stays light: they import data sets, or torch; or they are
# the equations of a world, which an oracle may know, or a rule that everybody may; or numba.
PUBLIC_PARTS = {
    "envs.core.compiling",
    "envs.glucose.boluses",
    "envs.glucose.hovorka",
    "evaluation.offline",
    "evaluation.prediction",
    "solution.onnx_export",
    "solution.onnx_graphs",
}


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

    What is inside a subpackage is its own affair, but for PUBLIC_PARTS, and so are `files` and
    `terminal`.
    """
    match name.split("."):
        case ["rmdp_bench"]:
            return True
        case ["rmdp_bench", first]:
            return first in public_names("rmdp_bench") or first in PUBLIC_MODULES
        case ["rmdp_bench", *module, member] if ".".join(module) in PUBLIC_MODULES | PUBLIC_PARTS:
            return member in public_names(f"rmdp_bench.{'.'.join(module)}")
    return False


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("rmdp_bench", True),
        ("rmdp_bench.RunLog", True),
        ("rmdp_bench.runs", True),
        ("rmdp_bench.runs.RunLog", True),
        ("rmdp_bench.tasks.Task", True),
        ("rmdp_bench.population.Population", True),
        ("rmdp_bench.envs.ENVIRONMENTS", True),
        ("rmdp_bench.no_such_name", False),
        ("rmdp_bench.files.write_json", False),
        ("rmdp_bench.runs.checkpoints", False),
        ("rmdp_bench.runs.checkpoints.write_checkpoints", False),
        ("rmdp_bench.runs.*", False),
        ("rmdp_bench.tasks._tasks", False),
        ("rmdp_bench.tasks.dataclass", False),
        ("rmdp_bench.envs.velocity", False),
        ("rmdp_bench.evaluation.offline.OfflineSolution", True),
        ("rmdp_bench.evaluation.playing.call", False),
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
            own = module_name(path).removeprefix("baselines.")
            others -= {f"baselines.{name}" for name in FAMILIES.get(own, ())}  # named one by one
            if path.name == "__init__.py":  # the front of a family, which gives its solver
                others -= {f"{module_name(path)}.solver"}
            assert not any(name == other or name.startswith(f"{other}.") for other in others), (
                f"{path.name} imports the solver {name}"
            )


# What files of a family of solvers import, beside their own family; "online" and "offline" are the
# solvers that are one file each. A module's own entry adds to that of its family.
FAMILIES: dict[str, set[str]] = {
    "common": set(),
    "online.ppo": {"common"},
    "online": {"common", "online.ppo"},
    "online.em_plus": {"common", "online.ppo"},
    "online.universal": {"common", "online.ppo"},
    "offline.common": {"common"},
    "offline.planning": {"common", "offline.common"},
    "offline.model_free": {"common", "offline.common"},
    "offline.persim": {"common", "offline.common", "offline.planning"},
    "offline.model_free.bcq": {"common", "offline.common"},
    "offline.persim.persim_bcq": {"offline.model_free.bcq"},
    "offline.persim.simulated_worlds": {"offline.morel"},
    "offline.persim.persim_policy": {"offline.morel", "offline.persim.simulated_worlds"},
    "offline.cadm": {"common", "offline.common", "offline.planning"},
    "offline.morel": {"common", "offline.common", "offline.planning"},
    "heterogeneous": {"common", "offline.common"},
    "heterogeneous.factor_clustering": {
        *("offline.model_free", "offline.model_free.bcq", "offline.model_free.cql"),
    },
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
        ("online.em", "online.ppo.learner.PPOLearner", True),
        ("online.em", "online.end_to_end.Config", False),
        ("online.em", "online.universal.settings", False),
        ("online.ppo.settings", "online.universal.settings.task_settings", False),
        ("online.universal.settings", "online.ppo.settings.dense_rewards", True),
        ("online.universal.solver", "online.em_plus.places", False),
        ("online.ppo.learner", "offline.common.networks", False),
        ("offline.common.training", "online.ppo.settings", False),
        ("offline.common.training", "offline.planning.planner.action_space", False),
        ("offline.model_free.bcq", "offline.planning.planner", False),
        ("offline.persim.solver", "offline.model_free.bcq", False),
        ("offline.persim.persim_bcq", "offline.model_free.bcq.make_learner", True),
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


@pytest.mark.parametrize(
    "record",
    [(path.parent, seed) for path in sorted((ROOT / "leaderboards").rglob("records.json"))
     for seed in range(len(RowFiles(path.parent).seeds))],
    ids=lambda record: "-".join((*record[0].parts[-3:], f"seed-{record[1]}")),
)  # fmt: skip
def test_stored_results_follow_from_the_raw_numbers(record: tuple[Path, int]) -> None:
    row, seed = RowFiles(record[0]), record[1]
    result = row.result(seed)
    task = get_task(result.task)
    if isinstance(task, OfflineTask):
        episodes = row.array(seed, "episode_returns", (len(task.eval_agents), None))
        played = episodes.mean(axis=1)
        assert result.offline is not None
        np.testing.assert_allclose(played, result.offline.returns, rtol=1e-6)
        returns = normalise(task, task.eval_agents, played)
    else:
        shape = task.n_agents, task.n_representatives
        assignment, matrix = (
            row.array(seed, name, shape) for name in ("assignment", "welfare_matrix")
        )
        returns = (assignment * matrix).sum(axis=1)
    np.testing.assert_allclose(returns, result.agent_returns, rtol=1e-6)
    assert result.social_welfare == pytest.approx(returns.mean())
