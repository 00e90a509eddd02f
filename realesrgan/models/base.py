"""What both models add to basicsr's: devices, safe files, the degradation with its pool, and exact resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

import torch
from basicsr.data.transforms import paired_random_crop
from basicsr.utils import get_root_logger
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from realesrgan.errors import InputError, WeightsError
from realesrgan.models.degradation import Degradation
from realesrgan.models.pool import PairPool
from realesrgan.models.sharpen import UnsharpMask
from realesrgan.models.state import load_file, plain, restore_rng, rng_state, save_file
from realesrgan.weights.checkpoints import torch_is_breakable

__all__ = ["RealESRMixin"]

Pair = Tuple[torch.Tensor, torch.Tensor]


class RealESRMixin:
    """Comes before basicsr's SRModel or SRGANModel among the bases."""

    opt: Dict[str, Any]
    device: torch.device
    validating = False
    batches_this_epoch = 0  # the training loop counts them; a resumed training starts behind them

    def _prepare_degradation(self) -> None:
        """Make the sharpener, the pool and (unless pairs are given) the degradation. Draws no random numbers."""
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

    def _pair(self, source: torch.Tensor, target: torch.Tensor, data: Dict[str, Any]) -> Pair:
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
        own = {"rng": rng_state(), "pool": self.pool.state_dict()}
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
                "optimizers": [plain(optimizer.state_dict()) for optimizer in self.optimizers],
                "schedulers": [plain(scheduler.state_dict()) for scheduler in self.schedulers],
                "best": plain(getattr(self, "best_metric_results", {})),
                **own,
            }
            save_file(state, self._state_path(current_iter, 0))

    def resume_training(self, resume_state: Dict[str, Any]) -> None:
        """Take up optimisers, schedulers and the pool; :meth:`restore_generators` follows when the data is ready."""
        super().resume_training(resume_state)  # type: ignore[misc]
        measures = set((self.opt.get("val") or {}).get("metrics") or {})
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
            restore_rng(self._generators)
            self._generators = None
