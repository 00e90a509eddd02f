"""Animated pictures (GIF, WebP, APNG) as videos, and videos as animated GIF or WebP: times, loop and transparency."""

from __future__ import annotations

import copy
import logging
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from ..errors import Phrase, notice
from ..files import MAX_PIXELS, alpha
from ..files.paths import openable
from ..files.reading import quiet
from . import pyav
from .probe import Colour, VideoInfo
from .pyav import VideoError, reason_of
from .source import Anchor, Shot

__all__ = ["AnimationSource", "is_animation", "write"]

logger = logging.getLogger(__name__)

#: What players show a frame for that has no time, in milliseconds.
_UNTIMED = 100
_WEBP = {"quality": 95, "method": 4}


def is_animation(path: Path) -> bool:
    """Whether a file is a GIF, WebP or PNG of several frames; judged by its content."""
    try:
        with Path(openable(path)).open("rb") as file:
            start = file.read(12)
            if not start.startswith((b"GIF8", b"\x89PNG\r\n\x1a\n")) and (start[:4], start[8:]) != (b"RIFF", b"WEBP"):
                return False
            file.seek(0)
            with quiet(), Image.open(file) as image:
                return bool(getattr(image, "is_animated", False))
    except Exception:  # noqa: BLE001 - decoders raise whatever they like; what reads the file next says what is wrong
        return False


