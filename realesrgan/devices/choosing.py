"""Which device is taken for a request."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import sys
from typing import Any, Optional, Sequence, Tuple, Union

from ..errors import DeviceError, InputError, notice
from . import finding
from .finding import Listing
from .kinds import LABELS, ORDER, Device

__all__ = ["ENVIRONMENT", "is_explicit", "may_be_lost", "parse", "resolve"]

logger = logging.getLogger("realesrgan.devices")

ENVIRONMENT = "REALESRGAN_DEVICE"
_ALIASES = {"dml": "directml", "privateuseone": "directml", "gpu": "auto"}
_INSTALL = {
    "directml": "pip install torch-directml (Windows or WSL2, Python 3.8 to 3.12, in an environment of its own)",
    "cuda": "install the CUDA build of PyTorch (pytorch.org, 'Get started') and NVIDIA's driver",
    "xpu": "install the XPU build of PyTorch and Intel's driver",
    "mps": "use a Mac with Apple silicon and macOS 12.3 or newer",
}


def parse(request: Union[str, Any, None]) -> Tuple[str, Optional[int]]:
    """Backend (or ``"auto"``) and index of a request such as ``"dml:1"``, ``"cuda"`` or a ``torch.device``.

    None takes the environment variable :data:`ENVIRONMENT`, and ``"auto"`` without it.

    Raises:
        InputError: No such backend.
    """
    origin = ""
    if request is None:
        request = os.environ.get(ENVIRONMENT) or None
        origin = f" (from {ENVIRONMENT})"
    text = "auto" if request is None else str(request).strip().lower()
    name, _, index = text.partition(":")
    name = _ALIASES.get(name, name)
    if (name != "auto" and name not in ORDER) or (index and not index.isdigit()) or (name == "auto" and index):
        raise InputError(
            f"Device {request!r}{origin} is not known; allowed are auto, directml (dml, dml:1), cuda (cuda:0), xpu, "
            "mps, cpu.",
            code="device.unknown",
            device=f"{request}{origin}",
        )
    return name, int(index) if index else None


def resolve(
    request: Union[str, Any, None] = None, gpu_id: Optional[int] = None, exclude: Sequence[Device] = ()
) -> Device:
    """The device to work on.

    Args:
        request: ``auto`` (or None: then the environment variable REALESRGAN_DEVICE counts), ``directml``, ``dml:1``,
            ``cuda``, ``cuda:0``, ``xpu``, ``mps``, ``cpu`` or a ``torch.device``. ``auto`` takes the first of DirectML,
            CUDA, XPU, MPS and the CPU that is there; a discrete adapter comes before an integrated one.
        gpu_id: The backend's own index; 0 means 0. Counted on the first backend with a GPU if none is named.
        exclude: Devices that were found unfit.

    Raises:
        DeviceError: The device that was asked for is not there.
        InputError: The request cannot be read, or contradicts ``gpu_id``.
    """
    backend, index = parse(request)
    if gpu_id is not None and gpu_id < 0:
        raise InputError(f"gpu_id is {gpu_id}; it must be 0 or more.", gpu_id=gpu_id)
    if index is not None and gpu_id is not None and index != gpu_id:
        raise InputError(
            f"The device {backend}:{index} contradicts gpu_id {gpu_id}; give one of the two.", gpu_id=gpu_id
        )
    index = gpu_id if index is None else index
    listing = finding.available()
    usable = [device for device in listing.devices if device not in exclude]
    if backend == "auto":
        _say_passed_over(listing, usable)
        automatic = [device for device in usable if not device.software]
        if index is None or all(device.backend == "cpu" for device in automatic):
            return automatic[0]
        backend = automatic[0].backend
    for device in usable:
        if device.backend == backend and (index in (None, device.index) or backend == "cpu"):
            return device
    raise _missing(backend, index, listing)


@functools.lru_cache(maxsize=None)
def _say_once(backend: str, reason: str) -> None:
    label = LABELS[backend]
    notice(logger, "device.passed_over", f"{label} is not used: {reason}.", backend=label, reason=reason)


def _say_passed_over(listing: Listing, usable: Sequence[Device]) -> None:
    taken = ORDER.index(next((device.backend for device in usable if not device.software), "cpu"))
    for note in listing.notes:
        # On Windows a missing torch-directml is worth a line, because the card then idles; elsewhere it is normal.
        expected = note.installed or (note.backend == "directml" and sys.platform == "win32" and ORDER[taken] == "cpu")
        if expected and ORDER.index(note.backend) < taken:
            _say_once(note.backend, note.reason)
    for device in listing.devices:
        if device.software and ORDER.index(device.backend) < taken:
            _say_once(device.backend, f"{device.name!r} is a software adapter, slower than the CPU")


def is_explicit(request: Union[str, Any, None]) -> bool:
    """Whether a request (or the environment variable in its place) names a backend."""
    return parse(request)[0] != "auto"


def may_be_lost(request: Union[str, Any, None]) -> bool:
    """Whether a request may lead to a device whose loss only a new process can undo.

    It does where DirectML may be taken: it is named, or nothing is named and torch-directml is installed. Whether that
    finds a card is not asked, since the answer would open the device in this process.

    Raises:
        InputError: The request cannot be read.
    """
    backend, _ = parse(request)
    if backend == "auto":
        return importlib.util.find_spec("torch_directml") is not None
    return backend == "directml"


def _missing(backend: str, index: Optional[int], listing: Listing) -> DeviceError:
    there = ", ".join(f"{device.spec} ({device.name})" for device in listing.devices)
    asked = backend if index is None else f"{backend}:{index}"
    note = next((note.reason for note in listing.notes if note.backend == backend), "")
    reason = note or "there is no device of this number"
    sentence = f"The device {asked} is not there: {reason}. This machine has: {there}."
    remedy = _INSTALL[backend] if note else "--device " + listing.devices[0].spec
    sentence += f" To get it: {remedy}." if note else f" Take one of those, for example with {remedy}."
    return DeviceError(sentence, code="device.missing", device=asked, there=there, reason=reason, remedy=remedy)
