"""The plan of the offline table."""

from __future__ import annotations

import sys

import pytest

from scripts import run_offline_table


def test_the_oracle_runs_once_per_world_at_its_own_size(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It reads no data; the planners of the others are reduced."""
    monkeypatch.setattr(sys, "argv", ["run_offline_table", "--print"])
    run_offline_table.main()
    lines = capsys.readouterr().out.splitlines()
    oracle = [line for line in lines if line.startswith("rmdp-bench run true_env_mpc ")]
    assert [line.split()[3] for line in oracle] == [
        "CartPoleHet-n500-pure-v1",
        "MountainCarHet-n500-pure-v1",
    ]
    for line in oracle:
        assert line.endswith("--set n_sequences=1000 --set horizon=80")
        assert "--episodes" not in line
    persim = [line for line in lines if line.startswith("rmdp-bench run persim ")]
    assert len(persim) == 8 and all("--episodes 3 --set n_sequences=100" in line for line in persim)
