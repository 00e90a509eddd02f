"""A network with its weights, on the first fit device, in the precision that holds there."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Tuple, Union

from torch import nn

from .. import devices
from ..archs.structure import Structure
from ..errors import DeviceError, InputError, notice
from ..weights import loading as weights
from . import tuned as profile
from .precision import Networks, check_device

if TYPE_CHECKING:
    import torch

__all__ = ["network", "on_device"]

logger = logging.getLogger(__name__)

PathLike = Union[str, Path]


def network(
    model_path: Union[PathLike, Sequence[PathLike], None],
    dni_weight: Optional[Sequence[float]],
    model: Optional[nn.Module],
    **options: Any,
) -> Tuple[nn.Module, str, str, str]:
    """The network with its weights on the CPU in FP32, its name, where the weights come from, and their SHA-256.

    The arguments are those of :class:`realesrgan.RealESRGANer`; ``options`` go to
    :func:`realesrgan.weights.loading.load`.
    """
    if model_path is None:
        if model is None:
            raise InputError(
                "RealESRGANer needs model_path (a known model's name, a path or a URL), or a model.",
                code="model.no_path",
            )
        if dni_weight is not None:
            raise InputError(
                "dni_weight mixes two checkpoints: model_path must name them, it is None.", code="model.mix_no_path"
            )
        return model.float(), type(model).__name__, "model", ""
    paths = [model_path] if isinstance(model_path, (str, Path)) else list(model_path)
    if dni_weight is not None:
        loaded = weights.load_mixed(paths, [float(share) for share in dni_weight], **options)
    elif len(paths) == 1:
        loaded = weights.load(paths[0], **options)
    else:
        raise InputError(
            f"model_path names {len(paths)} files without dni_weight; allowed are one file, or two with two weights.",
            code="model.paths",
            count=len(paths),
        )
    name = loaded.spec.name if loaded.spec else loaded.path.stem
    if model is None:
        return loaded.build(), name, loaded.source, loaded.sha256
    weights.assign(loaded, model.float())
    return model, name, loaded.source, loaded.sha256


def _compiles(device: devices.Device) -> bool:
    if not device.capabilities.compiles:
        message = f"--compile has no effect on {device.label}: torch.compile does not support it."
        notice(logger, "compile.unsupported", message, device=device.label)
    return device.capabilities.compiles


def on_device(
    module: nn.Module,
    structure: Structure,
    request: Union[str, torch.device, None],
    gpu_id: Optional[int],
    half: Optional[bool],
    *,
    compiled: bool,
    tuned: bool,
) -> Tuple[Networks, Optional[profile.Choice]]:
    """The network on the first fit device, and what tuning found for it.

    A device that was asked for by name is taken or refused with an error; with ``auto`` the next one is tried.
    """
    unfit: List[devices.Device] = []
    while True:
        device = devices.resolve(request, gpu_id, unfit)
        networks = Networks(module, device, structure.scale, compiled=compiled and _compiles(device))
        choice = profile.lookup(device, structure, half) if tuned else None
        try:
            check_device(networks)
            networks.choose(choice.half if choice is not None and half is None else half)
            networks.compile()
            return networks, choice
        except DeviceError as error:
            if gpu_id is not None or devices.is_explicit(request):
                raise
            notice(
                logger, "device.refused", f"{error} The next device is taken.", device=device.spec, reason=str(error)
            )
            unfit.append(device)
