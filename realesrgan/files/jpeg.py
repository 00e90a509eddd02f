"""JPEG files at the level of their segments: metadata, what a decoder does not notice, and what it must not see."""

from __future__ import annotations

import struct
from typing import Dict, Iterator, List, Optional, Set, Tuple

from ..errors import Phrase
from .metadata import LIMIT, Metadata
from .picture import NO_HEADER, NO_PIXELS, damaged, truncated, unsupported

__all__ = ["SEGMENT", "Jpeg", "segments"]

#: Bytes that one segment may contain.
SEGMENT = 65533
_EXIF, _XMP, _ICC, _PHOTOSHOP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"Photoshop 3.0\0"
_LONG_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_IPTC = 0x0404
#: Segments before the pixels, and scans times pixels: more are in no picture that was not made to hold up a decoder.
_MOST_SEGMENTS = 1024
_MOST_WORK = 1 << 32
_MOST_SCANS = 500
#: What can follow pixels that are whole: anything but zeros, which decoders put in themselves.
_FILLING = bytes(range(0xAA, 0xFF)) * 2
_NOT_READ = {0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "lossless", 0xF7: "lossless"}
_NOT_READ.update({0xCB: "lossless", 0xCD: "hierarchical", 0xCE: "hierarchical", 0xCF: "lossless"})


class Jpeg:
    """A file's segments.

    Attributes:
        width, height: In pixels, as stored.
        ended: Whether it has an end marker.

    Raises:
        Refused: It is truncated before its pixels, of a kind that is not read, or made to hold up a decoder.
    """

    def __init__(self, data: bytes) -> None:
        self.width = self.height = 0
        self.dpi: Optional[Tuple[float, float]] = None
        self._first: Dict[str, bytes] = {}
        self._exif: List[bytes] = []
        self._icc: Dict[int, bytes] = {}
        self.lost: List[str] = []
        self._components: Set[int] = set()
        header = [b"\xff\xd8"]
        start = 0
        for marker, at, end in _walk(data):
            if marker == 0xDA:
                start = at
                break
            body = data[at + 4 : end]
            if 0xE0 <= marker <= 0xEF or marker == 0xFE:
                self._keep(marker, body)
            if not 0xE1 <= marker <= 0xED and marker not in (0xEF, 0xFE):
                header.append(data[at:end])
            if marker in _NOT_READ:
                raise unsupported(f"{_NOT_READ[marker]} JPEG")
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                self._frame(body)
        end = data.find(b"\xff\xd9", start)
        self.ended = end >= 0
        if not self.ended:
            whole = data.rstrip(b"\0")
            # A download whose rest is zero; a few zeros may be pixels.
            end = len(whole if len(data) - len(whole) >= 16 else data)
            while data[end - 1] == 0xFF:
                end -= 1
        self._header, self._pixels = b"".join(header), memoryview(data)[start:end]
        scans = data.count(b"\xff\xda", start, end)
        if scans > _MOST_SCANS or scans * self.width * self.height > _MOST_WORK:
            size = f"{self.width}x{self.height}"
            raise damaged(Phrase("damaged.scans", f"{scans} scans of {size} pixels", scans=scans, size=size))

    def _frame(self, body: bytes) -> None:
        if len(body) < 6 or len(body) < 6 + 3 * body[5]:
            raise damaged(NO_HEADER)
        depth, height, width, count = struct.unpack_from(">BHHB", body)
        if depth != 8:
            raise unsupported(f"{depth}-bit JPEG")
        self.width, self.height = max(self.width, width), max(self.height, height)
        self._components = {body[6 + 3 * number] for number in range(count)}

    def _keep(self, marker: int, body: bytes) -> None:
        if marker == 0xE0 and body[:5] == b"JFIF\0" and len(body) >= 12 and body[7] in (1, 2):
            x, y = struct.unpack_from(">HH", body, 8)
            inch = 1.0 if body[7] == 1 else 2.54
            self.dpi = (x * inch, y * inch) if x and y else None
        elif marker == 0xE1 and body.startswith(_EXIF):
            if len(self._exif) <= LIMIT // SEGMENT:  # one more than is kept: that is too large, and said
                self._exif.append(body[len(_EXIF) :])
        elif marker == 0xE1 and body.startswith(_XMP):
            self._first.setdefault("xmp", body[len(_XMP) :])
        elif marker == 0xE1 and body.startswith(_LONG_XMP) and "XMP-extension" not in self.lost:
            self.lost.append("XMP-extension")
        elif marker == 0xE2 and body.startswith(_ICC) and len(body) > 14:
            self._icc.setdefault(body[12], body[14:])
        elif marker == 0xED and body.startswith(_PHOTOSHOP):
            self._first.setdefault("iptc", _resource(body[len(_PHOTOSHOP) :], _IPTC))
        elif marker == 0xFE:
            self._first.setdefault("comment", body)

    @property
    def metadata(self) -> Metadata:
        """What the file contains beside its pixels."""
        found = self._first
        icc = b"".join(self._icc[number] for number in sorted(self._icc))
        if len(icc) > LIMIT:
            self.lost.append("ICC")
        comment = found.get("comment", b"").rstrip(b"\0")
        try:
            text = comment.decode("utf-8")
        except UnicodeDecodeError:
            text = comment.decode("latin-1")
        profile = icc if 0 < len(icc) <= LIMIT else None
        exif = b"".join(self._exif) or None
        return Metadata(profile, exif, found.get("xmp"), found.get("iptc") or None, text or None, dpi=self.dpi)

    def plain(self, filling: bool = False) -> bytes:
        """The same picture with nothing but its pixels, ended; with ``filling``, other bytes where pixels are missing.

        A decoder puts zeros there: the two differ unless all pixels were read.
        """
        return b"".join((self._header, self._pixels, _FILLING if filling else b"", b"\xff\xd9"))

    @property
    def complete(self) -> bool:
        """Whether the scans contain every coefficient of every component to its last bit."""
        known: Dict[int, List[int]] = {component: [1] * 64 for component in self._components}
        pixels = bytes(self._pixels)
        at = pixels.find(b"\xff\xda")
        while 0 <= at < len(pixels) - 4:
            count = pixels[at + 4]
            scan = pixels[at + 5 : at + 8 + 2 * count]
            if len(scan) < 2 * count + 3:
                return False
            first, last, low = scan[-3], scan[-2], scan[-1] & 15
            for component in scan[: 2 * count : 2]:
                for number in range(first, min(last, 63) + 1):
                    known.setdefault(component, [1] * 64)[number] = low
            at = pixels.find(b"\xff\xda", at + 2)
        return not any(map(any, known.values()))


