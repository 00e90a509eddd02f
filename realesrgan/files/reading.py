"""Read a picture file: everything that can be wrong with it becomes a :class:`PictureError`."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path
from typing import Optional, Tuple

import cv2
import numpy as np

from ..errors import Phrase
from . import metadata
from .decoding import decode, quiet
from .paths import PathLike, openable
from .picture import MAX_PIXELS, Decoded, Note, PictureFile, Refused, failure, os_failure

__all__ = ["read"]

#: Bytes that a file may have beyond eight a pixel: metadata, thumbnails, further frames.
_SLACK = 1 << 28
_TURNS = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}


def read(path: PathLike, *, max_pixels: int = MAX_PIXELS) -> PictureFile:
    """Decode one picture file by its content, whatever its suffix.

    Depth and channels are the file's: 16 bit stay 16, palettes become RGB or RGBA, 1-bit and 2/4-bit grey become
    8-bit grey, CMYK and Lab become sRGB (through the file's profile if it has one). Of several frames or pages the
    first is read, with a note. EXIF orientation is applied.

    Args:
        max_pixels: Larger pictures are refused from their header, before anything is decoded.

    Raises:
        PictureError: Always this, with the fields ``path`` and ``reason``: the file is missing, no regular file, not
            readable, empty, of no known format, damaged, truncated, too large or of a kind that is not supported.
    """
    data = _load(path, max_pixels)
    try:
        with quiet():
            decoded = decode(data, max_pixels)
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
        # Not blocking: opening a pipe that nobody writes to would wait for ever.
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
    notes = list(decoded.notes)
    exif, orientation = _exif(decoded.exif, notes)
    pixels = np.ascontiguousarray(_upright(decoded.pixels, decoded.orientation or orientation))
    icc = decoded.icc
    if icc and not metadata.icc_fits(icc, decoded.mode):
        notes.append(Note("note.icc_dropped", "its colour profile does not fit its pixels and is left out"))
        icc = None
    return PictureFile(pixels, decoded.mode, decoded.format, icc or None, exif, tuple(notes))


def _exif(raw: Optional[bytes], notes: list) -> Tuple[Optional[bytes], int]:
    while raw and raw.startswith(b"Exif\0\0"):
        raw = raw[6:]
    if not raw:
        return None, 1
    try:
        return metadata.reset_orientation(raw)
    except (ValueError, struct.error):
        notes.append(Note("note.exif_damaged", "its EXIF block is damaged and is left out"))
        return None, 1


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
