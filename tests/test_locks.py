"""Locks of directories: who only looks at one disturbs nobody, nor does who just let it go."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rmdp_bench import files
from rmdp_bench.files import LOCK_FILE, is_locked, locked


def test_who_looks_at_a_lock_does_not_refuse_it_to_others(tmp_path: Path) -> None:
    """As `sweep status` does at the instant in which a run begins."""
    (tmp_path / LOCK_FILE).touch()
    with (tmp_path / LOCK_FILE).open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert not is_locked(tmp_path)
        threading.Timer(0.05, fcntl.flock, (file.fileno(), fcntl.LOCK_UN)).start()
        with locked(tmp_path, "held"):
            assert is_locked(tmp_path)
            with pytest.raises(ValueError, match="^held"), locked(tmp_path, "held"):
                pass
    assert not is_locked(tmp_path)


def test_who_looks_for_ever_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_TRIES", 3)
    (tmp_path / LOCK_FILE).touch()
    with (tmp_path / LOCK_FILE).open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(ValueError, match="^held"), locked(tmp_path, "held"):
            pass


def test_a_folder_that_its_last_holder_removed_just_now_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, original, n_removed = tmp_path / "run", Path.open, 0

    def open_late(path: Path, *arguments: Any, **keywords: Any) -> Any:
        nonlocal n_removed
        if path == folder / LOCK_FILE and n_removed < 2:
            folder.rmdir()
            n_removed += 1
        return original(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", open_late)
    with locked(folder, "held"):
        assert is_locked(folder)
    assert n_removed == 2 and not folder.exists()


def test_a_folder_that_cannot_be_made_is_refused_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    with pytest.raises(ValueError, match="cannot write to"), locked(tmp_path / "link", "held"):
        pass
