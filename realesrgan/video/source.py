"""The frames of an input, in order, each with a time stamp: of a video, or of a folder of pictures."""

from __future__ import annotations

import copy
import heapq
import logging
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from .. import files
from ..errors import Phrase, PictureError, notice, one_line
from . import pyav
from .pixels import checksum, same_picture
from .probe import Colour, VideoInfo, open_video, say_interlaced
from .pyav import VideoError, reason_of

__all__ = [
    "DAMAGED",
    "REPEATED",
    "Anchor",
    "FolderSource",
    "Shot",
    "VideoSource",
    "mark_repeats",
    "resample",
]

logger = logging.getLogger(__name__)

#: Kinds of concealment: the frame before is shown again; the decoder filled in what was unreadable.
REPEATED, DAMAGED = "repeated", "damaged"


@dataclass(frozen=True)
class Anchor:
    """A frame by which a place in the file is found again: its index, time stamp and checksum."""

    index: int
    pts: int
    checksum: int


@dataclass(frozen=True)
class Shot:
    """One frame of the input.

    Attributes:
        index: From 0.
        pts: Time stamp in the input's time base, later than that of the frame before.
        raw: The time stamp as the file has it, None if it has none.
        picture: A decoded frame, or an array.
        concealed: Empty, ``"repeated"`` or ``"damaged"``.
        same: Whether the picture is exactly that of the frame before.
        shows: Index of the source's frame that it shows, where that is another than ``index``.
    """

    index: int
    pts: int
    raw: Optional[int]
    picture: Any
    concealed: str = ""
    same: bool = False
    shows: Optional[int] = None

    @property
    def can_anchor(self) -> bool:
        """Whether the place is found again by its time stamp and picture."""
        return not self.concealed and self.raw == self.pts

    def anchor(self) -> Optional[Tuple[int, int]]:
        """What a journal keeps of it; None if it is no use for finding it again."""
        return (self.pts, checksum(self.picture)) if self.can_anchor else None


class _Clock:
    """Makes time stamps strictly rising."""

    def __init__(self, info: VideoInfo, last: Optional[int] = None) -> None:
        self.step = max(1, round(1 / (info.rate or Fraction(25)) / info.time_base))
        self.last = last
        self.moved = 0
        self._jump = -round(1 / info.time_base)
        self._offset = 0

    def __call__(self, raw: Optional[int]) -> int:
        wish = (0 if self.last is None else self.last + self.step) if raw is None else raw + self._offset
        if self.last is not None and wish <= self.last:
            self.moved += 1
            if raw is not None and wish - self.last < self._jump:
                # The clock of the recording started again: go on where it was.
                wish = self.last + self.step
                self._offset = wish - raw
            else:
                wish = self.last + 1
        self.last = wish
        return wish


