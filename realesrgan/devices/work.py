"""Waiting for a device, its memory, and copies to it and from it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Iterator, Optional, Tuple

from .kinds import Device, torch, torch_directml

__all__ = [
    "Arrival",
    "drain",
    "free",
    "from_host",
    "full_precision",
    "is_host",
    "memory_free",
    "memory_used",
    "peak_memory",
    "reset_peak_memory",
    "synchronize",
    "to_host",
]


def is_host(device: Device) -> bool:
    """Whether it is the processor itself, which needs no copies and is what other devices are compared with."""
    return device.backend == "cpu"


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
        fractions = torch_directml().gpu_memory(device.index, 1)
        return int(sum(fractions) * 2**20) if fractions else None
    if device.backend in ("cuda", "xpu"):
        return int(_memory_module(device).memory_allocated(device.index))
    return int(torch().mps.current_allocated_memory()) if device.backend == "mps" else None


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
    return getattr(torch(), device.backend, None) if device.backend in ("cuda", "xpu", "mps") else None


def _position(device: Device) -> Tuple[int, ...]:
    return () if device.backend == "mps" else (device.index,)


@contextlib.contextmanager
def full_precision(device: Device) -> Iterator[None]:
    """Keep NVIDIA's matrix units from rounding FP32 to TF32 inside the block."""
    if device.backend != "cuda":
        yield
        return
    backends = torch().backends
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
    library = torch()
    host = library.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    event = library.cuda.Event()
    event.record(library.cuda.current_stream(device.index))
    return Arrival(host, event)


def from_host(device: Device, tensor: Any) -> Any:
    """Copy a tensor to the device; from pinned memory, without waiting, where the backend can."""
    if not device.capabilities.asynchronous:
        return tensor.to(device.torch_device)
    return tensor.pin_memory().to(device.torch_device, non_blocking=True)
