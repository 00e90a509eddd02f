"""Write a picture file: whole or not at all, and saying what its format could not hold.

PNG and TIFF are streamed in bands, so that a large result is not held twice.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path, PurePath
from typing import BinaryIO, Callable, Generator, List, Optional, Tuple, TypeVar

import cv2
import numpy as np
from PIL import Image

from ..errors import Phrase
from .atomic import write_atomically
from .jpeg import segments
from .metadata import (
    Field,
    Metadata,
    descriptive_fields,
    exif_block,
    fit_xmp,
    icc_fits,
    pack_directory,
    resize_exif,
    resolution_fields,
)
from .naming import OUTPUT_FORMATS, WRITABLE
from .paths import PathLike, shown
from .picture import Note, Refused, failure, os_failure
from .png import SIGNATURE, make_chunk, metadata_chunks
from .reading import quiet
from .threads import ReadAhead

__all__ = ["check_result", "write"]

_LARGEST_JPEG_PROFILE = 255 * 65519
_PNG_COLOR = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}
_CLASSIC_TIFF_LIMIT = (1 << 32) - (1 << 24)
#: Bytes of pixels that are compressed at a time.
_BAND_BYTES = 1 << 20
_SAMPLE = 1 << 15

T = TypeVar("T")
U = TypeVar("U")


def write(
    path: PathLike,
    pixels: np.ndarray,
    *,
    mode: Optional[str] = None,
    metadata: Optional[Metadata] = None,
    icc: Optional[bytes] = None,
    exif: Optional[bytes] = None,
    quality: int = 95,
    compression: int = 3,
) -> Tuple[str, ...]:
    """Encode one picture by the suffix of ``path`` and put it there in one step; missing folders are made.

    What a format cannot contain is converted by rule, and said: 16 bit to 8 bit by rounding v / 257 (JPEG, WebP, BMP);
    alpha onto white (JPEG, BMP). Sizes in EXIF and XMP are set to the picture's. Metadata that the format has no place
    for are left out, and named in one note.

    Args:
        pixels: HxW grey, HxWx3 BGR or HxWx4 BGRA; uint8 or uint16.
        mode: ``L``, ``LA``, ``RGB`` or ``RGBA``; None: by the number of channels. ``L`` and ``LA`` of coloured pixels
            take their luma.
        metadata: What :func:`realesrgan.files.read` gives. A profile is attached if it is one for this mode.
        icc, exif: Short for a :class:`Metadata` of these two.
        quality: 1 to 100, for JPEG and WebP (100 is lossless there).
        compression: 0 (none) to 9 (smallest, slow), for PNG and TIFF.

    Returns:
        Notes, one for each thing that was changed or left out.

    Raises:
        PictureError: Always this: unknown suffix, a size that the format does not take, no permission, disk full ...
            The target then is as it was before, and no unfinished file is left.
    """
    kind = WRITABLE.get(PurePath(path).suffix.lower())
    if kind is None:
        allowed = tuple(sorted(WRITABLE))
        raise failure(path, "picture.suffix", f"its suffix is none of {', '.join(allowed)}", allowed=allowed)
    notes: List[Note] = []
    try:
        chosen = _check(pixels, mode, kind, quality, compression)
        pixels, stored = _convert(pixels, chosen, kind, notes)
        kept = _fitting(metadata or Metadata(icc=icc, exif=exif), pixels, stored, kind, notes)
        encode = _encoder(pixels, stored, kind, kept, quality, compression, notes)
        with quiet():
            write_atomically(path, encode)
    except Refused as refused:
        raise failure(path, refused.code, str(refused), **refused.fields) from refused.__cause__
    except OSError as error:
        raise os_failure(path, error, "write") from error
    except MemoryError as error:
        raise failure(path, "picture.memory", "there is not enough memory to encode it") from error
    except (ValueError, struct.error, cv2.error) as error:
        raise failure(path, "picture.encode", "it cannot be encoded", detail=error) from error
    return tuple(notes)


def check_result(path: PathLike, width: int, height: int, *, mode: str = "RGB", depth: int = 8) -> None:
    """See that a result can be written, before it is computed: its format allows the size, and the disk the raw pixels.

    Args:
        width, height: Of the result, in pixels.
        mode: ``L``, ``LA``, ``RGB`` or ``RGBA``.
        depth: 8 or 16.

    Raises:
        PictureError: It cannot.
    """
    kind = WRITABLE.get(PurePath(path).suffix.lower(), "PNG")
    try:
        _check_side(kind, width, height)
    except Refused as refused:
        raise failure(path, refused.code, str(refused), **refused.fields) from None
    channels = len(mode if OUTPUT_FORMATS[kind].alpha else mode.rstrip("A"))
    needed = width * height * channels * (depth if OUTPUT_FORMATS[kind].deep else 8) // 8
    folder = next((folder for folder in Path(path).absolute().parents if folder.is_dir()), Path())
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # a file system that does not say
        return
    if needed > free:
        room, has = f"{needed / 1e6:.0f} MB", f"{free / 1e6:.0f} MB"
        reason = f"the result has up to {room}, {shown(folder)} has {has} free; free some space or give another folder"
        raise failure(path, "picture.disk_space", reason, needed=room, free=has, folder=shown(folder))


def _check_side(kind: str, width: int, height: int) -> None:
    largest = OUTPUT_FORMATS[kind].side
    if max(width, height) > largest:
        reason = f"{width}x{height} is more than {kind} allows ({largest} a side); write PNG or TIFF instead"
        raise Refused("picture.format_limit", reason, width=width, height=height, kind=kind, limit=largest)


def _check(pixels: np.ndarray, mode: Optional[str], kind: str, quality: int, compression: int) -> str:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2] if pixels.ndim == 3 else 0
    if channels not in (1, 3, 4) or pixels.dtype not in (np.uint8, np.uint16) or pixels.size == 0:
        shape, dtype = "x".join(map(str, pixels.shape)), str(pixels.dtype)
        what = Phrase("array.shape", f"an array of shape {shape} and type {dtype}", shape=shape, dtype=dtype)
        raise Refused("picture.array", f"{what} is no picture (HxW, HxWx3 or HxWx4; uint8 or uint16)", what=what)
    chosen = mode or {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    needed = {"L": 1, "RGB": 3, "LA": 4, "RGBA": 4}.get(chosen)
    if needed is None or needed > channels:
        reason = f"mode {chosen!r} does not go with {channels} channels"
        raise Refused("picture.mode", reason, mode=chosen, channels=channels)
    if not 1 <= quality <= 100 or not 0 <= compression <= 9:
        reason = f"quality {quality} (1 to 100) or compression {compression} (0 to 9) is wrong"
        raise Refused("picture.option", reason, quality=quality, compression=compression)
    _check_side(kind, pixels.shape[1], pixels.shape[0])
    return chosen


def _convert(pixels: np.ndarray, mode: str, kind: str, notes: List[Note]) -> Tuple[np.ndarray, str]:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if not OUTPUT_FORMATS[kind].deep and pixels.dtype == np.uint16:
        # v / 257 is never halfway between two numbers, so any rounding is the same.
        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257)
        notes.append(Note("note.depth", f"{kind} stores 8 bit: the 16-bit values were rounded", format=kind))
    if not OUTPUT_FORMATS[kind].alpha:
        if mode.endswith("A"):
            pixels, mode = _onto_white(pixels), mode[:-1]
            notes.append(Note("note.alpha", f"{kind} stores no alpha: the picture was laid onto white", format=kind))
        if mode == "L" and pixels.ndim == 3:
            pixels = _raster(pixels, "L")[:, :, 0]
        elif mode == "RGB" and pixels.shape[2] == 4:
            pixels = pixels[:, :, :3]
    return np.ascontiguousarray(pixels), mode


def _onto_white(pixels: np.ndarray) -> np.ndarray:
    """8-bit BGRA to BGR, rounded; row by row, because the products need more bits."""
    flat = np.empty((*pixels.shape[:2], 3), np.uint8)
    for row, out in zip(pixels, flat):
        alpha = row[:, 3:].astype(np.uint32)
        out[:] = (row[:, :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return flat


def _fitting(given: Metadata, pixels: np.ndarray, mode: str, kind: str, notes: List[Note]) -> Metadata:
    """What of the metadata goes into a file of this kind, brought in line with its picture."""
    size = (pixels.shape[1], pixels.shape[0])
    # WebP has no grey, so a grey picture becomes RGB there and its profile does not fit.
    mode = "RGB" if kind == "WEBP" else mode
    icc, color = given.icc, given.color
    if color is not None and not icc and kind in ("JPEG", "WEBP", "TIFF"):
        icc = color.profile(mode)
    if icc and kind != "BMP" and (not icc_fits(icc, mode) or (kind == "JPEG" and len(icc) > _LARGEST_JPEG_PROFILE)):
        notes.append(Note("note.icc_dropped", f"the colour profile does not go into this {kind} and is left out"))
        icc = None
    if kind == "PNG" and icc is None and color is not None and color.cicp is not None:
        icc = color.profile(mode)  # for programs that do not know cICP
    if color is not None and icc is not None and color.cicp is None:
        color = None
    exif = given.exif
    if exif:
        try:
            exif = resize_exif(exif, *size)
        except (ValueError, struct.error):
            notes.append(Note("note.exif_damaged", "the EXIF block is damaged and is left out"))
            exif = None
    xmp = fit_xmp(given.xmp, given.size or size, size) if given.xmp else None
    comment, text = given.comment, given.text
    if kind == "JPEG" and not comment:
        comment = dict(text).get("Comment")
        text = tuple(item for item in text if item[0] != "Comment")
    kept = replace(given, icc=icc, exif=exif, xmp=xmp, comment=comment, text=text, color=color)
    held = set(OUTPUT_FORMATS[kind].kinds)
    if color is not None and (kind == "PNG" or icc is not None):  # PNG names it, elsewhere a profile says the same
        held.add(color.name)
    dropped = [name for name in kept.names() if name not in held]
    if dropped:
        what = ", ".join(dropped)
        told = f"{kind} has no place for these, they are left out: {what}"
        notes.append(Note("note.dropped", told, format=kind, what=what))
    return kept


def _encoder(
    pixels: np.ndarray, mode: str, kind: str, kept: Metadata, quality: int, compression: int, notes: List[Note]
) -> Callable[[BinaryIO], None]:
    """What writes the file into a stream."""
    if kind == "PNG":
        return lambda stream: _png(stream, pixels, mode, kept, compression)
    if kind == "TIFF":
        return lambda stream: _tiff(stream, pixels, mode, kept, compression)
    if kind == "WEBP":
        return lambda stream: _webp(stream, pixels, mode, kept, quality)
    if kind == "BMP":
        return lambda stream: _bmp(stream, pixels, kept)
    return lambda stream: _jpeg(stream, pixels, kept, quality, notes)


def _png(stream: BinaryIO, pixels: np.ndarray, mode: str, kept: Metadata, compression: int) -> None:
    """Write a PNG of any mode and depth. ``compression``: zlib's 0 (none) to 9 (smallest)."""
    height, width = pixels.shape[:2]
    stream.write(SIGNATURE)
    header = struct.pack(">IIBBBBB", width, height, pixels.itemsize * 8, _PNG_COLOR[mode], 0, 0, 0)
    stream.write(make_chunk(b"IHDR", header))
    stream.write(metadata_chunks(kept))

    def work(part: Tuple[int, int]) -> Tuple[bytes, bytes]:
        top, bottom = part
        rows = _raster(pixels[max(0, top - 1) : bottom], mode)
        raw = _filtered(rows, top > 0, compression)
        packer = zlib.compressobj(compression, zlib.DEFLATED, -15, 9, _best_strategy(raw, compression))
        last = bottom == height
        return raw, packer.compress(raw) + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)

    checksum = 1
    prefix = b"\x78\x5e"
    # Closed here, not by the garbage collector, so that no thread outlives a write that failed.
    with contextlib.closing(_in_order(work, _bands(pixels, mode))) as results:
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


