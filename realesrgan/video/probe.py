"""What a video file contains, before any of it is enlarged."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ..errors import Phrase, notice
from . import pyav
from .pyav import VideoError, reason_of

__all__ = ["Colour", "VideoInfo", "is_cover", "open_video", "probe", "say_interlaced", "video_stream"]

logger = logging.getLogger(__name__)

_RGB = 0  # FFmpeg's number of the matrix of pictures that are RGB already
_BT709, _BT601 = 1, 6
#: FFmpeg's flag of a stream that is a cover picture, and the codecs of such pictures.
_ATTACHED = 0x400
_STILLS = ("mjpeg", "png", "bmp")
_LONGEST_FRAME = 24 * 3600
#: Players take untagged pictures of up to this many lines as BT.601, larger ones as BT.709.
_SD_LINES = 576


@dataclass(frozen=True)
class Colour:
    """What YUV values mean, in FFmpeg's (that is ITU-T H.273's) numbers; 2 means "not said"."""

    matrix: int
    range: int
    primaries: int
    transfer: int


@dataclass(frozen=True)
class VideoInfo:
    """A video stream.

    Attributes:
        index: Of the stream in its file; -1 for a folder of pictures.
        time_base: Seconds that one tick of its time stamps lasts.
        rate: Average frames a second, None if the file does not say.
        frames: How many there are, as the file says or as its length makes likely; None if neither is known.
        duration: Seconds, None if the file does not say.
        depth: Bits of a value.
        alpha: Whether its pixel format has transparency.
        colour: With matrix and range filled in where the file does not say; ``assumed`` says so.
        sar: Width of a pixel over its height.
        rotation: The 36 bytes of the display matrix, native byte order, None if there is none.
        interlaced: Whether its first frame is woven of two fields.
        loop: How often an animated picture says that it is shown: 0 for ever, -1 if it does not say (then once); None
            for a video.
        notes: What is to be known of it.
    """

    path: Path
    index: int
    width: int
    height: int
    time_base: Fraction
    rate: Optional[Fraction]
    frames: Optional[int]
    duration: Optional[float]
    pix_fmt: str
    depth: int
    alpha: bool
    is_rgb: bool
    colour: Colour
    assumed: bool
    sar: Fraction
    rotation: Optional[bytes]
    interlaced: bool
    loop: Optional[int] = None
    notes: Tuple[Phrase, ...] = ()


def open_video(path: Path) -> Any:
    """The file, opened for reading.

    Raises:
        VideoError: It is no video that PyAV can open.
    """
    try:
        return pyav.open_input(path)
    except pyav.FILE_ERRORS as error:
        raise VideoError(
            f"{path} cannot be read as a video: {reason_of(error)}. A file whose end is missing (an interrupted "
            "download or recording) may lack its index: fetch it again.",
            code="video.unreadable",
            path=str(path),
            reason=reason_of(error),
        ) from error


def video_stream(container: Any, path: Path) -> Any:
    """The video stream that is enlarged: the first that is no cover picture.

    Raises:
        VideoError: There is none.
    """
    streams = list(container.streams.video)
    for stream in streams:
        if not is_cover(stream):
            return stream
    if streams and not hasattr(streams[0], "disposition"):
        return streams[0]
    raise VideoError(f"{path} has no video stream.", code="video.no_stream", path=str(path))


def is_cover(stream: Any) -> bool:
    """Whether a stream is a still picture that represents the file."""
    disposition = getattr(stream, "disposition", None)
    if disposition is None:  # before PyAV 14.2 it is not told
        return stream.type == "video" and stream.codec_context.name in _STILLS and stream.frames <= 1
    return stream.type == "video" and bool(getattr(disposition, "value", disposition) & _ATTACHED)


def probe(path: Path) -> VideoInfo:
    """Open a video and decode its first frame.

    Raises:
        VideoError: It cannot be read, or contains no frame that can be decoded.
    """
    with open_video(path) as container:
        stream = video_stream(container, path)
        frame = _first_frame(container, stream, path)
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        _check_times(path, stream, rate)
        duration = _duration(container, stream)
        frames = stream.frames or (round(duration * rate) if duration and rate else None)
        form = frame.format
        context = stream.codec_context
        is_rgb = bool(form.is_rgb) or form.name == "pal8"
        colour, assumed = _colour(context, form.name, is_rgb, frame.height)
        notes = []
        if stream.metadata.get("alpha_mode") == "1" and not _has_alpha(form):
            notes.append(
                Phrase("video.alpha_unseen", "The transparency of this VP8/VP9 video cannot be read: it is lost")
            )
        notes += _side_data_notes(frame)
        return VideoInfo(
            path=path,
            index=stream.index,
            width=frame.width,
            height=frame.height,
            time_base=Fraction(stream.time_base),
            rate=Fraction(rate) if rate else None,
            frames=frames or None,
            duration=duration,
            pix_fmt=form.name,
            depth=max(component.bits for component in form.components),
            alpha=_has_alpha(form),
            is_rgb=is_rgb,
            colour=colour,
            assumed=assumed,
            sar=Fraction(stream.sample_aspect_ratio or context.sample_aspect_ratio or 1),
            rotation=_side_data(frame).get("DISPLAYMATRIX"),
            interlaced=bool(frame.interlaced_frame),
            notes=tuple(notes),
        )


def _check_times(path: Path, stream: Any, rate: Any) -> None:
    length = max(Fraction(stream.time_base), 1 / Fraction(rate) if rate else 0)
    if length > _LONGEST_FRAME:
        raise VideoError(
            f"{path} says that each of its frames is shown for {int(length)} seconds, which no result can keep. Write "
            "it again with its real frame rate first.",
            code="video.rate",
            path=str(path),
            seconds=int(length),
        )


def _first_frame(container: Any, stream: Any, path: Path) -> Any:
    reason = Phrase("video.no_frame", "no frame can be decoded")
    try:
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    return frame
            except pyav.FILE_ERRORS as error:
                reason = reason_of(error)
    except pyav.FILE_ERRORS as error:
        reason = reason_of(error)
    raise VideoError(f"{path}: {reason}.", code="video.unreadable", path=str(path), reason=reason)


def _duration(container: Any, stream: Any) -> Optional[float]:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _has_alpha(form: Any) -> bool:
    return any(component.is_alpha for component in form.components) and form.name != "pal8"


def _colour(context: Any, pix_fmt: str, is_rgb: bool, height: int) -> Tuple[Colour, bool]:
    matrix, span = int(context.colorspace), int(context.color_range)
    assumed = False
    if is_rgb:
        matrix, span = _RGB, pyav.FULL_RANGE
    elif matrix in (pyav.UNKNOWN, _RGB):
        matrix, assumed = (_BT601 if height <= _SD_LINES else _BT709), True
    if span not in (pyav.LIMITED_RANGE, pyav.FULL_RANGE):
        span = pyav.FULL_RANGE if pix_fmt.startswith("yuvj") else pyav.LIMITED_RANGE
    return Colour(matrix, span, int(context.color_primaries), int(context.color_trc)), assumed


def _side_data(frame: Any) -> Dict[str, bytes]:
    items = (frame.side_data[place] for place in range(len(frame.side_data)))
    return {str(getattr(item.type, "name", item.type)): bytes(item) for item in items}


def _side_data_notes(frame: Any) -> List[Phrase]:
    kept = {"MASTERING_DISPLAY_METADATA": "mastering display", "CONTENT_LIGHT_LEVEL": "content light level"}
    kept.update(
        {"DYNAMIC_HDR_PLUS": "HDR10+", "DOVI_METADATA": "Dolby Vision", "SPHERICAL": "spherical", "STEREO3D": "3D"}
    )
    lost = [what for name, what in kept.items() if name in _side_data(frame)]
    if not lost:
        return []
    what = ", ".join(lost)
    return [Phrase("video.side_data", f"Not carried into the result: {what} data", what=what)]


def say_interlaced(path: Path) -> None:
    """Say that a video is interlaced."""
    notice(
        logger,
        "video.interlaced",
        f"{path} is interlaced: its frames are enlarged as they are woven, combs included. Deinterlace it first for a "
        "better result.",
        path=str(path),
    )
