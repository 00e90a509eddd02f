"""The order of the training data, and the random numbers of each draw, as a function of the seed and the place alone.

Every draw carries its own seed, so kernels, crops and flips do not depend on how many workers load the data, nor on
where a training was interrupted: a resumed training starts at the place it had reached and sees the very same data.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import Any, Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

__all__ = ["Draw", "OrderedSampler", "isolated_rng", "seed_of"]


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
