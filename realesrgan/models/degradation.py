"""How pairs are made of sharp pictures: the ground truth sharpened, a low picture degraded, batches mixed by a pool.

The second-order degradation is the model of the paper (Wang et al. 2021, arXiv 2107.10833): blur, resize, noise and
JPEG, all of it twice with ranges of its own, and a sinc filter (ringing) around the last JPEG. The blur kernels come
with the data (:mod:`realesrgan.data.realesrgan_dataset`); everything else is drawn here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple, cast

import torch
from basicsr.data.degradations import random_add_gaussian_noise_pt, random_add_poisson_noise_pt
from basicsr.utils import DiffJPEG
from basicsr.utils.img_process_util import filter2D
from torch import nn
from torch.nn import functional as F

from realesrgan.errors import InputError

__all__ = ["Degradation", "PairPool", "Stage", "UnsharpMask", "resize_factor", "to_levels"]

Range = Tuple[float, float]
MODES = ("area", "bilinear", "bicubic")


def _need(options: Dict[str, Any], key: str) -> Any:
    if options.get(key) is None:
        raise InputError(f"option {key!r} is missing: the degradation needs it (see options/)")
    return options[key]


def _range(options: Dict[str, Any], key: str, low: float, high: float) -> Range:
    values = _need(options, key)
    if len(values) != 2 or not low <= values[0] <= values[1] <= high:
        raise InputError(f"option {key!r} is [least, most] within {low} and {high}, not {values}")
    return float(values[0]), float(values[1])


def _probability(options: Dict[str, Any], key: str) -> float:
    value = _need(options, key)
    if not 0 <= value <= 1:
        raise InputError(f"option {key!r} is a probability from 0 to 1, not {value}")
    return float(value)


@dataclass(frozen=True)
class Stage:
    """One round of blur, resize, noise and JPEG, by its ranges.

    ``resize_prob`` has the chances of enlarging, shrinking and keeping; ``noise_range`` standard deviations in levels
    of 255; ``poisson_scale_range`` factors of the shot noise; ``jpeg_range`` qualities as libjpeg counts them.
    """

    blur_prob: float
    resize_prob: Tuple[float, float, float]
    resize_range: Range
    gaussian_noise_prob: float
    noise_range: Range
    poisson_scale_range: Range
    gray_noise_prob: float
    jpeg_range: Range

    @classmethod
    def from_options(cls, options: Dict[str, Any], suffix: str = "", blur_prob: float = 1.0) -> Stage:
        """Read the keys that end in ``suffix``.

        Raises:
            InputError: A key is missing or its value cannot be.
        """
        chances = _need(options, f"resize_prob{suffix}")
        if len(chances) != 3 or min(chances) < 0 or sum(chances) <= 0:
            raise InputError(f"option 'resize_prob{suffix}' is the chances of [up, down, keep], not {chances}")
        return cls(
            blur_prob=blur_prob,
            resize_prob=cast(Tuple[float, float, float], tuple(float(chance) for chance in chances)),
            resize_range=_range(options, f"resize_range{suffix}", 0.01, 16),
            gaussian_noise_prob=_probability(options, f"gaussian_noise_prob{suffix}"),
            noise_range=_range(options, f"noise_range{suffix}", 0, 255),
            poisson_scale_range=_range(options, f"poisson_scale_range{suffix}", 0, 100),
            gray_noise_prob=_probability(options, f"gray_noise_prob{suffix}"),
            # At quality 100 the steps of the approximation here are zero and every pixel would be NaN.
            jpeg_range=_range(options, f"jpeg_range{suffix}", 1, 99),
        )


def to_levels(pictures: torch.Tensor) -> torch.Tensor:
    """The nearest of the 256 levels of an 8-bit file, still in [0, 1]."""
    # A division by a tensor: CUDA divides by a plain number inexactly, and the result would be no level of the CPU's.
    return torch.clamp((pictures * 255.0).round(), 0, 255) / pictures.new_tensor(255.0)


def resize_factor(chances: Sequence[float], limits: Range) -> float:
    """Draw a factor: enlarging up to the upper limit, shrinking down to the lower one, or 1."""
    kind = random.choices(("up", "down", "keep"), weights=chances)[0]
    if kind == "up":
        return random.uniform(1.0, max(1.0, limits[1]))
    if kind == "down":
        return random.uniform(min(1.0, limits[0]), 1.0)
    return 1.0


def _resize(pictures: torch.Tensor, height: int, width: int) -> torch.Tensor:
    size = (max(1, height), max(1, width))
    return F.interpolate(pictures, size=size, mode=random.choice(MODES))


def _filter(pictures: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Filter each picture with its own kernel, continuing it by reflection."""
    if min(pictures.shape[-2:]) <= kernels.shape[-1] // 2:
        raise InputError(
            f"pictures shrunk to {tuple(pictures.shape[-2:])} are too small for blur kernels of {kernels.shape[-1]}: "
            "raise crop_pad_size, or the lower limit of resize_range and resize_range2"
        )
    # JPEG leaves another order of strides behind, which basicsr's filter cannot view as it wants.
    return filter2D(pictures.contiguous(), kernels)