def _walk(data: bytes) -> Iterator[Tuple[int, int, int]]:
    """Marker, start and end of each segment, up to the first scan."""
    at = 2
    for _ in range(_MOST_SEGMENTS):
        at = data.find(b"\xff", at)
        if at < 0:
            break
        while data[at + 1 : at + 17] == b"\xff" * 16:  # filling
            at += 16
        while data[at + 1 : at + 2] == b"\xff":
            at += 1
        if at + 4 > len(data):
            break
        marker = data[at + 1]
        if marker == 0xD9:
            raise damaged(NO_PIXELS)
        end = at + 2
        if marker not in (0, 1) and not 0xD0 <= marker <= 0xD8:
            end += struct.unpack_from(">H", data, at + 2)[0]
            if end < at + 4 or end > len(data):
                break
            yield marker, at, end
        at = end
    else:
        text = f"more than {_MOST_SEGMENTS} segments before its pixels"
        raise damaged(Phrase("damaged.segments", text, most=_MOST_SEGMENTS))
    if at < 4:
        raise damaged(NO_HEADER)
    raise truncated(Phrase("truncated.no_pixels", "its pixels are missing"))


def _resource(data: bytes, wanted: int) -> bytes:
    """One of Photoshop's resources; empty if it is missing."""
    at = 0
    while data[at : at + 4] == b"8BIM" and at + 12 <= len(data):
        (number,) = struct.unpack_from(">H", data, at + 4)
        name_end = at + 6 + (data[at + 6] + 2) // 2 * 2
        if name_end + 4 > len(data):
            break
        (size,) = struct.unpack_from(">I", data, name_end)
        if number == wanted:
            return data[name_end + 4 : name_end + 4 + size]
        at = name_end + 4 + size + size % 2
    return b""


def segments(metadata: Metadata) -> Tuple[bytes, List[str]]:
    """The segments of metadata for a JPEG file, and the kinds that are too large for one."""
    parts: List[Tuple[str, int, bytes]] = []
    if metadata.exif:
        parts.append(("EXIF", 0xE1, _EXIF + metadata.exif))
    if metadata.xmp:
        parts.append(("XMP", 0xE1, _XMP + metadata.xmp))
    if metadata.icc:
        step = SEGMENT - 14
        pieces = [metadata.icc[start : start + step] for start in range(0, len(metadata.icc), step)]
        for number, piece in enumerate(pieces, 1):
            parts.append(("ICC", 0xE2, _ICC + bytes((number, len(pieces))) + piece))
    if metadata.iptc:
        even = metadata.iptc + bytes(len(metadata.iptc) % 2)
        resource = b"8BIM" + struct.pack(">HHI", _IPTC, 0, len(metadata.iptc)) + even
        parts.append(("IPTC", 0xED, _PHOTOSHOP + resource))
    if metadata.comment:
        parts.append(("comment", 0xFE, metadata.comment.encode("utf-8")))
    fitting = [part for part in parts if len(part[2]) <= SEGMENT]
    packed = b"".join(struct.pack(">BBH", 255, marker, len(body) + 2) + body for _, marker, body in fitting)
    return packed, [name for name, _, body in parts if len(body) > SEGMENT]
