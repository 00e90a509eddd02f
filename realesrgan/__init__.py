"""Real-ESRGAN for the graphics card that people own: DirectML, then CUDA, then the CPU.

Importing this package imports neither torch nor numpy: a name is fetched from its module when it is first asked for, so
that ``--help`` and ``doctor`` work where torch cannot be imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Dict, List

from . import compat
from .errors import (
    DeviceError,
    DeviceLostError,
    DeviceOutOfMemoryError,
    InputError,
    PictureError,
    RealESRGANError,
    TileError,
    WeightsError,
)
from .version import __version__

if TYPE_CHECKING:
    from .archs.rrdbnet_arch import RRDBNet
    from .archs.srvgg_arch import SRVGGNetCompact
    from .upsampler import RealESRGANer

__all__ = [
    "DeviceError",
    "DeviceLostError",
    "DeviceOutOfMemoryError",
    "InputError",
    "PictureError",
    "RRDBNet",
    "RealESRGANError",
    "RealESRGANer",
    "SRVGGNetCompact",
    "TileError",
    "WeightsError",
    "__version__",
]

_LAZY: Dict[str, str] = {
    "RealESRGANer": ".upsampler",
    "RRDBNet": ".archs.rrdbnet_arch",
    "SRVGGNetCompact": ".archs.srvgg_arch",
}

compat.install()


def __getattr__(name: str) -> object:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(module, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted(set(globals()) | set(_LAZY))
