"""Runs one tile through a network. The only caller of a network.

Gradients are off here; training calls modules itself.
"""

from __future__ import annotations

import copy
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, Tuple, Type

import numpy as np
import torch
from torch import Tensor, nn

from .. import devices
from ..archs import structure
from ..errors import Phrase
from . import cpu_rrdb, cuda_conv, cuda_rrdb, cuda_srvgg, transfer
from .arrays import Plane
from .stages import Band, ChannelPReLU, RRDBStages, Runtime, SequenceStages, Stages, is_apart, sliced
from .tiling import Box

__all__ = ["Band", "Called", "TileNetwork"]

_Ways = Sequence[Tuple[Callable[[nn.Module, Runtime], bool], Type[Stages]]]

# How networks are taken apart: the first row that suits. A network that none suits runs in one piece.
_WAYS: _Ways = (
    (cpu_rrdb.suits, cpu_rrdb.PlanarStages),
    (lambda module, runtime: runtime.structure.last > 0, RRDBStages),
    # Where there is much to launch and copies overlap, a short network runs as one.
    (
        lambda module, runtime: hasattr(module, "upsampler") and not runtime.device.capabilities.asynchronous,
        SequenceStages,
    ),
)
# The same with our own kernels, in FP16.
_KERNELS: _Ways = (
    (lambda module, runtime: cuda_rrdb.suits(module, runtime.structure), cuda_rrdb.CudaRRDBStages),
    (lambda module, runtime: cuda_srvgg.suits(module, runtime.structure), cuda_srvgg.CudaSequenceStages),
)


class Called(nn.Module):
    """Anything that can be called with a tensor, as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.called = function

    def __deepcopy__(self, memo: Any) -> Called:
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.called(x)


class TileNetwork:
    """A network on a device in one precision.

    Args:
        module: The network, FP32, on the CPU, or anything that can be called so. It is not changed where the device is
            another one; on the CPU it is the one that runs.
        device: Where it runs.
        half: In FP16.
        band_rows: Rows of the feature map in a band of an RRDBNet's last stage; None uses the device's own.
        compiled: Run the parts through torch.compile.
        kernels: Use our own kernels where the device and the network allow them.
        shapes: What tuning found for them; see :func:`realesrgan.inference.cuda_conv.shapes_of`.

    Attributes:
        own_kernels: The family of cards whose kernels of our own it runs, empty if it runs none.
        refusal: Why it does not, though the network and the backend would allow it; None where that does not apply.
    """

    def __init__(
        self,
        module: Any,
        device: devices.Device,
        *,
        half: bool = False,
        band_rows: Optional[int] = None,
        compiled: bool = False,
        kernels: bool = True,
        shapes: Optional[Mapping[str, Sequence[int]]] = None,
    ) -> None:
        self.runtime = Runtime(device, structure.of(module, 1), half, compiled, band_rows, shapes or {})
        if not isinstance(module, nn.Module):
            module = Called(module)
        # The processor runs the network that was given; whether its parameters are trained is its owner's affair.
        own = module if devices.is_host(device) else copy.deepcopy(module)
        self.module = own.to(device=device.torch_device, dtype=self.runtime.dtype).eval()
        if not device.capabilities.multi_prelu:
            ChannelPReLU.put_into(self.module)
        if device.capabilities.channels_last:
            self.module.to(memory_format=torch.channels_last)
        self.refusal: Optional[Phrase] = None
        apart = self.runtime.structure.row is not structure.OTHER and is_apart(self.module)
        self._stages = self._with_kernels() if apart and kernels and half and not compiled else None
        self.own_kernels = cuda_conv.family(device.torch_device) if self._stages is not None else ""
        if apart and self._stages is None:
            self._stages = self._fitting(_WAYS)
        self._whole: Any = self.runtime.compile(self.module)

    @property
    def device(self) -> devices.Device:
        return self.runtime.device

    @property
    def half(self) -> bool:
        return self.runtime.half

    @property
    def dtype(self) -> torch.dtype:
        return self.runtime.dtype

    def in_flight(self, height: int, width: int) -> int:
        """How many bands may be on their way to the host while the next one is computed."""
        return 2 if self.device.capabilities.asynchronous else 0

    def rows(self, plane: Plane, pixels: np.ndarray, keep: Box, scale: int, dtype: Any) -> Iterator[transfer.Arriving]:
        """Run a tile, and give its finished rows on their way to the host.

        Args:
            plane: The input.
            pixels: The crop that the tile reads, in the plane's stored type.
            keep: The part of the crop that is wanted.
            scale: The network's factor.
            dtype: Type of the result.
        """
        return transfer.rows(self, plane, pixels, keep, scale, dtype)

    def sample(self, x: np.ndarray, keep: Box, scale: int) -> np.ndarray:
        """3xHxW in 0..1 through the network in one tile; float32, not clamped."""
        sent = torch.from_numpy(x[None]).to(self.dtype).to(self.device.torch_device)
        bands = [band.values.cpu().float() for band in self.bands(sent, keep, scale)]
        result: np.ndarray = torch.cat(bands, 2)[0].numpy()
        return result

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
        if self._stages is not None and is_apart(self.module):
            # no_grad does not last between the steps of a generator: each step opens its own.
            return self._stages.bands(x, keep, scale)
        rows, columns = keep.scaled(scale).slices
        return sliced(self._whole(x)[:, :, rows, columns], self.runtime.slice_rows(keep.height * scale, scale))

    def _refuse_too_large(self, x: Tensor, scale: int) -> None:
        limit = self.device.capabilities.largest_tensor
        if not limit:
            return
        if self._stages is not None:
            values = self._stages.largest(x.shape[2], x.shape[3])
        else:  # any convolution of an unknown network may come after the enlargement
            values = self.runtime.structure.largest(x.shape[2], x.shape[3], 1) * scale**2
        size = values * x.element_size()
        if size > limit:
            raise MemoryError(f"a tensor of {size} bytes is more than {self.device.label} counts right ({limit})")

    def _with_kernels(self) -> Optional[Stages]:
        stages = self._fitting(_KERNELS) if self.device.capabilities.kernels else None
        if stages is not None:
            self.refusal = cuda_conv.refusal(self.device.torch_device)
        return None if self.refusal else stages

    def _fitting(self, ways: _Ways) -> Optional[Stages]:
        fitting = (stages for suits, stages in ways if suits(self.module, self.runtime))
        return next((stages(self.module, self.runtime) for stages in fitting), None)
