"""PNG files at the level of their chunks, read strictly."""

from __future__ import annotations

import struct
import zlib
from typing import Iterator, List, Optional, Tuple, Union

import cv2
import numpy as np

from ..errors import Phrase
from .picture import Decoded, Note, damaged, truncated

__all__ = ["GREY", "SIGNATURE", "Png", "apply_color_key", "check_amount", "decode_16bit", "make_chunk", "parse"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
_DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
_MODES = {GREY: "L", RGB: "RGB", PALETTE: "RGB", GREY_ALPHA: "LA", RGBA: "RGBA"}
_LONGEST_PROFILE = 1 << 25


class Png:
    """The chunks of a file that matter, each with a right checksum."""

    def __init__(self, header: bytes) -> None:
        fields = struct.unpack(">IIBBBBB", header)
        self.width, self.height, self.depth, self.color, compression, filtering, self.interlace = fields
        if self.depth not in _DEPTHS.get(self.color, ()) or compression or filtering or self.interlace > 1:
            raise damaged(Phrase("damaged.header", "a header with impossible values"))
        self.header = header
        self.palette = b""
        self.transparency: Optional[bytes] = None
        self.parts: List[memoryview] = []
        self.icc: Optional[bytes] = None
        self.exif: Optional[bytes] = None
        self.notes: List[Note] = []

    @property
    def mode(self) -> str:
        """``L``, ``LA``, ``RGB`` or ``RGBA``, before transparency outside the pixels is applied."""
        return _MODES[self.color]

    def plain(self) -> bytes:
        """The same picture with nothing but its pixels, so that a decoder has nothing to remark on."""
        pieces = [SIGNATURE, make_chunk(b"IHDR", self.header)]
        if self.palette:
            pieces.append(make_chunk(b"PLTE", self.palette))
        if self.color == PALETTE and self.transparency is not None:
            pieces.append(make_chunk(b"tRNS", self.transparency))
        for part in self.parts:
            pieces.append(make_chunk(b"IDAT", part))
        pieces.append(make_chunk(b"IEND", b""))
        return b"".join(pieces)


def parse(data: bytes) -> Png:
    """Walk over all chunks to the end.

    Raises:
        Refused: The end is missing, a chunk that matters has a wrong checksum, or the header is impossible.
    """
    chunks = _chunks(data)
    name, body, good = next(chunks)
    if name != b"IHDR" or not good or len(body) != 13:
        raise damaged(Phrase("damaged.no_header", "no header"))
    png = Png(bytes(body))
    for name, body, good in chunks:
        if name[:1].isupper() and not good:
            chunk = name.decode("latin-1")
            raise damaged(Phrase("damaged.checksum", f"checksum of {chunk}", chunk=chunk))
        if name == b"IDAT":
            png.parts.append(body)
        elif name == b"PLTE":
            png.palette = bytes(body)
        elif name == b"tRNS" and good:
            png.transparency = bytes(body)
        elif name == b"eXIf" and good:
            png.exif = bytes(body)
        elif name in (b"tEXt", b"zTXt") and good and png.exif is None:
            png.exif = _exif_from_text(name, bytes(body))
        elif name == b"iCCP" and good:
            png.icc = _profile(bytes(body))
        elif name == b"acTL":
            png.notes.append(Note("note.first_frame", "it is animated: only its first frame is used"))
    if not png.parts or (png.color == PALETTE and not png.palette):
        raise damaged(Phrase("damaged.no_pixels", "no pixels"))
    return png


def _chunks(data: bytes) -> Iterator[Tuple[bytes, memoryview, bool]]:
    """Name, content and whether the checksum is right, up to and with IEND."""
    view = memoryview(data)
    at = len(SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise truncated()
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 12 + length
        if end > len(data):
            raise truncated()
        name = bytes(view[at + 4 : at + 8])
        good = zlib.crc32(view[at + 4 : end - 4]) == struct.unpack_from(">I", data, end - 4)[0]
        yield name, view[at + 8 : end - 4], good
        if name == b"IEND":
            return
        at = end


def make_chunk(name: bytes, body: Union[bytes, memoryview]) -> bytes:
    """One chunk with its length and checksum."""
    return b"".join((struct.pack(">I", len(body)), name, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))))


def _inflate(body: bytes, limit: int) -> Optional[bytes]:
    worker = zlib.decompressobj()
    try:
        plain = worker.decompress(body, limit)
    except zlib.error:
        return None
    return plain if worker.eof else None


def _profile(body: bytes) -> Optional[bytes]:
    name_end = body.find(b"\0")
    return _inflate(body[name_end + 2 :], _LONGEST_PROFILE) if name_end > 0 else None


def _exif_from_text(name: bytes, body: bytes) -> Optional[bytes]:
    """The EXIF block as ImageMagick and older programs keep it: hexadecimal in a text chunk."""
    keyword, _, text = body.partition(b"\0")
    if keyword not in (b"Raw profile type exif", b"Raw profile type APP1"):
        return None
    plain = _inflate(text[1:], 1 << 20) if name == b"zTXt" else text
    try:
        return bytes.fromhex("".join((plain or b"").decode("ascii").split("\n")[3:])) or None
    except ValueError:
        return None


def decode_16bit(png: Png) -> np.ndarray:
    """BGR or BGRA uint16 (grey with alpha as B=G=R), by OpenCV."""
    pixels = cv2.imdecode(np.frombuffer(png.plain(), np.uint8), cv2.IMREAD_UNCHANGED)
    channels = 3 if png.color == RGB else 4
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape != (png.height, png.width, channels):
        raise damaged(Phrase("damaged.pixels", "its pixels cannot be decoded"))
    return pixels


def check_amount(png: Png) -> None:
    """Refuse a picture whose data end too early: Pillow would fill the rest with black, libpng talk to the console."""
    passes = [(0, 0, 1, 1)]
    if png.interlace:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    pixel = _CHANNELS[png.color] * png.depth
    expected = 0
    for x, y, step_x, step_y in passes:
        columns, rows = -(-(png.width - x) // step_x), -(-(png.height - y) // step_y)
        if columns > 0 and rows > 0:
            expected += rows * (1 + (columns * pixel + 7) // 8)
    worker, found = zlib.decompressobj(), 0
    for part in png.parts:
        for start in range(0, len(part), 1 << 16):
            rest: Union[bytes, memoryview] = part[start : start + (1 << 16)]
            while rest and found <= expected:
                found += len(worker.decompress(rest, 1 << 20))
                rest = worker.unconsumed_tail
    found += len(worker.flush()) if found < expected else 0
    if found < expected:
        detail = f"{found} of {expected} bytes of pixels"
        raise truncated(Phrase("truncated.pixels", detail, found=found, expected=expected))


def apply_color_key(png: Png, decoded: Decoded) -> None:
    """Make the one colour that a grey or RGB file names transparent: mode L becomes LA, RGB becomes RGBA."""
    size = {GREY: 2, RGB: 6}.get(png.color)
    if png.transparency is None or size is None or len(png.transparency) < size:
        return
    key = np.frombuffer(png.transparency[:size], ">u2").astype(np.int64)
    if png.depth < 8:
        key = key * 255 // ((1 << png.depth) - 1)
    pixels = decoded.pixels if decoded.pixels.ndim == 3 else decoded.pixels[:, :, None]
    alpha = np.where((pixels == key[::-1]).all(axis=2), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    color = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    decoded.pixels = np.dstack((color, alpha))
    decoded.mode += "A"
