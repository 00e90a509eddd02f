"""A network of x4plus's shapes with one block, run as the original does and with its last stage in bands."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, 1, 1)


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([_conv(64 + 32 * i, 32) for i in range(4)] + [_conv(192, 64)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x]
        for conv in self.convs[:-1]:
            parts.append(F.leaky_relu(conv(torch.cat(parts, 1)), 0.2, inplace=True))
        return self.convs[-1](torch.cat(parts, 1)) * 0.2 + x


class Trunk(nn.Module):
    """3 channels in, 64 out, same size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = _conv(3, 64), _conv(64, 64)
        self.dense = nn.Sequential(Dense(), Dense(), Dense())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.first(x)
        return first + self.last(self.dense(first) * 0.2 + first)


class Tail(nn.Module):
    """64 channels in, 3 out, four times the size."""

    def __init__(self) -> None:
        super().__init__()
        self.up1, self.up2, self.hr, self.last = _conv(64, 64), _conv(64, 64), _conv(64, 64), _conv(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.up1(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2, inplace=True)
        x = F.leaky_relu(self.up2(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2, inplace=True)
        return self.last(F.leaky_relu(self.hr(x), 0.2, inplace=True))


class OneBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.tail = Trunk(), Tail()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tail(self.trunk(x))

    def in_bands(self, x: torch.Tensor, rows: int = 16) -> torch.Tensor:
        """The result on the host; the last stage in bands of `rows` with a halo of 2."""
        features = self.trunk(x)
        height = features.shape[2]
        result = torch.empty(x.shape[0], 3, 4 * height, 4 * x.shape[3], dtype=x.dtype)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            low, high = max(0, top - 2), min(height, bottom + 2)
            band = self.tail(features[:, :, low:high]).cpu()
            result[:, :, 4 * top : 4 * bottom] = band[:, :, 4 * (top - low) : 4 * (bottom - low)]
        return result
