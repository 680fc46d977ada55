"""Pages of the site that follow from the package and the records, for `docs/conf.py`.

    docs/generated/environments/  a page for each environment: its module's docstring, spaces,
                                  population, ceiling against k, moving picture
    docs/generated/datasets/      one for each data set: who acts, statistics, tasks
    docs/generated/solvers/       one for each solver: its module's docstring, files, settings, rows
    docs/generated/reference/     one for each public module, by autodoc
    docs/generated/*.md           documents that stand elsewhere in the repository

Everything there is written anew at each build, and nothing of it is kept.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import os
import re
import shutil
import tomllib
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym

import rmdp_bench
from rmdp_bench import DynamicsPopulation, EnvironmentEntry, LinearPopulation, TargetPopulation
from rmdp_bench.datasets import DATASETS
from rmdp_bench.datasets.table import DatasetEntry
from rmdp_bench.envs.mo_worlds import MO_WORLDS, MultiObjectiveWorld
from rmdp_bench.files import read_json
from rmdp_bench.plotting.style import draw_panels, save
from rmdp_bench.runs.settings import describe_settings
from rmdp_bench.runs.solver_loading import (
    OWN_WORLDS,
    SOLVERS,
    Solver,
    form_with_own_worlds,
    load_solver,
)
from rmdp_bench.tasks import OfflineTask, OnlineTask, get_task, list_tasks
from scripts.document_blocks import MO_FACTS, spaces_of, table
from scripts.draw_policies import PICTURES
from scripts.generate_documents import board, welfare_of

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

CONTENTS: Mapping[str, Sequence[str]] = {
    "Start": ["idea", "first_hour", "running", "sweeps", "faq"],
    "Worlds and data": ["environments", "glucose", "datasets", "many_agents"],
    "Solvers": [
        *("online_solvers", "em", "em_plus", "universal"),
        *("offline_solvers", "offline_results", "glucose_clinic", "half_cheetah_het", "morel"),
        *("your_own_solver", "your_own_tasks"),
    ],
    "Scores": [
        *(
            "scores",
            "results",
            "reproduction",
            "reproduction_evidence",
            "generated/submitting",
            "verification",
            "leaderboard",
            "speed",
        ),
    ],
    "The suite": [
        *("reference", "design"),
        *("generated/contributing", "maintaining", "generated/security", "generated/changelog"),
    ],
}
"""Heading of the site's contents -> its pages, in order."""

BELOW: Mapping[str, str] = {
    "environments": "environments",
    "datasets": "datasets",
    "online_solvers": "solvers/online",
    "offline_solvers": "solvers/offline",
    "reference": "reference",
}
"""Page -> the folder of generated pages that belong under it."""

ELSEWHERE: Mapping[str, str] = {
    "leaderboards/SUBMITTING.md": "generated/submitting",
    "CONTRIBUTING.md": "generated/contributing",
    "CHANGELOG.md": "generated/changelog",
    "SECURITY.md": "generated/security",
    "baselines/README.md": "generated/solver_files",
    "README.md": "index",
}
"""Document of the repository -> the page that it is, or that stands for it."""

REFERENCE: Mapping[str, str] = {
    "rmdp_bench.population": "Populations",
    "rmdp_bench.envs.registry": "Environments: the table",
    "rmdp_bench.envs.represent": "Any world for your agents",
    "rmdp_bench.envs.wrappers": "Wrappers",
    "rmdp_bench.envs.parallel": "PettingZoo",
    "rmdp_bench.stable_baselines": "Stable-Baselines3",
    "rmdp_bench.tasks": "Tasks",
    "rmdp_bench.own_tasks": "Tasks of your own",
    "rmdp_bench.ceilings": "Ceilings",
    "rmdp_bench.solution.policies": "Policies and solutions",
    "rmdp_bench.solution.storage": "Solutions in files",
    "rmdp_bench.solution.onnx_export": "Export to ONNX",
    "rmdp_bench.evaluation.online": "Evaluation, online",
    "rmdp_bench.evaluation.offline": "Evaluation, offline",
    "rmdp_bench.scoring": "Scores",
    "rmdp_bench.datasets.loading": "Data sets",
    "rmdp_bench.runs.requests": "Requests of runs",
    "rmdp_bench.runs.running": "Runs",
    "rmdp_bench.runs.log": "What a solver sees of its run",
    "rmdp_bench.runs.records": "Records",
    "rmdp_bench.leaderboard": "Leaderboard",
    "rmdp_bench.leaderboard.policies": "Policies of the board",
}
"""Module -> title of its page."""

