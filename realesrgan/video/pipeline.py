"""Decode, network and encode at the same time, with a few frames between them.

Six stages: decoding, frames to pixels, the network (in the calling thread), pixels to frames, encoding, and the check
of finished segments. Each contains its own bounded queue, so memory does not depend on the length of the video.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat, takewhile
from pathlib import Path
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Protocol,
    Set,
    Tuple,
    TypeVar,
)

from ..files.threads import Outcome, ReadAhead, WriteBehind
from .encoding import Format, SegmentFile, check_frames
from .journal import Segment, crc_of
from .pixels import FromPixels
from .source import Shot

__all__ = ["STAGES", "Secures", "Stopped", "Work", "enlarge"]

Value = TypeVar("Value")

#: The stages, each with a thread of its own.
STAGES = ("decode", "to_pixels", "network", "from_pixels", "encode", "check")

#: Frames that may wait between two stages.
_ROOM = 2
_ROOM_DECODED = 4


class Stopped(BaseException):
    """Raised in a thread that is to end as after Ctrl-C, which only the main thread hears."""


class Secures(Protocol):
    """Where finished segments go: a journal, or what tells another process of them."""

    @property
    def folder(self) -> Path:
        """Where their files are written."""
        ...

    def done(self) -> Set[int]:
        """The indices of the frames that are finished already."""
        ...

    def add(self, segment: Segment) -> None:
        """A segment whose file is on the disk and was checked."""
        ...

    def end(self, total: int) -> None:
        """There are no more than ``total`` frames."""
        ...


@dataclass
class Work:
    """What is to be done, and what was done.

    Attributes:
        device: Entered while the network is used; decoding before it and encoding after it go on outside.
        to_pixels: From a shot's picture to an array.
        likely: Frames in all, as far as known.
        computed: Frames that went through the network; ``repeated`` ones took the result of the frame before.
        busy: Seconds that each stage worked, without waiting for the others.
        interrupted: Ctrl-C ended it.
    """

    upsampler: Any
    to_pixels: Callable[[Any], Any]
    form: Format
    journal: Secures
    outscale: float
    alpha_upsampler: str
    segment: int
    segment_seconds: float
    progress: Optional[Callable[[int, Optional[int]], None]] = None
    likely: Optional[int] = None
    device: ContextManager[Any] = field(default_factory=nullcontext)
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
    feeder = _Feeder(work, shots)
    output = _Output(work, step)
    error: Optional[BaseException] = None
    try:
        with ReadAhead(repeat(None), feeder, ahead=_ROOM_DECODED) as decoding:
            decoded = takewhile(lambda outcome: outcome.error or outcome.value, decoding)
            converting = _stage(work, "to_pixels", work.to_pixels)
            with ReadAhead(decoded, converting, ahead=_ROOM) as pixels, work.device:
                _network(work, pixels, output)
    except (KeyboardInterrupt, Stopped):
        work.interrupted = True
    except BaseException as failure:  # noqa: BLE001 - raised again once what is done is on the disk
        error = failure
    try:
        output.end()
    except BaseException as failure:  # noqa: BLE001 - the first error is the one to tell
        raise error or failure from None
    if error is not None:
        raise error
    if not work.interrupted and feeder.total is not None:
        work.journal.end(feeder.total)


def _network(work: Work, pixels: Iterable[Outcome[Any, _Item]], output: _Output) -> None:
    finished = len(work.journal.done())
    alpha = {"alpha_upsampler": work.alpha_upsampler} if work.form.alpha else {}
    for outcome in pixels:
        item, result = outcome.result(), None
        if item.value is None:
            work.repeated += 1
        else:
            result, _ = work.timed("network", work.upsampler.enhance, item.value, outscale=work.outscale, **alpha)
            work.computed += 1
        output.put(_Item(item.shot, result))
        finished += 1
        if work.progress is not None:
            work.progress(finished, work.likely)


def _stage(work: Work, name: str, convert: Callable[[Any], Any]) -> Callable[[Outcome[Any, Any]], _Item]:
    """A stage that turns the value of each item into another; an error of the stage before it goes on through it."""

    def run(outcome: Outcome[Any, Any]) -> _Item:
        item: _Item = outcome.result()
        return item if item.value is None else _Item(item.shot, work.timed(name, convert, item.value))

    return run


class _Feeder:
    """Gives the frames that are not finished, then None; those that repeat the one before without a picture."""

    def __init__(self, work: Work, shots: Iterator[Shot]) -> None:
        self._work = work
        self._items = self._wanted(shots, work.journal.done())
        self.total: Optional[int] = None

    def __call__(self, _: None) -> Optional[_Item]:
        item: Optional[_Item] = self._work.timed("decode", next, self._items, None)
        return item

    def _wanted(self, shots: Iterator[Shot], done: Set[int]) -> Iterator[_Item]:
        before = -2
        last = max(done, default=-1)
        for shot in shots:
            last = max(last, shot.index)
            if shot.index not in done:
                repeats = shot.same and before == shot.index - 1
                yield _Item(shot, None if repeats else shot.picture)
                before = shot.index
        self.total = last + 1


class _Output:
    """The stages behind the network, each in a thread: results to frames, frames to segments, the check of segments."""

    def __init__(self, work: Work, step: int) -> None:
        form = work.form
        convert = FromPixels(form.width, form.height, form.pix_fmt, form.colour, form.sar)
        stage = _stage(work, "from_pixels", convert)
        self._writer = _Writer(work, step)
        self._converting = WriteBehind[None, Any, _Item](stage, workers=1, behind=_ROOM)
        self._encoding = WriteBehind[None, Any, Optional[Segment]](self._writer, workers=1, behind=_ROOM)
        self._checking = WriteBehind[None, Segment, None](partial(_check, work), workers=1, behind=_ROOM)

    def put(self, item: _Item) -> None:
        """Hand over a result; waits while the stages are behind.

        Raises:
            The first error of a stage.
        """
        self._converting.submit(None, Outcome(None, item, None, 0.0))
        for outcome in self._converting.finished():
            self._encoding.submit(None, outcome)
        self._check(self._encoding.finished())
        for checked in self._checking.finished():
            checked.result()

    def _check(self, outcomes: List[Outcome[None, Optional[Segment]]]) -> None:
        for outcome in outcomes:
            segment = outcome.result()
            if segment is not None:
                self._checking.submit(None, segment)

    def end(self) -> None:
        """Finish the last segment, also where a stage failed: what is encoded so far is worth keeping.

        Raises:
            The first error of a stage.
        """
        with self._checking, self._encoding, self._converting:
            for outcome in self._converting.drain():
                self._encoding.submit(None, outcome)
            self._encoding.submit(None, None)
            error: Optional[BaseException] = None
            for encoded in self._encoding.drain():
                error = error or encoded.error
                if encoded.value is not None:
                    self._checking.submit(None, encoded.value)
            for checked in self._checking.drain():
                error = error or checked.error
            self._writer.abandon()
        if error is not None:
            raise error


def _check(work: Work, segment: Segment) -> None:
    """Decode what was encoded: only a segment that gives all of its frames counts."""
    work.timed("check", check_frames, work.journal.folder / segment.name, len(segment.pts))
    work.journal.add(segment)


class _Writer:
    """Encodes frames in segments. Called with each frame's outcome, and with None at the end; gives whole segments."""

    def __init__(self, work: Work, step: int) -> None:
        self._work, self._step = work, step
        self._file: Optional[SegmentFile] = None
        self._shots: List[Tuple[int, int, str]] = []
        self._repeated = 0
        self._last: Optional[Shot] = None
        self._begun = 0.0
        self._frame: Any = None
        self._ended = False  # a frame is missing: none after it is written
        self._broken = False  # the file of the segment is of no use

    def __call__(self, outcome: Optional[Outcome[Any, _Item]]) -> Optional[Segment]:
        if outcome is None:
            return None if self._file is None or self._broken else self._finish(self._step)
        if self._ended:
            return None
        self._ended = True
        item = outcome.result()
        self._broken = True
        segment = self._write(item)
        self._ended = self._broken = False
        return segment

    def _write(self, item: _Item) -> Optional[Segment]:
        shot, segment = item.shot, None
        if self._last is not None and self._is_full(shot):
            segment = self._finish(shot.pts - self._last.pts if shot.index == self._last.index + 1 else self._step)
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
        return segment

    def _is_full(self, shot: Shot) -> bool:
        assert self._last is not None
        return self._file is not None and (
            shot.index % self._work.segment == 0
            or shot.index != self._last.index + 1
            or time.perf_counter() - self._begun > self._work.segment_seconds
        )

    def _finish(self, last: int) -> Segment:
        assert self._file is not None and self._last is not None
        pts, size = self._work.timed("encode", self._file.finish)
        segment = Segment(
            first=self._shots[0][0],
            pts=pts,
            last=last,
            size=size,
            crc=crc_of(self._work.journal.folder / f"{self._shots[0][0]:08d}.nut"),
            anchor=self._last.anchor(),
            repeated=self._repeated,
            concealed=[entry for entry in self._shots if entry[2]],
        )
        self._file, self._shots, self._repeated = None, [], 0
        return segment

    def abandon(self) -> None:
        """Leave no unfinished file."""
        if self._file is not None:
            self._file.abandon()
            self._file = None
