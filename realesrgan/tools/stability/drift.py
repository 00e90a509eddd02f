"""What this process uses between two runs, and whether that grows over many: memory, open handles, threads.

The first fifth of the samples (two at least) is warm-up and left out. Memory moves in steps and remembers them, so
samples that follow each other are not independent. The rest is averaged in five parts that follow each other, which
nearly are; a straight line is fitted to the five means by least squares, with the 95 % interval of its slope by
Student's t. The upper end of the interval must lie under a limit, not the slope alone.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

import numpy as np

from realesrgan.batch.monitor import handles, resident, threads

if TYPE_CHECKING:
    from realesrgan.devices import Device

__all__ = [
    "LIMIT",
    "SHOWN",
    "TOO_FEW",
    "TOO_MUCH",
    "UNSURE",
    "Sample",
    "Trend",
    "Vitals",
    "counts_leak",
    "judge",
    "pictures_needed",
    "settled",
    "trend",
]

LIMIT = 20.0
"""Megabytes (of 1,000,000 bytes) per 1,000 pictures that the upper bound must stay under."""
_PARTS = 5
_STUDENT = 3.182
"""The 97.5 % quantile of Student's t for a line through five points."""

SHOWN = "no drift"
TOO_MUCH = "drifts"
UNSURE = "not shown"
TOO_FEW = "too few samples"


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


@dataclass(frozen=True)
class Trend:
    """A slope in megabytes per 1,000 pictures, with the bounds of its two-sided 95 % interval.

    Attributes:
        samples: Samples after the warm-up.
        pictures: Pictures between the first and the last of them.
    """

    slope: float
    lower: float
    upper: float
    samples: int
    pictures: int


def settled(count: int) -> int:
    """The index of the first of ``count`` samples that counts."""
    return max(2, -(-count // 5))


def trend(pictures: Sequence[float], values: Sequence[Optional[int]]) -> Optional[Trend]:
    """The drift of a series.

    Args:
        pictures: Pictures done so far at each sample, rising.
        values: Bytes at each sample; None (unknown) is left out.

    Returns:
        None with fewer than five samples after the warm-up.
    """
    known = [(x, y) for x, y in zip(pictures, values) if y is not None]
    known = known[settled(len(known)) :]
    if len(known) < _PARTS:
        return None
    series = np.asarray(known, float)
    x, y = np.array([part.mean(0) for part in np.array_split(series, _PARTS)]).T
    y /= 1000  # bytes a picture are kilobytes per 1,000 pictures
    away = x - x.mean()
    spread = float(away @ away)
    slope = float(away @ y) / spread
    left = y - y.mean() - slope * away
    half = _STUDENT * (float(left @ left) / (_PARTS - 2) / spread) ** 0.5
    return Trend(slope, slope - half, slope + half, len(known), int(series[-1, 0] - series[0, 0]))


def judge(found: Optional[Trend], limit: float = LIMIT) -> str:
    """What a trend says.

    Returns:
        :data:`SHOWN` if the upper bound is under the limit, :data:`TOO_MUCH` if memory grew beyond doubt and the slope
        is not under it, :data:`UNSURE` for everything between.
    """
    if found is None:
        return TOO_FEW
    if found.upper < limit:
        return SHOWN
    return TOO_MUCH if found.slope >= limit and found.lower > 0 else UNSURE


def pictures_needed(found: Trend, limit: float = LIMIT) -> Optional[int]:
    """About how many pictures, warm-up included, would bring the upper bound under the limit; None if none would."""
    room = limit - max(found.slope, 0.0)  # memory does not shrink for ever
    if room <= 0:
        return None
    # The interval narrows with the power 3/2 of the length of a run; what is left over is measured roughly by then.
    factor = max(1.0, ((found.upper - found.slope) / room) ** (2 / 3)) * 1.5
    count = found.pictures * factor * 1.25
    digits = 10 ** max(0, len(str(int(count))) - 2)
    return int(-(-count // digits) * digits)


def counts_leak(counts: Sequence[int]) -> Optional[Tuple[int, int]]:
    """Whether a count (handles, threads) rose for good after the warm-up.

    Returns:
        The largest of the first quarter and the smallest of the last one; a leak if the second is larger. None with
        fewer than two counts.
    """
    settling = min(settled(len(counts)), max(0, len(counts) - 2))
    known = counts[settling:]
    if len(known) < 2:
        return None
    quarter = max(1, len(known) // 4)
    return max(known[:quarter]), min(known[-quarter:])
