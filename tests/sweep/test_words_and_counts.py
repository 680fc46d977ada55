"""What `sweep` is given: mistyped commands, counts as people write them, a limit of cores."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from rmdp_bench.cli import main
from rmdp_bench.sweep import make_jobs, read_plan
from tests.sweep.toys import walks, write_plan


@pytest.mark.parametrize(
    ("word", "hint"),
    [("statu", "did you mean status"), ("cancle", "did you mean cancel"), ("xyzzy", "known are")],
)
def test_a_mistyped_command_is_no_plan(
    word: str, hint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", word, "runs"]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    error = " ".join(captured.err.split())
    assert error.startswith("rmdp-bench: error: ") and repr(word) in error and hint in error


@pytest.mark.parametrize("word", ["statu.toml", "plans/statu"])
def test_what_looks_like_a_file_is_a_plan(word: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", word]) == 2
    assert f"cannot read the plan {word}" in " ".join(capfd.readouterr().err.split())


def test_a_plan_may_be_called_almost_like_a_command(capfd: pytest.CaptureFixture[str]) -> None:
    write_plan(walks("0")).rename("statu")
    assert main(["sweep", "statu", "--print"]) == 0
    assert capfd.readouterr().out.count("rmdp-bench run") == 2


@pytest.mark.parametrize("written", ["20_000", '"20k"', "2e4", '"0.02M"', '"2e4"'])
def test_counts_are_those_of_the_command_line(written: str) -> None:
    text = walks("0", f"transitions = {written}")
    (row,) = read_plan(write_plan(text)).rows
    assert row.transitions == 20_000 and type(row.transitions) is int
    usual = make_jobs(read_plan(write_plan(walks("0", "transitions = 20000"))))
    assert (
        make_jobs(read_plan(write_plan(text))) == usual
    )  # the same address: what is finished is not run again


@pytest.mark.parametrize("written", ["0", '"many"', "1.5", "true", '"-2k"', "inf", "[1]"])
def test_what_is_no_count_is_one_line(written: str, capfd: pytest.CaptureFixture[str]) -> None:
    plan = write_plan(walks("0", f"transitions = {written}"))
    assert main(["sweep", str(plan)]) == 2
    error = " ".join(capfd.readouterr().err.split())
    assert "transitions is " in error and "expected a count such as 20_000" in error


@pytest.mark.parametrize(
    ("own", "given", "limit"),
    [
        ("", [], None),
        ("cores = 3", [], 3),
        ("", ["--cores", "1"], 1),
        ("cores = 3", ["--cores=2"], 2),
    ],
)
def test_printed_commands_keep_to_their_cores(
    own: str, given: list[str], limit: int | None, capfd: pytest.CaptureFixture[str]
) -> None:
    plan: Path = write_plan(walks("0", own))
    assert main(["sweep", str(plan), "--print", *given]) == 0
    line = capfd.readouterr().out.splitlines()[0]
    words = shlex.split(line)
    assert words[:2] == ["rmdp-bench", "run"]
    assert ("--cores" in words) == (limit is not None)
    if limit is not None:
        assert words[words.index("--cores") + 1] == str(limit)
