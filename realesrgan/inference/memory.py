"""How much memory a tile takes, how much work it is, and which tile fits a device.

On CUDA and the CPU the peak is counted from the tensors that live at once; ``docs/performance.md`` has the figures
measured beside it. On DirectML the measured rule of ``docs/directml.md`` counts, since its allocator takes about twice
as much.
"""

from __future__ import annotations

import logging
import re
import sys
from dataclasses import dataclass
from typing import Any, Optional

from ..devices import Device
from ..errors import notice

__all__ = [
    "LADDER",
    "Structure",
    "budget",
    "choose_tile",
    "default_pad",
    "flops",
    "structure_of",
    "tile_bytes",
    "weight_bytes",
]

logger = logging.getLogger(__name__)

LADDER = (32, 64, 96, 128, 192, 256, 384, 512)
"""Tile sizes that the program chooses from."""
SAFETY = 1.5
"""A tile is taken if this many times its figure fits the budget."""
ASSUMED = 8 * 2**30
"""Memory of a card that does not tell."""
SHARED = 2 * 2**30
"""Memory counted for a graphics unit that shares the main memory."""
_RX_580 = re.compile(r"\brx\s*5[789]0\b", re.IGNORECASE)
# By time for each pixel that is kept: an RRDBNet takes a seventh more in tiles of 256, and no less in tiles of 512.
_CPU_TILE = {"rrdbnet": 384, "srvgg": 192, "other": 256}


@dataclass(frozen=True)
class Structure:
    """What a network's cost follows from.

    Attributes:
        kind: ``"rrdbnet"``, ``"srvgg"`` or ``"other"``.
        scale: Whole factor of enlargement.
        shrink: Factor of the pixel-unshuffle in front, 1 without.
        features: Channels of the feature map.
        growth: Channels that a convolution of a dense block adds.
        weights: Number of parameters.
        trunk: Multiply-adds for a pixel of the feature map up to the last stage.
        last: Multiply-adds of the last stage for a pixel of the feature map.
        context: Input pixels on either side that an output pixel depends on.
    """

    kind: str
    scale: int
    shrink: int
    features: int
    growth: int
    weights: int
    trunk: int
    last: int
    context: int


def structure_of(module: Any, scale: int) -> Structure:
    """Read a network's structure from its convolutions; any module with the names of an RRDBNet counts as one."""
    convs = {name: part for name, part in module.named_modules() if _is_conv(part)}
    costs = {name: conv.weight.numel() for name, conv in convs.items()}
    weights = sum(parameter.numel() for parameter in module.parameters())
    if "conv_first" in convs and "conv_up2" in convs and "conv_body" in convs:
        shrink = {3: 1, 12: 2, 48: 4}.get(convs["conv_first"].in_channels, 1)
        at = {"conv_up1": 4, "conv_up2": 16, "conv_hr": 16, "conv_last": 16}
        last = sum(costs[name] * factor for name, factor in at.items())
        trunk = sum(cost for name, cost in costs.items() if name not in at)
        growth = next((c.out_channels for name, c in convs.items() if name.endswith("rdb1.conv1")), 0)
        # Radii of the trunk's convolutions in pixels of the feature map; 2 stand for the last stage's 1.25.
        context = shrink * (sum(1 for name in convs if name not in at) + 2)
        features = convs["conv_first"].out_channels
        return Structure("rrdbnet", scale, shrink, features, growth, weights, trunk, last, context)
    kind = "srvgg" if hasattr(module, "upsampler") and hasattr(module, "body") else "other"
    features = max((conv.out_channels for conv in convs.values()), default=64)
    return Structure(kind, scale, 1, features, 0, weights, sum(costs.values()), 0, len(convs))


def _is_conv(part: Any) -> bool:
    return type(part).__name__ == "Conv2d"


def default_pad(structure: Structure) -> int:
    """Padding without visible seams: exact for a short network, 32 for an RRDBNet (its exact one is 94 to 349)."""
    return structure.context if structure.kind == "srvgg" else 32


def flops(structure: Structure, height: int, width: int) -> int:
    """Floating-point operations for ``height`` x ``width`` input pixels; a multiply-add counts as two."""
    return 2 * (structure.trunk + structure.last) * height * width // structure.shrink**2


