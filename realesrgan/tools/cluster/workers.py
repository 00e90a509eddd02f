"""Ray's actors as workers of a pool: one for each device that a node declares, also for nodes that come later."""

from __future__ import annotations

import logging
import re
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from realesrgan.batch import pool, report
from realesrgan.batch.plan import BatchOptions, Job
from realesrgan.batch.run import failure
from realesrgan.batch.worker import DEPTH
from realesrgan.errors import DeviceError, Phrase, RealESRGANError, notice, one_line
from realesrgan.files.atomic import write_atomically
from realesrgan.files.picture import os_failure
from realesrgan.inference.child import pack_error

from .actor import Actor

__all__ = ["ActorWorker", "Carrier", "RayWorker", "Team"]

logger = logging.getLogger(__name__)

_PATIENCE = 180.0
"""Seconds that the first worker may take: starting processes and loading the network."""
_TRIES = 3
_CARRYING = 16
"""Files that are read or written at the same time where they travel with the work."""
_SPEC = re.compile(r"^(directml|dml|cuda|vulkan|xpu|mps|cpu)(:\d+)?$")


class Carrier:
    """Reads inputs and writes results for machines that share no folder; replaced where files are in a store."""

    def read(self, job: Job) -> bytes:
        """The bytes of an input."""
        return job.source.path.read_bytes()

    def write(self, target: Path, data: bytes) -> None:
        """Put a result there, whole or not at all."""
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, lambda stream: stream.write(data))

    def finish(self, job: Job, target: Path, record: report.Record, data: bytes) -> report.Record:
        """Write a result that was carried back; its record says what this machine knows of both files."""
        self.write(target, data)
        size, changed = report.fingerprint(job.source.path)
        written, when = report.fingerprint(target)
        return replace(
            record,
            input=str(job.source.path),
            output=str(target),
            input_bytes=size,
            input_mtime_ns=changed,
            output_bytes=written,
            output_mtime_ns=when,
            output_hash=report.content_hash(target),
        )


class ActorWorker(pool.Worker):
    """What does its work is an actor that is ready.

    Args:
        actor: Its handle.
        described: What its upsampler describes.
    """

    def __init__(self, ray: Any, actor: Any, name: str, described: Mapping[str, Any]) -> None:
        super().__init__()
        self.name = name
        self.described = dict(described)
        self._ray = ray
        self._actor = actor
        self._planned: Any = None

    def stop(self) -> None:
        if self._actor is not None:
            self._actor.stop.remote()

    def again(self, kind: str) -> bool:
        self.close()
        return False  # the team starts another where there is room

    def _kill(self) -> None:
        try:
            if self._actor is not None:
                self._ray.kill(self._actor)
        except Exception as error:  # noqa: BLE001 - it is gone already
            logger.debug("%s was gone: %s", self.name, one_line(error))
        # Ray ends a process that touches one of these after Ray was shut down.
        self._actor = self._planned = None


