"""The only module that imports PyAV: what differs between its versions, and what its errors say."""

from __future__ import annotations

import errno
import importlib
import logging
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from ..errors import Phrase, RealESRGANError, as_field, notice, one_line
from ..files.atomic import HeldOpen, ReadOnly
from ..files.paths import shown

__all__ = [
    "FILE_ERRORS",
    "FULL_RANGE",
    "LIMITED_RANGE",
    "UNKNOWN",
    "VideoError",
    "add_copy",
    "can_encode",
    "disk_error",
    "get_chapters",
    "load",
    "open_input",
    "reason_of",
    "say_without_chapters",
    "set_chapters",
    "set_time_base",
]

logger = logging.getLogger(__name__)

#: Versions that fit: 12 is the last one for Python 3.8; 13 to 14.1 cannot copy every stream.
FITTING = "12, or 14.2 and newer"
#: What PyAV raises when a file is damaged or cannot be written: its own errors are OSError or ValueError, too.
FILE_ERRORS = (OSError, ValueError, EOFError, RuntimeError, LookupError, OverflowError)
_MISTAKES = (LookupError, TypeError, AttributeError, ArithmeticError)

#: FFmpeg's numbers for "not said", and for the two ranges of values.
UNKNOWN = 2
LIMITED_RANGE, FULL_RANGE = 1, 2
_DISK = {errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}


class VideoError(RealESRGANError):
    """A video cannot be read or written. ``fields`` as the code's sentence names them."""

    default_code = "video"


def reason_of(error: BaseException) -> Phrase:
    """What an error of PyAV or of the system says, in one line; not what Python says of a mistake inside PyAV."""
    if isinstance(error, _MISTAKES) and not getattr(error, "strerror", None):
        logger.debug("PyAV: %s: %s", type(error).__name__, error)
        return Phrase("video.not_handled", "this version of PyAV cannot handle it")
    reason: Phrase = as_field(error)
    return reason


def disk_error(error: BaseException, path: Any) -> Optional[VideoError]:
    """The error to raise if ``error`` means that the disk is full or the target cannot be replaced, else None."""
    if isinstance(error, HeldOpen):
        return VideoError(
            f"{shown(path)} cannot be replaced: another program, perhaps a player, holds it open. Close it there and "
            "start the same command again; what is finished is kept.",
            code="video.held",
            path=shown(path),
        )
    if isinstance(error, ReadOnly):
        return VideoError(
            f"{shown(path)} cannot be replaced: it is read-only. Change that, or give another folder with -o.",
            code="video.read_only",
            path=shown(path),
        )
    if isinstance(error, OSError) and error.errno in _DISK:
        return VideoError(
            f"{path} cannot be written: {reason_of(error)}. What is finished is kept: make room on the disk and start "
            "the same command again; it goes on from there.",
            code="video.disk",
            path=str(path),
            reason=reason_of(error),
        )
    return None


def load() -> Any:
    """The module ``av``.

    Raises:
        VideoError: It is missing, cannot be imported, or is too old.
    """
    try:
        av: Any = importlib.import_module("av")
    except (ImportError, OSError) as error:
        reason = Phrase("quote", f"{type(error).__name__}: {one_line(error)}")
        raise VideoError(
            f"Videos need PyAV, which cannot be imported here ({reason}). Install it with: python -m pip install av",
            code="video.no_av",
            reason=reason,
        ) from error
    version = str(getattr(av, "__version__", "0"))
    major, minor = (int(part) for part in f"{version}.0".split(".")[:2])
    if major != 12 and (major, minor) < (14, 2):
        raise VideoError(
            f"PyAV {version} is not supported; {FITTING} are: python -m pip install --upgrade av",
            code="video.old_av",
            version=version,
            fitting=FITTING,
        )
    return av


def open_input(path: Path) -> Any:
    """A file, opened for reading; titles that are no UTF-8 do not stop it.

    Raises:
        One of ``FILE_ERRORS``.
    """
    av = load()
    # Since PyAV 19 it is not asked: such titles are always read.
    lenient = {} if int(str(av.__version__).split(".")[0]) >= 19 else {"metadata_errors": "replace"}
    return av.open(str(path), **lenient)


def can_encode(encoder: str) -> bool:
    """Whether this PyAV contains an encoder of that name."""
    try:
        load().Codec(encoder, "w")
    except ValueError:  # UnknownCodecError
        return False
    return True


def add_copy(container: Any, template: Any) -> Any:
    """A stream in ``container`` that accepts the packets of the stream ``template`` as they are.

    Raises:
        One of ``FILE_ERRORS``, TypeError or AttributeError: The container, or this PyAV, cannot store it.
    """
    if hasattr(container, "add_stream_from_template"):
        # Since PyAV 14.2; without it a codec that can be read but not written is refused.
        newer = {"opaque": True} if hasattr(template, "disposition") else {}
        stream = container.add_stream_from_template(template, **newer)
    else:
        stream = container.add_stream(template=template)
    stream.metadata.update(template.metadata)
    try:
        stream.disposition = template.disposition
    except (AttributeError, TypeError):  # before PyAV 14.2 it cannot be set
        pass
    return stream


def set_time_base(stream: Any, time_base: Fraction) -> None:
    """Set the ticks that the packets of a stream in a file being written are counted in."""
    with warnings.catch_warnings():
        # PyAV 12 sets the same of the codec, too, and warns that a copied stream has no use for that.
        warnings.filterwarnings("ignore", message=r"Using CodecContext\.time_base for decoders")
        stream.time_base = time_base


def get_chapters(container: Any) -> List[Dict[str, Any]]:
    """The chapters of an open file; none where this PyAV cannot know (before 14)."""
    ask = getattr(container, "chapters", None)
    return list(ask()) if ask is not None else []


def set_chapters(container: Any, chapters: Sequence[Dict[str, Any]]) -> None:
    """Give chapters to a file that is being written, before its first packet; nothing where this PyAV cannot."""
    if chapters and hasattr(container, "set_chapters"):
        container.set_chapters(list(chapters))


def say_without_chapters(source: Any) -> None:
    """Say it where this PyAV cannot carry the chapters of an open file, or cannot know whether it has any."""
    if hasattr(load().container.OutputContainer, "set_chapters"):
        return
    if hasattr(source, "chapters") and not source.chapters():
        return
    notice(
        logger,
        "video.chapters",
        "This version of PyAV cannot carry chapters: if the file has any, they are left out. PyAV 16 or newer "
        "(Python 3.10 or newer) carries them.",
    )
