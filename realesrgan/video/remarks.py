"""What is said of a video and of its result before anything is computed."""

from __future__ import annotations

import logging
from typing import Any, Dict, Tuple

from ..errors import notice
from . import pyav
from .encoding import CODECS, EncoderChoice, Format
from .probe import VideoInfo, say_interlaced
from .streams import say_what_is_left_out

__all__ = ["say_what_to_know"]

logger = logging.getLogger(__name__)

#: Beyond this many pixels few players decode H.264.
_H264_PIXELS = 4096 * 2304


def say_what_to_know(info: VideoInfo, form: Format, size: Tuple[int, int], choice: EncoderChoice) -> None:
    """Say everything that the user may want to change before hours of work.

    Args:
        size: Width and height of the enlarged frames, before they are made even.
    """
    path = str(info.path)
    for note in info.notes:
        fields: Dict[str, Any] = {"path": path, **note.fields}
        notice(logger, note.code, f"{path}: {note.sentence}", **fields)
    if info.interlaced:
        say_interlaced(info.path)
    if info.assumed:
        matrix = {1: "BT.709", 6: "BT.601"}[info.colour.matrix]
        notice(
            logger,
            "video.assumed_colour",
            f"{path} does not say what its colours mean: taken as {matrix}, as players do for its size. The result "
            "says so.",
            level=logging.INFO,
            path=path,
            matrix=matrix,
        )
    _say_of_result(info, form, size, path)
    usual = CODECS[choice.codec].container
    say_what_is_left_out(info, form.container, chosen=choice.container == "auto" and form.container != usual)


def _say_of_result(info: VideoInfo, form: Format, size: Tuple[int, int], path: str) -> None:
    width, height = size
    if (form.width, form.height) != (width, height):
        notice(
            logger,
            "video.even",
            f"{form.pix_fmt} takes even sizes only: the result of {width}x{height} is continued by its edge to "
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
