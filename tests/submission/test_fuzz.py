"""Anything may stand in the files of a submission: it is accepted, or refused with a ValueError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rmdp_bench.submission import Submission, read_submission
from rmdp_bench.submission.bounded import read_arrays, read_object
from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.schema import check_text, submission_to_toml
from tests.helpers.submission_toys import ROW, copy_of, rehash

settings.register_profile(
    "files",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("files")

FILES = (
    *("submission.toml", "manifest.json"),
    *(f"{ROW}/{name}" for name in ("records.json", "arrays.npz", "policies.zip")),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def submission(honest_submission: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To be changed and put back."""
    return copy_of(honest_submission, tmp_path_factory.mktemp("fuzz"))


def check_with(submission: Path, name: str, data: bytes) -> bool:
    """Whether the submission passes with other bytes in one file, which is put back."""
    path = submission / name
    before, manifest = path.read_bytes(), (submission / "manifest.json").read_bytes()
    try:
        path.write_bytes(data)
        if name != "manifest.json":
            rehash(submission)
        try:
            check_submission(submission)
        except ValueError as error:
            assert len(str(error)) < 3000
            return False
        return True
    finally:
        path.write_bytes(before)
        (submission / "manifest.json").write_bytes(manifest)


def test_put_back(submission: Path) -> None:
    assert check_with(submission, FILES[0], (submission / FILES[0]).read_bytes())


@given(name=st.sampled_from(FILES), data=st.binary(max_size=200))
def test_any_bytes(submission: Path, name: str, data: bytes) -> None:
    assert not check_with(submission, name, data)


@given(
    name=st.sampled_from(FILES),
    place=st.floats(0, 1, exclude_max=True),
    data=st.binary(min_size=1, max_size=8),
    cut=st.integers(0, 8),
)
@settings(max_examples=250)
def test_changed_bytes(submission: Path, name: str, place: float, data: bytes, cut: int) -> None:
    content = (submission / name).read_bytes()
    at = int(place * len(content))
    check_with(submission, name, content[:at] + data + content[at + cut :])


@given(data=st.data(), value=JSON)
@settings(max_examples=150)
def test_any_value_in_a_record(submission: Path, data: st.DataObject, value: Any) -> None:
    records = json.loads((submission / f"{ROW}/records.json").read_text())
    document = records["seeds"][0]["record"]
    field = data.draw(st.sampled_from([*sorted(document), "another"]))
    changed = document | {field: value}
    records["seeds"][0]["record"] = changed
    passes = check_with(submission, f"{ROW}/records.json", json.dumps(records).encode())
    if passes:
        for name in ("social_welfare", "agent_returns", "task", "solver", "seed", "transitions"):
            assert changed[name] == document[name] or name == "transitions"


@given(data=st.binary(max_size=300))
def test_readers(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    for read in (read_object, lambda path: read_arrays(path, 1000)):
        try:
            read(path)
        except ValueError as error:
            assert "file" in str(error)


@given(document=JSON)
def test_json_is_read_as_json(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps({"document": document}))
    try:
        assert read_object(path) == {"document": document}
    except ValueError:
        assert any(word in path.read_text() for word in ("NaN", "Infinity"))


@given(
    text=st.text(max_size=100),
    config=st.dictionaries(st.text(max_size=9), st.integers(-9, 9) | st.floats(-1e6, 1e6)),
)
def test_descriptions_survive_their_file(tmp_path: Path, text: str, config: dict[str, Any]) -> None:
    fields = {
        "schema_version": 2,
        "name": "fuzz",
        "authors": [text],
        "method": text,
        "division": "closed",
        "licence": "MIT",
        "n_online_evaluations": 0,
        "rows": [{"task": "T", "solver": "s", "seeds": [0], "settings": config}],
    }
    try:
        submission = Submission.model_validate(fields)
    except ValueError:
        assert not text.strip() or not is_plain(text)
        return
    folder = tmp_path / "fuzz"
    folder.mkdir(exist_ok=True)
    (folder / "submission.toml").write_text(submission_to_toml(submission), encoding="utf-8")
    try:
        assert read_submission(folder) == submission
    except ValueError:
        assert not all(is_plain(key) and key.count(".") < 9 for key in config)


def is_plain(text: str) -> bool:
    try:
        return check_text(text) == text
    except ValueError:
        return False
