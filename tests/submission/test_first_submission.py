"""What the command says to whoever submits for the first time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rmdp_bench.cli import main
from rmdp_bench.submission.packing import REQUIRED
from tests.helpers.submission_toys import refused

ABOUT = ("--author", "A", "--method", "m", "--licence", "MIT", "--online-evaluations", "0")


def test_help_marks_all_options_that_a_submission_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "--help"]) == 0
    _, *parts = re.split(r"\n  (?=-)", capsys.readouterr().out)
    marked = {part.split()[0] for part in parts if "[required" in part}
    assert marked == {"--name", "--out", *REQUIRED.values()}
    # And no other option is: what is said of these is what is said where they are missing.
    name = ("--name", "mine", "--out", str(tmp_path / "out"))
    message = refused(capsys, "submit", str(tmp_path), *name)
    assert message.endswith(f"a submission needs {', '.join(REQUIRED.values())}")


@pytest.mark.parametrize("name", ["My_Method", "../up", "a" * 65, "-a", "", "m\u0435thod"])
def test_a_name_that_no_submission_has_is_told_in_words(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And before anything is read: there are no such runs."""
    options = (f"--name={name}", "--out", str(tmp_path / "out"), *ABOUT)
    message = refused(capsys, "submit", str(tmp_path / "no runs"), *options)
    assert "a to z, 0 to 9 and hyphens" in message and "such as my-method-2" in message
    assert ascii(name) in message and "pattern" not in message and "^" not in message
    assert not (tmp_path / "out").exists()


def test_names_of_devices_are_told_without_a_librarys_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--name", "con", "--out", str(tmp_path / "out"), *ABOUT)
    message = refused(capsys, "submit", str(tmp_path), *options)
    assert message.endswith("error: --name: 'con' is the name of a device on Windows")
