"""Which devices there are, what they can do, and what their errors mean. The only file that names a backend.

torch and torch_directml are imported when first asked for, never on import, so that ``--help`` and the doctor run
where they are broken. What is known about torch-directml, and is not asked of it because it ends the process, stands
in ``docs/directml.md``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import logging
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from . import windows
from .errors import DeviceError, InputError, notice

__all__ = [
    "ORDER",
    "Arrival",
    "Capabilities",
    "Device",
    "Listing",
    "Note",
    "available",
    "classify",
    "drain",
    "free",
    "from_host",
    "full_precision",
    "is_explicit",
    "memory_free",
    "memory_used",
    "parse",
    "peak_memory",
    "reset_peak_memory",
    "resolve",
    "synchronize",
    "to_host",
]

logger = logging.getLogger(__name__)

ORDER = ("directml", "cuda", "xpu", "mps", "cpu")
ENVIRONMENT = "REALESRGAN_DEVICE"
_ALIASES = {"dml": "directml", "privateuseone": "directml", "gpu": "auto"}
_LABELS = {"directml": "DirectML", "cuda": "CUDA", "xpu": "XPU", "mps": "MPS", "cpu": "CPU"}
_INSTALL = {
    "directml": "pip install torch-directml (Windows or WSL2, Python 3.8 to 3.12, in an environment of its own)",
    "cuda": "install the CUDA build of PyTorch (pytorch.org, 'Get started') and NVIDIA's driver",
    "xpu": "install the XPU build of PyTorch and Intel's driver",
    "mps": "use a Mac with Apple silicon and macOS 12.3 or newer",
}
_INTEGRATED = re.compile(
    r"radeon\s*(\(tm\))?\s*graphics$|\bvega\s*\d+\s*graphics|radeon\s*(\(tm\))?\s*\d{3}m\b|\buhd\b|\biris\b|"
    r"intel.*\bhd graphics|\barc(\(tm\))?\s*graphics$",
    re.IGNORECASE,
)
_SOFTWARE = re.compile(r"microsoft basic render|\bwarp\b|llvmpipe", re.IGNORECASE)


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do, so that nobody else asks for its name.

    Attributes:
        half: FP16 may be tried (it is taken only after a self-test).
        prefers_half: FP16 is taken without being asked for.
        channels_last: Convolutions run faster on channels-last tensors.
        multi_prelu: PReLU with a weight for each channel works.
        scaled_add: ``torch.add`` with a factor is known to run on the device.
        quantises: Rounding and conversion to uint8 on the device is right.
        converts_uint8: uint8 pixels may be sent and turned into floats on the device.
        bilinear: Bilinear resizing is right (the face networks use it).
        largest_tensor: Bytes of the largest tensor whose size is counted right, 0 for any.
        asynchronous: Copies from and to pinned memory overlap with work.
        drain_flops: Floating-point operations after which queued work is made to finish, 0 for never.
        band_rows: Rows of the feature map that the last stage of an RRDBNet takes at once.
        compiles: torch.compile may be used.
    """

    half: bool = True
    prefers_half: bool = False
    channels_last: bool = False
    multi_prelu: bool = True
    scaled_add: bool = True
    quantises: bool = True
    converts_uint8: bool = False
    bilinear: bool = True
    largest_tensor: int = 0
    asynchronous: bool = False
    drain_flops: int = 0
    band_rows: int = 32
    compiles: bool = False


_CAPABILITIES = {
    # Work of more than two seconds without a pause makes Windows reset the card (facts in docs/directml.md), hence
    # drain_flops: a quarter of a second at the 1.5 TFLOP/s that a slow card of this kind reaches.
    "directml": Capabilities(
        multi_prelu=False,
        scaled_add=False,
        bilinear=False,
        largest_tensor=2**32 - 1,
        drain_flops=400_000_000_000,
        band_rows=16,
    ),
    "cuda": Capabilities(
        prefers_half=True, channels_last=True, converts_uint8=True, asynchronous=True, compiles=True, band_rows=64
    ),
    "xpu": Capabilities(channels_last=True),
    "mps": Capabilities(),
    "cpu": Capabilities(half=False, channels_last=True, compiles=True),
}


