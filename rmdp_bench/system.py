"""What a run was made on and with: hardware, versions, revision.

Nothing here names a person, a host or a folder, so records can be published as they are.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from rmdp_bench.cores import usable_cores

_PACKAGES = (
    *("rmdp_bench", "numpy", "scipy", "gymnasium", "mujoco", "minari", "h5py"),
    *("onnx", "onnxruntime", "torch", "numba"),
)


def system_record(device: str) -> dict[str, Any]:
    """Hardware and operating system.

    Args:
        device: "cpu" or "cuda"; for "cuda" torch names the GPU.

    Returns:
        cpu (model), cores (that this process may use), memory_gib, device ("cpu" or "cuda"),
        device_name (the GPU, else None), os.
    """
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "device": device,
        "device_name": gpu_name() if device == "cuda" else None,
        "os": f"{_system_name()} {platform.machine()}",
    }


def _system_name() -> str:
    """Name and version of the operating system, not of the kernel's build."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, those installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def git_revision() -> str | None:
    """Commit of the checkout this package runs from, "-dirty" if changed; None outside one.

    The first call decides for the whole process: code that changes later is not what runs.
    """
    package = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=30
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # not the checkout of somebody's project
        revision = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{revision}-dirty" if changed else revision


def cpu_model() -> str:
    """Name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return platform.processor() or platform.machine()


def gpu_name() -> str | None:
    """Name of the first CUDA device; None without torch or CUDA."""
    try:
        import torch
    except ImportError:
        return None
    return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else None


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def peak_device_memory_mib(device: str) -> float | None:
    """Most memory that torch held on the GPU so far; None on the CPU."""
    if device != "cuda":
        return None
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**20, 1)
