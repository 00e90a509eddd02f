"""Files in, files out: reading ahead and encoding behind in threads, the device in the calling thread.

The device sees one picture after the other, in the order of the list; :func:`run` reports in that order too.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Mapping, Optional, Sequence, Tuple

import numpy as np

from .. import files
from ..errors import DeviceLostError, RealESRGANError, notice
from ..files import naming, threads
from . import report
from . import steps as batch_steps
from .options import BatchOptions, BatchResult, Event, Upscaler
from .plan import CHECK, SKIP, Job, check_output_folder, left_out, plan, share

if TYPE_CHECKING:
    from .monitor import Monitor

__all__ = ["BatchOptions", "BatchResult", "Event", "Upscaler", "run"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Submitted:
    """What stands of a picture while it waits to be written."""

    job: Job
    record: report.Record


def run(
    sources: Sequence[naming.Source],
    upscaler: Upscaler,
    options: BatchOptions,
    on_event: Optional[Callable[[Event], None]] = None,
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
    return _Batch(sources, upscaler, options, on_event, former or {}, writer, monitor).run()


_Writing = threads.WriteBehind[_Submitted, batch_steps.Enhanced, batch_steps.Written]


class _Batch:
    """One run: its bookkeeping, all of it in the calling thread."""

    def __init__(
        self,
        sources: Sequence[naming.Source],
        upscaler: Upscaler,
        options: BatchOptions,
        on_event: Optional[Callable[[Event], None]],
        former: Mapping[str, report.Record],
        writer: Optional[report.ReportWriter],
        monitor: Optional[Monitor],
    ) -> None:
        self.upscaler = upscaler
        self.options = options
        self.on_event = on_event
        self.report = writer
        self.monitor = monitor
        check_output_folder(options.output, {source.relative.parent for source in sources})
        # Names are decided from the whole list, so that all shares decide the same.
        results, ours = left_out(sources, options, former)
        if results:
            notice(
                _log, "batch.results",
                f"{len(results)} files in {options.output} are results of other pictures there: not enlarged again.",
                count=len(results), path=str(options.output),
            )  # fmt: skip
        claiming = [source for source in sources if source not in ours]
        self.outputs = naming.plan_outputs(claiming, options.output, options.suffix, options.extension)
        sources = [source for source in sources if source not in results]
        self.jobs = plan(share(sources, *options.shard), options, former)
        self.described = upscaler.describe()
        self.readers = options.readers or threads.default_readers()
        self.writers = options.writers or threads.default_writers()
        self.result = BatchResult(len(self.jobs), writers=self.writers)
        # Settled pictures wait here until all before them are settled, so that reports come in order.
        self.settled: Dict[int, Tuple[report.Record, Optional[BaseException]]] = {}
        self.next_report = 0

    def run(self) -> BatchResult:
        start = time.perf_counter()
        to_read = [job for job in self.jobs if job.action != SKIP]
        pending = iter(self.jobs)
        reading: threads.ReadAhead[Job, batch_steps.Loaded] = threads.ReadAhead(
            to_read,
            lambda job: batch_steps.read(job, self.options),
            size_of=lambda loaded: loaded.nbytes,
            workers=self.readers,
        )
        writing: _Writing = threads.WriteBehind(
            lambda item: batch_steps.write(item, self.options), workers=self.writers
        )
        with writing, reading:
            try:
                outcomes = iter(reading)
                for job in pending:
                    if job.action == SKIP:
                        self._skip(job, job.output, job.reason)
                    else:
                        self._take(job, next(outcomes), writing)
                    self._collect(writing.finished())
            except KeyboardInterrupt:
                self.result.interrupted = True
            except DeviceLostError as error:
                self._give_up(pending, error)
            self._collect(writing.drain())
        self._report_settled(all_of_them=True)
        self.result.seconds = time.perf_counter() - start
        if self.result.interrupted:
            counted = self.result.done + self.result.skipped + len(self.result.failed)
            self.result.not_done = self.result.total - counted
        return self.result

    def _take(
        self,
        job: Job,
        outcome: threads.Outcome[Job, batch_steps.Loaded],
        writing: _Writing,
    ) -> None:
        """A picture that was read: through the device, and on to the writer."""
        self.result.read_seconds += outcome.seconds
        known: Dict[str, Any] = {"read_seconds": round(outcome.seconds, 4)}
        try:
            loaded = outcome.result()
            known.update(input_bytes=loaded.input_bytes, input_mtime_ns=loaded.input_mtime_ns)
            known["input_size"] = batch_steps.size(loaded.picture.pixels)
            output = self.outputs.path(job.source, loaded.extension)
            if job.action == CHECK and output.exists():
                self._skip(job, output, "exists")
                return
            self._emit("start", job)
            pixels, mode, seconds = self._enhance(job, loaded.picture)
        except DeviceLostError as error:
            self._settle(job.index, self._failure(job, error, known), error)
            raise
        except Exception as error:  # noqa: BLE001 - whatever one picture does, the others go on
            self._settle(job.index, self._failure(job, error, known), error)
            return
        keep = not self.options.strip_metadata
        record = report.Record(
            input=str(job.source.path),
            status=report.DONE,
            output=str(output),
            device_seconds=round(seconds, 4),
            output_size=batch_steps.size(pixels),
            mode=mode,
            options=self.options.digest or None,
            notes=tuple(loaded.picture.notes),
            **known,
            **batch_steps.details(self.upscaler, self.described),
        )
        icc, exif = (loaded.picture.icc, loaded.picture.exif) if keep else (None, None)
        item = batch_steps.Enhanced(output, pixels, mode, icc, exif)
        writing.submit(_Submitted(job, record), item, int(pixels.nbytes))

    def _enhance(self, job: Job, picture: files.PictureFile) -> Tuple[np.ndarray, str, float]:
        name = str(job.source.relative)
        if self.monitor is not None:
            self.monitor.begin(name)
        start = time.perf_counter()
        try:
            pixels, mode = batch_steps.enhance(
                self.upscaler,
                picture,
                self.options,
                lambda done, total: self._emit("tiles", job, tiles=(done, total)),
            )
        finally:
            seconds = time.perf_counter() - start
            self.result.device_seconds += seconds
            if self.monitor is not None:
                self.monitor.end(name)
        return pixels, mode, seconds

    def _collect(self, outcomes: Iterable[threads.Outcome[_Submitted, batch_steps.Written]]) -> None:
        """Pictures whose writing has ended, well or not."""
        for outcome in outcomes:
            self.result.write_seconds += outcome.seconds
            job, record = outcome.key.job, outcome.key.record
            record = replace(record, write_seconds=round(outcome.seconds, 4))
            if outcome.error is not None:
                known = {"read_seconds": record.read_seconds, "device_seconds": record.device_seconds}
                self._settle(job.index, self._failure(job, outcome.error, known), outcome.error)
                continue
            written = outcome.result()
            if self.monitor is not None:
                times = (record.read_seconds or 0.0, record.device_seconds or 0.0, outcome.seconds)
                self.monitor.add(str(job.source.relative), *times)
            record = replace(record, output_bytes=written.output_bytes, notes=record.notes + written.notes)
            self._settle(job.index, record, None)

    def _skip(self, job: Job, output: Optional[Path], reason: str) -> None:
        record = report.Record(str(job.source.path), report.SKIPPED, batch_steps.text(output), notes=(reason,))
        self._settle(job.index, record, None)

    def _failure(self, job: Job, error: BaseException, known: Mapping[str, Any]) -> report.Record:
        if isinstance(error, RealESRGANError):
            code, text = error.code, str(error)
        elif isinstance(error, MemoryError):
            code, text = "host.memory", f"{job.source.path}: this machine has not enough main memory for it."
        else:
            code, text = "unexpected", f"{job.source.path}: {type(error).__name__}: {error}"
        return report.Record(
            input=str(job.source.path),
            status=report.FAILED,
            options=self.options.digest or None,
            error_code=code,
            error_text=text,
            device=batch_steps.text(self.described.get("device")),
            **known,
        )

    def _give_up(self, pending: Iterable[Job], error: DeviceLostError) -> None:
        """The device is of no use any more: the rest is left, and each one's record says why."""
        for job in pending:
            record = report.Record(
                str(job.source.path), report.NOT_DONE, error_code=error.code, error_text=f"not tried: {error}"
            )
            self._settle(job.index, record, error)

    def _settle(self, index: int, record: report.Record, error: Optional[BaseException]) -> None:
        self.settled[index] = (replace(record, finished=report.now()), error)
        self._report_settled()

    def _report_settled(self, all_of_them: bool = False) -> None:
        """Report what is settled, up to the first picture that is not; after Ctrl-C, past the gaps too."""
        while self.settled and (all_of_them or self.next_report in self.settled):
            index = min(self.settled) if all_of_them else self.next_report
            record, error = self.settled.pop(index)
            self.next_report = index + 1
            self._count(record)
            # What a former run did stands in the report already.
            if record.notes != ("resume",):
                self._write_report(record)
            self._emit("end", self.jobs[index], record=record, error=error)

    def _write_report(self, record: report.Record) -> None:
        if self.report is None:
            return
        try:
            self.report.write(record)
        except OSError as error:
            # A full disk takes the report, not the pictures that still go somewhere.
            path, reason = str(self.report.path), error.strerror or str(error)
            self.report = None
            notice(
                _log, "report.write", f"The report {path} cannot be written: {reason}. It ends here.",
                path=path, reason=reason,
            )  # fmt: skip

    def _count(self, record: report.Record) -> None:
        if record.status == report.DONE:
            self.result.done += 1
        elif record.status == report.SKIPPED:
            self.result.skipped += 1
        elif record.status == report.FAILED:
            self.result.failed.append(record)
        else:
            self.result.not_done += 1

    def _emit(self, kind: str, job: Job, **values: Any) -> None:
        if self.on_event is not None:
            self.on_event(Event(kind, job.index, self.result.total, job.source, **values))
