"""The registry of backends: one file and one row each, in the order in which ``auto`` uses them."""

from __future__ import annotations

from .base import BACKENDS
from .cpu import CPU
from .cuda import CUDA
from .directml import DirectML
from .mps import MPS
from .vulkan import Vulkan
from .xpu import XPU

__all__ = ["BACKENDS"]

for _row in (
    DirectML(),
    CUDA(),
    XPU(),
    MPS(),
    Vulkan(),
    CPU(),
):
    BACKENDS[_row.name] = _row
