"""One video on several devices: its pieces go to whoever is free, and what comes back is noted in one journal."""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ..batch.dispatch import ATTEMPTS, Dispatcher, Worker
from ..errors import one_line
from .journal import Journal, Segment
from .pieces import Cutter, Piece, VideoPlan
from .pipeline import STAGES
from .pyav import VideoError
from .source import Anchor

__all__ = ["Crew", "Done", "share"]

logger = logging.getLogger(__name__)

_AHEAD = 8
"""Pieces that are cut and not yet handed out."""
_PIECES = 4
"""Pieces for each device, where the segments would be fewer."""
_SHORTEST = 24
"""Frames in a piece that is shorter than a segment would be: each begins with a key frame, which takes bytes."""


@dataclass
class Crew:
    """Who enlarges, instead of one upsampler in this process.

    Attributes:
        workers: Ready ones; those that are lost leave the list.
        more_workers: Gives those that have come since; None where none can come.
        expected: How many there are likely to be in the end.
    """

    workers: List[Worker]
    more_workers: Optional[Callable[[], List[Worker]]] = None
    expected: int = 1

    def segment(self, wish: int, likely: Optional[int]) -> int:
        """Frames in a piece: those of a segment, or fewer, so that each device has several."""
        if likely is None:
            return wish
        return min(wish, max(_SHORTEST, math.ceil(likely / (_PIECES * max(self.expected, len(self.workers))))))


@dataclass
class Done:
    """What was done now; see :class:`realesrgan.video.pipeline.Work`, and ``devices`` that did it."""

    computed: int = 0
    repeated: int = 0
    busy: Dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    interrupted: bool = False
    devices: int = 1


def share(
    crew: Crew,
    plan: VideoPlan,
    step: int,
    journal: Journal,
    progress: Optional[Callable[[int, Optional[int]], None]] = None,
    likely: Optional[int] = None,
) -> Done:
    """Enlarge the frames that the journal does not have yet.

    Args:
        step: Ticks that the last frame lasts.
        progress: Called with the frames that are finished, and ``likely``.

    Raises:
        VideoError: A piece was lost with its worker three times, or no worker is left.
        RealESRGANError: Of the input, or of a worker. What is finished is in the journal.
    """
    return _Shared(crew, plan, step, journal, progress, likely).run()


