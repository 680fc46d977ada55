"""Zip archives of one form: the same contents are the same bytes, and nothing hides in them.

A zip file says twice what is in it: in front of each entry, and in a list at its end.  Readers that
believe the one see other files than those that believe the other, and between the two there is room
for more.  An archive here has its entries in the order of their names, one behind the other, and no
comments, times or attributes; so what it has to be follows from its list, and is compared byte by
byte.  Nothing is unpacked before that, and then no more than the list promises.

NumPy, Python's zipfile, 7-Zip and libarchive read them.  What is in them is mostly numbers, which
LZMA, told that they have four bytes, packs into a tenth less space than the usual method.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

_VERSION, _FLAGS, _METHOD = 63, 2, 14
"""LZMA, whose data say where they end, and the version of the format that has it."""
_FILTER = {"lc": 0, "lp": 2, "pb": 2, "dict_size": 2**20}
"""A byte is likely what it was in the number before, at the same place of four."""
_SETTINGS = (_FILTER["pb"] * 5 + _FILTER["lp"]) * 9 + _FILTER["lc"]
_START = struct.pack("<BBHBL", 9, 4, 5, _SETTINGS, _FILTER["dict_size"])
"""Of all data: version, length of what follows, and these settings; no others are read, so that
nobody can ask for gigabytes of dictionary."""
_TIME, _DAY = 0, 33
"""Midnight of January 1, 1980, the first that the format has."""
_LOCAL, _LISTED, _END = (struct.Struct(form) for form in ("<4s5H3L2H", "<4s6H3L5H2L", "<4s4H2LH"))
MAX_ENTRIES = 2**16 - 2
MAX_BYTES = 2**32 - 2
"""What the format can say without its extensions."""


@dataclass(frozen=True)
class Entry:
    """What the list says of a file.

    Attributes:
        name: with slashes.
        crc: of the content.
        n_packed: bytes in the archive.
        n_bytes: of the content.
    """

    name: str
    crc: int
    n_packed: int
    n_bytes: int

    @property
    def _fields(self) -> tuple[int, ...]:
        sizes = (self.crc, self.n_packed, self.n_bytes)
        return (_VERSION, _FLAGS, _METHOD, _TIME, _DAY, *sizes, len(self.name))

    @property
    def header(self) -> bytes:
        """What stands in front of its data."""
        return _LOCAL.pack(b"PK\3\4", *self._fields, 0) + self.name.encode()

    def listed(self, start: int) -> bytes:
        """What stands in the list; `start` is the place of its header."""
        rest = (0, 0, 0, 0, 0, start)
        return _LISTED.pack(b"PK\1\2", _VERSION, *self._fields, *rest) + self.name.encode()


@dataclass(frozen=True)
class Archive:
    """An archive that is what its list says.

    Attributes:
        name: what messages call it.
        data: the whole.
        entries: name -> entry, in order.
        places: name -> where its data begin.
    """

    name: str
    data: bytes
    entries: Mapping[str, Entry]
    places: Mapping[str, int]

    def read(self, name: str, limit: int) -> bytes:
        """Unpack one entry.

        Args:
            name: of the entry.
            limit: bytes that it may have.

        Raises:
            ValueError: it is larger, or its data are damaged.
        """
        entry, what = self.entries[name], f"{name} in {self.name}"
        if entry.n_bytes > limit:
            raise ValueError(
                f"{what} unpacks to {entry.n_bytes} bytes, at most {limit} are allowed"
            )
        start = self.places[name]
        try:
            content = _unpack(self.data[start : start + entry.n_packed], entry.n_bytes)
        except Exception as error:  # the library has errors of its own
            raise ValueError(f"{what} cannot be unpacked: {error}") from error
        if content is None or len(content) != entry.n_bytes or zlib.crc32(content) != entry.crc:
            raise ValueError(f"{what} is not what the list of the archive says")
        return content


def write_archive(contents: Mapping[str, bytes]) -> bytes:
    """The archive of some files.

    Args:
        contents: name -> bytes; names are ASCII, with slashes.

    Raises:
        ValueError: more, or larger, than the format holds.
    """
    parts, listed, place = [], [], 0
    for name in sorted(contents):
        packed = _pack(contents[name])
        entry = Entry(name, zlib.crc32(contents[name]), len(packed), len(contents[name]))
        if len(contents) > MAX_ENTRIES or place + len(packed) + entry.n_bytes > MAX_BYTES:
            raise ValueError(f"an archive has {len(contents)} files, or too large ones")
        listed.append(entry.listed(place))
        parts += [entry.header, packed]
        place += len(parts[-2]) + len(packed)
    directory = b"".join(listed)
    return b"".join((*parts, directory, _end(len(listed), len(directory), place)))


def open_archive(
    data: bytes, name: str, names: re.Pattern[str], max_entries: int, max_bytes: int
) -> Archive:
    """Read the list of an archive, and compare the rest with it; nothing is unpacked.

    Args:
        data: the whole.
        name: what messages call it.
        names: what they may be called.
        max_entries: number of them.
        max_bytes: of all of them, unpacked.

    Raises:
        ValueError: it is not what `write_archive` makes of any files, or of files that are not
            allowed.
    """
    wrong = f"{name} is not an archive as `rmdp-bench submit` writes it: "
    start, n_entries = _find_list(data, wrong)
    if n_entries > max_entries:
        raise ValueError(f"{name} has {n_entries} files in it, at most {max_entries} are allowed")
    entries: dict[str, Entry] = {}
    places: dict[str, int] = {}
    at, place, before = start, 0, ""
    for _ in range(n_entries):
        if at + _LISTED.size > len(data):
            raise ValueError(f"{wrong}its list is cut off")
        fields = _LISTED.unpack_from(data, at)
        raw = data[at + _LISTED.size : at + _LISTED.size + fields[10]]
        entry = Entry(raw.decode("ascii", "replace"), *fields[7:10])
        if not names.fullmatch(entry.name):
            raise ValueError(f"{name}: {ascii(entry.name[:100])} has no place in it")
        if entry.name <= before:
            raise ValueError(f"{wrong}{entry.name} is there twice, or not in the order of names")
        header, listed = entry.header, entry.listed(place)
        if not data.startswith(listed, at):
            raise ValueError(f"{wrong}{entry.name} is listed with something that has no place")
        if not data.startswith(header, place):
            raise ValueError(f"{wrong}{entry.name} is not where or what its list says")
        places[entry.name], entries[entry.name] = place + len(header), entry
        at, place, before = at + len(listed), place + len(header) + entry.n_packed, entry.name
    if place != start or at + _END.size != len(data):
        raise ValueError(f"{wrong}there are bytes that belong to no file in it")
    total = sum(entry.n_bytes for entry in entries.values())
    if total > max_bytes:
        raise ValueError(f"{name} unpacks to {total} bytes, at most {max_bytes} are allowed")
    return Archive(name, data, entries, places)


def _end(n_entries: int, size: int, start: int) -> bytes:
    return _END.pack(b"PK\5\6", 0, 0, n_entries, n_entries, size, start, 0)


def _find_list(data: bytes, wrong: str) -> tuple[int, int]:
    """Where the list begins, and its number of entries, from what stands behind it."""
    if len(data) >= _END.size:
        *_, n_entries, size, start, _ = _END.unpack(data[-_END.size :])
        whole = start + size + _END.size == len(data)
        if whole and data.endswith(_end(n_entries, size, start)):
            return start, n_entries
    raise ValueError(f"{wrong}it does not end with a list of its files")


def _pack(content: bytes) -> bytes:
    import lzma  # which some builds of Python lack

    filters = [{"id": lzma.FILTER_LZMA1, "preset": 6, **_FILTER}]
    return _START + lzma.compress(content, lzma.FORMAT_RAW, filters=filters)


def _unpack(packed: bytes, n_bytes: int) -> bytes | None:
    """The content, or a byte more if there is more; None if its data do not end where they do."""
    import lzma

    if not packed.startswith(_START):
        return None
    filters = [{"id": lzma.FILTER_LZMA1, **_FILTER}]
    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
    content = decoder.decompress(packed[len(_START) :], n_bytes + 1)
    return content if decoder.eof and not decoder.unused_data else None
