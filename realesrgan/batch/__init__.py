"""Files in, files out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import lazy_door

if TYPE_CHECKING:
    from .plan import BatchOptions
    from .run import BatchResult, Event
    from .steps import Upscaler

__all__ = ["BatchOptions", "BatchResult", "Event", "Upscaler"]

__getattr__, __dir__ = lazy_door(
    __name__, {"plan": ["BatchOptions"], "run": ["BatchResult", "Event"], "steps": ["Upscaler"]}
)
