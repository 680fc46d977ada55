"""Counters of energy, with a folder in the place of the system's."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from rmdp_bench import energy
from rmdp_bench.energy import Counter, EnergyMeter, find_counters


def make_zone(folder: Path, name: str, microjoules: int) -> Path:
    zone = folder / name
    zone.mkdir()
    (zone / "name").write_text("package-0\n" if name.count(":") == 1 else "core\n")
    (zone / "max_energy_range_uj").write_text("1000000000\n")
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    return zone / "energy_uj"


def test_packages_are_added_and_their_parts_are_not(tmp_path: Path) -> None:
    first = make_zone(tmp_path, "intel-rapl:0", 5_000_000)
    part = make_zone(tmp_path, "intel-rapl:0:0", 1)
    second = make_zone(tmp_path, "intel-rapl:1", 999_000_000)
    with EnergyMeter(find_counters("cpu", tmp_path)) as meter:
        assert meter.joules == 0.0
        first.write_text("7500000\n")
        part.write_text("900000000\n")
        assert meter.joules == pytest.approx(2.5)
        second.write_text("1000000\n")  # it started anew
    assert meter.joules == pytest.approx(2.5 + 2.0)
    first.write_text("9000000\n")  # after the block
    assert meter.joules == pytest.approx(4.5)


def test_nothing_is_known_without_a_counter_that_can_be_read(tmp_path: Path) -> None:
    assert find_counters("cpu", tmp_path / "missing") == []
    make_zone(tmp_path, "intel-rapl:0", 1).unlink()
    assert find_counters("cpu", tmp_path) == []
    with EnergyMeter([]) as meter:
        pass
    assert meter.joules is None


def test_a_counter_that_fails_later_leaves_nothing(tmp_path: Path) -> None:
    path = make_zone(tmp_path, "intel-rapl:0", 1)
    with EnergyMeter(find_counters("cpu", tmp_path)) as meter:
        path.unlink()
        assert meter.joules is None
    assert meter.joules is None


def test_a_counter_that_starts_anew_is_read_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "SECONDS_BETWEEN", 0.001)
    states = iter(range(0, 10_000, 6))
    counter = Counter(lambda: next(states) % 10, range=10.0)
    with EnergyMeter([counter]) as meter:
        while (meter.joules or 0.0) < 60.0:
            pass
    assert (meter.joules or 0.0) % 6 == 0.0


class _Driver:
    """Stands for NVIDIA's library; every call answers 0, for success."""

    def __init__(self, n_gpus: int) -> None:
        self.n_gpus = n_gpus

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.n_gpus
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, energy: Any) -> int:  # noqa: N802
        energy._obj.value = 2500
        return 0


def test_a_gpu_is_read_if_it_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: _Driver(1))
    assert [counter.read() for counter in find_counters("cuda")] == [2.5]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: _Driver(2))
    assert find_counters("cuda") == []
