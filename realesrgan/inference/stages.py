"""Networks taken apart by their structure, so that the stage that needs most memory runs in bands of rows.

A basicsr network works as ours does. An RRDBNet's last stage (from the first upsampling on) takes nearly all of the
peak memory: it runs in bands, over the part of the tile that is kept, with a margin of 2 pixels of the feature map,
which is what its four convolutions can see (conv_up1 1 pixel at 2x, conv_up2, conv_hr and conv_last 1 pixel each at 4x:
0.5 + 0.25 * 3 = 1.25 pixels, plus the rounding of the nearest upsampling). The end of an SRVGGNet enlarges without
looking at neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import devices
from ..archs.structure import HALO, Structure
from .tiling import Box

__all__ = [
    "RESIDUAL",
    "SLOPE",
    "Band",
    "RRDBStages",
    "Runtime",
    "SequenceStages",
    "Stages",
    "convs",
    "is_apart",
    "is_plain",
    "is_unchanged",
    "sliced",
]

SLOPE = 0.2  # of every leaky ReLU of an RRDBNet
RESIDUAL = 0.2  # what a block adds to its input is scaled by this
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


@dataclass(frozen=True)
class Band:
    """Finished rows of a tile.

    Attributes:
        row: First row, in pixels of the result, counted from the top of the kept box.
        values: 1xCxHxW on the device, in the network's precision, 0..1 but not clamped.
    """

    row: int
    values: Tensor


@dataclass(frozen=True)
class Runtime:
    """How a network runs: all that its stages need to know beside its module.

    Attributes:
        device: Where.
        structure: Of the network.
        half: In FP16.
        compiled: Its parts go through torch.compile.
        rows: Rows of the feature map in a band of the last stage; None uses the device's own.
        shapes: What tuning found for our own kernels; see :func:`realesrgan.inference.cuda_conv.shapes_of`.
    """

    device: devices.Device
    structure: Structure
    half: bool = False
    compiled: bool = False
    rows: Optional[int] = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float16 if self.half else torch.float32

    @property
    def band_rows(self) -> int:
        return self.rows or self.device.capabilities.band_rows

    def compile(self, function: Any) -> Any:
        """A part of the network as it is run."""
        if not self.compiled:
            return function
        # For any size from the start, so that neither the tiles at the edges nor the next picture wait for the
        # compiler; rounding to FP16 wherever the uncompiled network rounds, so that the result is the same.
        return torch.compile(function, dynamic=True, options={"emulate_precision_casts": True})

    def slice_rows(self, height: int, scale: int) -> int:
        """Rows of a finished result of ``height`` rows that are quantised at once: few, since rounding copies them.

        Where copies to the host overlap with work, a quarter is small enough, and there is less to launch.
        """
        rows = self.band_rows * scale
        return max(rows, -(-height // 4)) if self.device.capabilities.asynchronous else rows

    def contiguous(self, x: Tensor) -> Tensor:
        """A copy of a part of a tensor, in the layout in which the device computes."""
        layout = torch.channels_last if self.device.capabilities.channels_last else torch.contiguous_format
        return x.contiguous(memory_format=layout)


class Stages:
    """A network taken apart.

    Args:
        module: The network, on the device in its precision. It is not changed.
        runtime: How it runs.
    """

    def __init__(self, module: nn.Module, runtime: Runtime) -> None:
        self.module: Any = module
        self.runtime = runtime
        self._queued = 0

    @property
    def band_rows(self) -> int:
        """Rows of the feature map in a band of the last stage."""
        return self.runtime.band_rows

    def bands(self, x: Tensor, keep: Box, scale: int) -> Iterator[Band]:
        """See :meth:`realesrgan.inference.network.TileNetwork.bands`."""
        raise NotImplementedError

    def largest(self, height: int, width: int) -> int:
        """Values of the largest tensor of a tile of ``height`` x ``width`` pixels."""
        return self.runtime.structure.largest(height, width, self.band_rows)

    def pause(self, flops: int) -> None:
        """Count work that was queued, and wait for it where the backend must not be kept busy for long."""
        limit = self.runtime.device.capabilities.drain_flops
        if not limit:
            return
        self._queued += flops
        if self._queued >= limit:
            devices.synchronize(self.runtime.device)
            self._queued = 0


def is_unchanged(module: nn.Module) -> bool:
    """Whether a module computes what its class was written to compute.

    It does not where ``forward`` was overridden in a subclass or replaced, on a class or on an object, or where a hook
    was added.
    """
    if "forward" in vars(module) or any(getattr(module, hooks, None) for hooks in _HOOKS):
        return False
    defining = [one for one in type(module).__mro__ if "forward" in vars(one) and one is not nn.Module]
    names = [getattr(vars(one)["forward"], "__qualname__", "") for one in defining]
    return len(defining) < 2 and names == [f"{one.__qualname__}.forward" for one in defining]


def is_plain(conv: nn.Module) -> bool:
    """Whether it is a 3x3 convolution that keeps the size, and no other class or one with a hook, which may do more."""
    if type(conv) is not nn.Conv2d or not is_unchanged(conv):
        return False
    shape = (conv.kernel_size, conv.padding, conv.stride, conv.dilation, conv.groups, conv.padding_mode)
    return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")


def convs(module: nn.Module) -> Iterator[nn.Conv2d]:
    return (part for part in module.modules() if isinstance(part, nn.Conv2d))


def is_apart(module: nn.Module) -> bool:
    """Whether a network may be taken apart: all of its parts are unchanged but for convolutions, which are called."""
    return all(is_unchanged(part) for part in module.modules() if not isinstance(part, nn.Conv2d))


def sliced(result: Tensor, rows: int) -> Iterator[Band]:
    for row in range(0, result.shape[2], rows):
        yield Band(row, result[:, :, row : row + rows])


class RRDBStages(Stages):
    """The trunk of an RRDBNet, and its last stage in bands."""

    def __init__(self, module: nn.Module, runtime: Runtime) -> None:
        super().__init__(module, runtime)
        self.block: Callable[[Any, Tensor], Tensor] = runtime.compile(_rrdb)
        self.last: Callable[[Tensor], Tensor] = runtime.compile(self._last)

    def bands(self, x: Tensor, keep: Box, scale: int) -> Iterator[Band]:
        features = self.trunk(x)
        shrink = self.runtime.structure.unshuffle
        height, width = features.shape[2:]
        # Only what is kept, rounded outwards to whole pixels of the feature map, goes through the last stage.
        top, bottom = keep.y0 // shrink, -(-keep.y1 // shrink)
        left, right = max(keep.x0 // shrink - HALO, 0), min(-(-keep.x1 // shrink) + HALO, width)
        rows = self.band_rows
        for start in range(top, bottom, rows):
            stop = min(start + rows, bottom)
            first, last = max(start - HALO, 0), min(stop + HALO, height)
            with torch.no_grad():
                out = self.last(self._cropped(features, first, last, left, right))
            y0, y1 = max(start * shrink, keep.y0), min(stop * shrink, keep.y1)
            # From pixels of the picture to pixels of this band's result.
            upper, inner = (y0 - first * shrink) * scale, (keep.x0 - left * shrink) * scale
            out = out[:, :, upper : upper + (y1 - y0) * scale, inner : inner + keep.width * scale]
            yield Band((y0 - keep.y0) * scale, out)

    def _cropped(self, features: Tensor, y0: int, y1: int, x0: int, x1: int) -> Tensor:
        return self.runtime.contiguous(features[:, :, y0:y1, x0:x1])

    @torch.no_grad()
    def trunk(self, x: Tensor) -> Tensor:
        """The feature map: 1xCxHxW for a picture, unshuffled by the network's factor."""
        if self.runtime.structure.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.runtime.structure.unshuffle)
        first = self.module.conv_first(x)
        out: Tensor = self.module.conv_body(self._body(first))
        out += first
        return out

    def _body(self, first: Tensor) -> Tensor:
        out = first
        for block in self.module.body:
            out = self.block(block, out)
            self.pause(_block_flops(block, out))
        return out

    def _last(self, features: Tensor) -> Tensor:
        out = features
        for number in range(self.runtime.structure.doublings):
            out = self._enlarged(getattr(self.module, f"conv_up{number + 1}"), out)
        last: Tensor = self.module.conv_last(_activated(self.module.conv_hr(out)))
        return last

    def _enlarged(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        return _activated(conv(F.interpolate(x, scale_factor=2, mode="nearest")))


class SequenceStages(Stages):
    """The body of an SRVGGNet layer by layer, and its enlargement in bands."""

    def __init__(self, module: nn.Module, runtime: Runtime) -> None:
        super().__init__(module, runtime)
        self.body: Callable[[Tensor], Tensor] = runtime.compile(self._body)

    def bands(self, x: Tensor, keep: Box, scale: int) -> Iterator[Band]:
        with torch.no_grad():
            features = self.body(x)
        rows = self.band_rows
        for start in range(keep.y0, keep.y1, rows):
            stop = min(start + rows, keep.y1)
            with torch.no_grad():
                part = features[:, :, start:stop, keep.x0 : keep.x1].contiguous()
                base = x[:, :, start:stop, keep.x0 : keep.x1].contiguous()
                out = self.module.upsampler(part)
                out = out + F.interpolate(base, scale_factor=self.runtime.structure.scale, mode="nearest")
            yield Band((start - keep.y0) * scale, out)

    def _body(self, x: Tensor) -> Tensor:
        for layer in self.module.body:
            if isinstance(layer, nn.PReLU) and not self.runtime.device.capabilities.multi_prelu:
                x = _prelu(x, layer.weight)
            else:
                x = layer(x)
            if isinstance(layer, nn.Conv2d):
                self.pause(_conv_flops(layer, x))
        return x


def _rrdb(block: Any, x: Tensor) -> Tensor:
    return _added(x, _dense(block.rdb3, _dense(block.rdb2, _dense(block.rdb1, x))))


def _dense(block: Any, x: Tensor) -> Tensor:
    # Concatenated again each time: in channels-last tensors a slice of one buffer is no cheaper (convolutions copy it),
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
