"""From pixels to the bytes of a file. PNG and TIFF are streamed in bands, so a large result is not held twice."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from typing import BinaryIO, Callable, Generator, List, Tuple, TypeVar

import cv2
import numpy as np
from PIL import Image

from . import metadata
from .jpeg import segments
from .metadata import Field, Metadata
from .picture import Refused
from .png import SIGNATURE, make_chunk, metadata_chunks
from .threads import ReadAhead

__all__ = ["bmp", "jpeg", "png", "tiff", "webp"]

_PNG_COLOR = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}
_CLASSIC_TIFF_LIMIT = (1 << 32) - (1 << 24)
#: Bytes of pixels that are compressed at a time.
BAND_BYTES = 1 << 20
_SAMPLE = 1 << 15

T = TypeVar("T")
U = TypeVar("U")


def png(stream: BinaryIO, pixels: np.ndarray, mode: str, kept: Metadata, compression: int) -> None:
    """Write a PNG of any mode and depth. ``compression``: zlib's 0 (none) to 9 (smallest)."""
    height, width = pixels.shape[:2]
    channels, depth = len(mode), pixels.dtype.itemsize * 8
    stream.write(SIGNATURE)
    header = struct.pack(">IIBBBBB", width, height, depth, _PNG_COLOR[mode], 0, 0, 0)
    stream.write(make_chunk(b"IHDR", header))
    stream.write(metadata_chunks(kept))
    parts = _bands(height, width * channels * depth // 8)

    def work(part: Tuple[int, int]) -> Tuple[bytes, bytes]:
        top, bottom = part
        rows = raster(pixels[max(0, top - 1) : bottom], mode)
        raw = _filtered(rows, top > 0, compression)
        packer = zlib.compressobj(compression, zlib.DEFLATED, -15, 9, _best_strategy(raw, compression))
        last = bottom == height
        return raw, packer.compress(raw) + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)

    checksum = 1
    prefix = b"\x78\x5e"
    # Closed here, not by the garbage collector, so that no thread outlives a write that failed.
    with contextlib.closing(_in_order(work, parts)) as results:
        for raw, packed in results:
            checksum = zlib.adler32(raw, checksum)
            stream.write(make_chunk(b"IDAT", prefix + packed))
            prefix = b""
    stream.write(make_chunk(b"IDAT", struct.pack(">I", checksum)))
    stream.write(make_chunk(b"IEND", b""))


def _filtered(rows: np.ndarray, with_previous: bool, compression: int) -> bytes:
    """PNG's filtered rows; the first of ``rows`` is the row above where ``with_previous``."""
    pixel_bytes = rows.shape[2] * rows.itemsize
    if rows.itemsize == 2:
        rows = rows.astype(">u2")
    plain = rows.reshape(rows.shape[0], -1).view(np.uint8)
    above = plain[:-1] if with_previous else np.concatenate((np.zeros_like(plain[:1]), plain[:-1]))
    current = plain[1:] if with_previous else plain
    out = np.empty((current.shape[0], 1 + current.shape[1]), np.uint8)
    if compression == 0:
        out[:, 0], out[:, 1:] = 0, current
        return out.tobytes()
    left = np.zeros_like(current)
    left[:, pixel_bytes:] = current[:, :-pixel_bytes]
    # The mean without a carry: (a & b) + ((a ^ b) >> 1).
    candidates = ((1, left), (2, above), (3, (left & above) + ((left ^ above) >> 1)))
    best = np.full(current.shape[0], np.iinfo(np.int64).max)
    for number, guess in candidates:
        difference = current - guess
        cost = np.abs(difference.view(np.int8)).view(np.uint8).sum(axis=1, dtype=np.int64)
        better = cost < best
        best[better] = cost[better]
        out[better, 0] = number
        out[better, 1:] = difference[better]
    return out.tobytes()


