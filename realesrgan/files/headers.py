"""What the first bytes of a file say: its format, and for some formats the size before a decoder sees it."""

from __future__ import annotations

import codecs
import re
import struct
from typing import Optional, Tuple

import numpy as np

from ..errors import Phrase
from .metadata import Color
from .picture import BAD_HEADER, NO_HEADER, NO_SIZE, Refused, check_bytes, check_size, damaged, truncated, unsupported

__all__ = ["FORMATS", "check_dds", "check_radiance", "check_webp", "iso_media", "jpeg2000", "netpbm", "recognise"]

FORMATS = "PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF, HEIC, PPM, PGM, PBM, PFM, JPEG 2000, HDR, TGA, DDS"
_STARTS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"#?RADIANCE\n": "HDR",
    b"#?RGBE\n": "HDR",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
    b"DDS ": "DDS",
    b"\x1aE\xdf\xa3": "video",
    b"FLV\x01": "video",
    b"\0\0\x01\xba": "video",
    b"\0\0\x01\xb3": "video",
    b"OggS": "video",
    b"YUV4MPEG2 ": "video",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "video",
}
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"}
_BRANDS.update(dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "HEIF"))


def recognise(data: bytes, suffix: str = "") -> str:
    """The format's name.

    Args:
        suffix: Of the file's name, in lower case: TGA files without a footer have nothing else to be known by.

    Raises:
        Refused: It is none that is read.
    """
    name = next((name for start, name in _STARTS.items() if data.startswith(start)), "")
    name = name or _by_structure(data, suffix)
    if name == "video":
        raise Refused("picture.video", "it is a video; enlarge it with: realesrgan video -i FILE")
    if name:
        return name
    what = Phrase("format.unknown", "its content is of no known picture format")
    if _is_text(data[:512]):
        what = Phrase("format.text", "it is text, not a picture")
    raise Refused("picture.format", f"{what}; what is read: {FORMATS}", what=what, formats=FORMATS)


def _by_structure(data: bytes, suffix: str) -> str:
    if data[:4] == b"RIFF":
        return {b"WEBP": "WEBP", b"AVI ": "video"}.get(data[8:12], "")
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "video")
    if re.match(rb"P[1-6]\s", data[:3]):
        return "PNM"
    if re.match(rb"P[Ff]\s", data[:3]):
        return "PFM"
    if data[:1] == b"G" and data[188:189] == b"G" and data[376:377] == b"G":
        return "video"
    footer = data[-18:-2] == b"TRUEVISION-XFILE"
    if (footer or suffix in (".tga", ".icb", ".vda", ".vst")) and len(data) > 18:
        return "TGA" if data[1] < 2 and data[2] in (1, 2, 3, 9, 10, 11) else ""
    return ""


def _is_text(start: bytes) -> bool:
    try:
        return "\0" not in codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False


def check_webp(data: bytes, max_pixels: int) -> None:
    """Check length and size from the header, because Pillow reserves the whole canvas when it opens a WebP file."""
    (length,) = struct.unpack_from("<I", data, 4)
    chunk = data[12:16]
    if length + 8 > len(data) or len(data) < (25 if chunk == b"VP8L" else 30):
        found, expected = len(data), length + 8
        raise truncated(Phrase("truncated.bytes", f"{found} of {expected} bytes", found=found, expected=expected))
    if chunk == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
    elif chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, 26))
    check_size(width, height, max_pixels)


def check_radiance(data: bytes, max_pixels: int) -> None:
    """Check the size of a Radiance HDR picture."""
    found = re.search(rb"\n\n-Y (\d{1,9}) \+X (\d{1,9})\n", data[: 1 << 16])
    if found is None:
        raise damaged(NO_HEADER)
    check_size(int(found.group(2)), int(found.group(1)), max_pixels)


