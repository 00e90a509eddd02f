"""What the shape of a network says about its input: size multiple and context. Plain integers, no torch."""

from __future__ import annotations

from types import MappingProxyType
from typing import Mapping

__all__ = ["RRDBNET_UNSHUFFLE", "rrdbnet_context", "srvgg_context"]

# Scale of an RRDBNet -> the factor of the pixel-unshuffle in front of it. Behind it every RRDBNet enlarges by 4.
RRDBNET_UNSHUFFLE: Mapping[int, int] = MappingProxyType({4: 1, 2: 2, 1: 4})

# Convolutions of radius 1 in one residual-in-residual block: three dense blocks of five.
_CONVS_PER_BLOCK = 3 * 5


def _tail_reach() -> int:
    """Trunk pixels that the last stage (x2, conv, x2, conv, conv, conv) of an RRDBNet reads on either side."""
    reach = 0
    for phase in range(4):  # the four output pixels of one trunk pixel do not reach equally far
        low, high = phase - 3, phase + 3  # conv_up2, conv_hr and conv_last, all at 4x
        low, high = low // 2 - 1, high // 2 + 1  # the nearest pixels at 2x, then conv_up1
        reach = max(reach, -(low // 2), high // 2)
    return reach


def rrdbnet_context(scale: int, num_block: int) -> int:
    """Input pixels on either side that an output pixel of an RRDBNet depends on."""
    trunk = 1 + _CONVS_PER_BLOCK * num_block + 1  # conv_first, the blocks, conv_body
    return RRDBNET_UNSHUFFLE[scale] * (trunk + _tail_reach())


def srvgg_context(num_conv: int) -> int:
    """Input pixels on either side that an output pixel of an SRVGGNetCompact depends on."""
    return 1 + num_conv + 1
