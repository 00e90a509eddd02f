"""The command line: flags, lines and bars, messages in English and Korean, exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import lazy_door

if TYPE_CHECKING:
    from .commands import main

__all__ = ["main"]

__getattr__, __dir__ = lazy_door(__name__, {"commands": __all__})
