"""TIFF files at the level of their directory: what Pillow would lose (16 bit, metadata), and a writer."""

from __future__ import annotations

import struct
from typing import List, Optional, Tuple

import numpy as np

from . import metadata
from .metadata import Entry
from .picture import Decoded, Note, damaged

__all__ = ["Tiff", "assemble", "parse"]

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, STRIP_COUNTS, PLANAR, PREDICTOR = 273, 277, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, EXTRA, SAMPLE_FORMAT, ICC = 322, 323, 324, 325, 338, 339, 34675
_UNSPECIFIED, _ASSOCIATED = 0, 1


class Tiff:
    """The first directory of a file. ``data`` is the file with its orientation tag set to 1."""

    def __init__(self, data: bytes) -> None:
        self.data, self.orientation = metadata.reset_orientation(data)
        self.header = metadata.parse_header(self.data)
        self.entries, link = metadata.directory(self.data, self.header, self.header.first)
        self.width, self.height = self.number(WIDTH, 0), self.number(HEIGHT, 0)
        self.photometric = self.number(PHOTOMETRIC, 1)
        self.samples = self.number(SAMPLES, 1)
        self.planar = self.number(PLANAR, 1)
        self.bits = set(self.numbers(BITS) or (1,))
        self.formats = set(self.numbers(SAMPLE_FORMAT)) - {4} or {1}
        self.extra = self.numbers(EXTRA)
        self.notes: List[Note] = []
        if any(self.data[link : link + (8 if self.header.big else 4)]):
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
        """Whether OpenCV decodes it: grey or RGB of 16 bit and more, which Pillow cannot hold, or only in part."""
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
    def icc(self) -> Optional[bytes]:
        """The ICC profile."""
        entry = self.entries.get(ICC)
        return self.data[entry.start : entry.start + entry.number] if entry and entry.kind in (1, 7) else None

    @property
    def exif(self) -> Optional[bytes]:
        """The descriptive tags as an EXIF block; None if there are none or they are damaged."""
        try:
            return None if self.header.big else metadata.exif_from_tiff(self.data)
        except (ValueError, struct.error):
            return None

    def plain(self) -> bytes:
        """The file without EXIF, GPS and XMP, whose damage would keep Pillow from the pixels."""
        doubtful = {metadata.EXIF_IFD, metadata.GPS_IFD, 700}
        if not doubtful & set(self.entries):
            return self.data
        view = bytearray(self.data)
        self._drop(view, doubtful)
        return bytes(view)

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
        view = bytearray(self.data)
        new = {WIDTH: self.width * widen, BITS: 16, SAMPLES: 1, PHOTOMETRIC: 1, PLANAR: 1, SAMPLE_FORMAT: 1}
        if TILE_WIDTH in self.entries:
            new[TILE_WIDTH] = self.number(TILE_WIDTH, 0) * widen
        for tag, value in new.items():
            if tag in self.entries:
                self._set(view, self.entries[tag], 4, 1, struct.pack(self.header.order + "I", value))
        for tag in (STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS):
            entry = self.entries.get(tag)
            if entry is not None and planes > 1:
                size = {3: 2, 4: 4, 16: 8}.get(entry.kind, 0) * entry.number // planes
                start = entry.start + plane * size
                self._set(view, entry, entry.kind, entry.number // planes, self.data[start : start + size])
        self._drop(view, {EXTRA, ICC})
        return bytes(view)

    def _set(self, view: bytearray, entry: Entry, kind: int, count: int, raw: bytes) -> None:
        pointer = "Q" if self.header.big else "I"
        inline = struct.calcsize("=" + pointer)
        struct.pack_into(self.header.order + "HH" + pointer, view, entry.at, 0, kind, count)
        view[entry.at : entry.at + 2] = self.data[entry.at : entry.at + 2]
        if len(raw) > inline:
            raw, place = struct.pack(self.header.order + pointer, len(view)), raw
            view.extend(place)
        at = entry.at + 4 + inline
        view[at : at + inline] = raw.ljust(inline, b"\0")

    def _drop(self, view: bytearray, tags: set) -> None:
        code, size, link_size = ("Q", 20, 8) if self.header.big else ("H", 12, 4)
        first = self.header.first
        start = first + struct.calcsize("=" + code)
        (number,) = struct.unpack_from(self.header.order + code, view, first)
        kept = []
        for at in range(start, start + number * size, size):
            if struct.unpack_from(self.header.order + "H", view, at)[0] not in tags:
                kept.append(bytes(view[at : at + size]))
        struct.pack_into(self.header.order + code, view, first, len(kept))
        block = b"".join(kept) + bytes(link_size)
        view[start : start + len(block)] = block


#: (photometric, samples) of pictures that OpenCV decodes: grey or RGB, alone or with further channels.
_DEEP = {(0, 1), (1, 1), (0, 2), (1, 2), (2, 3), (2, 4), (2, 5)}
#: (sample formats, bits): unsigned or floating.
_DEPTHS = (({1}, {16}), ({1}, {32}), ({3}, {32}), ({3}, {64}))


def parse(data: bytes) -> Tiff:
    """Read the directory.

    Raises:
        Refused: It is damaged.
    """
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
