"""What a picture file holds, and the words and limits that reading and writing share."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import Any, List, Optional, Tuple

import numpy as np

from ..errors import PictureError
from .naming import PathLike

__all__ = [
    "MAX_PIXELS",
    "Decoded",
    "Note",
    "PictureFile",
    "Refused",
    "check_size",
    "failure",
    "os_failure",
    "unsupported",
]

#: The largest picture that is read unless the caller says otherwise, in pixels (16384 x 16384).
MAX_PIXELS = 1 << 28


class Note(str):
    """One sentence about what was left out or changed, with a code and fields by which it can be translated."""

    code: str
    fields: dict

    def __new__(cls, code: str, text: str, **fields: Any) -> Note:
        note = super().__new__(cls, text)
        note.code = code
        note.fields = fields
        return note

    def __reduce__(self) -> Tuple[Any, ...]:
        return _make_note, (self.code, str(self), self.fields)


def _make_note(code: str, text: str, fields: dict) -> Note:
    return Note(code, text, **fields)


@dataclass(frozen=True)
class PictureFile:
    """A decoded picture file.

    Attributes:
        pixels: HxW grey, HxWx3 BGR or HxWx4 BGRA; uint8 0..255 or uint16 0..65535; upright (EXIF orientation is
            applied); contiguous. Grey with alpha is BGRA with B=G=R.
        mode: ``L``, ``LA``, ``RGB`` or ``RGBA``.
        format: ``PNG``, ``JPEG``, ``WEBP``, ``BMP``, ``TIFF``, ``GIF``, ``AVIF`` or ``HEIF``.
        icc: The profile of the pixels as delivered; None means sRGB.
        exif: A TIFF-structured block without prefix, its orientation set to 1.
        notes: What the user should know (:class:`Note`), such as that only the first frame was read.
    """

    pixels: np.ndarray
    mode: str
    format: str
    icc: Optional[bytes] = None
    exif: Optional[bytes] = None
    notes: Tuple[str, ...] = ()


def failure(path: PathLike, code: str, reason: str, **fields: Any) -> PictureError:
    """The error for one file: ``<path>: <reason>.`` with the fields ``path`` and ``reason``."""
    name = os.fspath(path)
    return PictureError(f"{name}: {reason}.", code=code, path=name, reason=reason, **fields)


class Refused(Exception):
    """Why the bytes at hand cannot become a picture; the reader adds the file's name."""

    def __init__(self, code: str, reason: str, **fields: Any) -> None:
        super().__init__(reason)
        self.code = code
        self.fields = fields


@dataclass
class Decoded:
    """Pixels as they lie in the file, before orientation; otherwise as in :class:`PictureFile`.

    Attributes:
        orientation: 1 to 8 where the format keeps it outside the EXIF block, else None.
    """

    pixels: np.ndarray
    mode: str
    format: str
    icc: Optional[bytes] = None
    exif: Optional[bytes] = None
    orientation: Optional[int] = None
    notes: List[Note] = field(default_factory=list)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture without pixels or with more than ``max_pixels``."""
    if width < 1 or height < 1:
        raise Refused("picture.damaged", f"the file is damaged (a size of {width}x{height})")
    if width * height > max_pixels:
        raise Refused(
            "picture.too_large",
            f"{width}x{height} is {width * height} pixels, the limit is {max_pixels}; raise --max-pixels to read it",
            width=width,
            height=height,
            limit=max_pixels,
        )


def unsupported(kind: str) -> Refused:
    """The refusal of pixels that are neither 8 nor 16 bit: their range would be a guess."""
    reason = f"its pixels are of a kind that is not supported ({kind}); save it as 8 or 16 bit"
    return Refused("picture.unsupported", reason, kind=kind)


_OS_REASONS = {
    errno.ENOENT: ("picture.missing", "the file is not there"),
    errno.ENOTDIR: ("picture.missing", "a part of its path is a file, not a folder"),
    errno.EACCES: ("picture.permission", "no permission, or another program holds it open"),
    errno.EPERM: ("picture.permission", "no permission, or another program holds it open"),
    errno.EROFS: ("picture.read_only", "the disk is read-only"),
    errno.EISDIR: ("picture.directory", "a folder has this name"),
    errno.EEXIST: ("picture.missing", "a file stands where its folder should be"),
    errno.ENOSPC: ("picture.disk_full", "the disk is full; free some space or give another output folder"),
    errno.EFBIG: ("picture.disk_full", "the file would be larger than the disk or a limit allows"),
    errno.ENAMETOOLONG: ("picture.name_length", "the name is too long for the file system"),
    errno.ELOOP: ("picture.link_loop", "its links lead in a circle"),
}
if hasattr(errno, "EDQUOT"):
    _OS_REASONS[errno.EDQUOT] = ("picture.disk_full", "the disk quota is used up; free some space")


def os_failure(path: PathLike, error: OSError, doing: str) -> PictureError:
    """The error for one file that the operating system would not let us ``doing`` (``read`` or ``write``)."""
    code, reason = _OS_REASONS.get(error.errno or 0, (f"picture.{doing}", error.strerror or str(error)))
    if code == "picture.missing" and os.path.islink(path):  # noqa: PTH114 - takes any kind of path
        code, reason = "picture.dangling", "it is a link, and what it points to is not there"
    return failure(path, code, f"cannot {doing}: {reason}", errno=error.errno)
