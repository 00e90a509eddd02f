"""Which tile fits a device.

How much a tile takes is in :meth:`realesrgan.backends.base.Backend.tile_bytes`; ``docs/performance.md`` has the figures
measured beside it.
"""

from __future__ import annotations

import logging
from typing import Optional

from ..archs.structure import HALO, Structure
from ..devices import Device, is_host
from ..errors import notice

__all__ = ["LADDER", "band_rows", "budget", "choose_tile", "device_tile", "tile_bytes"]

logger = logging.getLogger(__name__)

LADDER = (32, 64, 96, 128, 192, 256, 384, 512)
"""Tile sizes that the program chooses from."""
SAFETY = 1.5
"""A tile is accepted if this many times its figure fits the budget."""
ASSUMED = 8 * 2**30
"""Memory assumed of a card whose memory is unknown."""
SHARED = 2 * 2**30
"""Memory counted for a graphics unit that shares the main memory."""


def tile_bytes(
    structure: Structure, height: int, width: int, *, half: bool, device: Device, kernels: bool = False
) -> int:
    """Peak bytes on the device for one tile, weights and workspace included.

    Args:
        height: Rows that the network reads, padding included.
        width: Columns that the network reads, padding included.
        half: In FP16.
        device: Its backend's rule counts.
        kernels: With our own kernels.
    """
    if kernels:
        return device.kind.kernels_bytes(structure, height, width)
    return device.kind.tile_bytes(structure, height, width, half)


def budget(device: Device) -> int:
    """Bytes of the device's memory that may be planned with; a part is left to the system and to other programs."""
    total = device.memory
    if device.integrated:
        total = max(total or 0, SHARED)
    elif total is None:
        total = ASSUMED
        if not is_host(device):
            notice(
                logger,
                "memory.assumed",
                f"The memory of {device.name} is unknown: 8 GB are assumed. If it has less, give a smaller tile with "
                "-t.",
                level=logging.INFO,
                once=True,
                device=device.name,
            )
    return total - device.kind.reserved(total)


def band_rows(structure: Structure, height: int, width: int, *, half: bool, device: Device) -> int:
    """Rows of the feature map that the last stage computes at once, for a tile of ``height`` x ``width`` pixels.

    Where each band costs operators, as many as :data:`SAFETY` times their figure fits the budget, and one submission
    may hold; else the device's own number.
    """
    capabilities = device.capabilities
    rows = capabilities.band_rows
    if not capabilities.tall_bands:
        return rows
    whole = -(-height // structure.unshuffle)
    while rows < whole:
        taller = min(2 * rows, whole)
        figure = device.kind.tile_bytes(structure, height, width, half, taller)
        work = 2 * structure.last * (taller + 2 * HALO) * (width // structure.unshuffle)
        if SAFETY * figure > budget(device) or 0 < capabilities.submission_flops < work:
            break
        rows = taller
    return rows


def choose_tile(
    structure: Structure,
    height: int,
    width: int,
    pad: int,
    *,
    half: bool,
    device: Device,
    free: Optional[int] = None,
    kernels: bool = False,
) -> int:
    """The tile for a picture where the user gives none; 0 means untiled.

    A picture that is no larger than the device's tile is not cut; on devices that run whole pictures, none is cut for
    which :data:`SAFETY` times its figure fits what is free.

    Args:
        height: Rows of the picture.
        width: Columns of the picture.
        pad: Padding of a tile.
        half: In FP16.
        device: Where it runs.
        free: Free bytes on the device, if known.
        kernels: With our own kernels.
    """
    side = device_tile(structure, pad, half=half, device=device, kernels=kernels)
    if not device.capabilities.whole_pictures:
        return 0 if max(height, width) <= side else side
    whole = tile_bytes(structure, height, width, half=half, device=device, kernels=kernels)
    room = budget(device) if free is None else min(budget(device), free)
    return 0 if SAFETY * whole <= room else side


def device_tile(structure: Structure, pad: int, *, half: bool, device: Device, kernels: bool = False) -> int:
    """The largest tile of :data:`LADDER` that fits the device; on the CPU the one that is quickest."""
    usual = device.kind.usual_tile(structure)
    if usual is not None:
        return usual
    room = budget(device)
    sides = {side: side + 2 * pad for side in LADDER}
    fitting = [
        side
        for side, read in sides.items()
        if SAFETY * tile_bytes(structure, read, read, half=half, device=device, kernels=kernels) <= room
    ]
    return fitting[-1] if fitting else LADDER[0]
