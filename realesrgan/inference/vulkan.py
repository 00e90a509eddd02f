"""A network on a Vulkan device, run by ncnn: arrays in, arrays out. No torch.

An RRDBNet runs in two parts, the trunk for the whole tile and the last stage in bands of rows, and the feature map
between them passes through the host: in one piece a tile of 512 would take over 10 GB. One
:class:`~realesrgan.weights.ncnn.Model` serves both parts, since ncnn computes only what lies between the blob that is
given and the blob that is asked for. Several tiles are under way at the same time, so that the device works on one
while the host converts the results of another.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Optional, Tuple

import cv2
import numpy as np

from .. import devices
from ..archs.structure import HALO, Structure
from ..backends import vulkan
from ..errors import Phrase, notice
from ..weights import ncnn
from . import memory
from .arrays import Plane, Rows
from .precision import Networks
from .tiling import Box

__all__ = ["VulkanNetwork", "VulkanNetworks", "quantise"]

logger = logging.getLogger(__name__)

_AT_ONCE = 3
"""Tiles that are computed at the same time, where memory suffices."""
_LUMA = (np.float32(0.299), np.float32(0.587), np.float32(0.114))


class VulkanNetworks(Networks):
    """As :class:`~realesrgan.inference.precision.Networks`, through ncnn.

    Args:
        write: Gives the network as ncnn loads it, with weights in half precision or not.
        structure: What it is.
        device: A Vulkan device.
        module: Gives the network for PyTorch, for whoever asks for it.
    """

    def __init__(
        self,
        write: Callable[[bool], ncnn.Model],
        structure: Structure,
        device: devices.Device,
        module: Callable[[], Any],
        *,
        band_rows: Optional[int] = None,
    ) -> None:
        without: Any = None  # the network is not PyTorch's
        super().__init__(without, device, structure.scale, band_rows=band_rows)
        self._write = write
        self._structure = structure
        self._make_module = module

    @property
    def own_kernels(self) -> bool:
        """There are none beside ncnn's."""
        return False

    def shown(self) -> Any:
        """The network for PyTorch, on the CPU in FP32."""
        devices.need_torch("RealESRGANer.model")
        return self._make_module()

    def _build(self, half: bool) -> VulkanNetwork:
        return VulkanNetwork(
            self._write(half),
            self._structure,
            self.device,
            half=half,
            arithmetic=self._kernels,
            band_rows=self._band_rows,
        )

    def _say_plain(self, reason: Phrase, level: int) -> None:
        message = (
            f"FP16 arithmetic is not used on {self.device.name} ({reason}): numbers are stored in FP16 and computed in "
            "FP32."
        )
        notice(logger, "precision.storage", message, level=level, device=self.device.name, reason=reason)

    def _on_host(self) -> VulkanNetwork:
        return VulkanNetwork(self._write(False), self._structure, None)