class AnimationSource:
    """The frames of an animated picture, as a player shows them.

    The colour of transparent pixels is that of their opaque neighbourhood, so that edges get no fringe. A file that is
    cut short gives the frames before the cut.

    Raises:
        VideoError: It cannot be read, or is too large.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._broken = False
        lengths: List[int] = []
        transparent = False
        loop, size = 0, (0, 0)
        for image, milliseconds in self._frames():
            if not lengths:
                size = image.size
                loop = int(image.info.get("loop", -1 if image.format == "GIF" else 0))
            transparent = transparent or _is_transparent(image)
            lengths.append(milliseconds)
        if not lengths:
            raise _unreadable(path, Phrase("video.no_frame", "no frame can be decoded"))
        self._last = lengths[-1]
        duration = sum(lengths) / 1000
        unknown = pyav.UNKNOWN
        self.info = VideoInfo(
            path=path,
            index=-1,
            width=size[0],
            height=size[1],
            time_base=Fraction(1, 1000),
            rate=Fraction(1000 * len(lengths), sum(lengths)).limit_denominator(1001),
            frames=len(lengths),
            duration=duration,
            pix_fmt="bgra" if transparent else "bgr24",
            depth=8,
            alpha=transparent,
            is_rgb=True,
            colour=Colour(0, pyav.FULL_RANGE, unknown, unknown),
            assumed=False,
            sar=Fraction(1),
            rotation=None,
            interlaced=False,
            loop=loop,
        )

    @property
    def step(self) -> int:
        """Ticks that the last frame is shown."""
        return self._last

    @property
    def files(self) -> List[Path]:
        """What is read."""
        return [self._path]

    def moved(self, files: Sequence[Path]) -> AnimationSource:
        """The same frames, of a copy of its file."""
        other = copy.copy(self)
        other._path = files[0]
        return other

    def _frames(self) -> Iterator[Tuple[Any, int]]:
        """Each frame and how long it is shown in milliseconds."""
        try:
            with quiet(), Image.open(openable(self._path)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise _unreadable(
                        self._path,
                        Phrase(
                            "video.pixels",
                            f"its frames have {image.width}x{image.height} pixels, more than {MAX_PIXELS}",
                            size=f"{image.width}x{image.height}",
                            limit=MAX_PIXELS,
                        ),
                    )
                for number in range(int(getattr(image, "n_frames", 1))):
                    image.seek(number)
                    image.load()
                    yield image, int(image.info.get("duration", 0)) or _UNTIMED
        except (VideoError, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001 - decoders of hostile input raise whatever they like
            if not self._broken:
                self._broken = True
                notice(
                    logger,
                    "video.broken_off",
                    f"{self._path} cannot be read further ({reason_of(error)}): the result ends there.",
                    path=str(self._path),
                    reason=reason_of(error),
                )

    def shots(self, anchor: Optional[Anchor] = None) -> Iterator[Shot]:
        """The frames, all or those after ``anchor``."""
        pts = 0
        for index, (image, milliseconds) in enumerate(self._frames()):
            if anchor is None or index > anchor.index:
                yield Shot(index, pts, pts, self._pixels(image))
            pts += milliseconds

    def _pixels(self, image: Any) -> np.ndarray:
        if not self.info.alpha:
            return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
        rgba = np.asarray(image.convert("RGBA"))
        return alpha.bleed(np.ascontiguousarray(rgba[:, :, [2, 1, 0, 3]]))


def _is_transparent(image: Any) -> bool:
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return False
    return bool(image.convert("RGBA").getextrema()[3][0] < 255)


def _unreadable(path: Path, reason: Phrase) -> VideoError:
    return VideoError(
        f"{path} cannot be read as a video: {reason}.", code="video.unreadable", path=str(path), reason=reason
    )


def write(
    stream: BinaryIO, container: str, frames: Iterable[Any], times: List[Fraction], loop: int, *, alpha: bool
) -> int:
    """Write an animated picture.

    Args:
        stream: Open for writing and reading.
        container: ``"gif"`` (256 colours a frame, dithered; transparency is all or nothing) or ``"webp"``.
        frames: Frames of PyAV, all of one size.
        times: When each is shown, and at last when the last one ends, in seconds.
        loop: As in :class:`~realesrgan.video.probe.VideoInfo`.

    Returns:
        How many frames are in it. A GIF counts time in hundredths of a second, a WebP in thousandths: a frame that
        would be shown for less is left out.

    Raises:
        One of ``pyav.FILE_ERRORS``.
    """
    ticks = [round(moment * (100 if container == "gif" else 1000)) for moment in times]
    kept = [place for place in range(len(ticks) - 1) if ticks[place + 1] > ticks[place]]
    wanted = iter(kept)
    # A frame without any time is left out: the one after it is shown at the same moment.
    chosen = _chosen(frames, wanted)
    lengths = [ticks[place + 1] - ticks[place] for place in kept]
    if container == "gif":
        _write_gif(stream, chosen, ticks[kept[0]] if kept else 0, lengths, loop, alpha)
    else:
        pictures = (_picture(frame, alpha) for frame in chosen)
        with quiet():
            _Frames(pictures, len(lengths)).save(
                stream, "WEBP", save_all=True, duration=lengths, loop=abs(loop), **_WEBP
            )
    return len(lengths)


def _chosen(frames: Iterable[Any], places: Iterator[int]) -> Iterator[Any]:
    place = next(places, None)
    for number, frame in enumerate(frames):
        if number == place:
            yield frame
            place = next(places, None)


def _picture(frame: Any, alpha: bool) -> np.ndarray:
    pixels: np.ndarray = frame.to_ndarray(format="rgba" if alpha else "rgb24")
    return pixels


class _Frames(Image.Image):
    """A picture of several frames that are made when Pillow comes to them, one after the other."""

    def __init__(self, pictures: Iterator[np.ndarray], count: int) -> None:
        super().__init__()
        self._pictures = pictures
        self.n_frames = count
        self._at = -1
        self.seek(0)

    def seek(self, frame: int) -> None:
        if frame <= self._at:  # Pillow goes back to the first one at the end
            return
        made = Image.fromarray(next(self._pictures))
        self.im, self._mode, self._size = made.im, made.mode, made.size
        self._at = frame

    def tell(self) -> int:
        return max(self._at, 0)


def _write_gif(stream: BinaryIO, frames: Iterator[Any], start: int, lengths: List[int], loop: int, alpha: bool) -> None:
    """Each frame gets a palette of its own."""
    av = pyav.load()
    options = {"loop": str(loop), "final_delay": str(lengths[-1])}
    base = Fraction(1, 100)
    moment = start
    graph: Any = None
    with av.open(stream, "w", format="gif", options=options) as out:
        video = out.add_stream("gif", rate=100)
        video.codec_context.time_base = base
        for frame, length in zip(frames, lengths):
            if graph is None:
                video.width, video.height, video.pix_fmt = frame.width, frame.height, "pal8"
                graph, source, sink = _palettes(frame, alpha)
            frame.pts, frame.time_base = moment, base
            moment += length
            source.push(frame)
            for indexed in _pulled(sink):
                out.mux(video.encode(indexed))
        source.push(None)
        for indexed in _pulled(sink):
            out.mux(video.encode(indexed))
        out.mux(video.encode(None))


def _palettes(frame: Any, alpha: bool) -> Tuple[Any, Any, Any]:
    """A filter graph that turns frames like this one into frames with 256 colours; its two ends."""
    graph = pyav.load().filter.Graph()
    shape = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/100:pixel_aspect=1/1"
    source = graph.add("buffer", shape)
    split = graph.add("split")
    palette = graph.add("palettegen", f"stats_mode=single:reserve_transparent={int(alpha)}")
    indexed = graph.add("paletteuse", "new=1")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(indexed, 1, 0)
    palette.link_to(indexed, 0, 1)
    indexed.link_to(sink)
    graph.configure()
    return graph, source, sink


def _pulled(sink: Any) -> Iterator[Any]:
    while True:
        try:
            yield sink.pull()
        except (BlockingIOError, EOFError):  # nothing more yet, or at all
            return
