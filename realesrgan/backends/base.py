"""What a backend is: a device, what it can do, and the questions that each backend's file answers.

Nothing here imports torch before it is asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Dict, Iterator, List, Mapping, Optional, Pattern, Tuple

from ..archs.structure import Structure
from ..errors import Phrase

__all__ = [
    "BACKENDS",
    "LIMIT",
    "NOTE",
    "PROBLEM",
    "Arrival",
    "Backend",
    "Capabilities",
    "Device",
    "Examined",
    "Finding",
    "MissingError",
    "TorchBackend",
    "installed_version",
    "integrated_name",
    "software_name",
    "torch",
    "version_numbers",
]

_INTEGRATED = re.compile(
    r"radeon\s*(\(tm\))?\s*(r\d\s*)?graphics$|\bvega\s*\d+\s*graphics|radeon\s*(\(tm\))?\s*\d{3}m\b|\buhd\b|\biris\b|"
    r"intel.*\bhd graphics|\barc(\(tm\))?\s*graphics$",
    re.IGNORECASE,
)
_SOFTWARE = re.compile(r"microsoft basic render|\bwarp\b|llvmpipe|lavapipe|swiftshader", re.IGNORECASE)


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do, so that its name is never asked.

    Attributes:
        half: FP16 may be tried (it is used only after a self-test).
        prefers_half: FP16 is used without being asked for.
        channels_last: Convolutions run faster on channels-last tensors.
        multi_prelu: PReLU with a weight for each channel works.
        few_operators: Each operator costs time of the host: fewer of them are worth memory.
        converts_uint8: uint8 pixels may be sent and turned into floats on the device.
        largest_tensor: Bytes of the largest tensor whose size is counted right, 0 for any.
        asynchronous: Copies from and to pinned memory overlap with work.
        submission_flops: Floating-point operations that one submission to the card may hold before it counts as hung,
            0 for any.
        submission_operators: Operators after which the backend submits what is queued by itself.
        band_rows: Rows of the feature map that the last stage of a network computes at once; more where
            ``tall_bands``.
        tall_bands: As many rows as the memory allows, since each band costs operators.
        compiles: torch.compile may be used.
        planes: An RRDBNet's channels may lie in planes, where its processor suits them.
        kernels: Our own kernels may be tried in FP16.
        whole_pictures: A picture of any size may run in one piece where its memory suffices.
        recovers_memory: After memory ran out, smaller work runs on in the same process.
        isolates: Its loss can be undone by a new process only, so that the work is done in a child process.
        through_torch: It runs a network's ``torch.nn`` module.
    """

    half: bool = True
    prefers_half: bool = False
    channels_last: bool = False
    multi_prelu: bool = True
    few_operators: bool = False
    converts_uint8: bool = False
    largest_tensor: int = 0
    asynchronous: bool = False
    submission_flops: int = 0
    submission_operators: int = 13
    band_rows: int = 32
    tall_bands: bool = False
    compiles: bool = False
    planes: bool = False
    kernels: bool = False
    whole_pictures: bool = True
    recovers_memory: bool = True
    isolates: bool = False
    through_torch: bool = True


