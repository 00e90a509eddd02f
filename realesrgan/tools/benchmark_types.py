"""What the benchmark times, and what comes of it: plain values."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Optional, Tuple

__all__ = ["LOST", "OK", "OUT_OF_MEMORY", "Cell", "Result"]

OK = "ok"
OUT_OF_MEMORY = "out of memory"
LOST = "device lost"


@dataclass(frozen=True)
class Cell:
    """What is timed. ``tile`` 0 is untiled, None lets the program choose; ``pad`` None is the default padding."""

    model: str
    half: bool
    width: int
    height: int
    tile: Optional[int]
    pad: Optional[int] = None

    @property
    def precision(self) -> str:
        return "fp16" if self.half else "fp32"

    @property
    def what(self) -> str:
        tile = "auto" if self.tile is None else self.tile or "untiled"
        return f"{self.model} {self.precision} {self.width}x{self.height} tile {tile}"


@dataclass(frozen=True)
class Result:
    """How it went.

    Attributes:
        weights: ``release``, ``file``, ``pypi`` or ``random``.
        status: ``ok``, ``out of memory``, ``device lost``, or a sentence.
        note: What a reader of the row must know.
        tile: Side of the tiles in use, 0 for untiled.
        pad: Padding in use.
        tiles: Their number.
        first: Seconds of the first run, a compiler's work included.
        seconds: Of each timed run.
        tflop: Computed cost of the picture, without the work that padding adds.
        device_peak: Most bytes on the device, None where nobody tells.
        resident_peak: Most bytes of main memory of this process.
        planned: What the memory model says of one tile, in bytes.
    """

    cell: Cell
    weights: str = ""
    status: str = OK
    note: str = ""
    tile: int = 0
    pad: int = 0
    tiles: int = 0
    first: Optional[float] = None
    seconds: Tuple[float, ...] = field(default=())
    tflop: float = 0.0
    device_peak: Optional[int] = None
    resident_peak: Optional[int] = None
    planned: Optional[int] = None

    @property
    def median(self) -> Optional[float]:
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def pixels_per_second(self) -> Optional[float]:
        """Input pixels."""
        return self.cell.width * self.cell.height / self.median if self.median else None

    @property
    def tflops(self) -> Optional[float]:
        """Computed cost by the median time, TFLOP/s."""
        return self.tflop / self.median if self.median else None
