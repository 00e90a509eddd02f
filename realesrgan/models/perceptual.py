"""The weights that the perceptual loss compares with: VGG19 trained on ImageNet, looked for before training begins."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator

import torch

from realesrgan.errors import WeightsError, one_line
from realesrgan.weights.download import sha256_of

__all__ = ["need_vgg_weights", "quiet_vgg"]

_LOGGER = logging.getLogger("basicsr")
FILES = {"vgg19": "vgg19-dcbb9e9d.pth"}
BASE = "https://download.pytorch.org/models/"


def need_vgg_weights(options: Dict[str, Any]) -> None:
    """Make sure that ``train:perceptual_opt`` finds its weights; they are downloaded if need be.

    Raises:
        WeightsError: They are not available and cannot be downloaded (says which file is expected where), or the file
            that was found is not the published one.
    """
    from basicsr.archs.vgg_arch import VGG_PRETRAIN_PATH

    section = options.get("train", {}).get("perceptual_opt")
    name = FILES.get((section or {}).get("vgg_type", "vgg19"))
    if not section or name is None:
        return
    local, cached = Path(VGG_PRETRAIN_PATH), Path(torch.hub.get_dir()) / "checkpoints" / name
    there = next((path for path in (local, cached) if path.is_file()), None)
    if there is not None:
        _verify(there)
        return
    _LOGGER.info(f"Downloading {BASE}{name} (548 MB) to {cached}")
    try:
        torch.hub.load_state_dict_from_url(BASE + name, map_location="cpu", check_hash=True, progress=False)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; RuntimeError: the hash differs
        raise WeightsError(
            f"the perceptual loss needs {name}, which cannot be downloaded ({error}): put {BASE}{name} into "
            f"{local.parent}/ or {cached.parent}/, or leave out train:perceptual_opt (as options/smoke.yml does)"
        ) from error


def _verify(path: Path) -> None:
    """The name contains the first digits of the SHA-256. basicsr loads any file: on old torch code, too."""
    try:
        found = sha256_of(path)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {one_line(error)}") from error
    expected = path.stem.rpartition("-")[2]
    if not found.startswith(expected):
        raise WeightsError(
            f"{path} is not the published file: its SHA-256 begins with {found[:8]}, not {expected}. "
            "Delete it, and it is downloaded again"
        )


@contextmanager
def quiet_vgg() -> Iterator[None]:
    """Without what torchvision says of the way in which basicsr asks it for the network."""
    with warnings.catch_warnings():
        for message in ("The parameter 'pretrained' is deprecated", "Arguments other than a weight enum"):
            warnings.filterwarnings("ignore", message, UserWarning)
        yield