class VideoSource:
    """The frames of a video file.

    Rule for damage: a packet that the decoder rejects gives the frame before it once more, at the time stamp of the
    packet (the first frames: the first readable one); a frame that the decoder repaired is used as it is. Both are
    marked. So there are as many frames as the file has.

    Attributes:
        dropped: Coded frames that gave neither a picture nor an error, counted once all are read from the first on.
    """

    def __init__(self, info: VideoInfo) -> None:
        self.info = info
        self.dropped = 0
        self._coded = 0

    @property
    def step(self) -> int:
        """Ticks that a frame lasts if nothing else is known."""
        return max(1, round(1 / (self.info.rate or Fraction(25)) / self.info.time_base))

    @property
    def files(self) -> List[Path]:
        """What is read."""
        return [self.info.path]

    def moved(self, files: Sequence[Path]) -> VideoSource:
        """The same frames, of copies of its files."""
        return VideoSource(replace(self.info, path=files[0]))

    def shots(self, anchor: Optional[Anchor] = None) -> Iterator[Shot]:
        """The frames, all or those after ``anchor``. If that is not found, all.

        Raises:
            VideoError: A frame has another size than the first.
        """
        if anchor is not None:
            found = self._after(anchor)
            if found is not None:
                yield from found
                return
        with open_video(self.info.path) as container:
            yield from self._shots(self._decoded(container), _Clock(self.info), 0)
        self._say_dropped()

    def _after(self, anchor: Anchor) -> Optional[Iterator[Shot]]:
        container = open_video(self.info.path)
        try:
            container.seek(anchor.pts, stream=container.streams[self.info.index])
            decoded = self._decoded(container)
            for pts, frame, _ in decoded:
                if frame is not None and pts == anchor.pts and checksum(frame) == anchor.checksum:
                    return self._closing(container, decoded, anchor, frame)
                if pts is not None and pts > anchor.pts:
                    break
        except pyav.FILE_ERRORS as error:
            logger.debug("cannot seek in %s: %s", self.info.path, error)
        container.close()
        return None

    def _closing(self, container: Any, decoded: Iterator[Any], anchor: Anchor, picture: Any) -> Iterator[Shot]:
        with container:
            yield from self._shots(decoded, _Clock(self.info, anchor.pts), anchor.index + 1, picture)

    def _decoded(self, container: Any) -> Iterator[Tuple[Optional[int], Any, str]]:
        """Time stamp, frame (None: unreadable) and concealment, in the order of showing."""
        stream = container.streams[self.info.index]
        # Threads over frames would report an error with another packet than the one that has it.
        stream.thread_type = "SLICE"
        lost: List[int] = []
        woven = self.info.interlaced  # by the first frame, and said
        coded = given = 0
        for packet in self._packets(container, stream):
            coded += _shows_a_frame(packet, stream)
            try:
                frames = packet.decode()
            except pyav.FILE_ERRORS as error:
                logger.debug("%s: packet at %s: %s", self.info.path, packet.pts, error)
                frames = []
                if packet.size and packet.pts is not None and not getattr(packet, "is_discard", False):
                    heapq.heappush(lost, packet.pts)
                    given += 1
            given += len(frames)
            for frame in frames:
                while lost and frame.pts is not None and lost[0] < frame.pts:
                    yield heapq.heappop(lost), None, REPEATED
                if frame.interlaced_frame and not woven:
                    woven = True
                    say_interlaced(self.info.path)
                yield frame.pts, frame, DAMAGED if frame.is_corrupt else ""
        while lost:
            yield heapq.heappop(lost), None, REPEATED
        in_fields = woven and 2 * given + 2 >= coded  # a packet for each of the two fields of a frame
        self._coded, self.dropped = coded, 0 if in_fields else max(0, coded - given)

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except pyav.FILE_ERRORS as error:
                reason = reason_of(error)
                notice(
                    logger,
                    "video.broken_off",
                    f"{self.info.path} cannot be read further ({reason}): the result ends there.",
                    path=str(self.info.path),
                    reason=reason,
                )
                return
            yield packet

    def _shots(self, decoded: Iterator[Any], clock: _Clock, index: int, picture: Any = None) -> Iterator[Shot]:
        waiting: List[Optional[int]] = []
        first: Optional[int] = None
        for raw, frame, concealed in decoded:
            if frame is not None and (frame.width, frame.height) != (self.info.width, self.info.height):
                if not concealed:
                    last = None if first is None or clock.last is None else clock.last + clock.step - first
                    raise self._changes(frame, index, float((last or 0) * self.info.time_base))
                frame, concealed = None, REPEATED  # the decoder repaired it with sizes that it made up
            if frame is None and picture is None:
                waiting.append(raw)
                continue
            picture = picture if frame is None else frame
            for early in waiting:
                yield Shot(index, clock(early), early, picture, REPEATED)
                index += 1
            waiting = []
            pts = clock(raw)
            first = pts if first is None else first
            yield Shot(index, pts, raw, picture, concealed)
            index += 1
        self._say(clock, first)

    def _changes(self, frame: Any, index: int, moment: float) -> VideoError:
        first, other = f"{self.info.width}x{self.info.height}", f"{frame.width}x{frame.height}"
        return VideoError(
            f"{self.info.path} changes from {first} to {other} pixels after {index} frames, at {moment:.3f} s, and a "
            "video has one size. Cut it there, and enlarge the parts.",
            code="video.size_change",
            path=str(self.info.path),
            first=first,
            size=other,
            index=index,
            time=f"{moment:.3f}",
        )

    def _say_dropped(self) -> None:
        if self.dropped:
            notice(
                logger,
                "video.dropped",
                f"{self.info.path}: {self.dropped} of its {self._coded} coded frames gave no picture and no error: "
                "parts that they need are missing. The frame before each is shown longer.",
                path=str(self.info.path),
                count=self.dropped,
                coded=self._coded,
            )

    def _say(self, clock: _Clock, first: Optional[int]) -> None:
        path, told = self.info.path, self.info.duration
        if clock.moved:
            notice(
                logger,
                "video.moved",
                f"{path}: {clock.moved} frames had a time stamp that was not after the one before; they were moved.",
                path=str(path),
                count=clock.moved,
            )
        if clock.last is None or first is None or told is None:
            return
        seen = float((clock.last + clock.step - first) * self.info.time_base)
        if told - seen > max(1.0, 0.05 * told) and first <= clock.step:
            notice(
                logger,
                "video.short",
                f"{path} ends early: it says {told:.1f} s and has pictures for {seen:.1f} s.",
                path=str(path),
                told=f"{told:.1f}",
                seen=f"{seen:.1f}",
            )


def _shows_a_frame(packet: Any, stream: Any) -> bool:
    """Whether a packet contains a frame that is to be shown."""
    if not packet.size or getattr(packet, "is_discard", False):
        return False
    # VP8 has frames that others refer to and that are never shown; a bit of the first byte says so.
    return stream.codec_context.name != "vp8" or bool(memoryview(packet)[0] & 0x10)


