"""What can go wrong with a video."""

from __future__ import annotations

import errno
from typing import Any, Optional

from ..errors import RealESRGANError

__all__ = ["VideoError", "disk_error", "reason_of"]

_DISK = {errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}


class VideoError(RealESRGANError):
    """A video cannot be read or written. ``fields`` as the code's sentence names them."""

    default_code = "video"


def reason_of(error: BaseException) -> str:
    """What an error of PyAV or of the system says, in one line."""
    told = getattr(error, "strerror", None)
    if isinstance(told, str) and told:
        return told
    return " ".join(str(error).split()) or type(error).__name__


def disk_error(error: BaseException, path: Any) -> Optional[VideoError]:
    """The error to raise if ``error`` means that the disk takes no more, else None."""
    if isinstance(error, OSError) and error.errno in _DISK:
        return VideoError(
            f"{path} cannot be written: {reason_of(error)}. What is finished is kept: make room on the disk and start "
            "the same command again; it goes on from there.",
            code="video.disk",
            path=str(path),
            reason=reason_of(error),
        )
    return None
