"""EXIF blocks, TIFF directories and ICC headers as bytes. Needs the standard library only.

An EXIF block is a small TIFF file without pixels; both are a header and directories (IFDs) of tagged values.
Every read is bounds-checked: damage is a ``ValueError``.
"""

from __future__ import annotations

import contextlib
import struct
from array import array
from typing import Dict, List, NamedTuple, Optional, Tuple

from ..errors import Phrase

__all__ = [
    "Field",
    "TiffHeader",
    "directory",
    "exif_from_tiff",
    "exif_to_fields",
    "icc_fits",
    "icc_space",
    "pack_directory",
    "parse_header",
    "reset_orientation",
    "resize_exif",
    "values",
]

ORIENTATION = 274
EXIF_IFD = 34665
GPS_IFD = 34853
INTEROP_IFD = 40965
#: Bytes of one value of each TIFF type, and the bytes that swap together in the other byte order.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_SWAPS = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
#: What describes a picture rather than how its pixels are stored: description, camera, resolution, software, date,
#: author, copyright, rating and Windows' own texts, EXIF and GPS.
_DESCRIPTIVE = {270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 18246, 33432, EXIF_IFD, GPS_IFD}
_DESCRIPTIVE |= set(range(40091, 40096))


class TiffHeader(NamedTuple):
    """Byte order (``<`` or ``>``), whether BigTIFF, offset of the first directory."""

    order: str
    big: bool
    first: int


class Entry(NamedTuple):
    """One tag as it lies in the file: ``at`` is the entry's own offset, ``start`` the offset of its value."""

    at: int
    kind: int
    number: int
    start: int


class Field(NamedTuple):
    """One tag to be written: its value in little-endian bytes, or a directory of its own."""

    tag: int
    kind: int
    raw: bytes
    children: Optional[Tuple[Field, ...]] = None


