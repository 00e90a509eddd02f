"""Small pictures of many sizes, modes, depths and formats, the same on every machine."""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

import numpy as np

from realesrgan import files
from realesrgan.files.naming import Source

__all__ = ["KINDS", "make"]

KINDS: Tuple[Tuple[str, str, int, str], ...] = (
    ("rgb8", "RGB", 8, ".png"),
    ("grey8", "L", 8, ".png"),
    ("rgba8", "RGBA", 8, ".png"),
    ("rgb16", "RGB", 16, ".png"),
    ("jpeg", "RGB", 8, ".jpg"),
    ("greyalpha8", "LA", 8, ".png"),
    ("grey16", "L", 16, ".tiff"),
    ("webp", "RGB", 8, ".webp"),
    ("rgba16", "RGBA", 16, ".png"),
    ("bmp", "RGB", 8, ".bmp"),
)
"""Name, mode, depth and suffix of each kind of picture."""
_CHANNELS = {"L": 1, "RGB": 3, "LA": 4, "RGBA": 4}
# Shares of the largest side, as (height, width): wide, tall, square, thin.
_SHAPES = ((0.5, 0.75), (1.0, 0.4), (0.6, 0.6), (0.25, 1.0), (0.35, 0.3), (0.75, 1.0), (0.1, 0.12))


def make(folder: Path, largest: int, seed: int = 0) -> List[Source]:
    """Write pictures of every kind, each in two sizes of at most ``largest`` pixels a side.

    Returns:
        The pictures, in an order that mixes kinds and sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dice = np.random.default_rng(seed)
    sources = []
    for turn in range(2):
        for index, (name, mode, depth, suffix) in enumerate(KINDS):
            high, wide = _SHAPES[(index + 3 * turn) % len(_SHAPES)]
            height, width = (max(4, round(share * largest) + turn) for share in (high, wide))
            path = folder / f"{name}_{width}x{height}{suffix}"
            files.write(path, _pixels(dice, height, width, mode, depth), mode=mode)
            sources.append(Source(path, path.relative_to(folder)))
    return sources


def _pixels(dice: np.random.Generator, height: int, width: int, mode: str, depth: int) -> np.ndarray:
    """Slopes, a disc and some noise; alpha has clear, half clear and opaque parts."""
    y, x = np.mgrid[:height, :width]
    planes = []
    for channel in range(_CHANNELS[mode]):
        angle = float(dice.uniform(0, 2 * np.pi))
        slope = (np.cos(angle) * x / width + np.sin(angle) * y / height) / 3 + 0.5
        disc = (x - width * dice.uniform(0.2, 0.8)) ** 2 + (y - height * dice.uniform(0.2, 0.8)) ** 2
        plane = slope + 0.3 * (disc < (min(height, width) / 3) ** 2) + dice.uniform(-0.03, 0.03, slope.shape)
        planes.append(1.6 * plane - 0.4 if channel == 3 else plane)
    if mode == "LA":
        planes[1] = planes[2] = planes[0]
    top = (1 << depth) - 1
    picture = np.rint(np.clip(np.stack(planes, 2), 0, 1) * top).astype(np.uint8 if depth == 8 else np.uint16)
    return np.ascontiguousarray(picture[:, :, 0] if mode == "L" else picture)
