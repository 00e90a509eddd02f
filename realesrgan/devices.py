"""Which device does the work: DirectML, then CUDA, XPU, MPS, Vulkan, and the processor. Read this module first.

:func:`resolve` answers a request such as ``auto``, ``dml:1`` or a ``torch.device`` with a :class:`Device`, which says
by its :class:`Capabilities` what it can do. What each backend finds, needs and reports is in its own file in
:mod:`realesrgan.backends`; nothing else in this package decides by a backend's name.

torch, torch_directml and ncnn are imported when first asked for, never on import, so that ``--help`` and the doctor run
where they are broken; a backend that is not needed for an answer is not asked, so that Vulkan works without torch.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import re
import sys
from dataclasses import dataclass
from typing import Any, FrozenSet, List, Optional, Sequence, Tuple, Union

from .backends import BACKENDS
from .backends.base import Arrival, Backend, Capabilities, Device, MissingError
from .backends.cpu import HOST
from .errors import DeviceError, InputError, Phrase, as_field, notice, one_line

__all__ = [
    "ENVIRONMENT",
    "HOST",
    "Arrival",
    "Capabilities",
    "Device",
    "Listing",
    "Note",
    "all_of",
    "available",
    "classify",
    "free",
    "from_host",
    "full_precision",
    "is_explicit",
    "is_host",
    "may_be_lost",
    "memory_free",
    "memory_used",
    "need_torch",
    "parse",
    "peak_memory",
    "reset_peak_memory",
    "resolve",
    "same_card",
    "several",
    "synchronize",
    "through_torch",
    "to_host",
]

logger = logging.getLogger(__name__)

ENVIRONMENT = "REALESRGAN_DEVICE"
"""Environment variable that counts where a request is None."""

_AUTO = "auto"
_EVERYWHERE = frozenset(["amd", "ati", "nvidia", "intel", "corporation", "series", "graphics"])
"""Words that some names of a card have and others have not."""


@dataclass(frozen=True)
class Note:
    """Why a backend gives no device. ``installed`` says whether somebody meant to use it."""

    backend: str
    reason: str
    installed: bool


@dataclass(frozen=True)
class Listing:
    """All devices, in the order in which they are used, and why backends are missing."""

    devices: Tuple[Device, ...]
    notes: Tuple[Note, ...]


def available(*names: str) -> Listing:
    """The devices of this machine; with names, those of these backends only."""
    devices: List[Device] = []
    notes: List[Note] = []
    for name in names or BACKENDS:
        found, note = _found(name)
        devices += found
        notes += [note] if note is not None else []
    return Listing(tuple(devices), tuple(notes))


@functools.lru_cache(maxsize=None)
def _found(name: str) -> Tuple[Tuple[Device, ...], Optional[Note]]:
    """Devices of one backend, or why there are none. Asked once a process: a failed import is not tried again."""
    try:
        found = BACKENDS[name].find()
    except MissingError as missing:
        return (), Note(name, as_field(missing), missing.installed)
    except Exception as error:  # noqa: BLE001 - whatever a half installed backend raises, the next one is tried
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            return (), Note(name, Phrase("device.no_torch", "PyTorch is not installed"), False)
        return (), Note(name, Phrase("quote", f"{type(error).__name__}: {one_line(error)}"), True)
    # Stable: discrete adapters first, then integrated, then software, each by the backend's own index.
    return tuple(sorted(found, key=lambda device: (device.software, device.integrated))), None


def _automatic(exclude: Sequence[Device]) -> Listing:
    """The devices of backends in their order, up to the first that ``auto`` may use."""
    names = []
    listing = Listing((), ())
    for name, backend in BACKENDS.items():
        if backend.missed() or backend.plausible():
            names.append(name)
            listing = available(*names)
            if any(not device.software and device not in exclude for device in listing.devices):
                break
    return listing


def _asked(request: Union[str, Any, None]) -> str:
    """A request as text; None is what the environment variable says, and ``"auto"`` without it."""
    return (os.environ.get(ENVIRONMENT) or _AUTO) if request is None else str(request)


def parse(request: Union[str, Any, None]) -> Tuple[str, Optional[int]]:
    """Backend (or ``"auto"``) and index of a request such as ``"dml:1"``, ``"cuda"`` or a ``torch.device``.

    None reads the environment variable :data:`ENVIRONMENT`, and is ``"auto"`` without it.

    Raises:
        InputError: No such backend.
    """
    asked = _asked(request)
    name, _, index = asked.strip().lower().partition(":")
    names = {_AUTO: _AUTO, "gpu": _AUTO}
    for backend in BACKENDS.values():
        names.update(dict.fromkeys((backend.name, *backend.aliases), backend.name))
    name = names.get(name, "")
    if not name or (index and not index.isdigit()) or (name == _AUTO and index):
        known = ", ".join([_AUTO, *(backend.spelling for backend in BACKENDS.values())])
        origin = f" (from {ENVIRONMENT})" if request is None else ""
        raise InputError(
            f"Device {asked!r}{origin} is not known; allowed are {known}.",
            code="device.unknown",
            device=f"{asked}{origin}",
            known=known,
        )
    return name, int(index) if index else None


def resolve(
    request: Union[str, Any, None] = None, gpu_id: Optional[int] = None, exclude: Sequence[Device] = ()
) -> Device:
    """The device to work on.

    Args:
        request: ``auto`` (or None: then the environment variable REALESRGAN_DEVICE counts), a backend (``directml``,
            ``cuda``, ``vulkan`` ...), a device (``dml:1``) or a ``torch.device``. ``auto`` is the first available
            device in the order of the registry; a discrete adapter comes before an integrated one.
        gpu_id: The backend's own index; 0 means 0. Counted on the first backend with a GPU if none is named.
        exclude: Devices that were found unfit.

    Raises:
        DeviceError: The device that was asked for is not available, or needs PyTorch, which is not installed.
        InputError: The request cannot be read, or contradicts ``gpu_id``.
    """
    device = _resolve(request, gpu_id, exclude)
    if device.capabilities.through_torch and not _torch_installed():
        raise DeviceError(
            f"{device.label} needs PyTorch, which is not installed, and no graphics card was found that works without "
            "it. Install it: pip install torch. For a graphics card with a Vulkan driver: pip install ncnn.",
            code="device.without_torch",
            device=device.label,
        )
    return device


def _resolve(request: Union[str, Any, None], gpu_id: Optional[int], exclude: Sequence[Device]) -> Device:
    name, index = parse(request)
    if gpu_id is not None and gpu_id < 0:
        raise InputError(f"gpu_id is {gpu_id}; it must be 0 or more.", code="device.gpu_id", gpu_id=gpu_id)
    if index is not None and gpu_id is not None and index != gpu_id:
        raise InputError(
            f"The device {name}:{index} contradicts gpu_id {gpu_id}; give one of the two.",
            code="device.contradiction",
            device=f"{name}:{index}",
            gpu_id=gpu_id,
        )
    index = gpu_id if index is None else index
    listing = _automatic(exclude) if name == _AUTO else available(name)
    usable = [device for device in listing.devices if device not in exclude]
    if name == _AUTO:
        _say_passed_over(listing, usable)
        automatic = [device for device in usable if not device.software]
        if index is None or all(is_host(device) for device in automatic):
            return automatic[0]
        name = automatic[0].backend
    for device in usable:
        if device.backend == name and (index in (None, device.index) or is_host(device)):
            return device
    raise _missing(BACKENDS[name], index, available())


def several(request: Union[str, Any, None]) -> bool:
    """Whether a request names more than one device: ``all``, or a list separated by commas."""
    asked = _asked(request)
    return asked.strip().lower() == "all" or "," in asked


def all_of(request: Union[str, Any, None]) -> List[str]:
    """The devices of a request for several, such as ``"cuda:0,cuda:1"``; the same name may come twice.

    ``all`` is every device of the backend that ``auto`` uses: discrete adapters, or the integrated ones where there are
    no others. One card that two backends show is not used twice.

    Raises:
        DeviceError: A device that was asked for is not available.
        InputError: A name cannot be read.
    """
    asked = _asked(request)
    if asked.strip().lower() != "all":
        return [resolve(word).spec for word in asked.split(",") if word.strip()]
    first = resolve(_AUTO)
    alike = [device for device in available(first.backend).devices if device.integrated == first.integrated]
    return [device.spec for device in alike if not device.software] or [first.spec]


def _torch_installed() -> bool:
    if "torch" in sys.modules:
        return sys.modules["torch"] is not None
    return importlib.util.find_spec("torch") is not None


def through_torch(request: Union[str, Any, None]) -> bool:
    """Whether a request asks for a device that works through PyTorch.

    Without a backend's name it does where PyTorch is installed, or nothing that works without it.

    Raises:
        InputError: The request cannot be read.
    """
    name, _ = parse(request)
    if name != _AUTO:
        return BACKENDS[name].capabilities.through_torch
    others = (backend for backend in BACKENDS.values() if not backend.capabilities.through_torch)
    return _torch_installed() or not any(backend.installed() for backend in others)


def need_torch(what: str) -> None:
    """Raise DeviceError, which names ``what`` needs it, unless PyTorch is installed."""
    if not _torch_installed():
        raise DeviceError(
            f"{what} needs PyTorch, which is not installed. Install it (pip install torch), or use enhance().",
            code="device.need_torch",
            what=what,
        )


def _say_once(name: str, reason: str) -> None:
    label = BACKENDS[name].label
    notice(logger, "device.passed_over", f"{label} is not used: {reason}.", once=True, backend=label, reason=reason)


def _say_passed_over(listing: Listing, usable: Sequence[Device]) -> None:
    order = list(BACKENDS)
    used = next(device for device in usable if not device.software)
    for note in listing.notes:
        expected = note.installed or (BACKENDS[note.backend].missed() and is_host(used))
        if expected and order.index(note.backend) < order.index(used.backend):
            _say_once(note.backend, note.reason)
    for device in listing.devices:
        if device.software and order.index(device.backend) < order.index(used.backend):
            text = f"{device.name} is a software renderer, slower than the CPU"
            _say_once(device.backend, Phrase("device.software", text, name=device.name))


def is_explicit(request: Union[str, Any, None]) -> bool:
    """Whether a request (or the environment variable in its place) names a backend."""
    return parse(request)[0] != _AUTO


def may_be_lost(request: Union[str, Any, None]) -> bool:
    """Whether a request may lead to a device whose loss only a new process can undo.

    It does where such a backend is named, or nothing is named and its package is installed, unless a backend before it
    surely has a device. Whether it finds a card is not asked, since the answer would open the device in this process.

    Raises:
        InputError: The request cannot be read.
    """
    name, _ = parse(request)
    if name != _AUTO:
        return BACKENDS[name].capabilities.isolates
    likely = (b for b in BACKENDS.values() if b.certain() or (b.capabilities.isolates and b.plausible()))
    first = next(likely, None)
    return first is not None and first.capabilities.isolates


def same_card(device: Device) -> List[Device]:
    """Devices of other backends that may be the same card and may be quicker.

    A card's name differs a little from backend to backend: ``Radeon RX 580 Series`` is also ``AMD Radeon RX 580``.
    """
    if is_host(device) or device.kind.unrivalled:
        return []
    found = []
    for name, backend in BACKENDS.items():
        if name == device.backend or backend.is_host or backend.unrivalled:
            continue
        others = [other for other in available(name).devices if not other.software]
        found += [other for other in others if _alike(device, other)][:1]
    return found


def _alike(first: Device, second: Device) -> bool:
    fewer, more = sorted((_words(first), _words(second)), key=len)
    return first.integrated == second.integrated and (fewer == more or (len(fewer) > 1 and fewer < more))


def _words(device: Device) -> FrozenSet[str]:
    words = re.findall(r"[a-z0-9]+", re.sub(r"\((?:tm|r)\)|\(.*", " ", device.name.lower()))
    return frozenset(words) - _EVERYWHERE


def _missing(backend: Backend, index: Optional[int], listing: Listing) -> DeviceError:
    there = ", ".join(f"{device.spec} ({device.name})" for device in listing.devices)
    asked = backend.name if index is None else f"{backend.name}:{index}"
    note = next((note.reason for note in listing.notes if note.backend == backend.name), "")
    reason = note or Phrase("device.no_number", "there is no device of this number")
    sentence = f"The device {asked} is not available: {reason}. This machine has: {there}."
    remedy = backend.remedy if note else "--device " + listing.devices[0].spec
    sentence += f" To get it: {remedy}." if note else f" Take one of those, for example with {remedy}."
    return DeviceError(sentence, code="device.missing", device=asked, there=there, reason=reason, remedy=remedy)


def classify(error: BaseException) -> str:
    """What an exception from a device means: ``"memory"``, ``"lost"`` or ``"other"``."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "memory"
    if not isinstance(error, Exception):
        return "other"
    text = str(error)
    rows = [Backend(), *BACKENDS.values()]  # the first one knows what several of them say
    if any(row.lost.search(text) for row in rows):
        return "lost"
    return "memory" if any(row.out_of_memory.search(text) for row in rows) else "other"


