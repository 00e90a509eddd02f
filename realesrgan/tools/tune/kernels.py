"""A short search for the shapes in which our own kernels are quickest on a card."""

from __future__ import annotations

import statistics
import time
from typing import Any, Callable, Dict, Iterator, Tuple

import torch

from realesrgan import devices
from realesrgan.inference.cuda_conv import SHAPES, WIDTHS, Convolution, Picture, Shape, enlarging, family, fits, on

__all__ = ["search"]

_CHANNELS = {"wide": 128, "narrow": 32, "doubled": 64, "first": 3, "last": 64}
_SIDE = 512
_RUNS = 10
_BETTER = 0.98
"""A shape is taken in place of the table's if it takes at most this share of its time."""


def search(device: devices.Device, seconds: float, timed: Callable[..., float]) -> Dict[str, Tuple[int, ...]]:
    """The quickest shapes by role, where they are not those of the table.

    Args:
        device: A CUDA card.
        seconds: Begin with no other shape after this time.
        timed: Gives the seconds of a call; see :func:`once`.
    """
    end = time.perf_counter() + seconds
    cards = family(device.torch_device)
    found: Dict[str, Tuple[int, ...]] = {}
    for role, usual in SHAPES[cards].items():
        best, least = usual, timed(_problem(device, cards, role, usual), device)
        for shape in _candidates(cards, role, usual):
            if time.perf_counter() > end:
                return found
            try:
                taken = timed(_problem(device, cards, role, shape), device)
            except Exception as error:
                if devices.classify(error) == "lost":
                    raise
                continue
            if taken < _BETTER * least:
                best, least = shape, taken
        if best != usual:
            found[role] = tuple(best)
    return found


def once(call: Callable[[], Any], device: devices.Device) -> float:
    """Seconds of a call on the device: the median of three rounds of ten, after one that compiles."""
    call()
    rounds = []
    for _ in range(3):
        devices.synchronize(device)
        begun = time.perf_counter()
        for _ in range(_RUNS):
            call()
        devices.synchronize(device)
        rounds.append((time.perf_counter() - begun) / _RUNS)
    return statistics.median(rounds)


def _candidates(cards: str, role: str, usual: Shape) -> Iterator[Shape]:
    blocks = (16,) if role == "first" else (32,) if role == "narrow" else (32, 64)
    areas = [(4, 64, 4)] if cards == "hopper" else [(8, 8, 4), (8, 16, 4), (16, 16, 4), (16, 16, 8), (8, 32, 8)]
    for rows, columns, warps in areas:
        for block in blocks:
            for stages in (2, 3, 4):
                shape = Shape(rows, columns, block, stages, warps)
                if shape != usual and fits(cards, role, shape):
                    yield shape


def _problem(device: devices.Device, cards: str, role: str, shape: Shape) -> Callable[[], None]:
    """A convolution of a role on random values, ready to run."""
    place, width, channels = device.torch_device, WIDTHS[role], _CHANNELS[role]
    weight = torch.randn(width, channels, 3, 3, device=place) / (9 * channels) ** 0.5
    filled = -(-channels // shape.block) * shape.block if role == "first" else 64
    source = Picture(torch.randn(-(-channels // 64), _SIDE, _SIDE, filled, device=place).half())
    size = 2 * _SIDE if role == "doubled" else _SIDE
    out = Picture(torch.zeros(1, size, size, width, device=place).half())
    folded = enlarging(weight) if role == "doubled" else weight
    conv = Convolution(folded, None, 0.2, shape, hopper=cards == "hopper", width=width)
    add = 0 if role == "narrow" else None

    def run() -> None:
        with on(place):
            conv(source, out, follow=1, add=add)

    return run
