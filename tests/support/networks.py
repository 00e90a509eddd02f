"""Tiny networks, and networks that misbehave on purpose."""

from __future__ import annotations

from typing import Callable, List, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from realesrgan import devices
from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.archs.srvgg_arch import SRVGGNetCompact

CPU = devices.Device("cpu", 0, "cpu")


def seeded(build: Callable[[], nn.Module], gain: float = 1.0) -> nn.Module:
    torch.manual_seed(7)
    module = build()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(gain)
    return module.eval()


def rrdb(scale: int = 4, blocks: int = 1) -> nn.Module:
    return seeded(lambda: RRDBNet(3, 3, scale, num_feat=8, num_block=blocks, num_grow_ch=4))


def srvgg(convs: int = 2) -> nn.Module:
    return seeded(lambda: SRVGGNetCompact(3, 3, 8, convs, 4, "prelu"))


class Nearest(nn.Module):
    """Each pixel becomes a square of itself: whatever the tiles, the result is known."""

    def __init__(self, upscale: int = 4) -> None:
        super().__init__()
        self.upscale = upscale
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.upscale, mode="nearest")


class Failing(Nearest):
    """Raises ``error`` for inputs of more than ``limit`` pixels a side."""

    def __init__(self, error: Exception, limit: int, upscale: int = 4) -> None:
        super().__init__(upscale)
        self.error = error
        self.limit = limit
        self.seen: List[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(max(x.shape[2:]))
        if max(x.shape[2:]) > self.limit:
            raise self.error
        return super().forward(x)

    def __deepcopy__(self, memo: object) -> Failing:
        return self


class BadHalf(Nearest):
    """Gives NaN or black in FP16, from call ``start`` on, for tiles brighter than ``above``."""

    def __init__(self, value: Optional[float], start: int = 0, above: float = 0.0) -> None:
        super().__init__()
        self.value = value
        self.start = start
        self.above = above
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        if self.weight.dtype == torch.float16:
            self.calls += 1
            if self.calls > self.start and float(x.max()) > self.above:
                out = torch.full_like(out, self.value)
        return out

    def __deepcopy__(self, memo: object) -> BadHalf:
        return BadHalf(self.value, self.start, self.above)
