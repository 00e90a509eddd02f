"""An RRDBNet in FP16 on CUDA cards by our own kernels: nothing is concatenated, added or enlarged in passes of its own.

A dense block's channels lie in planes of 64: its input in one, what its first and second convolutions add in the next,
the third's and fourth's in another. Result channels are computed 64 at a time, which the matrix units need to be quick:
one product gives the first convolution and as much of the second as comes from the same input; another, over what the
first one added, gives the rest. Likewise the third and the fourth. What lies between is kept in FP16, as is every
result of a layer. The residual connections are part of the last product.
"""

from __future__ import annotations

import functools
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..archs.structure import HALO, Structure
from .cuda_conv import Convolution, Packed, Picture, enlarging, family, on, run_together, shapes_of, takes
from .stages import RESIDUAL, SLOPE, RRDBStages, Runtime, convs

__all__ = ["CudaRRDBStages", "suits"]

_FEATURES, _GROWTH = 64, 32
# Planes of the picture that the trunk works in. The last one is the first convolution's result, later the trunk's.
_ENTRY, _PASSING, _OTHER, _ADDED, _FIRST = 0, 1, 2, 3, 5
_PLANES = 6
_LAST = 16
"""Result channels of the last convolution, of which the first three count: matrix units compute no fewer."""
_SMALLEST_BAND, _LARGEST_BAND = 16, 64


def suits(module: nn.Module, structure: Structure) -> bool:
    """Whether it is an RRDBNet of the sizes that the kernels are made for: those of every published one."""
    sizes = (structure.features, structure.growth, structure.out_channels, structure.doublings)
    return structure.last > 0 and sizes == (_FEATURES, _GROWTH, 3, 2) and all(map(takes, convs(module)))


class _Dense(NamedTuple):
    """A dense block's five products."""

    first: Convolution
    second: Convolution
    third: Convolution
    fourth: Convolution
    fifth: Convolution


class _Weights:
    """A network's weights in the order in which the kernels read them."""

    def __init__(self, module: Any, tuned: Mapping[str, Sequence[int]]) -> None:
        self.family = family(module.conv_first.weight.device)
        self.shapes = shapes_of(self.family, tuned)
        self.first = self._plain(module.conv_first, "first", 1.0)
        self.blocks = [tuple(map(self._dense, (block.rdb1, block.rdb2, block.rdb3))) for block in module.body]
        self.body = self._plain(module.conv_body, "wide", 1.0)
        self.doubled = [
            self._make("doubled", enlarging(conv.weight), conv.bias, SLOPE)
            for conv in (module.conv_up1, module.conv_up2)
        ]
        self.high = self._plain(module.conv_hr, "wide", SLOPE)
        self.last = self._plain(module.conv_last, "last", 1.0, _LAST)

    def _make(self, role: str, weight: Tensor, bias: Optional[Tensor], slope: Any, width: int = 0) -> Convolution:
        hopper = self.family == "hopper"
        return Convolution(weight, bias, slope, self.shapes[role], hopper=hopper, width=width)

    def _plain(self, conv: nn.Conv2d, role: str, slope: float, width: int = 0) -> Convolution:
        return self._make(role, conv.weight, conv.bias, slope, width)

    def _dense(self, block: Any) -> _Dense:
        first, second = self._pair(block.conv1, block.conv2)
        third, fourth = self._pair(block.conv3, block.conv4)
        return _Dense(first, second, third, fourth, self._plain(block.conv5, "wide", 1.0))

    def _pair(self, one: nn.Conv2d, two: nn.Conv2d) -> Tuple[Convolution, Convolution]:
        """One convolution with what the next one needs of the same input, and the rest of the next one."""
        seen = one.in_channels
        weight = torch.cat((one.weight, two.weight[:, :seen]))
        bias = torch.cat([conv.bias for conv in (one, two) if conv.bias is not None])
        slope = bias.new_ones(bias.shape)
        slope[: one.out_channels] = SLOPE
        return self._make("wide", weight, bias, slope), self._make("narrow", two.weight[:, seen:], None, SLOPE)

    def compile(self) -> None:
        """Run each kernel once on a small picture, which compiles them where that was not done before."""
        like = self.first.weight

        def run(conv: Convolution, channels: int = _FEATURES, out: int = _FEATURES, **options: Any) -> Any:
            def call() -> None:
                with on(like.device):
                    source = Picture(like.new_zeros(2, 4, 64, channels))
                    size = (1, 8, 128, out) if conv.taps == 2 else (2, 4, 64, out)
                    conv(source, Picture(like.new_zeros(size)), **options)

            return call

        dense = self.blocks[0][0]
        entering = self.first.steps * self.first.shape.block
        run_together(
            [
                run(dense.fifth, add=0, ratio=RESIDUAL),
                run(dense.first),
                run(dense.second, add=0),
                run(self.doubled[0]),
                run(self.last, out=_LAST),
                run(self.first, entering),
            ]
        )