class Degradation:
    """Makes low-resolution pictures out of sharp ones.

    Args:
        options: The training's options (``resize_prob`` … ``jpeg_range2``, ``second_blur_prob``, ``scale``).
        device: Where to compute; the pictures and kernels must lie there.
    """

    def __init__(self, options: Dict[str, Any], device: torch.device) -> None:
        self.scale = int(options["scale"])
        self.follow(options)
        self.jpeger = DiffJPEG(differentiable=False).to(device).requires_grad_(False)

    def follow(self, options: Dict[str, Any]) -> None:
        """Take the stages' ranges from the options anew: scripts change them between two batches."""
        self.first = Stage.from_options(options)
        self.second = Stage.from_options(options, "2", _probability(options, "second_blur_prob"))

    @torch.no_grad()
    def __call__(
        self, gt: torch.Tensor, kernel1: torch.Tensor, kernel2: torch.Tensor, sinc_kernel: torch.Tensor
    ) -> torch.Tensor:
        """Degrade (B, 3, H, W) in [0, 1] to (B, 3, H // scale, W // scale) in 8-bit levels.

        ``kernel1``, ``kernel2`` and ``sinc_kernel`` are (B, K, K) with odd K, one for each picture.
        """
        height, width = gt.shape[-2:]
        pictures = self.blur(gt, kernel1, self.first)
        factor = resize_factor(self.first.resize_prob, self.first.resize_range)
        pictures = _resize(pictures, int(height * factor), int(width * factor))
        pictures = self.noise(pictures, self.first)
        pictures = self.jpeg(pictures, self.first.jpeg_range)

        low = (height // self.scale, width // self.scale)
        pictures = self.blur(pictures, kernel2, self.second)
        factor = resize_factor(self.second.resize_prob, self.second.resize_range)
        pictures = _resize(pictures, int(low[0] * factor), int(low[1] * factor))
        pictures = self.noise(pictures, self.second)
        # The last resize and the ringing come before or after the last JPEG, as in the wild.
        if random.random() < 0.5:
            pictures = _filter(_resize(pictures, *low), sinc_kernel)
            pictures = self.jpeg(pictures, self.second.jpeg_range)
        else:
            pictures = self.jpeg(pictures, self.second.jpeg_range)
            pictures = _filter(_resize(pictures, *low), sinc_kernel)
        return to_levels(pictures)

    def blur(self, pictures: torch.Tensor, kernels: torch.Tensor, stage: Stage) -> torch.Tensor:
        """Filter with each picture's own kernel, with the stage's chance."""
        return _filter(pictures, kernels) if random.random() < stage.blur_prob else pictures

    def noise(self, pictures: torch.Tensor, stage: Stage) -> torch.Tensor:
        """Add Gaussian or else Poisson noise, coloured or grey; the strength differs from picture to picture."""
        if random.random() < stage.gaussian_noise_prob:
            return random_add_gaussian_noise_pt(pictures, stage.noise_range, stage.gray_noise_prob)
        return random_add_poisson_noise_pt(pictures, stage.poisson_scale_range, stage.gray_noise_prob)

    def jpeg(self, pictures: torch.Tensor, qualities: Range) -> torch.Tensor:
        """Compress each picture with a quality of its own."""
        quality = pictures.new_empty(pictures.shape[0]).uniform_(*qualities)
        # The pictures must be within range, or the blocks' colours would overflow; the qualities are written into.
        # DiffJPEG's tables are transposed against the standard's: seen across, pictures are quantised as in a file.
        across = torch.clamp(pictures, 0, 1).transpose(-1, -2)
        return self.jpeger(across, quality=quality.clone()).transpose(-1, -2)


class UnsharpMask(nn.Module):
    """Adds back half of what a wide Gaussian blur takes away, where that is more than 10 levels of 255.

    The same arithmetic as basicsr's USMSharp. That one filters with a kernel of 51x51; a Gaussian is the product of a
    column and a row, which costs 2 * 51 multiplications a pixel instead of 51 * 51.

    Args:
        size: Side of the Gaussian, odd.
        weight: How much of the difference is added.
        threshold: In levels of 255; below it a pixel stays (with a blurred border between the two).
    """

    def __init__(self, size: int = 51, weight: float = 0.5, threshold: float = 10.0) -> None:
        super().__init__()
        self.weight, self.threshold = weight, threshold
        sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8  # OpenCV's rule for a Gaussian given by its size
        offsets = torch.arange(size, dtype=torch.float64) - size // 2
        line = torch.exp(-(offsets**2) / (2 * sigma**2))
        self.register_buffer("line", (line / line.sum()).float())

    def _blur(self, pictures: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = pictures.shape
        margin = self.line.numel() // 2
        planes = pictures.reshape(batch * channels, 1, height, width)
        # Equal margins on all sides: some devices confuse unequal ones.
        planes = F.pad(planes, (margin, margin, margin, margin), mode="reflect")
        planes = F.conv2d(planes, self.line.view(1, 1, -1, 1))
        return F.conv2d(planes, self.line.view(1, 1, 1, -1)).view(batch, channels, height, width)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Sharpen (B, C, H, W) in [0, 1]; H and W are larger than half the Gaussian's side."""
        difference = pictures - self._blur(pictures)
        mask = self._blur((difference.abs() * 255 > self.threshold).to(pictures.dtype))
        sharp = torch.clamp(pictures + self.weight * difference, 0, 1)
        return mask * sharp + (1 - mask) * pictures


class PairPool:
    """Lets the pictures of one batch differ in how they were degraded: keeps the last pairs, and exchanges them.

    A batch is degraded as a whole (one resize factor for all), so without the pool every batch would contain one kind
    of degradation. Each batch leaves its own pairs there and takes others away.

    Args:
        size: Pairs to keep (``queue_size``); 0 keeps none and hands every batch back as it is.
    """

    def __init__(self, size: int) -> None:
        if size < 0:
            raise InputError(f"option 'queue_size' is a number of pairs from 0, not {size}")
        self.size = size
        self.count = 0
        self.lq: Optional[torch.Tensor] = None
        self.gt: Optional[torch.Tensor] = None

    def exchange(self, lq: torch.Tensor, gt: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Leave a batch and take one of the same size.

        While the pool fills, the batch itself comes back. From then on each pair is drawn from the pool, without
        repetition, and the new pairs take the places of those drawn.

        Raises:
            InputError: The batch is larger than the pool.
        """
        batch = lq.shape[0]
        if self.size == 0:
            return lq, gt
        if batch > self.size:
            raise InputError(f"option 'queue_size' ({self.size}) must contain a whole batch ({batch} pairs)")
        if self.lq is None or self.gt is None:
            self.lq = lq.new_zeros((self.size, *lq.shape[1:]))
            self.gt = gt.new_zeros((self.size, *gt.shape[1:]))
        if self.count < self.size:
            taken = min(batch, self.size - self.count)
            self.lq[self.count : self.count + taken] = lq[:taken]
            self.gt[self.count : self.count + taken] = gt[:taken]
            self.count += taken
            return lq, gt
        places = torch.randperm(self.size)[:batch].to(lq.device)
        drawn = self.lq[places], self.gt[places]
        self.lq[places] = lq
        self.gt[places] = gt
        return drawn

    def state_dict(self) -> Dict[str, Any]:
        """What :meth:`load_state_dict` accepts, on the CPU."""
        return {"size": self.size, "count": self.count, "lq": _pack(self.lq), "gt": _pack(self.gt)}

    def load_state_dict(self, state: Dict[str, Any], device: torch.device) -> None:
        """Go on with the pairs of a saved pool.

        Raises:
            InputError: It was saved with another ``queue_size``.
        """
        if state["size"] != self.size:
            raise InputError(f"the saved state has a queue_size of {state['size']}, the options say {self.size}")
        self.count = state["count"]
        self.lq = None if state["lq"] is None else _unpack(state["lq"]).to(device)
        self.gt = None if state["gt"] is None else _unpack(state["gt"]).to(device)


def _pack(pictures: Optional[torch.Tensor]) -> Optional[torch.Tensor]:
    """As bytes where that loses nothing (8-bit sources, the rule): a quarter of the size in a saved state."""
    if pictures is None:
        return None
    pictures = pictures.cpu()
    small = (pictures * 255.0).round().clamp(0, 255).to(torch.uint8)
    return small if torch.equal(_unpack(small), pictures) else pictures.clone()


def _unpack(stored: torch.Tensor) -> torch.Tensor:
    return stored.float() / 255.0 if stored.dtype == torch.uint8 else stored
