"""Whether Minari's folder can be written to is found out as for every other folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rmdp_bench import files
from rmdp_bench.datasets.storage import FolderNotWritable, check_writable


def refuse(folder: Path) -> tuple[str, str]:
    """What is said of any folder, and of Minari's."""
    with pytest.raises(ValueError, match="cannot write to") as general:
        files.check_writable(folder)
    with pytest.raises(FolderNotWritable, match="cannot write to") as own:
        check_writable(folder)
    return str(general.value), str(own.value)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    general, own = refuse(tmp_path / "file" / "below")
    assert f"{tmp_path / 'file'} is not a folder" in general
    assert (
        own
        == f"{general.partition(';')[0]}; set MINARI_DATASETS_PATH to a folder that can be written"
    )


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # whoever runs this may write everywhere
    general, own = refuse(tmp_path / "new")
    assert f"no permission in {tmp_path}" in general and f"no permission in {tmp_path}" in own
    assert own.endswith("; set MINARI_DATASETS_PATH to a folder that can be written")
    assert own.count(";") == 1  # one remedy, not two


def test_a_relative_folder_that_can_be_made(tmp_path: Path) -> None:
    files.check_writable(Path("a/b/c"))
    check_writable(Path("a/b/c"))
    assert list(tmp_path.iterdir()) == []
