"""Which picture is drawn, and which part of it, as a function of the seed and the place in the training alone.

Every draw carries its own seed, so kernels, crops and flips do not depend on how many workers load the data, nor on
where a training was interrupted: a resumed training starts at the place it had reached and sees the very same data.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import Any, Iterator, Tuple

import cv2
import numpy as np
import torch
from torch.utils.data import Sampler

__all__ = [
    "Draw",
    "OrderedSampler",
    "crop_or_pad",
    "flip_and_turn",
    "isolated_rng",
    "paired_crop",
    "seed_of",
    "to_tensor",
]


class Draw(int):
    """An index into a data set, with the seed of this draw as ``.seed``."""

    seed: int

    def __new__(cls, index: int, seed: int) -> Draw:
        draw = super().__new__(cls, index)
        draw.seed = seed
        return draw

    def __reduce__(self) -> Any:
        return Draw, (int(self), self.seed)


def seed_of(index: int) -> int:
    """The seed that an index carries; a plain one is its own."""
    return int(getattr(index, "seed", index))


class OrderedSampler(Sampler):
    """Indices of one process' part of an epoch, shuffled by seed and epoch.

    Args:
        length: Pictures in the data set.
        seed: The training's seed (the same for all processes).
        world_size: Processes; together they draw every picture ``ratio`` times an epoch.
        rank: This one.
        ratio: How often an epoch draws each picture (``dataset_enlarge_ratio``).
        shuffle: Whether the order is random (``use_shuffle``).
    """

    def __init__(
        self, length: int, seed: int, world_size: int = 1, rank: int = 0, ratio: int = 1, shuffle: bool = True
    ) -> None:
        self.length, self.seed, self.world_size, self.rank = length, seed, world_size, rank
        self.shuffle = shuffle
        self.count = -(-length * ratio // world_size)  # rounded up
        self.epoch = 0
        self.start = 0

    def set_place(self, epoch: int, start: int = 0) -> None:
        """Go to an epoch, and in it to the draw number ``start`` of this process."""
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[Draw]:
        total = self.count * self.world_size
        generator = torch.Generator()
        generator.manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(total, generator=generator) if self.shuffle else torch.arange(total)
        seeds = torch.randint(0, 2**31, (total,), generator=generator)
        for place in range(self.rank + self.start * self.world_size, total, self.world_size):
            yield Draw(int(order[place]) % self.length, int(seeds[place]))

    def __len__(self) -> int:
        return self.count - self.start


@contextmanager
def isolated_rng(seed: int) -> Iterator[None]:
    """Python's and numpy's generators seeded inside, and untouched outside."""
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


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