@dataclass(frozen=True)
class Device:
    """One device of one backend.

    Attributes:
        backend: Name of a row of the registry, for example ``"directml"``.
        index: The backend's own index.
        name: The adapter's name.
        memory: Its dedicated memory in bytes, None if unknown.
        integrated: It shares the main memory with the processor.
        software: It is a software renderer, run by the processor.
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
    def kind(self) -> Backend:
        """Its backend."""
        return BACKENDS[self.backend]

    @property
    def spec(self) -> str:
        """What ``--device`` accepts to name it, for example ``"directml:0"``."""
        return self.backend if self.kind.is_host else f"{self.backend}:{self.index}"

    @property
    def label(self) -> str:
        """The backend as people write it."""
        return self.kind.label

    @property
    def spills(self) -> bool:
        """Whether it borrows from the main memory without an error, and becomes slow, when its own is full."""
        return self.kind.spills

    @property
    def capabilities(self) -> Capabilities:
        return self.kind.capabilities

    @property
    def torch_device(self) -> Any:
        """The ``torch.device``."""
        return self.kind.torch_device(self)


NOTE, LIMIT, PROBLEM = 0, 1, 2


class Finding:
    """Something that the doctor says about a machine, and the next step.

    Its Korean sentences are ``doctor.CODE`` and ``doctor.CODE.next`` in :mod:`realesrgan.cli.ko`.

    Args:
        severity: :data:`NOTE`, :data:`LIMIT` or :data:`PROBLEM`.
        what: English, with the fields in braces.
        step: The next step, likewise.
    """

    def __init__(self, severity: int, code: str, what: str, step: str, **fields: Any) -> None:
        self.severity = severity
        self.code = code
        self.what = what
        self.step = step
        self.fields = fields


@dataclass(frozen=True)
class Examined:
    """What the doctor knows when it asks a backend for findings.

    Attributes:
        facts: All of :func:`realesrgan.tools.doctor.facts.gather`.
        devices: The backend's own devices, as the facts list them.
        package: What importing the backend's package gave, None where that was not tried.
        on_card: A graphics card does the work, of this backend or of another.
    """

    facts: Mapping[str, Any]
    devices: List[Mapping[str, Any]]
    package: Optional[Mapping[str, Any]]
    on_card: bool


class MissingError(Exception):
    """Why a backend gives no device. ``installed`` says whether somebody meant to use it."""

    def __init__(self, reason: Phrase, installed: bool) -> None:
        super().__init__(reason)
        self.installed = installed


@dataclass
class Arrival:
    """A tensor on its way to the host."""

    tensor: Any
    event: Any = None

    @property
    def ready(self) -> bool:
        """Whether all of it has arrived."""
        return self.event is None or bool(self.event.query())

    def wait(self) -> Any:
        """The tensor on the host, once all of it has arrived."""
        if self.event is not None:
            self.event.synchronize()
        return self.tensor


class Backend:
    """One backend. Its file has a subclass, the registry one instance of it.

    Attributes:
        name: As ``--device`` accepts it.
        label: As people write it.
        aliases: Other accepted names.
        spelling: How the error about an unknown device lists it.
        package: The package without which it does not exist; empty for PyTorch itself.
        remedy: What to do to get it.
        capabilities: What it can do.
        out_of_memory: Its texts for memory that ran out.
        lost: Its texts for a device that does not answer any more.
        is_host: It is the processor itself, which needs no copies and is what other devices are compared with.
        unrivalled: No other backend is quicker on the same card, so that tuning measures none beside it.
    """

    name = ""
    label = ""
    aliases: Tuple[str, ...] = ()
    spelling = ""
    package = ""
    remedy: Phrase = Phrase("quote", "")
    capabilities = Capabilities()
    out_of_memory: Pattern[str] = re.compile(r"out of memory", re.IGNORECASE)
    lost: Pattern[str] = re.compile(r"device (?:was )?(?:removed|lost|hung)", re.IGNORECASE)
    is_host = False
    unrivalled = False

    def find(self) -> List[Device]:
        """Its devices on this machine.

        Raises:
            MissingError: It gives none.
            Exception: It is half installed; whatever it raises is a reason too.
        """
        raise NotImplementedError

    def installed(self) -> bool:
        """Whether its package is installed. No device is opened to answer that."""
        if self.package in sys.modules:
            return sys.modules[self.package] is not None
        return not self.package or importlib.util.find_spec(self.package) is not None

    def plausible(self) -> bool:
        """Whether ``auto`` should look for its devices. No device is opened to answer that."""
        return self.installed()

    def certain(self) -> bool:
        """Whether it surely has a device, where that can be known without opening one."""
        return False

    def missed(self) -> bool:
        """Whether it is worth a line that its package is not installed, where the processor works instead."""
        return False

    def facts(self) -> Dict[str, Any]:
        """What else the doctor reports of this machine, by names of the backend's own. Opens no device."""
        return {}

    def package_facts(self, module: Any) -> Dict[str, Any]:
        """What the doctor reports of the backend's package, once it has been imported, in a process that may end."""
        return {}

    def brings_torch(self, facts: Mapping[str, Any]) -> Optional[Finding]:
        """What the doctor says of a missing PyTorch where installing this backend brings it."""
        return None

    def findings(self, examined: Examined) -> Iterator[Finding]:
        """What prevents or limits the use of this backend, from the facts alone."""
        return iter(())

    def torch_device(self, device: Device) -> Any:
        """The ``torch.device`` of a device.

        Raises:
            RuntimeError: The backend works without PyTorch.
        """
        raise RuntimeError(f"{self.label} works without PyTorch: there is no torch.device for it.")

    @property
    def spills(self) -> bool:
        """See :attr:`Device.spills`."""
        return sys.platform == "win32"

    def wait(self, device: Device) -> None:
        """Wait until the device has done what was asked of it."""

    def free(self, device: Device) -> None:
        """Give memory that the backend keeps for later back to the device, where the backend has a call for it."""

    def memory_used(self, device: Device) -> Optional[int]:
        """Bytes of the device's memory in use by this process, None if unknown."""
        return None

    def memory_free(self, device: Device) -> Optional[int]:
        """Bytes of the device's memory that no program uses, None if unknown."""
        return None

    def peak_memory(self, device: Device) -> Optional[int]:
        """Most bytes of the device's memory in use at once since the last reset, None if unknown."""
        return None

    def reset_peak_memory(self, device: Device) -> None:
        """Begin counting :meth:`peak_memory` again."""

    def full_precision(self) -> Any:
        """A context in which FP32 is not rounded to less."""
        return contextlib.nullcontext()

    def to_host(self, tensor: Any) -> Arrival:
        """Begin to copy a tensor to the host; into pinned memory, without waiting, where the backend can."""
        return Arrival(tensor.cpu())

    def from_host(self, device: Device, tensor: Any) -> Any:
        """Copy a tensor to the device; from pinned memory, without waiting, where the backend can."""
        return tensor.to(self.torch_device(device))

    def reserved(self, total: int) -> int:
        """Bytes of a device's memory that are left to the system and to other programs.

        A card that spills does so long before it reports that it is full, and everything becomes many times slower:
        the larger of 1.5 GB and 20 % is left.
        """
        return int(max(1.5e9, total / 5)) if self.spills else total // 10

    def weight_bytes(self, structure: Structure, half: bool) -> int:
        """Bytes of a network's weights on the device, in all forms in which they are kept there."""
        return structure.weights * (2 if half else 4)

    def tile_bytes(self, structure: Structure, height: int, width: int, half: bool, rows: Optional[int] = None) -> int:
        """Peak bytes on the device for one tile of ``height`` x ``width`` pixels with its padding, weights included.

        Args:
            rows: Rows of the feature map in a band of the last stage; None takes the backend's own.
        """
        live = structure.live(height, width, rows or self.capabilities.band_rows)
        # What convolutions and the allocator take beside the tensors, as measured on CUDA.
        return self.weight_bytes(structure, half) + (2 if half else 4) * live + 4 * 2**20

    def kernels_bytes(self, structure: Structure, height: int, width: int) -> int:
        """The same in FP16 with our own kernels, where the backend has such."""
        return self.tile_bytes(structure, height, width, True)

    def usual_tile(self, structure: Structure) -> Optional[int]:
        """The tile that is quickest whatever the memory, None where memory decides."""
        return None


