"""gfpgan's restorer and facexlib's helper, with safely read parameters in their networks, on a device that is right.

A device is compared with the CPU before it restores faces, and a guard looks at every face. gfpgan and facexlib are
imported here and nowhere else.
"""

from __future__ import annotations

import copy
import logging
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

import torch
from gfpgan.archs.gfpganv1_clean_arch import GFPGANv1Clean
from gfpgan.utils import GFPGANer
from torch import Tensor, nn
from torch.nn import functional as F

from ... import devices
from ...errors import Phrase, WeightsError, as_field, notice, one_line
from ..precision import SINGLE_MAX, half_fault, sample_texture
from .weights import DETECTION, PARSING, FaceWeights

__all__ = ["FACE_SIZE", "NARROW", "FaceFailure", "Guard", "Restorer", "quiet"]

logger = logging.getLogger(__name__)

FACE_SIZE = 512
NARROW: float = 1
"""Width of the restoring network as a multiple of the published one's."""

_CPU = devices.HOST
_CLASSES = {"RetinaFace": DETECTION, "ParseNet": PARSING}


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


class Restorer(GFPGANer):  # type: ignore[misc]
    """GFPGANer over networks that contain parameters read by :mod:`realesrgan.weights.checkpoints`.

    GFPGANer's own constructor is not called: it would unpickle whatever the files contain at that moment, look for
    facexlib's below the working directory, and download those that are missing without verifying them.

    Args:
        weights: Parameters of the three networks.
        device: Where the networks shall run; they run on the CPU if a check finds that they go wrong there.
        half: Restore faces in FP16, as long as that is reliable.

    Attributes:
        tick: Called before each run of a network, to show that work goes on.

    Raises:
        WeightsError: The parameters belong to other networks.
    """

    def __init__(self, weights: FaceWeights, device: devices.Device, *, half: bool = False) -> None:
        self.tick: Callable[[], None] = quiet
        self.upscale: float = 1
        self.bg_upsampler: Any = None
        self._gfpgan = _build_restorer(weights)
        self.face_helper = _build_helper(weights)
        self._detection: Any = self.face_helper.face_det
        self._parsing: Any = self.face_helper.face_parse
        for network in (self._gfpgan, self._detection, self._parsing):
            network.register_forward_pre_hook(lambda *_: self.tick())  # copies on a device keep it
        self._use_cpu()
        if not devices.is_host(device):
            self._move_to(device, half)

    @property
    def faces(self) -> int:
        """How many faces the last picture had."""
        return len(self.face_helper.cropped_faces)

    def leave_device(self, reason: Phrase) -> bool:
        """Run on the CPU from now on, and say why; False if that is so already."""
        left = self.placed_on
        if devices.is_host(left):
            return False
        self._use_cpu()
        devices.free(left)
        self._say_cpu(left, reason)
        return True

    def _use_cpu(self) -> None:
        self._use(_CPU, Guard(self._gfpgan, _CPU, None), self._detection, self._parsing)

    def _use(self, device: devices.Device, gfpgan: Guard, detection: Any, parsing: Any) -> None:
        self.placed_on = device
        self.device = device.torch_device
        self.gfpgan = gfpgan
        helper = self.face_helper
        helper.device, helper.face_det, helper.face_parse = self.device, detection, parsing

    def _move_to(self, device: devices.Device, half: bool) -> None:
        try:
            with devices.full_precision(device), torch.no_grad():
                fault = self._try(device, half)
        except RuntimeError as error:
            if devices.classify(error) == "lost":
                raise
            fault = Phrase("half.fails", f"it fails: {one_line(error)}", error=error)
        if fault is not None:
            devices.free(device)
            self._say_cpu(device, fault)

    def _try(self, device: devices.Device, half: bool) -> Optional[Phrase]:
        """Take the device into use; what speaks against it otherwise."""
        # First of all, because a network that needs it is not even to be started where it is wrong.
        fault = bilinear_fault(device)
        if fault is not None:
            return fault
        place = device.torch_device
        gfpgan, parsing = _copied(self._gfpgan, place), _copied(self._parsing, place)
        detection = _copied(self._detection, place)
        detection.device, detection.mean_tensor = place, self._detection.mean_tensor.to(place)
        small, large = probes()
        scores = (small + 1) * 127.5
        fault = network_fault(detection(scores.to(place)), self._detection(scores))
        if fault is not None:
            return Phrase("fault.finding", f"the network that finds faces {fault}", fault=fault)
        fault = network_fault(parsing(small.to(place)), self._parsing(small))
        if fault is not None:
            return Phrase("fault.outlining", f"the network that outlines faces {fault}", fault=fault)
        expected = restored(self._gfpgan, large)
        fault = network_fault(restored(gfpgan, large.to(place)), expected)
        if fault is not None:
            return Phrase("fault.restoring", f"the network that restores faces {fault}", fault=fault)
        fast = _copied(self._gfpgan, place).half() if half else None
        guard = Guard(gfpgan, device, fast)
        if fast is not None:
            guard.check_half(large.to(place), expected)
        self._use(device, guard, detection, parsing)
        return None

    def _say_cpu(self, device: devices.Device, reason: Phrase) -> None:
        notice(
            logger,
            "faces.cpu",
            f"Faces are restored on the CPU, because on the {device.label} device ({device.name}) {reason}. All else "
            "stays on it.",
            backend=device.label,
            device=device.name,
            reason=reason,
        )


