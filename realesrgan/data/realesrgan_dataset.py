"""Sharp pictures with the blur kernels that will degrade them: Gaussian, generalised and plateau-shaped, round or oval,
and sinc (ringing)."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from basicsr.data.degradations import circular_lowpass_kernel, random_mixed_kernels
from torch.utils.data import Dataset

from realesrgan.data import KERNEL_KEYS
from realesrgan.data.sampling import crop_or_pad, flip_and_turn, isolated_rng, seed_of, to_tensor
from realesrgan.data.sources import open_source
from realesrgan.errors import InputError

__all__ = ["KernelRecipe", "RealESRGANDataset", "pulse", "sinc"]

# The recipe degrades parts larger than what the network then sees (gt_size), so that borders of the blur are cut off.
CROP_PAD_SIZE = 400

KINDS = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")
SMALLEST = 7


def _padded(kernel: np.ndarray, size: int) -> np.ndarray:
    margin = (size - kernel.shape[0]) // 2
    return np.pad(kernel, margin).astype(np.float32)


def _random_size(largest: int) -> int:
    return random.randrange(SMALLEST, largest + 1, 2)


def pulse(size: int) -> np.ndarray:
    """The (size, size) kernel that changes nothing."""
    kernel = np.zeros((size, size), dtype=np.float32)
    kernel[size // 2, size // 2] = 1
    return kernel


def sinc(size: int, lowest: float, padded_to: int) -> np.ndarray:
    """A circular low-pass kernel with a cutoff drawn from ``lowest`` to pi, padded with zeros."""
    return _padded(circular_lowpass_kernel(np.random.uniform(lowest, math.pi), size, pad_to=False), padded_to)


@dataclass(frozen=True)
class KernelRecipe:
    """Ranges of the random kernels of one degradation stage; sizes are odd, from 7 to ``size``."""

    size: int
    kinds: Tuple[str, ...]
    chances: Tuple[float, ...]
    sinc_chance: float
    sigma: List[float]
    beta_gaussian: List[float]
    beta_plateau: List[float]

    @classmethod
    def from_options(cls, options: Dict[str, Any], suffix: str = "") -> KernelRecipe:
        """Read ``blur_kernel_size``, ``kernel_list``, … with ``suffix`` behind each.

        Raises:
            InputError: A key is missing or its value cannot be.
        """

        def limits(key: str) -> List[float]:
            low, high = (float(value) for value in need(key))
            if not 0 < low <= high:
                raise InputError(f"option '{key}{suffix}' is [least, most], both above 0, not {[low, high]}")
            # basicsr wants two numbers that differ.
            return [low, max(high, low * (1 + 1e-9))]

        def need(key: str) -> Any:
            if options.get(f"{key}{suffix}") is None:
                raise InputError(f"option '{key}{suffix}' is missing in the data set: its blur kernels need it")
            return options[f"{key}{suffix}"]

        size = int(need("blur_kernel_size"))
        if size < SMALLEST or size % 2 == 0:
            raise InputError(f"option 'blur_kernel_size{suffix}' is an odd number from {SMALLEST}, not {size}")
        kinds, chances = need("kernel_list"), need("kernel_prob")
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise InputError(f"option 'kernel_list{suffix}' is one of {', '.join(KINDS)}; not {unknown[0]!r}")
        if len(kinds) != len(chances) or min(chances) < 0 or sum(chances) <= 0:
            raise InputError(f"option 'kernel_prob{suffix}' needs a chance for each of the {len(kinds)} kernels")
        return cls(
            size=size,
            kinds=tuple(kinds),
            chances=tuple(float(chance) for chance in chances),
            sinc_chance=float(need("sinc_prob")),
            sigma=limits("blur_sigma"),
            beta_gaussian=limits("betag_range"),
            beta_plateau=limits("betap_range"),
        )

    def draw(self) -> np.ndarray:
        """A random kernel, (size, size) float32, padded with zeros, with the sum 1.

        Draws from Python's and numpy's global generators, as basicsr does.
        """
        size = _random_size(self.size)
        if random.random() < self.sinc_chance:
            # A small sinc kernel cannot represent a low frequency: its cutoff starts higher.
            return sinc(size, math.pi / 3 if size < 13 else math.pi / 5, self.size)
        kernel = random_mixed_kernels(
            self.kinds,
            self.chances,
            size,
            self.sigma,
            self.sigma,
            [-math.pi, math.pi],
            self.beta_gaussian,
            self.beta_plateau,
            noise_range=None,
        )
        return _padded(kernel, self.size)

    def draw_final_sinc(self, chance: float) -> np.ndarray:
        """The kernel of the last step: a sinc with this chance, else one that changes nothing."""
        if random.random() < chance:
            return sinc(_random_size(self.size), math.pi / 3, self.size)
        return pulse(self.size)


class RealESRGANDataset(Dataset):
    """High-resolution pictures for training with the degradation pipeline.

    An item is a dict: ``gt`` (3, S, S) RGB in [0, 1]; ``kernel1``, ``kernel2`` and ``sinc_kernel`` (K, K); ``gt_path``.

    Args:
        opt: The data set's options: ``dataroot_gt``, ``meta_info``, ``io_backend``, ``use_hflip``, ``use_rot``,
            ``crop_pad_size`` (S, 400), the kernels' ranges and ``final_sinc_prob``.

    Attributes:
        io_backend_opt: ``type``: ``disk`` or ``lmdb``.
        paths: Whole paths of the pictures, or their keys in a database.
        kernel_list, betag_range2, ...: The kernels' options by their names; to change them has an effect on the next
            picture.

    Raises:
        InputError: An option is missing or cannot be.
    """

    def __init__(self, opt: Dict[str, Any]) -> None:
        super().__init__()
        self.opt = opt
        self.source = open_source(opt.get("dataroot_gt"), opt, "dataroot_gt")
        self.io_backend_opt = dict(opt.get("io_backend") or {"type": "disk"})
        self.gt_folder = opt["dataroot_gt"]
        self.paths = [self.source.path_of(key) for key in self.source.names(opt.get("meta_info"))]
        for key in KERNEL_KEYS.split():
            setattr(self, key, opt.get(key))
            setattr(self, f"{key}2", opt.get(f"{key}2"))
        first, second = self._recipes()
        if first.size != second.size:
            raise InputError("options 'blur_kernel_size' and 'blur_kernel_size2' must be the same")
        self.final_sinc_prob = float(opt.get("final_sinc_prob", 0))
        self.size = int(opt.get("crop_pad_size", CROP_PAD_SIZE))

    def _recipes(self) -> Tuple[KernelRecipe, KernelRecipe]:
        options = vars(self)
        return KernelRecipe.from_options(options), KernelRecipe.from_options(options, "2")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Dict[str, Any]:
        first, second = self._recipes()
        picture = self.source.read(self.paths[index])
        with isolated_rng(seed_of(index)):
            (picture,) = flip_and_turn(
                picture, flip=self.opt.get("use_hflip", True), turn=self.opt.get("use_rot", False)
            )
            picture = crop_or_pad(picture, self.size)
            kernels = [first.draw(), second.draw(), first.draw_final_sinc(self.final_sinc_prob)]
        kernel1, kernel2, sinc_kernel = (torch.from_numpy(kernel) for kernel in kernels)
        return {
            "gt": to_tensor(picture),
            "kernel1": kernel1,
            "kernel2": kernel2,
            "sinc_kernel": sinc_kernel,
            "gt_path": self.paths[index],
        }
