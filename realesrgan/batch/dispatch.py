"""Jobs to workers: whoever is free is handed the next; what a lost worker had under way goes to another.

A job is a whole picture (:mod:`realesrgan.batch.pool`) or consecutive frames of a video
(:mod:`realesrgan.video.shared`); a worker is a process of this machine with a device of its own, or an actor of a
cluster.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections import Counter, deque
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Sequence, Tuple

from ..errors import DeviceError, DeviceLostError, DeviceOutOfMemoryError, as_field, notice, one_line
from ..inference.child import Child, ChildGoneError, died, rebuild_error
from ..inference.tiling import halved
from .worker import DEPTH

__all__ = ["ATTEMPTS", "Dispatcher", "LocalWorker", "Message", "Post", "Worker", "devices_for", "start"]

_log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a job is tried whose worker was lost with it."""
RESTARTS = 3
"""New processes for one device."""
_FULL = sys.maxsize
"""Stands for the number of jobs of a worker that cannot have one more."""
PICTURES = "realesrgan.batch.worker:serve"
_PATIENCE = 60.0
"""Seconds that what is being written has after Ctrl-C."""

Message = Tuple[Any, ...]
Post = Callable[["Optional[Worker]", Message], None]


class Worker:
    """Somebody who does jobs. A job has an ``index``, by which it is named.

    What comes of them is posted as ``(kind, index, ...)``: the kinds are those of the jobs, and ``("dropped", index)``
    after :meth:`stop`. ``("gone", reason)`` says that the worker is lost with all that it had under way.
    """

    name: str = ""
    depth: int = DEPTH
    described: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.under_way: Dict[int, Any] = {}
        self.losses = 0

    def begin(self, plan: Tuple[Any, ...], post: Post) -> None:
        """Make ready for jobs: ``plan`` is what all of them have in common."""
        raise NotImplementedError

    def hand(self, job: Any) -> None:
        """Do one more job."""
        raise NotImplementedError

    def stop(self) -> None:
        """Finish only what is being written."""
        raise NotImplementedError

    def again(self, kind: str) -> bool:
        """After a loss (``kind`` is ``"memory"`` or ``"lost"``): whether it goes on, begun anew."""
        raise NotImplementedError

    def close(self) -> None:
        """End it."""
        raise NotImplementedError


class LocalWorker(Worker):
    """A process of this machine with one device.

    Args:
        device: For example ``"cuda:1"``.
        arguments: Of :func:`realesrgan.inference.isolated.build`, without the device.
        count: Such processes on this machine, which share the cores.
        serve: The child's side, ``module:function``; called with the line, the arguments and the count.
        depth: Jobs that may be under way at once.
    """

    def __init__(
        self,
        device: str,
        arguments: Mapping[str, Any],
        count: int = 1,
        silence: float = 900.0,
        serve: str = PICTURES,
        depth: int = DEPTH,
    ) -> None:
        super().__init__()
        self.name = device
        self.depth = depth
        self.described: Dict[str, Any] = {}
        self._arguments = {**arguments, "device": device, "gpu_id": None}
        self._count = count
        self._silence = silence
        self._serve = serve
        self._restarts = 0
        self._child: Optional[Child] = None
        self._heard: Optional[Child] = None
        self._begun: Optional[Tuple[Tuple[Any, ...], Post]] = None

    def start(self, progress: Optional[Callable[[int, int], None]] = None) -> None:
        """Start the process and wait until its network is ready.

        Raises:
            RealESRGANError: It cannot be built.
        """
        self._child = Child(self._serve, self._arguments, self._count)
        try:
            self.described = self._child.ready(self._silence, progress)
        except ChildGoneError as gone:
            self.close()
            raise died(as_field(gone)) from None
        except BaseException:
            self.close()
            raise

    def begin(self, plan: Tuple[Any, ...], post: Post) -> None:
        child = self._child
        assert child is not None
        self._begun = (plan, post)
        self._tell("plan", *plan)
        if self._heard is not child:
            self._heard = child
            threading.Thread(target=self._listen, args=(child,), name=f"listen-{self.name}", daemon=True).start()

    def _listen(self, child: Child) -> None:
        try:
            while True:
                # Without a job there is nothing to hear, however long.
                message = child.receive(self._silence if self.under_way else None)
                self._post(child, message)
        except ChildGoneError as gone:
            self._post(child, ("gone", as_field(gone)))

    def _post(self, child: Child, message: Message) -> None:
        if child is self._child and self._begun is not None:
            self._begun[1](self, message)

    def _tell(self, kind: str, *values: Any) -> None:
        child = self._child
        try:
            if child is not None:
                child.call(child.line.send, kind, *values)
        except ChildGoneError:
            pass  # the listener says so

    def hand(self, job: Any) -> None:
        self.under_way[job.index] = job
        self._tell("job", job)

    def stop(self) -> None:
        self._tell("stop")

    def again(self, kind: str) -> bool:
        self.close()
        if self._restarts == RESTARTS or self._begun is None:
            return False
        self._restarts += 1
        tile = int(self._arguments.get("tile") or self.described.get("tile") or 0)
        if tile:
            self._arguments["tile"] = halved(tile)
        try:
            self.start()
            self.begin(*self._begun)
        except Exception as error:  # noqa: BLE001 - a device that is gone may say anything
            _log.debug("%s does not start again: %s", self.name, one_line(error))
            self.close()
            return False
        return True

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end(gently=False)


