"""Read a picture file: everything that can be wrong with it becomes a :class:`PictureError`."""

from __future__ import annotations

import errno
import os
import stat
import struct
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Callable, List, Optional, Tuple

import cv2
import numpy as np

from ..errors import Phrase
from . import metadata
from .decoding import decode, quiet, stoppable
from .paths import PathLike, openable
from .picture import MAX_PIXELS, Decoded, Note, PictureFile, Refused, failure, os_failure
from .profiles import icc_fits

__all__ = ["read"]

#: Bytes that a file may have beyond eight a pixel: metadata, thumbnails, further frames.
_SLACK = 1 << 26
_TURNS = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}


def read(
    path: PathLike,
    *,
    max_pixels: int = MAX_PIXELS,
    accept_truncated: bool = False,
    stopped: Optional[Callable[[], bool]] = None,
) -> PictureFile:
    """Decode one picture file by its content, whatever its suffix.

    Depth and channels are the file's: 16 bit stay 16, palettes become RGB or RGBA, 1-bit and 2/4-bit grey become
    8-bit grey, CMYK and Lab become sRGB (through the file's profile if it has one). Of several frames or pages the
    first is read, with a note. The orientation that EXIF or XMP names is applied. Floating point and 32 bit become 16
    bit, with a note.

    Args:
        max_pixels: Larger pictures are refused from their header, before anything is decoded.
        accept_truncated: Accept a JPEG that is cut short, with a note; what is missing is grey.
        stopped: Asked now and then; once it is true, reading ends with an error (after Ctrl-C, say).

    Raises:
        PictureError: Always this, with the fields ``path`` and ``reason``: the file is missing, no regular file, not
            readable, empty, of no known format, damaged, truncated, too large or of a kind that is not supported.
    """
    data = _load(path, max_pixels)
    try:
        with quiet(), stoppable(stopped):
            decoded = decode(data, max_pixels, PurePath(path).suffix.lower(), accept_truncated)
            return _finish(decoded)
    except Refused as refused:
        raise failure(path, refused.code, str(refused), **refused.fields) from refused.__cause__
    except MemoryError as error:
        raise failure(path, "picture.memory", "there is not enough memory to decode it") from error
    except Exception as error:
        # Decoders of hostile input raise whatever they like: struct.error, SyntaxError, IndexError, cv2.error ...
        raise failure(path, "picture.damaged", "the file is damaged", detail=error) from error


def _load(path: PathLike, max_pixels: int) -> bytes:
    try:
        # Not blocking: opening a pipe without a writer would wait for ever.
        descriptor = os.open(openable(path), os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            _check_kind(path, os.fstat(descriptor), max_pixels)
            with open(descriptor, "rb", closefd=False) as stream:
                data = stream.read()
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EACCES and Path(openable(path)).is_dir():  # what Windows says of a folder
            raise failure(path, "picture.directory", "it is a folder, not a picture") from error
        raise os_failure(path, error, "read") from error
    except ValueError as error:  # a NUL character in the name
        reason = Phrase("picture.not_a_path", "this is not a path")
        raise failure(path, "picture.missing", reason) from error
    except MemoryError as error:
        raise failure(path, "picture.memory", "there is not enough memory to read it") from error
    if not data:
        raise failure(path, "picture.empty", "the file is empty")
    return data


def _check_kind(path: PathLike, status: os.stat_result, max_pixels: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise failure(path, "picture.directory", "it is a folder, not a picture")
    if not stat.S_ISREG(status.st_mode):
        raise failure(path, "picture.not_a_file", "it is a device or a pipe, not a file")
    if status.st_size > max_pixels * 8 + _SLACK:
        reason = f"the file has {status.st_size} bytes, more than any picture of {max_pixels} pixels needs"
        raise failure(path, "picture.file_size", reason, bytes=status.st_size, limit=max_pixels)


def _finish(decoded: Decoded) -> PictureFile:
    """Turn the picture upright, and bring its metadata in order."""
    found = decoded.metadata
    notes, lost = list(decoded.notes), list(decoded.lost)
    exif, orientation = _exif(found.exif, notes, lost)
    xmp = found.xmp
    if xmp and len(xmp) > metadata.LIMIT:
        lost.append("XMP")
        xmp = None
    orientation = decoded.orientation or orientation or (metadata.xmp_orientation(xmp) if xmp else 1)
    pixels = np.ascontiguousarray(_upright(decoded.pixels, orientation))
    size = (pixels.shape[1], pixels.shape[0])
    icc, color = (None, None) if decoded.converted else (found.icc, found.color)
    if icc and not icc_fits(icc, decoded.mode):
        notes.append(Note("note.icc_dropped", "its colour profile does not fit its pixels and is left out"))
        icc = None
    if lost:
        what = ", ".join(dict.fromkeys(lost))
        notes.append(Note("note.lost", f"damaged or too large, and left out in whole or in part: {what}", what=what))
    xmp = metadata.fit_xmp(xmp, size, size) if xmp else None
    kept = replace(found, icc=icc or None, exif=exif, xmp=xmp, color=color, size=size)
    return PictureFile(pixels, decoded.mode, decoded.format, kept, tuple(notes))


def _exif(raw: Optional[bytes], notes: List[Note], lost: List[str]) -> Tuple[Optional[bytes], int]:
    """The block in order, and the orientation that it names, 0 where it names none."""
    for _ in range(2):  # some programs put the prefix twice
        raw = raw[6:] if raw and raw.startswith(b"Exif\0\0") else raw
    if not raw:
        return None, 0
    try:
        exif, orientation, whole = metadata.clean_exif(raw)
    except (ValueError, struct.error):
        notes.append(Note("note.exif_damaged", "its EXIF block is damaged or too large and is left out"))
        return None, 0
    lost += [] if whole else ["EXIF"]
    return exif, orientation


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror as EXIF says (1 to 8)."""
    if orientation in _TURNS:
        return cv2.rotate(pixels, _TURNS[orientation])
    if orientation == 2:
        return pixels[:, ::-1]
    if orientation == 4:
        return pixels[::-1]
    if orientation == 5:
        return pixels.swapaxes(0, 1)
    if orientation == 7:
        return pixels[::-1, ::-1].swapaxes(0, 1)
    return pixels
