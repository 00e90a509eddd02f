"""The processor, through PyTorch: always available, and what other devices are compared with."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any, List, Optional

from ..archs.structure import Structure
from .base import Backend, Capabilities, Device, torch

__all__ = ["CPU", "HOST"]


class CPU(Backend):
    """See the module."""

    name = "cpu"
    label = "CPU"
    spelling = "cpu"
    capabilities = Capabilities(
        half=False, channels_last=True, compiles=True, band_rows=48, planes=True, whole_pictures=False
    )
    out_of_memory = re.compile(r"not enough memory: you tried|can't allocate memory", re.IGNORECASE)
    is_host = True
    spills = False

    def find(self) -> List[Device]:
        return [Device(self.name, 0, _processor_name())]

    def torch_device(self, device: Device) -> Any:
        return torch().device(self.name)

    def weight_bytes(self, structure: Structure, half: bool) -> int:
        # In planes an RRDBNet's weights are there as they came, and in the form that is multiplied, twice as large.
        return super().weight_bytes(structure, half) * (3 if self._in_planes(structure) else 1)

    def tile_bytes(self, structure: Structure, height: int, width: int, half: bool, rows: Optional[int] = None) -> int:
        rows = rows or self.capabilities.band_rows
        weights, element = self.weight_bytes(structure, half), 2 if half else 4
        workspace = 16 * 2**20  # what convolutions and the allocator take beside the tensors, as measured
        live = structure.live(height, width, rows)
        if self._in_planes(structure):
            features, growth = structure.features, structure.growth
            # The dense block's channels, half as large again; three feature maps and what a convolution adds.
            trunk = (features + 4 * growth) * 3 // 2 + 3 * features + growth
            pixels = structure.pixels(height, width)
            live = max(trunk * pixels, structure.last_live(height, width, rows))
            workspace += 24 * 2**20  # products and rows of a part
        return weights + element * live + workspace

    def usual_tile(self, structure: Structure) -> Optional[int]:
        return structure.row.processor_tile

    def _in_planes(self, structure: Structure) -> bool:
        return bool(self.capabilities.planes and structure.growth)


HOST = Device(CPU.name, 0, "CPU")
"""The processor, where only its arithmetic matters."""


def _processor_name() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "processor"