@dataclass(frozen=True)
class Device:
    """One device of one backend.

    Attributes:
        backend: ``"directml"``, ``"cuda"``, ``"xpu"``, ``"mps"`` or ``"cpu"``.
        index: The backend's own index.
        name: The adapter's name.
        memory: Its dedicated memory in bytes, None if nobody tells.
        integrated: It shares the main memory with the processor.
        software: It is a processor that plays a graphics card.
        driver: Version of its driver, where known.
    """

    backend: str
    index: int
    name: str
    memory: Optional[int] = None
    integrated: bool = False
    software: bool = False
    driver: str = ""

    @property
    def spec(self) -> str:
        """What ``--device`` takes to name it, for example ``"directml:0"``."""
        return "cpu" if self.backend == "cpu" else f"{self.backend}:{self.index}"

    @property
    def label(self) -> str:
        """The backend as people write it."""
        return _LABELS[self.backend]

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES[self.backend]

    @property
    def torch_device(self) -> Any:
        """The ``torch.device``."""
        torch = _torch()
        if self.backend == "directml":
            return _torch_directml().device(self.index)
        return torch.device(self.backend) if self.backend == "cpu" else torch.device(self.backend, self.index)


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


def _torch() -> Any:
    return importlib.import_module("torch")


def _torch_directml() -> Any:
    return importlib.import_module("torch_directml")


@functools.lru_cache(maxsize=None)
def available() -> Listing:
    """The devices of this machine. Asked once a process: a failed import is not tried again."""
    devices: List[Device] = []
    notes: List[Note] = []
    for backend in ORDER:
        try:
            found = _FINDERS[backend]()
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
    directml = _torch_directml()
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
    torch = _torch()
    if not torch.cuda.is_available():
        built = torch.version.cuda is not None
        reason = "PyTorch finds no CUDA device" if built else "this PyTorch is built without CUDA"
        raise _MissingError(reason, False)
    devices = []
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        integrated = bool(getattr(found, "is_integrated", False))
        devices.append(Device("cuda", index, str(found.name), int(found.total_memory), integrated))
    return devices


def _find_xpu() -> List[Device]:
    torch = _torch()
    if not (hasattr(torch, "xpu") and torch.xpu.is_available()):
        raise _MissingError("PyTorch finds no Intel GPU", False)
    devices = []
    for index in range(torch.xpu.device_count()):
        found = torch.xpu.get_device_properties(index)
        devices.append(Device("xpu", index, str(found.name), int(found.total_memory), _integrated(str(found.name))))
    return devices


def _find_mps() -> List[Device]:
    if not _torch().backends.mps.is_available():
        raise _MissingError("PyTorch finds no Apple GPU", False)
    return [Device("mps", 0, "Apple GPU", None, True)]


def _find_cpu() -> List[Device]:
    return [Device("cpu", 0, _processor_name())]


