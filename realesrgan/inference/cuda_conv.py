"""Convolutions of float16 pictures on CUDA cards by our own kernels: packed weights, and the shapes of their blocks.

A picture here is planes x rows x columns x channels. A convolution reads the channels of one plane and of those that
follow it, and writes some channels of a plane, so that nothing is ever concatenated; bias, activation and what is added
to the result need no pass of their own.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, ContextManager, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..errors import Phrase, one_line
from .stages import is_plain, phases_of

__all__ = [
    "SHAPES",
    "WIDTHS",
    "Convolution",
    "Picture",
    "Shape",
    "enlarging",
    "family",
    "fits",
    "on",
    "refusal",
    "run_together",
    "shapes_of",
    "takes",
]

_LOWEST = (8, 0)
"""Compute capability from which matrix units take float16 as the kernels need it."""
_HOPPER = (9, 0)
_SHARED, _SHARED_HOPPER = 99 * 1024, 226 * 1024
"""Bytes of shared memory for a program: of the card that has least, and of a Hopper card."""


class Shape(NamedTuple):
    """How a kernel divides its work.

    Attributes:
        rows: Rows of pixels that a program computes.
        columns: Columns of pixels that it computes.
        block: Input channels of a step.
        stages: Steps under way at once, those being copied included.
        warps: Warps of a program.
    """

    rows: int
    columns: int
    block: int
    stages: int
    warps: int


SHAPES: Mapping[str, Mapping[str, Shape]] = {
    # Measured on an H100. "wide": 64 result channels, "narrow": 32, "doubled": behind a nearest doubling,
    # "first": few input channels, "last": few result channels.
    "hopper": {
        "wide": Shape(4, 64, 32, 3, 4),
        "narrow": Shape(4, 64, 32, 3, 4),
        "doubled": Shape(4, 64, 32, 3, 4),
        "first": Shape(4, 64, 16, 4, 4),
        "last": Shape(4, 64, 32, 3, 4),
    },
    # By pointers. Their shared memory (36 KB at most) fits every card.
    "other": {
        "wide": Shape(8, 16, 32, 3, 4),
        "narrow": Shape(8, 16, 32, 3, 4),
        "doubled": Shape(8, 16, 32, 3, 4),
        "first": Shape(8, 16, 16, 3, 4),
        "last": Shape(8, 16, 32, 3, 4),
    },
}
"""Shapes by family of cards and role of a convolution."""
WIDTHS: Mapping[str, int] = {"wide": 64, "narrow": 32, "doubled": 64, "first": 64, "last": 16}
"""Result channels by role."""


def shapes_of(cards: str, tuned: Mapping[str, Sequence[int]]) -> Dict[str, Shape]:
    """The shapes for a family of cards: those of the table, or what tuning found where a kernel can run it."""
    found = {role: Shape(*tuned[role]) for role in SHAPES[cards] if role in tuned}
    return {**SHAPES[cards], **{role: shape for role, shape in found.items() if fits(cards, role, shape)}}


def fits(cards: str, role: str, shape: Shape) -> bool:
    """Whether a kernel can run a convolution of a role in a shape."""
    width = WIDTHS[role]
    if cards != "hopper":
        return shape.stages * 2 * shape.block * (shape.rows * shape.columns + width) <= _SHARED
    # Lines are read two by two, and the memory of all stages is used again for whole rows of the result.
    rooms, rest = divmod(shape.stages * 6 * shape.block, width)
    taps = 2 if role == "doubled" else 3
    size = shape.stages * 2 * shape.block * (6 * shape.columns + taps * width)
    return (shape.rows, shape.columns, shape.warps) == (4, 64, 4) and not rest and rooms >= 4 and size <= _SHARED_HOPPER


def refusal(device: torch.device) -> Optional[Phrase]:
    """Why the kernels cannot run on a device, None if they can be tried."""
    if device.type != "cuda" or torch.version.cuda is None:
        return Phrase("kernels.no_cuda", "it is not a CUDA card")
    capability = torch.cuda.get_device_capability(device)
    if capability < _LOWEST:
        found = f"{capability[0]}.{capability[1]}"
        return Phrase("kernels.capability", f"its compute capability is {found}, 8.0 is needed", found=found)
    try:
        importlib.import_module(".cuda_kernels", __package__)
    except Exception as error:  # noqa: BLE001 - a broken installation fails in any way
        return Phrase("kernels.triton", f"Triton cannot be imported ({one_line(error)})", error=error)
    return None


@functools.lru_cache(maxsize=None)
def family(device: torch.device) -> str:
    """The family of :data:`SHAPES` to which a device belongs."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) != _HOPPER:
        return "other"
    try:
        importlib.import_module(".cuda_hopper", __package__)
    except Exception:  # noqa: BLE001 - an older Triton has no Gluon, or another one
        return "other"
    return "hopper"


