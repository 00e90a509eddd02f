"""``realesrgan tune``: which tile and which precision are quickest on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import lazy_door

if TYPE_CHECKING:
    from .command import Tuning, best, main

__all__ = ["Tuning", "best", "main"]

__getattr__, __dir__ = lazy_door(__name__, {"command": __all__})