def tile_bytes(structure: Structure, height: int, width: int, *, half: bool, device: Device) -> int:
    """Peak bytes on the device for one tile, weights and workspace included.

    Args:
        height: Rows that the network reads, padding included.
        width: Columns that the network reads, padding included.
        half: In FP16.
        device: Its backend's rule counts.
    """
    pixels = height * width // structure.shrink**2
    element = 2 if half else 4
    weights = weight_bytes(structure, half=half, device=device)
    if device.backend == "directml":
        return weights + _directml_bytes(structure, pixels, half)
    # What convolutions and the allocator take beside the tensors, as measured.
    workspace = (16 if device.backend == "cpu" else 4) * 2**20
    features, growth = structure.features, structure.growth
    if structure.kind == "rrdbnet":
        if device.capabilities.planes:
            # The dense block's channels, half as large again; three feature maps and what a convolution adds.
            trunk = (features + 4 * growth) * 3 // 2 + 3 * features + growth
            workspace += 24 * 2**20  # products and rows of a part
        else:
            # While a dense block concatenates: what it has, what comes to it, both together; three older feature maps.
            trunk = 3 * features + 2 * (features + 4 * growth)
        band = (min(device.capabilities.band_rows, height) + 4) * (width // structure.shrink)
        # conv_hr's input and output at 4x, and what is left of the step before; the feature map stays.
        last = 2 * 16 * features * band + features * pixels
        return weights + element * max(trunk * pixels, last) + workspace
    channels = 2 * features + structure.scale**2 * 3
    return weights + element * channels * pixels + workspace


def weight_bytes(structure: Structure, *, half: bool, device: Device) -> int:
    """Bytes of the network's weights on the device, in all forms in which they are kept there."""
    # In planes an RRDBNet's weights are there as they came, and in the form that is multiplied, twice as large.
    forms = 3 if device.capabilities.planes and structure.kind == "rrdbnet" else 1
    return structure.weights * (2 if half else 4) * forms


def _directml_bytes(structure: Structure, pixels: int, half: bool) -> int:
    if structure.kind == "rrdbnet":
        share = structure.features / 64
        return int((3_000 if half else 10_000) * share * pixels) + (64 if half else 32) * 2**20
    # Not measured: twice what lives at once, as was measured for RRDBNet.
    channels = 4 * structure.features + structure.scale**2 * 9
    return 2 * (2 if half else 4) * channels * pixels + 32 * 2**20


def budget(device: Device) -> int:
    """Bytes of the device's memory that may be planned with.

    On Windows a card spills into the main memory long before it reports that it is full, and everything becomes many
    times slower: the larger of 1.5 GB and 20 % is left to the system and to other programs.
    """
    total = device.memory
    if device.integrated:
        total = max(total or 0, SHARED)
    elif total is None:
        total = ASSUMED
        if device.backend != "cpu":
            notice(
                logger,
                "memory.assumed",
                f"The memory of {device.name} is unknown: 8 GB are assumed. If it has less, give a smaller tile with "
                "-t.",
                level=logging.INFO,
                once=True,
                device=device.name,
            )
    if device.backend == "directml" or sys.platform == "win32":
        return total - int(max(1.5e9, total / 5))
    return total * 9 // 10


def choose_tile(
    structure: Structure, height: int, width: int, pad: int, *, half: bool, device: Device, free: Optional[int] = None
) -> int:
    """The tile for a picture where the user gives none; 0 means untiled.

    On DirectML and on the CPU a picture that is no larger than the device's tile is not cut. On other devices it is not
    cut if :data:`SAFETY` times its figure fits what is free.

    Args:
        height: Rows of the picture.
        width: Columns of the picture.
        pad: Padding of a tile.
        half: In FP16.
        device: Where it runs.
        free: Free bytes on the device, if known.
    """
    side = device_tile(structure, pad, half=half, device=device)
    if device.backend in ("directml", "cpu"):
        return 0 if max(height, width) <= side else side
    whole = tile_bytes(structure, height, width, half=half, device=device)
    room = budget(device) if free is None else min(budget(device), free)
    return 0 if SAFETY * whole <= room else side


def device_tile(structure: Structure, pad: int, *, half: bool, device: Device) -> int:
    """The largest tile of :data:`LADDER` that fits the device; on the CPU the one that is quickest."""
    if device.backend == "cpu":
        return _CPU_TILE[structure.kind]
    if _RX_580.search(device.name) and (device.memory or ASSUMED) > 7e9 and structure.kind == "rrdbnet":
        return 512
    room = budget(device)
    fitting = [
        side
        for side in LADDER
        if SAFETY * tile_bytes(structure, side + 2 * pad, side + 2 * pad, half=half, device=device) <= room
    ]
    return fitting[-1] if fitting else LADDER[0]
