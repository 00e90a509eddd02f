"""Files in, files out: reading ahead and encoding behind in threads, the device in the calling thread.

A run is a plan (:func:`make_plan`), the pictures through an upscaler one by one (:func:`enlarge`), and records of them
in the order of the list (:class:`Recorder`).
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from ..errors import DeviceLostError, RealESRGANError, notice, one_line
from ..files import check_result, naming, threads
from . import report, steps
from .plan import CHECK, SKIP, BatchOptions, Job, check_output_folder, left_out, plan_jobs, share
from .steps import Upscaler

if TYPE_CHECKING:
    from .monitor import Monitor

__all__ = [
    "BatchOptions",
    "BatchResult",
    "Event",
    "Plan",
    "Recorder",
    "Upscaler",
    "enlarge",
    "failure",
    "make_plan",
    "run",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """Something that a user may want to see. ``kind``:

    ``start`` (a picture comes to the device), ``tiles`` (``tiles`` contains done and total), ``end`` (``record`` says
    what became of it; these come in the order of the list, see :class:`Recorder`).
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


KEPT = 1000
"""Records that wait for the one of a picture before them."""

Notify = Optional[Callable[[Event], None]]


def run(
    sources: Sequence[naming.Source],
    upscaler: Upscaler,
    options: BatchOptions,
    on_event: Notify = None,
    *,
    former: Optional[Mapping[str, report.Record]] = None,
    writer: Optional[report.ReportWriter] = None,
    monitor: Optional[Monitor] = None,
) -> BatchResult:
    """Enlarge pictures. A picture that fails never ends the batch; a lost device ends the use of the device.

    Ctrl-C lets the results that are computed be written, and sets ``interrupted``.

    Args:
        sources: From :func:`listing.list_pictures`; with a shard, the whole list.
        former: Records of a former run by :func:`report.key`; what they say is done is skipped.
        writer: Where a record of each picture goes.
        monitor: Is told when pictures come and go; the caller enters it.

    Raises:
        InputError: The output is a file.
        PictureError: Nothing can be written to the output folder.
    """
    plan = make_plan(sources, options, former or {})
    recorder = Recorder(plan.jobs, on_event, writer)
    return _Batch(plan, upscaler, options, recorder, monitor).run()


@dataclass(frozen=True)
class Plan:
    """What is to be done, in order, and who may write which name."""

    jobs: List[Job]
    outputs: naming.OutputPlan


def make_plan(sources: Sequence[naming.Source], options: BatchOptions, former: Mapping[str, report.Record]) -> Plan:
    """Make the output folder and decide what is to be done with each picture, without reading any.

    Args:
        sources: The whole list, also with a shard: all shares decide names alike.
        former: Records of a former run by :func:`report.key`.

    Raises:
        InputError: The output is a file.
        PictureError: Nothing can be written to the output folder.
    """
    check_output_folder(options.output, {source.relative.parent for source in sources})
    results, ours = left_out(sources, options, former)
    if results:
        notice(
            _log,
            "batch.results",
            f"{len(results)} files in {options.output} are results of other pictures there: not enlarged again.",
            count=len(results),
            path=str(options.output),
        )
    claiming = [source for source in sources if source not in ours]
    outputs = naming.OutputPlan(claiming, options.output, options.suffix, options.extension)
    left = [source for source in sources if source not in results]
    return Plan(plan_jobs(share(left, *options.shard), options, former), outputs)


def enlarge(
    job: Job,
    loaded: steps.Loaded,
    output: Path,
    upscaler: Upscaler,
    options: BatchOptions,
    progress: Optional[steps.Progress] = None,
) -> Tuple[steps.Enhanced, report.Record]:
    """One picture that was read, through one upscaler.

    Returns:
        What is to be written, and the record of the picture as far as it is known.

    Raises:
        DeviceLostError: The upscaler is of no use any more.
        Exception: This picture could not be done.
    """
    picture = loaded.picture
    width, height = steps.size(picture.pixels)
    factor = options.outscale or float(getattr(upscaler, "scale", 4))
    check_result(
        output, int(width * factor), int(height * factor), mode=picture.mode, depth=8 * picture.pixels.itemsize
    )
    start = time.perf_counter()
    pixels, mode = steps.enhance(upscaler, picture, options, progress)
    record = report.Record(
        input=str(job.source.path),
        status=report.DONE,
        output=str(output),
        device_seconds=round(time.perf_counter() - start, 4),
        output_size=steps.size(pixels),
        mode=mode,
        options=options.digest or None,
        notes=tuple(picture.notes),
        **loaded.known(),
        **steps.details(upscaler),
    )
    return steps.Enhanced(output, pixels, mode, None if options.strip_metadata else picture.metadata), record


