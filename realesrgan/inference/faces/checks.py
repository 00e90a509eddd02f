"""What no device gets past before it restores faces: a comparison with the CPU, and a guard on every face.

Needs neither gfpgan nor facexlib.
"""

from __future__ import annotations

import logging
from typing import Any, List, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import devices
from ...errors import Phrase, as_field, notice, one_line
from ..precision import SINGLE_MAX, half_fault, sample_texture

__all__ = ["FACE_SIZE", "FaceFailure", "Guard", "bilinear_fault", "network_fault", "probes", "restored"]

logger = logging.getLogger(__name__)

FACE_SIZE = 512


class FaceFailure(Exception):
    """A face could not be restored; ``__cause__`` is the error.

    Not a RuntimeError: GFPGANer prints those and pastes the face as it was.
    """


class Guard:
    """What GFPGANer accepts as the restoring network: lets no wrong face through, and no error go unnoticed.

    The noise is the one that the checkpoint contains, not a random one, so that a picture comes out the same each time.
    """

    def __init__(self, single: nn.Module, device: devices.Device, half: Optional[nn.Module]) -> None:
        self._single = single
        self._half = half
        self._device = device

    @property
    def half(self) -> bool:
        return self._half is not None

    def __call__(self, x: Tensor, return_rgb: bool = False, weight: float = 0.5) -> List[Tensor]:
        """Restore a face: 1x3x512x512 RGB, -1..1, on the device; the same comes back, on the CPU, in FP32."""
        try:
            if self._half is not None:
                result = restored(self._half, x.half()).float()
                if bool(torch.isfinite(result).all()):
                    return [result.cpu()]
                self._fall_back(Phrase("half.nan", "it gives NaN or infinity"))
            result = restored(self._single, x)
            if not bool(torch.isfinite(result).all()):
                raise ValueError(Phrase("faces.nan", "the network gives NaN or infinity"))
            return [result.cpu()]  # here, because GFPGANer swallows what goes wrong on the way to the host
        except Exception as error:
            raise FaceFailure(as_field(error)) from error

    def check_half(self, x: Tensor, expected: Tensor) -> None:
        """Leave FP16 unless its result for ``x`` is close to what FP32 gives on the CPU (-1..1)."""
        assert self._half is not None
        try:
            result = restored(self._half, x.half()).cpu().float()
            fault = half_fault(((result + 1) / 2).numpy(), ((expected + 1) / 2).numpy())
        except RuntimeError as error:
            if devices.classify(error) == "lost":
                raise
            fault = Phrase("half.fails", f"it fails: {one_line(error)}", error=error)
        if fault:
            self._fall_back(fault)

    def _fall_back(self, reason: Phrase) -> None:
        self._half = None
        devices.free(self._device)
        notice(
            logger,
            "faces.single",
            f"FP16 is not reliable for faces on {self._device.name} ({reason}): they are restored in FP32.",
            device=self._device.name,
            reason=reason,
        )


def bilinear_fault(device: devices.Device) -> Optional[Phrase]:
    """What is wrong with bilinear resizing on a device beside the CPU, None if nothing is. gfpgan's network uses it.

    This asks for it once, on a few pixels that are thrown away: so the device decides, and not its name.
    """
    x = torch.from_numpy(sample_texture()[None])
    for factor in (2.0, 0.5):

        def resized(values: Tensor, factor: float = factor) -> Tensor:
            return F.interpolate(values, scale_factor=factor, mode="bilinear", align_corners=False)

        fault = network_fault(resized(x.to(device.torch_device)), resized(x))
        if fault is not None:
            return Phrase("fault.bilinear", f"bilinear resizing {fault}", fault=fault)
    return None


def network_fault(results: Any, expected: Any) -> Optional[Phrase]:
    """What is wrong with a device's result (a tensor or several) beside the CPU's, None if nothing is."""
    if not isinstance(expected, Tensor):
        faults = (network_fault(one, other) for one, other in zip(results, expected))
        return next((fault for fault in faults if fault is not None), None)
    result = results.cpu().float()
    if not bool(torch.isfinite(result).all()):
        return Phrase("fault.nan", "gives NaN or infinity")
    size = max(1.0, float(expected.abs().max()))
    difference = float((result - expected).abs().max()) / size
    if not difference <= SINGLE_MAX:
        percent = f"{difference * 100:.1f}"
        return Phrase("fault.range", f"is off by {percent} % of its range", percent=percent)
    return None


def restored(network: nn.Module, x: Tensor) -> Tensor:
    result: Tensor = network(x, return_rgb=False, randomize_noise=False)[0]
    return result


def probes() -> List[Tensor]:
    """The test texture as the networks take it, -1..1, on the CPU: 96x144 and 512x512."""
    x = torch.from_numpy(sample_texture()[None]) * 2 - 1
    return [
        F.interpolate(x, size=size, mode="bicubic", align_corners=False).clamp(-1, 1)
        for size in ((96, 144), (FACE_SIZE, FACE_SIZE))
    ]
