"""RealESRNet: the generator alone, trained for the pixel loss; the start of the adversarial training."""

from __future__ import annotations

from typing import Any, Dict

from basicsr.models.sr_model import SRModel

from realesrgan.models.base import RealESRMixin

__all__ = ["RealESRNetModel"]


class RealESRNetModel(RealESRMixin, SRModel):
    """Trains on pairs that it makes by degradation, or that are given (``high_order_degradation: false``).

    With ``gt_usm`` the ground truth is sharpened before anything else happens to it. That is the recipe and the default
    where pairs are made; given pairs stay as they are unless the option asks for it.
    """

    def feed_data(self, data: Dict[str, Any]) -> None:
        """Take a batch of :class:`RealESRGANDataset`, or of pairs."""
        super().feed_data(data, sharp_gt=self.opt.get("gt_usm", self.degrades))
