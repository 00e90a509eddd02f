"""The input and output of a batch: options, events, the result, and what it needs of the thing that enlarges."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, List, Mapping, Optional, Protocol, Tuple

import numpy as np

from ..files import naming
from . import report

__all__ = ["BatchOptions", "BatchResult", "Event", "Upscaler"]


class Upscaler(Protocol):
    """What a batch needs of the thing that enlarges. ``last_run`` and ``scale`` are read if they exist.

    Anything of this shape will do: the class of this package, a face enhancer around it, or a stand-in that hands the
    pictures to a child process. ``enhance`` raises :class:`~realesrgan.errors.DeviceLostError` when it is of no use
    any more, and any other exception when this one picture could not be done.
    """

    def enhance(
        self,
        img: np.ndarray,
        outscale: Optional[float] = None,
        alpha_upsampler: str = "realesrgan",
        *,
        progress: Optional[Callable[[int, int], None]] = None,
    ) -> Tuple[np.ndarray, str]:
        """See :meth:`realesrgan.inference.upsampler.RealESRGANer.enhance`."""
        ...

    def describe(self) -> Mapping[str, object]:
        """See :meth:`realesrgan.inference.upsampler.RealESRGANer.describe`."""
        ...


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is done.

    Attributes:
        output: The folder of the results.
        extension: ``auto``, ``png``, ``jpg``, ``webp`` or ``tiff``.
        alpha_bleed: Bleed colour under transparent pixels and keep constant alpha out of the network.
        max_pixels: Pictures with more are refused; None leaves the limit to the reader.
        accept_truncated: Accept JPEG files that are cut short.
        skip_existing: Leave a picture out whose result exists.
        resume: How the result of a former run is checked: ``"content"`` by size, time and a hash of samples of it,
            ``"size"`` by size alone.
        digest: A number for all options that change a result; a record with another one is done again.
        shard: This run's share of the list, counted from 1, and how many there are.
        readers, writers: Threads; 0 chooses.
    """

    output: Path
    suffix: str = "out"
    extension: str = "auto"
    outscale: Optional[float] = None
    alpha_upsampler: str = "realesrgan"
    alpha_bleed: bool = True
    strip_metadata: bool = False
    max_pixels: Optional[int] = None
    accept_truncated: bool = False
    jpeg_quality: int = 95
    png_compression: int = 3
    skip_existing: bool = False
    resume: str = "content"
    digest: str = ""
    shard: Tuple[int, int] = (1, 1)
    readers: int = 0
    writers: int = 0


@dataclass(frozen=True)
class Event:
    """Something that a user may want to see. ``kind``:

    ``start`` (a picture comes to the device), ``tiles`` (``tiles`` contains done and total), ``end`` (``record`` says
    what became of it; these come in the order of the list).
    """

    kind: str
    index: int
    total: int
    source: naming.Source
    tiles: Optional[Tuple[int, int]] = None
    record: Optional[report.Record] = None
    error: Optional[BaseException] = None


@dataclass
class BatchResult:
    """How a batch ended. ``failed`` contains the records of those that could not be done."""

    total: int
    done: int = 0
    skipped: int = 0
    failed: List[report.Record] = field(default_factory=list)
    not_done: int = 0
    interrupted: bool = False
    seconds: float = 0.0
    read_seconds: float = 0.0
    device_seconds: float = 0.0
    write_seconds: float = 0.0
    writers: int = 1

    @property
    def ok(self) -> bool:
        return not self.failed and not self.not_done and not self.interrupted
