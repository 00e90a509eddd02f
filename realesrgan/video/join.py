"""The segments and the input's other streams into one file: packets are copied, nothing is decoded."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import struct
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from ..errors import notice
from ..files import atomic
from . import animation, pyav
from .encoding import ANIMATIONS, CONTAINERS, Format
from .journal import Segment
from .probe import VideoInfo, open_video
from .pyav import VideoError, disk_error, reason_of
from .streams import TECHNICAL, add_chapters, add_streams

__all__ = ["join", "patch_matrix"]

logger = logging.getLogger(__name__)

#: Most ticks a second of a whole MP4 file.
_FINEST = 1 << 27


def join(
    folder: Path, segments: Sequence[Segment], info: VideoInfo, form: Format, target: Path, *, part: bool = False
) -> int:
    """Write the result.

    Args:
        folder: Of the segments.
        segments: Without a gap.
        part: The result ends with the segments: what other streams contain after that is left out.

    Returns:
        The number of frames in it, counted in the file.

    Raises:
        VideoError: The disk is full, or the result does not contain all frames.
    """
    unfinished = folder / "joined.partial"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if form.container in ANIMATIONS:
            count = _write_animation(unfinished, folder, segments, info, form)
            atomic.replace(unfinished, target)
            return count
        packets = _Packets(folder, segments, form)
        _write(unfinished, packets, info, form, part)
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        count, first = _count(unfinished)
        wanted = sum(len(segment.pts) for segment in segments)
        if count != wanted:
            raise VideoError(
                f"{target} would contain {count} frames instead of {wanted}; it is not written. The finished segments "
                "are kept: another --container may do.",
                code="video.count",
                path=str(target),
                count=count,
                wanted=wanted,
            )
        atomic.replace(unfinished, target)
        _say_shift(first - float(packets.shown[0] * form.time_base))
        return count
    except pyav.FILE_ERRORS as error:
        if isinstance(error, VideoError):
            raise
        failed = VideoError(
            f"{target} cannot be written: {reason_of(error)}. The finished segments are kept: start the same command "
            "again, perhaps with another --container.",
            code="video.join",
            path=str(target),
            reason=reason_of(error),
        )
        raise disk_error(error, target) or failed from error
    finally:
        try:
            unfinished.unlink()
        except OSError:
            pass


def _write_animation(path: Path, folder: Path, segments: Sequence[Segment], info: VideoInfo, form: Format) -> int:
    """Decode the lossless segments into an animated picture; gives the number of its frames."""
    shown = sorted(pts for segment in segments for pts in segment.pts)
    times = [moment * form.time_base for moment in (*shown, shown[-1] + segments[-1].last)]

    def frames() -> Iterator[Any]:
        for segment in segments:
            with open_video(folder / segment.name) as container:
                yield from container.decode(video=0)

    with path.open("wb+") as file:
        count = animation.write(file, form.container, frames(), times, info.loop or 0, alpha=form.alpha)
        file.flush()
        os.fsync(file.fileno())
    if count < len(shown):
        notice(
            logger,
            "video.too_fast",
            f"{len(shown) - count} frames are shown for less time than {form.container} can say, and are left out.",
            count=len(shown) - count,
            container=form.container,
        )
    return count


class _Packets:
    """The packets of all segments, one after the other, with time stamps that fit together."""

    def __init__(self, folder: Path, segments: Sequence[Segment], form: Format) -> None:
        self.folder, self.segments, self.form = folder, segments, form
        self.shown = sorted(pts for segment in segments for pts in segment.pts)
        self.end = self.shown[-1] + segments[-1].last
        # By so many packets an encoder may run ahead of what is shown.
        self._delay = max(
            (place - rank for segment in segments for place, rank in enumerate(_ranks(segment.pts))), default=0
        )

    def first(self) -> Path:
        """The file that represents all of them."""
        return self.folder / self.segments[0].name

    def __call__(self, lead: bool) -> Iterator[Any]:
        """Packets with time stamps and durations.

        Args:
            lead: Let decoding times begin before the first frame's time, as most containers expect it.
        """
        follows = dict(zip(self.shown, [*self.shown[1:], self.end]))
        step = self.shown[1] - self.shown[0] if len(self.shown) > 1 else 1
        place = 0
        for segment in self.segments:
            with open_video(self.folder / segment.name) as container:
                pts = iter(segment.pts)
                for packet in container.demux(video=0):
                    if not packet.size:
                        continue
                    ahead = place - self._delay
                    packet.pts = next(pts)
                    packet.dts = self.shown[max(ahead, 0)] + (step * min(ahead, 0) if lead else 0)
                    packet.time_base = self.form.time_base
                    _set_duration(packet, follows[packet.pts] - packet.pts)
                    place += 1
                    yield packet


def _ranks(values: Sequence[int]) -> List[int]:
    rank = {value: place for place, value in enumerate(sorted(values))}
    return [rank[value] for value in values]


def _set_duration(packet: Any, ticks: int) -> None:
    try:
        packet.duration = ticks
    except AttributeError:  # before PyAV 13; the container then uses the distance to the next packet
        pass


def _count(path: Path) -> Tuple[int, float]:
    """How many frames a player is to show, and when the first, in seconds."""
    count, first = 0, math.inf
    with open_video(path) as container:
        for packet in container.demux(*container.streams.video[:1]) if container.streams.video else ():
            if packet.size and not getattr(packet, "is_discard", False):
                count += 1
                first = min(first, float(packet.pts * packet.time_base))
    return count, first


def _say_shift(seconds: float) -> None:
    """Say that all streams are later in the result than in the input, if they are by more than Matroska's rounding."""
    if seconds > 0.001:
        notice(
            logger,
            "video.shifted",
            f"The sound begins before 0, and Matroska has no such times: all streams are {1000 * seconds:.0f} ms later "
            "there, still together. --container mp4 keeps the times.",
            level=logging.INFO,
            milliseconds=f"{1000 * seconds:.0f}",
        )


