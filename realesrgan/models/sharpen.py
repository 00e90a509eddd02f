"""Unsharp masking of ground truth, as the recipe does it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["UnsharpMask"]


class UnsharpMask(nn.Module):
    """Adds back half of what a wide Gaussian blur takes away, where that is more than 10 levels of 255.

    The same arithmetic as basicsr's USMSharp. That one filters with a kernel of 51x51; a Gaussian is the product of a
    column and a row, which costs 2 * 51 multiplications a pixel instead of 51 * 51.

    Args:
        size: Side of the Gaussian, odd.
        weight: How much of the difference is added.
        threshold: In levels of 255; below it a pixel stays (with a blurred border between the two).
    """

    def __init__(self, size: int = 51, weight: float = 0.5, threshold: float = 10.0) -> None:
        super().__init__()
        self.weight, self.threshold = weight, threshold
        sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8  # OpenCV's rule for a Gaussian given by its size
        offsets = torch.arange(size, dtype=torch.float64) - size // 2
        line = torch.exp(-(offsets**2) / (2 * sigma**2))
        self.register_buffer("line", (line / line.sum()).float())

    def _blur(self, pictures: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = pictures.shape
        margin = self.line.numel() // 2
        planes = pictures.reshape(batch * channels, 1, height, width)
        # Equal margins on all sides: some devices confuse unequal ones.
        planes = F.pad(planes, (margin, margin, margin, margin), mode="reflect")
        planes = F.conv2d(planes, self.line.view(1, 1, -1, 1))
        return F.conv2d(planes, self.line.view(1, 1, 1, -1)).view(batch, channels, height, width)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Sharpen (B, C, H, W) in [0, 1]; H and W are larger than half the Gaussian's side."""
        difference = pictures - self._blur(pictures)
        mask = self._blur((difference.abs() * 255 > self.threshold).to(pictures.dtype))
        sharp = torch.clamp(pictures + self.weight * difference, 0, 1)
        return mask * sharp + (1 - mask) * pictures