class RayWorker(ActorWorker):
    """Does pictures. It has no thread of its own: Ray calls back, so that thousands of them cost nothing.

    Args:
        carrier: Brings files there and back; None where all machines share the folders.
        threads: Where files are read and written, with a carrier.
    """

    def __init__(
        self,
        ray: Any,
        actor: Any,
        name: str,
        described: Mapping[str, Any],
        carrier: Optional[Carrier],
        threads: Optional[Executor] = None,
    ) -> None:
        super().__init__(ray, actor, name, described)
        self._carrier = carrier
        self._threads = threads
        self._asked: Dict[int, Future[Any]] = {}
        self._closed = False
        self._post: Any = None

    def begin(self, plan: Tuple[Any, ...], post: pool.Post) -> None:
        self._post = post
        self._planned = self._actor.plan.remote(*plan)

    def hand(self, job: Job) -> None:
        self.under_way[job.index] = job
        if self._carrier is None:
            self._ask(job, self._actor.do.remote(self._planned, job))
        else:
            assert self._threads is not None
            self._threads.submit(self._send, job)

    def _send(self, job: Job) -> None:
        """Hand a picture over with its bytes; in a thread, because a store may take its time."""
        assert self._carrier is not None
        try:
            data = self._carrier.read(job)
        except Exception as error:  # noqa: BLE001 - every package for a store has errors of its own
            told = os_failure(job.source.path, error, "read") if isinstance(error, OSError) else error
            self._tell("end", job.index, failure(job, told, BatchOptions(Path()), {}), "other", pack_error(told))
            return
        actor = self._actor
        if actor is not None:  # not closed meanwhile
            self._ask(job, actor.do_carried.remote(self._planned, job, data))

    def _ask(self, job: Job, asked: Any) -> None:
        answer: Future[Any] = asked.future()
        self._asked[job.index] = answer
        answer.add_done_callback(lambda answer: self._answered(job, answer))

    def _answered(self, job: Job, answer: Future[Any]) -> None:
        """Called in a thread of Ray's, which must not wait."""
        self._asked.pop(job.index, None)
        error = answer.exception()
        if isinstance(error, self._ray.exceptions.RayTaskError):
            self._tell(*self._failed(job, error))
        elif error is not None:  # the actor or its node is gone, however Ray says so
            self._tell("gone", Phrase("quote", one_line(error)[:200]))
        elif answer.result()[1] == "dropped":
            self._tell("dropped", job.index)
        elif self._carrier is None or answer.result()[0].status != report.DONE:
            record, kind, packed, _ = answer.result()
            self._tell("end", job.index, replace(record, input=str(job.source.path)), kind, packed)
        elif not self._closed:
            assert self._threads is not None
            self._threads.submit(self._bring, job, *answer.result())

    def _bring(self, job: Job, record: report.Record, kind: str, packed: Any, data: bytes) -> None:
        """Write a result that was carried back; in a thread."""
        assert job.names is not None and self._carrier is not None
        try:
            target = job.names.path(Path(str(record.output)).suffix)
            record = self._carrier.finish(job, target, record, data)
        except Exception as error:  # noqa: BLE001 - every package for a store has errors of its own
            record = replace(
                record, status=report.FAILED, input=str(job.source.path), output=None, error_text=str(error)
            )
            kind, packed = "other", pack_error(error)
        self._tell("end", job.index, record, kind, packed)

    def _tell(self, *message: Any) -> None:
        if not self._closed:
            self._post(self, message)

    def _failed(self, job: Job, error: BaseException) -> Tuple[Any, ...]:
        told = RealESRGANError(
            f"The worker process failed: {one_line(error)}",
            code="worker.failed",
            reason=Phrase("quote", one_line(error)),
        )
        record = report.Record(str(job.source.path), report.FAILED, error_code=told.code, error_text=str(told))
        return ("end", job.index, record, "other", pack_error(told))

    def close(self) -> None:
        self._closed = True
        self._kill()
        wait(list(self._asked.values()), 10)
        self._asked.clear()


