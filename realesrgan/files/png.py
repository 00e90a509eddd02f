"""PNG files at the level of their chunks: read strictly, metadata in bounds, and the chunks of a result."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

import cv2
import numpy as np

from ..errors import Phrase
from .metadata import LIMIT, Color, Metadata
from .picture import BAD_HEADER, NO_HEADER, NO_PIXELS, UNDECODABLE, Decoded, check_bytes, damaged, truncated

__all__ = [
    "GREY",
    "SIGNATURE",
    "Png",
    "apply_color_key",
    "check_amount",
    "decode_16bit",
    "make_chunk",
    "metadata_chunks",
    "parse",
]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
_DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
#: Chunks that describe the picture: what they are kept as, and their size where it is fixed.
_KINDS: Dict[bytes, Tuple[str, Optional[int]]] = {
    b"iCCP": ("icc", None),
    b"eXIf": ("exif", None),
    b"pHYs": ("dpi", 9),
    b"cICP": ("cicp", 4),
    b"gAMA": ("gamma", 4),
    b"cHRM": ("corners", 32),
    b"sRGB": ("srgb", 1),
}
_RAW_PROFILES = {b"Raw profile type exif": "exif", b"Raw profile type APP1": "exif", b"Raw profile type xmp": "xmp"}
_MODES = {GREY: "L", RGB: "RGB", PALETTE: "RGB", GREY_ALPHA: "LA", RGBA: "RGBA"}
#: Chunks that a file may have: more are in no picture that was not made to hold up a reader.
_MOST_CHUNKS = 1 << 18
#: Texts that are read, and the bytes that they may have in all.
_MOST_TEXTS = 64
_LONGEST_TEXTS = LIMIT // 2


class Png:
    """The chunks of a file that matter, each with a right checksum."""

    def __init__(self, header: bytes) -> None:
        fields = struct.unpack(">IIBBBBB", header)
        self.width, self.height, self.depth, self.color, compression, filtering, self.interlace = fields
        if self.depth not in _DEPTHS.get(self.color, ()) or compression or filtering or self.interlace > 1:
            raise damaged(BAD_HEADER)
        self.header = header
        self.palette = b""
        self.transparency: Optional[bytes] = None
        self.parts: List[memoryview] = []
        self.found: Dict[str, Any] = {}
        self.text: List[Tuple[str, str]] = []
        self.text_left = _LONGEST_TEXTS
        self.lost: List[str] = []
        self.animated = False

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

    def keep(self, name: bytes, body: memoryview) -> None:
        """Take one chunk that describes the picture; the first of each kind counts."""
        if name in (b"tEXt", b"zTXt", b"iTXt"):
            self._keep_text(name, body)
            return
        kind = _KINDS.get(name)
        if kind is None or kind[0] in self.found:
            return
        key, size = kind
        if len(body) > LIMIT or (size is not None and len(body) != size):
            self.lost += [] if size is not None else [key.upper()]
            return
        raw = bytes(body)
        if name == b"iCCP":
            self.found["icc"] = _inflate(raw[raw.find(b"\0") + 2 :], LIMIT)[0] if b"\0" in raw[1:] else None
            self.lost += ["ICC"] if self.found["icc"] is None else []
        elif name == b"pHYs":
            x, y, unit = struct.unpack(">IIB", raw)
            self.found["dpi"] = (x * 0.0254, y * 0.0254) if unit == 1 and x and y else None
        elif name == b"cICP":
            self.found["cicp"] = (raw[0], raw[1])
        else:
            self.found[key] = raw

    def _keep_text(self, name: bytes, body: memoryview) -> None:
        raw = bytes(body[: self.text_left])
        keyword, _, rest = raw.partition(b"\0")
        self.text_left -= len(raw)
        packed = name == b"zTXt" or (name == b"iTXt" and rest[:1] == b"\1")
        if name == b"iTXt":
            rest = (rest[2:].split(b"\0", 2) + [b""] * 2)[2]
        elif packed:
            rest = rest[1:]
        plain: Optional[bytes] = rest
        if packed:
            plain, used = _inflate(rest, max(1, self.text_left))
            self.text_left -= used
        if plain is None or self.text_left < 0 or len(raw) < len(body) or len(self.text) >= _MOST_TEXTS:
            self.lost += [] if "text" in self.lost else ["text"]
            return
        if keyword == b"XML:com.adobe.xmp":
            self.found.setdefault("xmp", plain)
        elif keyword in _RAW_PROFILES:
            self.found.setdefault(_RAW_PROFILES[keyword], _unhex(plain))
        elif 0 < len(keyword) < 80:
            text = plain.decode("utf-8" if name == b"iTXt" else "latin-1", "replace")
            self.text.append((keyword.decode("latin-1"), text))

    @property
    def metadata(self) -> Metadata:
        """What the file contains beside its pixels."""
        found = self.found
        gamma, corners = found.get("gamma"), found.get("corners")
        color = Color(
            found.get("cicp"),
            struct.unpack(">I", gamma)[0] / 100000 or None if gamma else None,
            tuple(value / 100000 for value in struct.unpack(">8I", corners)) if corners else None,
            found["srgb"][0] if "srgb" in found else None,
        )
        given = {name: found.get(name) or None for name in ("icc", "exif", "xmp", "dpi")}
        return Metadata(**given, text=tuple(self.text), color=None if color == Color() else color)


def parse(data: bytes) -> Png:
    """Walk over all chunks to the end.

    Raises:
        Refused: The end is missing, a chunk that matters has a wrong checksum, or the header is impossible.
    """
    chunks = _chunks(data)
    name, body, good = next(chunks)
    if name != b"IHDR" or not good or len(body) != 13:
        raise damaged(NO_HEADER)
    png = Png(bytes(body))
    for name, body, good in chunks:
        if name[:1].isupper() and not good:
            chunk = name.decode("latin-1")
            raise damaged(Phrase("damaged.checksum", f"checksum of {chunk}", chunk=chunk))
        if name == b"IDAT":
            png.parts.append(body)
        elif name == b"PLTE":
            png.palette = bytes(body[:768])
        elif name == b"tRNS" and good:
            png.transparency = bytes(body[:256])
        elif name == b"acTL":
            png.animated = True
        elif good:
            png.keep(name, body)
    if not png.parts or (png.color == PALETTE and not png.palette):
        raise damaged(NO_PIXELS)
    return png


def _chunks(data: bytes) -> Iterator[Tuple[bytes, memoryview, bool]]:
    """Name, content and whether the checksum is right, up to and with IEND."""
    view = memoryview(data)
    at = len(SIGNATURE)
    for _ in range(_MOST_CHUNKS):
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
    raise damaged(Phrase("damaged.chunks", f"more than {_MOST_CHUNKS} chunks", most=_MOST_CHUNKS))


def make_chunk(name: bytes, body: Union[bytes, memoryview]) -> bytes:
    """One chunk with its length and checksum."""
    return b"".join((struct.pack(">I", len(body)), name, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))))


def _inflate(body: bytes, limit: int) -> Tuple[Optional[bytes], int]:
    """What was packed, None if it is damaged or has more than ``limit`` bytes; and the bytes that this took."""
    worker = zlib.decompressobj()
    try:
        plain = worker.decompress(body, limit)
    except zlib.error:
        return None, limit
    return (plain if worker.eof else None), len(plain)


def _unhex(text: bytes) -> Optional[bytes]:
    """A profile as ImageMagick and older programs keep it: hexadecimal in a text chunk."""
    try:
        return bytes.fromhex("".join(text.decode("ascii").split("\n")[3:])) or None
    except ValueError:
        return None


def metadata_chunks(metadata: Metadata) -> bytes:
    """The chunks of metadata, to lie before the pixels."""
    chunks: List[Tuple[bytes, bytes]] = []
    color = metadata.color
    if color is not None and color.cicp is not None:
        chunks.append((b"cICP", bytes((*color.cicp, 0, 1))))
    if metadata.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc, 9)))
    elif color is not None:
        if color.srgb is not None:
            chunks.append((b"sRGB", bytes((color.srgb,))))
        if color.gamma is not None:
            chunks.append((b"gAMA", struct.pack(">I", round(color.gamma * 100000))))
        if color.chromaticities is not None:
            chunks.append((b"cHRM", struct.pack(">8I", *(round(value * 100000) for value in color.chromaticities))))
    if metadata.dpi:
        x, y = (min(0x7FFFFFFF, round(value / 0.0254)) for value in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", x, y, 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp))
    comment = [("Comment", metadata.comment)] if metadata.comment else []
    for keyword, text in (*metadata.text, *comment):
        chunks.append(_text_chunk(keyword.encode("latin-1"), text))
    return b"".join(make_chunk(name, body) for name, body in chunks)


def _text_chunk(keyword: bytes, text: str) -> Tuple[bytes, bytes]:
    try:
        plain, name = text.encode("latin-1"), b"tEXt"
    except UnicodeEncodeError:
        plain, name = text.encode("utf-8", "replace"), b"iTXt"
    packed = zlib.compress(plain, 9) if len(plain) > 1024 else b""
    if name == b"iTXt":
        return name, keyword + b"\0" + (b"\1\0\0\0" + packed if packed else b"\0\0\0\0" + plain)
    return (b"zTXt", keyword + b"\0\0" + packed) if packed else (name, keyword + b"\0" + plain)


def decode_16bit(png: Png) -> np.ndarray:
    """BGR or BGRA uint16 (grey with alpha as B=G=R), by OpenCV."""
    pixels = cv2.imdecode(np.frombuffer(png.plain(), np.uint8), cv2.IMREAD_UNCHANGED)
    channels = 3 if png.color == RGB else 4
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape != (png.height, png.width, channels):
        raise damaged(UNDECODABLE)
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
    check_bytes(found, expected)


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