def devices_for(request: str) -> List[str]:
    """The devices that ``all`` or a list such as ``"cuda:0,cuda:1"`` names.

    Raises:
        DeviceError: There is no such device.
        InputError: A name cannot be read.
    """
    child = Child("realesrgan.batch.worker:find_devices", request)
    try:
        kind, *values = child.receive(120.0)
    except ChildGoneError as gone:
        raise died(as_field(gone)) from None
    finally:
        child.end(gently=False)
    if kind == "error":
        raise rebuild_error(*values[1:])
    return list(values[0])


def start(
    names: Sequence[str],
    arguments: Mapping[str, Any],
    progress: Optional[Callable[[int, int], None]] = None,
    **more: Any,
) -> List[LocalWorker]:
    """A process for each device, all loading at the same time; those that cannot begin are left out with a notice.

    Args:
        **more: ``serve`` and ``depth`` of :class:`LocalWorker`.

    Raises:
        RealESRGANError: Of the first, if none can begin.
    """
    workers = [LocalWorker(name, arguments, len(names), **more) for name in names]
    errors: Dict[int, Exception] = {}

    def begin(number: int, worker: LocalWorker) -> None:
        try:
            worker.start(progress if number == 0 else None)
        except Exception as error:  # noqa: BLE001 - raised below, or said
            errors[number] = error

    threads = [threading.Thread(target=begin, args=pair) for pair in enumerate(workers)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        for worker in workers:
            worker.close()
        raise
    if len(errors) == len(workers):
        raise errors[0]
    for number, error in errors.items():
        _left_out(workers[number].name, error)
    return [worker for number, worker in enumerate(workers) if number not in errors]


def _left_out(name: str, error: BaseException) -> None:
    notice(
        _log,
        "pool.left_out",
        f"{name} is left out: {one_line(error)}. The other devices do its work.",
        device=name,
        reason=error,
    )


class Dispatcher:
    """One run: its bookkeeping, all of it in the calling thread. What a job is, a subclass says.

    Args:
        workers: Started ones. Those that are lost leave this list, and those that come later enter it.
        plan: For :meth:`Worker.begin`.
        more_workers: Asked now and then for workers that have come since; where it is given, a run without any worker
            waits for one.
    """

    def __init__(
        self,
        workers: List[Worker],
        plan: Tuple[Any, ...],
        more_workers: Optional[Callable[[], List[Worker]]] = None,
    ) -> None:
        self.workers = workers
        self.plan = plan
        self.more_workers = more_workers
        self.waiting: Deque[Any] = deque()
        # The workers by how many jobs each has under way, and that number for each: with thousands of them, nobody
        # looks at all.
        self.busy: Dict[int, Dict[Worker, None]] = {}
        self.counted: Dict[Worker, int] = {}
        self.tried: Counter[int] = Counter()
        self.lost_with: Dict[int, List[Worker]] = {}
        self.messages: queue.Queue[Tuple[Optional[Worker], int, Message]] = queue.Queue()
        self.last: Exception = DeviceError("no device was available", code="device")
        self.stopping = False

    # ------------------------------------------------------------------------------------------- what a subclass says

    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        raise NotImplementedError

    def heard(self, worker: Worker, job: Any, kind: str, *values: Any) -> None:
        """A worker's message about a job that it has under way."""
        raise NotImplementedError

    def told(self, kind: str, *values: Any) -> None:
        """A message that no worker posted."""
        raise NotImplementedError

    def has_all(self, job: Any) -> bool:
        """Whether everything of a job that is under way has come already."""
        return False

    def given_up(self, worker: Worker, job: Any, error: Exception) -> None:
        """A job was lost with its worker for the last time."""
        raise NotImplementedError

    def without_workers(self) -> None:
        """No worker is left, and none will come; ``last`` is the reason."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------- what it does

    def work(self) -> None:
        """Do all there is to do."""
        self._begin(self.workers)
        looked = time.monotonic()
        while not self.is_done():
            if self.more_workers is not None and time.monotonic() - looked > 2:
                looked = time.monotonic()
                self._welcome(self.more_workers())
            self._hand_out()
            if not self.workers and self.more_workers is None:
                self.without_workers()
                return
            self._hear(0.2)

    def finish(self) -> None:
        """End early: what is computed is written, the rest is dropped. A second Ctrl-C ends it at once."""
        self.stopping = True
        for worker in self.workers:
            worker.stop()
        end = time.monotonic() + _PATIENCE
        try:
            while any(worker.under_way for worker in self.workers) and time.monotonic() < end:
                self._hear(0.2)
        except KeyboardInterrupt:
            pass

    def post(self, worker: Optional[Worker], message: Message) -> None:
        """Hand over a message; any thread may."""
        self.messages.put((worker, 0 if worker is None else worker.losses, message))

    def ready(self, job: Any) -> Any:
        """A job as it goes to a worker."""
        return job

    def handing(self, job: Any) -> None:
        """A job goes to a worker."""

    def _welcome(self, workers: List[Worker]) -> None:
        self._begin(workers)
        self.workers += workers

    def _begin(self, workers: List[Worker]) -> None:
        for worker in workers:
            worker.begin(self.plan, self.post)
            self.counted[worker] = _FULL
            self.busy.setdefault(_FULL, {})[worker] = None
            self._count(worker)

    def _count(self, worker: Worker) -> None:
        """Note that a worker may have more or fewer jobs under way than before."""
        before = self.counted.get(worker)
        if before is None:
            return  # it is lost
        now = len(worker.under_way) if len(worker.under_way) < worker.depth else _FULL
        if before != now:
            del self.busy[before][worker]
            self.busy.setdefault(now, {})[worker] = None
            self.counted[worker] = now

    def _hand_out(self) -> None:
        """The next jobs, one to each worker in turn, so that nobody waits while another has several.

        One that was lost goes to another worker, if one is free.
        """
        while self.waiting:
            worker = self._free(self.lost_with.get(self.waiting[0].index, ()))
            if worker is None:
                return
            job = self.ready(self.waiting.popleft())
            self.handing(job)
            worker.hand(job)
            self._count(worker)

    def _free(self, lost: Sequence[Worker] = ()) -> Optional[Worker]:
        """The worker with the fewest jobs under way, of those that can have one more; none of ``lost``, if possible."""
        free = [self.busy[number] for number in sorted(self.busy) if number != _FULL]
        others = (worker for workers in free for worker in workers if worker not in lost)
        return next(others, None) or next((worker for workers in free for worker in workers), None)

    def _hear(self, seconds: float) -> None:
        try:
            worker, losses, (kind, *values) = self.messages.get(timeout=seconds)
        except queue.Empty:
            return
        if worker is None:
            self.told(kind, *values)
        elif losses != worker.losses:
            return  # said before it was lost, of jobs that are begun anew
        elif kind == "gone":
            if worker in self.workers:
                self.lost(worker, died(values[0]), "lost")
        else:
            job = worker.under_way.get(values[0])
            if job is None:
                return
            if kind == "dropped":
                del worker.under_way[job.index]
            else:
                self.heard(worker, job, kind, *values[1:])
            self._count(worker)

    def concluded(
        self, worker: Worker, job: Any, kind: str, packed: Optional[Tuple[Any, ...]]
    ) -> Tuple[bool, Optional[Exception]]:
        """What a worker's last message about a job means.

        Args:
            kind: Of the error, as :func:`realesrgan.devices.classify` says, or ``"unfit"``.
            packed: The error, None where there is none.

        Returns:
            Whether the job is over, and its error. It is not over where the worker's use of the device is: then all
            that it had under way goes elsewhere.
        """
        error = None if packed is None else rebuild_error(*packed)
        if kind in ("lost", "memory", "unfit") or isinstance(error, (DeviceLostError, DeviceOutOfMemoryError)):
            self.lost(worker, error or self.last, kind, job)
            return False, error
        del worker.under_way[job.index]
        return True, error

    def lost(self, worker: Worker, error: Exception, kind: str, guilty: Any = None) -> None:
        """A worker is lost with all that it had under way, which goes to others.

        Args:
            kind: ``"lost"``, ``"memory"``, or ``"unfit"`` for one that is of no use for this run.
            guilty: The job that it was lost with, where that is known: only that one has had a try.
        """
        self.last = error
        left = [job for job in worker.under_way.values() if not self.has_all(job)]
        jobs = sorted(left, key=lambda job: job.index, reverse=True)
        worker.under_way.clear()
        for job in jobs:
            self.tried[job.index] += kind != "unfit" and (guilty is None or job is guilty)
            if self.tried[job.index] >= ATTEMPTS:
                self.given_up(worker, job, error)
            else:
                self.waiting.appendleft(job)
                self.lost_with.setdefault(job.index, []).append(worker)
        goes_on = kind != "unfit" and not self.stopping and worker.again(kind)
        worker.losses += 1
        if goes_on:
            self._count(worker)
            self._say("pool.again", "begins anew", worker, error)
            return
        worker.close()
        self.workers.remove(worker)
        del self.busy[self.counted.pop(worker)][worker]
        self._say("pool.lost", "is not used any more", worker, error)

    def _say(self, code: str, what: str, worker: Worker, error: Exception) -> None:
        notice(
            _log,
            code,
            f"{worker.name} {what}: {one_line(error)}. Its work is done all the same.",
            device=worker.name,
            reason=error,
        )
