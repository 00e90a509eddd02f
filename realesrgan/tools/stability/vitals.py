"""What this process holds between two runs: memory, device memory, open handles, threads."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

from realesrgan.batch.monitor import resident

if TYPE_CHECKING:
    from realesrgan.devices import Device

__all__ = ["Sample", "Vitals", "handles", "threads"]

_DESCRIPTORS = (Path("/proc/self/fd"), Path("/dev/fd"))
_TASKS = Path("/proc/self/task")


@dataclass(frozen=True)
class Sample:
    """One look. ``pictures`` and ``seconds`` since the start; bytes; None where nobody tells."""

    pictures: int
    seconds: float
    resident: Optional[int]
    device: Optional[int]
    handles: Optional[int]
    threads: int


def handles() -> Optional[int]:
    """Open file descriptors, on Windows handles of any kind, of this process; None if the system does not tell."""
    if sys.platform == "win32":
        return _windows_handles()
    for folder in _DESCRIPTORS:
        try:
            return len(os.listdir(folder)) - 1  # noqa: PTH208 - one of them is the listing's own
        except OSError:
            continue
    return None


def _windows_handles() -> Optional[int]:
    import ctypes

    try:
        kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        query = kernel.GetProcessHandleCount
        query.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint32)]
        count = ctypes.c_uint32()
        done = query(kernel.GetCurrentProcess(), ctypes.byref(count))
    except (AttributeError, OSError):
        return None
    return int(count.value) if done else None


def threads() -> int:
    """Threads of this process: the system's count on Linux, elsewhere those that Python knows."""
    try:
        return len(os.listdir(_TASKS))  # noqa: PTH208
    except OSError:
        return threading.active_count()


class Vitals:
    """Takes samples and keeps them.

    Args:
        device: Whose memory is asked for; None: none.
    """

    def __init__(self, device: Optional[Device] = None) -> None:
        self.device = device
        self.samples: List[Sample] = []
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self._start

    def take(self, pictures: int) -> Sample:
        """Look now. Between two runs: nothing is being read, computed or written then.

        Garbage in cycles is collected first, since when Python does that by itself is chance.
        """
        gc.collect()
        device: Optional[int] = None
        if self.device is not None:
            from realesrgan import devices

            devices.synchronize(self.device)
            device = devices.memory_used(self.device)
        sample = Sample(pictures, round(self.seconds, 3), resident(), device, handles(), threads())
        self.samples.append(sample)
        return sample
