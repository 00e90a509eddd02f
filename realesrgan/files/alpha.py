"""Alpha of picture files: no dark fringes, no needless work. Used by the file pipeline only."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["bleed", "is_constant"]

#: Alpha from which a colour counts as real, as a share of full opacity; below it the colour is barely visible.
_TRUSTED = 0.25


def is_constant(alpha: np.ndarray) -> bool:
    """Whether all values are equal, so that the network has nothing to add (an empty array counts as constant)."""
    if alpha.size == 0:
        return True
    first = alpha.flat[0]
    # Row by row, so that a picture with real alpha costs next to nothing.
    return all(bool((row == first).all()) for row in alpha)


def bleed(pixels: np.ndarray) -> np.ndarray:
    """Replace the colour of transparent pixels by that of their opaque neighbourhood.

    Files often keep black or white there; resizing mixes it into the edge as a fringe. Pixels of at least a quarter
    of full opacity keep their colour exactly, all alpha stays as it is. The others get the colour of the nearest
    pixel that keeps its own.

    Args:
        pixels: HxWx4 BGRA, uint8 or uint16. Not changed.

    Returns:
        A new array, or ``pixels`` itself where there is nothing to do (no transparent or no visible pixel).
    """
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"bleed accepts HxWx4 uint8 or uint16, got {pixels.shape} {pixels.dtype}")
    alpha = pixels[:, :, 3]
    trusted = alpha >= np.ceil(np.iinfo(pixels.dtype).max * _TRUSTED)
    if not trusted.any():
        # Nothing but faint pixels: the most that there is must serve.
        trusted = alpha > 0
    if trusted.all() or not trusted.any():
        return pixels
    hidden = ~trusted
    # Distance to, and number of, the nearest trusted pixel; zero pixels of the mask are the ones to be found.
    _, labels = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    owner = np.zeros(int(labels.max()) + 1, np.int64)
    owner[labels[trusted]] = np.flatnonzero(trusted)
    nearest = owner[labels[hidden]]
    result = pixels.copy()
    result.reshape(-1, 4)[np.flatnonzero(hidden), :3] = pixels.reshape(-1, 4)[nearest, :3]
    return result