def tiff(stream: BinaryIO, pixels: np.ndarray, mode: str, kept: Metadata, compression: int) -> None:
    """Write a little-endian TIFF of any mode and depth, in deflated strips with horizontal prediction."""
    height, width = pixels.shape[:2]
    channels, depth = len(mode), pixels.dtype.itemsize * 8
    parts = _bands(height, width * channels * depth // 8)

    def work(part: Tuple[int, int]) -> bytes:
        rows = raster(pixels[part[0] : part[1]], mode)
        if compression:
            difference = rows.copy()
            difference[:, 1:] -= rows[:, :-1]
            rows = difference
        raw = rows.astype(rows.dtype.newbyteorder("<"), copy=False).tobytes()
        return zlib.compress(raw, compression) if compression else raw

    stream.write(b"II*\0\0\0\0\0")
    offsets: List[int] = []
    sizes: List[int] = []
    at = 8
    with contextlib.closing(_in_order(work, parts)) as results:
        for packed in results:
            padded = packed + b"\0" * (len(packed) % 2)
            offsets.append(at)
            sizes.append(len(packed))
            at += len(padded)
            if at > _CLASSIC_TIFF_LIMIT:
                raise Refused("picture.file_limit", "TIFF allows no more than 4 GB; write PNG instead")
            stream.write(padded)

    def numbers(tag: int, *content: int, short: bool = False) -> Field:
        return Field(tag, 3 if short else 4, struct.pack(f"<{len(content)}{'H' if short else 'I'}", *content))

    fields = [numbers(256, width), numbers(257, height), numbers(258, *[depth] * channels, short=True)]
    fields += [numbers(259, 8 if compression else 1, short=True), numbers(262, 2 if channels > 2 else 1, short=True)]
    fields += [numbers(273, *offsets), numbers(274, 1, short=True), numbers(277, channels, short=True)]
    fields += [numbers(278, parts[0][1]), numbers(279, *sizes), numbers(284, 1, short=True)]
    fields += [numbers(317, 2, short=True)] if compression else []
    fields += [numbers(338, 2, short=True)] if mode.endswith("A") else []
    fields += [Field(34675, 7, kept.icc)] if kept.icc else []
    fields += [Field(700, 1, kept.xmp)] if kept.xmp else []
    fields += [Field(33723, 7, kept.iptc)] if kept.iptc else []
    described = metadata.exif_to_fields(kept.exif) if kept.exif else ()
    if kept.dpi and not any(field.tag == 282 for field in described):
        fields += metadata.resolution_fields(kept.dpi)
    stream.write(metadata.pack_directory((*fields, *described), at))
    stream.seek(4)
    stream.write(struct.pack("<I", at))


def jpeg(stream: BinaryIO, pixels: np.ndarray, kept: Metadata, quality: int) -> List[str]:
    """Write an 8-bit grey or BGR picture as JPEG. Quality 90 and up keeps the colour at full resolution.

    Returns:
        The kinds of metadata that are larger than JPEG allows (64 kB).
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if quality >= 90 and hasattr(cv2, "IMWRITE_JPEG_SAMPLING_FACTOR"):
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    body = _opencv(".jpg", pixels, options)
    at = 2
    if bytes(body[2:4]) == b"\xff\xe0":  # the JFIF segment, in whose place comes one with the resolution
        at += 2 + struct.unpack(">H", body[4:6])[0]
    x, y = (min(65535, max(1, round(value))) for value in kept.dpi or (1, 1))
    stream.write(b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1" + struct.pack(">BHHH", 1 if kept.dpi else 0, x, y, 0))
    packed, too_large = segments(kept)
    stream.write(packed)
    stream.write(body[at:])
    return too_large


def webp(stream: BinaryIO, pixels: np.ndarray, mode: str, kept: Metadata, quality: int) -> None:
    """Write an 8-bit picture as WebP; quality 100 is lossless. Grey is stored as RGB, as the format knows no grey."""
    rows = raster(pixels, mode)
    if mode.startswith("L"):
        rows = np.concatenate((np.repeat(rows[:, :, :1], 3, axis=2), rows[:, :, 1:]), axis=2)
    lossless = quality >= 100
    options = {"quality": 80 if lossless else quality, "lossless": lossless, "exact": True}
    exif = kept.exif
    if kept.dpi and not exif:  # the only place for it
        exif = metadata.exif_block(metadata.resolution_fields(kept.dpi))
    buffer = io.BytesIO()
    Image.fromarray(rows).save(
        buffer, "WEBP", icc_profile=kept.icc or b"", exif=exif or b"", xmp=kept.xmp or b"", **options
    )
    stream.write(buffer.getbuffer())


def bmp(stream: BinaryIO, pixels: np.ndarray, kept: Metadata) -> None:
    """Write an 8-bit grey or BGR picture as BMP."""
    body = _opencv(".bmp", pixels, [])
    if kept.dpi:
        x, y = (round(min(value, 5e7) / 0.0254) for value in kept.dpi)
        struct.pack_into("<ii", body, 38, x, y)
    stream.write(body)


def _opencv(suffix: str, pixels: np.ndarray, options: List[int]) -> memoryview:
    try:
        done, encoded = cv2.imencode(suffix, pixels, options)
    except cv2.error as error:
        raise Refused("picture.encode", "it cannot be encoded", detail=error) from error
    if not done:
        raise Refused("picture.encode", "it cannot be encoded")
    return encoded.reshape(-1).data


def _bands(height: int, row_bytes: int) -> List[Tuple[int, int]]:
    """Split rows into bands ``(top, bottom)`` of about a megabyte."""
    rows = max(1, BAND_BYTES // max(1, row_bytes))
    return [(top, min(height, top + rows)) for top in range(0, height, rows)]


def _in_order(work: Callable[[T], U], items: List[T]) -> Generator[U, None, None]:
    """``map`` by threads (zlib and numpy let go of the interpreter), never more than a few results ahead."""
    threads = min(8, os.cpu_count() or 1, len(items))
    if threads < 2:
        yield from map(work, items)
        return
    with ReadAhead(items, work, workers=threads, ahead=threads + 2) as results:
        for outcome in results:
            yield outcome.result()


def raster(pixels: np.ndarray, mode: str) -> np.ndarray:
    """Rows in the order of a file: HxWxC with grey, grey+alpha, RGB or RGBA; contiguous; depth unchanged."""
    if mode == "L":
        return np.ascontiguousarray(_grey(pixels))[:, :, None]
    if mode == "LA":
        return np.dstack((_grey(pixels), pixels[:, :, 3]))
    if mode == "RGB":
        code = cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
        return cv2.cvtColor(pixels, code)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)


def _grey(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels
    blue, green, red = pixels[:, :, 0], pixels[:, :, 1], pixels[:, :, 2]
    if np.array_equal(blue, green) and np.array_equal(green, red):
        return blue
    return cv2.cvtColor(np.ascontiguousarray(pixels[:, :, :3]), cv2.COLOR_BGR2GRAY)


def _best_strategy(raw: bytes, level: int) -> int:
    """zlib's strategy for these bytes: run lengths alone win on photographs, in size and in time."""
    middle = len(raw) // 2
    sample = raw[max(0, middle - _SAMPLE) : middle + _SAMPLE]
    if level == 0 or len(sample) < 1024:
        return zlib.Z_DEFAULT_STRATEGY
    sizes = []
    for strategy in (zlib.Z_RLE, zlib.Z_DEFAULT_STRATEGY):
        worker = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
        sizes.append((len(worker.compress(sample)) + len(worker.flush()), strategy))
    return min(sizes, key=lambda pair: pair[0])[1]