def _tiff(stream: BinaryIO, pixels: np.ndarray, mode: str, kept: Metadata, compression: int) -> None:
    """Write a little-endian TIFF of any mode and depth, in deflated strips with horizontal prediction."""
    height, width = pixels.shape[:2]
    channels, depth = len(mode), pixels.dtype.itemsize * 8
    parts = _bands(pixels, mode)

    def work(part: Tuple[int, int]) -> bytes:
        rows = _raster(pixels[part[0] : part[1]], mode)
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
    described = descriptive_fields(kept.exif)[0] if kept.exif else ()
    if kept.dpi and not any(field.tag == 282 for field in described):
        fields += resolution_fields(kept.dpi)
    stream.write(pack_directory((*fields, *described), at))
    stream.seek(4)
    stream.write(struct.pack("<I", at))


def _jpeg(stream: BinaryIO, pixels: np.ndarray, kept: Metadata, quality: int, notes: List[Note]) -> None:
    """Write an 8-bit grey or BGR picture as JPEG. Quality 90 and up keeps the colour at full resolution."""
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
    for name in too_large:
        notes.append(Note("note.exif_dropped", f"larger than JPEG allows (64 kB), and left out: {name}", what=name))


def _webp(stream: BinaryIO, pixels: np.ndarray, mode: str, kept: Metadata, quality: int) -> None:
    """Write an 8-bit picture as WebP; quality 100 is lossless. Grey is stored as RGB, as the format knows no grey."""
    rows = _raster(pixels, mode)
    if mode.startswith("L"):
        rows = np.concatenate((np.repeat(rows[:, :, :1], 3, axis=2), rows[:, :, 1:]), axis=2)
    lossless = quality >= 100
    options = {"quality": 80 if lossless else quality, "lossless": lossless, "exact": True}
    exif = kept.exif
    if kept.dpi and not exif:  # the only place for it
        exif = exif_block(resolution_fields(kept.dpi))
    buffer = io.BytesIO()
    Image.fromarray(rows).save(
        buffer, "WEBP", icc_profile=kept.icc or b"", exif=exif or b"", xmp=kept.xmp or b"", **options
    )
    stream.write(buffer.getbuffer())


def _bmp(stream: BinaryIO, pixels: np.ndarray, kept: Metadata) -> None:
    """Write an 8-bit grey or BGR picture as BMP."""
    body = _opencv(".bmp", pixels, [])
    if kept.dpi:
        x, y = (round(min(value, 5e7) / 0.0254) for value in kept.dpi)
        struct.pack_into("<ii", body, 38, x, y)
    stream.write(body)


def _opencv(suffix: str, pixels: np.ndarray, options: List[int]) -> memoryview:
    done, encoded = cv2.imencode(suffix, pixels, options)
    if not done:
        raise Refused("picture.encode", "it cannot be encoded")
    return encoded.reshape(-1).data


def _bands(pixels: np.ndarray, mode: str) -> List[Tuple[int, int]]:
    """Split rows into bands ``(top, bottom)`` of about a megabyte."""
    height, width = pixels.shape[:2]
    rows = max(1, _BAND_BYTES // (width * len(mode) * pixels.itemsize))
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


def _raster(pixels: np.ndarray, mode: str) -> np.ndarray:
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
