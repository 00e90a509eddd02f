"""What runs on the machines of a cluster for videos: one actor holds one network on one device and does pieces."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import psutil

from realesrgan.inference.isolated import build
from realesrgan.video.journal import ELSEWHERE
from realesrgan.video.pieces import Piece, VideoPlan
from realesrgan.video.worker import Desk

__all__ = ["Carried", "VideoActor"]

Message = Tuple[Any, ...]
Carried = Sequence[Tuple[str, Sequence[Any]]]
"""The suffix of each file of a video, and the objects of Ray's store that contain its bytes, in order."""

_PREFIX = "realesrgan-video-"


class VideoActor:
    """Built by Ray on the machine that has the device.

    Args:
        arguments: Of :func:`realesrgan.inference.isolated.build`.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._upscaler = build(**arguments)
        # What is to be said of a video, the driver says, which reads all of it.
        logging.getLogger("realesrgan.video").setLevel(logging.CRITICAL)
        self._desk = Desk(self._upscaler, self._tell)
        self._news: List[Message] = []
        self._changed = threading.Condition()
        self._folder: Optional[Path] = None
        self._carries = False

    def describe(self) -> Dict[str, Any]:
        """See :meth:`realesrgan.inference.upsampler.RealESRGANer.describe`."""
        return dict(self._upscaler.describe())

    def plan(self, plan: VideoPlan, carried: Optional[Carried]) -> None:
        """Another video begins.

        Args:
            carried: Its files; None where this machine reads them where they are, and writes segments beside the
                driver's journal.
        """
        self.forget()
        self._carries = carried is not None
        if carried is None:
            self._folder = plan.folder / ELSEWHERE.format(uuid.uuid4().hex)
            self._folder.mkdir(parents=True)
            self._desk.plan(replace(plan, folder=self._folder))
            return
        _remove_left_over()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        files = [
            _fetched(self._folder / f"{number:06}{suffix}", parts) for number, (suffix, parts) in enumerate(carried)
        ]
        self._desk.plan(replace(plan, source=plan.source.moved(files), folder=self._folder))

    def job(self, planned: None, piece: Piece) -> None:
        """Do a piece; ``planned`` is what :meth:`plan` gave, so that it is done."""
        self._desk.job(piece)

    def stop(self) -> None:
        """End each piece with what is enlarged of it."""
        self._desk.stop()

    def news(self, seconds: float = 1.0) -> List[Message]:
        """What :class:`~realesrgan.video.worker.Desk` told since the last call; waits a while for something.

        A segment comes with the path of its file, or with its bytes.
        """
        with self._changed:
            if not self._news:
                self._changed.wait(seconds)
            found, self._news = self._news, []
        return found

    def forget(self) -> None:
        """Remove the files that were carried here, and those that are not needed any more."""
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _tell(self, kind: str, *values: Any) -> None:
        if kind == "segment":
            assert self._folder is not None
            path = self._folder / values[1].name
            where: Any = str(path)
            if self._carries:
                where = path.read_bytes()
                path.unlink()
            values = (*values, where)
        with self._changed:
            self._news.append((kind, *values))
            self._changed.notify_all()


def _fetched(path: Path, parts: Sequence[Any]) -> Path:
    """Write a file that was carried here."""
    import ray

    with path.open("wb") as file:
        for part in parts:
            file.write(ray.get(part))
    return path


def _remove_left_over() -> None:
    """Remove what actors left that were killed here: no process has the number in the name any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        found = re.fullmatch(rf"{_PREFIX}(\d+)-\w+", folder.name)
        if found is not None and not psutil.pid_exists(int(found.group(1))):
            shutil.rmtree(folder, ignore_errors=True)
