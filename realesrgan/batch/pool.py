"""A batch on several devices: whoever is free is handed the next picture; one of a lost device goes to another."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, List, Mapping, Optional, Sequence, Tuple

from ..files import naming
from . import report
from .dispatch import ATTEMPTS, Dispatcher, LocalWorker, Post, Worker, devices_for, start
from .plan import SKIP, BatchOptions, Job
from .run import BatchResult, Event, Recorder, failure, make_plan

if TYPE_CHECKING:
    from .monitor import Monitor

__all__ = ["ATTEMPTS", "LocalWorker", "Post", "Worker", "devices_for", "run", "start"]


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


class _Pool(Dispatcher):
    """One run. Its workers post ``("start", index)``, ``("tiles", index, done, total)`` and ``("end", index, record,
    kind of error, packed error)``.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        options: BatchOptions,
        outputs: naming.OutputPlan,
        recorder: Recorder,
        monitor: Optional[Monitor],
        more_workers: Optional[Callable[[], List[Worker]]],
    ) -> None:
        super().__init__(list(workers), (options,), more_workers)
        self.options = options
        self.outputs = outputs
        self.recorder = recorder
        self.result = recorder.result
        self.monitor = monitor
        self.left = 0

    def run(self) -> BatchResult:
        begun = time.perf_counter()
        for job in self.recorder.jobs:
            if job.action == SKIP:
                self.recorder.skip(job, job.output, job.reason)
            else:
                self.waiting.append(job)
                self.left += 1
        try:
            self.work()
        except KeyboardInterrupt:
            self.result.interrupted = True
            self.finish()
        finally:
            for worker in self.workers:
                worker.close()
        self.recorder.end()
        self.result.seconds = time.perf_counter() - begun
        return self.result

    def is_done(self) -> bool:
        return not self.left

    def ready(self, job: Job) -> Job:
        # The names of its own results alone: all of the list, for each worker, would be too much.
        return replace(job, names=self.outputs.names(job.source))

    def heard(self, worker: Worker, job: Job, kind: str, *values: Any) -> None:
        if kind in ("start", "tiles"):
            self.recorder.tell(kind, job, **({"tiles": values} if kind == "tiles" else {}))
        elif kind == "end":
            self._ended(worker, job, *values)

    def _ended(
        self, worker: Worker, job: Job, record: report.Record, kind: str, packed: Optional[Tuple[Any, ...]]
    ) -> None:
        over, error = self.concluded(worker, job, kind, packed)
        if over:
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

    def given_up(self, worker: Worker, job: Job, error: Exception) -> None:
        self._settle(job, failure(job, error, self.options, {"device": worker.name}), error)

    def without_workers(self) -> None:
        self.left -= len(self.waiting)
        self.recorder.leave(self.waiting, self.last)
