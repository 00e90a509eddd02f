"""One video through all of it: plan, enlarge, encode, join."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from ..errors import notice
from ..files.atomic import check_replaceable
from . import pyav
from .encoding import ANIMATIONS, CODECS, EncoderChoice, Format, choose_format
from .join import join
from .journal import Journal, Lock
from .pieces import VideoPlan
from .pipeline import Work, enlarge
from .pixels import to_pixels
from .probe import VideoInfo, open_video, say_interlaced
from .pyav import VideoError, disk_error
from .shared import Crew, Done, share
from .source import Anchor, Shot, mark_repeats, resample
from .streams import KEPT, refusals, say_what_is_left_out
from .tasks import part_path, parts_folder

__all__ = ["VideoOptions", "VideoResult", "identity", "part_path", "parts_folder", "plan", "process", "to_pixels"]


logger = logging.getLogger(__name__)

#: Beyond this many pixels few players decode H.264.
_H264_PIXELS = 4096 * 2304


@dataclass(frozen=True)
class VideoOptions:
    """How a video is enlarged.

    Attributes:
        outscale: How many times larger.
        fps: Frames a second of the result; None keeps the input's time stamps.
        encoder: Codec, quality and container.
        segment: Frames in a segment; one also ends after ``segment_seconds`` of work.
        skip_repeats: Compute consecutive frames that are exactly the same only once.
        alpha_upsampler: As :meth:`realesrgan.RealESRGANer.enhance` accepts it.
        identity: What else the pixels depend on (model, precision, tiles), for the journal.
        restart: Throw away what an unfinished run left.
    """

    outscale: float = 4.0
    fps: Optional[Fraction] = None
    encoder: EncoderChoice = field(default_factory=EncoderChoice)
    segment: int = 240
    segment_seconds: float = 300.0
    skip_repeats: bool = True
    alpha_upsampler: str = "realesrgan"
    identity: Mapping[str, Any] = field(default_factory=dict)
    restart: bool = False


@dataclass
class VideoResult:
    """What came of it.

    Attributes:
        frames: In the result (or in its playable part).
        computed: Frames that the network ran on now; ``repeated`` ones were the same as those before, and ``resumed``
            ones were there from an earlier run.
        dropped: Frames of the input that are missing in the result.
        concealed: Index, time in seconds and kind of each frame that is not the input's own picture.
        busy: Seconds that each stage (:data:`realesrgan.video.pipeline.STAGES`, and ``"join"``) worked.
        devices: How many enlarged it.
        device_share: Part of the wall time in which the device had work; of several the mean.
        path: The result, or the playable part if ``interrupted``; None if there is nothing to play.
    """

    frames: int = 0
    total: Optional[int] = None
    computed: int = 0
    repeated: int = 0
    resumed: int = 0
    dropped: int = 0
    concealed: List[Tuple[int, float, str]] = field(default_factory=list)
    seconds: float = 0.0
    busy: Dict[str, float] = field(default_factory=dict)
    interrupted: bool = False
    devices: int = 1
    path: Optional[Path] = None

    @property
    def device_share(self) -> float:
        return self.busy.get("network", 0.0) / self.devices / self.seconds if self.seconds else 0.0


Progress = Callable[[int, Optional[int]], None]


def process(
    source: Any,
    upsampler: Any,
    target: Path,
    options: VideoOptions,
    progress: Optional[Progress] = None,
    *,
    crew: Optional[Crew] = None,
) -> VideoResult:
    """Enlarge one video.

    Args:
        source: A :class:`~realesrgan.video.source.VideoSource` or :class:`~realesrgan.video.folder.FolderSource`.
        upsampler: Has ``enhance(img, outscale=..., alpha_upsampler=...)``.
        target: Where the result goes; its suffix must be the container's.
        progress: Called with the frames that are finished and the likely number in all.
        crew: Who enlarges instead of ``upsampler``, which is None then.

    Returns:
        What came of it; after Ctrl-C with ``interrupted``: what is finished is kept, and playable at ``path``.

    Raises:
        InputError: The options do not fit the video.
        RealESRGANError: Something failed; what is finished is kept for the next run.
    """
    begun = time.perf_counter()
    form = plan(source, options)
    _check_target(target)
    _say_what_to_know(source.info, form, _size(source.info, options), options.encoder)
    # Segments of another x264 or x265 may need another header, and there is one for all of them.
    known = {**identity(source, form, options), "version of PyAV": str(pyav.load().__version__)}
    with Lock(target):
        journal = Journal(parts_folder(target), known, restart=options.restart)
        result = VideoResult(resumed=len(journal.done()))
        if not journal.is_whole:
            work: Any
            try:
                if crew is not None:
                    work = _share(crew, source, journal, form, options, progress)
                    result.devices = work.devices
                else:
                    work = _work(source, upsampler, journal, form, options, progress)
                    enlarge(work, _shots(source, journal, form, options), _step(source, form, options))
            except VideoError as error:
                if error.code == "video.size_change":
                    _join_until(journal, source.info, form, target)
                raise
            result.computed, result.repeated = work.computed, work.repeated
            result.busy, result.interrupted = work.busy, work.interrupted
        joining = time.perf_counter()
        _join(result, journal, source.info, form, target)
    result.dropped += int(getattr(source, "dropped", 0))
    ended = time.perf_counter()
    result.busy["join"], result.seconds = ended - joining, ended - begun
    return result


def _work(
    source: Any, upsampler: Any, journal: Journal, form: Format, options: VideoOptions, progress: Optional[Progress]
) -> Work:
    return Work(
        upsampler=upsampler,
        to_pixels=to_pixels(source.info, form),
        form=form,
        journal=journal,
        outscale=options.outscale,
        alpha_upsampler=options.alpha_upsampler,
        segment=options.segment,
        segment_seconds=options.segment_seconds,
        progress=progress,
        likely=_likely(source.info, options),
    )


def _share(
    crew: Crew, source: Any, journal: Journal, form: Format, options: VideoOptions, progress: Optional[Progress]
) -> Done:
    likely = _likely(source.info, options)
    video = VideoPlan(
        source=source,
        sizes=tuple(path.stat().st_size for path in source.files),
        form=form,
        fps=options.fps,
        folder=journal.folder.resolve(),
        outscale=options.outscale,
        alpha_upsampler=options.alpha_upsampler,
        segment=crew.segment(options.segment, likely),
        segment_seconds=options.segment_seconds,
        skip_repeats=options.skip_repeats,
        pyav=str(pyav.load().__version__),
    )
    return share(crew, video, _step(source, form, options), journal, progress, likely)


def _check_target(target: Path) -> None:
    """See before the work that a former result can be replaced.

    Raises:
        VideoError: It is read-only, or a player holds it open.
    """
    try:
        check_replaceable(target)
    except OSError as error:
        raise disk_error(error, target) or error from error


def plan(source: Any, options: VideoOptions) -> Format:
    """What the result is encoded as; see :func:`realesrgan.video.encoding.choose_format`.

    Where mp4 is the usual container and cannot store a sound or subtitle stream, it is mkv.
    """
    info = source.info
    rate = options.fps or info.rate or Fraction(25)
    time_base = info.time_base
    if options.fps is not None:
        # Fine enough for the first time stamp, and exact for the rate.
        time_base = Fraction(1, rate.numerator * math.ceil(90000 / rate.numerator))
    form = choose_format(options.encoder, info, _size(info, options), time_base, rate)
    free = options.encoder.container == "auto" and form.container == "mp4"
    loses = free and any(refusal.type in KEPT for refusal in refusals(info, "mp4"))
    return replace(form, container="mkv") if loses else form


def _size(info: Any, options: VideoOptions) -> Tuple[int, int]:
    return int(info.width * options.outscale), int(info.height * options.outscale)


def _shots(source: Any, journal: Journal, form: Format, options: VideoOptions) -> Iterator[Shot]:
    if options.fps is not None:
        shots = resample(source.shots(), source.info.time_base, form.time_base, options.fps, source.step)
        return mark_repeats(shots, options.skip_repeats)
    ordered = journal.ordered()
    anchor = None
    if ordered and ordered[-1].anchor is not None:
        anchor = Anchor(ordered[-1].end - 1, *ordered[-1].anchor)
    return mark_repeats(source.shots(anchor), options.skip_repeats)


def _step(source: Any, form: Format, options: VideoOptions) -> int:
    """Ticks that the last frame lasts."""
    return int(source.step) if options.fps is None else round(1 / options.fps / form.time_base)


def _likely(info: Any, options: VideoOptions) -> Optional[int]:
    if options.fps is not None and info.duration:
        return round(float(info.duration * options.fps))
    return info.frames if info.frames is None else int(info.frames)


def identity(source: Any, form: Format, options: VideoOptions) -> Dict[str, Any]:
    """What the frames of the result depend on, as plain values."""
    path = source.info.path
    status = path.stat()
    found: Dict[str, Any] = {
        "input": [path.name, 0 if path.is_dir() else status.st_size, status.st_mtime_ns],
        "encoding": form.described(),
        "outscale": options.outscale,
        "fps": str(options.fps),
        "alpha_upsampler": options.alpha_upsampler,
    }
    found.update(options.identity)
    return found


def _join(result: VideoResult, journal: Journal, info: Any, form: Format, target: Path) -> None:
    segments = journal.ordered()
    result.total = journal.total
    result.concealed = [
        (index, float(pts * form.time_base), kind) for segment in segments for index, pts, kind in segment.concealed
    ]
    whole = journal.is_whole and bool(segments)
    if not whole and not result.interrupted:
        raise VideoError(
            f"Frames are missing in the middle of {target}, which is not written. Start again with --restart.",
            code="video.incomplete",
            path=str(target),
        )
    if not segments:
        return
    result.path = target if whole else part_path(target)
    result.frames = join(journal.folder, segments, info, form, result.path, part=not whole)
    if whole:
        result.dropped = (journal.total or 0) - result.frames
        journal.remove()
        try:
            part_path(target).unlink()
        except OSError:
            pass


def _join_until(journal: Journal, info: VideoInfo, form: Format, target: Path) -> None:
    """Make what is finished playable, where the rest cannot be done."""
    segments = journal.ordered()
    if not segments:
        return
    path = part_path(target)
    frames = join(journal.folder, segments, info, form, path, part=True)
    notice(
        logger,
        "video.until_there",
        f"The {frames} frames before that are in {path}.",
        frames=frames,
        path=str(path),
    )


def _say_what_to_know(info: VideoInfo, form: Format, size: Tuple[int, int], choice: EncoderChoice) -> None:
    """Say everything that the user may want to change before hours of work.

    Args:
        size: Width and height of the enlarged frames, before they are made even.
    """
    path = str(info.path)
    for note in info.notes:
        notice(logger, "video.note", f"{path}: {note}.", path=path, note=note)
    if info.interlaced:
        say_interlaced(info.path)
    if info.assumed:
        matrix = {1: "BT.709", 6: "BT.601"}[info.colour.matrix]
        notice(
            logger,
            "video.assumed_colour",
            f"{path} does not say what its colours mean: assumed to be {matrix}, as players do for its size. The "
            "result says so.",
            level=logging.INFO,
            path=path,
            matrix=matrix,
        )
    _say_of_result(info, form, size, path)
    if form.container in ANIMATIONS:
        _say_pictures_only(info, form)
        return
    usual = CODECS[choice.codec].container
    say_what_is_left_out(info, form.container, chosen=choice.container == "auto" and form.container != usual)


def _say_pictures_only(info: VideoInfo, form: Format) -> None:
    if info.index < 0:
        return
    with open_video(info.path) as source:
        others = [stream for stream in source.streams if stream.index != info.index]
    if others:
        notice(
            logger,
            "video.pictures_only",
            f"A {form.container} file contains pictures only: {len(others)} other streams of {info.path} (sound, "
            "subtitles) are left out.",
            container=form.container,
            count=len(others),
            path=str(info.path),
        )


def _say_of_result(info: VideoInfo, form: Format, size: Tuple[int, int], path: str) -> None:
    width, height = size
    if (form.width, form.height) != (width, height):
        notice(
            logger,
            "video.even",
            f"{form.pix_fmt} accepts even sizes only: the result of {width}x{height} is continued by its edge to "
            f"{form.width}x{form.height}.",
            size=f"{width}x{height}",
            even=f"{form.width}x{form.height}",
            pix_fmt=form.pix_fmt,
        )
    if info.alpha and not form.alpha:
        notice(logger, "video.alpha_dropped", f"{path}: its transparency is left out.", path=path)
    if form.sar != 1 and form.container == "mkv" and form.encoder not in ("libx264", "libx265"):
        notice(
            logger,
            "video.pixel_shape",
            f"{path} has pixels of {form.sar.numerator}:{form.sar.denominator}, which Matroska is not told for this "
            "codec: players may show them square. --container mp4 keeps them.",
            path=path,
            shape=f"{form.sar.numerator}:{form.sar.denominator}",
        )
    depth = max(component.bits for component in pyav.load().VideoFormat(form.pix_fmt).components)
    if depth < info.depth:
        notice(
            logger,
            "video.depth",
            f"{path} has {info.depth} bits a value, {form.pix_fmt} keeps {depth}.",
            path=path,
            depth=info.depth,
            kept=depth,
            pix_fmt=form.pix_fmt,
        )
    if form.encoder == "libx264" and form.width * form.height > _H264_PIXELS:
        notice(
            logger,
            "video.large_h264",
            f"The result has {form.width}x{form.height} pixels: few players show H.264 of that size. --codec hevc or a "
            "smaller -s goes further.",
            width=form.width,
            height=form.height,
        )