WORLDS: Sequence[EnvironmentEntry | MultiObjectiveWorld] = [
    *rmdp_bench.ENVIRONMENTS,
    *MO_WORLDS,
]
"""That have pages."""

VALUES: Mapping[str, tuple[str, str]] = {
    "ENVIRONMENTS": ("rmdp_bench.envs.registry", "The rows of all environments."),
    "Task": ("rmdp_bench.tasks", "`OnlineTask` or `OfflineTask`."),
}
"""Public names that are neither class nor function, and so have no docstring of their own."""

MAX_BUDGET = 10
"""Of the curve of ceilings, where nothing but computing is needed."""
_LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)\s]+)(\))")
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def pages() -> list[str]:
    """The pages of the contents; those that are Markdown files here, without the generated."""
    return [page for own in CONTENTS.values() for page in own if not page.startswith("generated/")]


def write(docs: Path) -> None:
    """Write `generated` into the folder of the site's sources, in the place of what is there."""
    out = docs / "generated"
    shutil.rmtree(out, ignore_errors=True)
    for source, page in ELSEWHERE.items():
        if page.startswith("generated/"):
            text = (ROOT / source).read_text(encoding="utf-8")
            _put(docs / f"{page}.md", lead_links(text, ROOT / source, docs / f"{page}.md"))
    for entry in WORLDS:
        _put(out / "environments" / f"{slug(entry.id)}.md", environment_page(entry, out))
    for dataset in DATASETS:
        _put(out / "datasets" / f"{slug(dataset.id)}.md", dataset_page(dataset))
    for name, module in SOLVERS.items():
        track = module.split(".")[1]
        _put(out / "solvers" / track / f"{name}.md", solver_page(name))
    for name in OWN_WORLDS:
        _put(out / "solvers" / "heterogeneous" / f"{name}.md", own_worlds_page(name))
    _put(out / "reference" / "rmdp_bench.md", names_page())
    for module, title in REFERENCE.items():
        text = f"# {title}\n\n```{{eval-rst}}\n.. automodule:: {module}\n```\n"
        _put(out / "reference" / f"{module}.md", text)


def slug(name: str) -> str:
    """A file name for an id."""
    return name.removeprefix("rmdp/").replace("/", "-")


def contents_of(page: str) -> str:
    """The lists of pages that stand, unseen, at the end of a page; empty for most."""
    if page == "index":
        return "".join(_toctree(own, title) for title, own in CONTENTS.items())
    if page in BELOW:
        extra = []
        if page == "online_solvers":
            extra = ["generated/solver_files", "generated/solvers/heterogeneous/*"]
        return _toctree([*extra, f"generated/{BELOW[page]}/*"])
    return ""


def _toctree(own: Sequence[str], caption: str | None = None) -> str:
    options = [":hidden:", ":glob:", *([f":caption: {caption}"] if caption else [])]
    return "\n\n```{toctree}\n" + "\n".join([*options, "", *own]) + "\n```\n"


