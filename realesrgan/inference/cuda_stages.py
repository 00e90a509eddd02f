"""Networks in FP16 on CUDA cards by our own kernels: nothing is concatenated, added or enlarged in passes of its own.

Of an RRDBNet, a dense block's channels lie in planes of 64: its input in one, what its first and second convolutions
add in the next, the third's and fourth's in another. Result channels are computed 64 at a time, which the matrix units
need to be quick: one product gives the first convolution and as much of the second as comes from the same input;
another, over what the first one added, gives the rest. Likewise the third and the fourth. What lies between is kept in
FP16, as is every result of a layer. The residual connections are part of the last product.

Of an SRVGGNet, the activations are part of the convolutions, and one pass enlarges and adds the enlarged input.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..archs.rrdbnet_arch import RESIDUAL, SLOPE
from ..backends.cuda import kernels_rows
from . import tiling
from .cuda_conv import Convolution, Picture, enlarging, family, on, run_together, shapes_of, takes
from .stages import Band, Derived, RRDBStages, Runtime, Stages, convs
from .tiling import Box

__all__ = ["CudaRRDBStages", "CudaSequenceStages", "suits_rrdb", "suits_sequence"]

_FEATURES, _GROWTH = 64, 32
# Planes of the picture that the trunk works in. The last one is the first convolution's result, later the trunk's.
_ENTRY, _PASSING, _OTHER, _ADDED, _FIRST = 0, 1, 2, 3, 5
_PLANES = 6
_LAST = 16
"""Result channels of the last convolution, of which the first three count: matrix units compute no fewer."""
_COLUMNS = 512
"""Columns of an SRVGGNet's result that a program computes."""
_LEAST_ROWS, _MOST_PARTS = 64, 16
"""Of an SRVGGNet: least rows of features in a part, and most parts: one is copied while another is made."""


def suits_rrdb(module: nn.Module, runtime: Runtime) -> bool:
    """Whether it is an RRDBNet of the sizes that the kernels are made for: those of every published one."""
    structure = runtime.structure
    sizes = (structure.features, structure.growth, structure.out_channels, structure.doublings)
    return structure.last > 0 and sizes == (_FEATURES, _GROWTH, 3, 2) and all(map(takes, convs(module)))


def _entering(x: Tensor, first: Convolution) -> Picture:
    """A tile as a network's first convolution reads it."""
    entering = x.new_zeros(1, *x.shape[2:], first.steps * first.shape.block)
    entering[0, :, :, : x.shape[1]] = x[0].permute(1, 2, 0)
    return Picture(entering)


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
        calls = [run(dense.fifth, add=0, ratio=RESIDUAL), run(dense.first), run(dense.second, add=0)]
        calls += [run(self.doubled[0]), run(self.last, out=_LAST)]
        run_together([*calls, run(self.first, self.first.steps * self.first.shape.block)])


class CudaRRDBStages(RRDBStages):
    """The stages of an RRDBNet that :func:`suits_rrdb` accepts, on a card for which the kernels are not refused."""

    def __init__(self, module: nn.Module, runtime: Runtime) -> None:
        super().__init__(module, runtime)
        self._packed = Derived(functools.partial(_Weights, tuned=runtime.shapes))
        self._weights: Any = None

    def band_rows(self, height: int, width: int) -> int:
        return kernels_rows(height // self.runtime.structure.unshuffle)

    @torch.no_grad()
    def trunk(self, x: Tensor) -> Tensor:
        with on(x.device):
            return self._trunk(x)

    def _trunk(self, x: Tensor) -> Tensor:
        fresh = self._weights is None
        self._weights = weights = self._packed.of(self.module)
        if fresh:
            weights.compile()
        shrink = self.runtime.structure.unshuffle
        if shrink > 1:
            x = F.pixel_unshuffle(x, shrink)
        tensor = x.new_empty(_PLANES, *x.shape[2:], _FEATURES)
        planes = Picture(tensor)
        weights.first(_entering(x, weights.first), planes, out_plane=_FIRST)
        entry = _FIRST
        for one, two, three in weights.blocks:
            _run(one, planes, entry, _PASSING)
            _run(two, planes, _PASSING, _OTHER)
            _run(three, planes, _OTHER, _ENTRY, entry)
            entry = _ENTRY
        weights.body(planes, planes, plane=entry, out_plane=_FIRST, add=_FIRST, ratio=1.0)
        return tensor[_FIRST].permute(2, 0, 1)[None]

    def _cropped(self, features: Tensor) -> Tensor:
        return features

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


def suits_sequence(module: Any, runtime: Runtime) -> bool:
    """Whether it is an SRVGGNetCompact of the sizes that the kernels are made for: those of every published one."""
    structure = runtime.structure
    sizes = (structure.features, structure.in_channels, structure.out_channels)
    if structure.last or sizes != (_FEATURES, 3, 3) or 3 * structure.scale**2 > _FEATURES:
        return False
    return all(map(takes, convs(module))) and all(isinstance(layer, nn.PReLU) for layer in list(module.body)[1::2])


def _layers(module: Any, tuned: Mapping[str, Sequence[int]]) -> List[Convolution]:
    """The convolutions with their activations, packed."""
    layers = list(module.body)
    cards = family(layers[0].weight.device)
    shapes = shapes_of(cards, tuned)
    slopes = [*(layer.weight for layer in layers[1::2]), 1.0]
    roles = ["first", *["wide"] * (len(slopes) - 1)]
    return [
        Convolution(conv.weight, conv.bias, slope, shapes[role], hopper=cards == "hopper", width=_FEATURES)
        for conv, slope, role in zip(layers[::2], slopes, roles)
    ]


class CudaSequenceStages(Stages):
    """The layers of an SRVGGNet that :func:`suits_sequence` accepts."""

    def __init__(self, module: nn.Module, runtime: Runtime) -> None:
        super().__init__(module, runtime)
        self._packed = Derived(functools.partial(_layers, tuned=runtime.shapes))

    def bands(self, x: Tensor, keep: Box, scale: int) -> Iterator[Band]:
        with torch.no_grad(), on(x.device):
            features = self._features(x)
        height = max(_LEAST_ROWS, -(-keep.height // _MOST_PARTS))
        for row, read, _ in tiling.bands(keep, x.shape[2:], 1, height, 0, scale):
            with torch.no_grad(), on(x.device):
                values = self._enlarged(features, x, read, scale)
            yield Band(row, values)

    def largest(self, height: int, width: int) -> int:
        return 2 * _FEATURES * height * width

    def _features(self, x: Tensor) -> Tensor:
        layers = self._packed.of(self.module)
        planes = Picture(x.new_empty(2, *x.shape[2:], _FEATURES))
        layers[0](_entering(x, layers[0]), planes)
        plane = 0
        for layer in layers[1:]:
            layer(planes, planes, plane=plane, out_plane=1 - plane)
            plane = 1 - plane
        return planes.tensor[plane]

    def _enlarged(self, features: Tensor, x: Tensor, read: Box, scale: int) -> Tensor:
        height, width = read.height * scale, read.width * scale
        out = x.new_empty(1, 3, height, width)
        kernels = importlib.import_module(".cuda_kernels", __package__)
        strides = (*features.stride()[:2], *x.stride()[1:], *out.stride()[1:3])
        grid = (-(-width // _COLUMNS), height)
        kernels.shuffled[grid](features, x, out, read.y0, read.x0, width, *strides, scale, _COLUMNS, num_warps=4)
        return out