def parse_header(data: bytes) -> TiffHeader:
    """The header of a TIFF file or of an EXIF block without its ``Exif`` prefix."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < 8:
        raise ValueError(Phrase("damaged.tiff_header", "no TIFF header"))
    (magic,) = struct.unpack_from(order + "H", data, 2)
    if magic == 43 and len(data) >= 16:
        return TiffHeader(order, True, struct.unpack_from(order + "Q", data, 8)[0])
    if magic != 42:
        raise ValueError(Phrase("damaged.tiff_header", "no TIFF header"))
    return TiffHeader(order, False, struct.unpack_from(order + "I", data, 4)[0])


def directory(data: bytes, header: TiffHeader, offset: int) -> Tuple[Dict[int, Entry], int]:
    """The entries of one directory by tag, and the offset of the link to the next directory."""
    count_code, link_size, entry_size, inline = ("Q", 8, 20, 8) if header.big else ("H", 4, 12, 4)
    count_size = struct.calcsize("=" + count_code)
    if offset < 8 or offset + count_size > len(data):
        raise ValueError(Phrase("damaged.directory_outside", "a directory lies outside the file"))
    (number,) = struct.unpack_from(header.order + count_code, data, offset)
    link = offset + count_size + number * entry_size
    if number > 4096 or link + link_size > len(data):
        raise ValueError(Phrase("damaged.directory_end", "a directory runs over the end of the file"))
    entries: Dict[int, Entry] = {}
    pointer = "Q" if header.big else "I"
    for at in range(offset + count_size, link, entry_size):
        tag, kind, count = struct.unpack_from(header.order + "HH" + pointer, data, at)
        size = _SIZES.get(kind, 0) * count
        start = at + entry_size - inline
        if size > inline:
            (start,) = struct.unpack_from(header.order + pointer, data, start)
        if size and start + size <= len(data):
            entries.setdefault(tag, Entry(at, kind, count, start))
    return entries, link


def values(data: bytes, header: TiffHeader, entry: Optional[Entry]) -> Tuple[int, ...]:
    """The whole numbers of an entry; empty if it is missing or holds no whole numbers."""
    if entry is None or entry.kind not in _INTEGERS:
        return ()
    return struct.unpack_from(f"{header.order}{entry.number}{_INTEGERS[entry.kind]}", data, entry.start)


def reset_orientation(data: bytes) -> Tuple[bytes, int]:
    """Set the orientation tag to 1 and return what it was (1 to 8; anything else counts as 1).

    The stored thumbnail of a turned picture is cut off, because it would be shown unturned.
    """
    header = parse_header(data)
    entries, link = directory(data, header, header.first)
    found = values(data, header, entries.get(ORIENTATION))
    orientation = found[0] if found and 1 <= found[0] <= 8 else 1
    if not found or found[0] == 1:
        return data, orientation
    patched = bytearray(data)
    _put(patched, header, entries[ORIENTATION], 1)
    if orientation != 1 and not header.big:
        patched[link : link + 4] = bytes(4)
    return bytes(patched), orientation


def resize_exif(exif: bytes, width: int, height: int) -> bytes:
    """Put a new size into those size fields that an EXIF block has, in place; nothing else moves."""
    header = parse_header(exif)
    patched = bytearray(exif)
    entries, _ = directory(exif, header, header.first)
    for tag, value in ((256, width), (257, height)):
        _put(patched, header, entries.get(tag), value)
    pointer = values(exif, header, entries.get(EXIF_IFD))
    if pointer:
        try:
            inner, _ = directory(exif, header, pointer[0])
        except ValueError:
            return bytes(patched)
        for tag, value in ((40962, width), (40963, height)):
            _put(patched, header, inner.get(tag), value)
    return bytes(patched)


def _put(data: bytearray, header: TiffHeader, entry: Optional[Entry], value: int) -> None:
    if entry is None or entry.number != 1 or entry.kind not in (3, 4):
        return
    kind = 4 if value > 0xFFFF else entry.kind
    struct.pack_into(header.order + "H", data, entry.at + 2, kind)
    struct.pack_into(header.order + ("I" if kind == 4 else "H"), data, entry.start, value)


def _fields(data: bytes, header: TiffHeader, offset: int, depth: int = 0) -> Tuple[Field, ...]:
    if depth > 2:
        raise ValueError(Phrase("damaged.directory_loop", "directories that contain each other"))
    entries, _ = directory(data, header, offset)
    fields: List[Field] = []
    for tag, entry in sorted(entries.items()):
        if depth == 0 and tag not in _DESCRIPTIVE:
            continue
        if tag in (EXIF_IFD, GPS_IFD, INTEROP_IFD):
            pointer = values(data, header, entry)
            with contextlib.suppress(ValueError, IndexError):  # a damaged part is left out, the rest is kept
                fields.append(Field(tag, 4, b"", _fields(data, header, pointer[0], depth + 1)))
            continue
        raw = bytes(data[entry.start : entry.start + _SIZES[entry.kind] * entry.number])
        if header.order == ">" and entry.kind in _SWAPS:
            words = array({2: "H", 4: "I", 8: "Q"}[_SWAPS[entry.kind]], raw)
            words.byteswap()
            raw = words.tobytes()
        if entry.kind <= 13:
            fields.append(Field(tag, entry.kind, raw))
    return tuple(fields)


def exif_to_fields(exif: bytes) -> Tuple[Field, ...]:
    """The descriptive tags of an EXIF block, for the directory of a TIFF file."""
    header = parse_header(exif)
    return _fields(exif, header, header.first)


def exif_from_tiff(data: bytes) -> Optional[bytes]:
    """An EXIF block (little-endian, no prefix) with the descriptive tags of a TIFF file; None if it has none."""
    fields = exif_to_fields(data)
    return b"II*\0\x08\0\0\0" + pack_directory(fields, 8) if fields else None


def pack_directory(fields: Tuple[Field, ...], offset: int) -> bytes:
    """One little-endian directory with its values and sub-directories behind it, to lie at ``offset``."""
    table = 2 + 12 * len(fields) + 4
    head = struct.pack("<H", len(fields))
    tail = b""
    for field in sorted(fields, key=lambda item: item.tag):
        raw = field.raw
        if field.children is not None:
            place = offset + table + len(tail)
            tail += pack_directory(field.children, place)
            raw = struct.pack("<I", place)
        elif len(raw) > 4:
            place = offset + table + len(tail)
            tail += raw
            raw = struct.pack("<I", place)
        tail += b"\0" * (len(tail) % 2)
        count = 1 if field.children is not None else len(field.raw) // _SIZES[field.kind]
        head += struct.pack("<HHI", field.tag, field.kind, count) + raw.ljust(4, b"\0")
    return head + bytes(4) + tail


def icc_space(icc: bytes) -> Optional[str]:
    """The colour space that an ICC profile is for (``RGB``, ``GRAY``, ``CMYK`` ...); None if it is no profile."""
    if len(icc) < 132 or icc[36:40] != b"acsp":
        return None
    return icc[16:20].decode("latin-1").strip()


def icc_fits(icc: bytes, mode: str) -> bool:
    """Whether a profile may be attached to a picture of ``mode`` (``L``, ``LA``, ``RGB``, ``RGBA``)."""
    return icc_space(icc) == ("GRAY" if mode.startswith("L") else "RGB")
