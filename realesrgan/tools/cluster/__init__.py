"""``realesrgan cluster``: pictures on many machines, through Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import lazy_door

if TYPE_CHECKING:
    from .command import main

__all__ = ["main"]

__getattr__, __dir__ = lazy_door(__name__, {"command": __all__})
