"""Faces restored by GFPGAN in a picture that is enlarged by our network.

Importing this needs gfpgan and facexlib.
"""

from __future__ import annotations

import logging
import math
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np

from ... import devices
from ...errors import DeviceLostError, Phrase, RealESRGANError, TileError, as_field, notice
from .. import arrays as image
from . import weights as face_weights
from .networks import Restorer, quiet

__all__ = ["FaceEnhancer"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

_SMALLEST = 8  # pixels: facexlib leaves out faces whose eyes are closer together than 5
_LUMA = np.array([0.114, 0.587, 0.299])  # BT.601, of BGR
_STEP = 257  # levels of 16 bit to one of 8


class FaceEnhancer:
    """Enlarges pictures like the upsampler that it wraps, and restores the faces in them.

    Args:
        upsampler: A :class:`realesrgan.RealESRGANer`. It enlarges everything outside of faces.
        model: ``"GFPGANv1.3"`` or ``"GFPGANv1.4"``; None uses the one whose file is available.
        trust_weights: Use face weights whose SHA-256 is not recorded, and download those that are missing.
        progress: Called with bytes done and in all while weights are downloaded.

    Raises:
        WeightsError: Face weights are missing, not trusted, or not what they should be.
    """

    def __init__(
        self,
        upsampler: Any,
        *,
        model: Optional[str] = None,
        trust_weights: bool = False,
        progress: Optional[Progress] = None,
    ) -> None:
        self.upsampler = upsampler
        weights = face_weights.load(model, trust=trust_weights, progress=progress)
        self.face_model = weights.restorer
        self.face_weights_sha256 = weights.sha256
        device = devices.resolve(str(upsampler.describe()["device"]))
        self._restorer = Restorer(weights, device, half=bool(upsampler.half))
        self.faces = 0
        """How many faces the last picture had."""

    @property
    def scale(self) -> int:
        """The upsampler's factor."""
        return int(self.upsampler.scale)

    @property
    def last_run(self) -> Any:
        """How the last picture was computed outside of its faces: a
        :class:`realesrgan.inference.engine.RunRecord`."""
        return self.upsampler.last_run

    def describe(self) -> Dict[str, object]:
        """The upsampler's description, with the face model and the device that the face networks run on."""
        own = {"face_model": self.face_model, "face_device": self._restorer.placed_on.spec}
        return {**self.upsampler.describe(), **own, "face_weights_sha256": self.face_weights_sha256}

    def enhance(
        self,
        img: np.ndarray,
        outscale: Optional[float] = None,
        alpha_upsampler: Optional[str] = "realesrgan",
        *,
        progress: Optional[Progress] = None,
    ) -> Tuple[np.ndarray, str]:
        """Enlarge one picture and restore its faces; arguments and result are those of the upsampler.

        A picture without faces comes out as the upsampler makes it. In others, faces are restored in 8 bit, in colour,
        and blended into the enlarged picture; outside of them, alpha included, it is as the upsampler makes it.

        Raises:
            TileError: The face networks failed; no picture with an unrestored face is given out.
            RealESRGANError: As the upsampler's.
        """
        self.faces = 0
        picture = image.decode(img)
        background = _Background(self.upsampler, img, outscale, alpha_upsampler, progress)
        factor = self.scale if outscale is None else outscale
        if not _has_room(picture, factor):
            return background.full()
        restorer = self._restorer
        restorer.upscale = factor
        restorer.face_helper.set_upscale_factor(factor)
        restorer.bg_upsampler, restorer.tick = background, background.tick
        try:
            pasted = self._restore(_bytes_of(picture.color.pixels, picture.color.max_value))
        finally:
            restorer.bg_upsampler, restorer.tick = None, quiet
        result, mode = background.full()
        self.faces = restorer.faces
        if self.faces == 0:
            return result, mode
        if result.dtype != np.uint8:
            notice(
                logger,
                "faces.depth",
                "Faces are restored in 8 bit; the rest of a 16-bit picture keeps its depth.",
                once=True,
            )
        return _merged(result, background.colors(), pasted), mode

    def _restore(self, pixels: np.ndarray) -> np.ndarray:
        """The enlarged picture with its faces pasted in, HxWx3 BGR, uint8."""
        try:
            pasted: np.ndarray
            _, _, pasted = self._restorer.enhance(pixels, has_aligned=False, only_center_face=False, paste_back=True)
            return pasted
        except RealESRGANError:
            raise  # the upsampler's own, which says all there is to say
        except Exception as error:
            reason: Phrase = as_field(error)
            kind = devices.classify(error.__cause__ or error)
            device = self._restorer.placed_on
            if kind == "lost":
                raise DeviceLostError(
                    f"{device.spec} ({device.name}) was lost while restoring a face: {reason}. Start again.",
                    code="faces.lost",
                    device=device.spec,
                    name=device.name,
                    reason=reason,
                ) from error
            if kind != "memory" or not self._restorer.leave_device(Phrase("fault.memory", "memory ran out")):
                raise TileError(
                    f"A face could not be restored on {device.spec}: {reason}. Leave out --face_enhance for this "
                    "picture.",
                    code="faces.failed",
                    device=device.spec,
                    reason=reason,
                ) from error
        return self._restore(pixels)


class _Background:
    """What GFPGANer accepts as its background upsampler: ours, asked once a picture, for the picture as it was given.

    GFPGANer knows 8-bit colour only; it gets that, and the full result is kept.
    """

    def __init__(
        self,
        upsampler: Any,
        img: np.ndarray,
        outscale: Optional[float],
        alpha_upsampler: Optional[str],
        progress: Optional[Progress],
    ) -> None:
        self._upsampler = upsampler
        self._arguments = (img, outscale, alpha_upsampler)
        self._progress = progress
        self._told = (0, 1)
        self._result: Optional[Tuple[np.ndarray, str]] = None

    def full(self) -> Tuple[np.ndarray, str]:
        """The upsampler's result and its mode."""
        if self._result is None:
            self._result = self._upsampler.enhance(*self._arguments, progress=self._report)
        return self._result

    def tick(self) -> None:
        """Report the same progress again: many faces take long, and who waits may think that nothing happens."""
        self._report(*self._told)

    def _report(self, done: int, total: int) -> None:
        self._told = (done, total)
        if self._progress is not None:
            self._progress(done, total)

    def colors(self) -> np.ndarray:
        """The result as HxWx3 BGR, uint8."""
        pixels = self.full()[0]
        limit = float(np.iinfo(pixels.dtype).max)
        return _bytes_of(pixels if pixels.ndim == 2 else pixels[:, :, :3], limit)

    def enhance(self, img: np.ndarray, outscale: Optional[float] = None) -> Tuple[np.ndarray, str]:
        """As GFPGANer calls it. Its own ``img`` has lost depth and alpha on the way, and is not used."""
        return self.colors(), "RGB"


def _has_room(picture: image.Picture, factor: Any) -> bool:
    """Whether there can be a face, and a result to paste it into; false for a factor that is none."""
    if not (isinstance(factor, (int, float, np.number)) and math.isfinite(factor) and factor > 0):
        return False
    smaller = min(picture.height, picture.width)
    return smaller >= _SMALLEST and int(smaller * factor) >= 1


def _bytes_of(pixels: np.ndarray, limit: float) -> np.ndarray:
    """HxW or HxWx3 with 0..``limit`` as HxWx3, uint8."""
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(pixels.astype(np.float32) * np.float32(255 / limit), 0, 255)).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return np.ascontiguousarray(pixels)


def _merged(full: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The full result with what pasting has changed in its 8-bit colours.

    Args:
        full: HxW, HxWx3 or HxWx4; uint8 or uint16.
        before, after: HxWx3 BGR, uint8.
    """
    changed = np.flatnonzero((before != after).any(axis=(1, 2)))
    result = full.copy()
    if not changed.size:
        return result
    rows = slice(changed[0], changed[-1] + 1)
    # What was added, not what came out: where the blend fades out, the finer levels of 16 bit stay, and there is no
    # edge. A difference of grey is the difference of the lumas.
    added: np.ndarray = after[rows].astype(np.int32) - before[rows]
    if full.ndim == 2:
        added = added @ _LUMA
    step = 1 if full.dtype == np.uint8 else _STEP
    target = result[rows] if full.ndim == 2 else result[rows, :, :3]
    target[...] = np.clip(np.rint(target + added * step), 0, np.iinfo(full.dtype).max).astype(full.dtype)
    return result