@functools.cache
def repository() -> str:
    """Address of the repository."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text)["project"]["urls"]["Repository"])


def lead_links(text: str, source: Path, page: Path | None = None) -> str:
    """Lead the links of a document to pages of the site, or to the repository.

    Args:
        text: Markdown.
        source: the file that it stands in.
        page: the file that it is going to stand in; None: the same.

    Raises:
        ValueError: a link leads to nothing.
    """
    fences: list[str] = []

    def hide(match: re.Match[str]) -> str:
        fences.append(match[0])
        return f"\0{len(fences) - 1}\0"

    def lead(match: re.Match[str]) -> str:
        path, _, anchor = match[2].partition("#")
        return match[1] + _address(path, anchor, source, page or source) + match[3]

    text = _LINK.sub(lead, _FENCE.sub(hide, text))
    return re.sub("\0(\\d+)\0", lambda match: fences[int(match[1])], text)


def _address(path: str, anchor: str, source: Path, page: Path) -> str:
    target = Path(os.path.normpath(source.parent / urllib.parse.unquote(path)))
    after = f"#{anchor}" if anchor else ""
    if not target.is_relative_to(ROOT):
        raise ValueError(f"{source}: the link {path} leads out of the repository")
    name = target.relative_to(ROOT).as_posix()
    if name in ELSEWHERE:
        target = DOCS / f"{ELSEWHERE[name]}.md"
        if target == page:  # the page that stands for it here leads to the document itself
            return f"{repository()}/blob/main/{name}{after}"
    elif not target.exists():
        raise ValueError(f"{source}: the link {path} leads to nothing")
    elif target.is_dir() or not (
        target.is_relative_to(DOCS) or target.suffix in (".png", ".svg", ".webp")
    ):
        return f"{repository()}/{'tree' if target.is_dir() else 'blob'}/main/{name}{after}"
    return Path(os.path.relpath(target, page.parent)).as_posix() + after


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip() + "\n", encoding="utf-8")


def docstring_of(module: str) -> str:
    """Of a module, which is read but not imported."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"there is no module {module}")
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""


# Environments


def environment_page(entry: EnvironmentEntry | MultiObjectiveWorld, out: Path) -> str:
    """Markdown of the page of an environment; its pictures are written beside it."""
    title, sections = split_sections(of_world(docstring_of(_module_of(entry.id)), entry.id))
    observation, action = map(_bounded, spaces_of(entry))
    extra = []
    if isinstance(entry, MultiObjectiveWorld):
        extra = [["needs", '`pip install "rmdp_bench[mo]"`, on Python up to 3.13']]
    parts = [
        f"# {entry.id}",
        title.rstrip("."),
        _moving_picture(entry.id),
        table(
            ["fact", "value"],
            [
                ["make it", f'`gym.make("{entry.id}")`, `gym.make_vec("{entry.id}", n)`'],
                *extra,
                ["agents", f"{entry.n_agents:,}"],
                ["observation", f"`{observation}`"],
                ["action", f"`{action}`"],
                ["steps of an episode, at most", f"{entry.max_episode_steps:,}"],
            ],
        ),
    ]
    parts += [f"## {name}\n\n{text}" for name, text in sections.items() if name == "Description"]
    parts.append(_population_part(entry, out))
    parts.append(_ceiling_part(entry, out))
    for name, text in sections.items():
        if name != "Description":
            parts.append(f"## {name}\n\n{text}")
    return "\n\n".join(part for part in parts if part)


def _module_of(env_id: str) -> str:
    """Where its single form is made."""
    return str(gym.spec(env_id).entry_point).partition(":")[0]


def of_world(docstring: str, env_id: str) -> str:
    """What the docstring of a module says of one of its worlds, as in `envs/velocity.py`.

    A line that begins with names of worlds and a colon is of these only, with what follows up to
    the next such line, or to the end of the paragraph. The names are left out.
    """
    stems = {slug(entry.id).partition("-")[0] for entry in WORLDS}
    own, kept, is_ours = slug(env_id).partition("-")[0], [], True
    for line in docstring.splitlines():
        label = re.match(r"( +)(\w+(?:, \w+)*): ", line)
        if label and stems.issuperset(label[2].split(", ")):
            is_ours = own in label[2].split(", ")
            line = label[1] + line[label.end() :]
        elif not line.strip():
            is_ours = True
        if is_ours:
            kept.append(line)
    return "\n".join(kept)


