"""A device, and what its backend can do."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Any, Optional

__all__ = ["CAPABILITIES", "LABELS", "ORDER", "Capabilities", "Device", "torch", "torch_directml"]

ORDER = ("directml", "cuda", "xpu", "mps", "cpu")
LABELS = {"directml": "DirectML", "cuda": "CUDA", "xpu": "XPU", "mps": "MPS", "cpu": "CPU"}


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do, so that nobody else asks for its name.

    Attributes:
        half: FP16 may be tried (it is taken only after a self-test).
        prefers_half: FP16 is taken without being asked for.
        channels_last: Convolutions run faster on channels-last tensors.
        multi_prelu: PReLU with a weight for each channel works.
        quantises: Rounding and conversion to uint8 on the device is right.
        converts_uint8: uint8 pixels may be sent and turned into floats on the device.
        largest_tensor: Bytes of the largest tensor whose size is counted right, 0 for any.
        asynchronous: Copies from and to pinned memory overlap with work.
        drain_flops: Floating-point operations after which queued work is made to finish, 0 for never.
        band_rows: Rows of the feature map that the last stage of an RRDBNet takes at once.
        compiles: torch.compile may be used.
        planes: An RRDBNet's channels may lie in planes, where its processor suits them.
        kernels: Our own kernels may be tried in FP16.
    """

    half: bool = True
    prefers_half: bool = False
    channels_last: bool = False
    multi_prelu: bool = True
    quantises: bool = True
    converts_uint8: bool = False
    largest_tensor: int = 0
    asynchronous: bool = False
    drain_flops: int = 0
    band_rows: int = 32
    compiles: bool = False
    planes: bool = False
    kernels: bool = False


CAPABILITIES = {
    # Work of more than two seconds without a pause makes Windows reset the card (facts in docs/directml.md), hence
    # drain_flops: a quarter of a second at the 1.5 TFLOP/s that a slow card of this kind reaches.
    "directml": Capabilities(
        multi_prelu=False,
        largest_tensor=2**32 - 1,
        drain_flops=400_000_000_000,
        band_rows=16,
    ),
    "cuda": Capabilities(
        prefers_half=True,
        channels_last=True,
        converts_uint8=True,
        asynchronous=True,
        compiles=True,
        band_rows=64,
        kernels=True,
    ),
    "xpu": Capabilities(channels_last=True),
    "mps": Capabilities(),
    "cpu": Capabilities(half=False, channels_last=True, compiles=True, band_rows=48, planes=True),
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
        return LABELS[self.backend]

    @property
    def spills(self) -> bool:
        """Whether it borrows from the main memory without an error, and becomes slow, when its own is full."""
        return self.backend == "directml" or (self.backend == "cuda" and sys.platform == "win32")

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES[self.backend]

    @property
    def torch_device(self) -> Any:
        """The ``torch.device``."""
        library = torch()
        if self.backend == "directml":
            return torch_directml().device(self.index)
        return library.device(self.backend) if self.backend == "cpu" else library.device(self.backend, self.index)


def torch() -> Any:
    """The package torch, imported when it is first asked for."""
    return importlib.import_module("torch")


def torch_directml() -> Any:
    """The package torch_directml, likewise."""
    return importlib.import_module("torch_directml")
