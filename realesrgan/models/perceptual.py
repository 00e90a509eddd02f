"""The weights that the perceptual loss compares with: VGG19 trained on ImageNet, looked for before training begins."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Dict

import torch

from realesrgan.errors import WeightsError

__all__ = ["need_vgg_weights"]

_LOGGER = logging.getLogger("basicsr")
FILES = {"vgg19": "vgg19-dcbb9e9d.pth"}
BASE = "https://download.pytorch.org/models/"


def need_vgg_weights(options: Dict[str, Any]) -> None:
    """Make sure that ``train:perceptual_opt`` finds its weights; they are downloaded if need be.

    Raises:
        WeightsError: They are not at hand and cannot be downloaded; says which file is expected where.
    """
    from basicsr.archs.vgg_arch import VGG_PRETRAIN_PATH

    section = options.get("train", {}).get("perceptual_opt")
    name = FILES.get((section or {}).get("vgg_type", "vgg19"))
    if not section or name is None:
        return
    local, cached = Path(VGG_PRETRAIN_PATH), Path(torch.hub.get_dir()) / "checkpoints" / name
    if local.is_file() or cached.is_file():
        return
    _LOGGER.info(f"Downloading {BASE}{name} (548 MB) to {cached}")
    try:
        torch.hub.load_state_dict_from_url(BASE + name, map_location="cpu", check_hash=True, progress=False)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; RuntimeError: the hash differs
        raise WeightsError(
            f"the perceptual loss needs {name}, which cannot be downloaded ({error}): put {BASE}{name} into "
            f"{local.parent}/ or {cached.parent}/, or leave out train:perceptual_opt (as options/smoke.yml does)"
        ) from error