def split_sections(docstring: str) -> tuple[str, dict[str, str]]:
    """First paragraph, and the sections of a module's docstring as Markdown."""
    first, *rest = re.split(r"^([A-Z][\w ]+):$", docstring, flags=re.MULTILINE)
    sections = {}
    for name, body in zip(rest[::2], rest[1::2], strict=True):
        lines = [line.removeprefix("    ") for line in body.strip("\n").splitlines()]
        text = "\n".join(lines).strip()
        if name in ("Arguments", "Version history"):
            text = re.sub(r"^(\w[\w, ]*): ", r"- `\1`: ", text, flags=re.MULTILINE)
            text = re.sub(r"^(?!- |$)", "  ", text, flags=re.MULTILINE)
        sections[name] = _list_components(text).replace("*", r"\*")
    return " ".join(first.split()), sections


def _list_components(text: str) -> str:
    """Make lines such as "0  what it is" a list; what goes on there is indented."""
    lines: list[str] = []
    in_list = False
    for line in text.splitlines():
        component = re.match(r"(\d+(?:, \d+)*)  (.*)", line)
        if component:
            lines += [] if in_list else [""]
            line, in_list = f"- `{component[1]}`: {component[2]}", True
        elif in_list and not line.startswith(" "):
            lines, in_list = [*lines, ""], False
        lines.append(line)
    return "\n".join(lines)


def _bounded(space: gym.Space[Any]) -> str:
    return re.sub(r"\s+", " ", str(space))[:160]


def _moving_picture(env_id: str) -> str:
    for picture in PICTURES:
        if env_id in picture.env_ids:
            if not picture.path.is_file():
                return "There is no moving picture of it yet, as no policies for it are stored."
            path = os.path.relpath(picture.path, DOCS / "generated" / "environments")
            plain = picture.description.replace("`", "")  # of code an alternative text is empty
            return f"![{plain}]({Path(path).as_posix()})\n\n{picture.description}"
    return ""


def _population_part(entry: EnvironmentEntry | MultiObjectiveWorld, out: Path) -> str:
    population = entry.make_population(0)
    path = out / "pictures" / f"population-{slug(entry.id)}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(entry, MultiObjectiveWorld) and isinstance(population, LinearPopulation):
        own = population.weights[:, : entry.n_objectives]
        values = own / own.sum(axis=1, keepdims=True)
        names = [f"weight of {objective}" for objective in MO_FACTS[entry.id][2]]
    elif isinstance(population, TargetPopulation):
        values, names = population.targets.reshape(entry.n_agents, -1), ["target, m/s"]
        if values.shape[1] == 2:
            names = ["forward target, m/s", "target to the left, m/s"]
    elif isinstance(population, DynamicsPopulation):
        values, names = population.parameters[: entry.n_agents], list(population.names)
    else:
        return ""  # of whole tiles: nothing to see
    with draw_panels(len(names), min(3, len(names)), (3.0, 2.2)) as (figure, panels):
        for axes, name, column in zip(panels, names, values.T, strict=True):
            axes.hist(column, bins=20, color="#0072B2", edgecolor="white")
            axes.set_xlabel(name.replace("_", " "))
            axes.set_ylabel("agents")
        what = f"Histogram of the {entry.n_agents} agents of {entry.id}"
        save(figure, path, what, what)
    return f"## Its agents\n\n![{what}](../pictures/{path.name})"


