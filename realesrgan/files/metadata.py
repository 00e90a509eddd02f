"""What a picture file contains beside its pixels: EXIF, TIFF directories, XMP and colour profiles, as bytes.

An EXIF block is a small TIFF file without pixels; both are a header and directories (IFDs) of tagged values.
Every read is bounds-checked: damage is a ``ValueError``. Entries may share their bytes, so that a small file names
many large values: what the values of a block take in sum is bounded too.
"""

from __future__ import annotations

import re
import struct
from array import array
from dataclasses import dataclass
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from ..errors import Phrase

__all__ = [
    "LIMIT",
    "Color",
    "Field",
    "Metadata",
    "TiffHeader",
    "clean_exif",
    "descriptive_fields",
    "directory",
    "exif_block",
    "fit_xmp",
    "icc_fits",
    "icc_space",
    "pack_directory",
    "parse_header",
    "resize_exif",
    "resolution_fields",
    "values",
    "xmp_orientation",
]

#: Bytes that one kind of metadata may take; what is larger is left out, with a note.
LIMIT = 1 << 23


@dataclass(frozen=True)
class Metadata:
    """What a picture file contains beside its pixels, as one value.

    Attributes:
        icc: The ICC profile of the pixels; None means ``color``, and without that sRGB.
        exif: A TIFF-structured block without prefix, its orientation set to 1.
        xmp: The XMP packet (XML in UTF-8), its orientation set to 1.
        iptc: IPTC records (IIM).
        comment: A comment, as JPEG has it.
        text: Keywords and texts, as PNG has them.
        dpi: Horizontal and vertical resolution in dots an inch.
        color: The colour space as the file names it without a profile.
        size: Width and height of the picture that all this describes.
    """

    icc: Optional[bytes] = None
    exif: Optional[bytes] = None
    xmp: Optional[bytes] = None
    iptc: Optional[bytes] = None
    comment: Optional[str] = None
    text: Tuple[Tuple[str, str], ...] = ()
    dpi: Optional[Tuple[float, float]] = None
    color: Optional[Color] = None
    size: Optional[Tuple[int, int]] = None

    def names(self) -> List[str]:
        """The kinds of metadata that it has, as a user calls them."""
        kinds = ("ICC", "EXIF", "XMP", "IPTC", "comment", "text", "dpi")
        names = [name for name in kinds if getattr(self, name.lower())]
        return names + ([self.color.name] if self.color is not None and not self.color.plain else [])


#: Chromaticities x, y of red, green, blue and white by their code in ITU-T H.273.
_PRIMARIES: Dict[int, Tuple[float, ...]] = {
    1: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}
_PRIMARIES[7] = _PRIMARIES[6]
_VIDEO = (1, 6, 14, 15)
_SRGB = 13
_HDR = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class Color:
    """The colour space of a picture without an ICC profile.

    Attributes:
        cicp: Codes of primaries and transfer in ITU-T H.273, as in PNG's ``cICP`` and in HEIC and AVIF.
        gamma: The exponent of the file, as in PNG's ``gAMA`` (0.45455 for most).
        chromaticities: x, y of white, red, green and blue, as in PNG's ``cHRM``.
        srgb: PNG's ``sRGB``: the rendering intent.
    """

    cicp: Optional[Tuple[int, int]] = None
    gamma: Optional[float] = None
    chromaticities: Optional[Tuple[float, ...]] = None
    srgb: Optional[int] = None

    @property
    def name(self) -> str:
        """What a user calls it, for a note."""
        if self.cicp is None:
            return "gAMA/cHRM"
        return _HDR.get(self.cicp[1], f"cICP-{self.cicp[0]}-{self.cicp[1]}")

    @property
    def plain(self) -> bool:
        """Whether it is sRGB, or so near to it that viewers show it as that."""
        if self.cicp is not None:
            return self.cicp[0] in (1, 2) and self.cicp[1] in (_SRGB, 2, *_VIDEO)
        gamma = self.gamma is None or abs(self.gamma - 0.45455) < 0.005
        return self.srgb is not None or (gamma and self._near_srgb())

    def _near_srgb(self) -> bool:
        wanted = _PRIMARIES[1][6:] + _PRIMARIES[1][:6]
        found = self.chromaticities
        return found is None or all(abs(a - b) < 0.005 for a, b in zip(found, wanted))

    def profile(self, mode: str) -> Optional[bytes]:
        """An ICC profile for ``L``, ``LA``, ``RGB`` or ``RGBA``; None where it is sRGB or cannot be made (PQ, HLG)."""
        if self.plain:
            return None
        curve = self._curve()
        primaries = _PRIMARIES.get(self.cicp[0]) if self.cicp else _PRIMARIES[1]
        if self.cicp is None and self.chromaticities is not None:
            primaries = self.chromaticities[2:] + self.chromaticities[:2]
        if curve is None or primaries is None:
            return None
        try:
            return _make_profile(primaries, curve, grey=mode.startswith("L"))
        except (np.linalg.LinAlgError, ZeroDivisionError, OverflowError, struct.error):
            return None  # chromaticities that are no triangle

    def _curve(self) -> Optional[bytes]:
        """ICC's curve from stored values to light."""
        gamma = {4: 2.2, 5: 2.8, 8: 1.0}.get(self.cicp[1]) if self.cicp else 1 / self.gamma if self.gamma else None
        if gamma is not None:
            code = round(gamma * 256)
            return b"curv\0\0\0\0" + struct.pack(">IHH", 1, code, 0) if 0 < code < 65536 else None
        linear: Callable[[np.ndarray], np.ndarray] = _linear_of_srgb
        if self.cicp is not None and self.cicp[1] not in (_SRGB, 2):
            if self.cicp[1] not in _VIDEO:
                return None
            linear = _linear_of_video
        table: np.ndarray = np.rint(linear(np.linspace(0, 1, 1024)) * 65535).astype(">u2")
        return b"curv\0\0\0\0" + struct.pack(">I", 1024) + table.tobytes()


