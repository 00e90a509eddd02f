"""What a picture file contains, and the words and limits that reading and writing share."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import Any, List, Optional, Tuple

import numpy as np

from ..errors import Phrase, PictureError, as_field, aside, one_line
from .atomic import HeldOpen, ReadOnly
from .metadata import Metadata
from .paths import PathLike, shown, too_long

__all__ = [
    "BAD_HEADER",
    "MAX_PIXELS",
    "NO_HEADER",
    "NO_PIXELS",
    "NO_SIZE",
    "UNDECODABLE",
    "Decoded",
    "Note",
    "PictureFile",
    "Refused",
    "check_bytes",
    "check_size",
    "damaged",
    "failure",
    "os_failure",
    "truncated",
    "unsupported",
]

#: The largest picture that is read unless the caller says otherwise, in pixels (16384 x 16384).
MAX_PIXELS = 1 << 28

#: One sentence about what was left out or changed in a picture.
Note = Phrase

NO_HEADER = Phrase("damaged.no_header", "no header")
BAD_HEADER = Phrase("damaged.header", "a header with impossible values")
NO_PIXELS = Phrase("damaged.no_pixels", "no pixels")
UNDECODABLE = Phrase("damaged.pixels", "its pixels cannot be decoded")
NO_SIZE = Phrase("truncated.size", "its size is missing")


@dataclass(frozen=True)
class PictureFile:
    """A decoded picture file.

    Attributes:
        pixels: HxW grey, HxWx3 BGR or HxWx4 BGRA; uint8 0..255 or uint16 0..65535; upright (EXIF orientation is
            applied); contiguous. Grey with alpha is BGRA with B=G=R.
        mode: ``L``, ``LA``, ``RGB`` or ``RGBA``.
        format: ``PNG``, ``JPEG``, ``WEBP``, ``BMP``, ``TIFF``, ``GIF``, ``AVIF``, ``HEIF``, ``PNM``, ``PFM``,
            ``JPEG2000``, ``HDR``, ``TGA`` or ``DDS``.
        metadata: What the file contains beside its pixels, of the picture as delivered.
        notes: What the user should know (:class:`Note`), such as that only the first frame was read.
    """

    pixels: np.ndarray
    mode: str
    format: str
    metadata: Metadata = field(default_factory=Metadata)
    notes: Tuple[str, ...] = ()

    @property
    def icc(self) -> Optional[bytes]:
        """The ICC profile of the pixels."""
        return self.metadata.icc

    @property
    def exif(self) -> Optional[bytes]:
        """The EXIF block: TIFF-structured, without prefix."""
        return self.metadata.exif


def failure(path: PathLike, code: str, reason: str, *, detail: Any = "", **fields: Any) -> PictureError:
    """The error for one file: ``<path>: <reason> (<detail>).`` with the fields ``path``, ``reason`` and ``detail``.

    Args:
        detail: What exactly is wrong: an error or a :class:`~realesrgan.errors.Phrase`.
    """
    name, detail = shown(path), aside(detail)
    return PictureError(f"{name}: {reason}{detail}.", code=code, path=name, reason=reason, detail=detail, **fields)


class Refused(Exception):
    """Why bytes cannot become a picture; the reader adds the file's name."""

    def __init__(self, code: str, reason: str, **fields: Any) -> None:
        super().__init__(reason)
        self.code = code
        self.fields = fields


