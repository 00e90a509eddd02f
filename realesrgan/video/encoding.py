"""How the enlarged frames are encoded: what the user asks for, what fits the video, and the files of segments."""

from __future__ import annotations

import io
import os
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..errors import InputError
from ..files import atomic
from . import pyav
from .probe import Colour, VideoInfo, open_video
from .pyav import VideoError, disk_error, reason_of

__all__ = [
    "ANIMATIONS",
    "CODECS",
    "CONTAINERS",
    "Codec",
    "EncoderChoice",
    "Format",
    "SegmentFile",
    "check_frames",
    "choose_format",
]

#: Suffix -> FFmpeg's name of the container.
CONTAINERS: Mapping[str, str] = MappingProxyType({"mp4": "mp4", "mkv": "matroska", "mov": "mov"})
#: Suffix of an animated picture -> its largest side.
ANIMATIONS: Mapping[str, int] = MappingProxyType({"gif": 65535, "webp": 16383})
#: So many threads decode a segment to check it: enough to keep up with an encoder, few enough to hold few frames.
_CHECKERS = 4


@dataclass(frozen=True)
class Codec:
    """A codec as the command line names it.

    Attributes:
        encoders: FFmpeg's encoders for it, best first.
        crf, preset: Defaults; None where the encoder has no such thing.
        formats: Bits of a value -> pixel format, for pictures without alpha.
        alpha: The same for pictures with alpha; empty if it cannot store any.
        container: Suffix of the usual container.
    """

    encoders: Tuple[str, ...]
    crf: Optional[int]
    preset: Optional[str]
    formats: Mapping[int, str]
    alpha: Mapping[int, str]
    container: str = "mp4"


CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        "h264": Codec(("libx264",), 18, "medium", {8: "yuv420p", 10: "yuv420p10le"}, {}),
        "hevc": Codec(("libx265",), 20, "medium", {8: "yuv420p", 10: "yuv420p10le", 12: "yuv420p12le"}, {}),
        "av1": Codec(("libsvtav1", "libaom-av1"), 24, "8", {8: "yuv420p", 10: "yuv420p10le"}, {}),
        "ffv1": Codec(
            ("ffv1",),
            None,
            None,
            {8: "yuv444p", 10: "yuv444p10le", 12: "yuv444p12le", 16: "yuv444p16le"},
            {8: "yuva444p", 10: "yuva444p10le", 12: "yuva444p12le", 16: "yuva444p16le"},
            "mkv",
        ),
    }
)


@dataclass(frozen=True)
class EncoderChoice:
    """What the user asks for; None and ``"auto"`` mean the codec's own."""

    codec: str = "h264"
    crf: Optional[int] = None
    preset: Optional[str] = None
    pix_fmt: str = "auto"
    container: str = "auto"
    drop_alpha: bool = False


@dataclass(frozen=True)
class Format:
    """Everything that an encoder is set to, and the container (suffix) that its result comes into."""

    encoder: str
    options: Tuple[Tuple[str, str], ...]
    pix_fmt: str
    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    colour: Colour
    sar: Fraction
    container: str
    deep: bool
    alpha: bool

    def described(self) -> Dict[str, Any]:
        """As plain values, for the journal."""
        return {key: str(value) if isinstance(value, Fraction) else value for key, value in asdict(self).items()}

    def apply(self, context: Any) -> None:
        """Set an encoder that is not open yet."""
        context.width, context.height, context.pix_fmt = self.width, self.height, self.pix_fmt
        context.time_base = self.time_base
        context.sample_aspect_ratio = self.sar
        context.colorspace, context.color_range = self.colour.matrix, self.colour.range
        context.color_primaries, context.color_trc = self.colour.primaries, self.colour.transfer


def choose_format(
    choice: EncoderChoice, info: VideoInfo, size: Tuple[int, int], time_base: Fraction, rate: Fraction
) -> Format:
    """Fill in what the user left open.

    Args:
        size: Width and height of the enlarged frames.

    Raises:
        InputError: The codec, the pixel format or the container do not go together, or alpha would be lost unsaid.
        VideoError: This PyAV lacks the encoder.
    """
    if choice.container in ANIMATIONS:
        return _animation(choice, info, size, time_base, rate)
    codec = CODECS[choice.codec]
    encoder = _encoder(choice.codec)
    alpha = info.alpha and not choice.drop_alpha
    if alpha and not codec.alpha and choice.pix_fmt == "auto":
        raise InputError(
            f"{info.path} has transparency, which {choice.codec} cannot store. Use --codec ffv1 (or --ext webp for a "
            "short one) to keep it, or --drop-alpha to leave it out.",
            code="video.alpha",
            path=str(info.path),
            codec=choice.codec,
        )
    pix_fmt = choice.pix_fmt if choice.pix_fmt != "auto" else _pix_fmt(codec, info, alpha)
    form = _known_format(pix_fmt, encoder)
    container = codec.container if choice.container == "auto" else choice.container
    _check_container(choice.codec, encoder, container)
    has_alpha = any(component.is_alpha for component in form.components)
    width, height = size
    if encoder != "ffv1" and not form.is_rgb and len(form.components) > 1:
        width += width % 2 if form.chroma_width(2) == 1 else 0
        height += height % 2 if form.chroma_height(2) == 1 else 0
    return Format(
        encoder=encoder,
        options=_options(encoder, codec, choice),
        pix_fmt=pix_fmt,
        width=width,
        height=height,
        time_base=time_base,
        rate=rate,
        colour=_result_colour(info, form),
        sar=info.sar,
        container=container,
        deep=max(info.depth, *(component.bits for component in form.components)) > 8,
        alpha=alpha and has_alpha,
    )


