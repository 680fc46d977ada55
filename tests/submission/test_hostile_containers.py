"""Hostile files of rows: archives that are not of the one form, records that are not of seeds."""

from __future__ import annotations

import contextlib
import io
import json
import lzma
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmdp_bench.submission import archives
from rmdp_bench.submission.quick import check_submission
from rmdp_bench.submission.rows import RowFiles
from tests.helpers.hostile_toys import (
    ARRAYS_FILE,
    POLICIES_FILE,
    RECORDS_FILE,
    Damage,
    array,
    promised,
    zipped,
)
from tests.helpers.submission_toys import copy_of, quick_archive, rehash

FORM = "is not an archive as `rmdp-bench submit` writes it"
POLICY, MATRIX = "seed-0/policy-0.onnx", "seed-0/welfare_matrix.npy"
LOCAL, LISTED, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def rewritten(name: str, change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> Damage:
    """An archive of the one form, of other files."""

    def damage(folder: Path) -> None:
        path = folder / name
        path.write_bytes(quick_archive(change(contents(path))))
        rehash(folder)

    return damage


def edited(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Other bytes of an archive."""

    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(change(data))
        assert (folder / name).read_bytes() != data
        rehash(folder)

    return damage


def at(mark: bytes, place: int, form: str, value: int) -> Callable[[bytes], bytes]:
    """A number in the first header that begins with this."""

    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        struct.pack_into(form, changed, data.index(mark) + place, value)
        return bytes(changed)

    return change


def by_zipfile(
    change: Callable[[zipfile.ZipInfo], object], method: int = zipfile.ZIP_LZMA
) -> Callable[[dict[str, bytes]], bytes]:
    """The same files as Python's zipfile writes them."""

    def write(files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name)
                entry.compress_type = method
                change(entry)
                archive.writestr(entry, files[name])
        return buffer.getvalue()

    return write


def foreign(name: str, write: Callable[[dict[str, bytes]], bytes]) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(write(contents(folder / name)))
        rehash(folder)

    return damage


def nothing(entry: zipfile.ZipInfo) -> None:
    """Leave it as it is."""


def as_link(entry: zipfile.ZipInfo) -> None:
    entry.create_system, entry.external_attr = 3, 0o120777 << 16


def two_of_one_name(data: bytes) -> bytes:
    return data.replace(b"seed-0/policy-1.onnx", b"seed-0/policy-0.onnx")


def bomb(name: str, n_bytes: int, n_entries: int = 1) -> Damage:
    """Entries that are much larger than the file."""
    files = {f"seed-0/policy-{place}.onnx": bytes(n_bytes) for place in range(n_entries)}
    return rewritten(name, lambda _: files)


def sizes_that_lie(data: bytes) -> bytes:
    """Both headers say of the first entry that it has fewer bytes."""
    start = data.index(LISTED)
    changed = bytearray(data)
    for place in (22, start + 24):
        struct.pack_into("<L", changed, place, 5)
    return bytes(changed)


def large_dictionary(data: bytes) -> bytes:
    """Data for which a decoder would make room for four gigabytes first."""
    return data.replace(archives._START, archives._START[:5] + b"\xff\xff\xff\xff", 1)


def more_behind_the_end(files: dict[str, bytes]) -> bytes:
    """Bytes behind the data of an entry, where both headers count them in."""
    content = files[POLICY]
    packed = archives._pack(content) + b"hidden"
    entry = archives.Entry(POLICY, zlib.crc32(content), len(packed), len(content))
    rest = archives.write_archive({})
    directory = entry.listed(0)
    end = archives._end(1, len(directory), len(entry.header) + len(packed))
    assert rest == archives._end(0, 0, 0)
    return entry.header + packed + directory + end


def records(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        document = json.loads((folder / RECORDS_FILE).read_text())
        change(document)
        (folder / RECORDS_FILE).write_text(json.dumps(document))
        rehash(folder)

    return damage


def text(change: Callable[[str], str]) -> Damage:
    return edited(RECORDS_FILE, lambda data: change(data.decode()).encode())


CASES: dict[str, tuple[Damage, str]] = {
    "bytes before": (edited(POLICIES_FILE, lambda data: b"#!/bin/sh\n" + data), FORM),
    "bytes behind": (edited(POLICIES_FILE, lambda data: data + b"x"), FORM),
    "a comment": (
        edited(POLICIES_FILE, lambda data: data[:-2] + b"\3\0abc"), "end with a list of its files"
    ),
    "bytes between the entries and the list": (
        edited(POLICIES_FILE, lambda data: data.replace(LISTED, b"hidden" + LISTED, 1)), FORM
    ),
    "half a file": (edited(POLICIES_FILE, lambda data: data[: len(data) // 2]), FORM),
    "an empty file": (edited(POLICIES_FILE, lambda data: b""), FORM),
    "no zip": (edited(ARRAYS_FILE, lambda data: b"\x93NUMPY" + data), FORM),
    "another name in front of the data": (
        edited(POLICIES_FILE, lambda data: data.replace(b"policy-0", b"policy-9", 1)),
        "is not where or what its list says",
    ),
    "another size in front of the data": (
        edited(POLICIES_FILE, at(LOCAL, 22, "<L", 5)), "is not where or what its list says"
    ),
    "another sum in front of the data": (
        edited(ARRAYS_FILE, at(LOCAL, 14, "<L", 5)), "is not where or what its list says"
    ),
    "an entry elsewhere": (
        edited(POLICIES_FILE, at(LISTED, 42, "<L", 1)), "listed with something that has no place"
    ),
    "encrypted": (edited(POLICIES_FILE, at(LISTED, 8, "<H", 3)), "has no place"),
    "encrypted in both places": (
        edited(POLICIES_FILE, lambda data: at(LOCAL, 6, "<H", 3)(at(LISTED, 8, "<H", 3)(data))),
        "has no place",
    ),
    "a link": (foreign(POLICIES_FILE, by_zipfile(as_link)), "has no place"),
    "times": (
        foreign(POLICIES_FILE, by_zipfile(lambda e: setattr(e, "date_time", (2026,) + (1,) * 5))),
        "has no place",
    ),
    "an extra field": (
        foreign(ARRAYS_FILE, by_zipfile(lambda e: setattr(e, "extra", b"\x01\x00\x02\x00ab"))),
        "has no place",
    ),
    "a comment of an entry": (
        foreign(ARRAYS_FILE, by_zipfile(lambda e: setattr(e, "comment", b"psst"))), "has no place"
    ),
    "stored": (foreign(POLICIES_FILE, by_zipfile(nothing, zipfile.ZIP_STORED)), FORM),
    "deflated": (foreign(ARRAYS_FILE, by_zipfile(nothing, zipfile.ZIP_DEFLATED)), FORM),
    "as zipfile writes it": (foreign(POLICIES_FILE, by_zipfile(nothing)), FORM),
    "two of one name": (edited(POLICIES_FILE, two_of_one_name), "is there twice"),
    "in another order": (
        foreign(POLICIES_FILE, lambda files: b"".join(
            archives.write_archive({name: files[name]}) for name in files)), FORM
    ),
    "a name with ..": (
        rewritten(POLICIES_FILE, lambda files: files | {"seed-0/../../x.onnx": b""}),
        "'seed-0/../../x.onnx' has no place in it",
    ),
    "an absolute name": (
        rewritten(POLICIES_FILE, lambda files: files | {"/etc/cron.d/x": b""}),
        "'/etc/cron.d/x' has no place in it",
    ),
    "a name with backslashes": (
        rewritten(POLICIES_FILE, lambda files: files | {"seed-0\\policy-7.onnx": b""}),
        "has no place in it",
    ),
    "a name of the other archive": (
        rewritten(POLICIES_FILE, lambda files: files | {MATRIX: b""}), "has no place in it"
    ),
    "a policy with a zero in front": (
        rewritten(POLICIES_FILE, lambda files: files | {"seed-0/policy-00.onnx": b""}),
        "has no place in it",
    ),
    "a folder": (
        rewritten(POLICIES_FILE, lambda files: files | {"seed-0/": b""}), "has no place in it"
    ),
    "policies of a seed too many": (
        rewritten(POLICIES_FILE, lambda files: files | {"seed-2/policies.onnx": b""}),
        "is of no seed in records.json",
    ),
    "arrays of a seed too many": (
        rewritten(ARRAYS_FILE, lambda files: files | {"seed-9/welfare_matrix.npy": b""}),
        "is of no seed in records.json",
    ),
    "policies of one seed only": (
        rewritten(POLICIES_FILE, lambda files: {n: d for n, d in files.items() if "seed-0" in n}),
        "seed-1 holds no policies",
    ),
    "an array less": (
        rewritten(ARRAYS_FILE, lambda files: {n: d for n, d in files.items() if n != MATRIX}),
        "has no welfare_matrix",
    ),
    "no assignment": (
        rewritten(ARRAYS_FILE, lambda files: {
            n: d for n, d in files.items() if n != "seed-0/assignment.npy"}),
        "has no assignment.npy",
    ),
    "an array more": (
        rewritten(ARRAYS_FILE, lambda files: files | {"seed-0/notes.npy": array(np.zeros(3))}),
        "has an array 'notes', which is not expected",
    ),
    "seventeen arrays of a seed": (
        rewritten(ARRAYS_FILE, lambda files: files | {f"seed-0/x{i}.npy": b"" for i in range(40)}),
        "files in it, at most 32 are allowed",
    ),
    "a pickle": (
        rewritten(ARRAYS_FILE, lambda files: files | {MATRIX: array(np.array([[{}]], object))}),
        "expected numbers",
    ),
    "a huge promise": (
        rewritten(ARRAYS_FILE, lambda files: files | {MATRIX: promised("(25, 1000000000000)")}),
        "expected (25, 3)",
    ),
    "a huge array": (
        rewritten(ARRAYS_FILE, lambda files: files | {MATRIX: bytes(2**22)}),
        "unpacks to 4194304 bytes, at most 16984 are allowed",
    ),
    "arrays of half a gigabyte": (
        rewritten(ARRAYS_FILE, lambda files: {
            f"seed-0/x{i}.npy": bytes(2**25) for i in range(9)}),
        "unpacks to 301989888 bytes, at most",
    ),
    "a graph that is too large": (
        bomb(POLICIES_FILE, 2**26 + 1), "unpacks to 67108865 bytes, at most 67108864 are allowed"
    ),
    "graphs of more than half a gigabyte": (
        bomb(POLICIES_FILE, 2**25, 17), "unpacks to 570425344 bytes, at most 536870912 are allowed"
    ),
    "more than the list says": (
        edited(POLICIES_FILE, sizes_that_lie), "is not what the list of the archive says"
    ),
    "a dictionary of four gigabytes": (
        edited(POLICIES_FILE, large_dictionary), "is not what the list of the archive says"
    ),
    "bytes behind the data of an entry": (
        foreign(POLICIES_FILE, more_behind_the_end), "is not what the list of the archive says"
    ),
    "damaged data": (
        edited(POLICIES_FILE, lambda data: data[:200] + bytes(64) + data[264:]),
        "policies.zip",
    ),
    "another kind of archive": (
        edited(POLICIES_FILE, lambda data: lzma.compress(data)), FORM
    ),
    "no policies in it": (rewritten(POLICIES_FILE, lambda _: {}), "holds no policies"),
    "an archive in the place of the list": (edited(POLICIES_FILE, lambda data: data + zipped({})),
                                            FORM),
    "a seed more": (
        records(lambda d: d["seeds"].append(d["seeds"][0])), "has 3 seeds, but submission.toml"
    ),
    "a seed less": (records(lambda d: d["seeds"].pop()), "is of no seed|lists 2"),
    "no seeds": (records(lambda d: d["seeds"].clear()), "seeds: List should have at least 1"),
    "seeds in another order": (records(lambda d: d["seeds"].reverse()), "seed is 1, expected 0"),
    "one seed twice": (
        records(lambda d: d.update(seeds=[d["seeds"][0]] * 2)), "seed is 0, expected 1"
    ),
    "a thousand and one seeds": (
        records(lambda d: d.update(seeds=[{"record": {}}] * 1001)), "at most 1000"
    ),
    "a key twice": (
        text(lambda t: t.replace('"seeds": [', '"seeds": [], "seeds": [', 1)),
        "the key 'seeds' is there twice",
    ),
    "a key of a record twice": (
        text(lambda t: t.replace('"task":', '"task": "x", "task":', 1)), "is there twice"
    ),
    "something more": (records(lambda d: d.update(verified=True)), "verified: Extra inputs"),
    "something more of a seed": (
        records(lambda d: d["seeds"][0].update(mark="verified")), "seeds.0.mark: Extra inputs"
    ),
    "another version": (records(lambda d: d.update(schema_version=1)), "schema_version"),
    "a version that is true": (records(lambda d: d.update(schema_version=True)), "schema_version"),
    "nested deeply": (text(lambda t: '{"seeds": ' + "[" * 100_000), "nested too deeply"),
    "deep in a record": (
        records(lambda d: d["seeds"][0]["record"].update(
            config=json.loads('{"a":' * 40 + "1" + "}" * 40))),
        "nested more than",
    ),
    "nine megabytes": (text(lambda t: t + " " * 9 * 2**20), "are allowed"),
    "half a megabyte of blanks": (text(lambda t: t + " " * 2**19), "bytes that its records need"),
    "a record that is a list": (
        records(lambda d: d["seeds"][0].update(record=[])), "seeds.0.record"
    ),
    "a curve that nobody names": (
        records(lambda d: d["seeds"][0].update(curve=["x"])),
        "curve.csv is not what its record names",
    ),
    "a curve that is missing": (
        records(lambda d: d["seeds"][0]["record"].update(curve="curve.csv")),
        "curve.csv is missing",
    ),
    "a curve of numbers": (
        records(lambda d: d["seeds"][0].update(curve=[[1, 2.0, 3.0, None]])), "seeds.0.curve.0"
    ),
    "a curve of two lines in one": (
        records(lambda d: (d["seeds"][0]["record"].update(curve="curve.csv"),
                           d["seeds"][0].update(curve=["a\\nb"]))),
        "the first line is",
    ),
    "policies that a record denies": (
        records(lambda d: d["seeds"][0]["record"].update(solution=None)),
        "solution is not what its record names",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str, honest_submission: Path, tmp_path: Path) -> None:
    damage, message = CASES[case]
    folder = copy_of(honest_submission, tmp_path)
    damage(folder)
    with pytest.raises(ValueError) as refusal:
        check_submission(folder)
    assert any(part in str(refusal.value) for part in message.split("|"))
    assert "honest" in str(refusal.value)  # the submission has a name
    assert len(str(refusal.value)) < 1500


def test_a_manifest_with_other_hashes_of_seeds(honest_submission: Path, tmp_path: Path) -> None:
    folder = copy_of(honest_submission, tmp_path)
    document = json.loads((folder / "manifest.json").read_text())
    (hashes,) = document["seeds"].values()
    hashes.reverse()
    (folder / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="hashes of seeds in manifest.json are not those"):
        check_submission(folder)


def test_bombs_take_no_memory(
    honest_submission: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a list promises is refused before anything is unpacked."""
    size = 2**23
    monkeypatch.setattr("rmdp_bench.submission.rows.MAX_POLICIES_BYTES", 2 * size)
    taken = {}
    for n_entries in (1, 3):
        folder = copy_of(honest_submission, tmp_path / str(n_entries))
        bomb(POLICIES_FILE, size, n_entries)(folder)
        row = RowFiles(folder / Path(POLICIES_FILE).parent)
        tracemalloc.start()
        try:
            with contextlib.ExitStack() as stack:
                if n_entries == 3:
                    message = f"unpacks to {size * n_entries} bytes"
                    stack.enter_context(pytest.raises(ValueError, match=message))
                row.policy_names(0)
                assert len(row.solution(0)["policy-0.onnx"]) == size
            taken[n_entries] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert taken[1] >= size  # what is unpacked is seen
    assert taken[3] < size / 8
