"""Sharp pictures with the blur kernels that will degrade them."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import torch
from torch.utils.data import Dataset

from realesrgan.data.kernels import KERNEL_KEYS, KernelRecipe
from realesrgan.data.patches import crop_or_pad, flip_and_turn, to_tensor
from realesrgan.data.sampling import isolated_rng, seed_of
from realesrgan.data.sources import open_source
from realesrgan.errors import InputError

__all__ = ["RealESRGANDataset"]

# The recipe degrades parts larger than what the network then sees (gt_size), so that borders of the blur are cut off.
CROP_PAD_SIZE = 400


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
        for key in (*KERNEL_KEYS, *(f"{key}2" for key in KERNEL_KEYS)):
            setattr(self, key, opt.get(key))
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
