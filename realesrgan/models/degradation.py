"""The second-order degradation: from a sharp picture to what a real camera, network and messenger left of it.

The model of the paper (Wang et al. 2021, arXiv 2107.10833): blur, resize, noise and JPEG, all of it twice with ranges
of its own, and a sinc filter (ringing) around the last JPEG. The blur kernels come with the data
(:mod:`realesrgan.data.kernels`); everything else is drawn here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Dict, Sequence, Tuple, cast

import torch
from basicsr.data.degradations import random_add_gaussian_noise_pt, random_add_poisson_noise_pt
from basicsr.utils import DiffJPEG
from basicsr.utils.img_process_util import filter2D
from torch.nn import functional as F

from realesrgan.errors import InputError

__all__ = ["Degradation", "Stage", "resize_factor", "to_levels"]

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
