"""A picture through a network: arrays in, enlarged arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import lazy_door

if TYPE_CHECKING:
    from .engine import RunRecord
    from .upsampler import RealESRGANer

__all__ = ["RealESRGANer", "RunRecord"]

__getattr__, __dir__ = lazy_door(__name__, {"upsampler": ["RealESRGANer"], "engine": ["RunRecord"]})
