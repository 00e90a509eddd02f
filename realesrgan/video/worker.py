"""One device's part of a video that several devices share: pieces of it, decoded, enlarged, encoded and checked.

Two pieces are under way at once: while the frames of one are encoded, the device has those of the next, which are
decoded already.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Mapping, Optional, Set

from .. import devices
from ..batch.worker import built_for
from ..errors import one_line
from ..inference.child import Line, pack_error
from . import pyav
from .journal import Segment
from .pieces import Piece, VideoPlan, read
from .pipeline import Stopped, Work, enlarge
from .pixels import to_pixels
from .pyav import VideoError
from .source import mark_repeats

__all__ = ["DEPTH", "SERVE", "Desk", "serve"]

DEPTH = 2
"""Pieces that one worker may have under way."""
SERVE = "realesrgan.video.worker:serve"
_SIGN = 10.0
"""Seconds after which a device that computes one frame for long shows that it lives."""

#: Called with a kind and values.
Tell = Callable[..., None]


class Desk:
    """Does pieces of videos with one upsampler.

    It tells ``("frames", index, count)`` of a piece that is being enlarged, ``("segment", index, segment)`` of frames
    that are on the disk, and ``("end", index, kind of error, packed error, account)``; the kind ``"stopped"`` is no
    error, and ``"unfit"`` says that nothing of this video can be done here.
    """

    def __init__(self, upsampler: Any, tell: Tell) -> None:
        self._upsampler = upsampler
        self._tell = tell
        self._device = _Turns()
        self._stopped = threading.Event()
        self._plan: Optional[VideoPlan] = None
        self._pool = ThreadPoolExecutor(DEPTH, thread_name_prefix="piece")

    def plan(self, plan: VideoPlan) -> None:
        """Another video begins; nothing of the one before is under way."""
        self._plan = plan
        self._stopped = threading.Event()

    def job(self, piece: Piece) -> None:
        """Do a piece, as soon as there is room."""
        assert self._plan is not None
        self._pool.submit(self._do, self._plan, piece, self._stopped, self._device.take(self._stopped))

    def stop(self) -> None:
        """Let every piece end with what is enlarged of it."""
        self._stopped.set()

    def close(self) -> None:
        """Stop, and wait for it."""
        self.stop()
        self._pool.shutdown()

    def _do(self, plan: VideoPlan, piece: Piece, stopped: threading.Event, turn: _Turn) -> None:
        work = Work(
            upsampler=_Stoppable(self._upsampler, stopped, lambda: self._tell("alive", piece.index)),
            to_pixels=to_pixels(plan.source.info, plan.form),
            form=plan.form,
            journal=_Told(plan.folder, lambda segment: self._tell("segment", piece.index, segment)),
            outscale=plan.outscale,
            alpha_upsampler=plan.alpha_upsampler,
            segment=plan.segment,
            segment_seconds=plan.segment_seconds,
            progress=lambda count, _: self._tell("frames", piece.index, count),
            device=turn,
        )
        try:
            unfit = _unfit(plan)
            if unfit is not None:
                self._tell("end", piece.index, "unfit", pack_error(unfit), {})
                return
            enlarge(work, mark_repeats(read(plan, piece), plan.skip_repeats), piece.last)
            self._tell("end", piece.index, "stopped" if work.interrupted else "", None, _account(work))
        except Exception as error:  # noqa: BLE001 - raised again by the process that leads
            self._tell("end", piece.index, devices.classify(error), pack_error(error), _account(work))
        finally:
            turn.leave()


def _account(work: Work) -> Dict[str, Any]:
    return {"computed": work.computed, "repeated": work.repeated, "busy": dict(work.busy)}


def _unfit(plan: VideoPlan) -> Optional[VideoError]:
    """Why this machine cannot do a part of the video."""
    version = str(pyav.load().__version__)
    if version != plan.pyav:
        return VideoError(
            f"PyAV {version} is installed there and {plan.pyav} here: all parts of a video are encoded by one version.",
            code="video.other_pyav",
            version=version,
            wanted=plan.pyav,
        )
    for path, size in zip(plan.source.files, plan.sizes):
        try:
            there = path.stat().st_size
        except OSError as error:
            return VideoError(
                f"{path} cannot be read there: {one_line(error)}.",
                code="video.not_there",
                path=str(path),
                reason=error,
            )
        if there != size:
            return VideoError(
                f"{path} is another file there: it has {there} bytes instead of {size}.",
                code="video.other_file",
                path=str(path),
                size=there,
                wanted=size,
            )
    return None


class _Told:
    """Passes finished segments on to the process that keeps the journal."""

    def __init__(self, folder: Path, tell: Callable[[Segment], None]) -> None:
        self.folder = folder
        self._tell = tell

    def done(self) -> Set[int]:
        return set()

    def add(self, segment: Segment) -> None:
        self._tell(segment)

    def end(self, total: int) -> None:
        pass


class _Turns:
    """The device, for one after the other in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: Deque[_Turn] = deque()
        self._changed = threading.Condition()

    def take(self, stopped: threading.Event) -> _Turn:
        """A place at the end of the queue."""
        with self._changed:
            turn = _Turn(self, stopped)
            self._waiting.append(turn)
            return turn

    def wait(self, turn: _Turn, stopped: threading.Event) -> None:
        """Wait for a turn.

        Raises:
            Stopped: The run is to end.
        """
        with self._changed:
            while self._waiting[0] is not turn:
                if stopped.is_set():
                    raise Stopped
                self._changed.wait(0.2)

    def leave(self, turn: _Turn) -> None:
        """Let the next one go on; does nothing the second time."""
        with self._changed:
            if turn in self._waiting:
                self._waiting.remove(turn)
                self._changed.notify_all()


