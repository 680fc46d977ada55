"""What a release consists of: one version, papers, a demo in a container, templates, workflows."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from tests.helpers.checkout import ROOT

yaml = pytest.importorskip("yaml", reason="comes with pre-commit")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [
    name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)
]
WORKFLOWS = ROOT / ".github" / "workflows"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def workflow(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text())
    return content


def test_the_version_is_one() -> None:
    version = PROJECT["version"]
    assert yaml.safe_load(read("CITATION.cff"))["version"] == version
    assert f"version = {{{version}}}" in read("README.md")
    first = re.search(r"^## \[(.+?)\]", read("CHANGELOG.md"), flags=re.MULTILINE)
    assert first is not None and first[1] == version


def test_both_papers_are_cited() -> None:
    papers = yaml.safe_load(read("CITATION.cff"))["references"]
    numbers = {paper["identifiers"][0]["value"] for paper in papers}
    assert numbers == {"arXiv:2401.06514", "arXiv:2102.06961"}
    text = read("README.md")
    assert all(f"arxiv.org/abs/{number.removeprefix('arXiv:')}" in text for number in numbers)


@pytest.mark.parametrize("name", ["test", "publish"])
def test_every_supported_python_is_tested(name: str) -> None:
    matrix = workflow(name)["jobs"]["test"]["strategy"]["matrix"]["python-version"]
    assert matrix == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"


def test_both_workflows_install_what_tests_of_drawing_need() -> None:
    steps = {name: workflow(name)["jobs"]["test"]["steps"] for name in ("test", "publish")}
    own = {
        name: [step["run"] for step in listed if "apt-get" in step.get("run", "")]
        for name, listed in steps.items()
    }
    assert len(own["test"]) == 1 and own["publish"] == own["test"]


def test_publishing_needs_tests_and_no_password() -> None:
    jobs = workflow("publish")["jobs"]
    assert jobs["test"]["needs"] == "build"
    assert jobs["publish"]["needs"] == "test"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert workflow("publish")["permissions"] == {"contents": "read"}
    assert "secrets." not in read(".github/workflows/publish.yml")


def test_documents_and_board_are_published_together() -> None:
    build = workflow("site")["jobs"]["build"]["steps"]
    commands = "\n".join(step.get("run", "") for step in build)
    assert "sphinx --fail-on-warning" in commands and "leaderboard build" in commands
    (upload,) = (step for step in build if "upload-pages" in step.get("uses", ""))
    assert f"cp --recursive leaderboards {upload['with']['path']}/leaderboards" in commands
    # as the documents' template and the page itself link to each other
    assert "leaderboards/site/index.html" in read("docs/_templates/sidebar/board.html")


@pytest.mark.parametrize("name", ["site", "test"])
def test_the_site_is_built_where_all_that_it_imports_is(name: str) -> None:
    """The reference imports every public module, and the notebook trains."""
    extras = PROJECT["optional-dependencies"]
    jobs = workflow(name)["jobs"]
    steps = jobs["build" if name == "site" else "site"]["steps"]
    (line,) = re.findall(r'-e "\.\[(.+)\]"', "\n".join(step.get("run", "") for step in steps))
    installed = [one for extra in line.split(",") for one in extras[extra]]
    assert {*extras["behaviour"], *extras["baselines"]} <= {*installed}


def test_the_container_runs_the_demo() -> None:
    text = read("Dockerfile")
    base = re.search(r"^FROM python:(3\.\d+)-slim$", text, flags=re.MULTILINE)
    assert base is not None and base[1] in PYTHONS
    command = re.search(r"^CMD (\[.+\])$", text, flags=re.MULTILINE)
    assert command is not None
    program, target, *settings = yaml.safe_load(command[1])
    assert (program, target) == ("make", "demo")
    makefile = read("Makefile")
    for setting in settings:
        assert re.search(rf"^{setting.partition('=')[0]} :?\??=", makefile, flags=re.MULTILINE)
    # A folder that is mounted is its owner's, whom the image does not know.
    assert '--user "$(id -u):$(id -g)"' in text and "mkdir --mode 777 /out" in text
    assert re.search(r"^USER \d+:\d+$", text, flags=re.MULTILINE)
    assert "touch /usr/local/.installed" in text and "/.installed" in makefile
    ignored = read(".dockerignore").split()
    assert {".git", ".venv", "build"} <= {*ignored}
    needed = (
        "rmdp_bench",
        "baselines",
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "setup.py",
    )
    assert not {*ignored} & {*needed, "LICENSE", "Makefile", "rmdp_bench_command.py"}


def test_templates_are_forms() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = sorted(path.stem for path in folder.iterdir())
    assert forms == ["bug", "config", "idea"]
    for name in ("bug", "idea"):
        form = yaml.safe_load((folder / f"{name}.yml").read_text())
        assert form["name"] and form["description"]
        assert len({field["id"] for field in form["body"]}) == len(form["body"])
    (contact,) = yaml.safe_load((folder / "config.yml").read_text())["contact_links"]
    assert contact["url"] == f"{PROJECT['urls']['Repository']}/blob/main/SECURITY.md"


def test_the_security_policy_names_every_layer() -> None:
    from rmdp_bench.submission.sandbox.confinement import describe_layers

    text = read("SECURITY.md")
    assert [layer.name for layer in describe_layers() if layer.name not in text] == []