def _animation(
    choice: EncoderChoice, info: VideoInfo, size: Tuple[int, int], time_base: Fraction, rate: Fraction
) -> Format:
    """The segments of an animated picture are lossless; its own format comes when they are joined."""
    largest = ANIMATIONS[choice.container]
    if max(size) > largest:
        raise InputError(
            f"A {choice.container} file allows at most {largest}x{largest} pixels, the result has {size[0]}x{size[1]}. "
            "Give a smaller -s, or leave --ext out.",
            code="video.animation_size",
            container=choice.container,
            largest=largest,
            size=f"{size[0]}x{size[1]}",
        )
    alpha = info.alpha and not choice.drop_alpha
    return Format(
        encoder=_encoder("ffv1"),
        options=_options("ffv1", CODECS["ffv1"], choice),
        pix_fmt="bgra" if alpha else "bgr0",
        width=size[0],
        height=size[1],
        time_base=time_base,
        rate=rate,
        colour=Colour(0, pyav.FULL_RANGE, info.colour.primaries, info.colour.transfer),
        sar=info.sar,
        container=choice.container,
        deep=False,
        alpha=alpha,
    )


def _check_container(codec: str, encoder: str, container: str) -> None:
    try:
        pyav.load().open(io.BytesIO(), "w", format=CONTAINERS[container]).add_stream(encoder, rate=24)
    except ValueError:
        usual = CODECS[codec].container
        raise InputError(
            f"{container} cannot store {codec}. Use --container {usual}, or another --codec.",
            code="video.container",
            container=container,
            codec=codec,
            usual=usual,
        ) from None


def _encoder(codec: str) -> str:
    for name in CODECS[codec].encoders:
        if pyav.can_encode(name):
            return name
    there = [name for name, other in CODECS.items() if any(map(pyav.can_encode, other.encoders))]
    raise VideoError(
        f"This PyAV has no encoder for {codec}. It has: {', '.join(there)}. A newer one may have it: "
        "python -m pip install --upgrade av",
        code="video.encoder",
        codec=codec,
        there=tuple(there),
    )


def _pix_fmt(codec: Codec, info: VideoInfo, alpha: bool) -> str:
    if codec.encoders == ("ffv1",) and info.is_rgb and info.depth <= 8:
        return "bgra" if alpha else "bgr0"  # nothing is lost to YUV
    formats = codec.alpha if alpha else codec.formats
    enough = [bits for bits in sorted(formats) if bits >= info.depth]
    return formats[enough[0] if enough else max(formats)]


def _known_format(pix_fmt: str, encoder: str) -> Any:
    av = pyav.load()
    allowed = [form.name for form in av.Codec(encoder, "w").video_formats or ()]
    if pix_fmt not in allowed:
        raise InputError(
            f"{encoder} does not accept the pixel format {pix_fmt}. It accepts: {', '.join(allowed)}.",
            code="video.pix_fmt",
            value=pix_fmt,
            encoder=encoder,
            allowed=tuple(allowed),
        )
    return av.VideoFormat(pix_fmt)


def _options(encoder: str, codec: Codec, choice: EncoderChoice) -> Tuple[Tuple[str, str], ...]:
    if encoder == "ffv1":
        return (("level", "3"), ("slices", "16"), ("slicecrc", "1"))
    crf = codec.crf if choice.crf is None else choice.crf
    preset = str(codec.preset if choice.preset is None else choice.preset)
    options = [("crf", str(crf)), ("cpu-used" if encoder == "libaom-av1" else "preset", preset)]
    if encoder == "libx265":
        options.append(("x265-params", "log-level=error"))
    return tuple(options)


def _result_colour(info: VideoInfo, form: Any) -> Colour:
    colour = info.colour
    if form.is_rgb:
        return Colour(0, pyav.FULL_RANGE, colour.primaries, colour.transfer)
    if info.is_rgb:
        return Colour(1, pyav.LIMITED_RANGE, colour.primaries, colour.transfer)
    return Colour(9 if colour.matrix == 10 else colour.matrix, colour.range, colour.primaries, colour.transfer)


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
        reason = reason_of(error)
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
        """Write what the encoder still keeps, and give the file its name.

        Returns:
            The time stamps in the order of the packets, and the file's size in bytes.
        """
        self._encode(None)
        try:
            self._container.close()
            with self._partial.open("rb+") as file:
                os.fsync(file.fileno())
            atomic.replace(self._partial, self.path)
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
