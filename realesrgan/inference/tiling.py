"""Integer geometry of a picture cut into tiles. No arrays, no torch.

Coordinates are pixels of the network's input, rows first, half-open. A *canvas* is the picture plus the pixels that
are reflected onto its right and bottom edges: those that were asked for (``pre_pad``) and those that bring both sides
to a multiple that the network needs. A tile *writes* one box of the picture and *reads* a larger one around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple

from ..errors import InputError

__all__ = ["Box", "Canvas", "Tile", "plan", "split"]


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


def plan(canvas: Canvas, tile: int, pad: int, *, fixed_shape: bool = False) -> List[Tile]:
    """Cut a canvas into tiles that write each pixel of the picture exactly once, row by row.

    Args:
        canvas: The picture and its padding.
        tile: Side of the written boxes; 0 makes a single tile of the whole picture.
        pad: Pixels read beyond each side of a written box, where the canvas has them.
        fixed_shape: Let every tile read a box of one shape, by moving boxes at the edges inwards. Such tiles see more
            of the picture than their padding asks for, never less.
    """
    if tile < 0:
        raise InputError(f"The tile size is {tile}; it must be 0 (untiled) or more.", code="tile.size", tile=tile)
    if pad < 0:
        raise InputError(f"The tile padding is {pad}; it must be 0 or more.", code="tile.pad", tile_pad=pad)
    return _cut(
        canvas, Box(0, 0, canvas.height, canvas.width), tile or max(canvas.height, canvas.width), pad, fixed_shape
    )


def split(canvas: Canvas, tile: Tile, limit: int, pad: int) -> List[Tile]:
    """Cut one tile into tiles whose sides are at most ``limit``; they write the same pixels."""
    return _cut(canvas, tile.write, limit, pad, False)


def _cut(canvas: Canvas, region: Box, tile: int, pad: int, fixed_shape: bool) -> List[Tile]:
    tiles = []
    for y0 in range(region.y0, region.y1, tile):
        for x0 in range(region.x0, region.x1, tile):
            y1, x1 = min(y0 + tile, region.y1), min(x0 + tile, region.x1)
            # At the picture's end a tile reads as if what is reflected there were to be written, too.
            bottom = min(y0 + tile, canvas.padded_height) if y1 == canvas.height else y1
            right = min(x0 + tile, canvas.padded_width) if x1 == canvas.width else x1
            tiles.append(
                Tile(_read_box(canvas, Box(y0, x0, bottom, right), tile, pad, fixed_shape), Box(y0, x0, y1, x1))
            )
    return tiles


def _read_box(canvas: Canvas, box: Box, tile: int, pad: int, fixed_shape: bool) -> Box:
    y0, y1 = _read_span(box.y0, box.y1, canvas.padded_height, canvas.multiple, pad, tile if fixed_shape else 0)
    x0, x1 = _read_span(box.x0, box.x1, canvas.padded_width, canvas.multiple, pad, tile if fixed_shape else 0)
    return Box(y0, x0, y1, x1)


def _read_span(start: int, stop: int, size: int, multiple: int, pad: int, fixed: int) -> Tuple[int, int]:
    # A box starts and stops on the network's grid, so that a pixel-unshuffle sees the same phase in every tile. The
    # last tile takes the canvas's own padding in: the untiled picture has it too.
    first = max(start - pad, 0) // multiple * multiple
    last = min(_round_up(stop + pad, multiple), size)
    if fixed:
        # Starting on the grid may cost up to a multiple of what is read at the end.
        length = min(_round_up(fixed + 2 * pad + multiple - 1, multiple), size)
        first = min(first, size - length)
        last = first + length
    return first, last


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
