"""DirectML: AMD and Intel cards under Windows, through the package torch-directml.

What is known about that package, and is not asked of it because it ends the process, is in ``docs/directml.md``.
"""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any, List, Optional

from ..archs.structure import Structure
from ..errors import Phrase
from . import windows
from .base import Backend, Capabilities, Device, MissingError, integrated_name, software_name, torch

__all__ = ["DirectML"]


class DirectML(Backend):
    """See the module."""

    name = "directml"
    label = "DirectML"
    aliases = ("dml", "privateuseone")
    spelling = "directml (dml, dml:1)"
    package = "torch_directml"
    remedy = Phrase(
        "device.get_directml",
        "pip install torch-directml (Windows or WSL2, Python 3.8 to 3.12, in an environment of its own)",
    )
    # Windows resets a card that works on one submission for more than two seconds (facts in docs/directml.md), hence
    # submission_flops: half a second of a card that reaches 1 TFLOP/s.
    capabilities = Capabilities(
        multi_prelu=False,
        few_operators=True,
        largest_tensor=2**32 - 1,
        submission_flops=500_000_000_000,
        band_rows=16,
        tall_bands=True,
        whole_pictures=False,
        recovers_memory=False,
        isolates=True,
    )
    out_of_memory = re.compile(r"not enough GPU video memory available|-2147024882|8007000E", re.IGNORECASE)
    lost = re.compile(
        r"-2005270522|-2005270523|-2147467259|GPU device instance has been suspended|GetDeviceRemovedReason|"
        r"887A000[5-7]",
        re.IGNORECASE,
    )
    spills = True

    def find(self) -> List[Device]:
        if not self.installed():
            raise MissingError(
                Phrase("device.no_package", "torch-directml is not installed", package="torch-directml"), False
            )
        directml = _library()
        # device_count() first, always: without an adapter other questions end the process.
        count = int(directml.device_count())
        if count < 1:
            raise MissingError(
                Phrase("device.no_adapter", "torch-directml is installed but finds no DirectX 12 adapter"), True
            )
        registered = windows.adapters()
        devices = []
        for index in range(count):
            name = str(directml.device_name(index)).replace("\0", "").strip() or f"adapter {index}"
            driver = next((a.driver for a in registered if a.name.lower() == name.lower()), "")
            memory = windows.total_memory(name, registered)
            devices.append(Device(self.name, index, name, memory, integrated_name(name), software_name(name), driver))
        return devices

    def missed(self) -> bool:
        return sys.platform == "win32"

    def torch_device(self, device: Device) -> Any:
        return _library().device(device.index)

    def wait(self, device: Device) -> None:
        # There is no call for it. One element of its own comes back when all that was queued before it is done; an
        # element of a larger tensor would bring that whole tensor to the host.
        (torch().zeros(1, device=self.torch_device(device)) + 1).cpu()

    def memory_used(self, device: Device) -> Optional[int]:
        # Fractions of blocks of the given number of megabytes; an empty list where the driver gives nothing.
        fractions = _library().gpu_memory(device.index, 1)
        return int(sum(fractions) * 2**20) if fractions else None

    def weight_bytes(self, structure: Structure, half: bool) -> int:
        # The last convolution of every dense block is kept twice: as it came, and with the residual's factor.
        scaled = 3 * structure.depth * 9 * structure.features * (structure.features + 4 * structure.growth)
        return super().weight_bytes(structure, half) + (scaled * (2 if half else 4) if structure.last else 0)

    def tile_bytes(self, structure: Structure, height: int, width: int, half: bool, rows: Optional[int] = None) -> int:
        # Its allocator takes about twice as much as lives at once: the measured rule of docs/directml.md.
        pixels = structure.pixels(height, width)
        weights = self.weight_bytes(structure, half)
        if structure.last:
            share = structure.features / 64
            # What bands of 16 rows take was measured, and what the whole last stage takes: between them by the rows.
            further = max(min(rows or 0, height // structure.unshuffle) - self.capabilities.band_rows, 0)
            band = (12_000 if half else 22_000) * further * (width // structure.unshuffle)
            trunk = (3_000 if half else 10_000) * pixels
            return weights + int(share * (trunk + band)) + (64 if half else 32) * 2**20
        # Not measured: twice what lives at once, as was measured for RRDBNet. All rows of the end at once are in it.
        channels = 4 * structure.features + structure.scale**2 * 9
        return weights + 2 * (2 if half else 4) * channels * pixels + 32 * 2**20


def _library() -> Any:
    """The package torch_directml, imported when it is first asked for."""
    return importlib.import_module("torch_directml")