def is_host(device: Device) -> bool:
    """Whether it is the processor itself, which needs no copies and is what other devices are compared with."""
    return device.kind.is_host


def synchronize(device: Device) -> None:
    """Wait until the device has done what was asked of it; works on every backend."""
    device.kind.wait(device)


def free(device: Device) -> None:
    """Give memory that the backend keeps for later back to the device, where the backend has a call for it."""
    device.kind.free(device)


def memory_used(device: Device) -> Optional[int]:
    """Bytes of the device's memory in use by this process, None if unknown."""
    return device.kind.memory_used(device)


def memory_free(device: Device) -> Optional[int]:
    """Bytes of the device's memory that no program uses, None if unknown."""
    return device.kind.memory_free(device)


def peak_memory(device: Device) -> Optional[int]:
    """Most bytes of the device's memory in use at once since the last reset, None if unknown."""
    return device.kind.peak_memory(device)


def reset_peak_memory(device: Device) -> None:
    """Begin counting :func:`peak_memory` again."""
    device.kind.reset_peak_memory(device)


def full_precision(device: Device) -> Any:
    """A context in which FP32 is not rounded to less, as NVIDIA's matrix units do."""
    return device.kind.full_precision()


def to_host(device: Device, tensor: Any) -> Arrival:
    """Begin to copy a tensor to the host; into pinned memory, without waiting, where the backend can."""
    return device.kind.to_host(tensor)


def from_host(device: Device, tensor: Any) -> Any:
    """Copy a tensor to the device; from pinned memory, without waiting, where the backend can."""
    return device.kind.from_host(device, tensor)