_FINDERS: Dict[str, Callable[[], List[Device]]] = {
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


def parse(request: Union[str, Any, None]) -> Tuple[str, Optional[int]]:
    """Backend (or ``"auto"``) and index of a request such as ``"dml:1"``, ``"cuda"`` or a ``torch.device``.

    Raises:
        InputError: No such backend.
    """
    text = "auto" if request is None else str(request).strip().lower()
    name, _, index = text.partition(":")
    name = _ALIASES.get(name, name)
    if (name != "auto" and name not in ORDER) or (index and not index.isdigit()) or (name == "auto" and index):
        raise InputError(
            f"Device {request!r} is not known; allowed are auto, directml (dml, dml:1), cuda (cuda:0), xpu, mps, cpu.",
            code="device.unknown",
            device=str(request),
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
    if request is None:
        request = os.environ.get(ENVIRONMENT) or None
    backend, index = parse(request)
    if gpu_id is not None and gpu_id < 0:
        raise InputError(f"gpu_id is {gpu_id}; it must be 0 or more.", gpu_id=gpu_id)
    if index is not None and gpu_id is not None and index != gpu_id:
        raise InputError(f"The device {request} contradicts gpu_id {gpu_id}; give one of the two.", gpu_id=gpu_id)
    index = gpu_id if index is None else index
    listing = available()
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
    label = _LABELS[backend]
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
    if request is None:
        request = os.environ.get(ENVIRONMENT) or None
    return parse(request)[0] != "auto"


def _missing(backend: str, index: Optional[int], listing: Listing) -> DeviceError:
    there = ", ".join(f"{device.spec} ({device.name})" for device in listing.devices)
    asked = backend if index is None else f"{backend}:{index}"
    note = next((note.reason for note in listing.notes if note.backend == backend), "")
    reason = note or "there is no device of this number"
    sentence = f"The device {asked} is not there: {reason}. This machine has: {there}."
    if note:
        sentence += f" To get it: {_INSTALL[backend]}."
    return DeviceError(sentence, code="device.missing", device=asked, there=there, reason=reason)


_OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough GPU video memory available|-2147024882|8007000E|not enough memory: you tried|"
    r"can't allocate memory|UR_RESULT_ERROR_OUT_OF",
    re.IGNORECASE,
)
_LOST = re.compile(
    r"-2005270522|-2005270523|-2147467259|GPU device instance has been suspended|GetDeviceRemovedReason|887A000[5-7]|"
    r"CUDA error: (?:unspecified launch failure|an illegal memory access|device-side assert|unknown error)|"
    r"device (?:was )?(?:removed|lost|hung)",
    re.IGNORECASE,
)


def classify(error: BaseException) -> str:
    """What an exception from a device means: ``"memory"``, ``"lost"`` or ``"other"``."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "memory"
    if not isinstance(error, Exception):
        return "other"
    text = str(error)
    if _LOST.search(text):
        return "lost"
    return "memory" if _OUT_OF_MEMORY.search(text) else "other"


def synchronize(device: Device) -> None:
    """Wait until the device has done what was asked of it, where the backend has a call for it."""
    module = _memory_module(device)
    if module is not None:
        module.synchronize(*_position(device))


def drain(tensor: Any) -> None:
    """Wait for the work behind ``tensor`` by bringing one of its elements to the host; works on every backend."""
    tensor[:1, :1, :1, :1].cpu()


def free(device: Device) -> None:
    """Give memory that the backend keeps for later back to the device, where the backend has a call for it."""
    module = _memory_module(device)
    if module is not None:
        module.empty_cache()


def memory_used(device: Device) -> Optional[int]:
    """Bytes of the device's memory in use by this process, None where the backend does not tell."""
    if device.backend == "directml":
        # Fractions of blocks of the given number of megabytes; an empty list where the driver does not tell.
        fractions = _torch_directml().gpu_memory(device.index, 1)
        return int(sum(fractions) * 2**20) if fractions else None
    if device.backend in ("cuda", "xpu"):
        return int(_memory_module(device).memory_allocated(device.index))
    return int(_torch().mps.current_allocated_memory()) if device.backend == "mps" else None


def memory_free(device: Device) -> Optional[int]:
    """Bytes of the device's memory that no program uses, None where the backend does not tell."""
    if device.backend != "cuda":
        return None
    module = _memory_module(device)
    # What the allocator keeps without using it is free to us.
    spare = module.memory_reserved(device.index) - module.memory_allocated(device.index)
    return int(module.mem_get_info(device.index)[0] + spare)


def peak_memory(device: Device) -> Optional[int]:
    """Most bytes of the device's memory in use at once since the last reset, None where the backend does not tell."""
    if device.backend not in ("cuda", "xpu"):
        return None
    return int(_memory_module(device).max_memory_allocated(device.index))


def reset_peak_memory(device: Device) -> None:
    """Begin counting :func:`peak_memory` anew."""
    if device.backend in ("cuda", "xpu"):
        _memory_module(device).reset_peak_memory_stats(device.index)


def _memory_module(device: Device) -> Any:
    return getattr(_torch(), device.backend, None) if device.backend in ("cuda", "xpu", "mps") else None


def _position(device: Device) -> Tuple[int, ...]:
    return () if device.backend == "mps" else (device.index,)


@contextlib.contextmanager
def full_precision(device: Device) -> Iterator[None]:
    """Keep NVIDIA's matrix units from rounding FP32 to TF32 inside the block."""
    if device.backend != "cuda":
        yield
        return
    backends = _torch().backends
    before = backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32
    backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32 = before


@dataclass
class Arrival:
    """A tensor on its way to the host."""

    tensor: Any
    event: Any = None

    def wait(self) -> Any:
        """The tensor on the host, once all of it is there."""
        if self.event is not None:
            self.event.synchronize()
        return self.tensor


def to_host(device: Device, tensor: Any) -> Arrival:
    """Begin to copy a tensor to the host; into pinned memory, without waiting, where the backend can."""
    if not device.capabilities.asynchronous:
        return Arrival(tensor.cpu())
    torch = _torch()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device.index))
    return Arrival(host, event)


def from_host(device: Device, tensor: Any) -> Any:
    """Copy a tensor to the device; from pinned memory, without waiting, where the backend can."""
    if not device.capabilities.asynchronous:
        return tensor.to(device.torch_device)
    return tensor.pin_memory().to(device.torch_device, non_blocking=True)
