"""From an array as OpenCV reads it to what the network needs, and back to the same kind of array."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional, Tuple

import cv2
import numpy as np

from ..errors import InputError
from .tiling import Box, Canvas

__all__ = ["LUMA", "Picture", "Plane", "Rows", "allocate", "decode", "resize", "resize_alpha"]

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in a grey value."""
_LONGEST = 2**31 - 1
"""Pixels of the longer side of a result, as OpenCV counts them."""
_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Plane:
    """What goes through the network at once: a colour picture or a single channel, in its stored type.

    Attributes:
        pixels: HxWx3 in BGR order, or HxW; uint8, uint16 or floating.
        max_value: The value that means 1.0.
    """

    pixels: np.ndarray
    max_value: float

    @property
    def is_grey(self) -> bool:
        return self.pixels.ndim == 2

    def crop(self, canvas: Canvas, box: Box) -> np.ndarray:
        """The pixels of ``box`` as a contiguous array of the stored type, reflected where it leaves the picture."""
        if box.y1 <= canvas.height and box.x1 <= canvas.width:
            return np.ascontiguousarray(self.pixels[box.slices])
        rows, columns = np.array(canvas.rows(box)), np.array(canvas.columns(box))
        # What lies in the picture is a plain copy; reading by indices is many times slower.
        height, width = min(box.y1, canvas.height) - box.y0, min(box.x1, canvas.width) - box.x0
        result = np.empty((box.height, box.width, *self.pixels.shape[2:]), self.pixels.dtype)
        result[:height, :width] = self.pixels[box.y0 : box.y0 + height, box.x0 : box.x0 + width]
        result[:height, width:] = self.pixels[box.y0 : box.y0 + height, columns[width:]]
        result[height:] = self.pixels[rows[height:]][:, columns]
        return result

    def unit(self, pixels: np.ndarray) -> np.ndarray:
        """Stored values as float32, 0..1."""
        return pixels.astype(np.float32) / np.float32(self.max_value)

    def rgb(self, pixels: np.ndarray) -> np.ndarray:
        """Stored values as 3xHxW RGB, float32, 0..1, three times the same where the plane is grey; may be a view."""
        unit = self.unit(pixels)
        return np.stack((unit, unit, unit)) if self.is_grey else unit[:, :, ::-1].transpose(2, 0, 1)


@dataclass(frozen=True)
class Rows:
    """Finished rows of a tile, on the host.

    Attributes:
        row: The first one, counted from the top of what the tile writes, in pixels of the result.
        pixels: HxWx3 BGR or HxW grey, of the result's type or in floats that it accepts.
        health: With the last rows of a tile: whether the tile contains NaN or infinity, and its brightest value; else
            None.
    """

    row: int
    pixels: np.ndarray
    health: Optional[Tuple[bool, float]] = None

    def into(self, target: np.ndarray) -> None:
        """Copy the pixels into their place in a result."""
        with np.errstate(invalid="ignore"):  # NaN is judged by ``health``; numpy need not remark on it
            target[...] = self.pixels


@dataclass(frozen=True)
class Picture:
    """A decoded input.

    Attributes:
        color: The colour or grey plane.
        alpha: The alpha plane (HxW), or None.
        mode: ``"L"``, ``"RGB"`` or ``"RGBA"``.
        depth: Bits of a value in the result, 8 or 16.
    """

    color: Plane
    alpha: Optional[Plane]
    mode: str
    depth: int

    @property
    def height(self) -> int:
        return int(self.color.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.color.pixels.shape[1])

    def size_at(self, outscale: float) -> Tuple[int, int]:
        """Width and height of the result, ``outscale`` times those of the picture, rounded down.

        Raises:
            InputError: ``outscale`` is no number above 0, or too large.
        """
        if not (isinstance(outscale, (int, float, np.number)) and math.isfinite(outscale) and outscale > 0):
            raise InputError(
                f"outscale is {outscale!r}; it must be a number above 0, for example 2 or 3.5.", code="outscale"
            )
        width, height = float(self.width) * float(outscale), float(self.height) * float(outscale)
        if max(width, height) > _LONGEST:
            raise InputError(
                f"outscale is {outscale!r}: a side of {max(width, height):.3g} pixels is more than {_LONGEST}. Use a "
                "smaller outscale.",
                code="outscale.large",
                outscale=outscale,
                side=f"{max(width, height):.3g}",
                limit=_LONGEST,
            )
        return max(int(width), 1), max(int(height), 1)