class FolderSource:
    """The pictures of a folder, one frame each, by name.

    Rule for damage: in the place of a picture that cannot be read the one before is shown again (at the start: the
    first readable one).

    Args:
        folder: The name of the input in messages.
        paths: The pictures, in order.
        rate: Frames a second.

    Raises:
        VideoError: None of them can be read.
    """

    step = 1

    def __init__(self, folder: Path, paths: Sequence[Path], rate: Fraction) -> None:
        self._paths = list(paths)
        first = next(filter(lambda pixels: pixels is not None, map(self._read, self._paths)), None)
        if first is None:
            raise VideoError(
                f"{folder}: none of its {len(self._paths)} pictures can be read.",
                code="video.unreadable",
                path=str(folder),
                reason=Phrase("video.no_picture", "no picture can be read"),
            )
        unknown = pyav.UNKNOWN
        alpha = first.ndim == 3 and first.shape[2] == 4
        self.info = VideoInfo(
            path=folder,
            index=-1,
            width=int(first.shape[1]),
            height=int(first.shape[0]),
            time_base=1 / rate,
            rate=rate,
            frames=len(self._paths),
            duration=float(len(self._paths) / rate),
            pix_fmt="bgra" if alpha else "bgr24",
            depth=16 if first.dtype == np.uint16 else 8,
            alpha=alpha,
            is_rgb=True,
            colour=Colour(0, pyav.FULL_RANGE, unknown, unknown),
            assumed=False,
            sar=Fraction(1),
            rotation=None,
            interlaced=False,
        )

    @property
    def files(self) -> List[Path]:
        """What is read."""
        return list(self._paths)

    def moved(self, files: Sequence[Path]) -> FolderSource:
        """The same frames, of copies of its files."""
        other = copy.copy(self)
        other._paths = list(files)
        return other

    def _read(self, path: Path) -> Optional[np.ndarray]:
        try:
            return files.read(path).pixels
        except PictureError as error:
            notice(logger, "video.bad_picture", f"{one_line(error)}.", reason=error)
            return None

    def shots(self, anchor: Optional[Anchor] = None) -> Iterator[Shot]:
        """The frames, all or those after ``anchor``.

        Raises:
            VideoError: A picture has another size than the first.
        """
        start = 0 if anchor is None else anchor.index + 1
        before = None if anchor is None else self._read(self._paths[anchor.index])
        if before is not None:
            before = self._fit(before, self._paths[start - 1])
        waiting: List[int] = []
        for index in range(start, len(self._paths)):
            pixels = self._read(self._paths[index])
            if pixels is None and before is None:
                waiting.append(index)
                continue
            concealed = REPEATED if pixels is None else ""
            picture = before if pixels is None else self._fit(pixels, self._paths[index])
            for early in waiting:
                yield Shot(early, early, early, picture, REPEATED)
            waiting = []
            before = picture
            yield Shot(index, index, index, picture, concealed)

    def _fit(self, pixels: np.ndarray, path: Path) -> np.ndarray:
        info = self.info
        if pixels.shape[:2] != (info.height, info.width):
            raise VideoError(
                f"{path} has {pixels.shape[1]}x{pixels.shape[0]} pixels, the pictures before it {info.width}x"
                f"{info.height}: the frames of a video have one size.",
                code="video.frame_size",
                path=str(path),
                size=f"{pixels.shape[1]}x{pixels.shape[0]}",
                first=f"{info.width}x{info.height}",
            )
        if info.depth == 8 and pixels.dtype == np.uint16:
            pixels = (pixels / 257.0).round().astype(np.uint8)
        elif info.depth == 16 and pixels.dtype == np.uint8:
            pixels = pixels.astype(np.uint16) * 257
        if pixels.ndim == 2:
            pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))
        if pixels.shape[2] == 3 and info.alpha:
            pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2BGRA))
        return pixels if info.alpha or pixels.shape[2] == 3 else np.ascontiguousarray(pixels[:, :, :3])


def mark_repeats(shots: Iterable[Shot], compare: bool) -> Iterator[Shot]:
    """Find the frames that show exactly the picture before them.

    Args:
        compare: Compare pictures; otherwise only what is the same frame by construction counts.
    """
    before: Any = None
    for shot in shots:
        same = before is shot.picture or (compare and before is not None and same_picture(before, shot.picture))
        before = shot.picture
        yield replace(shot, same=same)


def resample(
    shots: Iterable[Shot],
    source: Fraction,
    target: Fraction,
    rate: Fraction,
    step: int,
    start: Optional[Fraction] = None,
    count: int = 0,
) -> Iterator[Shot]:
    """Show the same at a constant rate: at each moment the frame that is on the screen.

    Args:
        source, target: Time bases before and after.
        rate: Frames a second.
        step: Ticks (before) that the last frame lasts.
        start: Time of the video's first frame in seconds, where ``shots`` begin later.
        count: Index of the first frame to give, where ``shots`` begin with or before the one that it shows.
    """
    before: Optional[Shot] = None

    def until(moment: Fraction) -> Iterator[Shot]:
        nonlocal count
        assert start is not None and before is not None
        # Half a tick of tolerance: time stamps are rounded.
        while start + count / rate + source / 2 < moment:
            pts = round((start + count / rate) / target)
            yield replace(before, index=count, pts=pts, raw=None, shows=before.index)
            count += 1

    for shot in shots:
        if start is None:
            start = shot.pts * source
        if before is not None:
            yield from until(shot.pts * source)
        before = shot
    if before is not None:
        yield from until((before.pts + step) * source)
