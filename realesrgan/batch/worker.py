"""One device's part of a run that several devices share: whole pictures, read, enlarged and written.

Several pictures are under way at once, so that reading and writing go on while the device works; the device itself has
one at a time.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from .. import devices
from ..inference.child import Line, pack_error, share_processor
from ..inference.isolated import try_build
from . import report, steps
from .plan import CHECK, BatchOptions, Job
from .run import Upscaler, enlarge, failure

__all__ = ["DEPTH", "Stopped", "Work", "built_for", "find_devices", "packed", "serve"]

DEPTH = 4
"""Pictures that one worker may have under way: one on the device, the others being read or written."""

#: Called with a kind, the picture's number, and for ``"tiles"`` the tiles done and in all.
Tell = Callable[..., None]


class Stopped(BaseException):
    """The run is to end; no picture's own error."""


class Work:
    """Does single pictures; any number of threads may call it."""

    def __init__(self, upscaler: Upscaler, options: BatchOptions) -> None:
        self.upscaler = upscaler
        self.options = options
        self._device = threading.Lock()
        self._stopped = threading.Event()
        self._name = steps.text(upscaler.describe().get("device"))

    def stop(self) -> None:
        """Let every picture that is not being written end with :class:`Stopped`."""
        self._stopped.set()

    def do(self, job: Job, tell: Tell) -> Tuple[report.Record, Optional[Exception]]:
        """One picture with its names, from its file to the file of its result.

        Returns:
            The record, and the error if it failed.

        Raises:
            Stopped: After :meth:`stop`; nothing was written.
        """
        known: Dict[str, Any] = {"device": self._name}
        try:
            begun = time.perf_counter()
            loaded = steps.read(job, self.options)
            known.update(loaded.known(), read_seconds=round(time.perf_counter() - begun, 4))
            assert job.names is not None
            output = job.names.path(loaded.extension)
            if job.action == CHECK and output.exists():
                notes = ("exists",)
                return report.Record(str(job.source.path), report.SKIPPED, steps.text(output), notes=notes), None
            with self._device:
                self._check()
                tell("start", job.index)
                item, record = enlarge(
                    job, loaded, output, self.upscaler, self.options, lambda *tiles: self._tiles(tell, job, tiles)
                )
            del loaded
            begun = time.perf_counter()
            written = steps.write(item, self.options)
            record = replace(record, **known, write_seconds=round(time.perf_counter() - begun, 4))
            return steps.finished(record, written), None
        except Exception as error:  # noqa: BLE001 - whatever one picture does, the others go on
            return failure(job, error, self.options, known), error

    def _tiles(self, tell: Tell, job: Job, tiles: Tuple[int, int]) -> None:
        self._check()
        tell("tiles", job.index, *tiles)

    def _check(self) -> None:
        if self._stopped.is_set():
            raise Stopped


def built_for(line: Line, arguments: Mapping[str, Any], count: int) -> Any:
    """Build the upsampler and tell the parent what it is; None if that failed, which is told, too.

    Args:
        count: Such children on this machine.
    """
    share_processor(count)
    built = try_build(line, arguments)
    if built is not None:
        line.send("ready", dict(built.describe()))
    return built


def serve(line: Line, arguments: Mapping[str, Any], count: int = 1) -> None:
    """The child's side: build the upsampler, learn the plan, then answer until the parent closes the pipe.

    Messages from the parent: ``plan`` (options), ``job`` (a job), ``stop``. To the parent: ``ready`` (what
    the upsampler describes), ``start``, ``tiles``, ``end`` (number, record, kind of error, packed error), ``dropped``.

    Args:
        count: Such children on this machine.
    """
    built = built_for(line, arguments, count)
    if built is None:
        return
    kind, options = line.receive()
    work = Work(built, options)
    with ThreadPoolExecutor(DEPTH, thread_name_prefix="picture") as pool:
        try:
            while True:
                kind, *values = line.receive()
                if kind == "stop":
                    work.stop()
                else:
                    pool.submit(_answer, line, work, values[0])
        finally:
            work.stop()


def _answer(line: Line, work: Work, job: Job) -> None:
    try:
        try:
            record, error = work.do(job, line.send)
        except Stopped:
            line.send("dropped", job.index)
            return
        line.send("end", job.index, record, *packed(error))
    except (OSError, ValueError):
        pass  # the parent is gone


def packed(error: Optional[Exception]) -> Tuple[str, Optional[Tuple[Any, ...]]]:
    """The kind of a picture's error and the error, as they are sent; empty where there is none."""
    return ("", None) if error is None else (devices.classify(error), pack_error(error))


def find_devices(line: Line, request: Optional[str]) -> None:
    """The child's side of asking for this machine's devices, so that the parent opens none: sends their names."""
    try:
        line.send("devices", devices.all_of(request))
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        line.send_error(error)
