"""Files in, files out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import lazy_door

if TYPE_CHECKING:
    from .options import BatchOptions, BatchResult, Event, Upscaler

__all__ = ["BatchOptions", "BatchResult", "Event", "Upscaler"]

__getattr__, __dir__ = lazy_door(
    __name__, {"BatchOptions": "options", "BatchResult": "options", "Event": "options", "Upscaler": "options"}
)
