"""What comes before a training's first step: processes, device, seed, folders, the state to resume from, the log."""

from __future__ import annotations

import logging
import os
import random
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
import torch

from realesrgan.errors import DeviceError, InputError, notice
from realesrgan.files.paths import real

__all__ = ["choose_device", "derive", "draw_missing", "find_state", "prepare_folders", "resume_networks"]
__all__ += ["seed_everything", "set_up_log", "start_processes"]

Options = Dict[str, Any]
LOGGER = logging.getLogger("basicsr")  # the models log here too: one log for all


def start_processes(options: Options, launcher: str) -> None:
    """Join the other processes of ``torchrun``, or work alone; sets ``dist``, ``rank`` and ``world_size``.

    Raises:
        InputError: The launcher's variables are not in the environment.
    """
    options["dist"] = launcher == "pytorch"
    if not options["dist"]:
        options["rank"], options["world_size"] = 0, 1
        return
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        raise InputError(
            "--launcher pytorch must be started by torchrun: "
            "python -m torch.distributed.run --standalone --nproc-per-node 2 realesrgan/train.py --launcher pytorch …"
        )
    settings = options.get("dist_params") or {}
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(settings.get("port", 29500)))
    cuda = torch.cuda.is_available() and options["num_gpu"] != 0
    backend = (settings.get("backend") or "nccl") if cuda else "gloo"
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.distributed.init_process_group(backend=backend)
    options["rank"] = torch.distributed.get_rank()
    options["world_size"] = torch.distributed.get_world_size()


