"""Runs one tile through a network. The only caller of a network.

The network is taken apart by its structure, so that a basicsr RRDBNet works as ours does. An RRDBNet's last stage (from
the first upsampling on) holds nearly all of the peak memory: it runs in bands of rows, over the part of the tile that
is kept, with a margin of 2 pixels of the feature map, which is what its four convolutions can see (conv_up1 1 pixel at
2x, conv_up2, conv_hr and conv_last 1 pixel each at 4x: 0.5 + 0.25 * 3 = 1.25 pixels, plus the rounding of the nearest
upsampling). Gradients are always off here; training calls the module itself.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import devices
from .tiling import Box

__all__ = ["Band", "TileNetwork", "scale_of"]

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


def scale_of(module: nn.Module) -> Optional[int]:
    """The whole factor by which a network enlarges, None if its structure does not tell."""
    if _is_rrdbnet(module):
        first: Any = module.conv_first
        return {3: 4, 12: 2, 48: 1}.get(first.in_channels)
    factor = getattr(module, "upscale", None)
    return int(factor) if isinstance(factor, int) else None


class TileNetwork:
    """A network on a device in one precision.

    Args:
        module: The network, FP32, on the CPU; it is not changed.
        device: Where it runs.
        half: In FP16.
        band_rows: Rows of the feature map in a band of an RRDBNet's last stage; None takes the device's own.
        compiled: Run the parts through torch.compile.
    """

    def __init__(
        self,
        module: nn.Module,
        device: devices.Device,
        *,
        half: bool = False,
        band_rows: Optional[int] = None,
        compiled: bool = False,
    ) -> None:
        self.device = device
        self.half = half
        self.band_rows = band_rows or device.capabilities.band_rows
        self.dtype = torch.float16 if half else torch.float32
        own = module if device.backend == "cpu" else copy.deepcopy(module)
        self.module = own.to(device=device.torch_device, dtype=self.dtype).eval()
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)
        if device.capabilities.channels_last:
            self.module.to(memory_format=torch.channels_last)
        self._queued = 0
        self._widest = max((max(c.in_channels, c.out_channels) for c in _convs(self.module)), default=3)
        self.compiled = compiled
        self._compile: Callable[[Any], Any] = _compile if compiled else _as_it_is
        self._stages: Optional[_RRDBStages] = _RRDBStages(self) if _is_rrdbnet(self.module) else None
        self._whole = None if self._stages else self._compile(self._sequence() or self.module)

    @torch.no_grad()
    def bands(self, x: Tensor, keep: Box, scale: int) -> Iterator[Band]:
        """Run a tile and give the kept part of the result from top to bottom.

        Args:
            x: 1x3xHxW on the device in the network's precision, 0..1; H and W multiples of what the network needs.
            keep: The part of the tile that is wanted, in pixels of ``x``.
            scale: The network's factor.

        Raises:
            MemoryError: The tile is too large for the backend.
        """
        self._refuse_too_large(x, scale)
        if self.device.capabilities.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        if self._stages is not None:
            # no_grad does not last between the steps of a generator: each step opens its own.
            return self._stages.bands(x, keep, scale)
        assert self._whole is not None
        rows, columns = keep.scaled(scale).slices
        return _sliced(self._whole(x)[:, :, rows, columns], self._slice_rows(keep.height * scale, scale))

    def _refuse_too_large(self, x: Tensor, scale: int) -> None:
        limit = self.device.capabilities.largest_tensor
        if not limit:
            return
        if self._stages is not None:
            values = self._stages.largest(x.shape[2], x.shape[3], self._widest)
        else:  # of an unknown network any convolution may come after the enlargement
            values = self._widest * x.shape[2] * x.shape[3] * (1 if self._sequence() else scale**2)
        size = values * x.element_size()
        if size > limit:
            raise MemoryError(f"a tensor of {size} bytes is more than {self.device.label} counts right ({limit})")

    def _slice_rows(self, height: int, scale: int) -> int:
        """Rows of a finished result that are quantised at once: few, since rounding makes copies of them.

        Where copies to the host overlap with work, a quarter is small enough, and there is less to launch.
        """
        rows = self.band_rows * scale
        return max(rows, -(-height // 4)) if self.device.capabilities.asynchronous else rows

    def pause(self, flops: int, tensor: Tensor) -> None:
        """Count work that was queued, and wait for it where the backend must not be kept busy for long."""
        limit = self.device.capabilities.drain_flops
        if not limit:
            return
        self._queued += flops
        if self._queued >= limit:
            devices.drain(tensor)
            self._queued = 0

    def _sequence(self) -> Optional[Callable[[Tensor], Tensor]]:
        """A plain sequence with a pixel-shuffle at its end, run layer by layer where the backend needs care."""
        body = getattr(self.module, "body", None)
        capabilities = self.device.capabilities
        if not isinstance(body, nn.ModuleList) or not hasattr(self.module, "upsampler"):
            return None
        if capabilities.multi_prelu and not capabilities.drain_flops:
            return None
        return self._run_sequence

    def _run_sequence(self, x: Tensor) -> Tensor:
        out = x
        module: Any = self.module
        for layer in module.body:
            if isinstance(layer, nn.PReLU) and not self.device.capabilities.multi_prelu:
                out = _prelu(out, layer.weight)
            else:
                out = layer(out)
            if isinstance(layer, nn.Conv2d):
                self.pause(_conv_flops(layer, out), out)
        out = module.upsampler(out)
        return out + F.interpolate(x, scale_factor=module.upscale, mode="nearest")


class _RRDBStages:
    """The trunk of an RRDBNet, and its last stage in bands."""

    def __init__(self, owner: TileNetwork) -> None:
        module: Any = owner.module
        self.module = module
        self.owner = owner
        self.shrink = {3: 1, 12: 2, 48: 4}[module.conv_first.in_channels]
        self.block: Callable[[Any, Tensor, _Residual], Tensor] = owner._compile(_rrdb)
        self.last: Callable[[Tensor], Tensor] = owner._compile(self._last)
        self.residual = _residual_of(owner)
        self.channels_last = owner.device.capabilities.channels_last

    def bands(self, x: Tensor, keep: Box, scale: int) -> Iterator[Band]:
        features = self.trunk(x)
        shrink = self.shrink
        height, width = features.shape[2:]
        # Only what is kept, rounded outwards to whole pixels of the feature map, goes through the last stage.
        top, bottom = keep.y0 // shrink, -(-keep.y1 // shrink)
        left, right = max(keep.x0 // shrink - _HALO, 0), min(-(-keep.x1 // shrink) + _HALO, width)
        rows = self.owner.band_rows
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
        out = first
        for block in self.module.body:
            out = self.block(block, out, self.residual)
            self.owner.pause(_block_flops(block, out), out)
        out = self.module.conv_body(out)
        out += first
        return out

    def _last(self, features: Tensor) -> Tensor:
        module = self.module
        out = F.leaky_relu(module.conv_up1(F.interpolate(features, scale_factor=2, mode="nearest")), 0.2, inplace=True)
        out = F.leaky_relu(module.conv_up2(F.interpolate(out, scale_factor=2, mode="nearest")), 0.2, inplace=True)
        return module.conv_last(F.leaky_relu(module.conv_hr(out), 0.2, inplace=True))


_Residual = Callable[[Tensor, Tensor], Tensor]


def _rrdb(block: Any, x: Tensor, residual: _Residual) -> Tensor:
    out = _dense(block.rdb1, x, residual)
    out = _dense(block.rdb2, out, residual)
    out = _dense(block.rdb3, out, residual)
    return residual(x, out)


def _dense(block: Any, x: Tensor, residual: _Residual) -> Tensor:
    # Concatenated anew each time: in channels-last tensors a slice of one buffer is no cheaper (convolutions copy it),
    # and on DirectML slices are copies.
    seen = x
    for conv in (block.conv1, block.conv2, block.conv3, block.conv4):
        seen = torch.cat((seen, F.leaky_relu(conv(seen), 0.2, inplace=True)), 1)
    return residual(x, block.conv5(seen))


def _residual_of(owner: TileNetwork) -> _Residual:
    """``x + 0.2 * out``, rounded once where that can be had."""
    if owner.compiled:
        return _added_in_single
    return _added_at_once if owner.device.capabilities.scaled_add else _added


def _added_at_once(x: Tensor, out: Tensor) -> Tensor:
    return torch.add(x, out, alpha=0.2)


def _added_in_single(x: Tensor, out: Tensor) -> Tensor:
    # What _added_at_once does inside; the compiler would round the product by itself.
    return (x.to(torch.float32) + out.to(torch.float32) * 0.2).to(x.dtype)


def _added(x: Tensor, out: Tensor) -> Tensor:
    return out * 0.2 + x


def _sliced(result: Tensor, rows: int) -> Iterator[Band]:
    for row in range(0, result.shape[2], rows):
        yield Band(row, result[:, :, row : row + rows])


def _is_rrdbnet(module: nn.Module) -> bool:
    if not all(hasattr(module, part) for part in _RRDB_PARTS):
        return False
    first = getattr(module, "conv_first")  # noqa: B009
    return getattr(first, "in_channels", None) in (3, 12, 48)


def _prelu(x: Tensor, weight: Tensor) -> Tensor:
    """PReLU with a weight for each channel, by operations that every backend has; exact."""
    return torch.where(x >= 0, x, x * weight.view(1, -1, 1, 1))


def _conv_flops(conv: nn.Conv2d, out: Tensor) -> int:
    return 2 * conv.weight.numel() * out.shape[2] * out.shape[3]


def _convs(module: nn.Module) -> Iterator[nn.Conv2d]:
    return (part for part in module.modules() if isinstance(part, nn.Conv2d))


def _block_flops(block: nn.Module, x: Tensor) -> int:
    weights = sum(conv.weight.numel() for conv in _convs(block))
    return 2 * weights * x.shape[2] * x.shape[3]


def _compile(function: Any) -> Any:
    # For any size from the start, so that neither the tiles at the edges nor the next picture wait for the compiler;
    # rounding to FP16 wherever the uncompiled network rounds, so that the result is the same.
    return torch.compile(function, dynamic=True, options={"emulate_precision_casts": True})


def _as_it_is(function: Any) -> Any:
    return function
