"""Types, names and links that look right and are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.schema import read_submission
from tests.helpers.hostile_toys import field, toml
from tests.helpers.submission_toys import copy_of, edit_json


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "0"),
        ("seed", False),
        ("seed", 0.0),
        ("schema_version", True),
        ("schema_version", 1.0),
        ("transitions", 10_000.0),
        ("transitions", "10000"),
        ("seeds_together", True),
        ("evaluation", {"n_episodes": 3.0, "seed": 2**31}),
        ("wall_seconds", "100"),
        ("wall_seconds", True),
        ("peak_memory_mib", "100"),
        ("git_revision", 7),
    ],
)
def test_wrong_types_in_records(
    name: str, value: Any, honest_submission: Path, tmp_path: Path
) -> None:
    folder = copy_of(honest_submission, tmp_path)
    field(**{name: value})(folder)
    with pytest.raises(ValueError, match=f"records.json, seed 0 is not a valid result: {name}"):
        check_submission(folder)


@pytest.mark.parametrize(
    "line",
    [
        "schema_version = 1.0",
        "schema_version = true",
        'schema_version = "1"',
        "n_online_evaluations = 0.0",
        "n_online_evaluations = false",
        'n_online_evaluations = "0"',
        "authors = [7]",
    ],
)
def test_wrong_types_in_descriptions(line: str, honest_submission: Path, tmp_path: Path) -> None:
    folder = copy_of(honest_submission, tmp_path)
    toml(line)(folder)
    with pytest.raises(ValueError, match=f"is not valid: {line.split()[0]}"):
        read_submission(folder)


def test_wrong_types_in_manifests(honest_submission: Path, tmp_path: Path) -> None:
    folder = copy_of(honest_submission, tmp_path)
    edit_json(folder / "manifest.json", schema_version=True)
    with pytest.raises(ValueError, match=r"manifest.json is not valid: schema_version"):
        check_submission(folder)


def test_whole_numbers_are_numbers(honest_submission: Path, tmp_path: Path) -> None:
    folder = copy_of(honest_submission, tmp_path)
    field(wall_seconds=100, train_seconds=50, peak_memory_mib=200)(folder)
    check_submission(folder)


@pytest.mark.parametrize(
    "name", ["con", "prn", "aux", "nul", "com1", "com9", "lpt1", "xn--80ak6aa92e"]
)
def test_names_that_are_not_folders_everywhere(
    name: str, honest_submission: Path, tmp_path: Path
) -> None:
    folder = copy_of(honest_submission, tmp_path).rename(tmp_path / name)
    toml(f'name = "{name}"')(folder)
    with pytest.raises(ValueError, match="is not valid: name: .*(device|xn--)"):
        read_submission(folder)


@pytest.mark.parametrize("name", ["connect", "com", "com10", "null", "auxiliary", "x-n--y"])
def test_names_that_only_begin_like_these(
    name: str, honest_submission: Path, tmp_path: Path
) -> None:
    folder = copy_of(honest_submission, tmp_path).rename(tmp_path / name)
    toml(f'name = "{name}"')(folder)
    assert read_submission(folder).name == name


@pytest.mark.parametrize(
    "link",
    [
        "https://github.com@evil.example/x",
        "https://user:secret@example.org/",
        "https://@example.org/",
        "https:///path-only",
        "https://[not-an-address/",
        "https://example.org:99999/",
    ],
)
def test_links_that_lead_elsewhere(link: str, honest_submission: Path, tmp_path: Path) -> None:
    folder = copy_of(honest_submission, tmp_path)
    toml(f'code = "{link}"')(folder)
    with pytest.raises(ValueError, match="is not valid: code"):
        read_submission(folder)


@pytest.mark.parametrize(
    "link",
    ["https://example.org:8443/a?b=c#d", "https://medium.com/@author/post", "https://a.b/~c"],
)
def test_links_that_are_fine(link: str, honest_submission: Path, tmp_path: Path) -> None:
    folder = copy_of(honest_submission, tmp_path)
    toml(f'code = "{link}"')(folder)
    assert read_submission(folder).code == link
