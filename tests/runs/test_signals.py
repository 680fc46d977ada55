"""What stops a command reaches its end, whoever catches it on the way."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from rmdp_bench import cli
from rmdp_bench.cli.signals import RaiseStopped, Stopped, on_signals
from rmdp_bench.cores import VARIABLE
from rmdp_bench.datasets import building
from tests.helpers.stopping import start


@pytest.fixture(autouse=True)
def _hang_up() -> Iterator[None]:
    """SIGHUP counts, though `nohup` may have started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def send(number: int) -> None:
    """Return, if at all, when the handler has run, which need not be at once."""
    signal.raise_signal(number)
    for _ in range(1000):
        pass


def test_an_error_that_is_lost_comes_again_with_the_next_signal() -> None:
    act, raised = RaiseStopped(), 0
    with on_signals(act):
        for _ in range(3):
            try:
                send(signal.SIGTERM)
            except BaseException:  # as a policy may
                raised += 1
    assert raised == 3


def test_cleaning_up_is_not_disturbed_but_by_ctrl_c() -> None:
    act, done = RaiseStopped(), []

    class Held:
        def __enter__(self) -> None: ...

        def __exit__(self, *error: object) -> None:
            send(signal.SIGTERM)
            done.append("with")

    with pytest.raises(Stopped), on_signals(act):
        try:
            with Held():
                send(signal.SIGHUP)
        finally:
            send(signal.SIGTERM)
            try:
                raise ValueError  # of the cleaning itself
            except ValueError:
                send(signal.SIGUSR1)
            done.append("finally")
    assert done == ["with", "finally"]
    assert act.stopped is not None and act.stopped.name == "SIGHUP"
    act = RaiseStopped()
    with pytest.raises(Stopped), on_signals(act):
        try:
            send(signal.SIGHUP)
        finally:
            send(signal.SIGINT)
            done.append("never")
    assert "never" not in done


def test_a_command_that_lost_it_still_has_the_code_of_the_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def numbers() -> Iterator[int]:
        try:
            yield 1
        finally:
            send(signal.SIGTERM)

    def app(**options: object) -> int:
        for _ in numbers():
            break  # the generator is closed by the garbage collector, which drops errors
        return 0

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "unraisablehook", lambda error: None)
    assert cli.main(["list"]) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_handlers_are_set(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first handler is there, the others are not; all are as before at the end."""
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    set_handler = signal.signal

    def set_and_send(which: int, handler: object) -> object:
        old = set_handler(which, handler)  # type: ignore[arg-type]
        if which == number and callable(handler) and handler is not before[number]:
            send(number)
        return old

    with monkeypatch.context() as patch:
        patch.setattr(signal, "signal", set_and_send)
        assert cli.main(["list", "tasks"]) == 128 + number
    assert {s: signal.getsignal(s) for s in before} == before
    assert f"stopped by {number.name}" in capsys.readouterr().err


class _Parent:
    sentinel = 0


class _NoThread:
    def __init__(self, **options: object) -> None: ...

    def start(self) -> None: ...


def test_a_worker_is_stopped_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals after the first do not disturb the worker's cleaning up."""
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(building, "_worker", {})
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(threading, "Thread", _NoThread)
    monkeypatch.setattr(multiprocessing, "parent_process", _Parent)
    monkeypatch.setenv(VARIABLE, "1")
    building._start_worker(None, None, 1)
    building._worker["is_building"] = True
    end = handlers[signal.SIGTERM]
    with pytest.raises(building._Stopped):
        end(signal.SIGTERM, None)
    end(signal.SIGTERM, None)


def test_ctrl_c_is_heard_while_python_ends() -> None:
    """Its last collections run no code of Python, in which Ctrl-C would be an error."""
    code = (
        "import gc, sys; from rmdp_bench_command import main\n"
        "assert main() == 0 and gc.get_freeze_count() > 1000\n"
        "print('done', flush=True)\n"
        "sum(range(10**15))"
    )
    process = start(["--version"], code)
    assert process.stdout is not None
    while process.stdout.readline() not in ("done\n", ""):
        pass
    try:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == -signal.SIGINT
    finally:
        process.kill()
        process.communicate()


def test_an_ignored_ctrl_c_stays_so_while_python_ends() -> None:
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from rmdp_bench_command import main; main()\n"
        "assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN"
    )
    process = start(["--version"], code)
    assert process.wait(timeout=600) == 0, process.communicate()[1]
