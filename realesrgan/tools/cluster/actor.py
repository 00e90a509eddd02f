"""What runs on the machines of a cluster: one actor holds one network on one device and does whole pictures."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from realesrgan.batch.plan import DO, BatchOptions, Job
from realesrgan.batch.worker import Stopped, Work, packed
from realesrgan.files.naming import Names, Source
from realesrgan.inference.isolated import build

__all__ = ["Actor"]

Answer = Tuple[Any, str, Optional[Tuple[Any, ...]], bytes]
"""A record, the kind of its error, the packed error, and with carried files the result's bytes.

The kind is ``"dropped"``, and the record None, after :meth:`Actor.stop`.
"""


_DROPPED: Answer = (None, "dropped", None, b"")


class _Beside(Names):
    """Results that lie beside their inputs until they are carried back."""

    def __init__(self, folder: Path) -> None:
        super().__init__({})
        self._folder = folder

    def path(self, extension: str) -> Path:
        return self._folder / f"result{extension}"


class Actor:
    """Built by Ray on the machine that has the device; several pictures are under way at once.

    Args:
        arguments: Of :func:`realesrgan.inference.isolated.build`.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._upscaler = build(**arguments)
        self._options: Optional[BatchOptions] = None
        self._work: Optional[Work] = None
        self._carried: Optional[Work] = None

    def describe(self) -> Dict[str, Any]:
        """See :meth:`realesrgan.inference.upsampler.RealESRGANer.describe`."""
        return dict(self._upscaler.describe())

    def plan(self, options: BatchOptions) -> None:
        """Learn how pictures are to be done."""
        self._work = Work(self._upscaler, options)
        self._carried = Work(self._upscaler, replace(options, skip_existing=False))

    def do(self, planned: None, job: Job) -> Answer:
        """A picture in a folder that all machines share; ``planned`` is what :meth:`plan` gave, so that it is done."""
        assert self._work is not None
        try:
            record, error = self._work.do(job, _nothing)
        except Stopped:
            return _DROPPED
        return (record, *packed(error), b"")

    def do_carried(self, planned: None, job: Job, data: bytes) -> Answer:
        """A picture whose bytes came with the call; its result goes back the same way."""
        assert self._carried is not None
        with tempfile.TemporaryDirectory(prefix="realesrgan-") as folder:
            path = Path(folder) / job.source.path.name
            path.write_bytes(data)
            beside = _Beside(path.parent)
            here = replace(job, source=Source(path, job.source.relative), action=DO, names=beside)
            try:
                record, error = self._carried.do(here, _nothing)
            except Stopped:
                return _DROPPED
            result = Path(record.output).read_bytes() if error is None and record.output else b""
        return (record, *packed(error), result)

    def stop(self) -> None:
        """Drop every picture that is not being written."""
        for work in (self._work, self._carried):
            if work is not None:
                work.stop()


def _nothing(*_: Any) -> None:
    """Tiles are not told across machines."""
