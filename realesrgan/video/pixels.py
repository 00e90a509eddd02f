"""Decoded frames to the arrays that the network accepts, and its results to frames that an encoder accepts.

Both ways go through one swscale filter with exact rounding and full chroma resolution, told the matrix and the range on
both sides: measured against floating point, a channel of YUV is off by half a level (one in full range).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Callable, List, Optional, Tuple

import cv2
import numpy as np

from . import pyav
from .probe import Colour, VideoInfo
from .pyav import VideoError

__all__ = ["FromPixels", "ToPixels", "checksum", "matrix_name", "same_picture", "to_pixels"]

_MATRICES = {1: "bt709", 4: "fcc", 5: "smpte170m", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_RANGES = {pyav.LIMITED_RANGE: "limited", pyav.FULL_RANGE: "full"}
_FLAGS = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
#: (alpha, 16 bit) -> the packed format that lies in memory as OpenCV's arrays do.
_PACKED = {(False, False): "bgr24", (False, True): "bgr48le", (True, False): "bgra", (True, True): "bgra64le"}


def matrix_name(matrix: int) -> str:
    """The filter's name of a colour matrix.

    Raises:
        VideoError: There is no conversion for it.
    """
    if matrix not in _MATRICES:
        raise VideoError(
            f"The video's colour matrix (number {matrix} of ITU-T H.273) cannot be converted; possible are "
            "BT.601, BT.709, BT.2020, FCC and SMPTE 240M. Convert the video to one of them first.",
            code="video.matrix",
            matrix=matrix,
        )
    return _MATRICES[matrix]


class _Scaler:
    """One filter graph: frames of one shape and format in, of another out."""

    def __init__(self, source: Tuple[int, int, str], target: Tuple[int, int, str], options: str, sar: Fraction) -> None:
        graph = pyav.load().filter.Graph()
        parts = [
            graph.add(
                "buffer", f"video_size={source[0]}x{source[1]}:pix_fmt={source[2]}:time_base=1/1:pixel_aspect=1/1"
            ),
            graph.add("scale", f"w={target[0]}:h={target[1]}:{options}:{_FLAGS}"),
            graph.add("setsar", f"sar={sar.numerator}/{sar.denominator}"),  # some codecs keep it frame by frame
            graph.add("format", f"pix_fmts={target[2]}"),
            graph.add("buffersink"),
        ]
        for first, second in zip(parts, parts[1:]):
            first.link_to(second)
        graph.configure()
        self._graph, self._source, self._sink = graph, parts[0], parts[-1]

    def __call__(self, frame: Any) -> Any:
        self._source.push(frame)
        return self._sink.pull()


class ToPixels:
    """Frames to arrays. To be used by one thread.

    Args:
        width, height: Of the arrays; a frame of another size is brought to it.
        is_rgb: Whether the frames are RGB already.
        colour: What their values mean.
        alpha, deep: Whether the arrays contain alpha, and 16 bits a value.
    """

    def __init__(self, width: int, height: int, *, is_rgb: bool, colour: Colour, alpha: bool, deep: bool) -> None:
        self._size = width, height
        self._format = _PACKED[alpha, deep]
        self._deep, self._channels = deep, 4 if alpha else 3
        options = "out_range=full"
        if not is_rgb:
            options = f"in_color_matrix={matrix_name(colour.matrix)}:in_range={_RANGES[colour.range]}:out_range=full"
        self._options = options
        self._scaler: Optional[_Scaler] = None
        self._shape: Optional[Tuple[int, int, str]] = None

    def __call__(self, frame: Any) -> np.ndarray:
        """HxWx3 BGR or HxWx4 BGRA, uint8 or uint16 over its whole range."""
        shape = frame.width, frame.height, frame.format.name
        if self._scaler is None or shape != self._shape:
            self._scaler = _Scaler(shape, (*self._size, self._format), self._options, Fraction(1))
            self._shape = shape
        plane = self._scaler(frame).planes[0]
        width, height = self._size
        dtype = np.uint16 if self._deep else np.uint8
        row = width * self._channels * np.dtype(dtype).itemsize
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, :row]
        return np.ascontiguousarray(rows).view(dtype).reshape(height, width, self._channels)


def to_pixels(info: VideoInfo, form: Any) -> Callable[[Any], Any]:
    """What turns the pictures of a source into arrays, for a :class:`~realesrgan.video.encoding.Format`."""
    if info.index < 0:
        return lambda pixels: pixels[:, :, :3] if pixels.shape[2] == 4 and not form.alpha else pixels
    return ToPixels(info.width, info.height, is_rgb=info.is_rgb, colour=info.colour, alpha=form.alpha, deep=form.deep)


class FromPixels:
    """Arrays to frames for the encoder. To be used by one thread.

    Args:
        width, height: Of the frames. An array that is smaller is continued by its edge, which is how odd sizes come to
            the even ones that an encoder wants.
        pix_fmt: Of the frames.
        colour: What their values are to mean; the matrix counts for YUV formats only.
        sar: Width of a pixel over its height.
    """

    def __init__(self, width: int, height: int, pix_fmt: str, colour: Colour, sar: Fraction = Fraction(1)) -> None:
        self._sar = sar
        self._target = width, height, pix_fmt
        self._options = "in_range=full"
        if not pyav.load().VideoFormat(pix_fmt).is_rgb:
            self._options += f":out_color_matrix={matrix_name(colour.matrix)}:out_range={_RANGES[colour.range]}"
        self._scaler: Optional[_Scaler] = None
        self._packed = ""

    def __call__(self, pixels: np.ndarray) -> Any:
        width, height, _ = self._target
        if pixels.shape[:2] != (height, width):
            down, right = height - pixels.shape[0], width - pixels.shape[1]
            pixels = np.asarray(cv2.copyMakeBorder(pixels, 0, down, 0, right, cv2.BORDER_REPLICATE))
        packed = _PACKED[pixels.shape[2] == 4, pixels.dtype == np.uint16]
        if self._scaler is None or packed != self._packed:
            self._scaler, self._packed = (
                _Scaler((width, height, packed), self._target, self._options, self._sar),
                packed,
            )
        return self._scaler(_wrap(pixels, packed))


def _wrap(pixels: np.ndarray, packed: str) -> Any:
    height, width = pixels.shape[:2]
    frame = pyav.load().VideoFrame(width, height, packed)
    plane = frame.planes[0]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    if plane.line_size != rows.shape[1] or plane.buffer_size != rows.size:
        padded = np.zeros((plane.buffer_size // plane.line_size, plane.line_size), np.uint8)
        padded[:height, : rows.shape[1]] = rows
        rows = padded
    plane.update(rows)
    return frame


def _visible(picture: Any) -> List[np.ndarray]:
    """The bytes of a frame (or array) that are part of its picture."""
    if isinstance(picture, np.ndarray):
        return [picture]
    form, found = picture.format, []
    for number, plane in enumerate(picture.planes):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        # Bytes beyond the width are whatever was in memory. Where it is not plain how many count, all do.
        size = plane.line_size
        if len(picture.planes) == 1:
            pairs = picture.width % 2 if form.chroma_width(2) == 1 else 0  # two pixels share their colour
            size = -(-(picture.width + pairs) * form.padded_bits_per_pixel // 8) or size
        elif not form.has_palette:
            parts = [part for part in form.components if part.plane == number]
            size = sum((1 if part.bits <= 8 else 2) * part.width for part in parts) or size
        found.append(rows[: plane.height, : min(size, plane.line_size)])
    return found


def same_picture(first: Any, second: Any) -> bool:
    """Whether two frames, or two arrays, contain exactly the same picture."""
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return bool(np.array_equal(first, second))
    shapes = [(frame.format.name, frame.width, frame.height, len(frame.planes)) for frame in (first, second)]
    if shapes[0] != shapes[1]:
        return False
    return all(np.array_equal(a, b) for a, b in zip(_visible(first), _visible(second)))


def checksum(picture: Any) -> int:
    """A number that tells one picture from another."""
    import zlib

    value = 0
    for rows in _visible(picture):
        value = zlib.crc32(np.ascontiguousarray(rows).reshape(-1).data, value)
    return value
