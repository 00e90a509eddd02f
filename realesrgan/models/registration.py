"""Puts this package's networks, data sets, models and measures into basicsr's registries, when training starts.

This is also the one place where basicsr is imported the first time, and where it is helped along on current libraries:

* ``torchvision.transforms.functional_tensor`` is gone: :mod:`realesrgan.models.compat` stands in (installed by
  ``import realesrgan``).
* basicsr imports ``scipy.ndimage.filters``, which warns: the warning is basicsr's alone and is kept from the user.
* ``basicsr.utils.DiffJPEG`` writes into the qualities it is given, its tables ask for gradients, and they are
  transposed: :mod:`realesrgan.models.degradation` gives it a copy, no gradients, and pictures seen across.
* basicsr's launcher and resume code need CUDA: :mod:`realesrgan.train` has its own.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import realesrgan  # noqa: F401  (installs the stand-in that basicsr's import needs)
from realesrgan.errors import RealESRGANError

__all__ = ["import_basicsr", "register"]

_TOO_NEW = (3, 13)  # for basicsr 1.4.2
_INSTALL = "Training needs basicsr: python scripts/first_run.py --train --install-only (or see requirements-train.txt)"
_OTHER_PYTHON = "Training needs basicsr, which does not build on Python {}.{}; use Python 3.9 to 3.12"


def import_basicsr() -> Any:
    """basicsr itself, imported.

    Raises:
        RealESRGANError: It is not installed or does not import here; the message has the reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            import basicsr
    except ImportError as error:
        # It cannot be installed there: the lines of the train extra leave it out.
        advice = _INSTALL if sys.version_info < _TOO_NEW else _OTHER_PYTHON.format(*sys.version_info)
        raise RealESRGANError(f"{advice}: {error}", code="train.basicsr", reason=str(error)) from error
    return basicsr


def _put(registry: Any, thing: Any) -> None:
    """Register under the thing's own name, in place of another's if need be (basicsr has an RRDBNet of its own)."""
    registry._obj_map[thing.__name__] = thing


def register() -> None:
    """Make ``type: RealESRGANModel`` and the like mean ours. Calling it again changes nothing."""
    import_basicsr()
    from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

    from realesrgan.archs.discriminator_arch import UNetDiscriminatorSN
    from realesrgan.archs.rrdbnet_arch import RRDBNet
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact
    from realesrgan.data.realesrgan_dataset import RealESRGANDataset
    from realesrgan.data.realesrgan_paired_dataset import RealESRGANPairedDataset
    from realesrgan.models.measures import calculate_l1
    from realesrgan.models.realesrgan_model import RealESRGANModel
    from realesrgan.models.realesrnet_model import RealESRNetModel

    for network in (RRDBNet, SRVGGNetCompact, UNetDiscriminatorSN):
        _put(ARCH_REGISTRY, network)
    for dataset in (RealESRGANDataset, RealESRGANPairedDataset):
        _put(DATASET_REGISTRY, dataset)
    for model in (RealESRGANModel, RealESRNetModel):
        _put(MODEL_REGISTRY, model)
    _put(METRIC_REGISTRY, calculate_l1)
