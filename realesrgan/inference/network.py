"""Runs tiles through a network: to the device, in bands through the network, finished rows back. Its only caller.

A band is checked, reduced to the picture's own channels and quantised on the device, and brought to the host before it
is put into its place: a copy from a DirectML tensor into a view of a host tensor is lost silently. Gradients are off
here; training calls modules itself.
"""

from __future__ import annotations

import copy
import importlib
from dataclasses import dataclass
from typing import Any, Callable, Iterator, List, Mapping, Optional, Sequence, Tuple, Type

import numpy as np
import torch
from torch import Tensor, nn

from .. import devices
from ..archs import structure
from ..errors import Phrase
from . import cpu_rrdb, cuda_conv, cuda_stages
from .arrays import LUMA, Plane, Rows
from .stages import Band, ChannelPReLU, RRDBStages, Runtime, SequenceStages, Stages, is_apart, sliced
from .tiling import Box

__all__ = ["Arriving", "Band", "Called", "TileNetwork", "finished", "health", "quantise"]

_COLUMNS = 1024
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
    (cuda_stages.suits_rrdb, cuda_stages.CudaRRDBStages),
    (cuda_stages.suits_sequence, cuda_stages.CudaSequenceStages),
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
        self.device, self.half, self.dtype = device, half, self.runtime.dtype
        if not isinstance(module, nn.Module):
            module = Called(module)
        # The processor runs the network that was given; whether its parameters are trained is its owner's affair.
        own = module if devices.is_host(device) else copy.deepcopy(module)
        self.module = own.to(device=device.torch_device, dtype=self.dtype).eval()
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

    def in_flight(self, height: int, width: int) -> int:
        """How many bands may be on their way to the host while the next one is computed."""
        return 2 if self.device.capabilities.asynchronous else 0

    def rows(self, plane: Plane, pixels: np.ndarray, keep: Box, scale: int, dtype: Any) -> Iterator[Arriving]:
        """Run a tile, and begin to bring each band's finished rows to the host.

        Args:
            pixels: The crop that the tile reads, in the plane's stored type.
            keep: The part of the crop that is wanted.
            dtype: Type of the result.
        """
        seen: List[Tensor] = []
        previous: Optional[Tuple[int, Tensor]] = None
        for band in self.bands(self._sent(plane, pixels), keep, scale):
            if previous is not None:
                yield Arriving(previous[0], devices.to_host(self.device, previous[1]), None)
            values, judged = finished(band.values, plane, dtype, own_kernels=bool(self.own_kernels))
            seen.append(judged)
            previous = band.row, values
        assert previous is not None
        last = devices.to_host(self.device, previous[1])
        yield Arriving(previous[0], last, devices.to_host(self.device, torch.cat(seen)))

    def _sent(self, plane: Plane, pixels: np.ndarray) -> Tensor:
        """A crop as 1x3xHxW RGB on the device, 0..1, in the network's precision."""
        device = self.device
        if device.capabilities.converts_uint8 and pixels.dtype == np.uint8:
            x: Tensor = devices.from_host(device, torch.from_numpy(pixels)).to(torch.float32) / plane.max_value
            x = x.to(self.dtype)
            return x[None, None].expand(1, 3, -1, -1) if plane.is_grey else x.permute(2, 0, 1)[None].flip(1)
        host = torch.from_numpy(np.ascontiguousarray(plane.rgb(pixels)[None])).to(self.dtype)
        return host.to(device.torch_device)

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


def health(values: Tensor) -> Tensor:
    """1 if there is NaN or infinity, else 0, and the brightest value: two numbers on the device."""
    broken = (1 - torch.isfinite(values).to(torch.float32)).amax((0, 1, 2, 3), keepdim=True)
    return torch.cat((broken, values.amax((0, 1, 2, 3), keepdim=True).to(torch.float32)))


def quantise(values: Tensor, plane: Plane, dtype: Any) -> Tensor:
    """Bring 1x3xHxW RGB in 0..1 to HxWx3 BGR or HxW grey values of the result's type, rounded half to even.

    For uint16 the rounded values stay floats, since not every backend has the type; numpy converts them when they are
    put into the result. For float32 results nothing is clamped or rounded.
    """
    values = values.to(torch.float32)
    if dtype != np.float32:
        values = values.clamp(0, 1)  # each channel for itself, before the luma, as the original does
    if plane.is_grey:
        values = values[:, 0:1] * LUMA[0] + values[:, 1:2] * LUMA[1] + values[:, 2:3] * LUMA[2]
    else:
        values = values.flip(1)
    if dtype != np.float32:
        values = (values * plane.max_value).round_()
        if dtype == np.uint8:
            values = values.to(torch.uint8)
    values = values[0, 0] if plane.is_grey else values[0].permute(1, 2, 0)
    return values.contiguous()


def finished(values: Tensor, plane: Plane, dtype: Any, *, own_kernels: bool) -> Tuple[Tensor, Tensor]:
    """What :func:`quantise` and :func:`health` give; in one pass with our own kernels."""
    if not own_kernels:
        return quantise(values, plane, dtype), health(values)
    height, width = values.shape[2:]
    stored = torch.uint8 if dtype == np.uint8 else torch.float32
    shape = (height, width) if plane.is_grey else (height, width, 3)
    out = torch.empty(shape, dtype=stored, device=values.device)
    parts = -(-width // _COLUMNS)
    found = torch.empty((height * parts, 2), dtype=torch.float32, device=values.device)
    kernels = importlib.import_module(".cuda_kernels", __package__)
    with cuda_conv.on(values.device):
        kernels.quantised[(height, parts)](
            *(values, out, found, width, *values.stride()[1:], float(plane.max_value)),
            *(plane.is_grey, dtype != np.float32, _COLUMNS),
            num_warps=4,
        )
    return out, found.amax(0)


class _Copied(Rows):
    """Rows that several threads put into their place."""

    def into(self, target: np.ndarray) -> None:
        if target.dtype == self.pixels.dtype:
            torch.from_numpy(target).copy_(torch.from_numpy(self.pixels))
        else:
            super().into(target)


@dataclass
class Arriving:
    """A band on its way to the host. ``health`` comes with the last band of a tile."""

    row: int
    values: devices.Arrival
    health: Optional[devices.Arrival]

    @property
    def ready(self) -> bool:
        """Whether the rows are on the host."""
        return self.values.ready

    def wait(self) -> Rows:
        """The rows on the host, once all of them have arrived."""
        pixels = self.values.wait().numpy()
        if self.health is None:
            return _Copied(self.row, pixels)
        broken, brightest = self.health.wait().reshape(-1, 2).amax(0).tolist()
        return _Copied(self.row, pixels, (bool(broken), brightest))