class Team:
    """Starts an actor for each free device of the cluster, again and again.

    Args:
        ray: The module, initialised.
        arguments: Of the actors' upsampler, without the device.
        carrier: See :class:`RayWorker`.
    """

    actor: Any = Actor
    """The class of the actors."""
    concurrency = DEPTH + 2
    """Calls that an actor answers at the same time: its pictures, and those that stop or describe it."""

    def __init__(self, ray: Any, arguments: Mapping[str, Any], carrier: Optional[Carrier]) -> None:
        self._ray = ray
        self._arguments = dict(arguments)
        self._carrier = carrier
        self._class = ray.remote(self.actor)
        self._threads = None if carrier is None else ThreadPoolExecutor(_CARRYING, thread_name_prefix="carry")
        self._starting: List[Tuple[Any, Any, str]] = []
        self._failed: Dict[str, int] = {}
        self._number = 0
        self.last: Optional[Exception] = None

    def first(self) -> List[pool.Worker]:
        """Wait for the first worker.

        Raises:
            DeviceError: No node declares a device, others use all of them, or no actor could be built in time.
        """
        offered = False
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            ready = self.more()
            if ready:
                return ready
            # Those of a run that has just ended are free a moment later.
            offered = any(map(_is_device, self._ray.cluster_resources()))
            if not self._starting and not self._free() and (self.last is not None or not offered):
                break
            time.sleep(0.2)
        if self.last is not None:
            raise self.last
        if offered:
            raise DeviceError(
                f"In {_PATIENCE:.0f} s no device of the cluster became free: another run uses them. Start this one "
                "when it has ended, or give it machines of its own.",
                code="cluster.busy",
                seconds=f"{_PATIENCE:.0f}",
            )
        raise DeviceError(
            "No machine of the cluster offers a device. Start each one with 'realesrgan cluster-node' (or Ray's own "
            "start with --num-gpus), and give --address.",
            code="cluster.none",
        )

    def more(self) -> List[pool.Worker]:
        """Start actors where devices are free; those that have become ready since."""
        for resource, device in self._free():
            self._number += 1
            name = f"{device} #{self._number}"
            needs: Dict[str, Any] = (
                {"num_gpus": 1} if resource == "GPU" else {"num_gpus": 0, "resources": {resource: 1}}
            )
            # Without a note of each call: Ray's head would keep 100,000 of them, with some kilobytes each.
            made = self._class.options(
                num_cpus=0, max_concurrency=self.concurrency, enable_task_events=False, **needs
            ).remote({**self._arguments, "device": device, "gpu_id": None})
            self._starting.append((made, made.describe.remote(), name))
        ready: List[pool.Worker] = []
        asked = [described for _, described, _ in self._starting]
        answered = set(self._ray.wait(asked, num_returns=len(asked), timeout=0)[0]) if asked else set()
        begun = [entry for entry in self._starting if entry[1] in answered]
        self._starting = [entry for entry in self._starting if entry[1] not in answered]
        for made, described, name in begun:
            try:
                ready.append(self.worker(made, name, self._ray.get(described)))
            except Exception as error:  # noqa: BLE001 - whatever building it raised there
                self.refused(name)
                cause = getattr(error, "cause", None)
                reason = Phrase("quote", one_line(error)[:300])
                told = DeviceError(f"The worker process failed: {reason}", code="worker.failed", reason=reason)
                self.last = cause if isinstance(cause, RealESRGANError) else told
                notice(
                    logger,
                    "pool.left_out",
                    f"{name} is left out: {one_line(self.last)}. The other devices do its work.",
                    device=name,
                    reason=self.last,
                )
        return ready

    def worker(self, made: Any, name: str, described: Mapping[str, Any]) -> pool.Worker:
        """The worker for an actor that is ready."""
        return RayWorker(self._ray, made, name, described, self._carrier, self._threads)

    def refused(self, name: str) -> None:
        """Note that an actor was of no use; after some of them no more are started on such devices."""
        device = name.split(" #")[0]
        self._failed[device] = self._failed.get(device, 0) + 1

    def count(self) -> int:
        """Devices that the cluster has now."""
        return sum(int(amount) for resource, amount in self._ray.cluster_resources().items() if _is_device(resource))

    def close(self) -> None:
        """Let go of what was being started."""
        for made, _, _ in self._starting:
            self._ray.kill(made)
        self._starting.clear()
        if self._threads is not None:
            self._threads.shutdown()

    def _free(self) -> List[Tuple[str, str]]:
        """(resource, device) for each unit that is free and not being started on."""
        available = self._ray.available_resources()
        starting: Dict[str, int] = {}
        for _, _, name in self._starting:
            device = name.split(" #")[0]
            starting[device] = starting.get(device, 0) + 1
        found = []
        for resource, amount in sorted(available.items()):
            device = "cuda:0" if resource == "GPU" else resource
            if _is_device(resource) and self._failed.get(device, 0) < _TRIES:
                found += [(resource, device)] * max(0, int(amount) - starting.get(device, 0))
        return found


def _is_device(resource: str) -> bool:
    return resource == "GPU" or _SPEC.match(resource) is not None