class TorchBackend(Backend):
    """A backend that PyTorch itself has, in its module of the same name (``torch.cuda`` ...)."""

    @property
    def module(self) -> Any:
        """That module."""
        return getattr(torch(), self.name)

    def torch_device(self, device: Device) -> Any:
        return torch().device(self.name, device.index)

    def wait(self, device: Device) -> None:
        self.module.synchronize(device.index)

    def free(self, device: Device) -> None:
        self.module.empty_cache()

    def memory_used(self, device: Device) -> Optional[int]:
        return int(self.module.memory_allocated(device.index))

    def peak_memory(self, device: Device) -> Optional[int]:
        return int(self.module.max_memory_allocated(device.index))

    def reset_peak_memory(self, device: Device) -> None:
        self.module.reset_peak_memory_stats(device.index)


BACKENDS: Dict[str, Backend] = {}
"""The registry, in the order in which backends are used; :mod:`realesrgan.backends` fills it."""


def torch() -> Any:
    """The package torch, imported when it is first asked for."""
    return importlib.import_module("torch")


def installed_version(distribution: str) -> Optional[str]:
    """The version of an installed package by its metadata, without importing it; None where it is missing."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def version_numbers(text: str) -> Tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def integrated_name(name: str) -> bool:
    """Whether an adapter's name is one of a graphics unit inside a processor."""
    return bool(_INTEGRATED.search(name))


def software_name(name: str) -> bool:
    """Whether an adapter's name is one of a software renderer."""
    return bool(_SOFTWARE.search(name))
