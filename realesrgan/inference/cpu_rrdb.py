"""An RRDBNet on the processor: nothing is concatenated, and nothing enlarged before it is convolved.

A dense block's convolutions read all that the block has seen so far. Here its channels lie in planes of as many
channels as a convolution adds: concatenating is writing the next plane. The convolutions themselves take half of the
multiplications (see :mod:`realesrgan.inference.winograd`), and a plane is prepared for all that read it at once.

A 3x3 convolution of a picture enlarged twice by nearest neighbour meets some pixels several times. Each of its four
phases (even and odd rows, even and odd columns) is a 2x2 convolution of the small picture, with those weights added up
that meet the same pixel: 4/9 of the work, and no enlarged copy.

Results differ from the plain order of operations by rounding alone.
"""

from __future__ import annotations

from typing import Any, Iterator, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .stages import RESIDUAL, SLOPE, RRDBStages, Runtime, convs, is_plain
from .winograd import Rows, Spectrum, Weights

__all__ = ["PlanarStages", "fast_kernels", "suits"]

_GROWING = 4  # convolutions of a dense block that add a plane; the fifth reads all and gives the block's output


def suits(module: nn.Module, runtime: Runtime) -> bool:
    """Whether it is an RRDBNet whose channels fall into planes, on a processor with fast kernels for them."""
    structure = runtime.structure
    if not runtime.device.capabilities.planes or runtime.compiled:
        return False
    if not structure.growth or not structure.depth or structure.features % structure.growth:
        return False
    return fast_kernels() and not runtime.half and all(map(is_plain, convs(module)))


def fast_kernels() -> bool:
    """Whether oneDNN is available with fast kernels for volumes.

    Measured with oneDNN 3.4 and 3.13: with AVX2 or AVX-512 they are as fast as those for pictures, without AVX2 they
    take twice as long.
    """
    processor = getattr(torch.backends, "cpu", None)
    fast = processor is not None and processor.get_cpu_capability().startswith("AVX")
    return bool(fast and torch.backends.mkldnn.is_available())


class PlanarStages(RRDBStages):
    """The stages of an RRDBNet that :func:`suits` accepts."""

    def __init__(self, module: nn.Module, runtime: Runtime) -> None:
        super().__init__(module, runtime)
        self.growth = runtime.structure.growth
        self._weights = Weights()

    def _body(self, first: Tensor) -> Tensor:
        height, width = first.shape[2:]
        planes = first.shape[1] // self.growth
        # What comes into a block, what passes between its dense blocks, and what a convolution adds.
        entering, passing, new = (Rows(count, height, width, self.growth, first) for count in (planes, planes, 1))
        seen = Spectrum(planes + _GROWING, entering)
        entering.inner.copy_(self._in_planes(first[0].permute(1, 2, 0)))
        for block in self.module.body:
            self._dense(block.rdb1, entering, passing, new, seen)
            self._dense(block.rdb2, passing, passing, new, seen)
            self._dense(block.rdb3, passing, passing, new, seen)
            entering.all.add_(passing.all, alpha=RESIDUAL)
        del passing, new, seen
        out = torch.empty_like(first)
        self._in_planes(out[0].permute(1, 2, 0)).copy_(entering.inner)
        return out

    def _dense(self, block: Any, x: Rows, out: Rows, new: Rows, seen: Spectrum) -> None:
        """Put what a dense block makes of ``x`` into ``out``, which may be ``x``; ``new`` and ``seen`` are its desk."""
        seen.put(x, 0)
        planes = x.all.shape[0]
        for conv in (block.conv1, block.conv2, block.conv3, block.conv4):
            for part, rows in seen.convolved(conv, planes, self._weights):
                for number, row in enumerate(rows):
                    torch.ops.aten.leaky_relu.out(row, SLOPE, out=new.every(number, part)[0])
            new.mend()
            seen.put(new, planes)
            planes += 1
        for part, rows in seen.convolved(block.conv5, planes, self._weights):
            for number, row in enumerate(rows):
                residual = self._in_planes(row)
                torch.add(x.every(number, part), residual, alpha=RESIDUAL, out=out.every(number, part))
        out.mend()

    def _in_planes(self, x: Tensor) -> Tensor:
        """Rows x columns x channels as planes x rows x columns x growth, not copied."""
        planes: Tensor = x.unflatten(2, (-1, self.growth))
        return planes.permute(2, 0, 1, 3)

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
