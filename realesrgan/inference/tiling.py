"""Tiles: how large they may be on a device, and where they lie in a picture. Whole numbers, no arrays, no torch.

Coordinates are pixels of the network's input, rows first, half-open. A *canvas* is the picture plus the pixels that
are reflected onto its right and bottom edges: those that were asked for (``pre_pad``) and those that bring both sides
to a multiple that the network needs. A tile *writes* one box of the picture and *reads* a larger one around it.

How much memory a tile takes is in :meth:`realesrgan.backends.base.Backend.tile_bytes`; ``docs/performance.md`` has the
figures measured beside it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Iterator, List, Optional, Sequence, Tuple

from ..archs.structure import HALO, Structure
from ..devices import Device, is_host
from ..errors import InputError, notice

__all__ = [
    "FLOOR",
    "LADDER",
    "Box",
    "Canvas",
    "Tile",
    "band_rows",
    "bands",
    "budget",
    "choose_tile",
    "device_tile",
    "halved",
    "plan",
    "split",
    "tile_bytes",
]

logger = logging.getLogger(__name__)

FLOOR = 32
"""Smallest side of a tile that is tried after memory ran out."""
LADDER = (32, 64, 96, 128, 192, 256, 384, 512)
"""Tile sizes that the program chooses from."""
SAFETY = 1.5
"""A tile is accepted if this many times its figure fits the budget."""
ASSUMED = 8 * 2**30
"""Memory assumed of a card whose memory is unknown."""
SHARED = 2 * 2**30
"""Memory counted for a graphics unit that shares the main memory."""


@dataclass(frozen=True)
class Box:
    """A rectangle of rows ``y0 <= y < y1`` and columns ``x0 <= x < x1``."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def slices(self) -> Tuple[slice, slice]:
        """Row and column slices for an array whose first two axes are rows and columns."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def scaled(self, factor: int) -> Box:
        return Box(self.y0 * factor, self.x0 * factor, self.y1 * factor, self.x1 * factor)

    def relative_to(self, outer: Box) -> Box:
        """The same rectangle in the coordinates of ``outer``."""
        return Box(self.y0 - outer.y0, self.x0 - outer.x0, self.y1 - outer.y0, self.x1 - outer.x0)


@dataclass(frozen=True)
class Canvas:
    """A picture of ``height`` x ``width`` and what is reflected onto its right and bottom edges.

    Args:
        height: Rows of the picture, at least 1.
        width: Columns of the picture, at least 1.
        pre_pad: Pixels added on the right and at the bottom, 0 or more.
        multiple: Both sides of the canvas are multiples of this, 1 or more.
    """

    height: int
    width: int
    pre_pad: int = 0
    multiple: int = 1

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise InputError(
                f"A picture needs at least one pixel, this one is {self.width}x{self.height}.",
                code="tile.no_pixels",
                width=self.width,
                height=self.height,
            )
        if self.pre_pad < 0:
            raise InputError(
                f"pre_pad is {self.pre_pad}; it must be 0 or more.", code="tile.pre_pad", pre_pad=self.pre_pad
            )
        if self.multiple < 1:
            raise InputError(
                f"The size multiple is {self.multiple}; it must be 1 or more.",
                code="tile.multiple",
                multiple=self.multiple,
            )

    @property
    def padded_height(self) -> int:
        return _round_up(self.height + self.pre_pad, self.multiple)

    @property
    def padded_width(self) -> int:
        return _round_up(self.width + self.pre_pad, self.multiple)

    def rows(self, box: Box) -> List[int]:
        """The picture's row found at each row of ``box``, reflections resolved."""
        return self._source(range(box.y0, box.y1), self.height)

    def columns(self, box: Box) -> List[int]:
        """The picture's column found at each column of ``box``, reflections resolved."""
        return self._source(range(box.x0, box.x1), self.width)

    def _source(self, positions: range, size: int) -> List[int]:
        # The multiple's padding mirrors the canvas that pre_pad made, as the original does: two reflections in a row.
        return [_reflect(_reflect(position, size + self.pre_pad), size) for position in positions]


@dataclass(frozen=True)
class Tile:
    """``write`` is what the tile contributes to the picture, ``read`` what the network gets to see for it."""

    read: Box
    write: Box

    @property
    def side(self) -> int:
        """The longer side of the written box."""
        return max(self.write.height, self.write.width)


