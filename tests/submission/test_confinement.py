"""The process that reads strangers' files: what is out of its reach, asked from inside."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rmdp_bench.cli import main
from rmdp_bench.runs.records import Result
from rmdp_bench.submission import recipes
from rmdp_bench.submission.held_out import draw_held_out
from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.sandbox import children as sandbox
from rmdp_bench.submission.sandbox import confinement
from rmdp_bench.submission.sandbox.budget import Budget
from rmdp_bench.submission.sandbox.checker import check_in_sandbox
from rmdp_bench.submission.sandbox.children import Limits, play_in_sandbox, printable
from rmdp_bench.submission.sandbox.confinement import (
    confined_command,
    describe_layers,
    home_of_confined,
    variables,
)
from rmdp_bench.tasks import get_task
from tests.helpers.hostile_toys import POLICY, endless, put
from tests.helpers.submission_toys import ROW, TASK, copy_of, refused

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What was found out about this machine, before and after each test."""
    caches = (
        confinement._bubblewrap_failure,
        confinement._probe_of_bubblewrap,
        confinement._needed_paths,
    )
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def bubblewrap() -> None:
    """Skip where it does not work, unless it must."""
    missing = describe_layers()[0].missing
    if missing is not None:
        if os.environ.get("RMDP_BENCH_REQUIRE_BUBBLEWRAP"):
            pytest.fail(missing)
        pytest.skip(missing)


