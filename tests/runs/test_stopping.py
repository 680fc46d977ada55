"""Signals stop commands cleanly, and a preempted run loses nothing: real processes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import termios
from pathlib import Path
from typing import Any

import pytest

from rmdp_bench.cli import main
from rmdp_bench.datasets import build_datasets, get_dataset
from rmdp_bench.datasets.storage import dataset_path, datasets_root
from rmdp_bench.files import locked
from tests.helpers.commands import contents
from tests.helpers.dataset_toys import CART_POLE, HOPPER, small
from tests.helpers.stopping import (
    COMMAND,
    TASK,
    WALK,
    outcome,
    said_of_signal,
    start,
    start_walk,
    wait_for,
)

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_stopped_run_goes_on_to_the_same_result(
    number: signal.Signals, undisturbed: list[Any]
) -> None:
    process = start_walk()
    process.send_signal(number)
    output, error = process.communicate(timeout=600)
    assert process.returncode == 128 + number, error
    assert output == ""
    assert "Traceback" not in error
    assert f"{number.name}: stopping when the solver saves a checkpoint" in error
    assert "the same command goes on from the last checkpoint" in error
    for seed in range(2):
        folder = Path("runs") / TASK / "walk" / f"seed-{seed}"
        assert [path.name for path in (folder / "checkpoint").iterdir()] == ["1.npz"]
        assert not (folder / ".lock").exists()
        assert not list(folder.rglob(".writing-*"))
    assert main(["run", "walk.py", TASK, "--seeds", "0:2"]) == 0
    assert outcome("runs") == undisturbed
    assert undisturbed[0]["transitions_counted"] == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1], ids=lambda n: n.name)
def test_ctrl_c_after_a_signal_stops_at_once(number: signal.Signals) -> None:
    """Also a solver that never asks whether it shall stop; what it holds is given back."""
    Path("slow").touch()
    process = start_walk()
    process.send_signal(number)
    assert said_of_signal(process).startswith(f"{number.name}: stopping when the solver saves")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=600)
    assert process.returncode == 128 + number, error
    assert error.splitlines()[-1].startswith("rmdp-bench: stopped at once")
    assert "Traceback" not in error
    assert not list(Path("runs").rglob(".lock"))
    Path("slow").unlink()


def test_nohup_keeps_its_meaning() -> None:
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    process = start_walk(prelude=ignore)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGTERM, error
    assert "SIGHUP" not in error


def test_a_terminal_that_is_closed(undisturbed: list[Any]) -> None:
    """Its SIGHUP comes when nothing can be printed any more."""
    master, slave = os.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    process = start_walk(stdout=slave, stderr=slave, stdin=slave, preexec_fn=take_terminal)
    os.close(slave)
    os.close(master)
    assert process.wait(timeout=600) == 128 + signal.SIGHUP
    assert len(list(Path("runs").rglob("1.npz"))) == 2
    assert main(["run", "walk.py", TASK, "--seeds", "0:2"]) == 0
    assert outcome("runs") == undisturbed


def test_a_terminal_that_is_closed_takes_no_table_from_a_file() -> None:
    """It comes too late to stop anything; the table goes where stdout does."""
    Path("walk.py").write_text(WALK)
    Path("hold").touch()
    code = (
        "import pathlib, time, rmdp_bench.runs.running as r\n"
        "remove = r._remove_leftovers\n"
        "def wait(directories):\n"
        "    pathlib.Path('recorded').touch()\n"
        "    while pathlib.Path('hold').exists():\n"
        "        time.sleep(0.01)\n"
        "    remove(directories)\n"
        "r._remove_leftovers = wait\n"
    )
    Path("walk.py").write_text(WALK.replace("iteration == 5", "False"))
    master, slave = os.openpty()
    process = start(["run", "walk.py", TASK], code + COMMAND, stderr=slave, stdin=slave)
    os.close(slave)
    wait_for(Path("recorded").exists, process)
    os.close(master)
    process.send_signal(signal.SIGHUP)
    Path("hold").unlink()
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    assert TASK in output


@pytest.mark.parametrize("module", ["gymnasium", "typer", "torch", "numba"])
def test_ctrl_c_while_starting_up_says_so_in_one_line(module: str) -> None:
    """It comes in the middle of an import: of the package, of the command, of the solver."""
    code = (
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}:\n"
        "            sys.meta_path.remove(self)\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
    )
    process = start(["run", "em", TASK], code + COMMAND)
    output, error = process.communicate(timeout=600)
    assert process.returncode == 130, error
    assert output == ""
    (line,) = error.splitlines()
    assert line.startswith("rmdp-bench: stopped ")
    assert not Path("runs").exists()


def test_evaluate_stops_in_one_line() -> None:
    """By each of the signals, one after the other."""
    Path("walk.py").write_text(WALK)
    assert main(["run", "walk.py", TASK]) == 0
    before = contents(Path("runs"))
    code = (
        "import pathlib, sys, time, rmdp_bench.evaluation as e\n"
        "from rmdp_bench_command import main\n"
        "def wait(*a, **k):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(1000)\n"
        "e.evaluate = wait\n"
        f"for _ in range({len(SIGNALS)}):\n"
        "    print(main(), flush=True)\n"
    )
    process = start(["evaluate", f"runs/{TASK}/walk/seed-0"], code)
    assert process.stdout is not None and process.stderr is not None
    for number in SIGNALS:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == f"{128 + number}\n"
        said = process.stderr.readline()
        assert said == f"rmdp-bench: stopped by {number.name}; nothing is half written\n"
    assert process.communicate(timeout=600) == ("", "")
    assert contents(Path("runs")) == before


BUILD = (
    "import rmdp_bench.datasets as d\n"
    "from tests.helpers.stopping import slow_entries\n"
    "d.DATASETS = slow_entries()\n"
    "import sys; from rmdp_bench_command import main\n"
    "sys.exit(main())"
)


def start_build(workers: int) -> subprocess.Popen[str]:
    """A build that waits, in a group of processes of its own."""
    arguments = ["datasets", "build", "--all", "--force", "--workers", str(workers)]
    process = start(arguments, BUILD, start_new_session=True)
    wait_for(lambda: len(list(Path().glob("building-*"))) == workers, process)
    return process


def is_free(dataset_id: str) -> bool:
    """Whether nobody builds a data set: a process that has ended holds no lock."""
    place = dataset_path(dataset_id)
    try:
        with locked(place.with_name(f".building-{place.name}"), "held"):
            return True
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("workers", "number", "to_all"),
    [
        (1, signal.SIGTERM, False),
        (2, signal.SIGTERM, False),
        (2, signal.SIGINT, True),  # Ctrl-C in a terminal
        (2, signal.SIGHUP, True),  # a terminal that is closed, or a batch system
    ],
)
def test_a_stopped_build_leaves_nothing(workers: int, number: signal.Signals, to_all: bool) -> None:
    """Whether the signal goes to the command only, or to all of its processes."""
    process = start_build(workers)
    if to_all:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    output, error = process.communicate(timeout=600)
    assert process.returncode == 128 + number, error
    assert "Traceback" not in error
    assert not [name for name in contents(datasets_root()) if "building" in name]
    assert is_free(CART_POLE) and is_free(HOPPER)


def test_workers_end_with_a_parent_that_is_killed() -> None:
    process = start_build(2)
    assert not is_free(CART_POLE) and not is_free(HOPPER)
    process.kill()
    process.wait()
    wait_for(lambda: is_free(CART_POLE) and is_free(HOPPER))
    build_datasets([small(get_dataset(CART_POLE))])
