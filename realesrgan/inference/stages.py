"""Networks taken apart by their structure, so that the stage that needs most memory runs in bands of rows.

A basicsr network works as ours does. An RRDBNet's last stage (from the first upsampling on) holds nearly all of the
peak memory: it runs in bands, over the part of the tile that is kept, with a margin of 2 pixels of the feature map,
which is what its four convolutions can see (conv_up1 1 pixel at 2x, conv_up2, conv_hr and conv_last 1 pixel each at 4x:
0.5 + 0.25 * 3 = 1.25 pixels, plus the rounding of the nearest upsampling). The end of an SRVGGNet enlarges without
looking at neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .tiling import Box

if TYPE_CHECKING:
    from .network import TileNetwork

__all__ = ["RESIDUAL", "SLOPE", "Band", "RRDBStages", "SequenceStages", "convs", "is_rrdbnet", "is_sequence", "sliced"]

SLOPE = 0.2  # of every leaky ReLU of an RRDBNet
RESIDUAL = 0.2  # what a block adds to its input is scaled by this
_RRDB_PARTS = ("conv_first", "body", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last")
_HALO = 2


@dataclass(frozen=True)
class Band:
    """Finished rows of a tile.

    Attributes:
        row: First row, in pixels of the result, counted from the top of the kept box.
        values: 1xCxHxW on the device, in the network's precision, 0..1 but not clamped.
    """

    row: int
    values: Tensor


def is_rrdbnet(module: nn.Module) -> bool:
    if not all(hasattr(module, part) for part in _RRDB_PARTS):
        return False
    first = getattr(module, "conv_first")  # noqa: B009
    return getattr(first, "in_channels", None) in (3, 12, 48)


def is_sequence(module: nn.Module) -> bool:
    """Whether it is a plain sequence with a pixel-shuffle at its end, as SRVGGNetCompact is."""
    return isinstance(getattr(module, "body", None), nn.ModuleList) and hasattr(module, "upsampler")


def sliced(result: Tensor, rows: int) -> Iterator[Band]:
    for row in range(0, result.shape[2], rows):
        yield Band(row, result[:, :, row : row + rows])


def convs(module: nn.Module) -> Iterator[nn.Conv2d]:
    return (part for part in module.modules() if isinstance(part, nn.Conv2d))


class RRDBStages:
    """The trunk of an RRDBNet, and its last stage in bands."""

    def __init__(self, owner: TileNetwork) -> None:
        module: Any = owner.module
        self.module = module
        self.owner = owner
        self.shrink = {3: 1, 12: 2, 48: 4}[module.conv_first.in_channels]
        self.block: Callable[[Any, Tensor], Tensor] = owner.compile(_rrdb)
        self.last: Callable[[Tensor], Tensor] = owner.compile(self._last)
        self.channels_last = owner.device.capabilities.channels_last

    @property
    def band_rows(self) -> int:
        """Rows of the feature map in a band of the last stage."""
        return self.owner.band_rows

    def bands(self, x: Tensor, keep: Box, scale: int) -> Iterator[Band]:
        features = self.trunk(x)
        shrink = self.shrink
        height, width = features.shape[2:]
        # Only what is kept, rounded outwards to whole pixels of the feature map, goes through the last stage.
        top, bottom = keep.y0 // shrink, -(-keep.y1 // shrink)
        left, right = max(keep.x0 // shrink - _HALO, 0), min(-(-keep.x1 // shrink) + _HALO, width)
        rows = self.band_rows
        for start in range(top, bottom, rows):
            stop = min(start + rows, bottom)
            first, last = max(start - _HALO, 0), min(stop + _HALO, height)
            with torch.no_grad():
                out = self.last(self._cropped(features, first, last, left, right))
            y0, y1 = max(start * shrink, keep.y0), min(stop * shrink, keep.y1)
            # From pixels of the picture to pixels of this band's result.
            upper, inner = (y0 - first * shrink) * scale, (keep.x0 - left * shrink) * scale
            out = out[:, :, upper : upper + (y1 - y0) * scale, inner : inner + keep.width * scale]
            yield Band((y0 - keep.y0) * scale, out)

    def largest(self, height: int, width: int, widest: int) -> int:
        """Values of the largest tensor of a tile: in the trunk, or in a band at four times the size."""
        height, width = height // self.shrink, width // self.shrink
        band = 16 * (min(self.owner.band_rows, height) + 2 * _HALO) * width * self.module.conv_hr.out_channels
        return max(widest * height * width, band)

    def _cropped(self, features: Tensor, y0: int, y1: int, x0: int, x1: int) -> Tensor:
        cropped = features[:, :, y0:y1, x0:x1]
        return cropped.contiguous(memory_format=torch.channels_last) if self.channels_last else cropped.contiguous()

    @torch.no_grad()
    def trunk(self, x: Tensor) -> Tensor:
        if self.shrink > 1:
            x = F.pixel_unshuffle(x, self.shrink)
        first = self.module.conv_first(x)
        out = self.module.conv_body(self._body(first))
        out += first
        return out

    def _body(self, first: Tensor) -> Tensor:
        out = first
        for block in self.module.body:
            out = self.block(block, out)
            self.owner.pause(_block_flops(block, out), out)
        return out

    def _last(self, features: Tensor) -> Tensor:
        module = self.module
        out = self._enlarged(module.conv_up2, self._enlarged(module.conv_up1, features))
        return module.conv_last(_activated(module.conv_hr(out)))

    def _enlarged(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        return _activated(conv(F.interpolate(x, scale_factor=2, mode="nearest")))


class SequenceStages:
    """The body of an SRVGGNet layer by layer, and its enlargement in bands."""

    def __init__(self, owner: TileNetwork) -> None:
        self.module: Any = owner.module
        self.owner = owner
        self.body: Callable[[Tensor], Tensor] = owner.compile(self._body)

    def bands(self, x: Tensor, keep: Box, scale: int) -> Iterator[Band]:
        with torch.no_grad():
            features = self.body(x)
        for start in range(keep.y0, keep.y1, self.owner.band_rows):
            stop = min(start + self.owner.band_rows, keep.y1)
            with torch.no_grad():
                part = features[:, :, start:stop, keep.x0 : keep.x1].contiguous()
                base = x[:, :, start:stop, keep.x0 : keep.x1].contiguous()
                out = self.module.upsampler(part)
                out = out + F.interpolate(base, scale_factor=self.module.upscale, mode="nearest")
            yield Band((start - keep.y0) * scale, out)

    def largest(self, height: int, width: int, widest: int) -> int:
        """Values of the largest tensor of a tile."""
        return widest * height * width

    def _body(self, x: Tensor) -> Tensor:
        for layer in self.module.body:
            if isinstance(layer, nn.PReLU) and not self.owner.device.capabilities.multi_prelu:
                x = _prelu(x, layer.weight)
            else:
                x = layer(x)
            if isinstance(layer, nn.Conv2d):
                self.owner.pause(_conv_flops(layer, x), x)
        return x


def _rrdb(block: Any, x: Tensor) -> Tensor:
    return _added(x, _dense(block.rdb3, _dense(block.rdb2, _dense(block.rdb1, x))))


def _dense(block: Any, x: Tensor) -> Tensor:
    # Concatenated anew each time: in channels-last tensors a slice of one buffer is no cheaper (convolutions copy it),
    # and on DirectML slices are copies.
    seen = x
    for conv in (block.conv1, block.conv2, block.conv3, block.conv4):
        seen = torch.cat((seen, _activated(conv(seen))), 1)
    return _added(x, block.conv5(seen))


def _activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE, inplace=True)


def _added(x: Tensor, out: Tensor) -> Tensor:
    """The residual connection, in ``out``. In two steps, which every backend and the compiler round alike."""
    return out.mul_(RESIDUAL).add_(x)


def _prelu(x: Tensor, weight: Tensor) -> Tensor:
    """PReLU with a weight for each channel, by operations that every backend has; exact."""
    return torch.where(x >= 0, x, x * weight.view(1, -1, 1, 1))


def _conv_flops(conv: nn.Conv2d, out: Tensor) -> int:
    return 2 * conv.weight.numel() * out.shape[2] * out.shape[3]


def _block_flops(block: nn.Module, x: Tensor) -> int:
    weights = sum(conv.weight.numel() for conv in convs(block))
    return 2 * weights * x.shape[2] * x.shape[3]
