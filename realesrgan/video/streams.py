"""The streams beside the one that is enlarged: which the result contains, and their chapters and titles."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ..errors import Phrase, notice
from . import pyav
from .encoding import CONTAINERS, Format
from .probe import VideoInfo, is_cover, open_video
from .pyav import reason_of

__all__ = ["KEPT", "TECHNICAL", "Refusal", "add_chapters", "add_streams", "refusals", "say_what_is_left_out"]

logger = logging.getLogger(__name__)

#: Written by the container's own writer.
TECHNICAL = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration"}
#: Kinds of streams that are important: where mp4 cannot store one, the usual container is mkv.
KEPT = ("audio", "subtitle")
#: Packets in which the first one of each stream is looked for.
_EARLY = 500
#: What PyAV raises where a container cannot store something.
REFUSALS = (*pyav.FILE_ERRORS, TypeError, AttributeError, NotImplementedError)


def add_streams(out: Any, template: Any, source: Any, info: VideoInfo, form: Format) -> Dict[int, Any]:
    """The streams of the result, by index in the source; the enlarged one is -1."""
    streams: Dict[int, Any] = {}
    refused = {refusal.index for refusal in refusals(info, form.container) if not refusal.copied}
    covers = _covers(source) if form.container == "mkv" and hasattr(out, "add_attachment") else {}
    for stream in source.streams if source is not None else ():
        if stream.index == info.index:
            streams[-1] = _add_video(out, template, form, stream)
        elif stream.index in covers:
            suffix = {"mjpeg": "jpg"}.get(stream.codec_context.name, stream.codec_context.name)
            out.add_attachment(f"cover.{suffix}", f"image/{suffix.replace('jpg', 'jpeg')}", covers[stream.index])
        elif not _is_chapter_track(stream, source) and stream.index not in refused:
            streams[stream.index] = pyav.add_copy(out, stream)
    if -1 not in streams:
        streams[-1] = _add_video(out, template, form, None)
    return streams


def _covers(source: Any) -> Dict[int, bytes]:
    """The cover pictures, as files: Matroska keeps them as attachments. They come before all other packets."""
    covers = [stream for stream in source.streams if is_cover(stream)]
    if not covers:
        return {}
    with open_video(Path(source.name)) as again:
        found = _first_packets(again, [again.streams[stream.index] for stream in covers])
    return {index: bytes(packet) for index, packet in found.items()}


def _add_video(out: Any, template: Any, form: Format, original: Any) -> Any:
    video = pyav.add_copy(out, template)
    context = video.codec_context
    context.sample_aspect_ratio = form.sar
    context.color_range, context.colorspace = form.colour.range, form.colour.matrix
    context.color_primaries, context.color_trc = form.colour.primaries, form.colour.transfer
    pyav.set_time_base(video, form.time_base)
    if form.encoder == "libx265" and form.container in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # the one that Apple's players take
    if original is not None:
        video.metadata.update({k: v for k, v in original.metadata.items() if k.lower() not in TECHNICAL})
        try:
            video.disposition = original.disposition
        except (AttributeError, TypeError):
            pass
    return video


def _is_chapter_track(stream: Any, source: Any) -> bool:
    """MP4 keeps chapters a second time, as a track of texts; writing chapters writes that track, too."""
    named = getattr(stream.codec_context, "name", "") if stream.codec_context is not None else ""
    return (
        stream.type == "data"
        and named in ("", "bin_data")
        and bool(pyav.get_chapters(source))
        and (source.format.name.startswith("mov"))
    )


@dataclass(frozen=True)
class Refusal:
    """A stream that a container cannot store: its number, kind and codec, and the reason.

    ``copied`` says that it can be written all the same, into a file that few programs play.
    """

    index: int
    type: str
    codec: str
    reason: Phrase
    copied: bool = False


def refusals(info: VideoInfo, container: str) -> List[Refusal]:
    """Which streams of a video a container (suffix) cannot store: each is tried out in memory with its first packet."""
    if info.index < 0:
        return []
    status = info.path.stat()
    return list(_refusals(info.path, info.index, container, (status.st_size, status.st_mtime_ns)))


@lru_cache(maxsize=16)
def _refusals(path: Path, index: int, container: str, _: Tuple[int, int]) -> Tuple[Refusal, ...]:
    found = []
    with open_video(path) as source:
        others = [
            stream for stream in source.streams if stream.index != index and not _is_chapter_track(stream, source)
        ]
        packets = _first_packets(source, others)
        for stream in others:
            codec = str(getattr(stream.codec_context, "name", None) or getattr(stream, "name", None) or "unknown")
            reason = _reason(stream, packets.get(stream.index), CONTAINERS[container])
            if reason is not None:
                found.append(Refusal(int(stream.index), str(stream.type), codec, reason))
            elif container == "mp4" and codec.startswith("pcm_"):
                few = Phrase("video.pcm", "few programs play PCM sound from mp4")
                found.append(Refusal(int(stream.index), str(stream.type), codec, few, copied=True))
    return tuple(found)


def _first_packets(source: Any, streams: List[Any]) -> Dict[int, Any]:
    """The first packet of each stream, as far as it comes early in the file."""
    missing = {stream.index for stream in streams if stream.type != "attachment"}
    found: Dict[int, Any] = {}
    try:
        for packet in islice(source.demux(), _EARLY):
            if packet.stream.index in missing and packet.size:
                missing.remove(packet.stream.index)
                found[packet.stream.index] = packet
            if not missing:
                break
    except pyav.FILE_ERRORS as error:
        logger.debug("cannot read the first packets: %s", error)
    return found


def _reason(stream: Any, packet: Any, container: str) -> Optional[Phrase]:
    """Why a stream cannot be copied into such a container, None if it can."""
    if container == "mov" and is_cover(stream):
        return Phrase(
            "video.no_covers", "no cover pictures are possible there"
        )  # its writer leaves them out without an error
    try:
        trial = pyav.load().open(io.BytesIO(), "w", format=container)
        copy = pyav.add_copy(trial, stream)
        trial.start_encoding()
        if packet is not None:
            packet.stream = copy
            if packet.dts is None:
                packet.dts = packet.pts
            trial.mux(packet)
        trial.close()
    except REFUSALS as error:
        return reason_of(error)
    return None


def say_what_is_left_out(info: VideoInfo, container: str, *, chosen: bool) -> None:
    """Say which streams of a video its result will lack, and why.

    Args:
        chosen: The container was not asked for, but chosen because mp4 cannot store some stream.
    """
    if info.index < 0:
        return
    with open_video(info.path) as source:
        pyav.say_without_chapters(source)
    for refusal in refusals(info, "mp4") if chosen else ():
        if refusal.type in KEPT and refusal.copied:
            notice(
                logger,
                "video.pcm_matroska",
                f"Stream {refusal.index} is PCM sound, which few programs play from mp4: the result comes into a "
                f"{container} file. --container mov and --container mp4 keep it, too.",
                level=logging.INFO,
                index=refusal.index,
                container=container,
            )
        elif refusal.type in KEPT:
            notice(
                logger,
                "video.matroska",
                f"mp4 cannot store stream {refusal.index} ({refusal.type}, {refusal.codec}): the result comes into a "
                f"{container} file. --container mp4 leaves the stream out instead.",
                level=logging.INFO,
                index=refusal.index,
                type=refusal.type,
                codec=refusal.codec,
                container=container,
            )
    mkv = Phrase("video.try_mkv", " --container mkv accepts nearly everything.")
    advice = mkv if container != "mkv" else ""
    for refusal in refusals(info, container):
        if refusal.copied:
            notice(
                logger,
                "video.pcm_mp4",
                f"Stream {refusal.index} ({refusal.codec}) is copied into {container}, but {refusal.reason}. "
                "--container mov or mkv is safer.",
                index=refusal.index,
                codec=refusal.codec,
                container=container,
                reason=refusal.reason,
            )
            continue
        notice(
            logger,
            "video.left_out",
            f"Stream {refusal.index} ({refusal.type}, {refusal.codec}) cannot be copied into {container} and is left "
            f"out: {refusal.reason}.{advice}",
            index=refusal.index,
            type=refusal.type,
            codec=refusal.codec,
            container=container,
            reason=refusal.reason,
            advice=advice,
        )


def add_chapters(out: Any, source: Any, end: Optional[float]) -> None:
    """Copy the chapters, those that begin before ``end`` seconds, if that is given."""
    chapters = [
        chapter
        for chapter in pyav.get_chapters(source)
        if end is None or chapter["start"] * (chapter["time_base"] or Fraction(1)) < end
    ]
    if not chapters:
        return
    try:
        pyav.set_chapters(out, chapters)
    except REFUSALS as error:
        notice(
            logger,
            "video.chapters_failed",
            f"The chapters cannot be copied: {reason_of(error)}.",
            reason=reason_of(error),
        )