class CudaRRDBStages(RRDBStages):
    """The stages of an RRDBNet that :func:`suits` accepts, on a card for which the kernels are not refused."""

    def __init__(self, module: nn.Module, runtime: Runtime) -> None:
        super().__init__(module, runtime)
        self._packed = Packed(module, functools.partial(_Weights, tuned=runtime.shapes))
        self._weights: Any = None

    def band_rows(self, height: int, width: int) -> int:
        # As many as leave what lies between the last stage's convolutions room in the trunk's memory.
        rows = height // self.runtime.structure.unshuffle // 8 - 2 * HALO
        return max(_SMALLEST_BAND, min(_LARGEST_BAND, rows))

    @torch.no_grad()
    def trunk(self, x: Tensor) -> Tensor:
        with on(x.device):
            return self._trunk(x)

    def _trunk(self, x: Tensor) -> Tensor:
        fresh = self._weights is None
        self._weights = weights = self._packed.current()
        if fresh:
            weights.compile()
        shrink = self.runtime.structure.unshuffle
        if shrink > 1:
            x = F.pixel_unshuffle(x, shrink)
        height, width = x.shape[2:]
        block = weights.first.shape.block
        entering = x.new_zeros(1, height, width, -(-x.shape[1] // block) * block)
        entering[0, :, :, : x.shape[1]] = x[0].permute(1, 2, 0)
        tensor = x.new_empty(_PLANES, height, width, _FEATURES)
        planes = Picture(tensor)
        weights.first(Picture(entering), planes, out_plane=_FIRST)
        del entering
        entry = _FIRST
        for one, two, three in weights.blocks:
            _run(one, planes, entry, _PASSING)
            _run(two, planes, _PASSING, _OTHER)
            _run(three, planes, _OTHER, _ENTRY, entry)
            entry = _ENTRY
        weights.body(planes, planes, plane=entry, out_plane=_FIRST, add=_FIRST, ratio=1.0)
        return tensor[_FIRST].permute(2, 0, 1)[None]

    def _cropped(self, features: Tensor, y0: int, y1: int, x0: int, x1: int) -> Tensor:
        return features[:, :, y0:y1, x0:x1]

    def _last(self, features: Tensor) -> Tensor:
        with on(features.device):
            weights = self._weights
            height, width = features.shape[2:]
            # All planes of the trunk but the last one, the feature map, are free now.
            free = features.untyped_storage().nbytes() // features.element_size() // _PLANES * _FIRST
            taken = _Taking(features.as_strided((free,), (1,), 0), features)
            now = Picture(features.permute(0, 2, 3, 1))
            for number, doubled in enumerate(weights.doubled, 1):
                larger = taken.picture(height << number, width << number, _FEATURES)
                doubled(now, larger)
                now = larger
            high = taken.picture(4 * height, 4 * width, _FEATURES)
            weights.high(now, high)
            # In memory of its own: it is given away.
            last = Picture(features.new_empty(1, 4 * height, 4 * width, _LAST))
            weights.last(high, last)
            return last.tensor.permute(0, 3, 1, 2)[:, :3]

    def largest(self, height: int, width: int) -> int:
        return _PLANES * _FEATURES * self.runtime.structure.pixels(height, width)


class _Taking:
    """Pictures in memory that is free, as long as it suffices, or in memory of their own."""

    def __init__(self, room: Tensor, like: Tensor) -> None:
        self.room = room
        self.like = like

    def picture(self, height: int, width: int, channels: int) -> Picture:
        size = height * width * channels
        if self.room.numel() < size:
            return Picture(self.like.new_empty(1, height, width, channels))
        taken, self.room = self.room[:size], self.room[size:]
        return Picture(taken.view(1, height, width, channels))


def _run(dense: _Dense, planes: Picture, source: int, out: int, entry: Optional[int] = None) -> None:
    """A dense block from one plane to another; with ``entry``, the residual connection around three of them too."""
    dense.first(planes, planes, plane=source, out_plane=_ADDED)
    dense.second(planes, planes, plane=_ADDED, out_plane=_ADDED, out_channel=_GROWTH, add=_ADDED)
    dense.third(planes, planes, plane=source, follow=_ADDED, out_plane=_ADDED + 1)
    dense.fourth(planes, planes, plane=_ADDED + 1, out_plane=_ADDED + 1, out_channel=_GROWTH, add=_ADDED + 1)
    dense.fifth(planes, planes, plane=source, follow=_ADDED, out_plane=out, add=source, ratio=RESIDUAL, entry=entry)
