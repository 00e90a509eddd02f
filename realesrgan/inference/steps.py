"""The original's steps, for scripts that call them one by one.

They share the engine's functions and keep the picture as a 1x3xHxW RGB tensor in 0..1 on the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

import numpy as np

from .. import devices
from ..archs.structure import Structure
from ..errors import InputError
from . import engine
from .arrays import Plane
from .precision import Networks
from .tiling import Box, Canvas

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Steps"]


class Steps:
    """``pre_process``, ``process`` or ``tile_process``, ``post_process``, in this order."""

    scale: int
    tile_size: int
    tile_pad: int
    pre_pad: int
    mod_scale: Optional[int]
    img: Optional[Tensor]
    output: Optional[Tensor]
    mod_pad_h: int = 0
    mod_pad_w: int = 0
    _networks: Networks
    _structure: Structure

    def pre_process(self, img: np.ndarray) -> None:
        """Turn HxWx3 RGB in 0..1 into ``self.img`` (1x3xHxW, padded on the right and at the bottom by reflection)."""
        self.mod_scale = {2: 2, 1: 4}.get(self.scale, self.mod_scale)
        canvas = Canvas(int(img.shape[0]), int(img.shape[1]), self.pre_pad, self.mod_scale or 1)
        self.mod_pad_h = canvas.padded_height - canvas.height - self.pre_pad
        self.mod_pad_w = canvas.padded_width - canvas.width - self.pre_pad
        padded = Plane(np.asarray(img, np.float32), 1.0).crop(
            canvas, Box(0, 0, canvas.padded_height, canvas.padded_width)
        )
        self.img = _tensor(padded)

    def process(self) -> None:
        """Run ``self.img`` through the network in one piece, into ``self.output``."""
        self._process(0)

    def tile_process(self) -> None:
        """Run ``self.img`` through the network in tiles of ``self.tile_size``, into ``self.output``."""
        self._process(self.tile_size)

    def post_process(self) -> Tensor:
        """``self.output`` without what ``pre_process`` padded."""
        if self.output is None:
            raise InputError(
                "post_process() needs the result of process() or tile_process(): call one of them first.",
                code="step.post",
            )
        height, width = self.output.shape[2:]
        bottom = (self.mod_pad_h + self.pre_pad) * self.scale
        right = (self.mod_pad_w + self.pre_pad) * self.scale
        self.output = self.output[:, :, : height - bottom, : width - right]
        return self.output

    def _process(self, tile: int) -> None:
        if self.img is None:
            raise InputError("process() needs a picture: call pre_process(img) first.", code="step.process")
        pixels = np.ascontiguousarray(self.img[0].numpy().transpose(1, 2, 0)[:, :, ::-1])
        height, width = pixels.shape[:2]
        factor = self._networks.scale
        out = np.empty((height * factor, width * factor, 3), np.float32)
        canvas = Canvas(height, width, 0, self._structure.multiple)
        engine.run(self._networks, engine.Job(Plane(pixels, 1.0), canvas, factor, tile, self.tile_pad), out)
        self.output = _tensor(out[:, :, ::-1])


def _tensor(pixels: np.ndarray) -> Tensor:
    """HxWx3 as 1x3xHxW."""
    devices.need_torch("This step of the original")
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
