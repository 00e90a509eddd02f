"""RealESRGAN: the generator against a discriminator, on pairs made by the second-order degradation."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Dict, Iterable

import torch
from basicsr.models.srgan_model import SRGANModel

from realesrgan.errors import InputError
from realesrgan.models.base import RealESRMixin
from realesrgan.models.options import value_at

__all__ = ["RealESRGANModel"]


def _learn(parameters: Iterable[torch.nn.Parameter], wanted: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad = wanted


class RealESRGANModel(RealESRMixin, SRGANModel):
    """Trains on pairs that it makes by degradation, or that are given (``high_order_degradation: false``).

    The low picture is made of the sharpened ground truth. Which ground truth each loss compares with is chosen by
    ``l1_gt_usm``, ``percep_gt_usm`` (the recipe: sharpened) and ``gan_gt_usm`` (the recipe: as it is).
    """

    def __init__(self, opt: Dict[str, Any]) -> None:
        for key in ("network_d", "train:optim_d", "train:gan_opt"):
            if value_at(opt, key) is None:
                raise InputError(f"option {key!r} is missing: RealESRGANModel trains against a discriminator")
        super().__init__(opt)

    def feed_data(self, data: Dict[str, Any]) -> None:
        """Take a batch of :class:`RealESRGANDataset`, or of pairs."""
        super().feed_data(data, sharp_source=True)
        if self.training:
            self.gt_usm = self.sharpen(self.gt.to(self.data_device)).to(self.device, non_blocking=True)

    def _target(self, key: str, default: bool) -> torch.Tensor:
        return self.gt_usm if self.opt.get(key, default) else self.gt

    def _generator_losses(self) -> OrderedDict[str, torch.Tensor]:
        """The weighted terms for the present output; their sum is what the generator minimises."""
        losses = OrderedDict()
        if self.cri_pix:
            losses["l_g_pix"] = self.cri_pix(self.output, self._target("l1_gt_usm", True))
        if self.cri_perceptual:
            content, style = self.cri_perceptual(self.output, self._target("percep_gt_usm", True))
            for name, term in (("l_g_percep", content), ("l_g_style", style)):
                if term is not None:
                    losses[name] = term
        losses["l_g_gan"] = self.cri_gan(self.net_d(self.output), True, is_disc=False)
        return losses

    def optimize_parameters(self, current_iter: int) -> None:
        """One step of the generator, then one of the discriminator."""
        losses: OrderedDict[str, torch.Tensor] = OrderedDict()
        _learn(self.net_d.parameters(), False)
        self.optimizer_g.zero_grad()
        self.output = self.net_g(self.lq)
        if current_iter > self.net_d_init_iters and current_iter % self.net_d_iters == 0:
            losses = self._generator_losses()
            torch.stack([term.reshape(()) for term in losses.values()]).sum().backward()
            self.optimizer_g.step()

        _learn(self.net_d.parameters(), True)
        self.optimizer_d.zero_grad()
        # One backward pass each: spectral normalisation changes its vectors at every forward pass.
        for kind, pictures, real in (
            ("real", self._target("gan_gt_usm", False), True),
            ("fake", self.output.detach(), False),
        ):
            logits = self.net_d(pictures)
            losses[f"l_d_{kind}"] = self.cri_gan(logits, real, is_disc=True)
            losses[f"out_d_{kind}"] = logits.detach().mean()
            losses[f"l_d_{kind}"].backward()
        self.optimizer_d.step()

        self.log_dict = self.reduce_loss_dict(losses)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)
