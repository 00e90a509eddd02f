"""What this process uses between two runs: memory, device memory, open handles, threads."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Optional

from realesrgan.batch.monitor import handles, resident, threads

if TYPE_CHECKING:
    from realesrgan.devices import Device

__all__ = ["Sample", "Vitals"]


@dataclass(frozen=True)
class Sample:
    """One look. ``pictures`` and ``seconds`` since the start; bytes; None where unknown."""

    pictures: int
    seconds: float
    resident: int
    device: Optional[int]
    handles: int
    threads: int


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
