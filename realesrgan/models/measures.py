"""Measures for the validation beside basicsr's own (PSNR, SSIM, NIQE)."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["calculate_l1"]


def calculate_l1(img: np.ndarray, img2: np.ndarray, crop_border: int = 0, **unused: Any) -> float:
    """Mean absolute difference of two HxWxC pictures in levels (0 to 255), less ``crop_border`` pixels at each edge.

    Raises:
        ValueError: The sizes differ, or nothing is left inside the border.
    """
    if img.shape != img2.shape:
        raise ValueError(f"pictures of one size are compared, not {img.shape} and {img2.shape}")
    height, width = img.shape[:2]
    inside = np.s_[crop_border : height - crop_border, crop_border : width - crop_border]
    if img[inside].size == 0:
        raise ValueError(f"crop_border {crop_border} leaves nothing of a picture of {height}x{width}")
    return float(np.abs(img[inside].astype(np.float64) - img2[inside].astype(np.float64)).mean())
