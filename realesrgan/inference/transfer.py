"""A crop on its way to the device, and bands on their way back.

A band is checked, reduced to the picture's own channels and quantised on the device, and brought to the host before it
is put into its place: a copy from a DirectML tensor into a view of a host tensor is lost silently.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from .. import devices
from . import cuda_conv
from .arrays import Plane, Rows
from .tiling import Box

__all__ = ["Arriving", "finished", "health", "quantise", "rows", "to_device"]

_COLUMNS = 1024
_LUMA = (0.299, 0.587, 0.114)


def to_device(plane: Plane, pixels: np.ndarray, network: Any) -> Tensor:
    """A crop as 1x3xHxW RGB on the network's device, 0..1, in its precision."""
    device = network.device
    if device.capabilities.converts_uint8 and pixels.dtype == np.uint8:
        x: Tensor = devices.from_host(device, torch.from_numpy(pixels)).to(torch.float32) / plane.max_value
        x = x.to(network.dtype)
        return x[None, None].expand(1, 3, -1, -1) if plane.is_grey else x.permute(2, 0, 1)[None].flip(1)
    unit = plane.unit(pixels)
    unit = np.stack((unit, unit, unit)) if plane.is_grey else unit[:, :, ::-1].transpose(2, 0, 1)
    host = torch.from_numpy(np.ascontiguousarray(unit[None])).to(network.dtype)
    return host.to(device.torch_device)


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
        red, green, blue = _LUMA
        values = values[:, 0:1] * red + values[:, 1:2] * green + values[:, 2:3] * blue
    else:
        values = values.flip(1)
    if dtype != np.float32:
        values = (values * plane.max_value).round_()
        if dtype == np.uint8:
            values = values.to(torch.uint8)
    values = values[0, 0] if plane.is_grey else values[0].permute(1, 2, 0)
    return values.contiguous()


def finished(values: Tensor, plane: Plane, dtype: Any, network: Any) -> Tuple[Tensor, Tensor]:
    """What :func:`quantise` and :func:`health` give; in one pass where the network runs our own kernels."""
    if not network.own_kernels:
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


def rows(network: Any, plane: Plane, pixels: np.ndarray, keep: Box, scale: int, dtype: Any) -> Iterator[Arriving]:
    """Run a tile, and begin to bring each band to the host when it is finished. See :meth:`TileNetwork.rows`."""
    device = network.device
    seen: List[Tensor] = []
    previous: Optional[Tuple[int, Tensor]] = None
    for band in network.bands(to_device(plane, pixels, network), keep, scale):
        if previous is not None:
            yield Arriving(previous[0], devices.to_host(device, previous[1]), None)
        values, judged = finished(band.values, plane, dtype, network)
        seen.append(judged)
        previous = band.row, values
    assert previous is not None
    last = devices.to_host(device, previous[1])
    yield Arriving(previous[0], last, devices.to_host(device, torch.cat(seen)))
