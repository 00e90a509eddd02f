"""Errors and notices that reach a user.

Every error carries a ``code`` and the ``fields`` of its sentence, so that a program can act on it and
:mod:`realesrgan.cli.messages` can say it in the user's language. ``str(error)`` is the English sentence: what happened,
which value, what is allowed, and the next step.
"""

from __future__ import annotations

import logging
from typing import Any, Optional

__all__ = [
    "DeviceError",
    "DeviceLostError",
    "DeviceOutOfMemoryError",
    "InputError",
    "PictureError",
    "RealESRGANError",
    "TileError",
    "WeightsError",
    "notice",
]


class RealESRGANError(RuntimeError):
    """Base of all errors of this package.

    Args:
        message: The English sentence.
        code: A short dotted identifier, for example ``"weights.hash"``. Defaults to the class's own.
        **fields: The values that the sentence names, by name (plain values: str, int, float, tuples of them).
    """

    default_code = "error"

    def __init__(self, message: str, *, code: Optional[str] = None, **fields: Any) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.fields = fields


class InputError(RealESRGANError, ValueError):
    """An argument or an array is not what the call takes."""

    default_code = "input"


class PictureError(RealESRGANError):
    """A picture file cannot be read or written. ``fields``: ``path``, ``reason``."""

    default_code = "picture"


class WeightsError(RealESRGANError):
    """Weights cannot be found, fetched, verified or loaded."""

    default_code = "weights"


class DeviceError(RealESRGANError):
    """A device that was asked for is missing, refused or unusable."""

    default_code = "device"


class DeviceOutOfMemoryError(DeviceError):
    """The device's memory does not suffice even for the smallest tile. ``fields``: ``tried`` (tile sizes)."""

    default_code = "device.memory"


class DeviceLostError(DeviceError):
    """The device was removed or reset; this process cannot use it any more."""

    default_code = "device.lost"


class TileError(RealESRGANError):
    """The network failed on one tile for a reason other than memory. ``__cause__`` is the original error."""

    default_code = "tile"


def notice(logger: logging.Logger, code: str, message: str, *, level: int = logging.WARNING, **fields: Any) -> None:
    """Say one line to the user through ``logger``.

    The record gets the attributes ``notice_code`` and ``notice_fields``, by which a handler can translate it.
    """
    logger.log(level, message, extra={"notice_code": code, "notice_fields": fields})