class _Turn:
    """A place in the queue for the device."""

    def __init__(self, turns: _Turns, stopped: threading.Event) -> None:
        self._turns = turns
        self._stopped = stopped

    def __enter__(self) -> None:
        self._turns.wait(self, self._stopped)

    def __exit__(self, *exc: object) -> None:
        self.leave()

    def leave(self) -> None:
        self._turns.leave(self)


class _Stoppable:
    """An upsampler that ends between two tiles once the run is to end."""

    def __init__(self, upsampler: Any, stopped: threading.Event, alive: Callable[[], None]) -> None:
        self._upsampler = upsampler
        self._stopped = stopped
        self._alive = alive
        self._told = time.monotonic()

    def enhance(self, img: Any, **options: Any) -> Any:
        self._check()
        return self._upsampler.enhance(img, **options, progress=self._check)

    def _check(self, *_: Any) -> None:
        if self._stopped.is_set():
            raise Stopped
        if time.monotonic() - self._told > _SIGN:
            self._told = time.monotonic()
            self._alive()


def serve(line: Line, arguments: Mapping[str, Any], count: int = 1) -> None:
    """The child's side: build the upsampler, then do as the parent says until it closes the pipe.

    Messages from the parent: ``plan`` (a :class:`VideoPlan`), ``job`` (a :class:`Piece`), ``stop``; to the parent:
    ``ready`` (what the upsampler describes), and those of :class:`Desk`.

    Args:
        count: Such children on this machine.
    """
    # Where a card computes, half of the cores are for decoders and encoders.
    shares = count if arguments.get("device") == "cpu" else 2 * count
    built = built_for(line, arguments, shares)
    if built is None:
        return
    # What is to be said of a video, the process that cuts it says.
    logging.getLogger("realesrgan.video").setLevel(logging.CRITICAL)

    def tell(*message: Any) -> None:
        try:
            line.send(*message)
        except (OSError, ValueError):
            desk.stop()  # the parent is gone

    desk = Desk(built, tell)
    try:
        while True:
            kind, *values = line.receive()
            getattr(desk, kind)(*values)
    finally:
        desk.close()
