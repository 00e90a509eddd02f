"""Whether memory drifts while pictures are done: a slope, its 95 % interval, and what that says.

The method, as ``docs/reliability.md`` states it: the first fifth of the samples (two at least) is warm-up and left
out; the rest is averaged in at most 40 blocks of equally many samples, which evens out the order of pictures and
models; a straight line is fitted to the blocks by least squares. Memory moves in steps and remembers them, so blocks
that follow each other are not independent: their number is reduced to an effective one by the lag-1 autocorrelation of
what the line leaves over, corrected for the bias that fitting a line brings, and the interval is Student's t with that
many points.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np

__all__ = [
    "BLOCKS",
    "LIMIT",
    "SHOWN",
    "TOO_FEW",
    "TOO_MUCH",
    "UNSURE",
    "Trend",
    "counts_leak",
    "judge",
    "pictures_needed",
    "settled",
    "student",
    "trend",
]

LIMIT = 20.0
"""Megabytes (of 1,000,000 bytes) per 1,000 pictures that the upper bound must stay under."""
BLOCKS = 40
_FEWEST = 5
_FEWEST_EFFECTIVE = 4.0

SHOWN = "no drift"
TOO_MUCH = "drifts"
UNSURE = "not shown"
TOO_FEW = "too few samples"


@dataclass(frozen=True)
class Trend:
    """A slope in megabytes per 1,000 pictures, with the bounds of its two-sided 95 % interval.

    Attributes:
        samples: Samples after the warm-up.
        blocks: What they were averaged to.
        autocorrelation: Lag 1, of the residuals, corrected for bias; 0 or more.
        effective: Independent points that the blocks are worth.
        pictures: Pictures between the first and the last sample used.
    """

    slope: float
    lower: float
    upper: float
    samples: int
    blocks: int
    autocorrelation: float
    effective: float
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
    if len(known) < _FEWEST:
        return None
    series = np.asarray(known, float)
    x, y = _blocks(series[:, 0]), _blocks(series[:, 1]) / 1000  # bytes a picture are kilobytes per 1,000 pictures
    count = len(x)
    away = x - x.mean()
    spread = float(away @ away)
    slope = float(away @ y) / spread
    left = y - y.mean() - slope * away
    squares = float(left @ left)
    correlation = _autocorrelation(left, squares, count)
    effective = max(_FEWEST_EFFECTIVE, count * (1 - correlation) / (1 + correlation))
    error = (squares / (effective - 2) / spread) ** 0.5
    half = student(effective - 2) * error
    covered = int(series[-1, 0] - series[0, 0])
    return Trend(
        slope, slope - half, slope + half, len(known), count, round(correlation, 3), round(effective, 1), covered
    )


def _blocks(values: np.ndarray) -> np.ndarray:
    """At most :data:`BLOCKS` means of equally many values; the oldest values that do not fill a block are left out."""
    size = -(-len(values) // BLOCKS)
    return np.asarray(values[len(values) % size :].reshape(-1, size).mean(1))


def _autocorrelation(left: np.ndarray, squares: float, count: int) -> float:
    if squares <= 0:
        return 0.0
    raw = float(left[1:] @ left[:-1]) / squares
    # Residuals of a fitted line correlate less than the noise does: by about 2/n, and by a factor.
    return min(max((count * raw + 2) / max(count - 4, 1), 0.0), 0.99)


@functools.lru_cache(maxsize=256)
def student(freedom: float) -> float:
    """The 97.5 % quantile of Student's t; ``freedom`` is 1 or more and need not be whole."""
    # With t = sqrt(freedom) * tan(angle) the density is a power of the cosine on a finite interval.
    angle = np.linspace(-np.pi / 2, np.pi / 2, 20001)
    density = np.cos(angle).clip(0) ** (freedom - 1)
    share = np.concatenate(([0.0], np.cumsum((density[1:] + density[:-1]) / 2)))
    at = float(np.interp(0.975, share / share[-1], angle))
    return float(np.sqrt(freedom) * np.tan(at))


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
    return _rounded_up(found.pictures * factor * 1.25)


def _rounded_up(value: float) -> int:
    digits = 10 ** max(0, len(str(int(value))) - 2)
    return int(-(-value // digits) * digits)


def counts_leak(counts: Sequence[Optional[int]]) -> Optional[Tuple[int, int]]:
    """Whether a count (handles, threads) rose for good after the warm-up.

    Returns:
        The largest of the first quarter and the smallest of the last one; a leak if the second is larger. None where
        nobody told.
    """
    known: List[int] = [value for value in counts if value is not None]
    known = known[min(settled(len(known)), max(0, len(known) - 2)) :]
    if len(known) < 2:
        return None
    quarter = max(1, len(known) // 4)
    return max(known[:quarter]), min(known[-quarter:])