def failure(job: Job, error: BaseException, options: BatchOptions, known: Mapping[str, Any]) -> report.Record:
    """The record of a picture that could not be done.

    Args:
        known: What else the record is to say.
    """
    if isinstance(error, RealESRGANError):
        code, text = error.code, str(error)
    elif isinstance(error, MemoryError):
        code, text = "host.memory", f"{job.source.path}: this machine has not enough main memory for it."
    else:
        code, text = "unexpected", f"{job.source.path}: {type(error).__name__}: {error}"
    return report.Record(
        input=str(job.source.path),
        status=report.FAILED,
        options=options.digest or None,
        error_code=code,
        error_text=text,
        **known,
    )


class Recorder:
    """Counts, reports and tells what became of each picture, in the order of the list whatever the order of the work.

    Only a picture that takes longer than the :data:`KEPT` after it is told later than those, so that a run's memory,
    and what a killed run has not reported, stay small. Used by one thread.
    """

    def __init__(self, jobs: Sequence[Job], on_event: Notify, writer: Optional[report.ReportWriter]) -> None:
        self.jobs = jobs
        self.on_event = on_event
        self.report = writer
        self.result = BatchResult(len(jobs))
        # Settled pictures wait here until all before them are settled.
        self._settled: Dict[int, Tuple[report.Record, Optional[BaseException]]] = {}
        self._next = 0

    def tell(self, kind: str, job: Job, **values: Any) -> None:
        """Pass an event on."""
        if self.on_event is not None:
            self.on_event(Event(kind, job.index, self.result.total, job.source, **values))

    def settle(self, job: Job, record: report.Record, error: Optional[BaseException] = None) -> None:
        """Note what became of a picture."""
        self._settled[job.index] = (replace(record, finished=report.now()), error)
        if job.index < self._next:
            self._report(job.index)
        elif len(self._settled) > KEPT:
            self._report(min(self._settled))
        while self._next in self._settled:
            self._report(self._next)

    def skip(self, job: Job, output: Optional[Path], reason: str) -> None:
        """Note that a picture was done before: its result, and how that is known."""
        self.settle(job, report.Record(str(job.source.path), report.SKIPPED, steps.text(output), notes=(reason,)))

    def leave(self, jobs: Iterable[Job], error: Exception) -> None:
        """Note that pictures are not tried, since no device is left; each one's record says why."""
        for job in jobs:
            code, text = getattr(error, "code", None), f"not tried: {error}"
            record = report.Record(str(job.source.path), report.NOT_DONE, error_code=code, error_text=text)
            self.settle(job, record, error)

    def end(self) -> None:
        """Report what is settled behind a gap, after Ctrl-C, and count what is not."""
        for index in sorted(self._settled):
            self._report(index)
        result = self.result
        if result.interrupted:
            result.not_done = result.total - (result.done + result.skipped + len(result.failed))

    def _report(self, index: int) -> None:
        record, error = self._settled.pop(index)
        self._next = max(self._next, index + 1)
        self._count(record)
        # What a former run did is in the report already.
        if record.notes != ("resume",):
            self._write(record)
        self.tell("end", self.jobs[index], record=record, error=error)

    def _count(self, record: report.Record) -> None:
        if record.status == report.DONE:
            self.result.done += 1
        elif record.status == report.SKIPPED:
            self.result.skipped += 1
        elif record.status == report.FAILED:
            self.result.failed.append(record)
        else:
            self.result.not_done += 1

    def _write(self, record: report.Record) -> None:
        if self.report is None:
            return
        try:
            self.report.write(record)
        except OSError as error:
            # A full disk ends the report, not the pictures that still go somewhere.
            path = self.report.path
            self.report = None
            notice(
                _log,
                "report.ends",
                f"The report {path} cannot be written: {one_line(error)}. It ends here.",
                path=path,
                reason=error,
            )


