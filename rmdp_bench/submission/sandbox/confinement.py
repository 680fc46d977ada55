"""Layers around a process that reads or plays files of strangers, and what each of them holds.

Code that breaks out of a parser or of onnxruntime runs as the user who verifies.  Then

    bubblewrap      holds files, network and processes.  The process sees, read-only, the
                    interpreter with its packages, the libraries of the system and the submission;
                    of the user's files nothing, of the network nothing, of other processes nothing;
                    it has no capabilities and ends with the verifier.  It does not hold attacks on
                    the kernel.
    no_new_privs    holds programs that give rights (setuid); nothing else.
    limits          hold memory, processor time and open files of the process, and bytes written to
                    files (none at all).  Empty files can still be made, and files deleted, where
                    the user may and bubblewrap does not hold.
    processes       holds the number of processes and threads, with which the other limits could be
                    multiplied.  The kernel does not count those of root.
    wall time       holds waiting; the verifier keeps it.  Without bubblewrap a process that made a
                    session of its own outlives it.

Without bubblewrap, such code can read and delete what the user can, and use the network: the other
layers hold accidents and greed, not malice.  `describe_layers` says what holds on this machine.

This file needs the standard library only, and is also run as a script: what is asked of the layers
is asked from inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import json
import os
import resource
import shutil
import site
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REFUSED = b"refused: "
"""With which the answer begins of a process that refuses the files."""
MAX_REASON = 500
"""Characters of what it says about them."""
MAX_OPEN_FILES = 4096
"""Some worlds keep a file open in each copy (MO-Gymnasium's FruitTree its font), and a batch is 64
episodes of each of the k policies."""
SPARE_TASKS = 64
"""Processes and threads that may be added, beside one thread for each core."""
PROBE_SECONDS = 60.0
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "ORT_DISABLE_TELEMETRY")
_NO_NEW_PRIVS = 38
"""PR_SET_NO_NEW_PRIVS of linux/prctl.h."""
_SYSTEM = (
    *("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib"),
    *("/etc/ld.so.cache", "/nix/store", "/gnu/store"),
)
"""What the loader needs."""
_NEEDED = ("numpy", "onnx", "onnxruntime", "gymnasium", "mujoco", "pydantic", "scipy", "rmdp_bench")
_HOLDS = {
    "bubblewrap": "files, network, other processes",
    "no_new_privs": "programs that give rights",
    "limits": "memory, processor time, open and written files",
    "processes": "number of processes and threads",
    "wall time": "waiting",
}
_PACKAGE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Layer:
    """One layer on this machine.

    Attributes:
        name: as in the module's text.
        holds: what it keeps the process from.
        missing: why it is not there and what to do; None: it is there.
    """

    name: str
    holds: str
    missing: str | None


def confine(memory_mib: int, cpu_seconds: int, n_tasks: int) -> None:
    """Close this process in, from now on.

    Args:
        memory_mib: that may be added to what there is.
        cpu_seconds: that may be used beside what was.
        n_tasks: processes and threads that the user may have.
    """
    with contextlib.suppress(AttributeError, OSError):  # Linux
        ctypes.CDLL(None).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limits = {
        resource.RLIMIT_CPU: int(usage.ru_utime + usage.ru_stime) + cpu_seconds + 1,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_NPROC: n_tasks,
    }
    with contextlib.suppress(OSError):  # only Linux says how much there is already
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory_mib * 2**20
    for kind, value in limits.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def answer_job(work: Callable[[dict[str, Any]], bytes]) -> None:
    """Read a job from standard input, close this process in, work, and write the answer.

    Args:
        work: gives the answer to a job; its ValueError is the reason of a refusal.
    """
    job = json.loads(sys.stdin.read())
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not the answer
    confine(job["memory_mib"], job["cpu_seconds"], job["n_tasks"])
    try:
        answer = work(job)
    except (ValueError, MemoryError, RecursionError) as error:
        reason = str(error) or "it needs too much memory"
        answer = REFUSED + reason[: 2 * MAX_REASON].encode(errors="backslashreplace")
    with output, contextlib.suppress(BrokenPipeError):
        output.write(answer)


def allowed_tasks() -> int:
    """Processes and threads of this user now, and those that a confined process may add."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
            if folder.stat().st_uid == os.getuid():
                count += int((folder / "stat").read_text().rpartition(")")[2].split()[17])
    return count + SPARE_TASKS + (os.cpu_count() or 1)


def variables(home: str) -> dict[str, str]:
    """The whole environment of a confined process."""
    from rmdp_bench.cores import THREAD_VARIABLES, VARIABLE  # not where this file is a script

    names = (*_KEPT_VARIABLES, VARIABLE, *THREAD_VARIABLES)
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return kept | {
        "HOME": home,
        "TMPDIR": home,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(_PACKAGE.parent),
        "PYTHONUSERBASE": site.getuserbase(),
    }


def confined_command(arguments: Sequence[str], readable: Iterable[Path]) -> list[str]:
    """A command line of this interpreter, under bubblewrap if that works here.

    Args:
        arguments: of the interpreter.
        readable: files and folders that the process may read, beside what it needs to run.
    """
    command = _unwrapped(arguments)
    return command if _bubblewrap_failure() else _wrapped(command, readable)


def home_of_confined(folder: str) -> str:
    """Where a confined process has its home, if `folder` is that without bubblewrap."""
    return folder if _bubblewrap_failure() else "/tmp"


def describe_layers() -> list[Layer]:
    """All layers, asked from inside a confined process."""
    outside = _bubblewrap_failure()
    inside = _probe(_unwrapped([__file__])) if outside else _probe_of_bubblewrap()
    reasons = {
        "bubblewrap": outside,
        "no_new_privs": None if inside.get("no_new_privs") else "only Linux has it",
        "limits": None if inside.get("limits") else "memory is limited on Linux only",
        "processes": None
        if inside.get("processes")
        else "the kernel does not count those of root; verify as another user",
        "wall time": None,
    }
    return [Layer(name, _HOLDS[name], reason) for name, reason in reasons.items()]


@functools.cache
def _bubblewrap_failure() -> str | None:
    """Why bubblewrap cannot be used here; None: it works."""
    if sys.platform != "linux":
        return "bubblewrap needs Linux"
    if shutil.which("bwrap") is None:
        return "bwrap is not installed: apt-get install bubblewrap"
    answer = _probe_of_bubblewrap()
    if "failure" in answer:
        return f"bwrap is installed but not usable here: {answer['failure']}"
    missing = answer["not_found"]
    return f"under bwrap {missing} cannot be found" if missing else None


@functools.cache
def _probe_of_bubblewrap() -> dict[str, object]:
    return _probe(_wrapped(_unwrapped([__file__]), ()))


def _unwrapped(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", *arguments]


def _probe(command: Sequence[str]) -> dict[str, object]:
    """What this file, run as a script, says from inside; or "failure"."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            env=variables("/tmp"),
            cwd="/",
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"failure": str(error)[:200]}
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return {"failure": (lines or [f"exit code {done.returncode}"])[-1][:200]}
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def _wrapped(command: Sequence[str], readable: Iterable[Path]) -> list[str]:
    """A command line under bubblewrap."""
    needed, links = _mounts([*_needed_paths(), *map(str, readable)])
    wrapper = ["bwrap", "--unshare-all", "--die-with-parent", "--as-pid-1", "--cap-drop", "ALL"]
    wrapper += ["--tmpfs", "/tmp", "--dev", "/dev", "--proc", "/proc"]
    for path in needed:
        wrapper += ["--ro-bind", path, path]
    for path, target in links.items():
        wrapper += ["--symlink", target, path]
    return [*wrapper, "--chdir", "/tmp", "--", *command]


@functools.cache
def _needed_paths() -> tuple[str, ...]:
    """What the interpreter, its packages and this one need to run; of other folders nothing."""
    code = "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, sys.path]))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=variables("/tmp"),
        cwd="/",
        check=True,
    )
    prefix, base_prefix, path = json.loads(done.stdout)
    needed = [*_SYSTEM, sys.executable, f"{prefix}/pyvenv.cfg", str(_PACKAGE)]
    needed += [f"{base}/{name}" for base in (prefix, base_prefix) for name in ("lib", "lib64")]
    needed += os.environ.get("LD_LIBRARY_PATH", "").split(":")
    for entry in filter(os.path.exists, path):
        if os.path.isfile(entry) or os.path.basename(entry) == "lib-dynload":
            needed.append(entry)
        elif any(Path(entry).glob("*.dist-info")) or entry.startswith(f"{base_prefix}/lib"):
            # Packages may be links to where another tool keeps them.
            needed += [entry, *(file.path for file in os.scandir(entry) if file.is_symlink())]
        # What remains are source folders of projects, among them this one's: not only code.
    return tuple(needed)


def _mounts(paths: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Real paths to bind, none within another, and the links by which they are reached."""
    real: set[str] = set()
    links: dict[str, str] = {}
    for path in paths:
        if path and os.path.exists(path):
            place, passed = _follow(path)
            real.add(place)
            links |= passed
    kept: list[str] = []
    for place in sorted(real):  # a folder before what is in it
        if not _within(place, kept):
            kept.append(place)
    return kept, {link: target for link, target in links.items() if not _within(link, kept)}


def _within(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _follow(path: str) -> tuple[str, dict[str, str]]:
    """The path without links, and each link on the way -> where it leads."""
    links: dict[str, str] = {}
    pending = os.path.abspath(path).split("/")[1:]
    here = ""
    while pending:
        part = pending.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            here = os.path.dirname(here)
        elif os.path.islink(f"{here}/{part}"):
            target = os.readlink(f"{here}/{part}")
            links[f"{here}/{part}"] = target
            pending = target.split("/") + pending
            here = "" if target.startswith("/") else here
        else:
            here = f"{here}/{part}"
    return here or "/", links


def _report() -> dict[str, object]:
    """What holds here, inside; and the packages that cannot be found."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    confine(1024, 10, 0)
    try:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        processes = False
    except OSError:
        processes = True
    status = ""
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text()
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
    return {
        "not_found": ", ".join(missing),
        "no_new_privs": "NoNewPrivs:\t1\n" in status,
        "limits": all(resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in kinds),
        "processes": processes,
    }


if __name__ == "__main__":
    print(json.dumps(_report()))
