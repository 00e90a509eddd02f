"""Networks taken apart by their structure, so that the stage that needs most memory runs in bands of rows.

A basicsr network works as ours does. An RRDBNet's last stage (from the first upsampling on) takes nearly all of the
peak memory: it runs in bands, over the part of the tile that is kept, with a margin of 2 pixels of the feature map,
which is what its four convolutions can see (conv_up1 1 pixel at 2x, conv_up2, conv_hr and conv_last 1 pixel each at 4x:
0.5 + 0.25 * 3 = 1.25 pixels, plus the rounding of the nearest upsampling). The end of an SRVGGNet enlarges without
looking at neighbours.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import devices
from ..archs.rrdbnet_arch import RESIDUAL, SLOPE
from ..archs.structure import HALO, Structure
from . import tiling
from .tiling import Box

__all__ = [
    "Band",
    "ChannelPReLU",
    "Derived",
    "RRDBStages",
    "Runtime",
    "SequenceStages",
    "Stages",
    "convs",
    "is_apart",
    "is_plain",
    "is_unchanged",
    "phases_of",
    "sliced",
]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


@dataclass(frozen=True)
class Band:
    """Finished rows of a tile.

    Attributes:
        row: First row, in pixels of the result, counted from the top of the kept box.
        values: 1xCxHxW on the device, in the network's precision, 0..1 but not clamped.
    """

    row: int
    values: Tensor


@dataclass(frozen=True)
class Runtime:
    """How a network runs: all that its stages need to know beside its module.

    Attributes:
        compiled: Its parts go through torch.compile.
        rows: Rows of the feature map in a band of the last stage; None uses the device's own.
        shapes: What tuning found for our own kernels; see :func:`realesrgan.inference.cuda_conv.shapes_of`.
    """

    device: devices.Device
    structure: Structure
    half: bool = False
    compiled: bool = False
    rows: Optional[int] = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float16 if self.half else torch.float32

    def overlong(self, flops: int) -> bool:
        """Whether the device must not be given that many operations in one submission."""
        return 0 < self.device.capabilities.submission_flops < flops

    def compile(self, function: Any) -> Any:
        """A part of the network as it is run."""
        if not self.compiled:
            return function
        # For any size from the start, so that neither the tiles at the edges nor the next picture wait for the
        # compiler; rounding to FP16 wherever the uncompiled network rounds, so that the result is the same.
        return torch.compile(function, dynamic=True, options={"emulate_precision_casts": True})

    def slice_rows(self, height: int, scale: int) -> int:
        """Rows of a finished result of ``height`` rows that are quantised at once: few, since rounding copies them.

        Where copies to the host overlap with work, or operators cost time, a quarter is small enough.
        """
        capabilities = self.device.capabilities
        rows = (self.rows or capabilities.band_rows) * scale
        return max(rows, -(-height // 4)) if capabilities.asynchronous or capabilities.tall_bands else rows


class Stages:
    """A network taken apart.

    Args:
        module: The network, on the device in its precision. It is not changed.
        runtime: How it runs.
    """

    def __init__(self, module: nn.Module, runtime: Runtime) -> None:
        self.module: Any = module
        self.runtime = runtime

    def band_rows(self, height: int, width: int) -> int:
        """Rows of the feature map in a band of the last stage, for a tile of ``height`` x ``width`` pixels."""
        own = self.runtime
        return own.rows or tiling.band_rows(own.structure, height, width, half=own.half, device=own.device)

    def bands(self, x: Tensor, keep: Box, scale: int) -> Iterator[Band]:
        """See :meth:`realesrgan.inference.network.TileNetwork.bands`."""
        raise NotImplementedError

    def largest(self, height: int, width: int) -> int:
        """Values of the largest tensor of a tile of ``height`` x ``width`` pixels."""
        return self.runtime.structure.largest(height, width, self.band_rows(height, width))

    def wait(self) -> None:
        """Let the device finish what was queued."""
        devices.synchronize(self.runtime.device)


def is_unchanged(module: nn.Module) -> bool:
    """Whether a module computes what its class was written to compute.

    It does not where ``forward`` was overridden in a subclass or replaced, on a class or on an object, or where a hook
    was added.
    """
    if "forward" in vars(module) or any(getattr(module, hooks, None) for hooks in _HOOKS):
        return False
    defining = [one for one in type(module).__mro__ if "forward" in vars(one) and one is not nn.Module]
    names = [getattr(vars(one)["forward"], "__qualname__", "") for one in defining]
    return len(defining) < 2 and names == [f"{one.__qualname__}.forward" for one in defining]


def is_plain(conv: nn.Module) -> bool:
    """Whether it is a 3x3 convolution that keeps the size, and no other class or one with a hook, which may do more."""
    if type(conv) is not nn.Conv2d or not is_unchanged(conv):
        return False
    shape = (conv.kernel_size, conv.padding, conv.stride, conv.dilation, conv.groups, conv.padding_mode)
    return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")


def convs(module: nn.Module) -> Iterator[nn.Conv2d]:
    return (part for part in module.modules() if isinstance(part, nn.Conv2d))


def is_apart(module: nn.Module) -> bool:
    """Whether a network may be taken apart: nothing of it is changed, but for the classes of its convolutions.

    Those are called, or asked for with :func:`is_plain`.
    """
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, ChannelPReLU)):
            if "forward" in vars(part) or any(getattr(part, hooks, None) for hooks in _HOOKS):
                return False
        elif not is_unchanged(part):
            return False
    return True


class Derived:
    """What is made of the parameters of networks or their parts: kept, and made again when they have changed.

    Args:
        make: Makes it of a module.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._parts: Dict[nn.Module, List[Dict[str, Any]]] = {}
        self._kept: Dict[nn.Module, Tuple[List[Tuple[int, int]], Any]] = {}

    def of(self, module: nn.Module) -> Any:
        """What is made of a module as it is now."""
        if module not in self._parts:
            self._parts[module] = [part._parameters for part in module.modules() if part._parameters]
        state = [(p.data_ptr(), _version(p)) for part in self._parts[module] for p in part.values() if p is not None]
        if module not in self._kept or self._kept[module][0] != state:
            self._kept[module] = state, self._make(module)
        return self._kept[module][1]


