"""Write a picture file: whole or not at all, and saying what its format could not hold."""

from __future__ import annotations

import shutil
import struct
from dataclasses import replace
from pathlib import Path, PurePath
from typing import BinaryIO, List, Optional, Tuple

import cv2
import numpy as np

from ..errors import Phrase
from . import encoding as encoders
from .atomic import write_atomically
from .metadata import Metadata, fit_xmp, resize_exif
from .naming import WRITABLE
from .paths import PathLike, shown
from .picture import Note, Refused, failure, os_failure
from .profiles import icc_fits
from .reading import quiet

__all__ = ["check_result", "write"]

#: The largest side of each format, in pixels (JPEG: libjpeg's own bound, a little below the format's 65535).
_LARGEST_SIDE = {"PNG": (1 << 31) - 1, "JPEG": 65500, "WEBP": 16383, "TIFF": (1 << 31) - 1, "BMP": (1 << 31) - 1}
#: What of :meth:`Metadata.names` each format has a place for; the colour space is seen to by itself.
_HELD = {
    "PNG": {"ICC", "EXIF", "XMP", "comment", "text", "dpi"},
    "JPEG": {"ICC", "EXIF", "XMP", "IPTC", "comment", "dpi"},
    "WEBP": {"ICC", "EXIF", "XMP", "dpi"},
    "TIFF": {"ICC", "EXIF", "XMP", "IPTC", "dpi"},
    "BMP": {"dpi"},
}
_LARGEST_JPEG_PROFILE = 255 * 65519


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
        mode = _check(pixels, mode, kind, quality, compression)
        pixels, mode = _convert(pixels, mode, kind, notes)
        kept = _fitting(metadata or Metadata(icc=icc, exif=exif), pixels, mode, kind, notes)

        def produce(stream: BinaryIO) -> None:
            _encode(stream, pixels, str(mode), kind, kept, (quality, compression), notes)

        with quiet():
            write_atomically(path, produce)
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
    mode, depth = (mode.rstrip("A"), 8) if kind in ("JPEG", "BMP") else (mode, 8 if kind == "WEBP" else depth)
    needed = width * height * len(mode) * depth // 8
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
    largest = _LARGEST_SIDE[kind]
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
    if kind in ("JPEG", "WEBP", "BMP") and pixels.dtype == np.uint16:
        # v / 257 is never halfway between two numbers, so any rounding is the same.
        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257)
        notes.append(Note("note.depth", f"{kind} stores 8 bit: the 16-bit values were rounded", format=kind))
    if kind in ("JPEG", "BMP"):
        if mode.endswith("A"):
            pixels, mode = _onto_white(pixels), mode[:-1]
            notes.append(Note("note.alpha", f"{kind} stores no alpha: the picture was laid onto white", format=kind))
        if mode == "L" and pixels.ndim == 3:
            pixels = encoders.raster(pixels, "L")[:, :, 0]
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
    kept = given
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
    held = _HELD[kind]
    dropped = [name for name in kept.names() if name not in held and not (kept.color and name == kept.color.name)]
    if kept.color is not None and not kept.color.plain and kind != "PNG" and icc is None:
        dropped.append(kept.color.name)
    if dropped:
        what = ", ".join(dropped)
        notes.append(
            Note("note.dropped", f"{kind} has no place for these, they are left out: {what}", format=kind, what=what)
        )
    return kept


def _encode(
    stream: BinaryIO,
    pixels: np.ndarray,
    mode: str,
    kind: str,
    kept: Metadata,
    options: Tuple[int, int],
    notes: List[Note],
) -> None:
    quality, compression = options
    if kind == "PNG":
        encoders.png(stream, pixels, mode, kept, compression)
    elif kind == "TIFF":
        encoders.tiff(stream, pixels, mode, kept, compression)
    elif kind == "WEBP":
        encoders.webp(stream, pixels, mode, kept, quality)
    elif kind == "BMP":
        encoders.bmp(stream, pixels, kept)
    else:
        for name in encoders.jpeg(stream, pixels, kept, quality):
            text = f"larger than JPEG allows (64 kB), and left out: {name}"
            notes.append(Note("note.exif_dropped", text, what=name))
