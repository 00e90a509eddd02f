"""Weights: the table of models, finding, fetching, verifying and reading them without running code from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import lazy_door

if TYPE_CHECKING:
    from .loading import SOURCES, Weights, assign, fetch_all, interpolate, load, load_mixed

__all__ = ["SOURCES", "Weights", "assign", "fetch_all", "interpolate", "load", "load_mixed"]

__getattr__, __dir__ = lazy_door(__name__, {"loading": __all__})
