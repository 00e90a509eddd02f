"""Write a picture file: whole or not at all, and saying what its format could not hold."""

from __future__ import annotations

import struct
from pathlib import PurePath
from typing import BinaryIO, List, Optional, Tuple

import cv2
import numpy as np

from . import encoding as encoders
from . import metadata
from .atomic import write_atomically
from .decoding import quiet
from .naming import WRITABLE
from .paths import PathLike
from .picture import Note, Refused, failure, os_failure

__all__ = ["write"]

#: The largest side of each format, in pixels (JPEG: libjpeg's own bound, a little below the format's 65535).
_LARGEST_SIDE = {"PNG": (1 << 31) - 1, "JPEG": 65500, "WEBP": 16383, "TIFF": (1 << 31) - 1, "BMP": (1 << 31) - 1}
_LARGEST_JPEG_PROFILE = 255 * 65519


def write(
    path: PathLike,
    pixels: np.ndarray,
    *,
    mode: Optional[str] = None,
    icc: Optional[bytes] = None,
    exif: Optional[bytes] = None,
    quality: int = 95,
    compression: int = 3,
) -> Tuple[str, ...]:
    """Encode one picture by the suffix of ``path`` and put it there in one step; missing folders are made.

    What a format cannot hold is converted by rule, and said: 16 bit to 8 bit by rounding v / 257 (JPEG, WebP, BMP);
    alpha onto white (JPEG, BMP). The size fields of the EXIF block are set to the picture's.

    Args:
        pixels: HxW grey, HxWx3 BGR or HxWx4 BGRA; uint8 or uint16.
        mode: ``L``, ``LA``, ``RGB`` or ``RGBA``; None: by the number of channels. ``L`` and ``LA`` of coloured pixels
            take their luma.
        icc: Attached if it is a profile for this mode.
        exif: An EXIF block as :func:`realesrgan.files.read` gives it.
        quality: 1 to 100, for JPEG and WebP (100 is lossless there).
        compression: 0 (none) to 9 (smallest, slow), for PNG and TIFF.

    Returns:
        Notes, one for each thing that was changed or left out.

    Raises:
        PictureError: Always this: unknown suffix, a size that the format does not take, no permission, disk full ...
            The target then holds what it held before, and no unfinished file is left.
    """
    kind = WRITABLE.get(PurePath(path).suffix.lower())
    if kind is None:
        allowed = tuple(sorted(WRITABLE))
        raise failure(path, "picture.suffix", f"its suffix is none of {', '.join(allowed)}", allowed=allowed)
    notes: List[Note] = []
    try:
        mode = _check(pixels, mode, kind, quality, compression)
        pixels, mode = _convert(pixels, mode, kind, notes)
        icc, exif = _metadata(pixels, mode, kind, icc, exif, notes)

        def produce(stream: BinaryIO) -> None:
            _encode(stream, pixels, str(mode), kind, icc, exif, (quality, compression), notes)

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


def _check(pixels: np.ndarray, mode: Optional[str], kind: str, quality: int, compression: int) -> str:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2] if pixels.ndim == 3 else 0
    if channels not in (1, 3, 4) or pixels.dtype not in (np.uint8, np.uint16) or pixels.size == 0:
        what = f"an array of shape {pixels.shape} and type {pixels.dtype}"
        raise Refused("picture.array", f"{what} is no picture (HxW, HxWx3 or HxWx4; uint8 or uint16)", what=what)
    chosen = mode or {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    needed = {"L": 1, "RGB": 3, "LA": 4, "RGBA": 4}.get(chosen)
    if needed is None or needed > channels:
        reason = f"mode {chosen!r} does not go with {channels} channels"
        raise Refused("picture.mode", reason, mode=chosen, channels=channels)
    if not 1 <= quality <= 100 or not 0 <= compression <= 9:
        reason = f"quality {quality} (1 to 100) or compression {compression} (0 to 9) is wrong"
        raise Refused("picture.option", reason, quality=quality, compression=compression)
    largest = _LARGEST_SIDE[kind]
    height, width = pixels.shape[:2]
    if max(height, width) > largest:
        reason = f"{width}x{height} is more than {kind} takes ({largest} a side); write PNG or TIFF instead"
        raise Refused("picture.format_limit", reason, width=width, height=height, kind=kind, limit=largest)
    return chosen


def _convert(pixels: np.ndarray, mode: str, kind: str, notes: List[Note]) -> Tuple[np.ndarray, str]:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if kind in ("JPEG", "WEBP", "BMP") and pixels.dtype == np.uint16:
        # v / 257 is never halfway between two numbers, so any rounding is the same.
        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257)
        notes.append(Note("note.depth", f"{kind} holds 8 bit: the 16-bit values were rounded", format=kind))
    if kind in ("JPEG", "BMP"):
        if mode.endswith("A"):
            pixels, mode = _onto_white(pixels), mode[:-1]
            notes.append(Note("note.alpha", f"{kind} holds no alpha: the picture was laid onto white", format=kind))
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


def _metadata(
    pixels: np.ndarray, mode: str, kind: str, icc: Optional[bytes], exif: Optional[bytes], notes: List[Note]
) -> Tuple[Optional[bytes], Optional[bytes]]:
    if icc:
        # WebP has no grey, so a grey picture becomes RGB there and its profile no longer fits.
        fits = metadata.icc_fits(icc, "RGB" if kind == "WEBP" else mode) and kind != "BMP"
        if not fits or (kind == "JPEG" and len(icc) > _LARGEST_JPEG_PROFILE):
            notes.append(Note("note.icc_dropped", f"the colour profile does not go into this {kind} and is left out"))
            icc = None
    if exif and kind == "BMP":
        notes.append(Note("note.exif_dropped", "BMP holds no EXIF: it is left out"))
        exif = None
    if exif:
        try:
            exif = metadata.resize_exif(exif, pixels.shape[1], pixels.shape[0])
        except (ValueError, struct.error):
            notes.append(Note("note.exif_damaged", "the EXIF block is damaged and is left out"))
            exif = None
    return icc or None, exif or None


def _encode(
    stream: BinaryIO,
    pixels: np.ndarray,
    mode: str,
    kind: str,
    icc: Optional[bytes],
    exif: Optional[bytes],
    options: Tuple[int, int],
    notes: List[Note],
) -> None:
    quality, compression = options
    if kind == "PNG":
        encoders.png(stream, pixels, mode, icc, exif, compression)
    elif kind == "TIFF":
        encoders.tiff(stream, pixels, mode, icc, exif, compression)
    elif kind == "WEBP":
        encoders.webp(stream, pixels, mode, icc, exif, quality)
    elif kind == "BMP":
        encoders.bmp(stream, pixels)
    elif not encoders.jpeg(stream, pixels, icc, exif, quality):
        notes.append(Note("note.exif_dropped", "the EXIF block is larger than JPEG takes (64 kB) and is left out"))