def quiet() -> None:
    """What :attr:`Restorer.tick` does while nobody waits for it."""


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


def _copied(module: Any, place: torch.device) -> Any:
    return copy.deepcopy(module).to(place)


def _build_restorer(weights: FaceWeights) -> nn.Module:
    network: nn.Module = GFPGANv1Clean(
        out_size=FACE_SIZE,
        num_style_feat=512,
        channel_multiplier=2,
        decoder_load_path=None,
        fix_decoder=False,
        num_mlp=8,
        input_is_latent=True,
        different_w=True,
        narrow=NARROW,
        sft_half=True,
    )
    _strictly(lambda: network.load_state_dict(weights.states[weights.restorer]), weights, weights.restorer)
    return network.eval().requires_grad_(False)


def _build_helper(weights: FaceWeights) -> Any:
    """facexlib's helper with its two networks.

    It takes its parameters from files only, by a plain torch.load. It gets files that were written here a moment ago
    from what was read safely, in a folder that is the user's alone; those that the user has are not opened again.
    """
    from facexlib.utils.face_restoration_helper import FaceRestoreHelper

    def build(folder: str) -> Any:
        return FaceRestoreHelper(
            1,
            face_size=FACE_SIZE,
            crop_ratio=(1, 1),
            det_model="retinaface_resnet50",
            save_ext="png",
            use_parse=True,
            device=_CPU.torch_device,
            model_rootpath=folder,
        )

    with tempfile.TemporaryDirectory(prefix="realesrgan-faces-") as folder:
        _write({name: weights.states[name] for name in (DETECTION, PARSING)}, Path(folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torchvision and torch say of facexlib's calls helps no user
            helper = _strictly(lambda: build(folder), weights, "")
    for network in (helper.face_det, helper.face_parse):
        network.requires_grad_(False)
    return helper


def _write(states: Mapping[str, Dict[str, Tensor]], folder: Path) -> None:
    for name, state in states.items():
        try:
            torch.save(state, folder / f"{name}.pth")
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"{folder} cannot be written: {one_line(error)}. The face networks need about 200 MB there for a "
                "moment; set TMPDIR (TEMP on Windows) to a folder with room.",
                code="faces.disk",
                path=folder,
                reason=error,
            ) from error


def _strictly(load: Callable[[], Any], weights: FaceWeights, name: str) -> Any:
    """Runs ``load``; parameters that do not fit become an error that names their file."""
    try:
        return load()
    except RuntimeError as error:
        where = re.search(r"loading state_dict for (\w+)", str(error))
        if where is None:
            raise
        name = name or _CLASSES.get(where.group(1), "")
        lines = "".join(line.strip() for line in str(error).splitlines()[1:2])[:200]
        raise WeightsError(
            f"{weights.paths.get(name, name)} does not fit the network {where.group(1)}: {lines} Give the file that "
            f"is published as {name}.pth.",
            code="faces.network",
            path=str(weights.paths.get(name, name)),
            network=where.group(1),
            name=name,
            reason=Phrase("quote", lines.rstrip(".")),
        ) from error
