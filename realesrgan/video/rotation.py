"""Carries a display matrix (rotated phone videos) into the result.

PyAV cannot set it. But it copies what the stream has that serves as a template, so a small MOV file is made of the
first packet, the matrix is written into its track header, and that file's stream becomes the template.
"""

from __future__ import annotations

import contextlib
import logging
import struct
from pathlib import Path
from typing import Any, Iterator, Optional

from ..errors import notice
from . import pyav
from .probe import open_video

__all__ = ["patch_matrix", "rotated_template"]

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def rotated_template(folder: Path, plain: Any, matrix: Optional[bytes]) -> Iterator[Any]:
    """A stream like ``plain`` that has the display matrix (36 bytes), or ``plain`` itself if there is none to set."""
    if matrix is None or len(matrix) != 36:
        yield plain
        return
    path = folder / "template.mov"
    try:
        _one_packet(path, plain)
        patched = patch_matrix(path, matrix)
    except (*pyav.FILE_ERRORS, TypeError) as error:
        logger.debug("no template with a display matrix: %s", error)
        patched = False
    if not patched:
        notice(logger, "video.rotation", "The rotation of the video cannot be carried: turn the result yourself.")
        yield plain
        return
    with open_video(path) as container:
        yield container.streams.video[0]


def _one_packet(path: Path, plain: Any) -> None:
    with pyav.load().open(str(path), "w", format="mov") as out:
        stream = pyav.add_copy(out, plain)
        packet = next(packet for packet in plain.container.demux(plain) if packet.size)
        packet.pts = packet.dts = 0
        packet.stream = stream
        out.mux(packet)


def patch_matrix(path: Path, matrix: bytes) -> bool:
    """Write a display matrix into the first track header of a QuickTime file; False if there is no track header."""
    data = bytearray(path.read_bytes())
    place = data.find(b"tkhd", max(data.rfind(b"moov"), 0))
    if place < 0:
        return False
    # After the type: version and flags, two times, track, reserved, duration (4 or 8 bytes each), reserved 8, layer 2,
    # group 2, volume 2, reserved 2.
    start = place + 4 + 4 + (32 if data[place + 4] == 1 else 20) + 16
    data[start : start + 36] = struct.pack(">9i", *struct.unpack("=9i", matrix))
    path.write_bytes(data)
    return True
