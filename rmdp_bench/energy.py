"""Energy that a device used, where its counter can be read.

Of processors it is the counter of their packages (RAPL, in Linux's powercap; most systems let only
root read it), of a GPU that of its driver (NVML).  Both count everything that runs on the device.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

POWERCAP = Path("/sys/class/powercap")
SECONDS_BETWEEN = 20.0
"""Between readings: a processor's counter starts anew after some minutes at full power."""


@dataclass(frozen=True)
class Counter:
    """A counter of joules.

    Attributes:
        read: its state; OSError if it cannot be read.
        range: after which it starts anew at 0; None: never.
    """

    read: Callable[[], float]
    range: float | None = None

    def used(self, before: float, now: float) -> float:
        """Joules between two states that are less than one range apart."""
        return now - before if self.range is None else (now - before) % self.range


def find_counters(device: str, powercap: Path = POWERCAP) -> list[Counter]:
    """Counters of a device, "cpu" or "cuda"; empty where not all of them can be read."""
    found = _gpu_counters() if device == "cuda" else _package_counters(powercap)
    try:
        for counter in found:
            counter.read()
    except (OSError, ValueError):
        return []
    return found


class EnergyMeter:
    """Counts while its block runs; `joules` may be asked within it and after."""

    def __init__(self, counters: Sequence[Counter]) -> None:
        """Take the counters; none: nothing is known."""
        self._counters = list(counters)
        self._states: list[float] = []
        self._joules = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_reading, daemon=True)

    def __enter__(self) -> EnergyMeter:
        """Start."""
        with contextlib.suppress(OSError, ValueError):
            self._states = [counter.read() for counter in self._counters]
        if self._states:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        with self._lock:
            self._read()
            self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def joules(self) -> float | None:
        """Used since the block was entered; None where nothing can be read."""
        with self._lock:
            if not self._stop.is_set():
                self._read()
            return self._joules if self._states else None

    def _keep_reading(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN):
            with self._lock:
                self._read()

    def _read(self) -> None:
        """Add what was used since the last reading; a counter that fails ends the measurement."""
        before, self._states = self._states, []
        if not before:
            return
        with contextlib.suppress(OSError, ValueError):
            now = [counter.read() for counter in self._counters]
            used = zip(self._counters, before, now, strict=True)
            self._joules += sum(counter.used(*states) for counter, *states in used)
            self._states = now


def _package_counters(powercap: Path) -> list[Counter]:
    """One for each processor package."""
    counters = []
    for zone in sorted(powercap.glob("intel-rapl:*")):  # the name on AMD's processors too
        try:
            if not (zone / "name").read_text().startswith("package"):
                continue
            largest = int((zone / "max_energy_range_uj").read_text()) / 1e6
        except (OSError, ValueError):
            return []
        counters.append(Counter(_file_reader(zone / "energy_uj"), largest))
    return counters


def _file_reader(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text()) / 1e6


def _gpu_counters() -> list[Counter]:
    """That of the only GPU, through NVIDIA's library.

    None of several: which of them a run uses, the library does not know.
    """
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    n_gpus, handle = ctypes.c_uint(), ctypes.c_void_p()
    if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(n_gpus)):
        return []
    if n_gpus.value != 1 or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)):
        return []

    def read() -> float:
        millijoules = ctypes.c_ulonglong()
        if library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)):
            raise OSError("the GPU's counter of energy cannot be read")
        return millijoules.value / 1e3

    return [Counter(read)]
