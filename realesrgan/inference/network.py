"""Runs one tile through a network. The only caller of a network.

Gradients are off here; training calls modules itself.
"""

from __future__ import annotations

import copy
from typing import Any, Callable, Iterator, Optional, Union

import torch
from torch import Tensor, nn

from .. import devices
from . import cuda_conv, cuda_rrdb, cuda_srvgg
from .cpu_rrdb import PlanarStages, suits
from .stages import Band, RRDBStages, SequenceStages, convs, is_rrdbnet, is_sequence, sliced
from .tiling import Box

__all__ = ["Band", "TileNetwork", "scale_of"]

Stages = Union[RRDBStages, SequenceStages, cuda_srvgg.CudaSequenceStages]


def scale_of(module: nn.Module) -> Optional[int]:
    """The whole factor by which a network enlarges, None if its structure does not tell."""
    if is_rrdbnet(module):
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
        kernels: Take our own kernels where the device and the network allow them.

    Attributes:
        own_kernels: It runs our own kernels.
        refusal: Why it does not, though the network and the backend would allow it; empty where that does not apply.
    """

    def __init__(
        self,
        module: nn.Module,
        device: devices.Device,
        *,
        half: bool = False,
        band_rows: Optional[int] = None,
        compiled: bool = False,
        kernels: bool = True,
    ) -> None:
        self.device = device
        self.half = half
        self.band_rows = band_rows or device.capabilities.band_rows
        self.dtype = torch.float16 if half else torch.float32
        own = module if devices.is_host(device) else copy.deepcopy(module)
        self.module = own.to(device=device.torch_device, dtype=self.dtype).eval()
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)
        if device.capabilities.channels_last:
            self.module.to(memory_format=torch.channels_last)
        self._queued = 0
        self._widest = max((max(c.in_channels, c.out_channels) for c in convs(self.module)), default=3)
        self.compiled = compiled
        self.compile: Callable[[Any], Any] = _compile if compiled else _as_it_is
        self.refusal = ""
        self._stages = self._with_kernels() if kernels and half and not compiled else None
        self.own_kernels = self._stages is not None
        self._stages = self._stages or self._taken_apart()
        self._whole: Any = None if self._stages else self.compile(self.module)

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
        rows, columns = keep.scaled(scale).slices
        return sliced(self._whole(x)[:, :, rows, columns], self.slice_rows(keep.height * scale, scale))

    def _refuse_too_large(self, x: Tensor, scale: int) -> None:
        limit = self.device.capabilities.largest_tensor
        if not limit:
            return
        if self._stages is not None:
            values = self._stages.largest(x.shape[2], x.shape[3], self._widest)
        else:  # any convolution of an unknown network may come after the enlargement
            values = self._widest * x.shape[2] * x.shape[3] * scale**2
        size = values * x.element_size()
        if size > limit:
            raise MemoryError(f"a tensor of {size} bytes is more than {self.device.label} counts right ({limit})")

    def slice_rows(self, height: int, scale: int) -> int:
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

    def _with_kernels(self) -> Optional[Stages]:
        if not self.device.capabilities.kernels:
            return None
        rrdb = is_rrdbnet(self.module) and cuda_rrdb.suits(self.module)
        if not rrdb and not (is_sequence(self.module) and cuda_srvgg.suits(self.module)):
            return None
        self.refusal = cuda_conv.refusal(self.device.torch_device)
        if self.refusal:
            return None
        return cuda_rrdb.CudaRRDBStages(self) if rrdb else cuda_srvgg.CudaSequenceStages(self)

    def _taken_apart(self) -> Optional[Stages]:
        if is_rrdbnet(self.module):
            planar = self.device.capabilities.planes and not self.compiled and suits(self.module)
            return PlanarStages(self) if planar else RRDBStages(self)
        # Where there is much to launch and copies overlap, a short network runs as one.
        if is_sequence(self.module) and not self.device.capabilities.asynchronous:
            return SequenceStages(self)
        return None


def _compile(function: Any) -> Any:
    # For any size from the start, so that neither the tiles at the edges nor the next picture wait for the compiler;
    # rounding to FP16 wherever the uncompiled network rounds, so that the result is the same.
    return torch.compile(function, dynamic=True, options={"emulate_precision_casts": True})


def _as_it_is(function: Any) -> Any:
    return function
