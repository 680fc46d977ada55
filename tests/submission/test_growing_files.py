"""Files that change while they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rmdp_bench.submission import bounded


@pytest.mark.parametrize("change", [b"0123456789 and more", b"012"])
def test_a_file_that_changes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert bounded.read_bytes(path, 100) == b"0123456789"
    fstat = os.fstat

    def look_and_change(descriptor: int) -> Any:
        status = fstat(descriptor)
        path.write_bytes(change)
        return status

    monkeypatch.setattr(os, "fstat", look_and_change)
    with pytest.raises(ValueError, match="it changes while it is read"):
        bounded.read_bytes(path, 100)