def _version(parameter: Tensor) -> int:
    """A number that grows with every change in place."""
    return 0 if parameter.is_inference() else parameter._version


def phases_of(weight: Tensor) -> List[Tensor]:
    """The four 2x2 convolutions, as weights, that a nearest doubling and a 3x3 convolution come to.

    They give the result's even rows and columns; even rows, odd columns; odd rows, even columns; odd ones. Weights that
    meet the same pixel are added up.
    """
    return [_halved(_halved(weight, 2, row), 3, column) for row in (0, 1) for column in (0, 1)]


def _halved(weight: Tensor, axis: int, phase: int) -> Tensor:
    # An even row sees the one above in its first weight and its own twice; an odd row its own twice and the one below.
    first, second, third = weight.unbind(axis)
    return torch.stack((first + second, third) if phase else (first, second + third), axis)


class ChannelPReLU(nn.PReLU):
    """PReLU with a weight for each channel, by operations that every backend has; exact."""

    @classmethod
    def put_into(cls, module: nn.Module) -> None:
        """Let the activations of a network be computed so, where they are PReLU."""
        for part in module.modules():
            if type(part) is nn.PReLU:
                part.__class__ = cls
                part._prepare()  # type: ignore[operator]

    def _prepare(self) -> None:
        host = self.weight.detach().cpu()
        self.within = bool(((host >= 0) & (host <= 1)).all())
        self.slopes = self.weight.detach().view(1, -1, 1, 1)
        self.state = _version(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.state != _version(self.weight):
            self._prepare()
        # For slopes within 0 and 1, the larger of both is the right one.
        return torch.maximum(x, x * self.slopes) if self.within else torch.where(x >= 0, x, x * self.slopes)


def sliced(result: Tensor, rows: int) -> Iterator[Band]:
    for row in range(0, result.shape[2], rows):
        yield Band(row, result[:, :, row : row + rows])


class RRDBStages(Stages):
    """The trunk of an RRDBNet, and its last stage in bands."""

    def __init__(self, module: nn.Module, runtime: Runtime) -> None:
        super().__init__(module, runtime)
        self._scaled: Dict[nn.Conv2d, Tuple[int, nn.Conv2d]] = {}
        self.block: Callable[[Any, Tensor], Tensor] = runtime.compile(_rrdb)
        if runtime.device.capabilities.few_operators:
            self.block = self._scaled_rrdb
            for name, conv in module.named_modules():
                if name.endswith(".conv5") and is_plain(conv):
                    self._with_residual(conv)
        # A method of its own kept here would keep the network from being freed with its last user.
        self._compiled = runtime.compile(self._last) if runtime.compiled else None

    def bands(self, x: Tensor, keep: Box, scale: int) -> Iterator[Band]:
        features = self.trunk(x)
        shrink, height = self.runtime.structure.unshuffle, self.band_rows(x.shape[2], x.shape[3])
        for row, read, kept in tiling.bands(keep, features.shape[2:], shrink, height, HALO, scale):
            rows, columns = read.slices
            with torch.no_grad():
                out = (self._compiled or self._last)(self._cropped(features[:, :, rows, columns]))
            rows, columns = kept.slices
            yield Band(row, out[:, :, rows, columns])

    def _cropped(self, features: Tensor) -> Tensor:
        """A part of the feature map in the layout in which the last stage computes."""
        channels_last = self.runtime.device.capabilities.channels_last
        return features.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    @torch.no_grad()
    def trunk(self, x: Tensor) -> Tensor:
        """The feature map: 1xCxHxW for a picture, unshuffled by the network's factor."""
        if self.runtime.structure.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.runtime.structure.unshuffle)
        first = self.module.conv_first(x)
        out: Tensor = self.module.conv_body(self._body(first))
        out += first
        return out

    def _body(self, first: Tensor) -> Tensor:
        out = first
        for block in self.module.body:
            out = self.block(block, out)
        return out

    def _scaled_rrdb(self, block: Any, x: Tensor) -> Tensor:
        """A block with one operator less in each of its dense blocks."""
        structure = self.runtime.structure
        # A dense block has about as many operators as a submission. Where that is too much, each convolution is one.
        work = 2 * structure.trunk // (3 * structure.depth) * x.shape[2] * x.shape[3]
        overlong = self.runtime.overlong(work)
        out = x
        for dense in (block.rdb1, block.rdb2, block.rdb3):
            seen = _grown(dense, out, self.wait if overlong else None)
            # The residual's factor is in the weights, where it is a plain convolution.
            last = dense.conv5
            scaled: Tensor = self._with_residual(last)(seen) if is_plain(last) else last(seen).mul_(RESIDUAL)
            out = scaled.add_(out)
            if overlong:
                self.wait()
        return _added(x, out)

    @torch.no_grad()
    def _with_residual(self, conv: Any) -> nn.Conv2d:
        state = sum(map(_version, conv.parameters()))
        if conv not in self._scaled or self._scaled[conv][0] != state:
            made = copy.deepcopy(conv)
            for parameter in made.parameters():
                parameter.mul_(RESIDUAL)
            self._scaled[conv] = state, made
        return self._scaled[conv][1]

    def _last(self, features: Tensor) -> Tensor:
        out = features
        for number in range(self.runtime.structure.doublings):
            out = self._enlarged(getattr(self.module, f"conv_up{number + 1}"), out)
        last: Tensor = self.module.conv_last(_activated(self.module.conv_hr(out)))
        return last

    def _enlarged(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        return _activated(conv(F.interpolate(x, scale_factor=2, mode="nearest")))


class SequenceStages(Stages):
    """The body of an SRVGGNet layer by layer, and its enlargement in bands."""

    def __init__(self, module: nn.Module, runtime: Runtime) -> None:
        super().__init__(module, runtime)
        self.body: Callable[[Tensor], Tensor] = runtime.compile(self._body)

    def bands(self, x: Tensor, keep: Box, scale: int) -> Iterator[Band]:
        with torch.no_grad():
            features = self.body(x)
        height = self.band_rows(x.shape[2], x.shape[3])
        for row, read, _ in tiling.bands(keep, x.shape[2:], 1, height, 0, scale):
            rows, columns = read.slices
            with torch.no_grad():
                out = self.module.upsampler(features[:, :, rows, columns].contiguous())
                base = x[:, :, rows, columns].contiguous()
                out = out + F.interpolate(base, scale_factor=self.runtime.structure.scale, mode="nearest")
            yield Band(row, out)

    def _body(self, x: Tensor) -> Tensor:
        capabilities = self.runtime.device.capabilities
        largest = 2 * max(conv.weight.numel() for conv in convs(self.module)) * x.shape[2] * x.shape[3]
        together = largest * capabilities.submission_operators // 3  # three for a convolution and its activation
        for layer in self.module.body:
            x = layer(x)
            if isinstance(layer, nn.Conv2d) and self.runtime.overlong(together):
                self.wait()
        return x


def _rrdb(block: Any, x: Tensor) -> Tensor:
    return _added(x, _dense(block.rdb3, _dense(block.rdb2, _dense(block.rdb1, x))))


def _dense(block: Any, x: Tensor) -> Tensor:
    return _added(x, block.conv5(_grown(block, x)))


def _grown(block: Any, x: Tensor, wait: Optional[Callable[[], None]] = None) -> Tensor:
    """A dense block's input and what its first four convolutions add to it; ``wait`` is called after each of them."""
    # Concatenated again each time: in channels-last tensors a slice of one buffer is no cheaper (convolutions copy it),
    # and on DirectML slices are copies.
    seen = x
    for conv in (block.conv1, block.conv2, block.conv3, block.conv4):
        seen = torch.cat((seen, _activated(conv(seen))), 1)
        if wait is not None:
            wait()
    return seen


def _activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE, inplace=True)


def _added(x: Tensor, out: Tensor) -> Tensor:
    """The residual connection, in ``out``. In two steps, which every backend and the compiler round alike."""
    return out.mul_(RESIDUAL).add_(x)
