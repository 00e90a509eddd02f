"""An SRVGGNet in FP16 on CUDA cards by our own kernels: activations in the convolutions, one pass to enlarge."""

from __future__ import annotations

import functools
import importlib
from typing import Any, Iterator, List, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..archs.structure import Structure
from .cuda_conv import Convolution, Packed, Picture, family, on, shapes_of, takes
from .stages import Band, Runtime, Stages, convs
from .tiling import Box

__all__ = ["CudaSequenceStages", "suits"]

_FEATURES = 64
_COLUMNS = 512
_ROWS, _SLICES = 64, 16
"""Least rows of features in a part of the result, and most parts: one is copied to the host while another is made."""


def suits(module: Any, structure: Structure) -> bool:
    """Whether it is an SRVGGNetCompact of the sizes that the kernels are made for: those of every published one."""
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
    """The layers of an SRVGGNet that :func:`suits` accepts."""

    def __init__(self, module: nn.Module, runtime: Runtime) -> None:
        super().__init__(module, runtime)
        self._packed = Packed(module, functools.partial(_layers, tuned=runtime.shapes))

    def bands(self, x: Tensor, keep: Box, scale: int) -> Iterator[Band]:
        with torch.no_grad(), on(x.device):
            features = self._features(x)
        rows = max(_ROWS, -(-keep.height // _SLICES))
        for start in range(keep.y0, keep.y1, rows):
            stop = min(start + rows, keep.y1)
            with torch.no_grad(), on(x.device):
                values = self._enlarged(features, x, start, stop, keep, scale)
            yield Band((start - keep.y0) * scale, values)

    def largest(self, height: int, width: int) -> int:
        return 2 * _FEATURES * height * width

    def _features(self, x: Tensor) -> Tensor:
        layers = self._packed.current()
        height, width = x.shape[2:]
        entering = x.new_zeros(1, height, width, layers[0].shape.block)
        entering[0, :, :, :3] = x[0].permute(1, 2, 0)
        planes = Picture(x.new_empty(2, height, width, _FEATURES))
        layers[0](Picture(entering), planes)
        plane = 0
        for layer in layers[1:]:
            layer(planes, planes, plane=plane, out_plane=1 - plane)
            plane = 1 - plane
        return planes.tensor[plane]

    def _enlarged(self, features: Tensor, x: Tensor, start: int, stop: int, keep: Box, scale: int) -> Tensor:
        height, width = (stop - start) * scale, keep.width * scale
        out = x.new_empty(1, 3, height, width)
        kernels = importlib.import_module(".cuda_kernels", __package__)
        kernels.shuffled[(-(-width // _COLUMNS), height)](
            features,
            x,
            out,
            start,
            keep.x0,
            width,
            *features.stride()[:2],
            *x.stride()[1:],
            *out.stride()[1:3],
            scale,
            _COLUMNS,
            num_warps=4,
        )
        return out
