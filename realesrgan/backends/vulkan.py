"""Vulkan: every card with a Vulkan driver, AMD under Linux too, through the package ncnn. No torch.

ncnn is imported when it is first asked for. It finds the system's Vulkan loader by itself, which comes with the
graphics driver (``vulkan-1.dll`` under Windows, ``libvulkan.so.1`` elsewhere).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ..archs.structure import HALO, Structure
from ..errors import Phrase
from . import windows
from .base import LIMIT, Backend, Capabilities, Device, Examined, Finding, MissingError, software_name

__all__ = ["Vulkan", "allocators", "check", "library"]

# What VkPhysicalDeviceType says, as ncnn numbers it.
_INTEGRATED, _SOFTWARE = 1, 3
_NVIDIA = 0x10DE
_OUT_OF_MEMORY = -100  # ncnn's own
_OPEN_FILES = Path("/proc/self/fdinfo")
_NODES = ("dri/renderD*", "nvidiactl", "dxg", "kgsl-3d0")
"""What Linux has below /dev where there is a graphics card."""


class Vulkan(Backend):
    """See the module."""

    name = "vulkan"
    label = "Vulkan"
    aliases = ("vk", "ncnn")
    spelling = "vulkan (vulkan:1)"
    package = "ncnn"
    remedy = Phrase(
        "device.get_vulkan",
        "pip install ncnn, and a graphics driver with Vulkan (under Linux for AMD and Intel: Mesa's)",
    )
    capabilities = Capabilities(
        prefers_half=True, band_rows=32, whole_pictures=False, isolates=True, through_torch=False
    )
    out_of_memory = re.compile(r"ncnn .*\(-100\)|\bvk\w+ failed -[12]\b|VK_ERROR_OUT_OF_(?:HOST|DEVICE)_MEMORY")
    lost = re.compile(r"ncnn returned -1\b|\bvk\w+ failed -4\b|VK_ERROR_DEVICE_LOST")

    def plausible(self) -> bool:
        # Under Linux a driver that renders in software may be all that there is.
        return self.installed() and (not sys.platform.startswith("linux") or any(map(_matches, _NODES)))

    def find(self) -> List[Device]:
        if not self.installed():
            raise MissingError(Phrase("device.no_package", "ncnn is not installed", package="ncnn"), False)
        ncnn = library()
        if not hasattr(ncnn, "get_gpu_count"):
            raise MissingError(Phrase("device.without_vulkan", "this ncnn is built without Vulkan"), True)
        with _quiet():
            count = int(ncnn.get_gpu_count())
            found = [self._device(ncnn, index) for index in range(count)]
        if not found:
            raise MissingError(Phrase("device.no_vulkan", "ncnn finds no graphics driver with Vulkan"), True)
        return found

    def _device(self, ncnn: Any, index: int) -> Device:
        info = ncnn.get_gpu_info(index)
        name = str(info.device_name()).replace("\0", "").strip() or f"adapter {index}"
        kind = int(info.type())
        software = kind == _SOFTWARE or software_name(name)
        memory = windows.total_memory(name) or int(ncnn.get_gpu_device(index).get_heap_budget()) * 2**20
        driver = _version(int(info.vendor_id()), int(info.driver_version()))
        return Device(self.name, index, name, memory or None, kind == _INTEGRATED, software, driver)

    def findings(self, examined: Examined) -> Iterator[Finding]:
        facts = examined.facts
        if facts["ended"] and facts["ended"]["step"] == f"import {self.package}":
            yield Finding(
                LIMIT,
                "vulkan.ended",
                "Python itself ends while ncnn is imported (status {status}).",
                "Update the graphics driver; then python -m pip install --force-reinstall ncnn",
                status=facts["ended"]["status"],
            )
        torch_facts, system = facts["imports"].get("torch") or {"ok": False}, facts["system"]
        if not torch_facts["ok"] or torch_facts.get("hip") or system["platform"] != "linux" or system["wsl"]:
            return
        card = next((each["name"] for each in facts["adapters"] if each["name"].startswith("AMD")), None)
        if card and not examined.on_card:
            yield Finding(
                LIMIT,
                "linux.amd",
                "There is an AMD card ({card}); on Linux DirectML does not exist, and this PyTorch is not the ROCm "
                "build.",
                "python -m pip install ncnn: the card is then used through Vulkan (driver: mesa-vulkan-drivers).",
                card=card,
            )

    def free(self, device: Device) -> None:
        with _lock:
            _idle.pop(device.index, None)

    def memory_used(self, device: Device) -> Optional[int]:
        return None if device.software else _used_by_this_process()

    def tile_bytes(self, structure: Structure, height: int, width: int, half: bool, rows: Optional[int] = None) -> int:
        # As measured (docs/performance.md): weights also in the forms that Winograd multiplies; what lives at once and
        # what Winograd makes of it; what the driver takes.
        pixels = structure.pixels(height, width)
        band = ((rows or self.capabilities.band_rows) + 2 * HALO) * (width // structure.unshuffle)
        trunk = 2.75 * structure.row.trunk_channels(structure) * pixels
        last = 12 * structure.row.band_values(structure, band)
        values = int(max(trunk, last))
        return 9 * self.weight_bytes(structure, half) + (2 if half else 4) * values + 95 * 2**20


def _matches(pattern: str) -> bool:
    return bool(list(Path("/dev").glob(pattern)))  # all of it: a search that is left open warns later


def library() -> Any:
    """The package ncnn."""
    return importlib.import_module("ncnn")


def check(status: int) -> None:
    """Raise what a return code of ncnn means; nothing for 0.

    Raises:
        MemoryError: It could not allocate memory.
        RuntimeError: It failed in another way; on a device that worked before, the device is lost.
    """
    if status == _OUT_OF_MEMORY:
        raise MemoryError("ncnn could not allocate memory (-100)")
    if status != 0:
        raise RuntimeError(f"ncnn returned {status}: the device failed, or is lost")


_idle: Dict[int, List[Tuple[Any, Any]]] = {}
"""Allocators that no tile uses, by the device's index. They keep their memory for the next tile."""
_lock = threading.Lock()