@dataclass
class Decoded:
    """Pixels as they lie in the file, before orientation; otherwise as in :class:`PictureFile`.

    Attributes:
        metadata: As it lies in the file.
        converted: Whether the pixels were brought to sRGB, so that a profile of the file does not apply any more.
        orientation: 1 to 8 where the format keeps it outside the EXIF block, else None.
        lost: Kinds of metadata that were damaged or too large.
    """

    pixels: np.ndarray
    mode: str
    format: str
    converted: bool = False
    metadata: Metadata = field(default_factory=Metadata)
    orientation: Optional[int] = None
    lost: List[str] = field(default_factory=list)
    notes: List[Note] = field(default_factory=list)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture without pixels or with more than ``max_pixels``."""
    if width < 1 or height < 1:
        size = f"{width}x{height}"
        raise damaged(Phrase("damaged.size", f"a size of {size}", size=size))
    if width * height > max_pixels:
        raise Refused(
            "picture.too_large",
            f"{width}x{height} is {width * height} pixels, the limit is {max_pixels}; raise --max-pixels to read it",
            width=width,
            height=height,
            limit=max_pixels,
        )


def check_bytes(found: int, expected: int) -> None:
    """Refuse a picture with fewer bytes of pixels than its size needs."""
    if found < expected:
        told = f"{found} of {expected} bytes of pixels"
        raise truncated(Phrase("truncated.pixels", told, found=found, expected=expected))


def unsupported(kind: str) -> Refused:
    """The refusal of pixels of a kind that no decoder here reads, or whose range would be a guess."""
    reason = f"{kind} is not supported; save it as 8 or 16 bit"
    return Refused("picture.unsupported", reason, kind=kind)


def damaged(detail: Any) -> Refused:
    """The refusal of a file whose bytes contradict its format, with what is wrong: an error or a Phrase."""
    return Refused("picture.damaged", "the file is damaged", detail=detail)


def truncated(detail: Optional[Phrase] = None) -> Refused:
    """The refusal of a file that ends too early, with how much is missing."""
    detail = detail or Phrase("truncated.end", "its end is missing")
    return Refused("picture.truncated", "the file is truncated", detail=detail)


_OS_REASONS = {
    errno.ENOENT: ("picture.missing", "the file does not exist"),
    errno.ENOTDIR: ("picture.missing", "a part of its path is a file, not a folder"),
    errno.EACCES: ("picture.permission", "no permission, or another program holds it open"),
    errno.EPERM: ("picture.permission", "no permission, or another program holds it open"),
    errno.EROFS: ("picture.read_only", "the disk is read-only"),
    errno.EISDIR: ("picture.directory", "a folder has this name"),
    errno.EEXIST: ("picture.missing", "a file has the name of its folder"),
    errno.ENOSPC: ("picture.disk_full", "the disk is full; free some space or give another output folder"),
    errno.EFBIG: ("picture.disk_full", "the file would be larger than the disk or a limit allows"),
    errno.ENAMETOOLONG: ("picture.name_length", "the name is too long for the file system"),
    errno.ELOOP: ("picture.link_loop", "its links lead in a circle"),
}
if hasattr(errno, "EDQUOT"):
    _OS_REASONS[errno.EDQUOT] = ("picture.disk_full", "the disk quota is used up; free some space")


#: Windows' own numbers for "name too long" and "name or path wrong".
_TOO_LONG = (111, 123, 206)


def os_failure(path: PathLike, error: OSError, doing: str) -> PictureError:
    """The error for one file that the operating system would not let us ``doing`` (``read`` or ``write``)."""
    length = _length_refused(path, error, doing)
    if length is not None:
        told = f"cannot {doing}: the path is too long for Windows ({length} characters)"
        return failure(path, "picture.path_length", told, length=length)
    code, reason = _OS_REASONS.get(
        error.errno or 0, ("picture.read" if doing == "read" else "picture.write", one_line(error))
    )
    if isinstance(error, HeldOpen):
        code, reason = "picture.held", "another program holds the file open; close it there, or give another folder"
    elif isinstance(error, ReadOnly):
        code, reason = "picture.target_read_only", "the file is read-only; change that, or give another folder"
    if code == "picture.missing" and os.path.islink(path):  # noqa: PTH114 - accepts any kind of path
        code, reason = "picture.dangling", "it is a link, and what it points to does not exist"
    told = Phrase(getattr(as_field(error), "code", "quote"), f"cannot {doing}: {reason}")
    return failure(path, code, told, errno=error.errno)


def _length_refused(path: PathLike, error: OSError, doing: str) -> Optional[int]:
    """The length of a path where that is why Windows refused it: for a file to be written "missing" means so too."""
    names = (errno.ENOENT, errno.EINVAL, errno.ENAMETOOLONG)
    if error.errno in names and (doing == "write" or getattr(error, "winerror", 0) in _TOO_LONG):
        return too_long(path)
    return None
