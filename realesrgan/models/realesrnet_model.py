"""RealESRNet: the generator alone, trained for the pixel loss; the start of the adversarial training."""

from __future__ import annotations

from typing import Any, Dict

from basicsr.models.sr_model import SRModel

from realesrgan.models.base import RealESRMixin
from realesrgan.models.perceptual import need_vgg_weights, quiet_vgg

__all__ = ["RealESRNetModel"]


class RealESRNetModel(RealESRMixin, SRModel):
    """Trains on pairs that it makes by degradation, or that are given (``high_order_degradation: false``).

    With ``gt_usm`` the ground truth is sharpened before anything else happens to it. That is the recipe and the default
    where pairs are made; given pairs stay as they are unless the option asks for it.
    """

    def __init__(self, opt: Dict[str, Any]) -> None:
        need_vgg_weights(opt)
        with quiet_vgg():
            super().__init__(opt)
        self._prepare_degradation()

    def feed_data(self, data: Dict[str, Any]) -> None:
        """Take a batch of :class:`RealESRGANDataset`, or of pairs."""
        training = self.is_train and not self.validating
        if "gt" in data:
            gt = data["gt"].to(self.data_device, non_blocking=True)
            if training and self.opt.get("gt_usm", self.degrades):
                gt = self.sharpen(gt)
        if training and self.degrades:
            lq, gt = self._pair(gt, gt, data)
        else:
            lq = data["lq"]
        self.lq = lq.to(self.device, non_blocking=True)
        if "gt" in data:
            self.gt = gt.to(self.device, non_blocking=True)