def on(device: torch.device) -> ContextManager[Any]:
    """Inside it, kernels start on a device."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def takes(conv: nn.Conv2d) -> bool:
    """Whether the kernels compute what a convolution does."""
    return is_plain(conv) and conv.bias is not None


def run_together(calls: Sequence[Callable[[], None]]) -> None:
    """Run the first calls of several kernels in threads, so that they are compiled at the same time."""
    with ThreadPoolExecutor(len(calls), thread_name_prefix="kernels") as pool:
        for done in [pool.submit(call) for call in calls]:
            done.result()


class Picture:
    """Planes x rows x columns x channels, float16, the channels of a pixel side by side; may be a view."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self._descriptors: Dict[Tuple[int, ...], Any] = {}

    def descriptor(self, block: Tuple[int, ...], halves: bool = False) -> Any:
        """The copy engine's descriptor for blocks of a shape; ``halves``: of the picture seen in pairs of pixels."""
        key = (*block, int(halves))
        if key not in self._descriptors:
            seen = self.tensor
            if halves:
                height, width, channels = seen.shape[1:]
                seen = seen[0].view(height // 2, 2, width // 2, 2 * channels)
            self._descriptors[key] = importlib.import_module(".cuda_hopper", __package__).descriptor(seen, block)
        return self._descriptors[key]


def enlarging(weight: Tensor) -> Tensor:
    """What :func:`realesrgan.inference.stages.phases_of` gives, 4 x out x in x 2 x 2 in FP32."""
    return torch.stack(phases_of(weight.float()))


def packed(weight: Tensor, block: int) -> Tensor:
    """Weights in the order in which a kernel reads them, as a matrix with a column for each result channel.

    Args:
        weight: phases x out x in x taps x taps.
        block: Input channels of a step; the last one is filled up with zeros.
    """
    phases, out, channels, taps, _ = weight.shape
    full = weight.new_zeros(phases, out, -(-channels // block) * block, taps, taps)
    full[:, :, :channels] = weight
    steps: Tensor = full.unflatten(2, (-1, block))
    return steps.permute(0, 2, 5, 4, 3, 1).reshape(-1, out).contiguous()


class Convolution:
    """A 3x3 convolution with its bias and its activation, ready to run.

    Args:
        weight: out x in x 3 x 3, or what :func:`enlarging` makes of it.
        bias: A value for each result channel, None for none.
        slope: Of each result channel below 0: a number for all of them, or a tensor.
        shape: How to divide the work.
        hopper: Run the kernel for Hopper cards.
        width: Result channels that are computed, those beyond ``out`` with weights of zero.
    """

    def __init__(
        self, weight: Tensor, bias: Optional[Tensor], slope: Any, shape: Shape, *, hopper: bool, width: int = 0
    ) -> None:
        phases = weight if weight.dim() == 5 else weight[None]
        given = phases.shape[1]
        self.width = width or given
        self.taps = int(phases.shape[-1])
        self.steps = -(-int(phases.shape[2]) // shape.block)
        self.shape = shape
        self.hopper = hopper
        filled = phases.new_zeros(phases.shape[0], self.width, *phases.shape[2:], dtype=torch.float32)
        filled[:, :given] = phases.detach()
        self.weight = packed(filled, shape.block).half()
        self.bias = filled.new_zeros(self.width)
        if bias is not None:
            self.bias[:given] = bias.detach()
        self.slope = filled.new_ones(self.width)
        self.slope[:given] = slope.detach() if isinstance(slope, Tensor) else slope
        self._weights: Any = None
        self._started: Dict[Tuple[int, int], Any] = {}

    def __call__(
        self,
        source: Picture,
        out: Picture,
        *,
        plane: int = 0,
        follow: int = 0,
        channel: int = 0,
        out_plane: int = 0,
        out_channel: int = 0,
        add: Optional[int] = None,
        ratio: Optional[float] = None,
        entry: Optional[int] = None,
    ) -> None:
        """Convolve a picture into another one, or into other channels of the same.

        Args:
            source: What is read, beginning at ``channel`` of ``plane``, then ``follow`` and the planes behind it.
            out: What is written, at ``out_channel`` of ``out_plane``: of the same size, or of twice the size.
            add: Plane of ``out`` that is added to the sum before the activation; with ``ratio``, to ``ratio`` times the
                result behind it.
            entry: Plane of ``out`` to which the result, times ``ratio`` once more, is added.
        """
        mode = 0 if add is None else 1 if ratio is None else 2
        outer = 0.0 if entry is None else ratio
        planes = (plane, follow, channel, out_plane, out_channel, add or 0, entry or 0)
        values = (*planes, self.steps, float(ratio or 0.0), float(outer or 0.0))
        height, width = source.tensor.shape[1:3]
        shape = self.shape
        grid = (-(-width // shape.columns), -(-height // shape.rows), 4 if self.taps == 2 else 1)
        parts = source.tensor.shape[3] // shape.block
        if self.hopper:
            self._on_hopper(source, out, grid, values, parts, mode)
            return
        # What is added lies in ``out`` too; with one name for both, the compiler makes the kernel a fifth slower.
        tensors = (source.tensor, self.weight, self.bias, self.slope, out.tensor, out.tensor)
        sizes = (height, width, *source.tensor.stride()[:3], *out.tensor.stride()[:3], *out.tensor.stride()[:3])
        constants = (self.width, shape.block, shape.columns, shape.rows, parts, mode, self.taps, shape.stages)
        kernels = importlib.import_module(".cuda_kernels", __package__)
        kernels.blocks[grid](*tensors, *values, *sizes, *constants, num_warps=shape.warps)

    def _on_hopper(
        self, source: Picture, out: Picture, grid: Any, values: Sequence[Any], parts: int, mode: int
    ) -> None:
        shape = self.shape
        kernels = importlib.import_module(".cuda_hopper", __package__)
        if self._weights is None:
            self._weights = kernels.descriptor(self.weight, (shape.block, self.width))
        lines = source.descriptor((1, 2, shape.columns, shape.block))
        target = out.descriptor((1, 1, shape.columns, self.width), halves=self.taps == 2)
        constants = (self.width, shape.block, shape.columns, parts, mode, self.taps, shape.stages)
        arguments = (lines, self._weights, self.bias, self.slope, target, *values, *constants)
        # What was compiled depends on these alone; called directly, it starts in a third of the time.
        started = self._started.get((parts, mode))
        if started is None:
            self._started[parts, mode] = kernels.rows[grid](*arguments, num_warps=shape.warps)
        else:
            started[grid](*arguments, shape.warps)
