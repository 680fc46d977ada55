"""How far a run is, as a terminal and a file are told."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rmdp_bench.runs import display as module
from rmdp_bench.runs import make_request, run
from rmdp_bench.runs.display import (
    PROGRESS_FILE,
    BarDisplay,
    Display,
    PlainDisplay,
    RecordedDisplay,
    read_progress,
)
from rmdp_bench.runs.log import RunLog
from rmdp_bench.tasks import get_task
from tests.helpers.checkout import TOY_SOLVER

ONLINE = get_task("ResourceGathering-n25-k1-v0")
OFFLINE = get_task("CartPoleHet-n500-pure-v1")


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    def isatty(self) -> bool:
        return True


def begun(display: Display, task_id: str) -> RunLog:
    """A run that has just begun, as the harness begins it."""
    task = get_task(task_id)
    display.start("solver, seed 0", task.transitions or None)
    return RunLog(task, [0], display=display)


def drawn(bar: BarDisplay) -> tuple[str, bool]:
    """What stands in the bar's line, and whether it is full, which is green."""
    console = Console(file=io.StringIO(), width=100, record=True, color_system="standard")
    console.print(bar._progress.get_renderable())
    (task,) = bar._progress.tasks
    return console.export_text(), task.finished


def test_a_bar_without_a_total_is_not_full() -> None:
    bar = BarDisplay()
    try:
        log = begun(bar, OFFLINE.id)
        for _ in range(2):
            text, is_full = drawn(bar)
            assert not is_full
            assert "%" not in text
            log.set_state(log.get_state(0))  # as a run that goes on does
        log.progress(5, {}, total=20)
        text, is_full = drawn(bar)
        assert " 25%" in text and not is_full
        log.progress(20, {})
        text, is_full = drawn(bar)
        assert "100%" in text and is_full
    finally:
        bar.stop()


def test_a_bar_with_a_total_begins_at_nothing() -> None:
    bar = BarDisplay()
    try:
        begun(bar, ONLINE.id)
        text, is_full = drawn(bar)
        assert " 0%" in text and not is_full
    finally:
        bar.stop()


def test_lines_without_a_total_say_what_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = begun(PlainDisplay(), OFFLINE.id)
    log.progress(0, {})
    assert capsys.readouterr().err == ""  # it is not at its end
    monkeypatch.setattr(module, "LINE_SECONDS", 0.0)
    log.progress(1500, {"loss": [0.5]})
    assert capsys.readouterr().err == "solver, seed 0: 1,500 updates, loss 0.5\n"
    assert log.reached == "1,500 updates"
    log.progress(1600, {}, total=3200)
    line = capsys.readouterr().err
    assert line.startswith("solver, seed 0: 1,600 of 3,200 updates (50 %), loss 0.5, ")
    assert log.reached == "1,600 of 3,200 updates"


@pytest.mark.parametrize("width", [60, 70, 80, 99, 100, 120, 200])
@pytest.mark.parametrize("total", [300_000, 12])
def test_scores_are_shown_whole(width: int, total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a line that fits; at the usual 80 columns welfare and training both."""
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    bar = BarDisplay()
    try:
        bar.start("em_plus on ResourceGathering-n25-k3-v0, seed 0", total)
        bar.update(total // 3, "welfare 52.3 %, training 100.0 %, loss 0.00123")
        console = Console(file=io.StringIO(), width=width)
        with console.capture() as capture:
            console.print(bar._progress.get_renderable())
    finally:
        bar.stop()
    (line,) = capture.get().splitlines()
    assert len(line) <= width and line.rstrip().endswith(" left")
    assert " 33% " in line and "welfare 52.3 % " in line.replace(",", " ")
    assert ("training 100.0 %" in line) == (width >= 80) and ("training" in line) == (width >= 80)
    assert ("loss 0.00123" in line) == ("loss" in line)
    assert line.startswith("em_plus on Resource")


@pytest.mark.parametrize("width", [80, 100])
def test_the_bar_says_that_policies_are_scored(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    bar = BarDisplay()
    try:
        log = begun(bar, ONLINE.id)
        log.progress(ONLINE.transitions * 92 // 100, {"train_social_welfare": [99.9]})
        console = Console(file=io.StringIO(), width=width)
        with console.capture() as capture:
            console.print(bar._progress.get_renderable())
            log.begin_scoring()
            console.print(bar._progress.get_renderable())
    finally:
        bar.stop()
    training, scoring = capture.get().splitlines()
    assert "scoring" not in training
    assert " 92% " in scoring and " scoring policies, training 99.9 % " in scoring
    assert len(scoring) <= width and training.rstrip().endswith(" left")
    # What training took says nothing about scoring.
    assert "left" not in scoring and scoring.rstrip().endswith("training 99.9 %")


def test_lines_and_the_file_say_at_once_that_policies_are_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However short a time the training took."""
    log = begun(RecordedDisplay(PlainDisplay(), tmp_path / PROGRESS_FILE), ONLINE.id)
    log.progress(1000, {"train_social_welfare": [50.0]})
    assert capsys.readouterr().err == "" and read_progress(tmp_path) is None
    log.begin_scoring()
    assert "scoring policies, training 50.0 %" in capsys.readouterr().err
    known = read_progress(tmp_path)
    assert known is not None
    assert (known["done"], known["score"]) == (1000, "scoring policies, training 50.0 %")
    assert known["scoring"] is True
    log.progress(1000)
    assert capsys.readouterr().err == ""


def test_lines_of_scoring_say_no_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that ends before its budget, such as 92 % of it, has no more training to do."""
    now = iter(range(0, 10_000, 100))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(now)))
    display = RecordedDisplay(PlainDisplay(), tmp_path / PROGRESS_FILE)
    display.start("em", 1000)
    display.update(100, "training")
    display.update(500, "training")
    assert capsys.readouterr().err.splitlines()[-1].endswith(" left")
    display.begin_scoring()
    display.update(920, "scoring policies")
    assert capsys.readouterr().err.rstrip().endswith("(92 %), scoring policies")
    display.start("em", 1000)  # the next run trains again
    display.update(100, "training")
    display.update(500, "training")
    assert capsys.readouterr().err.splitlines()[-1].endswith(" left")
    known = read_progress(tmp_path)
    assert known is not None and known["scoring"] is False


def test_a_run_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    run(make_request(str(TOY_SOLVER), ONLINE.id, transitions=1000), display=PlainDisplay())
    assert ", scoring policies" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("width", [1, 10, 27, 28])
def test_a_terminal_may_be_too_narrow_for_any_score(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    bar = BarDisplay()
    try:
        bar.start("em", 12)
        assert bar._room >= 0  # else no score is ever short enough
        bar.update(4, "welfare 52.3 %, training 100.0 %")
        assert bar._progress.tasks[0].completed == 4 and not bar._progress.tasks[0].fields["score"]
    finally:
        bar.stop()
