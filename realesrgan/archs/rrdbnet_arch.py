"""RRDBNet, the residual-in-residual dense network of ESRGAN and Real-ESRGAN."""

from __future__ import annotations

from typing import Optional

import torch
from torch import nn
from torch.nn import functional as F

from realesrgan.archs import structure

__all__ = ["RESIDUAL", "RRDB", "SLOPE", "RRDBNet", "ResidualDenseBlock"]

SLOPE = 0.2  # of every leaky ReLU
RESIDUAL = 0.2  # what a block adds to its input is scaled by this
_INITIAL = 0.1  # the blocks start small, so that a deep trunk starts near the identity


def _activate(x: torch.Tensor) -> torch.Tensor:
    # In place is safe here: the argument is always a convolution's fresh output.
    return F.leaky_relu(x, SLOPE, inplace=True)


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
        return x + RESIDUAL * self.conv5(torch.cat(seen, 1))


class RRDB(nn.Module):
    """Three dense blocks in a row inside one residual connection."""

    def __init__(self, num_feat: int, num_grow_ch: int = 32) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb2 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb3 = ResidualDenseBlock(num_feat, num_grow_ch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """NCHW with ``num_feat`` channels; returns the same shape."""
        return x + RESIDUAL * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """The network of RealESRGAN_x4plus, RealESRNet_x4plus, RealESRGAN_x4plus_anime_6B and RealESRGAN_x2plus.

    Args:
        num_in_ch: Channels of the input.
        num_out_ch: Channels of the output.
        scale: 4, 2 or 1. Scales 2 and 1 fold blocks of 2x2 and 4x4 pixels into channels before the same network.
            With ``unshuffle``, any scale for which ``scale * unshuffle`` is a power of 2.
        num_feat: Channels of the trunk.
        num_block: Number of :class:`RRDB` blocks.
        num_grow_ch: Channels that each convolution of a dense block adds.
        unshuffle: Side of the blocks of pixels that are folded into channels; None uses what suits ``scale``. ESRGAN
            folds nothing at any scale (1).

    Raises:
        ValueError: ``scale`` is none of 4, 2, 1, or does not go with ``unshuffle``.
    """

    def __init__(
        self,
        num_in_ch: int,
        num_out_ch: int,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 23,
        num_grow_ch: int = 32,
        unshuffle: Optional[int] = None,
    ) -> None:
        super().__init__()
        if unshuffle is None and scale not in structure.RRDBNET_UNSHUFFLE:
            raise ValueError(f"RRDBNet has scale 4, 2 or 1, not {scale!r}.")
        shape = structure.rrdbnet(scale, num_in_ch, num_out_ch, num_feat, num_block, num_grow_ch, unshuffle)
        self.scale = scale
        self.num_block = num_block
        self.multiple = shape.multiple
        """Height and width of an input must be multiples of this."""
        self.context = shape.context
        """Input pixels on either side that an output pixel depends on, exactly."""
        folded = num_in_ch * shape.unshuffle**2
        self.conv_first = nn.Conv2d(folded, num_feat, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(num_feat, num_grow_ch) for _ in range(num_block)))
        self.conv_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self._enlarging = [f"conv_up{number + 1}" for number in range(shape.doublings)]
        for name in self._enlarging:
            self.add_module(name, nn.Conv2d(num_feat, num_feat, 3, padding=1))
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """NCHW in 0..1, sides multiples of :attr:`multiple`; returns NCHW with sides times ``scale``, not clamped."""
        if self.multiple > 1:
            x = F.pixel_unshuffle(x, self.multiple)
        shallow = self.conv_first(x)
        features = shallow + self.conv_body(self.body(shallow))
        for name in self._enlarging:
            features = _activate(getattr(self, name)(F.interpolate(features, scale_factor=2, mode="nearest")))
        return self.conv_last(_activate(self.conv_hr(features)))
