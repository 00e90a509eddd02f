"""What the errors of devices mean."""

from __future__ import annotations

import re

__all__ = ["classify"]

_OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough GPU video memory available|-2147024882|8007000E|not enough memory: you tried|"
    r"can't allocate memory|STATUS_ALLOC_FAILED|UR_RESULT_ERROR_OUT_OF",
    re.IGNORECASE,
)
_LOST = re.compile(
    r"-2005270522|-2005270523|-2147467259|GPU device instance has been suspended|GetDeviceRemovedReason|887A000[5-7]|"
    r"CUDA error: (?:unspecified launch failure|an illegal memory access|device-side assert|unknown error)|"
    r"device (?:was )?(?:removed|lost|hung)",
    re.IGNORECASE,
)


def classify(error: BaseException) -> str:
    """What an exception from a device means: ``"memory"``, ``"lost"`` or ``"other"``."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "memory"
    if not isinstance(error, Exception):
        return "other"
    text = str(error)
    if _LOST.search(text):
        return "lost"
    return "memory" if _OUT_OF_MEMORY.search(text) else "other"
