"""Ray's actors as workers of a pool: one for each device that a node declares, also for nodes that come later."""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from realesrgan.batch import pool, report
from realesrgan.batch.plan import Job
from realesrgan.batch.worker import DEPTH
from realesrgan.errors import DeviceError, Phrase, RealESRGANError, notice, one_line
from realesrgan.files import naming
from realesrgan.files.atomic import write_atomically
from realesrgan.inference.child import pack_error

from .actor import Actor

__all__ = ["Carrier", "RayWorker", "Team"]

logger = logging.getLogger(__name__)

_PATIENCE = 180.0
"""Seconds that the first worker may take: starting processes and loading the network."""
_TRIES = 3
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


class RayWorker(pool.Worker):
    """An actor that is ready.

    Args:
        actor: Its handle.
        described: What its upsampler describes.
        carrier: Brings files there and back; None where all machines share the folders.
    """

    def __init__(
        self, ray: Any, actor: Any, name: str, described: Mapping[str, Any], carrier: Optional[Carrier]
    ) -> None:
        super().__init__()
        self.name = name
        self.described = dict(described)
        self._ray = ray
        self._actor = actor
        self._carrier = carrier
        self._asked: Dict[Any, Job] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._outputs: Optional[naming.OutputPlan] = None
        self._post: Any = None
        self._planned: Any = None
        self._thread: Optional[threading.Thread] = None

    def begin(self, plan: Tuple[Any, ...], post: pool.Post) -> None:
        _, self._outputs = plan
        self._post = post
        self._planned = self._actor.plan.remote(*plan)
        self._thread = threading.Thread(target=self._listen, name=f"listen-{self.name}", daemon=True)
        self._thread.start()

    def hand(self, job: Job) -> None:
        self.under_way[job.index] = job
        if self._carrier is None:
            asked = self._actor.do.remote(self._planned, job)
        else:
            try:
                data = self._carrier.read(job)
            except OSError:
                data = b""  # what is wrong with it, reading says there as it would here
            asked = self._actor.do_carried.remote(self._planned, job, data)
        with self._lock:
            self._asked[asked] = job

    def _listen(self) -> None:
        while not self._closed:
            with self._lock:
                asked = list(self._asked)
            if not asked:
                time.sleep(0.02)
                continue
            done, _ = self._ray.wait(asked, num_returns=1, timeout=0.5)
            for each in done:
                with self._lock:
                    job = self._asked.pop(each)
                try:
                    self._post(self, ("end", job.index, *self._finished(job, self._ray.get(each))))
                except self._ray.exceptions.RayTaskError as error:
                    self._post(self, self._failed(job, error))
                except Exception as error:  # noqa: BLE001 - the actor or its node is gone, however Ray says so
                    if not self._closed:
                        self._post(self, ("gone", Phrase("quote", one_line(error)[:200])))
                    return

    def _finished(self, job: Job, answer: Tuple[Any, ...]) -> Tuple[Any, ...]:
        record, kind, packed, data = answer
        if self._carrier is None or record.status != report.DONE:
            return replace(record, input=str(job.source.path)), kind, packed
        assert self._outputs is not None
        try:
            target = self._outputs.path(job.source, Path(record.output).suffix)
            return self._carrier.finish(job, target, record, data), kind, packed
        except (OSError, RealESRGANError) as error:
            failed = replace(
                record, status=report.FAILED, input=str(job.source.path), output=None, error_text=str(error)
            )
            return failed, "other", pack_error(error)

    def _failed(self, job: Job, error: Exception) -> Tuple[Any, ...]:
        told = RealESRGANError(
            f"The worker process failed: {one_line(error)}",
            code="worker.failed",
            reason=Phrase("quote", one_line(error)),
        )
        record = report.Record(str(job.source.path), report.FAILED, error_code=told.code, error_text=str(told))
        return ("end", job.index, record, "other", pack_error(told))

    def stop(self) -> None:
        if self._actor is not None:
            self._actor.stop.remote()

    def again(self, kind: str) -> bool:
        self.close()
        return False  # the team starts another where there is room

    def close(self) -> None:
        self._closed = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(10)
        try:
            if self._actor is not None:
                self._ray.kill(self._actor)
        except Exception as error:  # noqa: BLE001 - it is gone already
            logger.debug("%s was gone: %s", self.name, one_line(error))
        # Ray ends a process that touches one of these after Ray was shut down.
        self._asked.clear()
        self._actor = self._planned = None


class Team:
    """Starts an actor for each free device of the cluster, again and again.

    Args:
        ray: The module, initialised.
        arguments: Of the actors' upsampler, without the device.
        carrier: See :class:`RayWorker`.
    """

    def __init__(self, ray: Any, arguments: Mapping[str, Any], carrier: Optional[Carrier]) -> None:
        self._ray = ray
        self._arguments = dict(arguments)
        self._carrier = carrier
        self._class = ray.remote(Actor)
        self._starting: List[Tuple[Any, Any, str]] = []
        self._failed: Dict[str, int] = {}
        self._number = 0
        self.last: Optional[Exception] = None

    def first(self) -> List[pool.Worker]:
        """Wait for the first worker.

        Raises:
            DeviceError: No node declares a device, or no actor could be built in time.
        """
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            ready = self.more()
            if ready:
                return ready
            if not self._starting and not self._free():
                break
            time.sleep(0.2)
        if self.last is not None:
            raise self.last
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
            made = self._class.options(num_cpus=0, max_concurrency=DEPTH + 2, **needs).remote(
                {**self._arguments, "device": device, "gpu_id": None}
            )
            self._starting.append((made, made.describe.remote(), name))
        ready: List[pool.Worker] = []
        for entry in list(self._starting):
            made, described, name = entry
            if not self._ray.wait([described], timeout=0)[0]:
                continue
            self._starting.remove(entry)
            try:
                ready.append(RayWorker(self._ray, made, name, self._ray.get(described), self._carrier))
            except Exception as error:  # noqa: BLE001 - whatever building it raised there
                device = name.split(" #")[0]
                self._failed[device] = self._failed.get(device, 0) + 1
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

    def close(self) -> None:
        """Let go of what was being started."""
        for made, _, _ in self._starting:
            self._ray.kill(made)
        self._starting.clear()

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
            if (resource == "GPU" or _SPEC.match(resource)) and self._failed.get(device, 0) < _TRIES:
                found += [(resource, device)] * max(0, int(amount) - starting.get(device, 0))
        return found
