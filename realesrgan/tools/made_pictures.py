"""Made pictures with shapes, edges and noise: they cost what photographs cost, and no device finds them easy."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["textured"]


def textured(width: int, height: int, mode: str = "RGB", seed: int = 0) -> np.ndarray:
    """A picture of ``mode`` ``"L"``, ``"RGB"`` or ``"RGBA"``, uint8, the same on every machine.

    Returns:
        HxW, HxWx3 or HxWx4; alpha has clear, half clear and opaque parts.
    """
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    dice = np.random.default_rng(seed)
    picture = np.empty((height, width, channels), np.uint8)
    for channel in range(channels):
        coarse = dice.integers(0, 256, (max(height // 16, 2), max(width // 16, 2)), np.uint8)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        noise = dice.integers(0, 9, (height, width), np.uint8)
        picture[:, :, channel] = cv2.add(smooth, noise)
    picture[height // 4 : height // 4 + 2] = 255  # hard lines
    picture[:, width // 3] = 0
    return picture[:, :, 0] if mode == "L" else picture
