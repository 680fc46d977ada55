"""The site of the documents: what its build would refuse, found without building it."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import pytest
from PIL import Image

import rmdp_bench
from rmdp_bench.datasets import DATASETS
from rmdp_bench.envs.mo_worlds import MO_WORLDS, MultiObjectiveWorld
from rmdp_bench.runs import SOLVERS
from rmdp_bench.runs.solver_loading import OWN_WORLDS
from scripts import draw_policies, site_pages
from scripts.document_blocks import MO_FACTS
from scripts.site_pages import CONTENTS, DOCS, ELSEWHERE, WORLDS, docstring_to_rst, lead_links
from tests.helpers.checkout import ROOT, needs_submissions

MOST_WORDS = 1200
SOURCES = sorted([*DOCS.glob("*.md"), *DOCS.glob("*.ipynb")])
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))
LONG = {"CHANGELOG.md"}
"""Nobody reads them from the beginning."""


def words(text: str) -> int:
    """Of prose: not of generated tables, nor of code."""
    text = re.sub(r"<!-- generated: .*?<!-- end -->|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def test_every_page_is_in_the_contents_once() -> None:
    named = [page for own in CONTENTS.values() for page in own]
    assert len(named) == len({*named})
    stored = {path.stem for path in SOURCES} - {"index"}
    assert {page for page in named if not page.startswith("generated/")} == stored
    elsewhere = {page for page in ELSEWHERE.values() if page.startswith("generated/")}
    below = {"generated/solver_files"}
    assert {page for page in named if page.startswith("generated/")} | below == elsewhere
    assert {*site_pages.BELOW} <= {*named}


@pytest.mark.parametrize(
    "path", [*DOCS.glob("*.md"), *(ROOT / name for name in ELSEWHERE)], ids=lambda path: path.name
)
def test_no_page_is_long(path: Path) -> None:
    assert path.name in LONG or words(path.read_text(encoding="utf-8")) <= MOST_WORDS


@needs_submissions
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_links_lead_to_pages_or_to_the_repository(path: Path) -> None:
    text = lead_links(path.read_text(encoding="utf-8"), path)
    assert not re.search(r"\]\(\.\./(?!leaderboards/figures/)", text)


def test_where_links_lead() -> None:
    page, repository = DOCS / "speed.md", site_pages.repository()
    for link, expected in (
        ("many_agents.md#measured", "many_agents.md#measured"),
        ("../leaderboards/SUBMITTING.md#the-rules", "generated/submitting.md#the-rules"),
        ("../README.md", "index.md"),
        ("../Makefile", f"{repository}/blob/main/Makefile"),
        ("../scripts", f"{repository}/tree/main/scripts"),
        ("../docs/figures/idea-budget.png", "figures/idea-budget.png"),
        ("https://example.org/a", "https://example.org/a"),
        ("#here", "#here"),
    ):
        assert lead_links(f"[a]({link})", page) == f"[a]({expected})"
    own = lead_links("[a](../README.md)", DOCS / "index.md")
    assert own == f"[a]({repository}/blob/main/README.md)"
    copied = DOCS / "generated" / "contributing.md"
    moved = lead_links("[a](docs/design.md#x)", ROOT / "CONTRIBUTING.md", copied)
    assert moved == "[a](../design.md#x)"
    assert lead_links("```\n[a](no.md)\n```", page) == "```\n[a](no.md)\n```"
    for broken in ("no-such-page.md", "../../outside.md"):
        with pytest.raises(ValueError, match=re.escape(broken)):
            lead_links(f"[a]({broken})", page)


@pytest.mark.parametrize("entry", WORLDS, ids=lambda entry: entry.id)
def test_every_environment_has_a_whole_page(
    entry: rmdp_bench.EnvironmentEntry | MultiObjectiveWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mo_gymnasium", None)  # no page needs the optional extra
    (tmp_path / "pictures").mkdir()
    page = site_pages.environment_page(entry, tmp_path)
    others = {other.id.removeprefix("rmdp/").partition("-")[0] for other in WORLDS}
    own = entry.id.removeprefix("rmdp/").partition("-")[0]
    assert not re.search(rf"\b({'|'.join(others - {own})})\b", page)
    for name in ("Description", "Population", "Observation", "Action", "Reward", "Episode end"):
        assert f"\n## {name}\n" in page
    assert "\n## Arguments\n\n- `" in page and "\n## Version history\n\n- `v" in page
    assert words(page) <= MOST_WORDS
    (moving,) = (own for own in draw_policies.PICTURES if entry.id in own.env_ids)
    assert (moving.path.name in page) == moving.path.is_file()
    assert ("no moving picture" in page) != moving.path.is_file()
    assert not any("`" in text for text in re.findall(r"!\[([^]]*)\]", page))
    for picture in re.findall(r"\.\./pictures/([^)]+)", page):
        assert (tmp_path / "pictures" / picture).is_file()
    online = [task for task in rmdp_bench.list_tasks() if task.env_id == entry.id]
    assert all(f"`{task.id}`" in page for task in online)


def test_pages_of_optional_worlds_have_agents_and_ceilings(tmp_path: Path) -> None:
    for world in MO_WORLDS:
        page = site_pages.environment_page(world, tmp_path)
        assert 'pip install "rmdp_bench[mo]"' in page
        assert f"population-{site_pages.slug(world.id)}.svg" in page
        assert (f"ceiling-{site_pages.slug(world.id)}.svg" in page) == (world.front is not None)
        assert ("No ceiling is known." in page) == (world.front is None)


def test_every_registered_world_has_a_page() -> None:
    registered = {env_id for env_id in gym.registry if env_id.startswith("rmdp/")}
    assert {entry.id for entry in WORLDS} == registered


def test_every_environment_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("environment", "dataset", "solver", "own_worlds", "names"):
        monkeypatch.setattr(site_pages, f"{name}_page", lambda *given: "")
    monkeypatch.setattr(site_pages, "ELSEWHERE", {})  # only a clone has all that they link to
    site_pages.write(tmp_path)
    written = {path.stem for path in (tmp_path / "generated" / "environments").glob("*.md")}
    assert written == {site_pages.slug(entry.id) for entry in WORLDS}


@pytest.mark.parametrize("world", MO_WORLDS, ids=lambda world: world.id)
def test_facts_of_optional_worlds_are_theirs(world: MultiObjectiveWorld) -> None:
    pytest.importorskip("mo_gymnasium")
    observation, action, objectives = MO_FACTS[world.id]
    env = gym.make(world.id)
    spaces = str(env.observation_space), str(env.action_space)
    assert spaces == (str(observation), str(action))
    env.close()
    assert len(objectives) == world.n_objectives


def test_data_sets_have_pages() -> None:
    for entry in DATASETS:
        page = site_pages.dataset_page(entry)
        assert words(page) <= MOST_WORDS
        assert page.startswith(f"# {entry.id}\n") and entry.description in page


@needs_submissions
@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_have_pages(name: str) -> None:
    page = site_pages.solver_page(name)
    assert page.startswith(f"# {name}\n")
    assert words(page) <= MOST_WORDS
    assert "\n## Its files\n" in page and "\n## Settings\n" in page
    if name == "universal":
        assert (
            "| `HalfCheetahVel-n100-k5-v0` | 35.66 ± 0.03 | 97.8 % | reference-universal |" in page
        )


@pytest.mark.parametrize("name", OWN_WORLDS)
def test_forms_of_solvers_have_pages(name: str) -> None:
    page = site_pages.own_worlds_page(name)
    assert page.startswith(f"# {name}, where agents differ in dynamics\n")
    assert words(page) <= MOST_WORDS
    assert "\n## Settings\n" in page and "| `tuning_share` | `0.3` |" in page


def test_arguments_and_versions_become_lists() -> None:
    title, sections = site_pages.split_sections(
        "A world.\n\nDescription:\n    Two\n    lines.\n\nArguments:\n    width, height: pixels,\n"
        "    or not.\n    n: 2 * 3.\n"
    )
    assert title == "A world."
    assert sections["Description"] == "Two\nlines."
    assert sections["Arguments"] == "- `width, height`: pixels,\n  or not.\n- `n`: 2 \\* 3."


def test_what_is_of_other_worlds_is_left_out() -> None:
    text = (
        "Action:\n    For all:\n    AntVel, AntVel2d: eight\n    numbers.\n    HopperVel: three.\n"
        "    speed: no world.\n\n    All again."
    )
    for world, kept in (
        ("AntVel", "eight\n    numbers."),
        ("HopperVel", "three.\n    speed: no world."),
    ):
        shown = site_pages.of_world(text, f"rmdp/{world}-n100-v0")
        assert shown == f"Action:\n    For all:\n    {kept}\n\n    All again."


def test_components_of_a_vector_become_a_list() -> None:
    _, sections = site_pages.split_sections(
        "A world.\n\nObservation:\n    float32 (3,):\n    0  speed\n    1, 2  sine and\n"
        "       cosine\n    Nothing else.\n"
    )
    assert sections["Observation"] == (
        "float32 (3,):\n\n- `0`: speed\n- `1, 2`: sine and\n   cosine\n\nNothing else."
    )


def test_names_of_the_package_lead_to_their_pages() -> None:
    rows = site_pages.names_page().splitlines()[6:]
    assert len(rows) == len(rmdp_bench.__all__)
    assert [row for row in rows if not row.startswith("| [`")] == []
    assert not any("PEP 604" in row for row in rows)


def test_docstrings_become_restructured_text() -> None:
    lines = ["Mean of |x| and `y`.", "", "    code = x * y", "", "Args:", "    x: `a|b`."]
    assert docstring_to_rst(lines) == [
        *("Mean of \\|x\\| and ``y``.", "", "::", "", "    code = x * y", ""),
        *("Args:", "    x: ``a|b``."),
    ]


def test_a_colon_in_the_docstring_of_a_property_is_no_type() -> None:
    napoleon = pytest.importorskip("sphinx.ext.napoleon")  # of the extra `docs`
    to_rst = runpy.run_path(str(DOCS / "conf.py"))["_to_rst"]
    app = SimpleNamespace(config=napoleon.Config(napoleon_use_rtype=False))
    lines = ["Whether agents differ: each is alone.", "", "Raises:", "    ValueError: no."]
    to_rst(app, "property", "task.differ", None, None, lines)
    lines = napoleon.GoogleDocstring(lines, app.config, None, "property", "task.differ").lines()
    text = "\n".join(lines)
    assert "Whether agents differ: each is alone." in text and ":type:" not in text
    assert ":raises ValueError: no." in text


def test_settings_of_the_site_are_loaded_and_connected() -> None:
    settings = runpy.run_path(str(DOCS / "conf.py"))
    assert settings["html_theme"] == "furo"
    events: list[str] = []
    app = SimpleNamespace(connect=lambda event, function, priority=500: events.append(event))
    settings["setup"](app)
    assert events == [
        *("config-inited", "config-inited", "source-read", "build-finished"),
        "autodoc-process-docstring",
    ]
    page = "index"
    own = SimpleNamespace(env=SimpleNamespace(doc2path=lambda name: str(DOCS / f"{name}.md")))
    source = [(DOCS / "index.md").read_text(encoding="utf-8")]
    settings["_lead_links"](own, page, source)
    assert source[0].count("```{toctree}") == len(CONTENTS)


@needs_submissions
def test_moving_pictures_are_there_and_small() -> None:
    """Of a world whose policies are on the board: python -m scripts.draw_policies NAME."""
    paths = []
    for picture in draw_policies.PICTURES:
        if picture.path.is_file():
            paths.append(picture.path)
        else:
            with pytest.raises(ValueError, match="the board has no policies"):
                picture.panels()
    assert sorted(draw_policies.FOLDER.iterdir()) == sorted(paths)
    sizes = [path.stat().st_size for path in paths]
    assert max(sizes) <= draw_policies.MOST_BYTES
    assert sum(sizes) <= 2_500_000
    shown = [env_id for picture in draw_policies.PICTURES for env_id in picture.env_ids]
    assert sorted(shown) == sorted(entry.id for entry in WORLDS)


@needs_submissions
@pytest.mark.parametrize("name", ["ResourceGathering", "DeepSeaTreasure", "FruitTree"])
def test_a_moving_picture_is_drawn_anew(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (picture,) = (own for own in draw_policies.PICTURES if own.name == name)
    if picture.env_ids[0] in MO_FACTS:
        pytest.importorskip("mo_gymnasium")
    with Image.open(picture.path) as film:
        stored = film.size, film.n_frames  # type: ignore[attr-defined]
    monkeypatch.setattr(draw_policies, "FOLDER", tmp_path)
    assert draw_policies.main([name]) == 0
    with Image.open(picture.path) as film:
        assert (film.size, film.n_frames) == stored  # type: ignore[attr-defined]


def test_a_world_without_policies_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(draw_policies, "FOLDER", tmp_path)
    none = draw_policies.of_board("Minecart-n100-k2-v0", "no_such_solver", "agents")
    picture = draw_policies.Picture("Minecart", ("rmdp/Minecart-n100-v0",), "", none)
    monkeypatch.setattr(draw_policies, "PICTURES", [picture])
    assert draw_policies.main([]) == 1
    assert "Minecart is left out: the board has no policies" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    page = site_pages.environment_page(MO_WORLDS[2], tmp_path)
    assert "There is no moving picture of it yet" in page


def test_minecart_can_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mo_gymnasium")
    monkeypatch.setattr(draw_policies, "FOLDER", tmp_path)
    (picture,) = (own for own in draw_policies.PICTURES if own.name == "Minecart")
    panels = [draw_policies.Panel(f"panel {j}") for j in range(6)]
    with Image.open(draw_policies.draw(picture, panels)) as film:
        assert film.n_frames > 10  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_stored_without_output_and_their_commands_exist(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The build runs them."""
    from rmdp_bench.cli import main

    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []
    text = "\n".join("".join(cell["source"]) for cell in code).replace("\\\n", " ")
    lines = re.findall(r"^rmdp-bench (.+)$", text, flags=re.MULTILINE)
    assert lines
    for line in lines:
        given = shlex.split(line)
        assert main([*given[: 2 if given[0] == "leaderboard" else 1], "--help"]) == 0
        described = capsys.readouterr().out.split()
        assert [word for word in given if word.startswith("--") and word not in described] == []