def plan(canvas: Canvas, tile: int, pad: int) -> List[Tile]:
    """Cut a canvas into tiles that write each pixel of the picture exactly once, row by row.

    Args:
        tile: Side of the written boxes; 0 makes a single tile of the whole picture.
        pad: Pixels read beyond each side of a written box, where the canvas has them.
    """
    if tile < 0:
        raise InputError(f"The tile size is {tile}; it must be 0 (untiled) or more.", code="tile.size", tile=tile)
    if pad < 0:
        raise InputError(f"The tile padding is {pad}; it must be 0 or more.", code="tile.pad", tile_pad=pad)
    whole = Box(0, 0, canvas.height, canvas.width)
    return _cut(canvas, whole, tile or max(canvas.height, canvas.width), pad)


def split(canvas: Canvas, tile: Tile, limit: int, pad: int) -> List[Tile]:
    """Cut one tile into tiles whose sides are at most ``limit``; they write the same pixels."""
    return _cut(canvas, tile.write, limit, pad)


def _cut(canvas: Canvas, region: Box, tile: int, pad: int) -> List[Tile]:
    tiles = []
    for y0 in range(region.y0, region.y1, tile):
        for x0 in range(region.x0, region.x1, tile):
            y1, x1 = min(y0 + tile, region.y1), min(x0 + tile, region.x1)
            # At the picture's end a tile reads as if what is reflected there were to be written, too.
            bottom = min(y0 + tile, canvas.padded_height) if y1 == canvas.height else y1
            right = min(x0 + tile, canvas.padded_width) if x1 == canvas.width else x1
            top, bottom = _read(y0, bottom, canvas.padded_height, canvas.multiple, pad)
            left, right = _read(x0, right, canvas.padded_width, canvas.multiple, pad)
            tiles.append(Tile(Box(top, left, bottom, right), Box(y0, x0, y1, x1)))
    return tiles


def _read(start: int, stop: int, size: int, multiple: int, pad: int) -> Tuple[int, int]:
    # A box starts and stops on the network's grid, so that a pixel-unshuffle sees the same phase in every tile. The
    # last tile takes the canvas's own padding in: the untiled picture has it too.
    return max(start - pad, 0) // multiple * multiple, min(_round_up(stop + pad, multiple), size)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _reflect(position: int, size: int) -> int:
    """Mirror a position at or beyond the end back into ``range(size)``, edge pixels not repeated."""
    if position < size:
        return position
    if size == 1:
        return 0
    period = 2 * (size - 1)
    position %= period
    return position if position < size else period - position


def bands(
    keep: Box, size: Sequence[int], shrink: int, rows: int, margin: int, scale: int
) -> Iterator[Tuple[int, Box, Box]]:
    """Cut what is kept of a tile into bands, from top to bottom, that a network's last stage computes one by one.

    Args:
        keep: The part of the tile that is wanted.
        size: Height and width of the feature map.
        shrink: Sides of one of its pixels in pixels of the tile.
        rows: Rows of the feature map in a band.
        margin: Pixels of the feature map that the last stage sees on either side.
        scale: The network's factor.

    Yields:
        The first row, in pixels of the result counted from the top of ``keep``; what the last stage reads of the
        feature map; and what is kept of what it gives for that.
    """
    # Only what is kept, rounded outwards to whole pixels of the feature map, goes through the last stage.
    top, bottom = keep.y0 // shrink, -(-keep.y1 // shrink)
    left, right = max(keep.x0 // shrink - margin, 0), min(-(-keep.x1 // shrink) + margin, size[1])
    for start in range(top, bottom, rows):
        stop = min(start + rows, bottom)
        read = Box(max(start - margin, 0), left, min(stop + margin, size[0]), right)
        kept = Box(max(start * shrink, keep.y0), keep.x0, min(stop * shrink, keep.y1), keep.x1)
        yield (kept.y0 - keep.y0) * scale, read, kept.relative_to(read.scaled(shrink)).scaled(scale)


def halved(side: int) -> int:
    """The side of a tile that is tried after one of this side was too much."""
    return max(FLOOR, -(-side // 2))


def tile_bytes(
    structure: Structure, height: int, width: int, *, half: bool, device: Device, kernels: bool = False
) -> int:
    """Peak bytes on the device for one tile of ``height`` x ``width`` pixels, padding, weights and workspace included.

    ``kernels``: with our own kernels, which compute in FP16.
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
        free: Free bytes on the device, if known.
        kernels: See :func:`tile_bytes`.
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
