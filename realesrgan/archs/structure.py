"""What the shape of a network means: scale, size multiple, context, cost. Plain integers, no torch.

:data:`FAMILIES` has one row a network family. A new family is one file in this folder, which contains its
``torch.nn`` module, and one row here; a network of no family here still runs, in one piece.
"""

from __future__ import annotations

import importlib
import math
import re
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

__all__ = [
    "FAMILIES",
    "HALO",
    "OTHER",
    "RRDBNET_UNSHUFFLE",
    "Family",
    "Shapes",
    "Structure",
    "enlargement",
    "of",
    "read",
]

Shapes = Mapping[str, Tuple[int, ...]]
"""Name -> shape of parameters, in forward order."""

# Scale of an RRDBNet -> the factor of the pixel-unshuffle in front of it, where its maker named none. Behind it such an
# RRDBNet enlarges by 4.
RRDBNET_UNSHUFFLE: Mapping[int, int] = MappingProxyType({4: 1, 2: 2, 1: 4})

HALO = 2
"""Pixels of the feature map that the last stage of an RRDBNet reads on either side."""

_BLOCKS = re.compile(r"body\.(\d+)\.rdb1\.conv1\.weight")
_DOUBLINGS = re.compile(r"conv_up(\d+)\.weight")
_FLAT = re.compile(r"body\.(\d+)\.weight")
_OTHER_NAME = "other"


