"""TIFF files at the level of their directory: metadata, and views of the file that decoders read without loss."""

from __future__ import annotations

import struct
from typing import Dict, List, Mapping, Optional, Tuple

import numpy as np

from ..errors import Phrase
from . import metadata
from .metadata import LIMIT, Metadata
from .picture import Decoded, Note, damaged

__all__ = ["Tiff", "assemble", "parse"]

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, STRIP_COUNTS, PLANAR, PREDICTOR = 273, 277, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, EXTRA, SAMPLE_FORMAT = 322, 323, 324, 325, 338, 339
COLOR_MAP, XMP, JPEG_TABLES, IPTC, ICC = 320, 700, 347, 33723, 34675
_UNSPECIFIED, _ASSOCIATED = 0, 1
#: Tags that decoders need, and how many values each may have; 64 where it is not said.
_NEEDED = dict.fromkeys((256, 257, 258, 259, 262, 266, 277, 278, 284, 292, 293, 317, 322, 323, 332, 338, 339), 64)
_NEEDED.update(dict.fromkeys((*range(512, 522), 529, 530, 531, 532), 64))
_NEEDED.update(dict.fromkeys((STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS), 1 << 17))
_NEEDED.update({COLOR_MAP: 3 << 16, JPEG_TABLES: 1 << 16})