def _write(path: Path, packets: _Packets, info: VideoInfo, form: Format, part: bool) -> None:
    name = CONTAINERS[form.container]
    source = open_video(info.path) if info.index >= 0 else None
    try:
        with open_video(packets.first()) as plain, _open(path, name, source, form) as out, _rotated_template(
            packets.folder, plain.streams.video[0], info.rotation
        ) as template:
            # A template made from another container frames its header differently from the packets.
            extradata = plain.streams.video[0].codec_context.extradata
            streams = add_streams(out, template, source, info, form)
            if template is not plain.streams.video[0]:
                streams[-1].codec_context.extradata = extradata
            end = float(packets.end * form.time_base) if part else None
            if source is not None:
                out.metadata.update({k: v for k, v in source.metadata.items() if k.lower() not in TECHNICAL})
                add_chapters(out, source, end)
            out.start_encoding()
            mux = _Muxer(out)
            copied = _copied(source, streams, end, strict=name != "matroska")
            _merge(mux, packets(lead=name != "matroska"), streams[-1], copied)
            mux.say(form.container)
    finally:
        if source is not None:
            source.close()


def _open(path: Path, name: str, source: Any, form: Format) -> Any:
    options: Dict[str, str] = {}
    if name in ("mp4", "mov"):
        # The start of a stream is counted in the file's own ticks: fine enough for all streams, or a late start moves.
        ticks = form.time_base.denominator
        for stream in source.streams if source is not None else ():
            base = int(stream.time_base.denominator) if stream.time_base else 1
            ticks = ticks * base // math.gcd(ticks, base)
        options["movie_timescale"] = str(ticks if ticks <= _FINEST else 720000)
    return pyav.load().open(str(path), "w", format=name, options=options)


def _copied(source: Any, streams: Dict[int, Any], end: Optional[float], strict: bool) -> Iterator[Tuple[float, Any]]:
    """The packets of the other streams, each with its time in seconds.

    Args:
        end: Leave out what comes later, in seconds.
        strict: The container wants decoding times that rise from packet to packet.
    """
    wanted = [source.streams[index] for index in streams if index >= 0] if source is not None else []
    wanted = [stream for stream in wanted if stream.type != "attachment"]
    if not wanted:
        return
    last: Dict[int, int] = {}
    offset: Dict[int, int] = {}
    for packet in _readable(source, wanted):
        index = packet.stream.index
        if packet.dts is None and packet.pts is None:
            if not packet.size:  # the end of a stream
                continue
            packet.pts = last[index] + (packet.duration or 1) - offset.get(index, 0) if index in last else 0
        ticks = (packet.pts if packet.dts is None else packet.dts) + offset.get(index, 0)
        if index in last and ticks < last[index] - 1 / packet.time_base:
            # The clock of the recording started again; the frames go on, and so does this stream.
            offset[index] = offset.get(index, 0) + last[index] + (packet.duration or 1) - ticks
            ticks = last[index] + (packet.duration or 1)
        if index in last:
            # Broken recorders repeat a time stamp, or step back a little: no container accepts that.
            rising = strict and packet.stream.type in ("audio", "video")
            ticks = max(ticks, last[index] + (1 if rising else 0))
        if packet.pts is not None:
            packet.pts = packet.pts + offset.get(index, 0)
            if packet.dts is not None:
                packet.pts = max(packet.pts, ticks)
        packet.dts = last[index] = ticks
        moment = float(ticks * packet.time_base)
        if end is None or moment < end:
            packet.stream = streams[index]
            yield moment, packet


def _readable(source: Any, wanted: List[Any]) -> Iterator[Any]:
    """The packets up to where the file cannot be read further, which was said when its frames were read."""
    try:
        yield from source.demux(*wanted)
    except pyav.FILE_ERRORS as error:
        logger.debug("the streams to copy end early: %s", error)


class _Muxer:
    """Writes packets, and goes on where the container refuses one of a copied stream."""

    def __init__(self, out: Any) -> None:
        self._out = out
        self._refused = 0
        self._reason = ""

    def __call__(self, packet: Any) -> None:
        try:
            self._out.mux(packet)
        except ValueError as error:
            # Not surely this packet: the writer holds some back. Should it be a frame, the count at the end tells.
            self._refused += 1
            self._reason = reason_of(error)

    def say(self, container: str) -> None:
        """Say what was refused, if anything was."""
        if self._refused:
            notice(
                logger,
                "video.packets",
                f"{self._refused} damaged packets of sound or other copied streams are left out: {container} refuses "
                f"them ({self._reason}).",
                count=self._refused,
                container=container,
                reason=self._reason,
            )


def _merge(mux: _Muxer, video: Iterator[Any], stream: Any, others: Iterator[Tuple[float, Any]]) -> None:
    """Write all packets in the order of their times."""
    other = next(others, None)
    for packet in video:
        moment = float(packet.dts * packet.time_base)
        while other is not None and other[0] <= moment:
            mux(other[1])
            other = next(others, None)
        packet.stream = stream
        mux(packet)
    while other is not None:
        mux(other[1])
        other = next(others, None)


# PyAV cannot set a display matrix (rotated phone videos). But it copies what the stream has that serves as a template,
# so a small MOV file is made of the first packet, the matrix is written into its track header, and that file's stream
# becomes the template.


@contextlib.contextmanager
def _rotated_template(folder: Path, plain: Any, matrix: Optional[bytes]) -> Iterator[Any]:
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
