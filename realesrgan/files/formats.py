"""Recognise a picture format by its first bytes, and check what a decoder would not."""

from __future__ import annotations

import codecs
import struct

from . import png as png_file
from .picture import Refused, check_size

__all__ = ["check_jpeg", "check_webp", "recognise"]

_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"}
_BRANDS.update(dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "HEIF"))


def recognise(data: bytes) -> str:
    """The format's name.

    Raises:
        Refused: It is none that is read.
    """
    if data.startswith(png_file.SIGNATURE):
        return "PNG"
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:2] == b"BM":
        return "BMP"
    if data[4:8] == b"ftyp" and data[8:12] in _BRANDS:
        return _BRANDS[data[8:12]]
    what = "it is text, not a picture" if _is_text(data[:512]) else "its content is of no known picture format"
    raise Refused("picture.format", f"{what} (PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF and HEIC are read)")


def _is_text(start: bytes) -> bool:
    try:
        return "\0" not in codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False


def check_webp(data: bytes, max_pixels: int) -> None:
    """Check length and size from the header, because Pillow reserves the whole canvas when it opens a WebP file."""
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 > len(data) or len(data) < 30:
        raise Refused("picture.truncated", f"the file is truncated ({len(data)} of {length + 8} bytes)")
    chunk = data[12:16]
    if chunk == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
    elif chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, 26))
    check_size(width, height, max_pixels)


def check_jpeg(data: bytes) -> None:
    """Refuse a file without an end, such as a download whose space was reserved and stayed zero.

    Decoders make grey of zeros and find nothing wrong. The end is looked for behind the header, because the thumbnail
    in there has one of its own.
    """
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker == 0xDA:
            if data.find(b"\xff\xd9", at) < 0:
                raise Refused("picture.truncated", "the file is truncated (its end is missing)")
            return
        at += 2 if 0xD0 <= marker <= 0xD8 or marker == 1 else 2 + struct.unpack_from(">H", data, at + 2)[0]
    # A header that cannot be followed is for the decoder to refuse.
