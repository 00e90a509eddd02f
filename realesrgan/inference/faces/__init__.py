"""Faces restored by GFPGAN in a picture that is enlarged by our network. The only importers of gfpgan and facexlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import lazy_door

if TYPE_CHECKING:
    from .enhancer import FaceEnhancer

__all__ = ["FaceEnhancer"]

__getattr__, __dir__ = lazy_door(__name__, {"enhancer": __all__})
