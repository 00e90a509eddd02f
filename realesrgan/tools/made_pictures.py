"""Made pictures, the same on every machine: they cost what photographs cost, and no device finds them easy."""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

import cv2
import numpy as np

from realesrgan import files
from realesrgan.files.naming import Source

__all__ = ["KINDS", "textured", "write_kinds"]

_CHANNELS = {"L": 1, "LA": 4, "RGB": 3, "RGBA": 4}

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
"""Name, mode, depth and suffix of each kind of picture file."""
# Shares of the largest side, as (height, width): wide, tall, square, thin.
_SHAPES = ((0.5, 0.75), (1.0, 0.4), (0.6, 0.6), (0.25, 1.0), (0.35, 0.3), (0.75, 1.0), (0.1, 0.12))


def textured(width: int, height: int, mode: str = "RGB", seed: int = 0, depth: int = 8) -> np.ndarray:
    """A picture with smooth parts, hard lines and noise.

    Args:
        mode: ``"L"``, ``"LA"``, ``"RGB"`` or ``"RGBA"``.
        depth: Bits a channel, 8 or 16.

    Returns:
        uint8 or uint16: HxW for L, HxWx3 for RGB, HxWx4 where there is alpha (LA has its grey three times). Alpha has
        clear, half clear and opaque parts.
    """
    stored = np.uint8 if depth == 8 else np.uint16
    top = (1 << depth) - 1
    dice = np.random.default_rng(seed)
    picture = np.empty((height, width, _CHANNELS[mode]), stored)
    for channel in range(_CHANNELS[mode]):
        coarse = dice.integers(0, top + 1, (max(height // 16, 2), max(width // 16, 2)), stored)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        noise = dice.integers(0, 9 << (depth - 8), (height, width), stored)
        picture[:, :, channel] = cv2.add(smooth, noise)
    picture[height // 4 : height // 4 + 2] = top  # hard lines
    picture[:, width // 3] = 0
    if mode == "LA":
        picture[:, :, 1] = picture[:, :, 2] = picture[:, :, 0]
    return picture[:, :, 0] if mode == "L" else picture


def write_kinds(folder: Path, largest: int, seed: int = 0) -> List[Source]:
    """Write files of each of :data:`KINDS`, in two sizes of at most ``largest`` (and one) pixels a side.

    Returns:
        Them, as the batch takes them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources: List[Source] = []
    for turn in range(2):
        for index, (name, mode, depth, suffix) in enumerate(KINDS):
            high, wide = _SHAPES[(index + 3 * turn) % len(_SHAPES)]
            height, width = (max(4, round(share * largest) + turn) for share in (high, wide))
            path = folder / f"{name}_{width}x{height}{suffix}"
            files.write(path, textured(width, height, mode, seed + len(sources), depth), mode=mode)
            sources.append(Source(path, path.relative_to(folder)))
    return sources
