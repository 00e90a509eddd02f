"""The segments and the input's other streams into one file: packets are copied, nothing is decoded."""

from __future__ import annotations

import io
import logging
import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from ..errors import notice
from . import pyav
from .encoding import CONTAINERS, Format
from .journal import Segment
from .probe import VideoInfo, open_video
from .problems import VideoError, disk_error, reason_of
from .rotation import rotated_template

__all__ = ["join"]

logger = logging.getLogger(__name__)

#: Written by the container's own writer.
_TECHNICAL = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration"}
#: Most ticks a second of a whole MP4 file.
_FINEST = 1 << 27
_REFUSALS = (*pyav.FILE_ERRORS, TypeError, AttributeError, NotImplementedError)


def join(
    folder: Path, segments: Sequence[Segment], info: VideoInfo, form: Format, target: Path, *, part: bool = False
) -> int:
    """Write the result.

    Args:
        folder: Of the segments.
        segments: Without a gap.
        part: The result ends with the segments: what other streams hold after that is left out.

    Returns:
        The number of frames in it, counted in the file.

    Raises:
        VideoError: The disk is full, or the result does not hold all frames.
    """
    unfinished = target.with_name(f".{target.name[:80]}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(unfinished, _Packets(folder, segments, form), info, form, part)
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        count = _count(unfinished)
        wanted = sum(len(segment.pts) for segment in segments)
        if count != wanted:
            raise VideoError(
                f"{target} would hold {count} frames instead of {wanted}; it is not written. The finished segments "
                "are kept: another --container may do.",
                code="video.count",
                path=str(target),
                count=count,
                wanted=wanted,
            )
        os.replace(unfinished, target)
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
        """The file that stands for all of them."""
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
    except AttributeError:  # before PyAV 13; the container then takes the distance to the next packet
        pass


def _count(path: Path) -> int:
    with open_video(path) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def _write(path: Path, packets: _Packets, info: VideoInfo, form: Format, part: bool) -> None:
    name = CONTAINERS[form.container]
    source = open_video(info.path) if info.index >= 0 else None
    try:
        with open_video(packets.first()) as plain, _open(path, name, source, form) as out, rotated_template(
            packets.folder, plain.streams.video[0], info.rotation
        ) as template:
            # A template made from another container frames its header differently from the packets.
            extradata = plain.streams.video[0].codec_context.extradata
            streams = _add_streams(out, template, source, info, form)
            if template is not plain.streams.video[0]:
                streams[-1].codec_context.extradata = extradata
            end = float(packets.end * form.time_base) if part else None
            if source is not None:
                out.metadata.update({k: v for k, v in source.metadata.items() if k.lower() not in _TECHNICAL})
                _add_chapters(out, source, end)
            out.start_encoding()
            copied = _copied(source, streams, end)
            _merge(out, packets(lead=name != "matroska"), streams[-1], copied)
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


def _add_streams(out: Any, template: Any, source: Any, info: VideoInfo, form: Format) -> Dict[int, Any]:
    """The streams of the result, by index in the source; the enlarged one is -1."""
    streams: Dict[int, Any] = {}
    for stream in source.streams if source is not None else ():
        if stream.index == info.index:
            streams[-1] = _add_video(out, template, form, stream)
        elif _is_chapter_track(stream, source):
            continue
        else:
            reason = _refusal(stream, CONTAINERS[form.container])
            if reason is None:
                streams[stream.index] = pyav.add_copy(out, stream)
            else:
                _say_left_out(stream, form.container, reason)
    if -1 not in streams:
        streams[-1] = _add_video(out, template, form, None)
    return streams


def _add_video(out: Any, template: Any, form: Format, original: Any) -> Any:
    video = pyav.add_copy(out, template)
    context = video.codec_context
    context.sample_aspect_ratio = form.sar
    context.color_range, context.colorspace = form.colour.range, form.colour.matrix
    context.color_primaries, context.color_trc = form.colour.primaries, form.colour.transfer
    video.time_base = form.time_base
    if form.encoder == "libx265" and form.container in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # the one that Apple's players take
    if original is not None:
        video.metadata.update({k: v for k, v in original.metadata.items() if k.lower() not in _TECHNICAL})
        try:
            video.disposition = original.disposition
        except (AttributeError, TypeError):
            pass
    return video


def _is_chapter_track(stream: Any, source: Any) -> bool:
    """MP4 keeps chapters a second time, as a track of texts; writing chapters writes that track, too."""
    named = getattr(stream.codec_context, "name", "") if stream.codec_context is not None else ""
    return stream.type == "data" and named in ("", "bin_data") and bool(pyav.get_chapters(source)) and (
        source.format.name.startswith("mov")
    )  # fmt: skip


def _refusal(stream: Any, container: str) -> Optional[str]:
    """Why a stream cannot be copied into such a container, None if it can: tried out in memory."""
    try:
        trial = pyav.load().open(io.BytesIO(), "w", format=container)
        pyav.add_copy(trial, stream)
        trial.start_encoding()
    except _REFUSALS as error:
        return reason_of(error)
    try:
        trial.close()
    except _REFUSALS:
        pass
    return None


def _say_left_out(stream: Any, container: str, reason: str) -> None:
    codec = getattr(stream.codec_context, "name", None) or getattr(stream, "name", None) or "unknown"
    advice = " --container mkv holds nearly everything." if container != "mkv" else ""
    notice(
        logger,
        "video.left_out",
        f"Stream {stream.index} ({stream.type}, {codec}) cannot be copied into {container} and is left out: {reason}."
        + advice,
        index=stream.index,
        type=stream.type,
        codec=codec,
        container=container,
        reason=reason,
    )


def _add_chapters(out: Any, source: Any, end: Optional[float]) -> None:
    pyav.say_without_chapters(out)
    chapters = [
        chapter
        for chapter in pyav.get_chapters(source)
        if end is None or chapter["start"] * (chapter["time_base"] or Fraction(1)) < end
    ]
    if not chapters:
        return
    try:
        pyav.set_chapters(out, chapters)
    except _REFUSALS as error:
        notice(
            logger,
            "video.chapters_failed",
            f"The chapters cannot be copied: {reason_of(error)}.",
            reason=reason_of(error),
        )


def _copied(source: Any, streams: Dict[int, Any], end: Optional[float]) -> Iterator[Tuple[float, Any]]:
    """The packets of the other streams, each with its time in seconds."""
    wanted = [source.streams[index] for index in streams if index >= 0] if source is not None else []
    wanted = [stream for stream in wanted if stream.type != "attachment"]
    if not wanted:
        return
    last: Dict[int, int] = {}
    offset: Dict[int, int] = {}
    for packet in source.demux(*wanted):
        index = packet.stream.index
        if packet.dts is None and packet.pts is None:
            continue
        ticks = (packet.pts if packet.dts is None else packet.dts) + offset.get(index, 0)
        if index in last and ticks < last[index] - 1 / packet.time_base:
            # The clock of the recording started anew; the frames go on, and so does this stream.
            offset[index] = offset.get(index, 0) + last[index] + (packet.duration or 1) - ticks
            ticks = last[index] + (packet.duration or 1)
        if packet.pts is not None:
            packet.pts += offset.get(index, 0)
        packet.dts = last[index] = ticks
        moment = float(ticks * packet.time_base)
        if end is None or moment < end:
            packet.stream = streams[index]
            yield moment, packet


def _merge(out: Any, video: Iterator[Any], stream: Any, others: Iterator[Tuple[float, Any]]) -> None:
    """Write all packets in the order of their times."""
    other = next(others, None)
    for packet in video:
        moment = float(packet.dts * packet.time_base)
        while other is not None and other[0] <= moment:
            out.mux(other[1])
            other = next(others, None)
        packet.stream = stream
        out.mux(packet)
    while other is not None:
        out.mux(other[1])
        other = next(others, None)
