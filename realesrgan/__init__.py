"""Real-ESRGAN for the graphics card that people own: DirectML, then CUDA, then the CPU.

Importing this package imports neither torch nor numpy: a name is fetched from its module when it is first asked for, so
that ``--help`` and ``doctor`` work where torch cannot be imported.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Callable, List, Mapping, Sequence, Tuple

__version__ = "0.2.0"


def lazy_door(
    package: str, table: Mapping[str, Sequence[str]]
) -> Tuple[Callable[[str], object], Callable[[], List[str]]]:
    """``__getattr__`` and ``__dir__`` of a package whose names come from its modules when they are first asked for.

    Args:
        package: The package's ``__name__``.
        table: Each module, relative to the package, and the names that it defines.
    """
    places = {name: module for module, defined in table.items() for name in defined}

    def look_up(name: str) -> object:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{package}.{places[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> List[str]:
        return sorted(set(vars(sys.modules[package])) | set(places))

    return look_up, names


from .errors import (  # noqa: E402 - packages import lazy_door from here
    DeviceError,
    DeviceLostError,
    DeviceOutOfMemoryError,
    InputError,
    PictureError,
    RealESRGANError,
    TileError,
    WeightsError,
)
from .models import compat  # noqa: E402
from .utils import install_old_names  # noqa: E402

if TYPE_CHECKING:
    from .archs.rrdbnet_arch import RRDBNet
    from .archs.srvgg_arch import SRVGGNetCompact
    from .inference.upsampler import RealESRGANer

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

__getattr__, __dir__ = lazy_door(
    __name__,
    {
        "inference.upsampler": ["RealESRGANer"],
        "archs.rrdbnet_arch": ["RRDBNet"],
        "archs.srvgg_arch": ["SRVGGNetCompact"],
    },
)

compat.install()
install_old_names()
