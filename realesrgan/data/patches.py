"""Cutting, flipping and converting pictures for training. Draws from Python's global generator."""

from __future__ import annotations

import random
from typing import Tuple

import cv2
import numpy as np
import torch

__all__ = ["crop_or_pad", "flip_and_turn", "paired_crop", "to_tensor"]


def flip_and_turn(*pictures: np.ndarray, flip: bool, turn: bool) -> Tuple[np.ndarray, ...]:
    """Mirror and transpose all pictures alike: one of the eight symmetries if both are allowed."""
    mirror = flip and random.random() < 0.5
    upside_down = turn and random.random() < 0.5
    transposed = turn and random.random() < 0.5

    def apply(picture: np.ndarray) -> np.ndarray:
        picture = picture[:, ::-1] if mirror else picture
        picture = picture[::-1] if upside_down else picture
        return picture.swapaxes(0, 1) if transposed else picture

    return tuple(apply(picture) for picture in pictures)


def crop_or_pad(picture: np.ndarray, size: int) -> np.ndarray:
    """A random (size, size) part of HxWxC; a smaller picture is first continued by reflection, right and below."""
    height, width = picture.shape[:2]
    if height < size or width < size:
        right, below = max(0, size - width), max(0, size - height)
        picture = cv2.copyMakeBorder(np.ascontiguousarray(picture), 0, below, 0, right, cv2.BORDER_REFLECT_101)
        height, width = picture.shape[:2]
    top, left = random.randint(0, height - size), random.randint(0, width - size)
    return picture[top : top + size, left : left + size]


def paired_crop(gt: np.ndarray, lq: np.ndarray, size: int, scale: int) -> Tuple[np.ndarray, np.ndarray]:
    """A random (size, size) part of the large picture and the same part of the small one.

    Raises:
        ValueError: The pictures do not differ by ``scale``, or are smaller than the part.
    """
    height, width = lq.shape[:2]
    if gt.shape[:2] != (height * scale, width * scale):
        raise ValueError(f"sizes {gt.shape[1]}x{gt.shape[0]} and {width}x{height} do not differ by {scale}")
    small = size // scale
    if height < small or width < small:
        raise ValueError(f"{width}x{height} is smaller than the part of {small}x{small} that training cuts out")
    top, left = random.randint(0, height - small), random.randint(0, width - small)
    part = gt[top * scale : (top + small) * scale, left * scale : (left + small) * scale]
    return part, lq[top : top + small, left : left + small]


def to_tensor(picture: np.ndarray) -> torch.Tensor:
    """HxWx3 BGR to (3, H, W) RGB, float32."""
    return torch.from_numpy(np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1)))
