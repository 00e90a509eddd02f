"""A batch on several devices: whoever is free is handed the next picture; one of a lost device goes to another."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List, Mapping, Optional, Sequence, Tuple

from ..errors import DeviceError, DeviceLostError, DeviceOutOfMemoryError, as_field, notice, one_line
from ..files import naming
from ..inference.child import Child, ChildGoneError, died, rebuild_error
from ..inference.isolated import FLOOR
from . import report
from .options import BatchOptions, BatchResult, Event
from .plan import SKIP, Job
from .run import Recorder, failure, make_plan
from .worker import DEPTH

if TYPE_CHECKING:
    from .monitor import Monitor

__all__ = ["ATTEMPTS", "LocalWorker", "Worker", "devices_for", "run", "start"]

_log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a picture is tried whose worker was lost with it."""
RESTARTS = 3
"""New processes for one device."""
_PATIENCE = 60.0
"""Seconds that pictures which are being written have after Ctrl-C."""

Message = Tuple[Any, ...]
Post = Callable[["Worker", Message], None]


class Worker:
    """Somebody who does pictures: a process of this machine, or an actor of a cluster.

    What comes of them is posted as ``("start", number)``, ``("tiles", number, done, total)``, ``("end", number, record,
    kind of error, packed error)``, ``("dropped", number)`` after :meth:`stop`, or ``("gone", reason)`` when it is lost
    with all that it had under way.
    """

    name: str = ""
    depth: int = DEPTH

    def __init__(self) -> None:
        self.under_way: Dict[int, Job] = {}

    def begin(self, options: BatchOptions, outputs: naming.OutputPlan, post: Post) -> None:
        """Make ready for pictures."""
        raise NotImplementedError

    def hand(self, job: Job) -> None:
        """Do one more picture."""
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
        arguments: Of :func:`realesrgan.inference.isolated_child.build`, without the device.
        count: Such processes on this machine, which share the cores.
    """

    def __init__(self, device: str, arguments: Mapping[str, Any], count: int = 1, silence: float = 900.0) -> None:
        super().__init__()
        self.name = device
        self.described: Dict[str, Any] = {}
        self._arguments = {**arguments, "device": device, "gpu_id": None}
        self._count = count
        self._silence = silence
        self._restarts = 0
        self._child: Optional[Child] = None
        self._begun: Optional[Tuple[BatchOptions, naming.OutputPlan, Post]] = None

    def start(self, progress: Optional[Callable[[int, int], None]] = None) -> None:
        """Start the process and wait until its network is ready.

        Raises:
            RealESRGANError: It cannot be built.
        """
        self._child = Child("realesrgan.batch.worker:serve", self._arguments, self._count)
        try:
            self.described = self._child.ready(self._silence, progress)
        except ChildGoneError as gone:
            self.close()
            raise died(as_field(gone)) from None
        except BaseException:
            self.close()
            raise

    def begin(self, options: BatchOptions, outputs: naming.OutputPlan, post: Post) -> None:
        assert self._child is not None
        self._begun = (options, outputs, post)
        child = self._child
        child.call(child.line.send, "plan", options, outputs)
        threading.Thread(target=self._listen, args=(child, post), name=f"listen-{self.name}", daemon=True).start()

    def _listen(self, child: Child, post: Post) -> None:
        try:
            while True:
                # Without a picture there is nothing to hear, however long.
                post(self, child.receive(self._silence if self.under_way else None))
        except ChildGoneError as gone:
            if child is self._child:
                post(self, ("gone", as_field(gone)))

    def hand(self, job: Job) -> None:
        self.under_way[job.index] = job
        child = self._child
        try:
            if child is not None:
                child.call(child.line.send, "job", job)
        except ChildGoneError:
            pass  # the listener says so

    def stop(self) -> None:
        child = self._child
        try:
            if child is not None:
                child.call(child.line.send, "stop")
        except ChildGoneError:
            pass

    def again(self, kind: str) -> bool:
        self.close()
        if self._restarts == RESTARTS or self._begun is None:
            return False
        self._restarts += 1
        tile = int(self._arguments.get("tile") or self.described.get("tile") or 0)
        if tile:
            self._arguments["tile"] = max(FLOOR, -(-tile // 2))
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
    names: Sequence[str], arguments: Mapping[str, Any], progress: Optional[Callable[[int, int], None]] = None
) -> List[LocalWorker]:
    """A process for each device, all loading at the same time; those that cannot begin are left out with a notice.

    Raises:
        RealESRGANError: Of the first, if none can begin.
    """
    workers = [LocalWorker(name, arguments, len(names)) for name in names]
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
        f"{name} is left out: {one_line(error)}. The other devices do its pictures.",
        device=name,
        reason=error,
    )


def run(
    sources: Sequence[naming.Source],
    workers: Sequence[Worker],
    options: BatchOptions,
    on_event: Optional[Callable[[Event], None]] = None,
    *,
    former: Optional[Mapping[str, report.Record]] = None,
    writer: Optional[report.ReportWriter] = None,
    monitor: Optional[Monitor] = None,
    more_workers: Optional[Callable[[], List[Worker]]] = None,
) -> BatchResult:
    """Enlarge pictures with several workers; arguments and result as :func:`realesrgan.batch.run.run`.

    Args:
        workers: Started ones.
        more_workers: Asked now and then for workers that have come since; where it is given, a run without any worker
            waits for one.
    """
    plan = make_plan(sources, options, former or {})
    recorder = Recorder(plan.jobs, on_event, writer)
    return _Pool(workers, options, plan.outputs, recorder, monitor, more_workers).run()


class _Pool:
    """One run: its bookkeeping, all of it in the calling thread."""

    def __init__(
        self,
        workers: Sequence[Worker],
        options: BatchOptions,
        outputs: naming.OutputPlan,
        recorder: Recorder,
        monitor: Optional[Monitor],
        more_workers: Optional[Callable[[], List[Worker]]],
    ) -> None:
        self.workers = list(workers)
        self.options = options
        self.outputs = outputs
        self.recorder = recorder
        self.result = recorder.result
        self.monitor = monitor
        self.more_workers = more_workers
        self.waiting: Deque[Job] = deque()
        self.tried: Counter[int] = Counter()
        self.left = 0
        self.messages: queue.Queue[Tuple[Worker, Message]] = queue.Queue()
        self.last: Exception = DeviceError("no device was available", code="device")

    def run(self) -> BatchResult:
        begun = time.perf_counter()
        for job in self.recorder.jobs:
            if job.action == SKIP:
                output = None if job.output is None else str(job.output)
                record = report.Record(str(job.source.path), report.SKIPPED, output, notes=(job.reason,))
                self.recorder.settle(job, record)
            else:
                self.waiting.append(job)
                self.left += 1
        try:
            for worker in self.workers:
                worker.begin(self.options, self.outputs, self._post)
            looked = time.monotonic()
            while self.left:
                if self.more_workers is not None and time.monotonic() - looked > 2:
                    looked = time.monotonic()
                    self._welcome(self.more_workers())
                self._hand_out()
                if not self.workers and self.more_workers is None:
                    self._give_up()
                    break
                self._hear(0.2)
        except KeyboardInterrupt:
            self.result.interrupted = True
            self._finish_writing()
        finally:
            for worker in self.workers:
                worker.close()
        self.recorder.end()
        self.result.seconds = time.perf_counter() - begun
        return self.result

    def _post(self, worker: Worker, message: Message) -> None:
        self.messages.put((worker, message))

    def _welcome(self, workers: List[Worker]) -> None:
        for worker in workers:
            worker.begin(self.options, self.outputs, self._post)
            self.workers.append(worker)

    def _hand_out(self) -> None:
        """The next pictures, one to each worker in turn, so that nobody waits while another has several."""
        free = [worker for worker in self.workers if len(worker.under_way) < worker.depth]
        while self.waiting and free:
            worker = min(free, key=lambda each: len(each.under_way))
            worker.hand(self.waiting.popleft())
            free = [each for each in free if len(each.under_way) < each.depth]

    def _hear(self, seconds: float) -> None:
        try:
            worker, (kind, *values) = self.messages.get(timeout=seconds)
        except queue.Empty:
            return
        if kind == "gone":
            if worker in self.workers:
                self._lost(worker, died(values[0]), "lost")
            return
        job = worker.under_way.get(values[0])
        if job is None:
            return  # of a worker that was begun anew
        if kind in ("start", "tiles"):
            self.recorder.tell(kind, job, **({"tiles": (values[1], values[2])} if kind == "tiles" else {}))
        elif kind == "dropped":
            del worker.under_way[job.index]
        elif kind == "end":
            self._ended(worker, job, *values[1:])

    def _ended(self, worker: Worker, job: Job, record: report.Record, kind: str, packed: Any) -> None:
        error = None if packed is None else rebuild_error(*packed)
        if kind in ("lost", "memory") or isinstance(error, (DeviceLostError, DeviceOutOfMemoryError)):
            # The process's use of the device is over: this picture and all that it had under way go elsewhere.
            self._lost(worker, error or self.last, kind, job)
            return
        del worker.under_way[job.index]
        self._settle(job, record, error)

    def _settle(self, job: Job, record: report.Record, error: Optional[Exception]) -> None:
        self.left -= 1
        times = record.read_seconds or 0.0, record.device_seconds or 0.0, record.write_seconds or 0.0
        self.result.read_seconds += times[0]
        self.result.device_seconds += times[1]
        self.result.write_seconds += times[2]
        if self.monitor is not None and record.status == report.DONE:
            self.monitor.add(str(job.source.relative), *times)
        self.recorder.settle(job, record, error)

    def _lost(self, worker: Worker, error: Exception, kind: str, guilty: Optional[Job] = None) -> None:
        self.last = error
        jobs = sorted(worker.under_way.values(), key=lambda job: job.index, reverse=True)
        worker.under_way.clear()
        for job in jobs:
            # Where it is known which picture it was, only that one has had a try.
            self.tried[job.index] += guilty is None or job is guilty
            if self.tried[job.index] >= ATTEMPTS:
                self._settle(job, failure(job, error, self.options, {"device": worker.name}), error)
            else:
                self.waiting.appendleft(job)
        if worker.again(kind):
            self._say("pool.again", "begins anew", worker, error)
            return
        self.workers.remove(worker)
        self._say("pool.lost", "is not used any more", worker, error)

    def _say(self, code: str, what: str, worker: Worker, error: Exception) -> None:
        notice(
            _log,
            code,
            f"{worker.name} {what}: {one_line(error)}. Its pictures are done all the same.",
            device=worker.name,
            reason=error,
        )

    def _give_up(self) -> None:
        """No device is left: the rest is not tried, and each one's record says why."""
        for job in self.waiting:
            record = report.Record(
                str(job.source.path),
                report.NOT_DONE,
                error_code=getattr(self.last, "code", None),
                error_text=f"not tried: {self.last}",
            )
            self.left -= 1
            self.recorder.settle(job, record, self.last)

    def _finish_writing(self) -> None:
        """After Ctrl-C: pictures that are computed are written; the others are dropped."""
        for worker in self.workers:
            worker.stop()
        end = time.monotonic() + _PATIENCE
        try:
            while any(worker.under_way for worker in self.workers) and time.monotonic() < end:
                self._hear(0.2)
        except KeyboardInterrupt:  # a second one: at once
            pass