def run_inside(code: str, readable: list[Path], *, confined: bool = True) -> dict[str, object]:
    """What code says that runs where the files of strangers are read: a dict in JSON."""
    if confined:
        package = "rmdp_bench.submission.sandbox.confinement"
        limits = f"from {package} import confine; confine(512, 20, 10**6)\n"
        code = limits + code
    done = subprocess.run(
        confined_command(["-c", code], readable),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=variables(home_of_confined("/tmp")),
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.usefixtures("bubblewrap")
def test_files_are_out_of_reach(tmp_path: Path) -> None:
    secret, given = tmp_path / "secret", tmp_path / "given"
    secret.write_text("secret")
    given.mkdir()
    (given / "file").write_text("given")
    home = tmp_path / "home"
    home.mkdir()
    code = f"""
import json, os
def attempt(work):
    try:
        return str(work())
    except OSError as error:
        return type(error).__name__
places = [{str(secret)!r}, {str(home)!r}, {os.path.expanduser("~/.ssh")!r}, "/etc/passwd",
          "/etc/shadow", "/home", "/var", "/bin/sh", "/usr/bin/env", "/sys", "/run"]
print(json.dumps({{
    "there": [place for place in places if os.path.exists(place)],
    "read": attempt(lambda: open({str(given / "file")!r}).read()),
    "change": attempt(lambda: open({str(given / "file")!r}, "a")),
    "delete": attempt(lambda: os.unlink({str(given / "file")!r})),
    "add": attempt(lambda: open({str(given / "new")!r}, "w")),
    "beside": os.listdir({str(tmp_path)!r}),
    "home": os.listdir(os.path.expanduser("~")),
}}))
"""
    found = run_inside(code, [given])
    assert found["there"] == []
    assert found["read"] == "given"
    for name in ("change", "delete", "add"):
        assert found[name] == "OSError", name  # read-only
    assert found["beside"] == ["given"]
    assert "secret" not in str(found["home"])
    assert sorted(path.name for path in given.iterdir()) == ["file"]


@pytest.mark.usefixtures("bubblewrap")
def test_sources_beside_the_package_are_out_of_reach() -> None:
    root = Path(confinement.__file__).resolve().parents[3]
    if root.name == "site-packages":
        pytest.skip("the package is installed, with nothing of its project beside it")
    code = f"import json, os; print(json.dumps({{'there': sorted(os.listdir({str(root)!r}))}}))"
    there = run_inside(code, [])["there"]
    assert isinstance(there, list)
    assert "rmdp_bench" in there
    assert not {".git", "tests", "leaderboards", "pyproject.toml"} & set(there)


@pytest.mark.usefixtures("bubblewrap")
def test_network_is_out_of_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        name = f"\0rmdp-bench-{os.getpid()}"
        local.bind(name)
        local.listen()
        code = f"""
import json, socket
def attempt(family, address):
    try:
        with socket.socket(family) as client:
            client.settimeout(5)
            client.connect(address)
            return "connected"
    except OSError as error:
        return type(error).__name__
print(json.dumps({{
    "near": attempt(socket.AF_INET, ("127.0.0.1", {server.getsockname()[1]})),
    "far": attempt(socket.AF_INET, ("192.0.2.1", 80)),
    "local": attempt(socket.AF_UNIX, {name!r}),
    "interfaces": [name for _, name in socket.if_nameindex()],
}}))
"""
        found = run_inside(code, [])
        with socket.create_connection(server.getsockname(), timeout=5):
            pass  # from here it is there
    assert "connected" not in found.values()
    assert found["interfaces"] == ["lo"]


@pytest.mark.usefixtures("bubblewrap")
def test_processes_are_out_of_reach() -> None:
    code = f"""
import ctypes, json, os, subprocess
def attempt(work):
    try:
        return str(work())
    except (OSError, ValueError) as error:
        return type(error).__name__
status = open("/proc/self/status").read()
libc = ctypes.CDLL(None, use_errno=True)
print(json.dumps({{
    "seen": [int(name) for name in os.listdir("/proc") if name.isdigit()],
    "own": os.getpid(),
    "signal": attempt(lambda: os.kill({os.getpid()}, 0)),
    "shell": attempt(lambda: subprocess.run(["sh", "-c", "true"])),
    "rights": [line.split()[1] for line in status.splitlines() if line.startswith("Cap")],
    "no_new_privs": "NoNewPrivs:\\t1" in status,
    "mounted": libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0,
}}))
"""
    found = run_inside(code, [])
    assert found["seen"] == [found["own"]]
    assert found["signal"] == "ProcessLookupError"
    assert found["shell"] == "FileNotFoundError"
    assert set(map(str, found["rights"])) == {"0" * 16}  # type: ignore[call-overload]
    assert found["no_new_privs"] is True
    assert found["mounted"] is False


@pytest.mark.usefixtures("bubblewrap")
def test_it_ends_with_the_verifier() -> None:
    """Killed, not asked: the process inside goes, too."""
    code = "import time; print('ready', flush=True); time.sleep(600)"
    verifier = f"""
import subprocess
from rmdp_bench.submission.sandbox.confinement import confined_command, variables
process = subprocess.Popen(confined_command(["-c", {code!r}], []), env=variables("/tmp"))
process.wait()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", verifier], stdout=subprocess.PIPE, env=os.environ | variables("/tmp")
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout.read() == b""  # nobody holds the other end any more
    process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
@pytest.mark.parametrize("wrapped", [True, False])
def test_limits(wrapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not wrapped:
        monkeypatch.setattr(confinement, "_bubblewrap_failure", lambda: "as if it were not there")
    code = f"""
import json, os, resource
def attempt(work):
    try:
        work()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "done"
def write():
    with open("/tmp/rmdp-bench-{os.getpid()}", "wb", buffering=0) as file:
        try:
            file.write(b"x")
        finally:
            os.unlink(file.name)
files = []
def open_many():
    try:
        for _ in range({confinement.MAX_OPEN_FILES}):
            files.append(open("/dev/null", "rb", buffering=0))
    finally:
        files.clear()
print(json.dumps({{
    "memory": attempt(lambda: bytearray(2**30)),
    "written": attempt(write),
    "opened": attempt(open_many),
    "cpu": resource.getrlimit(resource.RLIMIT_CPU)[1] <= 25,
    "no_new_privs": "NoNewPrivs:\\t1" in open("/proc/self/status").read(),
}}))
"""
    assert run_inside(code, []) == {
        "memory": "MemoryError",
        "written": "OSError",
        "opened": "OSError",
        "cpu": True,
        "no_new_privs": True,
    }


@pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")
def test_processes_are_limited_unless_root() -> None:
    layers = {layer.name: layer.missing for layer in describe_layers()}
    code = """
import json, os, sys
from rmdp_bench.submission.sandbox.confinement import confine
confine(512, 20, 0)
try:
    child = os.fork()
    if child == 0:
        os._exit(0)
    print(json.dumps({"forked": True}))
except BlockingIOError:
    print(json.dumps({"forked": False}))
"""
    forked = run_inside(code, [], confined=False)["forked"]
    assert forked == (layers["processes"] is not None)
    assert forked is False or os.getuid() == 0


@pytest.mark.usefixtures("bubblewrap")
def test_environment_somewhere_else(tmp_path: Path) -> None:
    """A virtual environment that is reached by a link and takes its packages from elsewhere."""
    command = [sys.executable, "-m", "venv", "--symlinks", "--without-pip", str(tmp_path / "real")]
    subprocess.run(command, check=True)
    (tmp_path / "linked").symlink_to("real")
    site_packages = next((tmp_path / "real" / "lib").glob("python3*/site-packages"))
    folders = [path for path in sys.path if path and any(Path(path).glob("*.dist-info"))]
    (site_packages / "more.pth").write_text("\n".join(folders))
    code = """
import json
from rmdp_bench.submission.sandbox.confinement import describe_layers
print(json.dumps(describe_layers()[0].missing))
"""
    done = subprocess.run(
        [str(tmp_path / "linked" / "bin" / "python"), "-c", code],
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(Path(confinement.__file__).resolve().parents[3])},
        check=True,
    )
    assert json.loads(done.stdout) is None


def test_links_are_followed_and_kept(tmp_path: Path) -> None:
    real = tmp_path / "real" / "deep"
    real.mkdir(parents=True)
    (tmp_path / "absolute").symlink_to(tmp_path / "real")
    (tmp_path / "relative").symlink_to("absolute/../real/./deep")
    base = os.path.realpath(tmp_path)
    places, links = confinement._mounts([f"{base}/relative", f"{base}/absolute", "/no/such"])
    assert places == [f"{base}/real"]  # what is in it needs no place of its own
    assert links == {
        f"{base}/relative": "absolute/../real/./deep",
        f"{base}/absolute": str(tmp_path / "real"),
    }


def test_without_bubblewrap(
    honest_submission: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    confinement._bubblewrap_failure.cache_clear()
    assert main(["verify", str(honest_submission)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "missing: bubblewrap, which holds files, network, other processes" in printed
    assert "apt-get install bubblewrap" in printed


def test_bubblewrap_that_is_not_usable(
    honest_submission: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: setting up uid map: no' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    confinement._bubblewrap_failure.cache_clear()
    confinement._probe_of_bubblewrap.cache_clear()
    assert main(["verify", str(honest_submission), "--json"]) == 0
    reason = json.loads(capsys.readouterr().out)["missing_layers"]["bubblewrap"]
    assert reason == "bwrap is installed but not usable here: bwrap: setting up uid map: no"


def test_the_doctor_names_layers(capsys: Capture) -> None:
    assert main(["doctor", "--json"]) == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    for layer in describe_layers():
        assert checks[f"layer: {layer.name}"]["found"] == (layer.missing is None)
        assert checks[f"layer: {layer.name}"]["hint"] == layer.missing


def test_the_checked_submission_is_the_same(honest_submission: Path) -> None:
    inside = check_in_sandbox(honest_submission, Budget())
    assert inside == check_submission(honest_submission)


def test_relative_paths_and_links_beside(
    honest_submission: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    shutil.copytree(folder, folder.with_name("copied"))
    (folder.with_name("linked")).symlink_to(folder)
    monkeypatch.chdir(folder.parent)
    message = refused(capsys, "verify", "honest")
    assert f"honest: {ROW}/seed-0 has the policies of copied/{ROW}/seed-0" in message
    assert "there is no folder linked" in refused(capsys, "verify", "linked")


def test_memory_is_the_callers(honest_submission: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = copy_of(honest_submission, tmp_path)
    text = json.dumps({"schema_version": 1, "x": [[]] * 300_000})
    (folder / "manifest.json").write_text(text)
    message = refused(capsys, "verify", str(folder), "--memory", "12")
    assert "needs" in message


def test_times_are_the_callers(honest_submission: Path, tmp_path: Path) -> None:
    """A claim of many episodes buys no time."""
    folder = copy_of(honest_submission, tmp_path)
    put(POLICY, endless())(folder)
    limits = Limits(start_cpu_seconds=1e6, seconds_per_step=1e3)
    budget = Budget(cpu_seconds=4.0)
    episodes = {"claimed": (2**31, 10_000)}
    with pytest.raises(ValueError, match="stopped, it takes more than 4 s of processor time"):
        play_in_sandbox(folder / ROW, 0, get_task(TASK), episodes, limits, budget)
    with pytest.raises(ValueError, match="takes more than the 4 s of processor time"):
        play_in_sandbox(folder / ROW, 0, get_task(TASK), episodes, limits, budget)


def test_a_process_that_somebody_kills_is_not_said_to_be_slow(
    honest_submission: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    monkeypatch.setattr(sandbox, "confined_command", lambda *_: killed)
    with pytest.raises(ValueError, match=r"killed from outside after 0 of the \d+ s") as refusal:
        check_in_sandbox(honest_submission, Budget())
    assert "stopped" not in str(refusal.value)


def test_wall_time_is_the_callers(honest_submission: Path, capsys: Capture) -> None:
    message = refused(capsys, "verify", str(honest_submission), "--wall-seconds", "0.001")
    assert "wall time" in message


@pytest.mark.parametrize("option", ["--cpu-seconds", "--wall-seconds", "--start-seconds"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "1e300"])
def test_wrong_budgets(option: str, value: str, honest_submission: Path, capsys: Capture) -> None:
    message = refused(capsys, "verify", str(honest_submission), option, value)
    assert f"{option} " in message
    assert "out of range" in message


def test_recipes_buy_no_time(honest_submission: Path) -> None:
    record = check_submission(honest_submission).records[TASK, "evolution_strategies"][0]
    slow = [Result.model_copy(record, update={"solver": "em", "wall_seconds": 9e8})]
    with pytest.raises(ValueError, match="takes more than the 0 s that are left of --wall-seconds"):
        recipes._run(get_task(TASK), slow, draw_held_out(), Budget(wall_seconds=0.2), "cpu")


@pytest.mark.parametrize("wrapped", [True, False])
def test_waiting_is_stopped(wrapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that was started, which holds the pipe open."""
    if not wrapped:
        monkeypatch.setattr(confinement, "_bubblewrap_failure", lambda: "as if it were not there")
    code = """
import os, time
os.fork()
print("x", flush=True)
time.sleep(3600)
"""
    began = time.monotonic()
    answer, _, in_time, _ = sandbox._run(confined_command(["-c", code], []), "{}", 3.0, 100)
    assert not in_time
    assert set(answer) <= set(b"x\n")
    assert time.monotonic() - began < 1800.0, "it waited for the process to end by itself"


def _npz(arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(2**25))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "answer",
    [b"", b"x", _bomb(), _npz({"a": np.zeros((2, 74))}), _npz({"b": np.zeros((2, 75))})],
)
def test_answers_of_a_player_that_is_not_itself(
    answer: bytes, honest_submission: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_run", lambda *_: (answer, 0, True, b""))
    with pytest.raises(ValueError, match="the process that plays the policies is damaged"):
        play_in_sandbox(honest_submission, 0, get_task(TASK), {"a": (0, 2)}, Limits(), Budget())


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{}", b'{"submission": {}, "records": []}', b"[" * 10**5, b"\xff"],
)
def test_answers_of_a_checker_that_is_not_itself(
    answer: bytes, honest_submission: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_run", lambda *_: (answer, 0, True, b""))
    with pytest.raises(ValueError, match="the process that reads the files is damaged"):
        check_in_sandbox(honest_submission, Budget())


def test_reasons_are_one_short_line() -> None:
    assert printable("x" * 10**7) == "x" * 500 + "..."
    assert printable("a\x1b[2J\nb\u202e") == "a\\x1b[2J\\nb\\u202e"
    assert printable("Ada Ångström 李四") == "Ada Ångström 李四"


def test_two_seeds_share_the_budget() -> None:
    budget = Budget(cpu_seconds=10.0)
    budget.charge(4.0)
    assert budget.left()[0] == pytest.approx(6.0)
    budget.charge(7.0)
    with pytest.raises(ValueError, match="--cpu-seconds"):
        budget.left()


def test_rows_share_the_budget() -> None:
    """What a row leaves is for the next; the shorter of both times counts."""
    budget = Budget(cpu_seconds=100.0, wall_seconds=1e6)
    assert budget.share(4) == pytest.approx(25.0)
    budget.charge(10.0)
    assert budget.share(3) == pytest.approx(30.0)
    assert Budget(cpu_seconds=1e6, wall_seconds=50.0).share(5) == pytest.approx(10.0, abs=0.1)
    budget.charge(90.0)
    with pytest.raises(ValueError, match="--cpu-seconds"):
        budget.share(1)


LAST_WORDS = {
    "an error": ("raise RuntimeError('no space left on device')", 1, "no space left on device"),
    "a program": ("import sys; sys.exit('bwrap: no permission')", 1, "bwrap: no permission"),
    "much before it": (
        "import sys; sys.stderr.write('x' * 10**6 + chr(10)); sys.exit('the end')", 1, "the end"
    ),
    "what steers terminals": (
        "import sys; sys.exit('\\x1b[2Jgone\\u202e')", 1, r"\x1b[2Jgone\u202e"
    ),
    "nothing": ("import os; os._exit(3)", 3, None),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAST_WORDS)
def test_the_last_line_of_a_process_that_fails_is_shown(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, number, line = LAST_WORDS[kind]
    command = [sys.executable, "-c", code]
    monkeypatch.setattr(sandbox, "confined_command", lambda *_: command)
    with pytest.raises(ValueError) as caught:
        sandbox.run_in_sandbox(
            "any", {}, readable=[tmp_path], budget=Budget(), cpu_seconds=60.0, max_bytes=100
        )
    end = f"(exit code {number})" if line is None else f"{line})"
    assert str(caught.value).endswith(end)
    assert f"(exit code {number}" in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}: it crashes the process that reads it")


def test_a_process_that_says_too_much_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('x' * 10**6)"]
    monkeypatch.setattr(sandbox, "confined_command", lambda *_: command)
    with pytest.raises(ValueError) as caught:
        sandbox.run_in_sandbox(
            "any", {}, readable=[tmp_path], budget=Budget(), cpu_seconds=60.0, max_bytes=100
        )
    assert len(str(caught.value)) < 1000
    assert str(caught.value).endswith("...)")
