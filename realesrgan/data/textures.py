"""Drawn test pictures: edges, lines, discs, gradients and grain, enough for a small network to learn from.

They let the smoke training run anywhere, without a data set and without a network.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Optional, Union

import cv2
import numpy as np

from realesrgan.errors import PictureError, one_line

__all__ = ["draw", "draw_folder", "shrink"]


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.mgrid[0:size, 0:size] / size
    ramp = np.clip(0.5 + (rows - 0.5) * math.sin(angle) + (columns - 0.5) * math.cos(angle), 0, 1)[..., None]
    ends = rng.uniform(0, 255, (2, 3))
    return ends[0] * (1 - ramp) + ends[1] * ramp


def _grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise whose amplitude falls with the frequency, as in photographs; zero mean."""
    frequencies = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    frequencies[0, 0] = np.inf
    spectrum = np.exp(2j * math.pi * rng.random((size, size))) / frequencies
    pattern = np.fft.ifft2(spectrum).real
    return (pattern / pattern.std())[..., None]


def draw(seed: int, size: int) -> np.ndarray:
    """A picture of its own for every seed: (size, size, 3) BGR uint8."""
    rng = np.random.default_rng(seed)
    picture = np.ascontiguousarray(np.clip(_gradient(rng, size) + 12 * _grain(rng, size), 0, 255).astype(np.uint8))
    for _ in range(int(rng.integers(6, 12))):
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        start, end = (tuple(int(value) for value in rng.integers(0, size, 2)) for _ in range(2))
        kind = int(rng.integers(0, 4))
        if kind == 0:
            cv2.line(picture, start, end, colour, int(rng.integers(1, 4)), cv2.LINE_AA)
        elif kind == 1:
            cv2.circle(picture, start, int(rng.integers(3, size // 4)), colour, -1, cv2.LINE_AA)
        elif kind == 2:
            cv2.rectangle(picture, start, end, colour, int(rng.integers(1, 4)))
        else:
            tilt = float(rng.uniform(0, 180))
            cv2.ellipse(picture, start, (size // 5, size // 9), tilt, 0, 360, colour, 2, cv2.LINE_AA)
    return picture


def shrink(picture: np.ndarray, scale: int, seed: int) -> np.ndarray:
    """A plain low-resolution partner: a slight blur, area averaging, noise of 3 levels and JPEG of quality 75."""
    rng = np.random.default_rng(seed)
    height, width = picture.shape[0] // scale, picture.shape[1] // scale
    small = cv2.resize(cv2.GaussianBlur(picture, (0, 0), 1.0), (width, height), interpolation=cv2.INTER_AREA)
    small = np.clip(small + rng.normal(0, 3, small.shape), 0, 255).round().astype(np.uint8)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 75])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def draw_folder(
    gt_folder: Union[str, Path],
    count: int,
    size: int,
    seed: int = 0,
    lq_folder: Optional[Union[str, Path]] = None,
    scale: int = 4,
) -> None:
    """Fill a folder with ``count`` drawn PNGs, and another with their low-resolution partners; both made if missing.

    Raises:
        PictureError: A picture cannot be written.
    """
    for number in range(count):
        picture = draw(seed + number, size)
        targets = [(Path(gt_folder), picture)]
        if lq_folder is not None:
            targets.append((Path(lq_folder), shrink(picture, scale, seed + number)))
        for folder, pixels in targets:
            path = folder / f"{number:04d}.png"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
            except OSError as error:
                reason = one_line(error)
                raise PictureError(f"cannot write {path}: {reason}", path=str(path), reason=reason) from error
