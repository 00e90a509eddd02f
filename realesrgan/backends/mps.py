"""MPS: Macs with Apple silicon, through PyTorch."""

from __future__ import annotations

from typing import List, Optional

from ..errors import Phrase
from .base import Device, MissingError, TorchBackend, torch

__all__ = ["MPS"]


class MPS(TorchBackend):
    """See the module. It has one device."""

    name = "mps"
    label = "MPS"
    spelling = "mps"
    remedy = Phrase("device.get_mps", "use a Mac with Apple silicon and macOS 12.3 or newer")

    def find(self) -> List[Device]:
        if not torch().backends.mps.is_available():
            raise MissingError(Phrase("device.no_mps", "PyTorch finds no Apple GPU"), False)
        return [Device(self.name, 0, "Apple GPU", None, True)]

    def wait(self, device: Device) -> None:
        self.module.synchronize()

    def memory_used(self, device: Device) -> Optional[int]:
        return int(self.module.current_allocated_memory())

    def peak_memory(self, device: Device) -> Optional[int]:
        return None

    def reset_peak_memory(self, device: Device) -> None:
        """PyTorch does not count a peak there."""