def check_dds(data: bytes) -> None:
    """Refuse a DDS file without compression whose pixels end too early: older versions of Pillow make black of them."""
    if len(data) < 128:
        raise truncated()
    height, width = struct.unpack_from("<II", data, 12)
    flags, _, bits = struct.unpack_from("<III", data, 80)
    if flags & 0x20040:  # RGB or luminance
        check_bytes(len(data) - 128, width * height * bits // 8)


def jpeg2000(data: bytes, max_pixels: int) -> int:
    """Check the size of a JPEG 2000 picture.

    Returns:
        Bits of a sample.
    """
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0 or at + 44 > len(data):
        raise truncated(NO_SIZE)
    right, bottom, left, top, tile_width, tile_height, _, _, count = struct.unpack_from(">8IH", data, at + 8)
    check_size(right - left, bottom - top, max_pixels)
    samples = data[at + 42 : at + 42 + 3 * count : 3]
    if count > 4 or not samples or len(set(samples)) > 1 or samples[0] > 15:
        raise unsupported("JPEG 2000 channels")
    if not tile_width or not tile_height or (right // tile_width + 1) * (bottom // tile_height + 1) > 1 << 16:
        raise damaged(Phrase("damaged.tiles", "tiles of an impossible size"))
    return samples[0] + 1


def iso_media(data: bytes) -> Tuple[Optional[Color], int]:
    """Of a picture in a HEIC or AVIF file: the colour space that it names beside the profile, and the bits of a sample.

    Both are the first of their kind in the file.
    """
    start = data[: 1 << 20]
    color, bits = None, 8
    at = start.find(b"colrnclx")
    if at >= 0 and at + 12 <= len(start):
        primaries, transfer = struct.unpack_from(">HH", start, at + 8)
        named = Color((primaries, transfer))
        color = None if named.plain or max(primaries, transfer) > 255 else named
    at = start.find(b"pixi\0\0\0\0")
    if at >= 0 and at + 10 <= len(start) and start[at + 8]:
        bits = start[at + 9]
    return color, bits


_TOKEN = re.compile(rb"(?:\s|#[^\r\n]{0,9999}[\r\n]){1,9999}([^\s#]{1,20})")


def netpbm(data: bytes, max_pixels: int) -> np.ndarray:
    """The pixels of a PBM, PGM, PPM or PFM picture: HxW or HxWx3 BGR, uint8 or uint16 of full range, or float32."""
    kind = data[1:2]
    numbers, at = [], 2
    for _ in range(2 if kind in b"14" else 3):
        token = _TOKEN.match(data, at)
        if token is None:
            raise truncated(NO_SIZE)
        numbers.append(float(token.group(1)) if kind in b"Ff" else int(token.group(1)))
        at = token.end()
    width, height, top = int(numbers[0]), int(numbers[1]), numbers[2] if len(numbers) > 2 else 1
    check_size(width, height, max_pixels)
    if kind not in b"Ff" and not 1 <= top <= 65535:
        raise damaged(BAD_HEADER)
    channels = 3 if kind in b"36F" else 1
    samples = _samples(data, at + 1, kind, (width, height, channels), top)
    if samples.dtype == np.float32:
        samples = samples[::-1]
    elif kind in b"14":
        samples = np.where(samples, 0, 255).astype(np.uint8)
    elif top not in (255, 65535):
        full = 255 if top < 256 else 65535
        scaled = (np.minimum(samples, top).astype(np.uint32) * full + int(top) // 2) // int(top)
        samples = scaled.astype(np.uint8 if full == 255 else np.uint16)
    return np.ascontiguousarray(samples[:, :, ::-1] if channels == 3 else samples[:, :, 0])


def _samples(data: bytes, at: int, kind: bytes, shape: Tuple[int, int, int], top: float) -> np.ndarray:
    """HxWxC, as stored."""
    width, height, channels = shape
    floating = "<f4" if top < 0 else ">f4"
    dtype = np.dtype(floating if kind in b"Ff" else "u1" if top < 256 else ">u2")
    row = -(-width // 8) if kind == b"4" else width * channels
    found: np.ndarray
    if kind in b"123":
        text = re.sub(rb"#[^\r\n]*", b"", data[at - 1 :]) if b"#" in data[at:] else data[at - 1 :]
        if kind == b"1":  # digits need nothing between them
            found = np.frombuffer(text, np.uint8)
            found = found[(found == ord("0")) | (found == ord("1"))][: row * height] - ord("0")
        else:
            found = np.fromstring(text, np.uint16, sep=" ")[: row * height]
            found = found.astype(dtype.newbyteorder("="), copy=False)
    else:
        found = np.frombuffer(data, dtype, min(row * height, max(0, len(data) - at) // dtype.itemsize), at)
        found = found.astype(dtype.newbyteorder("="), copy=False)
    check_bytes(found.nbytes, row * height * dtype.itemsize)
    if kind == b"4":
        found = np.unpackbits(found.reshape(height, row), axis=1)[:, :width]
    return found.reshape(height, width, channels)
