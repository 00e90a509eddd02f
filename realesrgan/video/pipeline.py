"""Decode, network and encode at the same time, with a few frames between them.

Six stages: decoding, frames to pixels, the network (in the calling thread), pixels to frames, encoding, and the check
of finished segments. Each holds its own bounded queue, so memory does not depend on the length of the video.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, TypeVar

from .encoding import Format
from .flow import Channel, Group, Stopped
from .journal import Journal, Segment
from .pixels import FromPixels
from .segments import SegmentFile, check_frames
from .source import Shot

__all__ = ["STAGES", "Work", "enlarge"]

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

#: The stages, each with a thread of its own.
STAGES = ("decode", "to_pixels", "network", "from_pixels", "encode", "check")

#: Frames that may wait between two stages.
_ROOM = 2
_ROOM_DECODED = 4


@dataclass
class Work:
    """What is to be done, and what was done.

    Attributes:
        to_pixels: From a shot's picture to an array.
        likely: Frames in all, as far as known.
        computed: Frames that went through the network; ``repeated`` ones took the result of the frame before.
        busy: Seconds that each stage worked, without waiting for the others.
        interrupted: Ctrl-C ended it.
    """

    upsampler: Any
    to_pixels: Callable[[Any], Any]
    form: Format
    journal: Journal
    outscale: float
    alpha_upsampler: str
    segment: int
    segment_seconds: float
    progress: Optional[Callable[[int, Optional[int]], None]] = None
    likely: Optional[int] = None
    computed: int = 0
    repeated: int = 0
    busy: Dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    interrupted: bool = False

    def timed(self, stage: str, function: Callable[..., Value], *arguments: Any, **options: Any) -> Value:
        """Call a function on a stage's account. Only the stage's own thread may do so."""
        begun = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            self.busy[stage] += time.perf_counter() - begun


@dataclass(frozen=True)
class _Item:
    """A frame on its way: the array or frame of the stage, or None for "as before"."""

    shot: Shot
    value: Any


def enlarge(work: Work, shots: Iterator[Shot], step: int) -> None:
    """Enlarge the frames that the journal does not have yet, and write them in segments.

    Args:
        step: Ticks that the last frame lasts.

    Raises:
        The first error of any stage. What was enlarged before it is kept.
    """
    group = Group()
    frames, pixels = group.channel(_ROOM_DECODED), group.channel(_ROOM)
    results, ready = group.channel(_ROOM), group.channel(_ROOM)
    written: Channel[Segment] = Channel(1)  # not the group's: what is on the disk is checked whatever fails
    feeder = _Feeder(work, shots, frames)
    writer = _Writer(work, step, written)
    from_pixels = FromPixels(work.form.width, work.form.height, work.form.pix_fmt, work.form.colour, work.form.sar)
    group.start("decode", feeder.run)
    group.map("to-pixels", lambda item: _converted(work, "to_pixels", item, work.to_pixels), frames, pixels)
    group.map("from-pixels", lambda item: _converted(work, "from_pixels", item, from_pixels), results, ready)
    group.start("encode", lambda: writer.run(ready))
    group.start("check", lambda: _check(work, written))
    error: Optional[BaseException] = None
    try:
        _network(work, pixels, results)
    except Stopped:
        pass  # a stage failed; join() says why
    except KeyboardInterrupt:
        work.interrupted = True
    except BaseException as failure:  # noqa: BLE001 - raised again once what is done is on the disk
        error = failure
    frames.stop()
    pixels.stop()
    results.end()
    try:
        group.join()
    except BaseException:
        group.end()
        writer.abandon()
        raise
    if error is not None:
        raise error
    if not work.interrupted and feeder.total is not None:
        work.journal.end(feeder.total)


def _network(work: Work, pixels: Channel[_Item], results: Channel[_Item]) -> None:
    finished = len(work.journal.done())
    alpha = {"alpha_upsampler": work.alpha_upsampler} if work.form.alpha else {}
    for item in pixels:
        result = None
        if item.value is None:
            work.repeated += 1
        else:
            result, _ = work.timed("network", work.upsampler.enhance, item.value, outscale=work.outscale, **alpha)
            work.computed += 1
        results.put(_Item(item.shot, result))
        finished += 1
        if work.progress is not None:
            work.progress(finished, work.likely)


def _converted(work: Work, stage: str, item: _Item, convert: Callable[[Any], Any]) -> _Item:
    return item if item.value is None else _Item(item.shot, work.timed(stage, convert, item.value))


def _check(work: Work, written: Channel[Segment]) -> None:
    """Decode what was encoded: only segments that give all of their frames count."""
    try:
        for segment in written:
            work.timed("check", check_frames, work.journal.folder / segment.name, len(segment.pts))
            work.journal.add(segment)
    except BaseException:
        written.stop()
        raise


class _Feeder:
    """Sends the frames that are not finished on their way; those that repeat the one before without a picture."""

    def __init__(self, work: Work, shots: Iterator[Shot], frames: Channel[_Item]) -> None:
        self._work, self._shots, self._frames = work, shots, frames
        self._done = work.journal.done()
        self.total: Optional[int] = None

    def run(self) -> None:
        before = -2
        last = max(self._done, default=-1)
        while True:
            shot = self._work.timed("decode", next, self._shots, None)
            if shot is None:
                break
            last = max(last, shot.index)
            if shot.index in self._done:
                continue
            repeats = shot.same and before == shot.index - 1
            self._frames.put(_Item(shot, None if repeats else shot.picture))
            before = shot.index
        self.total = last + 1
        self._frames.end()


class _Writer:
    """Encodes what comes in segments, and hands each on once it is on the disk."""

    def __init__(self, work: Work, step: int, written: Channel[Segment]) -> None:
        self._work, self._step, self._written = work, step, written
        self._file: Optional[SegmentFile] = None
        self._shots: List[Tuple[int, int, str]] = []
        self._repeated = 0
        self._last: Optional[Shot] = None
        self._begun = 0.0
        self._frame: Any = None
        self._broken = False

    def run(self, ready: Channel[_Item]) -> None:
        """The stage."""
        try:
            for item in ready:
                self._take(item)
        finally:
            # Also where another stage failed: what is encoded so far is worth keeping.
            try:
                if self._last is not None and self._file is not None and not self._broken:
                    self._finish(self._step)
            finally:
                self._written.end()

    def _take(self, item: _Item) -> None:
        shot = item.shot
        self._broken = True
        if self._last is not None and self._is_full(shot):
            self._finish(shot.pts - self._last.pts if shot.index == self._last.index + 1 else self._step)
        if self._file is None:
            path = self._work.journal.folder / f"{shot.index:08d}.nut"
            self._file, self._begun = SegmentFile(path, self._work.form), time.perf_counter()
        if item.value is None:
            self._repeated += 1
        else:
            self._frame = item.value
        self._work.timed("encode", self._file.add, self._frame, shot.pts)
        self._shots.append((shot.index, shot.pts, shot.concealed))
        self._last = shot
        self._broken = False

    def _is_full(self, shot: Shot) -> bool:
        assert self._last is not None
        return self._file is not None and (
            shot.index % self._work.segment == 0
            or shot.index != self._last.index + 1
            or time.perf_counter() - self._begun > self._work.segment_seconds
        )

    def _finish(self, last: int) -> None:
        assert self._file is not None and self._last is not None
        pts, size = self._work.timed("encode", self._file.finish)
        self._written.put(
            Segment(
                first=self._shots[0][0],
                pts=pts,
                last=last,
                size=size,
                anchor=self._last.anchor(),
                repeated=self._repeated,
                concealed=[entry for entry in self._shots if entry[2]],
            )
        )
        self._file, self._shots, self._repeated = None, [], 0

    def abandon(self) -> None:
        """Leave no unfinished file."""
        if self._file is not None:
            self._file.abandon()
            self._file = None
