"""CUDA: NVIDIA cards, through the CUDA build of PyTorch."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from ..archs.structure import HALO, Structure
from ..errors import Phrase
from .base import LIMIT, Arrival, Capabilities, Device, Examined, Finding, MissingError, TorchBackend, torch

__all__ = ["CUDA", "kernels_rows"]


def kernels_rows(height: int) -> int:
    """Rows in a band of a feature map of this height, with our own kernels for an RRDBNet.

    As many as leave what lies between the last stage's convolutions room in the trunk's memory.
    """
    return max(16, min(64, height // 8 - 2 * HALO))


class CUDA(TorchBackend):
    """See the module."""

    name = "cuda"
    label = "CUDA"
    spelling = "cuda (cuda:0)"
    remedy = Phrase(
        "device.get_cuda", "install the CUDA build of PyTorch (pytorch.org, 'Get started') and NVIDIA's driver"
    )
    capabilities = Capabilities(
        prefers_half=True,
        channels_last=True,
        converts_uint8=True,
        asynchronous=True,
        compiles=True,
        band_rows=64,
        kernels=True,
    )
    out_of_memory = re.compile(r"CUDA out of memory|STATUS_ALLOC_FAILED")
    lost = re.compile(
        r"CUDA error: (?:unspecified launch failure|an illegal memory access|device-side assert|unknown error)",
        re.IGNORECASE,
    )

    unrivalled = True

    def find(self) -> List[Device]:
        library = torch()
        if not library.cuda.is_available():
            if library.version.cuda is None:
                raise MissingError(Phrase("device.without_cuda", "this PyTorch is built without CUDA"), False)
            raise MissingError(Phrase("device.no_cuda", "PyTorch finds no CUDA device"), False)
        devices = []
        for index in range(library.cuda.device_count()):
            found = library.cuda.get_device_properties(index)
            integrated = bool(getattr(found, "is_integrated", False))
            devices.append(Device(self.name, index, str(found.name), int(found.total_memory), integrated))
        return devices

    def certain(self) -> bool:
        # The driver, and a PyTorch with CUDA's library.
        driver = shutil.which("nvidia-smi") if sys.platform == "win32" else Path("/proc/driver/nvidia/version").exists()
        spec = importlib.util.find_spec("torch") if driver else None
        folders = spec.submodule_search_locations if spec is not None else None
        return any(list(Path(folder, "lib").glob("*torch_cuda.*")) for folder in folders or ())

    def facts(self) -> Dict[str, Any]:
        return {"nvidia": _cards()}

    def findings(self, examined: Examined) -> Iterator[Finding]:
        torch_facts, cards = examined.facts["imports"].get("torch") or {"ok": False}, examined.facts["nvidia"]
        if not torch_facts["ok"] or not cards or examined.devices or examined.on_card:
            return
        if torch_facts["cuda"]:
            yield Finding(
                LIMIT,
                "cuda.driver",
                "There is an NVIDIA card ({card}, driver {driver}), but PyTorch {torch} (CUDA {cuda}) cannot use it.",
                "Update NVIDIA's driver; a card older than this PyTorch supports needs an older PyTorch.",
                card=cards[0]["name"],
                driver=cards[0]["driver"],
                torch=torch_facts["version"],
                cuda=torch_facts["cuda"],
            )
        else:
            yield Finding(
                LIMIT,
                "cuda.cpu_torch",
                "There is an NVIDIA card ({card}), but this PyTorch ({torch}) is built without CUDA.",
                "Install the CUDA build: python -m pip install torch --index-url https://download.pytorch.org/whl/cu126",
                card=cards[0]["name"],
                torch=torch_facts["version"],
            )

    def memory_free(self, device: Device) -> Optional[int]:
        module = self.module
        # What the allocator keeps without using it is free to us.
        spare = module.memory_reserved(device.index) - module.memory_allocated(device.index)
        return int(module.mem_get_info(device.index)[0] + spare)

    def kernels_bytes(self, structure: Structure, height: int, width: int) -> int:
        # The weights as they came and in the order in which the kernels read them, and what the allocator takes.
        weights = 2 * self.weight_bytes(structure, True) + 4 * 2**20
        height, width = height // structure.unshuffle, width // structure.unshuffle
        if not structure.last:
            return weights + 2 * structure.row.trunk_channels(structure) * height * width
        # Six planes of the feature map; five are free for what a band needs at two and at four times the size.
        plane = 2 * structure.features * height * width
        pixels = (kernels_rows(height) + 2 * HALO) * width
        room, more = 5 * plane, 0
        for size in (4, 16, 16):
            taken = 2 * structure.features * size * pixels
            room, more = (room - taken, more) if taken <= room else (room, more + taken)
        return weights + 6 * plane + more + 2 * 16 * 16 * pixels  # the last convolution's sixteen channels

    @contextlib.contextmanager
    def full_precision(self) -> Iterator[None]:
        """Keep the matrix units from rounding FP32 to TF32."""
        backends = torch().backends
        before = backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32
        backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = False
        try:
            yield
        finally:
            backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32 = before

    def to_host(self, tensor: Any) -> Arrival:
        host = torch().empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        event = self.module.Event()
        event.record(self.module.current_stream(tensor.device.index))
        return Arrival(host, event)

    def from_host(self, device: Device, tensor: Any) -> Any:
        return tensor.pin_memory().to(self.torch_device(device), non_blocking=True)


def _cards() -> Optional[List[Dict[str, Any]]]:
    """NVIDIA's cards by its own tool; None where there is no such tool, empty where it finds none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = "--query-gpu=name,driver_version,memory.total"
    try:
        done = subprocess.run(
            [tool, query, "--format=csv,noheader,nounits"], capture_output=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(",") for line in done.stdout.decode("utf-8", "replace").splitlines() if line.count(",") == 2]
    return [
        {
            "name": name.strip(),
            "driver": driver.strip(),
            "memory": int(size) * 2**20 if size.strip().isdigit() else None,
        }
        for name, driver, size in rows
    ]