class VulkanNetwork:
    """A network on a device in one precision. Several threads may run tiles at the same time.

    Args:
        model: The network as ncnn loads it.
        structure: What it is.
        device: A Vulkan device; None runs it on the processor, with which a device is compared.
        half: Store in FP16, and compute in it where the device can.
        arithmetic: With ``half``: compute in FP16 too; without it, numbers are stored in FP16 and computed in FP32.
        band_rows: Rows of the feature map in a band of the last stage; None uses the device's own.

    Attributes:
        own_kernels: It computes in FP16, which the device's check may refuse, as it may refuse the kernels of
            :class:`~realesrgan.inference.network.TileNetwork`.

    Raises:
        RuntimeError: ncnn cannot load the network.
    """

    refusal = None

    def __init__(
        self,
        model: ncnn.Model,
        structure: Structure,
        device: Optional[devices.Device],
        *,
        half: bool = False,
        arithmetic: bool = True,
        band_rows: Optional[int] = None,
    ) -> None:
        library = vulkan.library()
        self.structure = structure
        self.device = device or devices.HOST
        self.half = half
        self.own_kernels = "arithmetic" if half and arithmetic else ""
        self.band_rows = band_rows or self.device.capabilities.band_rows
        self._gpu = device
        self._features = model.features
        self._mat = library.Mat
        self._pool = library.PoolAllocator()  # arrays of the host that are done with are used again
        self._lock = threading.Lock()
        self._workers: Optional[ThreadPoolExecutor] = None
        self._net = library.Net()
        option = self._net.opt
        option.use_vulkan_compute = device is not None
        option.use_packing_layout = False  # plain rows and channels, which numpy can read
        option.use_fp16_packed = option.use_fp16_storage = half
        option.use_fp16_arithmetic = half and arithmetic
        option.use_bf16_packed = option.use_bf16_storage = False
        option.blob_allocator = self._pool
        if device is not None:
            self._net.set_vulkan_device(device.index)
        if self._net.load_param_mem(model.param) != 0:
            raise RuntimeError(f"ncnn cannot load the network ({structure.describe()})")
        self._data = model.data  # read where it lies, as long as the network is used
        self._net.load_model_mem(self._data)

    def in_flight(self, height: int, width: int) -> int:
        """How many tiles of this size may be under way while the next one is computed."""
        device = self.device
        if device.software:
            return 0
        size = memory.tile_bytes(self.structure, height, width, half=self.half, device=device)
        return max(1, min(_AT_ONCE, memory.budget(device) // size)) - 1

    def rows(self, plane: Plane, pixels: np.ndarray, keep: Box, scale: int, dtype: Any) -> Iterator[_Arriving]:
        """Begin a tile. See :meth:`realesrgan.inference.network.TileNetwork.rows`."""
        if self._workers is None:
            self._workers = ThreadPoolExecutor(_AT_ONCE, "realesrgan-tile")
        yield _Arriving(self._workers.submit(self._tile, plane, pixels, keep, scale, dtype))

    def _tile(self, plane: Plane, pixels: np.ndarray, keep: Box, scale: int, dtype: Any) -> Rows:
        unit = plane.unit(pixels)
        x = np.stack((unit, unit, unit)) if plane.is_grey else unit[:, :, ::-1].transpose(2, 0, 1)
        channels = () if plane.is_grey else (3,)
        out = np.empty((keep.height * scale, keep.width * scale, *channels), dtype)
        broken, brightest = False, 0.0
        for row, values in self.bands(x, keep, scale):
            largest, smallest = float(values.max()), float(values.min())  # NaN wins in both
            broken = broken or not np.isfinite(largest + smallest)
            brightest = max(brightest, largest)
            with np.errstate(invalid="ignore"):
                quantise(values, plane, out[row : row + values.shape[1]])
        return Rows(0, out, (broken, brightest))

    def sample(self, x: np.ndarray, keep: Box, scale: int) -> np.ndarray:
        """3xHxW in 0..1 through the network in one tile; float32, not clamped."""
        return np.concatenate([values for _, values in self.bands(x, keep, scale)], 1)

    def bands(self, x: np.ndarray, keep: Box, scale: int) -> Iterator[Tuple[int, np.ndarray]]:
        """Run a tile and give the kept part of the result from top to bottom.

        Args:
            x: 3xHxW RGB, float32, 0..1; H and W multiples of what the network needs.
            keep: The part of the tile that is wanted, in pixels of ``x``.
            scale: The network's factor.

        Yields:
            The first row, in pixels of the result counted from the top of ``keep``, and 3xhxw in 0..1, not clamped.

        Raises:
            MemoryError: ncnn could not allocate memory.
            RuntimeError: It failed in another way; see :func:`realesrgan.backends.vulkan.check`.
        """
        if not self._features:
            rows, columns = keep.scaled(scale).slices
            yield 0, self._extract(ncnn.INPUT, x, ncnn.OUTPUT)[:, rows, columns]
            return
        shrink = self.structure.unshuffle
        features = self._extract(ncnn.INPUT, _folded(x, shrink), self._features)
        height, width = features.shape[1:]
        # Only what is kept, rounded outwards to whole pixels of the feature map, goes through the last stage.
        top, bottom = keep.y0 // shrink, -(-keep.y1 // shrink)
        left, right = max(keep.x0 // shrink - HALO, 0), min(-(-keep.x1 // shrink) + HALO, width)
        step = -(-(bottom - top) // -(-(bottom - top) // self.band_rows))  # bands of about equal height
        for start in range(top, bottom, step):
            stop = min(start + step, bottom)
            first, last = max(start - HALO, 0), min(stop + HALO, height)
            out = self._extract(self._features, features[:, first:last, left:right], ncnn.OUTPUT)
            y0, y1 = max(start * shrink, keep.y0), min(stop * shrink, keep.y1)
            # From pixels of the picture to pixels of this band's result.
            upper, inner = (y0 - first * shrink) * scale, (keep.x0 - left * shrink) * scale
            out = out[:, upper : upper + (y1 - y0) * scale, inner : inner + keep.width * scale]
            yield (y0 - keep.y0) * scale, out

    def _extract(self, source: str, values: np.ndarray, target: str) -> np.ndarray:
        """Compute the blob ``target`` from ``source``, CxHxW."""
        filled = self._filled(values)
        with vulkan.allocators(self._gpu) as (card, shared):
            with self._lock:  # an extractor keeps the allocators that are set when it is made
                option = self._net.opt
                option.blob_vkallocator = option.workspace_vkallocator = card
                option.staging_vkallocator = shared
                extractor = self._net.create_extractor()
            extractor.input(source, filled)
            status, result = extractor.extract(target, 1)
            del extractor  # before another thread uses its allocators
            vulkan.check(status)
        return np.asarray(result)

    def _filled(self, values: np.ndarray) -> Any:
        """An array of ncnn's own distances between rows and channels, which it does not look up in one of numpy's."""
        channels, height, width = values.shape
        mat = self._mat(width, height, channels, allocator=self._pool)
        np.asarray(mat)[...] = values
        return mat


@dataclass
class _Arriving:
    """A tile that a thread works on."""

    result: Future[Rows]

    @property
    def ready(self) -> bool:
        """Whether its rows are finished."""
        return self.result.done()

    def wait(self) -> Rows:
        """Its rows, once they are finished."""
        return self.result.result()


def quantise(values: np.ndarray, plane: Plane, out: np.ndarray) -> None:
    """Put 3xHxW RGB in 0..1 into HxWx3 BGR or HxW grey of the result's type, rounded half to even.

    The same as :func:`realesrgan.inference.transfer.quantise` does on a device. In float32 results nothing is clamped
    or rounded.
    """
    exact = out.dtype == np.float32
    if plane.is_grey:
        parts = [channel if exact else channel.clip(0, 1) for channel in values]
        grey = sum(part * share for part, share in zip(parts, _LUMA))
        out[...] = grey if exact else np.rint(grey * np.float32(plane.max_value))
        return
    colors = [values[2], values[1], values[0]]
    if exact:
        out[...] = np.stack(colors, 2)
    elif out.dtype == np.uint8:
        # Rounds half to even and stops at 255; what is below 0 is set to 0 before, since it takes absolute values.
        levels = [
            cv2.convertScaleAbs(cv2.threshold(c, 0, 0, cv2.THRESH_TOZERO)[1], alpha=plane.max_value) for c in colors
        ]
        cv2.merge(levels, dst=out) if out.flags.c_contiguous else np.copyto(out, cv2.merge(levels))
    else:
        out[...] = np.rint(np.stack(colors, 2).clip(0, 1) * np.float32(plane.max_value))


def _folded(x: np.ndarray, factor: int) -> np.ndarray:
    """CxHxW as (C*factor*factor)x(H/factor)x(W/factor), in the order of torch's pixel_unshuffle."""
    if factor == 1:
        return x
    channels, height, width = x.shape
    split = x.reshape(channels, height // factor, factor, width // factor, factor)
    return split.transpose(0, 2, 4, 1, 3).reshape(-1, height // factor, width // factor)
