"""A few frames side by side before the long run: the input enlarged plainly, a gap, the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import cv2
import numpy as np

from .. import files
from . import pyav
from .probe import VideoInfo, open_video

__all__ = ["preview"]

_GAP = 4


def preview(source: Any, upsampler: Any, to_pixels: Callable[[Any], Any], outscale: float, paths: List[Path]) -> int:
    """Write one picture to each of ``paths``, of frames spread evenly over the video.

    Returns:
        How many were written: fewer if the video is that short.

    Raises:
        PictureError: One cannot be written.
        RealESRGANError: The network failed.
    """
    count = 0
    for path, picture in zip(paths, _spread(source, len(paths))):
        pixels = to_pixels(picture)
        result, _ = upsampler.enhance(pixels, outscale=outscale)
        height, width = result.shape[:2]
        plain = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)
        gap = np.full((height, _GAP, result.shape[2]), np.iinfo(result.dtype).max, result.dtype)
        files.write(path, np.concatenate((plain, gap, result), axis=1))
        count += 1
    return count


def _spread(source: Any, count: int) -> Iterator[Any]:
    info: VideoInfo = source.info
    if info.index < 0 or not info.duration:
        every = max(1, (info.frames or count) // count)
        for shot in source.shots():
            if shot.index % every == every // 2:
                yield shot.picture
        return
    with open_video(info.path) as container:
        start = float((container.streams[info.index].start_time or 0) * info.time_base)
    for place in range(count):
        picture = _at(info, start + (place + 0.5) / count * info.duration)
        if picture is not None:
            yield picture


def _at(info: VideoInfo, moment: float) -> Optional[Any]:
    """The frame that is on the screen then; the last one before it if the file cannot be read further."""
    found = None
    with open_video(info.path) as container:
        stream = container.streams[info.index]
        try:
            container.seek(int(moment / info.time_base), stream=stream)
            for frame in container.decode(stream):
                if found is not None and frame.pts is not None and frame.pts * info.time_base > moment:
                    break
                found = frame
        except pyav.FILE_ERRORS:
            pass
    return found