def _ceiling_part(entry: EnvironmentEntry | MultiObjectiveWorld, out: Path) -> str:
    tasks = [task for task in list_tasks() if task.env_id == entry.id]
    online = sorted(
        (task for task in tasks if isinstance(task, OnlineTask)),
        key=lambda task: task.n_representatives,
    )
    logged = [
        [f"`{task.id}`", str(task.n_representatives), f"`{task.dataset_id}`"]
        for task in tasks
        if isinstance(task, OfflineTask)
    ]
    offline = table(["task", "k", "data"], logged) if logged else ""
    if not online:
        return f"## Tasks\n\n{offline or 'None.'}"
    rows = [
        [
            f"`{task.id}`",
            str(task.n_representatives),
            f"{task.transitions:,}",
            "" if task.ceiling is None else f"{task.ceiling:.2f}",
        ]
        for task in online
    ]
    text = table(["task", "k", "transitions per policy", "ceiling, %"], rows)
    text += f"\n\n{offline}" if offline else ""
    curve = _ceilings(entry, online)
    if not curve:
        return f"## Tasks\n\n{text}\n\nNo ceiling is known."
    path = out / "pictures" / f"ceiling-{slug(entry.id)}.svg"
    with draw_panels(1, 1, (4.2, 2.4)) as (figure, (axes,)):
        axes.plot([*curve], [*curve.values()], marker="o", color="#0072B2")
        axes.set(xlabel="policies k", ylabel="ceiling, %", ylim=(0, 102))
        axes.grid(True)
        what = f"Greatest social welfare that k policies can reach in {entry.id}"
        save(figure, path, what, f"From {min(curve)} to {max(curve)} policies.")
    return f"## Tasks and ceilings\n\n{text}\n\n![{what}](../pictures/{path.name})"


def _ceilings(
    entry: EnvironmentEntry | MultiObjectiveWorld, online: Sequence[OnlineTask]
) -> dict[int, float]:
    """K -> ceiling, percent, where it is known."""
    population = entry.make_population(0)
    budgets = {task.n_representatives: task.ceiling for task in online}
    # Where each is quickly computed: not only those of tasks.
    computed = sorted({*range(1, MAX_BUDGET + 1), *budgets})
    if isinstance(population, TargetPopulation) and population.outcome_size == 1:
        budgets = {k: rmdp_bench.constant_speed_optimum(population, k).welfare for k in computed}
    elif isinstance(entry, MultiObjectiveWorld):
        tasks = {k: get_task(entry.id, n_representatives=k) for k in computed}
        budgets = {k: task.ceiling for k, task in tasks.items() if isinstance(task, OnlineTask)}
    return {k: value for k, value in sorted(budgets.items()) if value is not None}


# Data sets


@functools.cache
def _stored_datasets() -> Any:
    return read_json(ROOT / "rmdp_bench" / "data" / "datasets.json")


def dataset_page(entry: DatasetEntry) -> str:
    """Markdown of the page of a data set."""
    stored = _stored_datasets()["datasets"][entry.id]
    rows = [
        ["load it", f'`rmdp_bench.load_dataset("{entry.id}")`'],
        ["build it", f"`rmdp-bench datasets build {entry.id}`"],
        ["environment", f"[{entry.env_id}](../environments/{slug(entry.env_id)}.md)"],
        ["uniform actions", _actions(entry)],
        ["first seed", str(entry.seed)],
        ["in the package", "yes" if entry.shipped else "no, it is built"],
        ["licence", entry.licence],
        *([key.replace("_", " "), _value(value)] for key, value in stored.items()),
    ]
    tasks = [
        task.id
        for task in list_tasks()
        if isinstance(task, OfflineTask) and task.dataset_id == entry.id
    ]
    about = f"Tasks: {', '.join(f'`{task}`' for task in tasks)}." if tasks else "No task uses it."
    return "\n\n".join([f"# {entry.id}", entry.description, table(["fact", "value"], rows), about])


def _actions(entry: DatasetEntry) -> str:
    share = 1.0 if entry.load_policies is None else entry.epsilon
    return f"{100 * share:g} %"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_value(own)}" for name, own in value.items())
    if isinstance(value, float):
        return f"{value:,.3f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"`{value}`" if re.fullmatch(r"[0-9a-f]{16,}", str(value)) else str(value)


