"""Networks of other architectures (SwinIR, HAT, DAT, SPAN ...) through spandrel, and networks of one channel.

spandrel gets parameters that :mod:`realesrgan.weights.checkpoints` has read, never a file. What a network needs (scale,
size multiple, whether FP16 is allowed) is what spandrel says of it; the padding of tiles is measured once a file.
"""

from __future__ import annotations

import json
import logging
import re
import warnings
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from realesrgan.errors import Phrase, WeightsError, notice, one_line
from realesrgan.files.atomic import write_atomically
from realesrgan.weights import folders
from realesrgan.weights.checkpoints import failure

__all__ = ["OtherNetwork", "PerChannel", "build", "for_color"]

logger = logging.getLogger(__name__)

_NUMBER = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")
_MOST_TIMES = 16  # what building a network may allocate, in sizes of its parameters
_SPARE_BYTES = 64_000_000
_CORE = 32
_PADS = (8, 16, 32, 48)
_SEAM = 1.5 / 255  # difference that no eye sees


class PerChannel(nn.Module):
    """A network of one channel for pictures of three: each channel is enlarged on its own."""

    def __init__(self, network: nn.Module, scale: int, multiple: int, context: int) -> None:
        super().__init__()
        self.network = network
        self.upscale, self.multiple, self.context = scale, multiple, context
        self.half_allowed = bool(getattr(network, "half_allowed", True))
        self.pad = int(getattr(network, "pad", 0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 3, H * scale, W * scale)."""
        batch, channels, height, width = x.shape
        y: Tensor = self.network(x.reshape(batch * channels, 1, height, width))
        return y.reshape(batch, channels, *y.shape[-2:])


class OtherNetwork(nn.Module):
    """A network that spandrel knows, as the upscaling program uses networks.

    Attributes:
        upscale: Factor of enlargement.
        multiple: Height and width of an input must be multiples of this.
        half_allowed: Whether it may run in FP16.
        pad: Padding without visible seams, 0 if it was not measured.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        needs = descriptor.size_requirements
        self.network: nn.Module = descriptor.model
        self._descriptor = descriptor
        self._smallest, self._square = int(needs.minimum), bool(needs.square)
        self.upscale = int(descriptor.scale)
        self.multiple = int(needs.multiple_of)
        self.half_allowed = bool(descriptor.supports_half)
        self.pad = 0

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in 0..1, sides multiples of :attr:`multiple`, to (B, C, H * upscale, W * upscale)."""
        height, width = x.shape[-2:]
        sides = max(height, self._smallest), max(width, self._smallest)
        if self._square:
            sides = max(sides), max(sides)
        below, right = sides[0] - height, sides[1] - width
        if below or right:
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        y = torch.cat([self._descriptor(one[None]) for one in x])
        return y[..., : height * self.upscale, : width * self.upscale]


def for_color(network: nn.Module, channels: int, scale: int, multiple: int, context: int, path: Path) -> nn.Module:
    """A network of as many input and output channels, for pictures of three.

    Raises:
        WeightsError: It has neither three channels nor one.
    """
    if channels == 3:
        return network
    if channels != 1:
        raise _channels(path, channels, channels)
    notice(
        logger,
        "weights.grey",
        f"{path} is a network for grey pictures: each colour channel is enlarged on its own.",
        path=path,
    )
    return PerChannel(network, scale, multiple, context).eval()


def build(state: Mapping[str, Tensor], path: Path, sha256: str) -> nn.Module:
    """The network of another architecture with these parameters, on the CPU in float32, in evaluation mode.

    Args:
        sha256: Of the file, under which the measured padding is kept.

    Raises:
        WeightsError: spandrel is not installed, does not know the network, or the network is not for pictures.
    """
    try:
        from spandrel import MAIN_REGISTRY, ImageModelDescriptor
    except ImportError as error:
        raise _unknown(
            path,
            len(state),
            Phrase("network.install", "for other architectures, install spandrel: pip install spandrel"),
        ) from error
    try:
        _check_numbers(state)
        with warnings.catch_warnings(), _Bounded(sum(value.numel() for value in state.values())):
            warnings.simplefilter("ignore")  # what torch says of spandrel's calls helps no user
            descriptor = MAIN_REGISTRY.load(dict(state))
    except Exception as error:  # what it raises for parameters of no network has no common class
        raise _unknown(path, len(state), Phrase("quote", one_line(error)[:200] or type(error).__name__)) from error
    channels = descriptor.input_channels, descriptor.output_channels
    if not isinstance(descriptor, ImageModelDescriptor) or channels not in ((3, 3), (1, 1)):
        raise _channels(path, *channels)
    descriptor.model.float().eval().requires_grad_(False)
    network = OtherNetwork(descriptor).eval()
    notice(
        logger,
        "weights.architecture",
        f"{path}: {descriptor.architecture.name}, scale {network.upscale}, through spandrel.",
        level=logging.INFO,
        path=path,
        name=descriptor.architecture.name,
        scale=network.upscale,
    )
    network.pad = _padding(network, channels[0], sha256)
    return for_color(network, channels[0], network.upscale, network.multiple, network.pad, path)


def _unknown(path: Path, count: int, reason: Phrase) -> WeightsError:
    told = f"contains {count} parameters of no network known here ({reason}). Pass the network as model=."
    return failure(path, "weights.unknown_network", told, count=count, reason=reason)


def _channels(path: Path, given: int, made: int) -> WeightsError:
    told = (
        f"is a network from {given} channels to {made}; pictures need one from 3 to 3 or from 1 to 1. Choose "
        "another one."
    )
    return failure(path, "weights.channels", told, given=given, made=made)


def _check_numbers(state: Mapping[str, Tensor]) -> None:
    """Refuse names that promise more parts than there are parameters: all those parts would be built."""
    most = len(state) + 64
    for name in state:
        if any(len(number) > 9 or int(number) > most for number in _NUMBER.findall(name)):
            raise ValueError("a name counts more parts than there are parameters")


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call, misc, unused-ignore]
    """Ends building a network that allocates far more than its parameters have."""

    def __init__(self, parameters: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self._left = parameters * 4 * _MOST_TIMES + _SPARE_BYTES

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Optional[Dict[str, Any]] = None) -> Any:
        size = args[0] if args and isinstance(args[0], (list, tuple)) else ()
        if size and all(isinstance(side, int) for side in size):
            count = 4
            for side in size:
                count *= side
            self._left -= count
            if self._left < 0:
                raise MemoryError("its parts take far more memory than its parameters")
        return func(*args, **(kwargs or {}))


def _padding(network: OtherNetwork, channels: int, sha256: str) -> int:
    """The smallest of some paddings with which a part comes out as it does in the middle of a large picture."""
    base = folders.user_folder("cache")
    kept = base / "padding.json" if base is not None else None
    known = _read(kept)
    found = known.get(sha256)
    if type(found) is int and 0 < found <= 1024:
        return found
    found = _measured(network, channels)
    if kept is not None and sha256:
        try:
            write_atomically(kept, lambda stream: stream.write(json.dumps({**known, sha256: found}).encode()))
        except OSError as error:
            logger.debug("%s: %s", kept, error)
    return found


def _read(kept: Optional[Path]) -> Dict[str, Any]:
    try:
        known = json.loads(kept.read_text("utf-8")) if kept is not None else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _measured(network: OtherNetwork, channels: int) -> int:
    step = network.multiple
    pads = sorted({-(-pad // step) * step for pad in _PADS})
    core = -(-_CORE // step) * step
    margin = pads[-1]
    generator = torch.Generator().manual_seed(0)
    side = core + 2 * margin
    coarse = torch.rand(1, channels, side // 8 + 1, side // 8 + 1, generator=generator)
    fine = torch.rand(1, channels, side, side, generator=generator)
    smooth = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    picture = (0.8 * smooth + 0.2 * fine).clamp(0, 1)

    def middle(pad: int) -> Tensor:
        start, stop = margin - pad, margin + core + pad
        result: Tensor = network(picture[..., start:stop, start:stop])
        scale = network.upscale
        return result[..., pad * scale : (pad + core) * scale, pad * scale : (pad + core) * scale]

    with torch.no_grad():
        expected = middle(margin)
        for pad in pads[:-1]:
            if float((middle(pad) - expected).abs().max()) <= _SEAM:
                return pad
    return margin
