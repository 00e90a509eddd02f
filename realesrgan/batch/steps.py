"""One picture file through its three steps: read (in a thread), enhance (with the device), write (in a thread)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Protocol, Tuple

import numpy as np

from .. import files
from ..files import alpha, naming
from ..files.picture import os_failure
from ..inference import arrays as image
from . import report
from .plan import BatchOptions, Job

__all__ = [
    "Enhanced",
    "Loaded",
    "Upscaler",
    "Written",
    "details",
    "enhance",
    "finished",
    "read",
    "size",
    "text",
    "write",
]

Progress = Callable[[int, int], None]


class Upscaler(Protocol):
    """What a batch needs of the thing that enlarges. ``last_run`` and ``scale`` are read if they exist.

    Anything of this shape will do: the class of this package, a face enhancer around it, or a stand-in that hands the
    pictures to a child process. ``enhance`` raises :class:`~realesrgan.errors.DeviceLostError` when it is of no use
    any more, and any other exception when this one picture could not be done.
    """

    def enhance(
        self,
        img: np.ndarray,
        outscale: Optional[float] = None,
        alpha_upsampler: str = "realesrgan",
        *,
        progress: Optional[Progress] = None,
    ) -> Tuple[np.ndarray, str]:
        """See :meth:`realesrgan.inference.upsampler.RealESRGANer.enhance`."""
        ...

    def describe(self) -> Mapping[str, object]:
        """See :meth:`realesrgan.inference.upsampler.RealESRGANer.describe`."""
        ...


@dataclass(frozen=True)
class Loaded:
    """A picture that was read, the suffix of its result, and what its file was like when it was read."""

    picture: files.PictureFile
    extension: str
    input_bytes: int
    input_mtime_ns: int

    @property
    def nbytes(self) -> int:
        return int(self.picture.pixels.nbytes)

    def known(self) -> Dict[str, Any]:
        """What a record says of the input."""
        return {
            "input_bytes": self.input_bytes,
            "input_mtime_ns": self.input_mtime_ns,
            "input_size": size(self.picture.pixels),
        }


@dataclass(frozen=True)
class Enhanced:
    """A result that waits to be written."""

    output: Path
    pixels: np.ndarray
    mode: str
    metadata: Optional[files.Metadata]


@dataclass(frozen=True)
class Written:
    """A file that exists: size, time and hash as the report keeps them, and what its format could not contain."""

    output_bytes: int
    output_mtime_ns: int
    output_hash: str
    notes: Tuple[str, ...]


def read(job: Job, options: BatchOptions, stopped: Optional[Callable[[], bool]] = None) -> Loaded:
    """Read a picture and choose the format of its result.

    Raises:
        PictureError: It cannot be read.
    """
    path = job.source.path
    try:
        size, changed = report.fingerprint(path)
    except OSError as error:
        raise os_failure(path, error, "read") from error
    limit = {} if options.max_pixels is None else {"max_pixels": options.max_pixels}
    picture = files.read(path, accept_truncated=options.accept_truncated, stopped=stopped, **limit)
    depth = 8 * picture.pixels.dtype.itemsize
    extension = naming.choose_extension(options.extension, path, picture.mode, depth)
    return Loaded(picture, extension, size, changed)


def enhance(
    upscaler: Upscaler, picture: files.PictureFile, options: BatchOptions, progress: Optional[Progress] = None
) -> Tuple[np.ndarray, str]:
    """Enlarge a picture, by the rules for files: colour bled under transparency, constant alpha left out of it.

    Returns:
        Pixels as :func:`files.write` accepts them, and their mode (``L``, ``LA``, ``RGB`` or ``RGBA``).
    """
    pixels = picture.pixels
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return upscaler.enhance(pixels, options.outscale, options.alpha_upsampler, progress=progress)
    constant = options.alpha_bleed and alpha.is_constant(pixels[:, :, 3])
    if options.alpha_bleed and not constant:
        pixels = alpha.bleed(pixels)
    if picture.mode == "LA":
        return _grey_with_alpha(upscaler, pixels, constant, options, progress), "LA"
    if not constant:
        return upscaler.enhance(pixels, options.outscale, options.alpha_upsampler, progress=progress)
    color, _ = upscaler.enhance(
        np.ascontiguousarray(pixels[:, :, :3]), options.outscale, options.alpha_upsampler, progress=progress
    )
    return _join(color, pixels[0, 0, 3]), "RGBA"


def _grey_with_alpha(
    upscaler: Upscaler, pixels: np.ndarray, constant: bool, options: BatchOptions, progress: Optional[Progress]
) -> np.ndarray:
    """Grey and alpha as two single channels: grey's luma is then taken in float, before quantising."""
    through_network = not constant and options.alpha_upsampler == "realesrgan"
    passes = 2 if through_network else 1

    def report_pass(number: int) -> Optional[Progress]:
        if progress is None:
            return None
        told = progress
        return lambda done, total: told(number * total + done, passes * total)

    grey, _ = upscaler.enhance(
        np.ascontiguousarray(pixels[:, :, 0]), options.outscale, options.alpha_upsampler, progress=report_pass(0)
    )
    if constant:
        return _join(grey, pixels[0, 0, 3])
    plane = np.ascontiguousarray(pixels[:, :, 3])
    if through_network:
        opacity, _ = upscaler.enhance(plane, options.outscale, options.alpha_upsampler, progress=report_pass(1))
    else:
        scale = int(getattr(upscaler, "scale", 4))
        opacity = np.empty((plane.shape[0] * scale, plane.shape[1] * scale), plane.dtype)
        image.resize_alpha(image.Plane(plane, float(np.iinfo(plane.dtype).max)), scale, opacity)
        opacity = image.resize(opacity, grey.shape[1], grey.shape[0])
    return _join(grey, opacity)


