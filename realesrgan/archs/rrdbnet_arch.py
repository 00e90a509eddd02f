"""RRDBNet, the residual-in-residual dense network of ESRGAN and Real-ESRGAN."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from realesrgan.archs.structure import RRDBNET_UNSHUFFLE, rrdbnet_context

__all__ = ["RRDB", "RRDBNet", "ResidualDenseBlock"]

_SLOPE = 0.2  # of every leaky ReLU
_RESIDUAL = 0.2  # what a block adds to its input is scaled by this
_INITIAL = 0.1  # the blocks start small, so that a deep trunk starts near the identity


def _activate(x: torch.Tensor) -> torch.Tensor:
    # In place is safe here: the argument is always a convolution's fresh output.
    return F.leaky_relu(x, _SLOPE, inplace=True)


class ResidualDenseBlock(nn.Module):
    """Five convolutions, each reading the block's input and the outputs of all before it."""

    def __init__(self, num_feat: int = 64, num_grow_ch: int = 32) -> None:
        super().__init__()
        for index in range(5):
            last = index == 4
            conv = nn.Conv2d(num_feat + index * num_grow_ch, num_feat if last else num_grow_ch, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight)
            with torch.no_grad():
                conv.weight.mul_(_INITIAL)
            nn.init.zeros_(conv.bias)
            setattr(self, f"conv{index + 1}", conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """NCHW with ``num_feat`` channels; returns the same shape."""
        seen = [x]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen.append(_activate(conv(torch.cat(seen, 1))))
        return x + _RESIDUAL * self.conv5(torch.cat(seen, 1))


class RRDB(nn.Module):
    """Three dense blocks in a row inside one residual connection."""

    def __init__(self, num_feat: int, num_grow_ch: int = 32) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb2 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb3 = ResidualDenseBlock(num_feat, num_grow_ch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """NCHW with ``num_feat`` channels; returns the same shape."""
        return x + _RESIDUAL * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """The network of RealESRGAN_x4plus, RealESRNet_x4plus, RealESRGAN_x4plus_anime_6B and RealESRGAN_x2plus.

    Args:
        num_in_ch: Channels of the input.
        num_out_ch: Channels of the output.
        scale: 4, 2 or 1. Scales 2 and 1 fold blocks of 2x2 and 4x4 pixels into channels before the same network.
        num_feat: Channels of the trunk.
        num_block: Number of :class:`RRDB` blocks.
        num_grow_ch: Channels that each convolution of a dense block adds.

    Raises:
        ValueError: ``scale`` is none of 4, 2, 1.
    """

    def __init__(
        self,
        num_in_ch: int,
        num_out_ch: int,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 23,
        num_grow_ch: int = 32,
    ) -> None:
        super().__init__()
        if scale not in RRDBNET_UNSHUFFLE:
            raise ValueError(f"RRDBNet has scale 4, 2 or 1, not {scale!r}.")
        self.scale = scale
        self.num_block = num_block
        folded = num_in_ch * RRDBNET_UNSHUFFLE[scale] ** 2
        self.conv_first = nn.Conv2d(folded, num_feat, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(num_feat, num_grow_ch) for _ in range(num_block)))
        self.conv_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_up1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_up2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)

    @property
    def multiple(self) -> int:
        """Height and width of an input must be multiples of this."""
        return RRDBNET_UNSHUFFLE[self.scale]

    @property
    def context(self) -> int:
        """Input pixels on either side that an output pixel depends on, exactly."""
        return rrdbnet_context(self.scale, self.num_block)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """NCHW in 0..1, sides multiples of :attr:`multiple`; returns NCHW with sides times ``scale``, not clamped."""
        if self.multiple > 1:
            x = F.pixel_unshuffle(x, self.multiple)
        shallow = self.conv_first(x)
        features = shallow + self.conv_body(self.body(shallow))
        for conv in (self.conv_up1, self.conv_up2):
            features = _activate(conv(F.interpolate(features, scale_factor=2, mode="nearest")))
        return self.conv_last(_activate(self.conv_hr(features)))