class _Shared(Dispatcher):
    """One video."""

    def __init__(
        self,
        crew: Crew,
        plan: VideoPlan,
        step: int,
        journal: Journal,
        progress: Optional[Callable[[int, Optional[int]], None]],
        likely: Optional[int],
    ) -> None:
        super().__init__(crew.workers, (plan,), crew.more_workers)
        self.done = Done(devices=max(1, len(crew.workers)))
        self.journal = journal
        self.progress = progress
        self.likely = likely
        self.finished = journal.done()
        self.resumed = len(self.finished)
        self.seen: Dict[int, int] = {}  # frames of each piece that are enlarged, from its index on
        self.before: Dict[int, int] = {}  # those of them that were finished when it was handed out
        self.error: Optional[BaseException] = None
        self.failed = False
        self.whole = False  # all pieces are cut
        self.room = threading.Semaphore(_AHEAD)
        self.closing = threading.Event()
        ordered = journal.ordered()
        anchor = None
        if ordered and ordered[-1].anchor is not None:
            anchor = Anchor(ordered[-1].end - 1, *ordered[-1].anchor)
        self.cutter = Cutter(plan, step, set(self.finished), anchor, self.closing.is_set)

    def run(self) -> Done:
        cutting = threading.Thread(target=self._cut, name="cut", daemon=True)
        cutting.start()
        try:
            self.work()
        except KeyboardInterrupt:
            self.done.interrupted = True
        finally:
            self.closing.set()
            if any(worker.under_way for worker in self.workers):
                self._end()
            cutting.join()
        if self.error is not None and not self.done.interrupted:
            raise self.error
        if not self.done.interrupted and self.cutter.total is not None:
            self.journal.end(self.cutter.total)
        return self.done

    def _end(self) -> None:
        """Leave nothing under way; what is enlarged is finished, and the workers are ready for another video."""
        self.finish()
        for worker in list(self.workers):
            if worker.under_way:
                worker.under_way.clear()
                if self.done.interrupted or not worker.again("lost"):
                    worker.close()
                    self.workers.remove(worker)

    # ------------------------------------------------------------------------------------------------------- cutting

    def _cut(self) -> None:
        try:
            for piece in self.cutter:
                self.post(None, ("piece", piece))
                while not self.room.acquire(timeout=0.2):
                    if self.closing.is_set():
                        return
            self.post(None, ("whole", None))
        except BaseException as error:  # noqa: BLE001 - raised in the calling thread
            self.post(None, ("whole", error))

    def told(self, kind: str, *values: Any) -> None:
        if kind == "piece":
            self.waiting.append(values[0])
        else:
            self.whole = True
            # The pieces before it are done first.
            self.error = self.error or values[0]

    def handing(self, job: Piece) -> None:
        self.done.devices = max(self.done.devices, len(self.workers))
        if job.index not in self.seen:
            self.room.release()
        self.before[job.index] = self.seen[job.index] = job.first - job.index

    # ------------------------------------------------------------------------------------------------------- hearing

    def is_done(self) -> bool:
        if self.failed:
            return True
        return self.whole and not self.waiting and not any(worker.under_way for worker in self.workers)

    def heard(self, worker: Worker, job: Piece, kind: str, *values: Any) -> None:
        if kind == "frames":
            self.seen[job.index] = self.before[job.index] + values[0]
            if self.progress is not None and not self.stopping:
                self.progress(self.resumed + sum(self.seen.values()), self.likely)
        elif kind == "segment":
            self._secured(worker, job, values[0])
        elif kind == "end":
            self._ended(worker, job, *values)

    def _secured(self, worker: Worker, job: Piece, segment: Segment) -> None:
        if segment.first != job.first or segment.end > job.end:
            return
        try:
            self.journal.add(segment)
        except VideoError as error:
            self._fail(error)
        else:
            worker.under_way[job.index] = job.after(segment.end)

    def _ended(
        self, worker: Worker, job: Piece, kind: str, packed: Optional[Tuple[Any, ...]], account: Mapping[str, Any]
    ) -> None:
        self.done.computed += account.get("computed", 0)
        self.done.repeated += account.get("repeated", 0)
        for stage, seconds in account.get("busy", {}).items():
            self.done.busy[stage] += seconds
        over, error = self.concluded(worker, job, kind, packed)
        if not over:
            return
        if error is not None:
            self._fail(error)
        elif job.frames and kind != "stopped" and not self.failed:
            self._fail(_incomplete(job))

    def _fail(self, error: Exception) -> None:
        """The run ends with the first error; what is enlarged is finished."""
        if not self.failed:
            self.failed, self.error = True, error

    def has_all(self, job: Piece) -> bool:
        return not job.frames

    def given_up(self, worker: Worker, job: Piece, error: Exception) -> None:
        first, last = job.first, job.end - 1
        self._fail(
            VideoError(
                f"The frames {first} to {last} were given to {ATTEMPTS} processes, and each was lost with them: "
                f"{one_line(error)}. What is finished is kept; the same command goes on from there.",
                code="video.lost",
                first=first,
                last=last,
                attempts=ATTEMPTS,
                reason=error,
            )
        )

    def without_workers(self) -> None:
        self._fail(
            VideoError(
                f"No device is left: {one_line(self.last)}. What is finished is kept; the same command goes on from "
                "there.",
                code="video.no_device",
                reason=self.last,
            )
        )


def _incomplete(job: Piece) -> VideoError:
    return VideoError(
        f"The frames {job.first} to {job.end - 1} did not come back. Start the same command again.",
        code="video.not_back",
        first=job.first,
        last=job.end - 1,
    )
