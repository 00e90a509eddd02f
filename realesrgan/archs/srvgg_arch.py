"""SRVGGNetCompact, a plain stack of convolutions at the input's size: small and quick."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from realesrgan.archs import structure

__all__ = ["SRVGGNetCompact"]


def _activation(act_type: str, num_feat: int) -> nn.Module:
    if act_type == "prelu":
        return nn.PReLU(num_parameters=num_feat)
    if act_type == "relu":
        return nn.ReLU(inplace=True)
    if act_type == "leakyrelu":
        return nn.LeakyReLU(negative_slope=0.1, inplace=True)
    raise ValueError(f"SRVGGNetCompact has act_type 'prelu', 'relu' or 'leakyrelu', not {act_type!r}.")


class SRVGGNetCompact(nn.Module):
    """The network of realesr-animevideov3 and realesr-general-x4v3.

    Args:
        num_in_ch: Channels of the input.
        num_out_ch: Channels of the output; equal to ``num_in_ch``, because the enlarged input is added.
        num_feat: Channels between the convolutions.
        num_conv: Number of convolutions between the first and the last one.
        upscale: Enlargement, 1 or more.
        act_type: ``'prelu'``, ``'relu'`` or ``'leakyrelu'``.

    Raises:
        ValueError: ``act_type`` is unknown.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_conv: int = 16,
        upscale: int = 4,
        act_type: str = "prelu",
    ) -> None:
        super().__init__()
        self.num_in_ch = num_in_ch
        self.num_out_ch = num_out_ch
        self.num_feat = num_feat
        self.num_conv = num_conv
        self.upscale = upscale
        self.act_type = act_type
        self.multiple = 1
        """Height and width of an input must be multiples of this."""
        self.context = structure.srvgg(upscale, num_in_ch, num_out_ch, num_feat, num_conv).context
        """Input pixels on either side that an output pixel depends on, exactly."""
        # One flat list: a checkpoint counts convolutions and activations alike.
        self.body = nn.ModuleList()
        channels = num_in_ch
        for _ in range(num_conv + 1):
            self.body.append(nn.Conv2d(channels, num_feat, 3, padding=1))
            self.body.append(_activation(act_type, num_feat))
            channels = num_feat
        self.body.append(nn.Conv2d(channels, num_out_ch * upscale**2, 3, padding=1))
        self.upsampler = nn.PixelShuffle(upscale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """NCHW in 0..1; returns NCHW with sides times ``upscale``, not clamped."""
        features = x
        for layer in self.body:
            features = layer(features)
        # The stack learns only what is missing from the enlarged input.
        return self.upsampler(features) + F.interpolate(x, scale_factor=self.upscale, mode="nearest")
