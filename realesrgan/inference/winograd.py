"""3x3 convolutions on the processor with half of the multiplications.

Winograd's F(4, 3), down the columns alone: what four rows of the result need of six rows of the input is written as
six products instead of twelve, each a convolution of one row with 1x3 weights. The input's rows are brought into that
form once, however many convolutions read them, and the result's rows come out of it; both are additions and
multiplications by 2, 4 and 8. Across, oneDNN's own kernels do the work, at the pace that they have for 3x3.

Channels lie in planes, one behind the other in memory, so that a convolution may read more planes than the one before
without anything being copied. See A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks (2016), whose
matrices these are. Results differ from the plain sum by rounding alone, and are not less exact.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor, nn

__all__ = ["Part", "Rows", "Spectrum", "Weights"]

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


class Part(NamedTuple):
    """Rows that are computed at once, counted in steps of four; ``stop`` is the first that is not among them."""

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


class Weights:
    """The weights of convolutions in the form that the products need: kept, with twice the size of what they are."""

    def __init__(self) -> None:
        self._kept: Dict[nn.Conv2d, Tuple[Tuple[int, int], List[Tensor]]] = {}

    def of(self, conv: nn.Conv2d, planes: int) -> List[Tensor]:
        """For each product, out x in x ``planes`` x 1 x 3; computed again if the convolution's weights have changed."""
        weight = conv.weight
        state = (weight.data_ptr(), 0 if weight.is_inference() else weight._version)
        if conv not in self._kept or self._kept[conv][0] != state:
            points = torch.tensor(_WEIGHTS, dtype=torch.float64, device=weight.device)
            folded = torch.einsum("pk,oikx->poix", points, weight.detach().double()).to(weight.dtype)
            folded = folded.unflatten(2, (planes, -1)).transpose(2, 3).unsqueeze(4)
            self._kept[conv] = state, [one.contiguous(memory_format=torch.channels_last_3d) for one in folded]
        return self._kept[conv][1]


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

    def convolved(self, conv: nn.Conv2d, planes: int, weights: Weights) -> Iterator[Tuple[Part, List[Tensor]]]:
        """A convolution of the first planes, part by part.

        Yields:
            A part, and its first, second, third and fourth rows of every step, each steps x width x out. They are the
            caller's to change.
        """
        folded = weights.of(conv, planes)
        for part, points in zip(self.parts, self._points):
            products = []
            for number, weight in enumerate(folded):
                seen = points[number, :planes].permute(3, 0, 1, 2).unsqueeze(0)
                bias = conv.bias if number == 1 else None  # the second product counts once in each row
                # conv3d would choose a slower implementation for few channels.
                product = torch.mkldnn_convolution(seen, weight, bias, (0, 0, 1), (1, 1, 1), (1, 1, 1), 1)
                products.append(product[0, :, 0].permute(1, 2, 0))
            yield part, _back(products)


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
