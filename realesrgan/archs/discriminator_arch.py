"""The discriminator of the adversarial training: a U-Net that judges every pixel."""

from __future__ import annotations

from typing import List

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

__all__ = ["UNetDiscriminatorSN"]

LEVELS = 3  # halvings on the way down, and doublings on the way up


class UNetDiscriminatorSN(nn.Module):
    """U-Net with spectral normalisation: (B, num_in_ch, H, W) in [0, 1] -> (B, 1, H, W) logits, "real" above zero.

    H and W are multiples of 8. Parameter names are those of the published discriminator files (``conv0`` … ``conv9``;
    ``weight_orig`` with its vectors where normalised), so that these load.

    Args:
        num_in_ch: Channels of the pictures.
        num_feat: Channels at full size; they double at each of the three halvings.
        skip_connection: Add the features of the way down to those of the way up.
    """

    size_multiple = 2**LEVELS

    def __init__(self, num_in_ch: int, num_feat: int = 64, skip_connection: bool = True) -> None:
        super().__init__()
        self.skip_connection = skip_connection
        widths = [num_feat * 2**level for level in range(LEVELS + 1)]
        self.conv0 = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        for level in range(LEVELS):
            down = nn.Conv2d(widths[level], widths[level + 1], 4, stride=2, padding=1, bias=False)
            self.add_module(f"conv{level + 1}", spectral_norm(down))
        for level in reversed(range(LEVELS)):
            up = nn.Conv2d(widths[level + 1], widths[level], 3, padding=1, bias=False)
            self.add_module(f"conv{2 * LEVELS - level}", spectral_norm(up))
        for name in ("conv7", "conv8"):
            self.add_module(name, spectral_norm(nn.Conv2d(num_feat, num_feat, 3, padding=1, bias=False)))
        self.conv9 = nn.Conv2d(num_feat, 1, 3, padding=1)

    def _layer(self, number: int, features: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(getattr(self, f"conv{number}")(features), 0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-2] % self.size_multiple or x.shape[-1] % self.size_multiple:
            raise ValueError(
                f"the discriminator accepts sizes in multiples of {self.size_multiple}, not {tuple(x.shape[-2:])}"
            )
        features = self._layer(0, x)
        seen: List[torch.Tensor] = []
        for level in range(LEVELS):
            seen.append(features)
            features = self._layer(level + 1, features)
        for level in reversed(range(LEVELS)):
            features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = self._layer(2 * LEVELS - level, features)
            if self.skip_connection:
                features = features + seen[level]
        features = self._layer(8, self._layer(7, features))
        return self.conv9(features)
