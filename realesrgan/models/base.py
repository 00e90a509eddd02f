"""What both models add to basicsr's: devices, safe files, pairs made by degradation, the perceptual loss's weights, and
exact resuming; and a measure for the validation.

Files contain tensors and plain values only, so they load with ``weights_only=True``: no code runs from one.
"""

from __future__ import annotations

import pickle
import random
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple, Union

import numpy as np
import torch
from basicsr.archs.vgg_arch import VGG_PRETRAIN_PATH
from basicsr.data.transforms import paired_random_crop
from basicsr.utils import get_root_logger
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from realesrgan.errors import InputError, RealESRGANError, WeightsError, one_line
from realesrgan.files.atomic import write_atomically
from realesrgan.models.degradation import Degradation, PairPool, UnsharpMask
from realesrgan.models.options import value_at
from realesrgan.weights.checkpoints import torch_is_breakable
from realesrgan.weights.download import sha256_of

__all__ = ["RealESRMixin", "calculate_l1", "load_file", "need_vgg_weights", "quiet_vgg", "save_file"]

VGG_FILES = {"vgg19": "vgg19-dcbb9e9d.pth"}
VGG_ADDRESS = "https://download.pytorch.org/models/"


class RealESRMixin:
    """Comes before basicsr's SRModel or SRGANModel among the bases.

    Its constructor draws no random numbers besides those of basicsr's.
    """

    opt: Dict[str, Any]
    device: torch.device
    validating = False
    batches_this_epoch = 0  # the training loop counts them; a resumed training starts behind them

    def __init__(self, opt: Dict[str, Any]) -> None:
        need_vgg_weights(opt)
        with quiet_vgg():
            super().__init__(opt)  # type: ignore[call-arg]
        self.usm_sharpener = UnsharpMask().to(self.data_device)
        self.pool = PairPool(int(self.opt.get("queue_size", 180)))
        self.degrades = self.is_train and self.opt.get("high_order_degradation", True)
        if self.degrades:
            if not self.opt.get("gt_size"):
                raise InputError("option 'gt_size' is missing: the side of the parts to train on")
            self.degradation = Degradation(self.opt, self.data_device)

    @property
    def data_device(self) -> torch.device:
        """Where pictures are degraded: the networks' device, or the CPU where that one computes something wrong."""
        return torch.device("cpu") if self.opt.get("degrade_on_cpu") else self.device

    @property
    def training(self) -> bool:
        """Whether batches are trained on, and not measured."""
        return self.is_train and not self.validating

    # --- devices -------------------------------------------------------------------------------------------------

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move a network to the training's device; wrap it where several processes or cards work together."""
        self.device = torch.device(self.opt.get("device") or self.device)
        net = net.to(self.device)
        if self.opt["dist"]:
            return DistributedDataParallel(
                net,
                device_ids=[self.device.index] if self.device.type == "cuda" else None,
                find_unused_parameters=bool(self.opt.get("find_unused_parameters", False)),
            )
        return DataParallel(net) if self.opt["num_gpu"] > 1 else net

    def print_network(self, net: nn.Module) -> None:
        """One line into the log, instead of every layer."""
        bare = self.get_bare_model(net)
        count = sum(parameter.numel() for parameter in bare.parameters())
        get_root_logger().info(f"{type(bare).__name__} with {count:,d} parameters on {self.device}")

    # --- data ----------------------------------------------------------------------------------------------------

    def sharpen(self, gt: torch.Tensor) -> torch.Tensor:
        """Unsharp masking as the recipe does it to ground truth; (B, 3, H, W) in [0, 1]."""
        with torch.no_grad():
            return self.usm_sharpener(gt)

    def feed_data(self, data: Dict[str, Any], sharp_source: bool = False, sharp_gt: bool = False) -> None:
        """Take a batch of :class:`RealESRGANDataset`, or of pairs.

        Args:
            sharp_source: The ground truth is sharpened before it is degraded.
            sharp_gt: It is sharpened before anything else happens to it, while training.
        """
        gt = data["gt"].to(self.data_device, non_blocking=True) if "gt" in data else None
        if self.training and sharp_gt:
            gt = self.sharpen(gt)
        if self.training and self.degrades:
            lq, gt = self._pair(self.sharpen(gt) if sharp_source else gt, gt, data)
        else:
            lq = data["lq"]
        self.lq = lq.to(self.device, non_blocking=True)
        if gt is not None:
            self.gt = gt.to(self.device, non_blocking=True)

    def _pair(
        self, source: torch.Tensor, target: torch.Tensor, data: Dict[str, Any]
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """(lq, gt): ``source`` degraded with the batch's kernels, cut like ``target``, exchanged with the pool."""
        kernels = (data[name].to(self.data_device) for name in ("kernel1", "kernel2", "sinc_kernel"))
        self.degradation.follow(self.opt)
        lq = self.degradation(source, *kernels)
        gt, lq = paired_random_crop([target], [lq], int(self.opt["gt_size"]), int(self.opt["scale"]))
        return self.pool.exchange(lq.contiguous(), gt.contiguous())

    def nondist_validation(self, dataloader: Any, current_iter: int, tb_logger: Any, save_img: bool = False) -> None:
        """Measure on a data set of pairs, which are used as they are. Draws no random numbers."""
        self.validating = True
        try:
            super().nondist_validation(dataloader, current_iter, tb_logger, save_img)  # type: ignore[misc]
        finally:
            self.validating = False

    # Names of the original's parts, for scripts that look at them.

    @property
    def jpeger(self) -> nn.Module:
        """What compresses pictures as JPEG does."""
        return self.degradation.jpeger

    @property
    def queue_size(self) -> int:
        """Pairs that the pool holds when it is full."""
        return self.pool.size

    @property
    def queue_ptr(self) -> int:
        """Pairs that it holds now."""
        return self.pool.count

    @property
    def queue_lr(self) -> Any:
        """Its low-resolution pictures, (queue_size, 3, H, W); None before the first batch."""
        return self.pool.lq

    @property
    def queue_gt(self) -> Any:
        """Its ground truth, likewise."""
        return self.pool.gt

    # --- files ---------------------------------------------------------------------------------------------------

    def load_network(
        self, net: nn.Module, load_path: Union[str, Path], strict: bool = True, param_key: str = "params"
    ) -> None:
        """Load weights saved by a training or published: a state dict, or a dict of some under ``param_key``.

        Raises:
            WeightsError: The file is missing or broken, or its weights do not fit (with ``strict``).
        """
        net = self.get_bare_model(net)
        if torch_is_breakable():
            get_root_logger().warning(
                f"This torch can be made to run code by a crafted file: take {load_path} only from who you trust, "
                "or update torch to 2.10"
            )
        content = load_file(load_path)
        key = param_key if param_key in content else next((k for k in ("params_ema", "params") if k in content), None)
        if param_key and key != param_key:
            get_root_logger().warning(f"{load_path} has no {param_key!r}: taking {key or 'its top level'!r}")
        weights = content if key is None else content[key]
        weights = {name[7:] if name.startswith("module.") else name: value for name, value in weights.items()}
        if not strict:
            own = net.state_dict()
            left = [name for name, value in weights.items() if name not in own or own[name].shape != value.shape]
            missing = [name for name in own if name not in weights]
            get_root_logger().warning(f"{load_path}: {len(left)} parameters not used, {len(missing)} missing")
            weights = {name: value for name, value in weights.items() if name not in left}
        try:
            net.load_state_dict(weights, strict=strict)
        except RuntimeError as error:
            reason = str(error).splitlines()
            raise WeightsError(f"{load_path} does not fit {type(net).__name__}: {' '.join(reason[:2])}") from error
        get_root_logger().info(f"Loaded {type(net).__name__} from {load_path} [{key}]")

    def save_network(
        self,
        net: Union[nn.Module, List[nn.Module]],
        net_label: str,
        current_iter: int,
        param_key: Union[str, List[str]] = "params",
    ) -> None:
        """Save weights as ``<models>/<label>_<iteration or latest>.pth``, written whole or not at all."""
        if self.opt["rank"] != 0:
            return
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        content = {
            key: {name: value.detach().cpu() for name, value in self.get_bare_model(each).state_dict().items()}
            for key, each in zip(keys, nets)
        }
        name = "latest" if current_iter == -1 else str(current_iter)
        save_file(content, Path(self.opt["path"]["models"]) / f"{net_label}_{name}.pth")

    # --- resuming ------------------------------------------------------------------------------------------------

    def _state_path(self, current_iter: int, rank: int) -> Path:
        name = f"{current_iter}.state" if rank == 0 else f"{current_iter}.rank{rank}"
        return Path(self.opt["path"]["training_states"]) / name

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Save all that a resumed training needs beside the networks.

        Every process saves its own generators and pool; the first one's file, which represents the whole state, is
        written when the others' exist.
        """
        if current_iter == -1:
            return
        own = {"rng": _rng_state(), "pool": self.pool.state_dict()}
        rank = self.opt["rank"]
        if rank != 0:
            save_file(own, self._state_path(current_iter, rank))
        if self.opt["dist"]:
            torch.distributed.barrier()
        if rank == 0:
            state = {
                "epoch": epoch,
                "iter": current_iter,
                "batches": self.batches_this_epoch,
                "seed": self.opt["manual_seed"],
                "world_size": self.opt["world_size"],
                "optimizers": [_plain(optimizer.state_dict()) for optimizer in self.optimizers],
                "schedulers": [_plain(scheduler.state_dict()) for scheduler in self.schedulers],
                "best": _plain(getattr(self, "best_metric_results", {})),
                **own,
            }
            save_file(state, self._state_path(current_iter, 0))

    def resume_training(self, resume_state: Dict[str, Any]) -> None:
        """Take up optimisers, schedulers and the pool; :meth:`restore_generators` follows when the data is ready."""
        super().resume_training(resume_state)  # type: ignore[misc]
        measures = set(value_at(self.opt, "val:metrics") or {})
        best = {name: record for name, record in resume_state.get("best", {}).items() if set(record) == measures}
        if best:
            self.best_metric_results = best
        own: Any = resume_state
        if resume_state.get("world_size") != self.opt["world_size"] or "rng" not in resume_state:
            get_root_logger().warning(
                f"The state was saved by {resume_state.get('world_size', 'an unknown number of')} processes of "
                f"another kind than these {self.opt['world_size']}: training goes on, but not exactly as unbroken"
            )
            own = None
        elif self.opt["rank"] != 0:
            own = load_file(self._state_path(resume_state["iter"], self.opt["rank"]))
        self._generators = None if own is None else own["rng"]
        if own is not None:
            self.pool.load_state_dict(own["pool"], self.data_device)

    def restore_generators(self) -> None:
        """Put the random number generators where they were; the last thing before training goes on."""
        if getattr(self, "_generators", None) is not None:
            _restore_rng(self._generators)
            self._generators = None


def _rng_state() -> Dict[str, Any]:
    """The states of Python's, numpy's, torch's and (where there is one) CUDA's generators, as plain values."""
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    state: Dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "numpy": [str(kind), [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_rng(state: Dict[str, Any]) -> None:
    """Put the generators where :func:`_rng_state` found them."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def _plain(value: Any) -> Any:
    """A state dict with subclasses of dict (such as a scheduler's Counter) turned into dicts."""
    if isinstance(value, Counter):
        return {"__counter__": dict(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"__counter__"}:
            return Counter(value["__counter__"])
        return {key: _restored(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_restored(item) for item in value)
    return value


def save_file(value: Any, path: Union[str, Path]) -> None:
    """``torch.save``: a file by this name is always whole.

    Raises:
        RealESRGANError: It cannot be written.
    """
    try:
        write_atomically(path, lambda stream: torch.save(value, stream))
    except (OSError, RuntimeError) as error:
        raise RealESRGANError(f"cannot save {path}: {error}", code="train.save", path=str(path)) from error


def load_file(path: Union[str, Path]) -> Any:
    """What :func:`save_file` or another program saved, on the CPU. Runs no code from the file.

    Raises:
        WeightsError: There is no such file, or it is broken, or it contains more than tensors and plain values.
    """
    if not Path(path).is_file():
        raise WeightsError(f"there is no file {path}: download or train it, or correct its path in the options")
    try:
        return _restored(torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise WeightsError(f"cannot load {path}: {one_line(error)}") from error


def need_vgg_weights(options: Dict[str, Any]) -> None:
    """Make sure that ``train:perceptual_opt`` finds its weights; they are downloaded if need be.

    Raises:
        WeightsError: They are not available and cannot be downloaded (says which file is expected where), or the file
            that was found is not the published one.
    """
    section = value_at(options, "train:perceptual_opt")
    name = VGG_FILES.get(section.get("vgg_type", "vgg19")) if section else None
    if name is None:
        return
    local, cached = Path(VGG_PRETRAIN_PATH), Path(torch.hub.get_dir()) / "checkpoints" / name
    there = next((path for path in (local, cached) if path.is_file()), None)
    if there is not None:
        _verify_vgg(there)
        return
    get_root_logger().info(f"Downloading {VGG_ADDRESS}{name} (548 MB) to {cached}")
    try:
        torch.hub.load_state_dict_from_url(VGG_ADDRESS + name, map_location="cpu", check_hash=True, progress=False)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; RuntimeError: the hash differs
        raise WeightsError(
            f"the perceptual loss needs {name}, which cannot be downloaded ({error}): put {VGG_ADDRESS}{name} into "
            f"{local.parent}/ or {cached.parent}/, or leave out train:perceptual_opt (as options/smoke.yml does)"
        ) from error


def _verify_vgg(path: Path) -> None:
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


def calculate_l1(img: np.ndarray, img2: np.ndarray, crop_border: int = 0, **unused: Any) -> float:
    """Mean absolute difference of two HxWxC pictures in levels (0 to 255), less ``crop_border`` pixels at each edge.

    Raises:
        ValueError: The sizes differ, or nothing is left inside the border.
    """
    if img.shape != img2.shape:
        raise ValueError(f"pictures of one size are compared, not {img.shape} and {img2.shape}")
    height, width = img.shape[:2]
    inside = np.s_[crop_border : height - crop_border, crop_border : width - crop_border]
    if img[inside].size == 0:
        raise ValueError(f"crop_border {crop_border} leaves nothing of a picture of {height}x{width}")
    return float(np.abs(img[inside].astype(np.float64) - img2[inside].astype(np.float64)).mean())
