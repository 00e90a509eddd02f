"""An RRDBNet on the processor: nothing is concatenated, and nothing enlarged before it is convolved.

A dense block's convolutions read all that the block has seen so far. Here its channels lie in planes of as many
channels as a convolution adds, one plane behind the other in memory (NDHWC): concatenating is writing the next plane,
and a convolution over what has been seen is one over a volume as deep as that.

A 3x3 convolution of a picture enlarged twice by nearest neighbour meets some pixels several times. Each of its four
phases (even and odd rows, even and odd columns) is a 2x2 convolution of the small picture, with those weights added up
that meet the same pixel: 4/9 of the work, and no enlarged copy.

Results differ from the plain order of operations by rounding alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterator, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .stages import RESIDUAL, SLOPE, RRDBStages, convs

if TYPE_CHECKING:
    from .network import TileNetwork

__all__ = ["PlanarStages", "suits"]

_GROWING = 4  # convolutions of a dense block that add a plane; the fifth reads all and gives the block's output


def suits(module: Any) -> bool:
    """Whether an RRDBNet's channels fall into planes, and oneDNN is there with fast kernels for volumes of them.

    Measured with oneDNN 3.4 and 3.13: with AVX2 or AVX-512 they are as fast as those for pictures, without AVX2 they
    take twice as long.
    """
    dense = [getattr(block, name) for block in module.body for name in ("rdb1", "rdb2", "rdb3")]
    growing = {conv.out_channels for one in dense for conv in (one.conv1, one.conv2, one.conv3, one.conv4)}
    if len(growing) != 1 or module.conv_first.out_channels % growing.pop():
        return False
    if not all(_is_plain(conv) for conv in convs(module)):
        return False
    processor = getattr(torch.backends, "cpu", None)
    fast = processor is not None and processor.get_cpu_capability().startswith("AVX")
    return bool(fast and torch.backends.mkldnn.is_available())


def _is_plain(conv: nn.Conv2d) -> bool:
    """Whether it is a 3x3 convolution in FP32 that keeps the size, and no other class, which may do more than that."""
    shape = (conv.kernel_size, conv.padding, conv.stride, conv.dilation, conv.groups, conv.padding_mode)
    same = shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")
    return same and type(conv) is nn.Conv2d and conv.weight.dtype == torch.float32


class PlanarStages(RRDBStages):
    """The stages of an RRDBNet for which :func:`suits` holds."""

    def __init__(self, owner: TileNetwork) -> None:
        super().__init__(owner)
        self.growth = self.module.body[0].rdb1.conv1.out_channels
        self._packed: Dict[nn.Conv2d, Tuple[Tuple[int, int], Tensor]] = {}

    def _body(self, first: Tensor) -> Tensor:
        planes = first.shape[1] // self.growth
        outer, inner = (self._volume(planes + _GROWING, first) for _ in range(2))
        # What comes into a block, and what passes between its dense blocks.
        entering, passing = outer[:, :, :planes], inner[:, :, :planes]
        entering.copy_(self._in_planes(first))
        for block in self.module.body:
            torch.add(entering, self._dense(block.rdb1, outer), alpha=RESIDUAL, out=passing)
            passing.add_(self._dense(block.rdb2, inner), alpha=RESIDUAL)
            passing.add_(self._dense(block.rdb3, inner), alpha=RESIDUAL)
            entering.add_(passing, alpha=RESIDUAL)
        out = torch.empty_like(first)
        self._in_planes(out).copy_(entering)
        return out

    def _dense(self, block: Any, volume: Tensor) -> Tensor:
        """What a dense block adds to its input, which lies in the first planes of ``volume``."""
        seen = volume.shape[2] - _GROWING
        for conv in (block.conv1, block.conv2, block.conv3, block.conv4):
            new = self._over_planes(conv, volume[:, :, :seen])
            torch.ops.aten.leaky_relu.out(new, SLOPE, out=volume[:, :, seen : seen + 1])
            seen += 1
        return self._in_planes(self._over_planes(block.conv5, volume)[:, :, 0])

    def _over_planes(self, conv: nn.Conv2d, seen: Tensor) -> Tensor:
        weight = self._in_order(conv, seen.shape[2])
        # conv3d would choose a slower implementation for few channels.
        return torch.mkldnn_convolution(seen, weight, conv.bias, (0, 1, 1), (1, 1, 1), (1, 1, 1), 1)

    def _in_order(self, conv: nn.Conv2d, planes: int) -> Tensor:
        """A convolution's weights in the order of the planes: kept, since copying them takes 2 % of the time."""
        weight = conv.weight
        state = (weight.data_ptr(), 0 if weight.is_inference() else weight._version)
        if conv not in self._packed or self._packed[conv][0] != state:
            ordered = weight.unflatten(1, (planes, -1)).transpose(1, 2)
            self._packed[conv] = (state, ordered.contiguous(memory_format=torch.channels_last_3d))
        return self._packed[conv][1]

    def _volume(self, planes: int, like: Tensor) -> Tensor:
        """1 x growth x planes x H x W, one plane behind the other."""
        height, width = like.shape[2:]
        return like.new_empty(1, planes, height, width, self.growth).permute(0, 4, 1, 2, 3)

    def _in_planes(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, self.growth)).transpose(1, 2)

    def _enlarged(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        out = x.new_empty(1, 2 * height, 2 * width, conv.out_channels).permute(0, 3, 1, 2)
        for row, column, weight in _phases(conv.weight):
            # Padded on all sides: one row and one column too many, the first or the last of which is not of the phase.
            phase = F.conv2d(x, weight, conv.bias, padding=1)[:, :, row : row + height, column : column + width]
            torch.ops.aten.leaky_relu.out(phase, SLOPE, out=out[:, :, row::2, column::2])
        return out


def _phases(weight: Tensor) -> Iterator[Tuple[int, int, Tensor]]:
    """Row and column of each phase, and the 2x2 weights that it has of a 3x3 convolution after a nearest doubling."""
    for row in (0, 1):
        for column in (0, 1):
            yield row, column, _halved(_halved(weight, 2, row), 3, column)


def _halved(weight: Tensor, axis: int, phase: int) -> Tensor:
    # An even row sees the one above in its first weight and its own twice; an odd row its own twice and the one below.
    first, second, third = weight.unbind(axis)
    pair = (first + second, third) if phase else (first, second + third)
    return torch.stack(pair, axis).contiguous(memory_format=torch.channels_last)
