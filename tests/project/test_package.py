"""The wheel and the source distribution: what is in them, and that they work without a clone."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.helpers.checkout import ROOT, tracked_files

BUILT_ELSEWHERE = ("leaderboards/submissions/", "leaderboards/site/")


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Suffix -> file, built from the files that belong to the project."""
    folder = tmp_path_factory.mktemp("package")
    source, built = folder / "a source", folder / "dist"
    for path in tracked_files():
        name = path.relative_to(ROOT)
        if not name.as_posix().startswith(BUILT_ELSEWHERE):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return {path.suffix: path for path in built.iterdir()}


def test_the_index_accepts_them(distributions: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict"]
    subprocess.run([*command, *map(str, distributions.values())], check=True, capture_output=True)


def test_the_source_distribution_is_the_project(distributions: dict[str, Path]) -> None:
    with tarfile.open(distributions[".gz"]) as archive:
        there = {name.partition("/")[2] for name in archive.getnames()}
    expected = {path.relative_to(ROOT).as_posix() for path in tracked_files()}
    expected = {name for name in expected if not name.startswith(BUILT_ELSEWHERE)}
    assert expected - there == {".ci/run", ".gitattributes"} & expected
    assert not [name for name in there if name.startswith(BUILT_ELSEWHERE)]


def test_the_page_of_the_package_has_links_that_hold(distributions: dict[str, Path]) -> None:
    with zipfile.ZipFile(distributions[".whl"]) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL", []))
    text = metadata.get_payload()
    assert isinstance(text, str)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 10
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    repository = urls["Repository"]
    own = [link.removeprefix(repository) for link in links if link.startswith(repository)]
    names = [re.sub(r"^/(blob|raw)/main/|#.*", "", link) for link in own]
    assert names
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_the_wheel_works_in_any_folder(distributions: dict[str, Path], tmp_path: Path) -> None:
    """Its own files alone; what they depend on is installed already."""
    with zipfile.ZipFile(distributions[".whl"]) as archive:
        archive.extractall(tmp_path / "site")
    shutil.copy(ROOT / "examples" / "my_solver.py", tmp_path)
    program = (
        "import rmdp_bench, pathlib; from rmdp_bench.cli import main\n"
        "assert pathlib.Path(rmdp_bench.__file__).is_relative_to(pathlib.Path('site').resolve())\n"
        "main(['run', 'my_solver.py', 'ResourceGathering-n25-k3-v0', '--transitions', '2048',"
        " '--seeds', '0', '--episodes', '1'])\n"
        "main(['score', 'runs'])\n"
        "main(['leaderboard', 'show', '--task', 'ResourceGathering-n25-k3-v0', '--runs', 'runs'])\n"
        "rmdp_bench.load_dataset('rmdp/cartpole-het/pure-v0')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "this machine" in done.stdout
    assert "reference-universal" in done.stdout and "this version's board" in done.stderr