class Tiff:
    """The first directory of a file.

    Attributes:
        orientation: 1 to 8; 0: none.
        lost: Kinds of metadata that are damaged or too large.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.header = metadata.parse_header(data)
        self.entries, link = metadata.directory(data, self.header, self.header.first)
        if any(self.entries[tag].number > most for tag, most in _NEEDED.items() if most > 64 and tag in self.entries):
            raise ValueError(Phrase("damaged.tiff_tables", "more strips, tiles or colours than any picture has"))
        self.width, self.height = self.number(WIDTH, 0), self.number(HEIGHT, 0)
        self.photometric = self.number(PHOTOMETRIC, 1)
        self.samples = self.number(SAMPLES, 1)
        self.planar = self.number(PLANAR, 1)
        self.bits = set(self.numbers(BITS) or (1,))
        self.formats = set(self.numbers(SAMPLE_FORMAT)) - {4} or {1}
        self.extra = self.numbers(EXTRA)
        orientation = self.number(metadata.ORIENTATION, 0)
        self.orientation = orientation if 1 <= orientation <= 8 else 0
        self.lost: List[str] = []
        self.notes: List[Note] = []
        if any(data[link : link + (8 if self.header.big else 4)]):
            self.notes.append(Note("note.first_page", "it has several pages: only the first is used"))

    def numbers(self, tag: int) -> Tuple[int, ...]:
        """The whole numbers of a tag."""
        return metadata.values(self.data, self.header, self.entries.get(tag))

    def number(self, tag: int, default: int) -> int:
        """The first whole number of a tag."""
        return (self.numbers(tag) or (default,))[0]

    @property
    def tile_size(self) -> Tuple[int, int]:
        """Width and height of one tile; 1x1 where there are none."""
        return (self.number(TILE_WIDTH, 1), self.number(TILE_HEIGHT, 1))

    @property
    def deep(self) -> bool:
        """Whether OpenCV decodes it: grey or RGB of 16 bit and more, which Pillow cannot represent, or only in part."""
        kind = (self.formats, self.bits)
        whole = self.planar == 1 and self.samples in (1, 3, 4)
        return (self.photometric, self.samples) in _DEEP and kind in (_DEPTHS if whole else _DEPTHS[:1])

    @property
    def unusual(self) -> Optional[str]:
        """What its samples are if neither Pillow nor OpenCV gives their values, else None."""
        if self.deep:
            return None
        if self.formats & {3, 5, 6}:
            return "floating point"
        return "signed" if 2 in self.formats else f"{max(self.bits)} bit" if max(self.bits) > 16 else None

    @property
    def metadata(self) -> Metadata:
        """What the file contains beside its pixels."""
        exif = None
        try:
            fields, whole = metadata.descriptive_fields(self.data)
            exif = metadata.exif_block(fields) if fields else None
        except (ValueError, struct.error):
            whole = False
        if not whole:
            self.lost.append("EXIF")
        return Metadata(
            icc=self._bytes(ICC, "ICC"), exif=exif, xmp=self._bytes(XMP, "XMP"), iptc=self._bytes(IPTC, "IPTC")
        )

    def _bytes(self, tag: int, name: str) -> Optional[bytes]:
        entry = self.entries.get(tag)
        size = 0 if entry is None else entry.number * {1: 1, 2: 1, 4: 4, 7: 1}.get(entry.kind, LIMIT + 1)
        if entry is None or size > LIMIT:
            self.lost += [name] if size else []
            return None
        raw = self.data[entry.start : entry.start + size]
        if entry.kind == 4 and self.header.order == ">":  # IPTC is kept as numbers of 4 bytes by many programs
            raw = np.frombuffer(raw, ">u4").astype("<u4").tobytes()
        return raw

    def views(self) -> List[bytes]:
        """Files that OpenCV decodes to all the samples: this one, or dressed up as grey pictures.

        Two or five interleaved channels become one picture that is wider by their number, separate planes one each.
        """
        if self.planar == 1 and self.samples in (1, 3, 4):
            return [self.plain()]
        if self.planar == 1:
            return [self._grey_view(self.samples, 0, 1)]
        return [self._grey_view(1, plane, self.samples) for plane in range(self.samples)]

    def _grey_view(self, widen: int, plane: int, planes: int) -> bytes:
        number = self.header.order + "I"
        new = {WIDTH: self.width * widen, BITS: 16, SAMPLES: 1, PHOTOMETRIC: 1, PLANAR: 1, SAMPLE_FORMAT: 1}
        new[TILE_WIDTH] = self.number(TILE_WIDTH, 0) * widen
        changes = {tag: (4, 1, struct.pack(number, value)) for tag, value in new.items()}
        changes[EXTRA] = (1, 0, b"")
        for tag in (STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS):
            entry = self.entries.get(tag)
            if entry is not None and planes > 1:
                size = {3: 2, 4: 4, 16: 8}.get(entry.kind, 0) * entry.number // planes
                start = entry.start + plane * size
                changes[tag] = (entry.kind, entry.number // planes, self.data[start : start + size])
        return self.plain(changes)

    def plain(self, changes: Optional[Mapping[int, Tuple[int, int, bytes]]] = None) -> bytes:
        """The file with a directory of nothing but what its pixels need, whose damage could keep a decoder from them.

        Args:
            changes: By tag: the type, number and bytes of another value, for those that exist; without any
                values the tag is left out.
        """
        order, pointer, inline = (self.header.order, "Q", 8) if self.header.big else (self.header.order, "I", 4)
        out = bytearray(self.data)
        rows: Dict[int, bytes] = {}
        for tag, entry in sorted(self.entries.items()):
            kind, number = entry.kind, entry.number
            value = self.data[entry.at + 4 + inline : entry.at + 4 + 2 * inline]
            if changes and tag in changes:
                kind, number, value = changes[tag]
            if number and number <= _NEEDED.get(tag, 0):
                if len(value) > inline:
                    out += value
                    value = struct.pack(order + pointer, len(out) - len(value))
                head = struct.pack(order + "HH" + pointer, tag, kind, number)
                rows[tag] = head + value.ljust(inline, b"\0")
        # In the place of the old one, so that a file that is cut short stays that.
        head = struct.pack(order + ("Q" if self.header.big else "H"), len(rows))
        block = head + b"".join(rows.values()) + bytes(inline)
        out[self.header.first : self.header.first + len(block)] = block
        return bytes(out)


#: (photometric, samples) of pictures that OpenCV decodes: grey or RGB, alone or with further channels.
_DEEP = {(0, 1), (1, 1), (0, 2), (1, 2), (2, 3), (2, 4), (2, 5)}
#: (sample formats, bits): unsigned or floating.
_DEPTHS = (({1}, {16}), ({1}, {32}), ({3}, {32}), ({3}, {64}))


def parse(data: bytes) -> Tiff:
    """Read the directory; raises Refused if it is damaged."""
    try:
        return Tiff(data)
    except (ValueError, struct.error) as error:
        raise damaged(error) from error


def assemble(tiff: Tiff, planes: List[np.ndarray]) -> Decoded:
    """Put the uint16 samples of :meth:`Tiff.views` together as grey, BGR or BGRA."""
    colors = 3 if tiff.photometric == 2 else 1
    if len(planes) > 1:
        samples = np.dstack(planes[colors - 1 :: -1] + planes[colors:])
    elif planes[0].size == tiff.width * tiff.height * tiff.samples and planes[0].shape[1] == tiff.width:
        samples = planes[0].reshape(tiff.height, tiff.width, tiff.samples)
    else:
        if tiff.number(PREDICTOR, 1) == 2 and tiff.number(COMPRESSION, 1) != 1:
            _redo_prediction(planes[0], tiff.samples, tiff.number(TILE_WIDTH, tiff.width))
        samples = planes[0].reshape(tiff.height, tiff.width, tiff.samples)
        samples = samples[:, :, [*reversed(range(colors)), *range(colors, tiff.samples)]]
    color = ~samples[:, :, :colors] if tiff.photometric == 0 else samples[:, :, :colors]
    mode = "RGB" if colors == 3 else "L"
    if tiff.samples == colors or (tiff.extra[:1] or (2,))[0] == _UNSPECIFIED:
        return Decoded(np.ascontiguousarray(color if colors == 3 else color[:, :, 0]), mode, "TIFF")
    alpha = samples[:, :, colors]
    pixels = np.dstack((np.broadcast_to(color, (*alpha.shape, 3)), alpha))
    if tiff.extra[:1] == (_ASSOCIATED,):
        _divide_by_alpha(pixels)
    return Decoded(pixels, mode + "A", "TIFF")


def _redo_prediction(array: np.ndarray, samples: int, tile_width: int) -> None:
    """The decoder summed up differences to the neighbour; with several channels they are to the pixel before."""
    for left in range(0, array.shape[1], tile_width * samples):
        part = array[:, left : left + tile_width * samples]
        differences = part.copy()
        differences[:, 1:] -= part[:, :-1]
        for channel in range(samples):
            part[:, channel::samples] = np.cumsum(differences[:, channel::samples], axis=1, dtype=np.uint16)


def _divide_by_alpha(pixels: np.ndarray) -> None:
    for row in pixels:  # row by row: the products need 32 bit
        alpha = np.maximum(row[:, 3:], 1).astype(np.uint32)
        row[:, :3] = np.minimum((row[:, :3].astype(np.uint32) * 65535 + alpha // 2) // alpha, 65535)