def decode(img: np.ndarray) -> Picture:
    """Take an array apart, without copying it where it is of a usual type.

    Args:
        img: HxW or HxWx1 grey, HxWx3 BGR or HxWx4 BGRA; uint8, uint16, or other numbers of 0..255 (0..65535 when their
            maximum is over 256). The depth of a uint8 or uint16 array is that of its type, whatever its values.

    Raises:
        InputError: Another shape or type, no pixels, or a floating array with NaN or infinity.
    """
    if not isinstance(img, np.ndarray):
        raise InputError(
            f"enhance() accepts a numpy array (HxW, HxWx3 BGR or HxWx4 BGRA), not {type(img).__name__}. "
            "A file that cannot be read gives None in OpenCV: check the path.",
            code="image.array",
            type=type(img).__name__,
        )
    if img.ndim not in (2, 3) or (img.ndim == 3 and img.shape[2] not in _CHANNELS) or 0 in img.shape:
        raise InputError(
            f"The picture has shape {img.shape}; allowed are (height, width), (height, width, 3) in BGR order and "
            "(height, width, 4) in BGRA order, with at least one pixel.",
            code="image.shape",
            shape=str(img.shape),
        )
    if not img.dtype.isnative:
        img = img.astype(img.dtype.newbyteorder("="))
    depth = _depth(img)
    if img.dtype.kind in "bi" or img.dtype.itemsize > 4:
        img = img.astype(np.float32)
    max_value = float(2**depth - 1)
    if img.ndim == 3 and img.shape[2] == 1:
        img = img[:, :, 0]
    if img.ndim == 2:
        return Picture(Plane(img, max_value), None, "L", depth)
    if img.shape[2] == 3:
        return Picture(Plane(img, max_value), None, "RGB", depth)
    return Picture(Plane(img[:, :, :3], max_value), Plane(img[:, :, 3], max_value), "RGBA", depth)


def _depth(img: np.ndarray) -> int:
    if img.dtype == np.uint8:
        return 8
    if img.dtype == np.uint16:
        return 16
    if img.dtype.kind not in "buif":
        raise InputError(
            f"The picture's type is {img.dtype}; allowed are uint8, uint16 and other numbers with values 0 to 255 "
            "(or to 65535). Convert it, for example with img.astype('uint8').",
            code="image.dtype",
            type=str(img.dtype),
        )
    maximum = float(np.max(img))
    if not np.isfinite(maximum) or not np.isfinite(float(np.min(img))):
        raise InputError(
            "The picture contains NaN or infinite values; allowed are numbers from 0 to 255 (or to 65535).",
            code="image.values",
        )
    return 16 if maximum > 256 else 8


def allocate(height: int, width: int, channels: int, depth: int) -> np.ndarray:
    """An unwritten array of ``height`` x ``width`` (x ``channels`` if more than one), uint8 or uint16.

    Raises:
        InputError: The machine has no room for it.
    """
    shape = (height, width) if channels == 1 else (height, width, channels)
    dtype = np.dtype(np.uint8 if depth == 8 else np.uint16)
    try:
        return np.empty(shape, dtype)
    except MemoryError:
        size = height * width * channels * dtype.itemsize / 2**30
        raise InputError(
            f"The result of {width}x{height} pixels needs {size:.1f} GiB of main memory, which this machine cannot "
            "give. Use a smaller picture or a model with a smaller scale (RealESRGAN_x2plus).",
            code="host.memory",
            width=width,
            height=height,
        ) from None


def resize(img: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize a finished picture with Lanczos over 8x8 pixels (``cv2.INTER_LANCZOS4``), type and channels kept."""
    if img.shape[:2] == (height, width):
        return img
    return np.asarray(cv2.resize(img, (width, height), interpolation=cv2.INTER_LANCZOS4))


def resize_alpha(alpha: Plane, scale: int, out: np.ndarray, rows: int = 64) -> None:
    """Enlarge an alpha plane bilinearly in float and quantise it into ``out``, a band of rows at a time.

    Args:
        alpha: HxW.
        scale: Whole factor of enlargement.
        out: ``H*scale`` x ``W*scale``, uint8 or uint16; may be a view.
        rows: Input rows a band.
    """
    height, width = alpha.pixels.shape
    for y0 in range(0, height, rows):
        y1 = min(y0 + rows, height)
        # One row of neighbours on each side is all that bilinear interpolation reads.
        top, bottom = max(y0 - 1, 0), min(y1 + 1, height)
        band = alpha.unit(alpha.pixels[top:bottom])
        band = cv2.resize(band, (width * scale, (bottom - top) * scale), interpolation=cv2.INTER_LINEAR)
        band = band[(y0 - top) * scale : (y1 - top) * scale]
        out[y0 * scale : y1 * scale] = (np.clip(band, 0, 1) * alpha.max_value).round().astype(out.dtype)