@dataclass(frozen=True)
class Structure:
    """What a network's shape says. Two networks of equal structures accept each other's state dict.

    Attributes:
        family: Name of a row of :data:`FAMILIES`, or ``"other"``.
        scale: Whole factor of enlargement.
        in_channels: Channels of the input picture.
        out_channels: Channels of the result.
        features: Channels of the feature map.
        depth: Blocks of an RRDBNet, inner convolutions of an SRVGGNetCompact.
        growth: Channels that a convolution of a dense block adds, 0 without such blocks.
        multiple: Height and width of an input must be multiples of this.
        unshuffle: Factor of the pixel-unshuffle in front, 1 without: an input pixel's share of the feature map.
        context: Input pixels on either side that an output pixel depends on.
        weights: Number of parameters.
        trunk: Multiply-adds for a pixel of the feature map up to the last stage.
        last: Multiply-adds of the last stage for a pixel of the feature map.
        widest: Most channels that a convolution at the size of the feature map reads or gives.
        measured_pad: Padding without visible seams that was measured, 0 if it was not.
    """

    family: str
    scale: int
    in_channels: int = 3
    out_channels: int = 3
    features: int = 64
    depth: int = 0
    growth: int = 0
    multiple: int = 1
    unshuffle: int = 1
    context: int = 0
    weights: int = 0
    trunk: int = 0
    last: int = 0
    widest: int = 64
    measured_pad: int = 0

    @property
    def row(self) -> Family:
        """The family's row."""
        return FAMILIES.get(self.family, OTHER)

    @property
    def enlargement(self) -> int:
        """Sides of the result in pixels of the feature map."""
        return self.scale * self.unshuffle

    @property
    def doublings(self) -> int:
        """Enlargements by 2 of an RRDBNet's last stage."""
        return self.enlargement.bit_length() - 1

    @property
    def default_pad(self) -> int:
        """Padding of a tile without visible seams: exact for a short network, 32 for others (x4plus: 349 exactly)."""
        return self.measured_pad or (self.context if self.row.pads_exactly else 32)

    def flops(self, height: int, width: int) -> int:
        """Floating-point operations for ``height`` x ``width`` input pixels; a multiply-add counts as two."""
        return 2 * (self.trunk + self.last) * self.pixels(height, width)

    def pixels(self, height: int, width: int) -> int:
        """Pixels of the feature map for that many input pixels."""
        return height * width // self.unshuffle**2

    def largest(self, height: int, width: int, band_rows: int) -> int:
        """Values of the largest tensor of a tile of ``height`` x ``width`` input pixels.

        Args:
            band_rows: Rows of the feature map that the last stage computes at once, where the network has one.
        """
        trunk = self.widest * self.pixels(height, width)
        return max(trunk, self.row.band_values(self, self._band(height, width, band_rows)))

    def live(self, height: int, width: int, band_rows: int) -> int:
        """Values that live at once while a tile is computed in the plain way; arguments as for :meth:`largest`."""
        trunk = self.row.trunk_channels(self) * self.pixels(height, width)
        return max(trunk, self.last_live(height, width, band_rows))

    def last_live(self, height: int, width: int, band_rows: int) -> int:
        """The part of :meth:`live` in the last stage: a convolution's input and output, and the feature map."""
        band = self.row.band_values(self, self._band(height, width, band_rows))
        return 2 * band + self.features * self.pixels(height, width)

    def _band(self, height: int, width: int, rows: int) -> int:
        """Pixels of the feature map of one band and its margin."""
        return (min(rows, height // self.unshuffle) + 2 * HALO) * (width // self.unshuffle)

    def shapes(self) -> Dict[str, Tuple[int, ...]]:
        """Name -> shape of every parameter, in forward order. Empty for a network of no known family."""
        return self.row.shapes(self)

    def describe(self) -> str:
        """A few words that tell this network from others, for messages."""
        return self.row.description.format(title=self.row.title, self=self)


@dataclass(frozen=True)
class Family:
    """A row of the table.

    Attributes:
        title: Name of the class.
        module: Module of this package that defines it.
        description: Sentence of :meth:`Structure.describe`.
        arguments: Positional and keyword arguments with which the class builds a network.
        guess: The structure that parameters of these shapes would have; raises KeyError, ValueError, IndexError or
            ZeroDivisionError where they cannot be this family's.
        shapes: See :meth:`Structure.shapes`.
        context: See :class:`Structure`.
        stage: 0 for a convolution of the trunk; for one of the last stage 1 and the doublings before it.
        trunk_channels: Channels that live at once in the trunk.
        band_values: Values of the largest tensor of the last stage for that many pixels of the feature map.
        pads_exactly: A tile is padded by the whole context.
        processor_tile: Side of the tile that takes least time on a processor for each pixel that is kept.
    """

    title: str
    module: str
    description: str
    arguments: Callable[[Structure], Tuple[Tuple[Any, ...], Dict[str, Any]]]
    guess: Callable[[Shapes], Structure]
    shapes: Callable[[Structure], Dict[str, Tuple[int, ...]]]
    context: Callable[[Structure], int]
    stage: Callable[[Structure, str], int] = lambda structure, name: 0
    trunk_channels: Callable[[Structure], int] = lambda structure: 2 * structure.features + structure.scale**2 * 3
    band_values: Callable[[Structure, int], int] = lambda structure, pixels: 0
    pads_exactly: bool = False
    processor_tile: int = 256

    def make(self, structure: Structure) -> Any:
        """A network of a structure, with random weights. Imports torch."""
        positional, named = self.arguments(structure)
        defined = importlib.import_module(f"realesrgan.archs.{self.module}")
        return getattr(defined, self.title)(*positional, **named)


def complete(structure: Structure) -> Structure:
    """A structure with what follows from its scale, channels, features, depth and growth filled in."""
    shapes = structure.row.shapes(structure)
    trunk = last = 0
    widest = structure.features
    for name, shape in shapes.items():
        if len(shape) == 4:
            stage = structure.row.stage(structure, name.rpartition(".")[0])
            if stage:
                last += math.prod(shape) * 4 ** (stage - 1)
            else:
                trunk += math.prod(shape)
                widest = max(widest, *shape[:2])
    weights = sum(math.prod(shape) for shape in shapes.values())
    context = structure.row.context(structure)
    return replace(structure, context=context, weights=weights, trunk=trunk, last=last, widest=widest)


def rrdbnet(
    scale: int = 4,
    num_in_ch: int = 3,
    num_out_ch: int = 3,
    num_feat: int = 64,
    num_block: int = 23,
    num_grow_ch: int = 32,
    unshuffle: Optional[int] = None,
) -> Structure:
    """The structure of an RRDBNet; arguments as for :class:`realesrgan.archs.rrdbnet_arch.RRDBNet`."""
    factor = RRDBNET_UNSHUFFLE[scale] if unshuffle is None else unshuffle
    if factor < 1 or scale < 1 or 2 ** (scale * factor).bit_length() != 2 * scale * factor:
        raise ValueError(f"scale {scale} times unshuffle {factor} is no power of 2")
    return complete(
        Structure("rrdbnet", scale, num_in_ch, num_out_ch, num_feat, num_block, num_grow_ch, factor, factor)
    )


def srvgg(scale: int = 4, num_in_ch: int = 3, num_out_ch: int = 3, num_feat: int = 64, num_conv: int = 16) -> Structure:
    """The structure of an SRVGGNetCompact; arguments as for :class:`realesrgan.archs.srvgg_arch.SRVGGNetCompact`."""
    return complete(Structure("srvgg", scale, num_in_ch, num_out_ch, num_feat, num_conv))


def _conv(name: str, inputs: int, outputs: int) -> Iterator[Tuple[str, Tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs, 3, 3)
    yield f"{name}.bias", (outputs,)


def _rrdbnet_shapes(structure: Structure) -> Dict[str, Tuple[int, ...]]:
    features, growth = structure.features, structure.growth
    shapes = dict(_conv("conv_first", structure.in_channels * structure.unshuffle**2, features))
    for block in range(structure.depth):
        for dense in (1, 2, 3):
            for number in range(5):
                name = f"body.{block}.rdb{dense}.conv{number + 1}"
                shapes.update(_conv(name, features + number * growth, growth if number < 4 else features))
    for name in ("conv_body", *(f"conv_up{number + 1}" for number in range(structure.doublings)), "conv_hr"):
        shapes.update(_conv(name, features, features))
    shapes.update(_conv("conv_last", features, structure.out_channels))
    return shapes


def _guess_rrdbnet(shapes: Shapes) -> Structure:
    features, folded = shapes["conv_first.weight"][:2]
    channels = shapes["conv_last.weight"][0]
    blocks = sum(1 for name in shapes if _BLOCKS.fullmatch(name))
    doublings = sum(1 for name in shapes if _DOUBLINGS.fullmatch(name))
    growth = shapes["body.0.rdb1.conv1.weight"][0] if blocks else 32
    factor = math.isqrt(folded // channels)
    return rrdbnet(max(2**doublings // factor, 1), channels, channels, features, blocks, growth, factor)


def _rrdbnet_context(structure: Structure) -> int:
    trunk = 1 + 3 * 5 * structure.depth + 1  # conv_first, three dense blocks of five in a block, conv_body
    reach = 0
    for phase in (0, structure.enlargement - 1):  # the outermost output pixels of one trunk pixel
        low, high = phase - 2, phase + 2  # conv_hr and conv_last
        for _ in range(structure.doublings):
            low, high = (low - 1) // 2, (high + 1) // 2  # a convolution, then the nearest pixels at half the size
        reach = max(reach, -low, high)
    return structure.unshuffle * (trunk + reach)


def _rrdbnet_stage(structure: Structure, name: str) -> int:
    if name.startswith("conv_up"):
        return 1 + int(name[len("conv_up") :])
    return 1 + structure.doublings if name in ("conv_hr", "conv_last") else 0


def _rrdbnet_arguments(structure: Structure) -> Tuple[Tuple[Any, ...], Dict[str, Any]]:
    positional = (
        structure.in_channels,
        structure.out_channels,
        structure.scale,
        structure.features,
        structure.depth,
        structure.growth,
    )
    usual = RRDBNET_UNSHUFFLE.get(structure.scale) == structure.unshuffle
    return positional, {} if usual else {"unshuffle": structure.unshuffle}


def _srvgg_shapes(structure: Structure) -> Dict[str, Tuple[int, ...]]:
    shapes: Dict[str, Tuple[int, ...]] = {}
    channels = structure.in_channels
    for number in range(structure.depth + 1):
        shapes.update(_conv(f"body.{2 * number}", channels, structure.features))
        shapes[f"body.{2 * number + 1}.weight"] = (structure.features,)
        channels = structure.features
    last = 2 * (structure.depth + 1)
    shapes.update(_conv(f"body.{last}", channels, structure.out_channels * structure.scale**2))
    return shapes


def _guess_srvgg(shapes: Shapes) -> Structure:
    features, channels = shapes["body.0.weight"][:2]
    last = max(int(name.split(".")[1]) for name in shapes)  # body.0, body.1, ... body.<last>
    if last < 2 or last % 2 or last > len(shapes):
        raise ValueError
    scale = round((shapes[f"body.{last}.weight"][0] / channels) ** 0.5)
    return srvgg(scale, channels, channels, features, last // 2 - 1)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "rrdbnet": Family(
            title="RRDBNet",
            module="rrdbnet_arch",
            description="{title}, scale {self.scale}, {self.depth} blocks, {self.features} features",
            arguments=_rrdbnet_arguments,
            guess=_guess_rrdbnet,
            shapes=_rrdbnet_shapes,
            context=_rrdbnet_context,
            stage=_rrdbnet_stage,
            # While a dense block concatenates: what it has, what comes to it, both together; three older feature maps.
            trunk_channels=lambda self: 3 * self.features + 2 * (self.features + 4 * self.growth),
            band_values=lambda self, pixels: self.features * self.enlargement**2 * pixels,
            processor_tile=384,  # a seventh more time in tiles of 256, and no less in tiles of 512
        ),
        "srvgg": Family(
            title="SRVGGNetCompact",
            module="srvgg_arch",
            description="{title}, scale {self.scale}, {self.depth} convolutions, {self.features} features",
            arguments=lambda self: (
                (self.in_channels, self.out_channels, self.features, self.depth, self.scale, "prelu"),
                {},
            ),
            guess=_guess_srvgg,
            shapes=_srvgg_shapes,
            context=lambda self: self.depth + 2,
            pads_exactly=True,
            processor_tile=192,
        ),
    }
)


def _no_guess(shapes: Shapes) -> Structure:
    raise ValueError


OTHER = Family(
    title="",
    module="",
    description="a network of scale {self.scale}",
    arguments=lambda self: ((), {}),
    guess=_no_guess,
    shapes=lambda self: {},
    context=lambda self: self.context,
)
"""The row of a network of no family here."""


def read(shapes: Shapes) -> Optional[Structure]:
    """The structure whose network has parameters of exactly these shapes, None if no family has.

    The activations of an SRVGGNetCompact without PReLU have no parameters: it is not recognised, since its checkpoint
    does not show which activation it was trained with. Input and output are assumed to have equally many channels.
    """
    for row in FAMILIES.values():
        try:
            found = row.guess(shapes)
        except (KeyError, ValueError, IndexError, ZeroDivisionError):
            continue
        if found.shapes() == dict(shapes):
            return found
    return None


def enlargement(module: Any) -> Optional[int]:
    """The whole factor by which a network enlarges, None if neither its shape nor its attributes show it."""
    found = _known(_shapes_of(module))
    if found is not None:
        return found.scale
    factor = getattr(module, "upscale", None)
    return factor if type(factor) is int else None


def of(module: Any, scale: int) -> Structure:
    """The structure of a ``torch.nn.Module``; of one of no known family, what its convolutions and attributes show.

    Args:
        scale: Its factor, for a network that does not show it.
    """
    shapes = _shapes_of(module)
    found = _known(shapes)
    if found is not None:
        return found
    convs = [shape for shape in shapes.values() if len(shape) == 4]
    stated = {name: getattr(module, name, None) for name in ("multiple", "context", "pad")}
    multiple, context, pad = (value if type(value) is int and value > 0 else None for value in stated.values())
    widest = max((max(shape[:2]) for shape in convs), default=3)
    return Structure(
        _OTHER_NAME,
        scale,
        features=max((shape[0] for shape in convs), default=64),
        multiple=multiple or 1,
        context=context or len(convs),
        weights=sum(math.prod(shape) for shape in shapes.values()),
        trunk=sum(math.prod(shape) for shape in convs),
        widest=widest * scale**2,
        measured_pad=pad or 0,
    )


def _known(shapes: Shapes) -> Optional[Structure]:
    """As :func:`read`, for a network that exists: activations without parameters do not matter."""
    last = max((int(found.group(1)) for found in map(_FLAT.fullmatch, shapes) if found), default=0)
    width = shapes.get("body.0.weight", (0,))[:1]
    slopes = {f"body.{number}.weight": width for number in range(1, last, 2)}
    return read(shapes) or read({**slopes, **shapes})


def _shapes_of(module: Any) -> Dict[str, Tuple[int, ...]]:
    named = getattr(module, "named_parameters", dict)()
    return {name: tuple(value.shape) for name, value in dict(named).items()}