#: A picture and its record, while it waits to be written.
_Key = Tuple[Job, report.Record]
_Writing = threads.WriteBehind[_Key, steps.Enhanced, steps.Written]


class _Batch:
    """One run with one upscaler: its bookkeeping, all of it in the calling thread."""

    def __init__(
        self, plan: Plan, upscaler: Upscaler, options: BatchOptions, recorder: Recorder, monitor: Optional[Monitor]
    ) -> None:
        self.plan = plan
        self.upscaler = upscaler
        self.options = options
        self.recorder = recorder
        self.result = recorder.result
        self.monitor = monitor
        self.device = steps.text(upscaler.describe().get("device"))

    def run(self) -> BatchResult:
        start = time.perf_counter()
        self.result.writers = self.options.writers or threads.default_writers()
        stopped = threading.Event()
        reading: threads.ReadAhead[Job, steps.Loaded] = threads.ReadAhead(
            [job for job in self.plan.jobs if job.action != SKIP],
            lambda job: steps.read(job, self.options, stopped.is_set),
            size_of=lambda loaded: loaded.nbytes,
            workers=self.options.readers or threads.default_readers(),
        )
        writing: _Writing = threads.WriteBehind(
            lambda item: steps.write(item, self.options), workers=self.result.writers
        )
        pending = iter(self.plan.jobs)
        with writing, reading:
            try:
                outcomes = iter(reading)
                for job in pending:
                    if job.action == SKIP:
                        self.recorder.skip(job, job.output, job.reason)
                    else:
                        self._take(job, next(outcomes), writing)
                    self._collect(writing.finished())
            except KeyboardInterrupt:
                stopped.set()
                self.result.interrupted = True
            except DeviceLostError as error:
                self.recorder.leave(pending, error)
            self._collect(writing.drain())
        self.recorder.end()
        self.result.seconds = time.perf_counter() - start
        return self.result

    def _take(self, job: Job, outcome: threads.Outcome[Job, steps.Loaded], writing: _Writing) -> None:
        """A picture that was read: through the device, and on to the writer."""
        self.result.read_seconds += outcome.seconds
        known: Dict[str, Any] = {"read_seconds": round(outcome.seconds, 4)}
        try:
            loaded = outcome.result()
            known.update(loaded.known())
            output = self.plan.outputs.path(job.source, loaded.extension)
            if job.action == CHECK and output.exists():
                self.recorder.skip(job, output, "exists")
                return
            self.recorder.tell("start", job)
            item, record = self._enlarge(job, loaded, output)
        except Exception as error:
            self.recorder.settle(job, failure(job, error, self.options, {**known, "device": self.device}), error)
            if isinstance(error, DeviceLostError):
                raise
            return
        writing.submit((job, replace(record, **known)), item, int(item.pixels.nbytes))

    def _enlarge(self, job: Job, loaded: steps.Loaded, output: Path) -> Tuple[steps.Enhanced, report.Record]:
        name = str(job.source.relative)
        if self.monitor is not None:
            self.monitor.begin(name)
        start = time.perf_counter()
        try:
            return enlarge(
                job,
                loaded,
                output,
                self.upscaler,
                self.options,
                lambda done, total: self.recorder.tell("tiles", job, tiles=(done, total)),
            )
        finally:
            self.result.device_seconds += time.perf_counter() - start
            if self.monitor is not None:
                self.monitor.end(name)

    def _collect(self, outcomes: Iterable[threads.Outcome[_Key, steps.Written]]) -> None:
        """Pictures whose writing has ended, well or not."""
        for outcome in outcomes:
            self.result.write_seconds += outcome.seconds
            job, record = outcome.key
            record = replace(record, write_seconds=round(outcome.seconds, 4))
            if outcome.error is not None:
                known = {name: getattr(record, name) for name in ("read_seconds", "device_seconds", "device")}
                self.recorder.settle(job, failure(job, outcome.error, self.options, known), outcome.error)
                continue
            written = outcome.result()
            if self.monitor is not None:
                times = (record.read_seconds or 0.0, record.device_seconds or 0.0, outcome.seconds)
                self.monitor.add(str(job.source.relative), *times)
            self.recorder.settle(job, steps.finished(record, written))
