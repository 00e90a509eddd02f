"""Which Windows the tests run on: Microsoft's, or Wine, whose own gaps are no faults of the project."""

from __future__ import annotations

import os

__all__ = ["ON_WINE"]


def _is_wine() -> bool:
    if os.name != "nt":
        return False
    import ctypes

    return hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")  # type: ignore[attr-defined,unused-ignore]


#: Whether this is Wine.
ON_WINE = _is_wine()