def _join(color: np.ndarray, opacity: Any) -> np.ndarray:
    """BGRA from colour or grey and an alpha plane or value."""
    out = np.empty((*color.shape[:2], 4), color.dtype)
    out[:, :, :3] = color if color.ndim == 3 else color[:, :, None]
    out[:, :, 3] = opacity
    return out


def write(item: Enhanced, options: BatchOptions) -> Written:
    """Write a result; afterwards the whole file exists, or none.

    Raises:
        PictureError: It cannot be written.
    """
    notes = files.write(
        item.output,
        item.pixels,
        mode=item.mode,
        metadata=item.metadata,
        quality=options.jpeg_quality,
        compression=options.png_compression,
    )
    return Written(*report.fingerprint(item.output), report.content_hash(item.output), tuple(notes))


def finished(record: report.Record, written: Written) -> report.Record:
    """The record of a picture whose result exists."""
    result = {name: value for name, value in vars(written).items() if name != "notes"}
    return replace(record, notes=record.notes + written.notes, **result)


def details(upscaler: Upscaler) -> Mapping[str, Any]:
    """What a record says of the run that just ended; names that an upscaler does not know are left out."""
    described = upscaler.describe()
    last = getattr(upscaler, "last_run", None)
    tile = getattr(last, "tile", None)
    return {
        "device": text(described.get("device")),
        "model": text(described.get("model")),
        "weights": text(described.get("weights_source")),
        "precision": text(getattr(last, "precision", None) or described.get("precision")),
        "tile": None if tile is None else (int(tile[1]), int(tile[0])),
        "tile_pad": getattr(last, "tile_pad", None),
        "tiles": getattr(last, "tiles", None),
    }


def size(pixels: np.ndarray) -> Tuple[int, int]:
    """Width and height."""
    return int(pixels.shape[1]), int(pixels.shape[0])


def text(value: object) -> Optional[str]:
    """``str(value)``; None stays None."""
    return None if value is None else str(value)
