"""Which devices this machine has, and why backends are missing."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Tuple

from ..backends import windows
from .kinds import ORDER, Device, torch, torch_directml

__all__ = ["Listing", "Note", "available"]

_INTEGRATED = re.compile(
    r"radeon\s*(\(tm\))?\s*(r\d\s*)?graphics$|\bvega\s*\d+\s*graphics|radeon\s*(\(tm\))?\s*\d{3}m\b|\buhd\b|\biris\b|"
    r"intel.*\bhd graphics|\barc(\(tm\))?\s*graphics$",
    re.IGNORECASE,
)
_SOFTWARE = re.compile(r"microsoft basic render|\bwarp\b|llvmpipe", re.IGNORECASE)


@dataclass(frozen=True)
class Note:
    """Why a backend gives no device. ``installed`` tells whether somebody meant to use it."""

    backend: str
    reason: str
    installed: bool


@dataclass(frozen=True)
class Listing:
    """All devices, in the order in which they are taken, and why backends are missing."""

    devices: Tuple[Device, ...]
    notes: Tuple[Note, ...]


@functools.lru_cache(maxsize=None)
def available() -> Listing:
    """The devices of this machine. Asked once a process: a failed import is not tried again."""
    devices: List[Device] = []
    notes: List[Note] = []
    for backend in ORDER:
        try:
            found = FINDERS[backend]()
        except _MissingError as missing:
            notes.append(Note(backend, str(missing), missing.installed))
        except Exception as error:  # noqa: BLE001 - whatever a half installed backend raises, the next one is tried
            notes.append(Note(backend, _one_line(error), True))
        else:
            # Stable: discrete adapters first, then integrated, then software, each by the backend's own index.
            devices += sorted(found, key=lambda device: (device.software, device.integrated))
    return Listing(tuple(devices), tuple(notes))


class _MissingError(Exception):
    def __init__(self, reason: str, installed: bool) -> None:
        super().__init__(reason)
        self.installed = installed


def _find_directml() -> List[Device]:
    if importlib.util.find_spec("torch_directml") is None and "torch_directml" not in sys.modules:
        raise _MissingError("torch-directml is not installed", False)
    directml = torch_directml()
    # device_count() first, always: without an adapter other questions end the process.
    count = int(directml.device_count())
    if count < 1:
        raise _MissingError("torch-directml is installed but finds no DirectX 12 adapter", True)
    registered = windows.adapters()
    devices = []
    for index in range(count):
        name = str(directml.device_name(index)).replace("\0", "").strip() or f"adapter {index}"
        driver = next((a.driver for a in registered if a.name.lower() == name.lower()), "")
        memory = windows.total_memory(name, registered)
        devices.append(Device("directml", index, name, memory, _integrated(name), _software(name), driver))
    return devices


def _find_cuda() -> List[Device]:
    library = torch()
    if not library.cuda.is_available():
        built = library.version.cuda is not None
        reason = "PyTorch finds no CUDA device" if built else "this PyTorch is built without CUDA"
        raise _MissingError(reason, False)
    devices = []
    for index in range(library.cuda.device_count()):
        found = library.cuda.get_device_properties(index)
        integrated = bool(getattr(found, "is_integrated", False))
        devices.append(Device("cuda", index, str(found.name), int(found.total_memory), integrated))
    return devices


def _find_xpu() -> List[Device]:
    library = torch()
    if not (hasattr(library, "xpu") and library.xpu.is_available()):
        raise _MissingError("PyTorch finds no Intel GPU", False)
    devices = []
    for index in range(library.xpu.device_count()):
        found = library.xpu.get_device_properties(index)
        devices.append(Device("xpu", index, str(found.name), int(found.total_memory), _integrated(str(found.name))))
    return devices


def _find_mps() -> List[Device]:
    if not torch().backends.mps.is_available():
        raise _MissingError("PyTorch finds no Apple GPU", False)
    return [Device("mps", 0, "Apple GPU", None, True)]


def _find_cpu() -> List[Device]:
    return [Device("cpu", 0, _processor_name())]


FINDERS: Dict[str, Callable[[], List[Device]]] = {
    "directml": _find_directml,
    "cuda": _find_cuda,
    "xpu": _find_xpu,
    "mps": _find_mps,
    "cpu": _find_cpu,
}


def _integrated(name: str) -> bool:
    return bool(_INTEGRATED.search(name))


def _software(name: str) -> bool:
    return bool(_SOFTWARE.search(name))


def _processor_name() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or "processor"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
