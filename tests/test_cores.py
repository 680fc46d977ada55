"""How many cores are used: affinity, quotas of control groups, and what the user says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rmdp_bench import cores
from rmdp_bench.cli import main
from rmdp_bench.cores import limited_cores, usable_cores
from tests.helpers.checkout import ROOT


@pytest.fixture(autouse=True)
def on_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 cores, and nobody has said how many to use."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    for name in (cores.VARIABLE, *cores.THREAD_VARIABLES):
        monkeypatch.delenv(name, raising=False)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


GROUP = "sys/fs/cgroup"
SELF = "proc/self/cgroup"
V1 = "4:memory:/x\n3:cpu,cpuacct:/slurm/job_7\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({SELF: "0::/\n"}, 64),
        ({SELF: "0::/\n", f"{GROUP}/cpu.max": "max 100000\n"}, 64),
        ({SELF: "0::/\n", f"{GROUP}/cpu.max": "200000 100000\n"}, 2),
        ({SELF: "0::/\n", f"{GROUP}/cpu.max": "250000 100000\n"}, 3),
        ({SELF: "0::/\n", f"{GROUP}/cpu.max": "50000 100000\n"}, 1),
        ({SELF: "0::/\n", f"{GROUP}/cpu.max": "9900000 100000\n"}, 64),
        ({SELF: "0::/\n", f"{GROUP}/cpu.max": "nonsense\n"}, 64),
        # Nested: the least of the group's own quota and of those above.
        ({SELF: "0::/a/b\n", f"{GROUP}/a/b/cpu.max": "400000 100000\n"}, 4),
        ({SELF: "0::/a/b\n", f"{GROUP}/a/cpu.max": "300000 100000\n"}, 3),
        # A container that sees the host's name of its group, and its own group as the root.
        ({SELF: "0::/docker/1f\n", f"{GROUP}/cpu.max": "500000 100000\n"}, 5),
        # Version 1.
        (
            {
                SELF: V1,
                f"{GROUP}/cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us": "600000\n",
                f"{GROUP}/cpu,cpuacct/slurm/job_7/cpu.cfs_period_us": "100000\n",
            },
            6,
        ),
        (
            {
                SELF: V1,
                f"{GROUP}/cpu/cpu.cfs_quota_us": "-1\n",
                f"{GROUP}/cpu/cpu.cfs_period_us": "100000\n",
            },
            64,
        ),
    ],
)
def test_quotas(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert cores._available_cores(tree(tmp_path, files)) == expected


def test_affinity_and_what_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_quotas", lambda root: iter(()))
    assert usable_cores() == 64
    monkeypatch.setenv(cores.VARIABLE, "3")
    assert usable_cores() == 3
    monkeypatch.setenv(cores.VARIABLE, "100")
    assert usable_cores() == 64
    for wrong in ("0", "-1", "two", "", "1.5"):
        monkeypatch.setenv(cores.VARIABLE, wrong)
        with pytest.raises(ValueError, match=f"RMDP_BENCH_CORES is '{wrong}', expected an integer"):
            usable_cores()


def test_a_limit_ends_and_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # the user's own, which stays
    before = dict(os.environ)
    with limited_cores(2):
        assert usable_cores() == 2
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert os.environ["OPENBLAS_NUM_THREADS"] == os.environ["NUMBA_NUM_THREADS"] == "2"
        with limited_cores(None):
            assert usable_cores() == 2
    assert dict(os.environ) == before


def test_the_option_is_for_the_command_only(capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    assert main(["datasets", "verify", "--cores", "0"]) == 2
    assert "--cores" in capsys.readouterr().err
    assert main(["datasets", "verify", "--cores", "two"]) == 2
    assert "'two' is not a valid integer; a million is" in " ".join(capsys.readouterr().err.split())
    assert main(["evaluate", "nowhere", "--cores", "1k"]) == 2
    assert "no run directory nowhere" in capsys.readouterr().err
    assert dict(os.environ) == before


REPORT = """
import sys, types

def report():
    import json, os
    import gymnasium as gym
    import numba, torch
    import scipy.linalg.cython_blas
    from threadpoolctl import threadpool_info
    from rmdp_bench.cores import usable_cores
    envs = gym.make_vec("rmdp/HalfCheetahVel-n100-v0", num_envs=64)
    threads = {info["filepath"]: info["num_threads"] for info in threadpool_info()}
    print(json.dumps(threads | {
        "torch": torch.get_num_threads(),
        "numba": numba.config.NUMBA_NUM_THREADS,
        "physics": envs.unwrapped.world.batch.nthread,
        "usable": usable_cores(),
        "tasks": len(os.listdir("/proc/self/task")),
    }))

sys.modules["rmdp_bench.cli"] = types.SimpleNamespace(main=report)
import rmdp_bench_command
rmdp_bench_command.main()
"""
"""The start of the command, and in the place of what follows the threads of all libraries."""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
@pytest.mark.parametrize("way", ["option", "variable"])
def test_one_process_for_one_core_starts_no_other_threads(way: str) -> None:
    """Of all libraries, and before NumPy is loaded; 64 processes for 64 slots are 64 threads."""
    environment = {
        name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")
    } | {"PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}
    arguments = ["run", "em", "TASK", "--cores", "0.001k"] if way == "option" else []
    if way == "variable":
        environment[cores.VARIABLE] = "1"
    output = subprocess.run(
        [sys.executable, "-c", REPORT, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = json.loads(output)
    assert found.pop("tasks") <= 2  # Python, and perhaps the one of the physics
    assert len(found) > 4  # a BLAS or two beside torch, numba, physics and usable
    assert set(found.values()) == {1}, found
