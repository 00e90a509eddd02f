"""``realesrgan doctor``: what this machine can do, what is missing, and the next step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import lazy_door

if TYPE_CHECKING:
    from .command import BROKEN, LIMITS, READY, diagnose, main, report

__all__ = ["BROKEN", "LIMITS", "READY", "diagnose", "main", "report"]

__getattr__, __dir__ = lazy_door(__name__, {"command": __all__})
