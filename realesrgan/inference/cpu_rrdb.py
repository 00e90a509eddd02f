"""An RRDBNet on the processor: half of the multiplications, nothing concatenated, no enlarged copies.

A dense block's convolutions read all that the block has seen so far. Here its channels lie in planes of as many
channels as a convolution adds, one behind the other in memory: concatenating is writing the next plane.

The 3x3 convolutions are Winograd's F(4, 3), down the columns alone: what four rows of the result need of six rows of
the input is written as six products instead of twelve, each a convolution of one row with 1x3 weights. The input's rows
are brought into that form once, however many convolutions read them, and the result's rows come out of it; both are
additions and multiplications by 2, 4 and 8. Across, oneDNN's own kernels do the work, as fast as they are for 3x3. See
A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks (2016), whose matrices these are.

A 3x3 convolution of a picture enlarged twice by nearest neighbour is four 2x2 convolutions of the small picture
(:func:`realesrgan.inference.stages.phases_of`): 4/9 of the work.

Results differ from the plain order of operations by rounding alone, and are not less exact.
"""

from __future__ import annotations

import functools
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..archs.rrdbnet_arch import RESIDUAL, SLOPE
from .stages import Derived, RRDBStages, Runtime, convs, is_plain, phases_of

__all__ = ["Part", "PlanarStages", "Rows", "Spectrum", "fast_kernels", "folded", "suits"]

_GROWING = 4  # convolutions of a dense block that add a plane; the fifth reads all and gives the block's output
_STEP = 4  # rows of a result that come out together
_POINTS = 6  # products that they need
_WEIGHTS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_PIXELS = 8192  # of one product that are computed at once, so that what lies between stays in the cache


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
        self._weights = Derived(functools.partial(folded, channels=self.growth))

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
        for number, weight in enumerate(phases_of(conv.weight)):
            row, column = divmod(number, 2)
            weight = weight.contiguous(memory_format=torch.channels_last)
            # Padded on all sides: one row and one column too many, the first or the last of which is not of the phase.
            phase = F.conv2d(x, weight, conv.bias, padding=1)[:, :, row : row + height, column : column + width]
            torch.ops.aten.leaky_relu.out(phase, SLOPE, out=out[:, :, row::2, column::2])
        return out


class Part(NamedTuple):
    """Rows that are computed at once, counted in steps of four, ``stop`` excluded."""

    start: int
    stop: int


class Rows:
    """Planes of a picture, with a border of zeros above and below.

    Args:
        planes: How many.
        height: Rows.
        width: Columns.
        channels: Of each plane.
        like: A tensor of the type and on the device wanted.
    """

    def __init__(self, planes: int, height: int, width: int, channels: int, like: Tensor) -> None:
        self.height = height
        self.steps = -(-height // _STEP)
        self.all = like.new_zeros(planes, _STEP * self.steps + 2, width, channels)

    @property
    def inner(self) -> Tensor:
        """The picture without its border: planes x height x width x channels."""
        return self.all[:, 1 : self.height + 1]

    def every(self, row: int, part: Part) -> Tensor:
        """Every fourth row of a part, from ``row`` on, -1 being the one above it: planes x steps x width x channels."""
        first = row + 1 + _STEP * part.start
        return self.all[:, first : first + _STEP * (part.stop - part.start - 1) + 1 : _STEP]

    def mend(self) -> None:
        """Make the border zero again after all rows have been written, those below the picture among them."""
        self.all[:, self.height + 1 :].zero_()


class Spectrum:
    """Planes of a picture in the form that the products need: half as large again.

    Args:
        planes: How many there is room for.
        rows: A picture of the size, the type and the channels wanted.
    """

    def __init__(self, planes: int, rows: Rows) -> None:
        width, channels = rows.all.shape[2:]
        count = -(-rows.steps * width // _PIXELS)
        height = -(-rows.steps // min(count, rows.steps))
        self.parts = [Part(start, min(start + height, rows.steps)) for start in range(0, rows.steps, height)]
        self._points = [
            rows.all.new_empty(_POINTS, planes, part.stop - part.start, width, channels) for part in self.parts
        ]

    def put(self, rows: Rows, at: int) -> None:
        """Bring a picture's planes into the form, as planes ``at`` and after."""
        for part, points in zip(self.parts, self._points):
            _transform([rows.every(row, part) for row in range(-1, _STEP + 1)], points[:, at : at + rows.all.shape[0]])

    def convolved(self, conv: nn.Conv2d, planes: int, weights: Derived) -> Iterator[Tuple[Part, List[Tensor]]]:
        """A convolution of the first planes, part by part, with what ``weights`` keeps of :func:`folded`.

        Yields:
            A part, and its first, second, third and fourth rows of every step, each steps x width x out. They are the
            caller's to change.
        """
        for part, points in zip(self.parts, self._points):
            products = []
            for number, weight in enumerate(weights.of(conv)):
                seen = points[number, :planes].permute(3, 0, 1, 2).unsqueeze(0)
                bias = conv.bias if number == 1 else None  # the second product counts once in each row
                # conv3d would choose a slower implementation for few channels.
                product = torch.mkldnn_convolution(seen, weight, bias, (0, 0, 1), (1, 1, 1), (1, 1, 1), 1)
                products.append(product[0, :, 0].permute(1, 2, 0))
            yield part, _back(products)


def folded(conv: nn.Conv2d, channels: int) -> List[Tensor]:
    """A convolution's weights for each product, out x ``channels`` x planes x 1 x 3: twice as many as they are."""
    weight = conv.weight.detach()
    points = torch.tensor(_WEIGHTS, dtype=torch.float64, device=weight.device)
    products = torch.einsum("pk,oikx->poix", points, weight.double()).to(weight.dtype)
    products = products.unflatten(2, (-1, channels)).transpose(2, 3).unsqueeze(4)
    return [one.contiguous(memory_format=torch.channels_last_3d) for one in products]


def _transform(rows: Sequence[Tensor], out: Tensor) -> None:
    """Six rows d to six points: 4 d0 - 5 d2 + d4, -4 d1 - 4 d2 + d3 + d4, 4 d1 - 4 d2 - d3 + d4, ..."""
    above, first, second, third, fourth, below = rows
    even = torch.sub(fourth, second, alpha=4)
    odd = torch.sub(third, first, alpha=4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(even, second, out=out[0]).add_(above, alpha=4)
    torch.sub(fourth, second, out=even)
    torch.sub(third, first, out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    torch.sub(below, third, out=out[5]).sub_(odd, alpha=4)


def _back(products: Sequence[Tensor]) -> List[Tensor]:
    """Six products m to four rows: m0+m1+m2+m3+m4, m1-m2+2(m3-m4), m1+m2+4(m3+m4), m1-m2+8(m3-m4)+m5."""
    first, one, minus_one, two, minus_two, last = products
    even, odd = one + minus_one, one.sub_(minus_one)
    even_two, odd_two = torch.add(two, minus_two, out=minus_one), two.sub_(minus_two)
    top, bottom = first.add_(even).add_(even_two), last.add_(odd).add_(odd_two, alpha=8)
    return [top, odd.add_(odd_two, alpha=2), even.add_(even_two, alpha=4), bottom]