@contextlib.contextmanager
def allocators(device: Optional[Device]) -> Iterator[Tuple[Any, Any]]:
    """Allocators of a device's memory, and of memory of the host that it reads and writes, for one thread's use."""
    if device is None:
        yield None, None
        return
    with _lock:
        idle = _idle.get(device.index)
        pair = idle.pop() if idle else None
    if pair is None:
        ncnn = library()
        card = ncnn.get_gpu_device(device.index)
        pair = ncnn.VkBlobAllocator(card), ncnn.VkStagingAllocator(card)
    yield pair  # after a failure they are dropped, and with them their memory
    with _lock:
        _idle.setdefault(device.index, []).append(pair)


def _version(vendor: int, number: int) -> str:
    """A driver's version as its maker writes it."""
    if vendor == _NVIDIA:
        return f"{number >> 22}.{number >> 14 & 0xFF}.{number >> 6 & 0xFF}"
    return f"{number >> 22}.{number >> 12 & 0x3FF}.{number & 0xFFF}"


def _used_by_this_process() -> Optional[int]:
    """Bytes of graphics memory that the kernel counts for this process; None where it does not (only Linux does)."""
    clients: Dict[str, int] = {}
    try:
        files = list(_OPEN_FILES.iterdir())
    except OSError:
        return None
    for file in files:
        try:
            lines = file.read_text("ascii", "replace").splitlines()
        except OSError:
            continue
        values = dict(line.split(":", 1) for line in lines if ":" in line)
        found = re.match(r"\s*(\d+)\s*KiB", values.get("drm-memory-vram", ""))
        if found:  # several files of one client tell the same
            clients[values.get("drm-client-id", file.name).strip()] = int(found.group(1)) << 10
    return sum(clients.values()) if clients else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the lines on each device away that ncnn writes to the standard error when it first looks for them."""
    try:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # there is no standard error
        yield
        return
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