def _linear_of_srgb(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _linear_of_video(value: np.ndarray) -> np.ndarray:
    return np.where(value < 0.081, value / 4.5, ((value + 0.099) / 1.099) ** (1 / 0.45))


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _make_profile(primaries: Tuple[float, ...], curve: bytes, grey: bool) -> bytes:
    """An ICC profile of version 2 with a curve and, for colour, the primaries adapted to D50 by Bradford's matrix."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1.0, 0.8249])
    points = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in zip(primaries[::2], primaries[1::2])]).T
    white, columns = points[:, 3], points[:, :3]
    columns = columns * np.linalg.solve(columns, white)
    adapt = np.linalg.solve(bradford, np.diag((bradford @ d50) / (bradford @ white)) @ bradford)
    columns = adapt @ columns
    text = b"from the picture's colour tags\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz(*d50),
    }
    if grey:
        tags[b"kTRC"] = curve
    else:
        for number, name in enumerate((b"r", b"g", b"b")):
            tags[name + b"XYZ"], tags[name + b"TRC"] = _xyz(*columns[:, number]), curve
    offset = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    space = b"GRAY" if grey else b"RGB "
    head = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(body), bytes(4), 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    return (head + _xyz(*d50)[8:]).ljust(128, b"\0") + table + body


def icc_space(icc: bytes) -> Optional[str]:
    """The colour space that an ICC profile is for (``RGB``, ``GRAY``, ``CMYK`` ...); None if it is no profile."""
    if len(icc) < 132 or icc[36:40] != b"acsp":
        return None
    return icc[16:20].decode("latin-1").strip()


def icc_fits(icc: bytes, mode: str) -> bool:
    """Whether a profile may be attached to a picture of ``mode`` (``L``, ``LA``, ``RGB``, ``RGBA``)."""
    return icc_space(icc) == ("GRAY" if mode.startswith("L") else "RGB")


Buffer = Union[bytes, bytearray]
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
#: The types that other programs rely on; a value of another type is left out.
_TYPES: Dict[int, Tuple[int, ...]] = dict.fromkeys((270, 271, 272, 305, 306, 315, 33432), (1, 2, 7))
_TYPES.update({256: (3, 4), 257: (3, 4), 274: (3,), 282: (5,), 283: (5,), 296: (3,)})
_TYPES.update({EXIF_IFD: (4, 13), GPS_IFD: (4, 13), INTEROP_IFD: (4, 13)})


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
    if order is not None and len(data) >= 8:
        (magic,) = struct.unpack_from(order + "H", data, 2)
        if magic == 42:
            return TiffHeader(order, False, struct.unpack_from(order + "I", data, 4)[0])
        if magic == 43 and len(data) >= 16:
            return TiffHeader(order, True, struct.unpack_from(order + "Q", data, 8)[0])
    raise ValueError(Phrase("damaged.tiff_header", "no TIFF header"))


def _span(data: Buffer, header: TiffHeader, offset: int) -> Tuple[int, int, int]:
    """Of one directory: the number of its entries, where they begin, and where the link to the next one lies."""
    count_code, link_size, entry_size = ("Q", 8, 20) if header.big else ("H", 4, 12)
    start = offset + struct.calcsize("=" + count_code)
    if offset < 8 or start > len(data):
        raise ValueError(Phrase("damaged.directory_outside", "a directory lies outside the file"))
    (number,) = struct.unpack_from(header.order + count_code, data, offset)
    link = start + number * entry_size
    if number > 4096 or link + link_size > len(data):
        raise ValueError(Phrase("damaged.directory_end", "a directory runs over the end of the file"))
    return number, start, link


def directory(data: Buffer, header: TiffHeader, offset: int) -> Tuple[Dict[int, Entry], int]:
    """The entries of one directory by tag, and the offset of the link to the next directory."""
    entry_size, inline, pointer = (20, 8, "Q") if header.big else (12, 4, "I")
    _, first, link = _span(data, header, offset)
    entries: Dict[int, Entry] = {}
    for at in range(first, link, entry_size):
        tag, kind, count = struct.unpack_from(header.order + "HH" + pointer, data, at)
        size = _SIZES.get(kind, 0) * count
        start = at + entry_size - inline
        if size > inline:
            (start,) = struct.unpack_from(header.order + pointer, data, start)
        if size and start + size <= len(data):
            entries.setdefault(tag, Entry(at, kind, count, start))
    return entries, link


def values(data: Buffer, header: TiffHeader, entry: Optional[Entry]) -> Tuple[int, ...]:
    """The whole numbers of an entry, no more than 64; empty if it is missing or contains no whole numbers."""
    if entry is None or entry.kind not in _INTEGERS:
        return ()
    return struct.unpack_from(f"{header.order}{min(entry.number, 64)}{_INTEGERS[entry.kind]}", data, entry.start)


def clean_exif(data: bytes) -> Tuple[bytes, int, bool]:
    """Make an EXIF block that any program can read, in place: nothing moves but the entries of a directory.

    Values of a wrong type, outside the block or sharing the bytes of others without bound are left out. The
    orientation tag is set to 1. The stored thumbnail of a turned picture is cut off: it would be shown unturned.

    Returns:
        The block, the orientation that it had (1 to 8; 0: none), and whether all of it was kept.

    Raises:
        ValueError: It cannot be read at all, or is larger than :data:`LIMIT`.
    """
    header = parse_header(data)
    if header.big or len(data) > LIMIT:
        raise ValueError("no EXIF block of a usable size")
    patched = bytearray(data)
    cleaner = _Cleaner(patched, header)
    cleaner.clean(header.first)
    entries, link = directory(patched, header, header.first)
    (thumbnail,) = struct.unpack_from(header.order + "I", patched, link)
    try:
        if thumbnail:
            cleaner.clean(thumbnail)
    except ValueError:
        patched[link : link + 4] = bytes(4)
    found = values(patched, header, entries.get(ORIENTATION))
    orientation = found[0] if found and 1 <= found[0] <= 8 else 0
    if found and found[0] != 1:
        _put(patched, header, entries[ORIENTATION], 1)
        if orientation:
            patched[link : link + 4] = bytes(4)
    return bytes(patched), orientation, cleaner.whole


class _Cleaner:
    """Takes the entries that cannot be used out of the directories of a block."""

    def __init__(self, data: bytearray, header: TiffHeader) -> None:
        self.data = data
        self.header = header
        self.left = 2 * len(data)  # bytes that values may still take
        self.whole = True

    def clean(self, offset: int, depth: int = 0) -> None:
        """Clean one directory and those below it; raises ValueError where there is none."""
        number, start, link = _span(self.data, self.header, offset)
        kept: Dict[int, bytes] = {}
        for at in range(start, link, 12):
            tag, kind, count, place = struct.unpack_from(self.header.order + "HHII", self.data, at)
            size = _SIZES.get(kind, 0) * count
            inside = 0 < size <= 4 or (4 < size <= self.left and place + size <= len(self.data))
            if tag not in kept and inside and kind in _TYPES.get(tag, (kind,)) and self._below(tag, place, depth):
                kept[tag] = bytes(self.data[at : at + 12])
                self.left -= size if size > 4 else 0
        if len(kept) < number:
            self.whole = False
            rows = b"".join(kept.values()) + self.data[link : link + 4]
            struct.pack_into(self.header.order + "H", self.data, offset, len(kept))
            self.data[start : start + len(rows)] = rows

    def _below(self, tag: int, place: int, depth: int) -> bool:
        if tag not in (EXIF_IFD, GPS_IFD, INTEROP_IFD):
            return True
        try:
            if depth < 2:
                self.clean(place, depth + 1)
            return depth < 2
        except ValueError:
            return False


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


class _Fields:
    """Collects the values of directories, within a budget."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.header = parse_header(data)
        self.left = min(LIMIT, 2 * len(data))
        self.whole = True

    def collect(self, offset: int, depth: int = 0) -> Tuple[Field, ...]:
        """The descriptive tags of a directory; what cannot be used is left out."""
        entries, _ = directory(self.data, self.header, offset)
        fields: List[Field] = []
        for tag, entry in sorted(entries.items()):
            if depth == 0 and tag not in _DESCRIPTIVE:
                continue
            size = _SIZES[entry.kind] * entry.number
            if size > self.left or entry.kind > 13 or entry.kind not in _TYPES.get(tag, (entry.kind,)):
                self.whole = False
            elif tag in (EXIF_IFD, GPS_IFD, INTEROP_IFD):
                try:
                    place = values(self.data, self.header, entry)[0]
                    fields.append(Field(tag, 4, b"", self.collect(place, depth + 1) if depth < 2 else ()))
                except ValueError:  # a damaged part is left out, the rest is kept
                    self.whole = False
            else:
                self.left -= size
                fields.append(Field(tag, entry.kind, self._little(entry, size)))
        return tuple(fields)

    def _little(self, entry: Entry, size: int) -> bytes:
        raw = bytes(self.data[entry.start : entry.start + size])
        if self.header.order == "<" or entry.kind not in _SWAPS:
            return raw
        words = array({2: "H", 4: "I", 8: "Q"}[_SWAPS[entry.kind]], raw)
        words.byteswap()
        return words.tobytes()


def descriptive_fields(data: bytes) -> Tuple[Tuple[Field, ...], bool]:
    """The descriptive tags of an EXIF block or a TIFF file, and whether those are all that it has."""
    found = _Fields(data)
    return found.collect(found.header.first), found.whole


def exif_block(fields: Tuple[Field, ...]) -> bytes:
    """An EXIF block of these tags."""
    return b"II*\0\x08\0\0\0" + pack_directory(fields, 8)


def resolution_fields(dpi: Tuple[float, float]) -> Tuple[Field, ...]:
    """The tags of a resolution in dots an inch."""
    x, y = (struct.pack("<II", round(min(value, 4e6) * 1000), 1000) for value in dpi)
    return (Field(282, 5, x), Field(283, 5, y), Field(296, 3, struct.pack("<H", 2)))


def pack_directory(fields: Tuple[Field, ...], offset: int) -> bytes:
    """One little-endian directory with its values and sub-directories behind it, to lie at ``offset``."""
    table = struct.pack("<H", len(fields))
    at = offset + 2 + 12 * len(fields) + 4
    tail: List[bytes] = []
    for field in sorted(fields, key=lambda item: item.tag):
        content = field.raw if field.children is None else pack_directory(field.children, at)
        count = 1 if field.children is not None else len(field.raw) // _SIZES[field.kind]
        value = content
        if len(content) > 4 or field.children is not None:
            value = struct.pack("<I", at)
            tail.append(content + bytes(len(content) % 2))
            at += len(tail[-1])
        table += struct.pack("<HHI", field.tag, field.kind, count) + value.ljust(4, b"\0")
    return table + bytes(4) + b"".join(tail)


_XMP_NUMBER = re.compile(rb"\b([A-Za-z]{2,5}:[A-Za-z]{4,40})(\s{0,9}=\s{0,9}[\"']|\s{0,9}>\s{0,9})(\d{1,9})\b")
#: Whole numbers of an XMP packet that follow the picture's size, and by which side.
_XMP_SIZES = {b"tiff:ImageWidth": 0, b"tiff:ImageLength": 1, b"exif:PixelXDimension": 0, b"exif:PixelYDimension": 1}
for _name in (b"FullPano%sPixels", b"CroppedAreaImage%sPixels"):
    _XMP_SIZES.update({b"GPano:" + _name % side: axis for axis, side in enumerate((b"Width", b"Height"))})
_XMP_SIZES.update({b"GPano:CroppedAreaLeftPixels": 0, b"GPano:CroppedAreaTopPixels": 1})


def xmp_orientation(xmp: bytes) -> int:
    """The orientation that an XMP packet names (1 to 8), else 1."""
    for match in _XMP_NUMBER.finditer(xmp):
        if match.group(1) == b"tiff:Orientation":
            return int(match.group(3)) if 1 <= int(match.group(3)) <= 8 else 1
    return 1


def fit_xmp(xmp: bytes, before: Tuple[int, int], after: Tuple[int, int]) -> bytes:
    """Scale the sizes in an XMP packet (of the picture, and of a panorama it is part of), and set its orientation to 1.

    Args:
        before, after: Width and height of the picture.
    """

    def fitted(match: re.Match[bytes]) -> bytes:
        name, between, number = match.groups()
        if name == b"tiff:Orientation":
            return name + between + b"1"
        axis = _XMP_SIZES.get(name)
        if axis is None:
            return match.group()
        return name + between + b"%d" % round(int(number) * after[axis] / before[axis])

    return _XMP_NUMBER.sub(fitted, xmp)