# Solvers


def solver_page(name: str) -> str:
    """Markdown of the page of a solver."""
    first, _, rest = docstring_of(SOLVERS[name]).partition("\n")
    parts = [f"# {name}", first, rest.strip().replace("*", r"\*"), _files_of(name)]
    parts.append(_settings_of(load_solver(name)))
    own = [
        [
            f"`{one.task.id}`",
            welfare_of(entry),
            _share(entry.summary.share_of_ceiling),
            entry.source,
        ]
        for one in board()
        for entry in one.entries
        if entry.summary.solver == name and entry.source.startswith("reference")
    ]
    if own:
        header = ["task", "score", "of the ceiling", "from"]
        parts.append(
            "## Results\n\nThe suite's own rows; ± is the standard error over seeds.\n\n"
            + table(header, own)
        )
    return "\n\n".join(part for part in parts if part)


def own_worlds_page(name: str) -> str:
    """Markdown of the page of the form that a solver has where agents differ in dynamics."""
    first, _, rest = docstring_of(OWN_WORLDS[name]).partition("\n")
    title = f"# {name}, where agents differ in dynamics"
    return "\n\n".join(
        [title, first, rest.strip().replace("*", r"\*"), _settings_of(form_with_own_worlds(name))]
    )


def _settings_of(solver: Solver) -> str:
    rows = [
        [f"`{row['name']}`", f"`{json.dumps(row['default'])}`", _cell(row["description"] or "")]
        for row in describe_settings(solver)
    ]
    return (
        "## Settings\n\n`--set NAME=VALUE` changes one; a task may have defaults of its own.\n\n"
        + table(["setting", "default", "what it is"], rows)
    )


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*")


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _files_of(name: str) -> str:
    """The row of a solver in the table of files."""
    text = (ROOT / "baselines" / "README.md").read_text(encoding="utf-8")
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 3 and f"`{name}`" in cells[0]:
            return (
                f"## Its files\n\nFollows {cells[1]}. To read in this order, below `baselines`: "
                f"{cells[2]}."
            )
    raise ValueError(f"baselines/README.md has no row for {name}")


# Reference


def names_page() -> str:
    """Markdown of the page of what `import rmdp_bench` gives."""
    rows = []
    for name in sorted(rmdp_bench.__all__, key=str.lower):
        value = getattr(rmdp_bench, name)
        where = getattr(value, "__module__", None)
        first = (getattr(value, "__doc__", None) or "").strip().partition("\n")[0]
        if name in VALUES:
            where, first = VALUES[name]
        pages = [page for page in REFERENCE if where == page]
        link = f"[`{name}`]({pages[0]}.md)" if pages else f"`{name}`"
        rows.append([link, _cell(first)])
    text = table(["name", "what it is"], rows)
    return f"# rmdp_bench\n\nWhat `import rmdp_bench` gives.\n\n{text}\n"


def docstring_to_rst(lines: Sequence[str]) -> list[str]:
    """Make a docstring, which is plain text with Google's sections, reStructuredText.

    Names in backticks become code, an indented block after a blank line is shown as it is, and a
    bar is a bar.
    """
    out: list[str] = []
    in_section = in_block = False
    for line in lines:
        indented = line.startswith("    ")
        if line and not line.startswith(" "):
            in_section, in_block = bool(re.fullmatch(r"[A-Z]\w+:", line)), False
        elif indented and not in_section and not in_block and out and not out[-1]:
            out += ["::", ""]
            in_block = True
        out.append(line if in_block else _inline_to_rst(line))
    return out


def _inline_to_rst(line: str) -> str:
    parts = re.split(r"(`+[^`]+`+)", line)
    for place, part in enumerate(parts):
        if place % 2:
            parts[place] = f"``{part.strip('`')}``"
        else:
            parts[place] = re.sub(r"([|*])", r"\\\1", part)
    return "".join(parts)
