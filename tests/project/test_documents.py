"""What the documents say is there: generated numbers, programs, commands, links."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.testing.compare import compare_images

from rmdp_bench.cli import main
from rmdp_bench.runs import SOLVERS
from scripts import document_blocks, generate_documents
from tests.helpers.checkout import NO_SUBMISSIONS, ROOT, SUBMISSIONS, needs_submissions
from tests.helpers.documents import ALL_COMMANDS, PAGES, Command, page_name, parse, source
from tests.helpers.import_order import ORDER

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
LINKING = [*PAGES, CONTRIBUTING, ROOT / "CHANGELOG.md", ROOT / "baselines/README.md"]
GENERATED = re.compile(r"<!-- generated: .*?<!-- end -->", re.DOTALL)


@needs_submissions
@pytest.mark.parametrize("page", generate_documents.documents(), ids=page_name)
def test_numbers_are_those_of_the_records(page: Path) -> None:
    """If this fails: make numbers, and commit what it wrote."""
    text = page.read_text(encoding="utf-8")
    assert generate_documents.fill(text) == text


@needs_submissions
def test_what_was_changed_by_hand_is_written_again() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    changed = re.sub(r"(\d) ± ", r"\1 + ", text)
    assert changed != text
    assert generate_documents.fill(changed) == text
    with pytest.raises(ValueError, match="nothing generates 'no-such-block'"):
        generate_documents.fill("<!-- generated: no-such-block -->\n<!-- end -->")


def test_every_generator_has_a_place() -> None:
    pages = generate_documents.documents()
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    named = re.findall(r"<!-- generated: (\S+) -->", text)
    assert {*named} == {*document_blocks.GENERATORS}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_means_over_seeds_are_generated(page: Path) -> None:
    by_hand = GENERATED.sub("", page.read_text(encoding="utf-8"))
    assert re.findall(r".*\d ± \d.*", by_hand) == []


@needs_submissions
def test_picture_of_the_readme_is_that_of_the_records(tmp_path: Path) -> None:
    """Up to what fonts and processors change. `generate_documents --figures` draws it."""
    stored = generate_documents.PICTURE
    assert stored.stat().st_size < 100_000
    assert stored.relative_to(ROOT).as_posix() in (ROOT / "README.md").read_text(encoding="utf-8")
    drawn = tmp_path / "drawn" / stored.name
    generate_documents.draw_picture(drawn)
    shutil.copy(stored, tmp_path)
    assert compare_images(str(tmp_path / stored.name), str(drawn), tol=10) is None


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_columns_of_tables_have_names(page: Path) -> None:
    """Readers who hear a page are told them."""
    text = page.read_text(encoding="utf-8")
    for header in re.findall(r"^(\|.*\|)\n\|[ :|-]+\|$", text, flags=re.MULTILINE):
        assert all(cell.strip() for cell in header.strip("|").split("|")), header


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize(
    "page", [page for page in PAGES if [*parse(page, "python").examples()]], ids=page_name
)
def test_programs_run_and_print_what_follows(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the page, which they share; a block of `text` is what was printed before."""
    if "load_policies(" in page.read_text(encoding="utf-8") and not SUBMISSIONS.is_dir():
        pytest.skip(NO_SUBMISSIONS)
    printed = None
    for example in parse(page, "python", "text").examples():
        if example.region.lexemes and example.region.lexemes["arguments"] == "text":
            assert printed in (None, source(example.region))
            printed = None
        else:
            example.evaluate()
            printed = capsys.readouterr().out


@pytest.mark.parametrize("command", ALL_COMMANDS, ids=str)
def test_commands_exist_with_their_options(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them, also those that are too slow to be run."""
    match command.words:
        case ["rmdp-bench", *words]:
            check_options(words, capsys)
        case ["python", "-m", module, *words]:
            check_module(module, words)
        case ["make", target]:
            assert target in make_targets()
        case [program, *_]:
            assert program in ("git", "cd", "pip", "cp", "source", "python3")


@pytest.mark.parametrize(
    "line", re.findall(r"^\t\$\(BIN\)/rmdp-bench (.+)$", MAKEFILE, flags=re.MULTILINE)
)
def test_commands_of_the_makefile_exist(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    check_options(line.split(), capsys)


def check_options(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words[: 2 if words[0] in ("datasets", "leaderboard") else 1], "--help"]) == 0
    described = capsys.readouterr().out.split()
    assert [word for word in words if word.startswith("--") and word not in described] == []


def check_module(module: str, words: list[str]) -> None:
    described = re.findall(r"--[a-z-]+", help_of(module))
    assert [word for word in words if word.startswith("--") and word not in described] == []


@functools.cache
def help_of(module: str) -> str:
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))


def test_documents_name_existing_make_targets() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in [*PAGES, CONTRIBUTING])
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.MULTILINE))
    assert {"demo", "test"} <= named <= make_targets()


def anchors(page: Path) -> set[str]:
    """Of its headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@needs_submissions
@pytest.mark.parametrize("page", LINKING, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8"))
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_files_that_pages_print_are_there() -> None:
    printed = [
        page.parent / path
        for page in PAGES
        for path in re.findall(r"^```{literalinclude} (\S+)$", page.read_text(), flags=re.MULTILINE)
    ]
    assert printed and all(path.is_file() for path in printed)


def test_every_solver_is_in_the_tables() -> None:
    text = "".join((ROOT / f"docs/{name}_solvers.md").read_text() for name in ("online", "offline"))
    cells = "".join(re.findall(r"^\| (`[^|]+) \|", text, flags=re.MULTILINE))
    assert [name for name in SOLVERS if f"`{name}`" not in cells] == []


def test_design_states_the_order_of_imports() -> None:
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    assert f"\n\n{', '.join(ORDER)}.\n\n" in text