def choose_device(options: Options, request: Optional[str] = None) -> None:
    """Set ``device`` and make ``num_gpu`` a number: CUDA cards as ``num_gpu`` says, or the CPU, or ``request``.

    Raises:
        InputError: ``num_gpu`` asks for cards that do not exist.
        DeviceError: ``request`` is a device that is not usable, or that cannot run the networks.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = there if options["num_gpu"] == "auto" else options["num_gpu"]
    if not isinstance(wanted, int) or wanted < 0:
        raise InputError(f"option 'num_gpu' is auto or a number from 0, not {options['num_gpu']!r}")
    if request in (None, "auto"):
        if wanted > there:
            raise InputError(
                f"num_gpu is {options['num_gpu']}, but torch sees {there} CUDA devices here: "
                "set num_gpu: 0 to train on the CPU, or auto"
            )
        options["device"] = "cuda" if wanted else "cpu"
    else:
        wanted = _use(options, str(request), max(1, wanted))
    if options["dist"] and options["device"] == "cuda":
        options["device"] = f"cuda:{torch.cuda.current_device()}"
    options["num_gpu"] = wanted


def _use(options: Options, request: str, wanted: int) -> int:
    """Set the device that was asked for; returns the number of CUDA cards to use.

    A device that is neither CUDA nor the CPU is tried, and what is known not to work there is said.
    """
    from realesrgan import devices

    device = devices.resolve(request)
    chosen = device.torch_device
    if chosen.type in ("cpu", "cuda"):
        options["device"] = str(chosen) if ":" in request else chosen.type
        return 0 if chosen.type == "cpu" else 1 if ":" in request else wanted
    if options["dist"]:
        raise InputError(f"--device {request} works in one process only: leave out --launcher")
    network = options["network_g"]
    has_prelu = network["type"] == "SRVGGNetCompact" and network.get("act_type", "prelu") == "prelu"
    if has_prelu and not device.capabilities.multi_prelu:
        raise DeviceError(
            f"{device.spec} cannot run PReLU with several parameters: this process would be aborted. "
            "Train SRVGGNetCompact on CUDA or the CPU, or with act_type: leakyrelu"
        )
    troubles = [
        "it was not measured: compare the first losses with those of --device cpu",
        "pictures are degraded on the CPU, because bilinear resizing may be shifted there",
        "operators that it lacks run on the CPU",
    ]
    if options.get("network_d"):
        troubles.append("the discriminator resizes bilinearly, so its judgement may be shifted by half a pixel")
    notice(LOGGER, "train.device", f"Training on {device.spec} is a trial: {'; '.join(troubles)}.")
    options["degrade_on_cpu"], options["trial"] = True, device.spec
    options["device"] = chosen
    return 0


def seed_everything(options: Options, saved: Optional[int] = None) -> None:
    """Settle ``manual_seed`` (the same in all processes) and seed all generators, each process with its own.

    ``saved`` is the seed of the training that is resumed: it is kept, since the order of the data hangs on it.
    """
    seed = options.get("manual_seed")
    if saved is not None:
        if seed is not None and seed != saved:
            LOGGER.warning(f"manual_seed is {seed}, but the resumed training began with {saved}: going on with that")
        seed = saved
    if seed is None:
        seed = random.SystemRandom().randrange(1, 10000)
        if options["dist"]:
            shared = [seed]
            torch.distributed.broadcast_object_list(shared, src=0)
            seed = shared[0]
    options["manual_seed"] = int(seed)
    own = options["manual_seed"] + options["rank"]
    random.seed(own)
    np.random.seed(own % 2**32)
    torch.manual_seed(own)


def derive(options: Options, root: Path, debug: bool = False) -> None:
    """Fill in what follows from the options: the folders under ``root``, each data set's phase and scale.

    Raises:
        InputError: The experiment's folder would not be below ``experiments``.
    """
    if debug and not options["name"].startswith("debug"):
        options["name"] = f"debug_{options['name']}"
    if debug:
        options["logger"].update(print_freq=1, save_checkpoint_freq=8)
        if options.get("val"):
            options["val"]["val_freq"] = 8
    options["is_train"] = True
    options["root_path"] = str(root)
    for phase, dataset in options["datasets"].items():
        dataset["phase"] = phase.split("_")[0]
        dataset["scale"] = options["scale"]
        dataset.setdefault("name", phase)
    options["logger"].setdefault("use_tb_logger", False)
    folder = root / "experiments"
    experiment = folder / options["name"]
    if folder.resolve() not in experiment.resolve().parents:
        raise InputError(f"option 'name': {experiment} leads to {experiment.resolve()}, which is not below {folder}")
    paths = options["path"]
    paths["experiments_root"] = paths["log"] = str(experiment)
    for name in ("models", "training_states", "visualization"):
        paths[name] = str(experiment / name)


def find_state(options: Options, auto_resume: bool) -> Optional[Dict[str, Any]]:
    """The state to go on from: the newest of this experiment (``auto_resume``), or ``path:resume_state``, or none.

    Raises:
        WeightsError: It cannot be loaded.
    """
    from realesrgan.models.base import load_file

    path = options["path"].get("resume_state")
    if auto_resume:
        states = Path(options["path"]["training_states"]).glob("*.state")
        numbered = {int(state.stem): state for state in states if state.stem.isdigit()}
        path = str(numbered[max(numbered)]) if numbered else None
    if not path:
        return None
    options["path"]["resume_state"] = path
    return load_file(Path(path).expanduser())


def resume_networks(options: Options, iteration: int) -> None:
    """Point ``pretrain_network_*`` at the networks that were saved with the state."""
    paths = options["path"]
    models = Path(real(Path(paths["resume_state"]).expanduser())).parent.parent / "models"
    for network in ("network_g", "network_d"):
        if options.get(network) and network not in (paths.get("ignore_resume_networks") or []):
            paths[f"pretrain_{network}"] = str(models / f"net_{network[-1]}_{iteration}.pth")
            paths[f"param_key_{network[-1]}"] = "params"


def draw_missing(options: Options) -> None:
    """Draw the pictures of data sets that ask for it (``textures``) and do not exist yet."""
    from realesrgan.data.sources import draw_folder

    for dataset in options["datasets"].values() if options["rank"] == 0 else ():
        wanted = dataset.get("textures")
        if not wanted:
            continue
        folder = Path(dataset["dataroot_gt"])
        if folder.is_dir() and any(folder.iterdir()):
            continue
        LOGGER.info(f"Drawing {wanted['count']} pictures into {folder}")
        count, size, seed = int(wanted["count"]), int(wanted.get("size", 128)), int(wanted.get("seed", 0))
        draw_folder(folder, count, size, seed, dataset.get("dataroot_lq"), int(dataset["scale"]))
    if options["dist"]:
        torch.distributed.barrier()


def prepare_folders(options: Options, resuming: bool) -> None:
    """Make the experiment's folders; one of an earlier training by this name is moved aside, unless it is resumed."""
    from basicsr.utils import mkdir_and_rename

    if options["rank"] == 0:
        root = Path(options["path"]["experiments_root"])
        if not resuming and root.exists():
            mkdir_and_rename(str(root))
        for name in ("experiments_root", "models", "training_states", "visualization"):
            Path(options["path"][name]).mkdir(parents=True, exist_ok=True)
    if options["dist"]:
        torch.distributed.barrier()


def set_up_log(folder: Optional[str], rank: int) -> None:
    """Send the log to the console and (the first process) to a file in ``folder``.

    What was logged while there was no folder yet is in the file, too.
    """
    from basicsr.utils import get_time_str
    from basicsr.utils.logger import initialized_logger

    initialized_logger["basicsr"] = True  # basicsr would add handlers of its own
    earlier = [handler for handler in LOGGER.handlers if isinstance(handler, MemoryHandler)]
    handlers: "list[logging.Handler]" = [logging.StreamHandler()]
    if folder is None:
        handlers.append(MemoryHandler(10000, flushLevel=logging.CRITICAL + 1))
    elif rank == 0:
        handlers.append(logging.FileHandler(Path(folder) / f"train_{get_time_str()}.log", encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
    if folder is not None and rank == 0:
        for handler in earlier:
            handler.setTarget(handlers[-1])
    for handler in list(LOGGER.handlers):
        LOGGER.removeHandler(handler)
        handler.close()
    LOGGER.propagate = False
    LOGGER.setLevel(logging.INFO if rank == 0 else logging.ERROR)
    for handler in handlers:
        LOGGER.addHandler(handler)
