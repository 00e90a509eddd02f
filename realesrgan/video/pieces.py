"""A video in pieces: cut by the process that leads a run, and read, frame by frame the same, by those that enlarge it.

Where a piece begins is found by the nearest frame before it that has a time stamp of its own: the decoder goes to the
key frame before that frame, and the frame is recognised by its picture. Each further frame is compared with what was
seen when the piece was cut; where one differs (the parts that it needs lie before the key frame), the file is decoded
from its start.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, Deque, Iterable, Iterator, List, Optional, Set, Tuple

from .encoding import Format
from .pixels import checksum
from .pyav import VideoError
from .source import Anchor, Shot, resample

__all__ = ["Cutter", "Frame", "Piece", "VideoPlan", "read"]

logger = logging.getLogger(__name__)

Frame = Tuple[int, int, str]
"""Time stamp, checksum and concealment of a frame."""


@dataclass(frozen=True)
class VideoPlan:
    """What all pieces of a video have in common.

    Attributes:
        source: Of :mod:`realesrgan.video.source` or :mod:`realesrgan.video.animation`.
        sizes: Bytes of each of its files, by which another file of the same name is found out.
        form: How the frames are encoded; ``fps`` is set where they are shown at a constant rate.
        folder: Where segments are written.
        pyav: Version by which all segments are encoded, because there is one header for all of them.
    """

    source: Any
    sizes: Tuple[int, ...]
    form: Format
    fps: Optional[Fraction]
    folder: Path
    outscale: float
    alpha_upsampler: str
    segment: int
    segment_seconds: float
    skip_repeats: bool
    pyav: str


@dataclass(frozen=True)
class Piece:
    """Consecutive frames of the result, for one worker.

    Attributes:
        index: Of the first frame, by which the piece is named. It stays when a part of the piece is finished.
        first: Of the first frame that is still to be done.
        frames: What each of them is.
        last: Ticks that the last one is shown.
        anchor: Of the input, before the first frame; None where the input is decoded from its start.
        begins: Time stamp of the input's first frame.
    """

    index: int
    first: int
    frames: Tuple[Frame, ...]
    last: int
    anchor: Optional[Anchor]
    begins: int

    @property
    def end(self) -> int:
        """Index of the frame after the last one."""
        return self.first + len(self.frames)

    def after(self, end: int) -> Piece:
        """What is left of it once the frames before ``end`` are finished."""
        return replace(self, first=end, frames=self.frames[end - self.first :])


class _Seen:
    """The frames of an input as they pass, and the last of them by which a place is found again."""

    def __init__(self, shots: Iterable[Shot], anchor: Optional[Anchor]) -> None:
        self._shots = shots
        self._given = anchor
        # The frames of a constant rate are known when the input's next frame has passed.
        self._last: Deque[Shot] = deque(maxlen=3)
        self.begins = 0

    def __iter__(self) -> Iterator[Shot]:
        for shot in self._shots:
            if shot.index == 0:
                self.begins = shot.pts
            if shot.can_anchor:
                self._last.append(shot)
            yield shot

    def anchor(self, frame: int) -> Optional[Anchor]:
        """The last one before a frame of the input."""
        for shot in reversed(self._last):
            if shot.index < frame:
                return Anchor(shot.index, shot.pts, checksum(shot.picture))
        return self._given if self._given is not None and self._given.index < frame else None


class Cutter:
    """Cuts what is not done yet into pieces, at the multiples of ``segment``. Reads the whole input, once.

    Args:
        done: Indices of the frames that are finished.
        anchor: From where on frames are missing; None for the start.
        stopped: Asked at each frame whether to end early.

    Attributes:
        total: Frames of the result, once all are read.
    """

    def __init__(
        self,
        plan: VideoPlan,
        step: int,
        done: Set[int],
        anchor: Optional[Anchor] = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._plan = plan
        self._step = step
        self._done = done
        self._anchor = None if plan.fps is not None else anchor
        self._stopped = stopped
        self.total: Optional[int] = None

    def __iter__(self) -> Iterator[Piece]:
        """The pieces in order; an error of reading comes after the piece that ends before it."""
        seen = _Seen(self._plan.source.shots(self._anchor), self._anchor)
        open_: Optional[_Open] = None
        last = max(self._done, default=-1)
        try:
            for shot in _shown(seen, self._plan, None, 0):
                if self._stopped():
                    return
                last = max(last, shot.index)
                if open_ is not None and (shot.index in self._done or shot.index % self._plan.segment == 0):
                    yield open_.closed(shot.pts - open_.frames[-1][0])
                    open_ = None
                if shot.index in self._done:
                    continue
                if open_ is None:
                    frame = shot.index if shot.shows is None else shot.shows
                    open_ = _Open(shot.index, seen.anchor(frame), seen.begins)
                open_.add(shot)
        except Exception:
            if open_ is not None:
                yield open_.closed(self._step)
            raise
        if open_ is not None:
            yield open_.closed(self._step)
        self.total = last + 1


class _Checksums:
    """Checksums of pictures; one that is shown several times in a row is looked at once."""

    def __init__(self) -> None:
        self._picture: Any = None
        self._value = 0

    def __call__(self, picture: Any) -> int:
        if picture is not self._picture:
            self._picture, self._value = picture, checksum(picture)
        return self._value


class _Open:
    """A piece that is being cut."""

    def __init__(self, first: int, anchor: Optional[Anchor], begins: int) -> None:
        self.first = first
        self.frames: List[Frame] = []
        self._anchor = anchor
        self._begins = begins
        self._checksum_of = _Checksums()

    def add(self, shot: Shot) -> None:
        self.frames.append((shot.pts, self._checksum_of(shot.picture), shot.concealed))

    def closed(self, last: int) -> Piece:
        return Piece(self.first, self.first, tuple(self.frames), last, self._anchor, self._begins)


def _shown(shots: Iterable[Shot], plan: VideoPlan, begins: Optional[int], count: int) -> Iterator[Shot]:
    """The frames of the result from ``count`` on, or from the start of ``shots`` where they are the input's own."""
    if plan.fps is None:
        return iter(shots)
    base = plan.source.info.time_base
    start = None if begins is None else begins * base
    return resample(shots, base, plan.form.time_base, plan.fps, plan.source.step, start, count)


def read(plan: VideoPlan, piece: Piece) -> Iterator[Shot]:
    """The frames of a piece, each the same as it was when the piece was cut.

    Raises:
        VideoError: The input cannot be read any more, or is another one.
    """
    wanted = piece.first
    for anchor in dict.fromkeys((piece.anchor, None)):
        begins, count = (None, 0) if anchor is None else (piece.begins, piece.index)
        checksum_of = _Checksums()
        for shot in _shown(plan.source.shots(anchor), plan, begins, count):
            if shot.index < wanted:
                continue
            frame = piece.frames[wanted - piece.first]
            if shot.index > wanted or (shot.pts, shot.concealed) != (frame[0], frame[2]):
                break
            if anchor is not None and checksum_of(shot.picture) != frame[1]:
                break
            yield shot
            wanted += 1
            if wanted == piece.end:
                return
        logger.debug("%s: frame %d is not found from %s on", plan.source.info.path, wanted, anchor)
    path = str(plan.source.info.path)
    raise VideoError(
        f"Frame {wanted} of {path} is not found a second time: the file has changed, or cannot be read any more.",
        code="video.frame_lost",
        index=wanted,
        path=path,
    )
