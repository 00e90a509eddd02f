"""Pairs of low and high resolution that the user brings."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, Dict, List, Tuple

from torch.utils.data import Dataset
from torchvision.transforms.functional import normalize

from realesrgan.data.sampling import flip_and_turn, isolated_rng, paired_crop, seed_of, to_tensor
from realesrgan.data.sources import SUFFIXES, meta_lines, open_source
from realesrgan.errors import InputError, PictureError

__all__ = ["RealESRGANPairedDataset"]


def _without_suffix(key: str) -> str:
    """A picture's name less its suffix; a key of a database has none, whatever dots are in it."""
    path = PurePosixPath(key)
    return path.with_suffix("").as_posix() if path.suffix.lower() in SUFFIXES else key


class RealESRGANPairedDataset(Dataset):
    """Pairs for training and validation.

    An item is a dict: ``lq`` (3, H, W) and ``gt`` (3, H * scale, W * scale), RGB in [0, 1] (less ``mean``, over ``std``
    where given); ``lq_path`` and ``gt_path``.

    Args:
        opt: The data set's options: ``dataroot_gt``, ``dataroot_lq``, ``io_backend``, ``scale``, ``phase``,
            ``meta_info`` (lines ``GT, LQ`` relative to the two roots; without it, files of the same name),
            ``filename_tmpl`` (``{}``: the name of the low one), ``gt_size``, ``use_hflip``, ``use_rot`` (training).

    Attributes:
        io_backend_opt: ``type``: ``disk`` or ``lmdb``.
        paths: A dict for each pair: ``gt_path`` and ``lq_path``, whole paths or keys in a database.
        mean, std: What pixels are normalised by, or None.

    Raises:
        InputError: An option is missing, or a picture has no partner.
    """

    def __init__(self, opt: Dict[str, Any]) -> None:
        super().__init__()
        self.opt = opt
        self.scale = int(opt["scale"])
        self.training = opt.get("phase") == "train"
        self.gt_source = open_source(opt.get("dataroot_gt"), opt, "dataroot_gt")
        self.lq_source = open_source(opt.get("dataroot_lq"), opt, "dataroot_lq")
        self.io_backend_opt = dict(opt.get("io_backend") or {"type": "disk"})
        self.gt_folder, self.lq_folder = opt["dataroot_gt"], opt["dataroot_lq"]
        self.mean, self.std = opt.get("mean"), opt.get("std")
        self.paths = [
            {"lq_path": self.lq_source.path_of(lq), "gt_path": self.gt_source.path_of(gt)} for gt, lq in self._pairs()
        ]
        if self.training and not opt.get("gt_size"):
            raise InputError("option 'gt_size' is missing in the data set: the side of the parts to train on")

    def _pairs(self) -> List[Tuple[str, str]]:
        """(gt, lq) keys."""
        if self.opt.get("meta_info"):
            halves = [line.split(", ") for line in meta_lines(self.opt["meta_info"])]
            if all(len(half) == 2 for half in halves):
                return [(self.gt_source.key_of(gt), self.lq_source.key_of(lq)) for gt, lq in halves]
        keys = self.gt_source.names(self.opt.get("meta_info"))
        template = self.opt.get("filename_tmpl") or "{}"
        there = set(self.lq_source.names())
        stems = {_without_suffix(key): key for key in there}
        pairs = []
        for key in keys:
            stem = _without_suffix(key)
            path = PurePosixPath(stem)
            wanted = path.with_name(template.format(path.name)).as_posix()
            name = wanted + key[len(stem) :]
            # The partner may be of another format (a JPEG of a PNG).
            partner = name if name in there else stems.get(wanted)
            if partner is None:
                raise InputError(f"{key} of dataroot_gt has no partner {name} in dataroot_lq")
            pairs.append((key, partner))
        return pairs

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Dict[str, Any]:
        gt_key, lq_key = self.paths[index]["gt_path"], self.paths[index]["lq_path"]
        gt, lq = self.gt_source.read(gt_key), self.lq_source.read(lq_key)
        if self.training:
            with isolated_rng(seed_of(index)):
                try:
                    gt, lq = paired_crop(gt, lq, int(self.opt["gt_size"]), self.scale)
                except ValueError as error:
                    raise PictureError(f"{gt_key} and {lq_key}: {error}", path=gt_key, reason=str(error)) from error
                gt, lq = flip_and_turn(
                    gt, lq, flip=self.opt.get("use_hflip", True), turn=self.opt.get("use_rot", False)
                )
        else:
            gt = gt[: lq.shape[0] * self.scale, : lq.shape[1] * self.scale]
        item = {"lq": to_tensor(lq), "gt": to_tensor(gt), "lq_path": lq_key, "gt_path": gt_key}
        if self.mean is not None or self.std is not None:
            mean, std = self.mean or [0.0] * 3, self.std or [1.0] * 3
            item["lq"], item["gt"] = normalize(item["lq"], mean, std), normalize(item["gt"], mean, std)
        return item
