"""The files that hold a segment of the enlarged frames each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, List, Tuple

from . import pyav
from .encoding import Format
from .probe import open_video
from .problems import VideoError, disk_error

__all__ = ["SegmentFile", "check_frames"]

#: So many threads decode a segment to check it: enough to keep up with an encoder, few enough to hold few frames.
_CHECKERS = 4


class SegmentFile:
    """Encodes consecutive frames into a file of their own: NUT, which keeps any time stamps exactly.

    Args:
        path: Where it is when it is whole; until then it carries ``.partial``.
    """

    def __init__(self, path: Path, form: Format) -> None:
        self.path = path
        self._partial = path.with_name(path.name + ".partial")
        self._pts: List[int] = []
        av = pyav.load()
        os.environ.setdefault("SVT_LOG", "1")  # errors only; SVT-AV1 talks to the console by itself
        try:
            self._container = av.open(str(self._partial), "w", format="nut")
            self._stream = self._container.add_stream(form.encoder, rate=form.rate, options=dict(form.options))
            form.apply(self._stream.codec_context)
        except pyav.FILE_ERRORS as error:
            raise disk_error(error, path) or self._failed(error) from error
        self._time_base = form.time_base

    def _failed(self, error: BaseException) -> VideoError:
        reason = " ".join(str(error).split())
        return VideoError(
            f"The encoder failed: {reason}. Another --codec, --pix_fmt or --preset may work.",
            code="video.encoding",
            reason=reason,
        )

    def add(self, frame: Any, pts: int) -> None:
        """Encode a frame.

        Raises:
            VideoError: The disk is full, or the encoder refuses.
        """
        frame.pts, frame.time_base = pts, self._time_base
        self._encode(frame)

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._pts.append(packet.pts)
                self._container.mux(packet)
        except pyav.FILE_ERRORS as error:
            raise disk_error(error, self.path) or self._failed(error) from error

    def finish(self) -> Tuple[List[int], int]:
        """Write what the encoder still holds, and give the file its name.

        Returns:
            The time stamps in the order of the packets, and the file's size in bytes.
        """
        self._encode(None)
        try:
            self._container.close()
            with self._partial.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(self._partial, self.path)
            return self._pts, self.path.stat().st_size
        except pyav.FILE_ERRORS as error:
            raise disk_error(error, self.path) or self._failed(error) from error

    def abandon(self) -> None:
        """Remove the unfinished file."""
        try:
            self._container.close()
        except pyav.FILE_ERRORS:
            pass
        try:
            self._partial.unlink()
        except OSError:
            pass


def check_frames(path: Path, wanted: int) -> None:
    """Decode a finished segment and count its frames.

    Raises:
        VideoError: It does not give ``wanted`` whole frames.
    """
    with open_video(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = min(_CHECKERS, os.cpu_count() or 1)
        stream.thread_type = "AUTO"
        try:
            count = sum(1 for frame in container.decode(stream) if not frame.is_corrupt)
        except pyav.FILE_ERRORS:
            count = 0
    if count != wanted:
        raise VideoError(
            f"The encoder was given {wanted} frames, and {path.name} gives {count} back: nothing of it is kept. "
            "Another --codec or --preset may work.",
            code="video.segment_count",
            name=path.name,
            count=count,
            wanted=wanted,
        )
