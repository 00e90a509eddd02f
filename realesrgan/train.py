"""Trains a network: ``python realesrgan/train.py -opt options/smoke.yml`` (or ``python -m realesrgan.train``)."""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):
    # Run as a script: Python then looks for modules in this folder first, where profile.py and others would stand in
    # for the standard library's. The package's own parent takes that place.
    _HERE = Path(__file__).resolve().parent
    sys.path[:] = [str(_HERE.parent)] + [
        entry for entry in sys.path if Path(entry or ".").resolve() not in (_HERE, _HERE.parent)
    ]

import argparse
import itertools
import json
import logging
from typing import Any, Dict, List, Optional, Sequence

from realesrgan.errors import DeviceError, InputError, RealESRGANError
from realesrgan.files import jsonl

__all__ = ["main", "train"]

LOGGER = logging.getLogger("basicsr")


def _parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="train.py", description="Train or fine-tune a Real-ESRGAN network.")
    parser.add_argument("-opt", "--opt", required=True, metavar="FILE", help="the options, a YAML file (see options/)")
    parser.add_argument("--launcher", choices=["none", "pytorch"], default="none", help="pytorch: started by torchrun")
    parser.add_argument("--auto_resume", action="store_true", help="go on from the newest state of this experiment")
    parser.add_argument("--debug", action="store_true", help="log every step, save and validate every 8")
    parser.add_argument("--device", metavar="NAME", help="cuda, cpu, or a trial: directml (default: num_gpu says)")
    parser.add_argument(
        "--force_yml", nargs="+", default=[], metavar="KEY=VALUE", help="override options: train:ema_decay=0.99"
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


class _Record:
    """``metrics.jsonl``: a line for each logged step and each validation, with all digits."""

    def __init__(self, options: Dict[str, Any], resumed_at: int) -> None:
        self.path = Path(options["path"]["experiments_root"]) / "metrics.jsonl"
        self.active = options["rank"] == 0
        if self.active and self.path.exists():
            # A killed training may have left a torn last line.
            lines = [line for line in jsonl.read(self.path) if line is not None and line["iter"] <= resumed_at]
            with jsonl.LineWriter(self.path, append=False) as file:
                for line in lines:
                    file.write(line)

    def write(self, **values: Any) -> None:
        if self.active:
            with jsonl.LineWriter(self.path) as file:
                file.write(values)


def _silence_opencv(worker: int) -> None:
    import cv2

    cv2.setNumThreads(0)  # every worker is a process of its own: no threads on top


def _training_data(options: Dict[str, Any]) -> Any:
    """(loader, sampler) of ``datasets:train``."""
    import torch
    from basicsr.data import build_dataset

    from realesrgan.data.sampling import OrderedSampler

    wanted = options["datasets"]["train"]
    dataset = build_dataset(wanted)
    cards = 1 if options["dist"] else max(1, options["num_gpu"])
    batch = int(wanted["batch_size_per_gpu"]) * cards
    workers = int(wanted.get("num_worker_per_gpu", 0)) * cards
    sampler = OrderedSampler(
        len(dataset),
        options["manual_seed"],
        options["world_size"],
        options["rank"],
        int(wanted.get("dataset_enlarge_ratio", 1)),
        bool(wanted.get("use_shuffle", True)),
    )
    if len(sampler) < batch:
        raise InputError(
            f"an epoch draws {len(sampler)} pictures, less than a batch of {batch}: "
            "raise datasets:train:dataset_enlarge_ratio, or lower batch_size_per_gpu"
        )
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=batch,
        sampler=sampler,
        num_workers=workers,
        drop_last=True,
        # From the shared generator, starting workers would shift the random numbers of a resumed training.
        generator=torch.Generator(),
        worker_init_fn=_silence_opencv,
        pin_memory=bool(wanted.get("pin_memory", False)) or wanted.get("prefetch_mode") == "cuda",
        persistent_workers=bool(wanted.get("persistent_workers", False)) and workers > 0,
        prefetch_factor=max(2, int(wanted.get("num_prefetch_queue", 2))) if workers else None,
    )
    LOGGER.info(f"Training on {len(dataset)} pictures, {len(sampler) // batch} batches of {batch} an epoch")
    return loader, sampler


def _validation_data(options: Dict[str, Any]) -> List[Any]:
    import torch
    from basicsr.data import build_dataset

    loaders = []
    for phase, wanted in options["datasets"].items():
        if wanted["phase"] != "val":
            continue
        if wanted["type"] == "RealESRGANDataset":
            raise InputError(f"datasets:{phase} needs pairs: use type RealESRGANPairedDataset or PairedImageDataset")
        loaders.append(torch.utils.data.DataLoader(build_dataset(wanted), batch_size=1))
    if loaders and not options.get("val"):
        raise InputError("there is a data set for validation, but no section 'val' with val_freq, save_img and metrics")
    return loaders


def _validate(model: Any, loaders: List[Any], record: _Record, iteration: int, board: Any) -> None:
    options = model.opt["val"]
    for loader in loaders:
        model.validation(loader, iteration, board, bool(options.get("save_img", False)))
        if record.active and options.get("metrics"):
            record.write(iter=iteration, validation=loader.dataset.opt["name"], **model.metric_results)


def _board(options: Dict[str, Any]) -> Any:
    """TensorBoard's writer if the options ask for it (and for Weights & Biases beside it), or None."""
    from basicsr.utils import init_tb_logger, init_wandb_logger

    wanted = options["logger"]
    if not wanted["use_tb_logger"] or "debug" in options["name"]:
        return None
    try:
        if (wanted.get("wandb") or {}).get("project"):
            init_wandb_logger(options)
        return init_tb_logger(str(Path(options["root_path"]) / "tb_logger" / options["name"]))
    except ImportError as error:
        raise RealESRGANError(
            f"logger:use_tb_logger needs a package that is not installed ({error}): "
            "pip install tensorboard, or set it to false"
        ) from error


def _loop(model: Any, data: Any, validation: List[Any], state: Optional[Dict[str, Any]], board: Any) -> None:
    """Train until ``total_iter``; ``data`` is (loader, sampler), ``state`` the one that training goes on from."""
    from basicsr.utils import AvgTimer, MessageLogger

    (loader, sampler), options = data, model.opt
    total, warmup = int(options["train"]["total_iter"]), int(options["train"].get("warmup_iter", -1))
    iteration = state["iter"] if state else 0
    batches = state.get("batches", 0) if state else 0
    record, say = _Record(options, iteration), MessageLogger(options, iteration + 1, board)
    waiting, working = AvgTimer(), AvgTimer()
    print_freq, save_freq = int(options["logger"]["print_freq"]), int(options["logger"]["save_checkpoint_freq"])
    val_freq = int((options.get("val") or {}).get("val_freq") or 0) if validation else 0
    epoch = 0
    model.restore_generators()
    for epoch in itertools.count(state["epoch"] if state else 0):
        sampler.set_place(epoch, batches * loader.batch_size)
        for data in loader if iteration < total else ():
            waiting.record()
            iteration, batches = iteration + 1, batches + 1
            model.batches_this_epoch = batches
            model.update_learning_rate(iteration, warmup_iter=warmup)
            model.feed_data(data)
            model.optimize_parameters(iteration)
            working.record()
            if iteration % print_freq == 0:
                losses, rates = model.get_current_log(), model.get_current_learning_rate()
                record.write(iter=iteration, epoch=epoch, lr=rates[0], **losses)
                times = {"time": working.get_avg_time(), "data_time": waiting.get_avg_time()}
                say({"epoch": epoch, "iter": iteration, "lrs": rates, **times, **losses})
            if val_freq and iteration % val_freq == 0:
                _validate(model, validation, record, iteration, board)
            if iteration % save_freq == 0:
                model.save(epoch, iteration)
                LOGGER.info(f"Saved the networks and the state of step {iteration}")
            waiting.start()
            working.start()
            if iteration >= total:
                break
        batches = 0
        if iteration >= total:
            break
    model.save(epoch, -1)
    if validation and (not val_freq or total % val_freq):
        _validate(model, validation, record, iteration, board)


def train(options: Dict[str, Any], root: Path, launcher: str = "none", **settings: Any) -> Path:
    """Train as the options say; everything is written below ``root``/experiments.

    Args:
        options: As :func:`realesrgan.models.options.load` reads them. They are changed.
        root: Where ``experiments`` and ``tb_logger`` lie.
        launcher: ``pytorch`` in a process that torchrun has started.
        **settings: ``auto_resume``, ``debug`` (bool), ``device`` (str).

    Returns:
        The path of the trained network, which the upscaling program accepts as ``--model_path``.

    Raises:
        RealESRGANError: Something in the options, the data or the device does not fit.
    """
    from realesrgan.models import options as checks
    from realesrgan.models import setup
    from realesrgan.models.compat import register

    checks.check_keys(options)
    register()
    try:
        checks.check_components(options)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, RealESRGANError):
            raise
        raise InputError(f"the options are not of the form that training expects: {error}") from error
    setup.start_processes(options, launcher)
    setup.set_up_log(None, options["rank"])
    setup.choose_device(options, settings.get("device"))
    setup.derive(options, root, bool(settings.get("debug")))
    state = setup.find_state(options, bool(settings.get("auto_resume")))
    if state is not None:
        setup.resume_networks(options, state["iter"])
    setup.draw_missing(options)
    setup.seed_everything(options, state.get("seed") if state else None)

    from basicsr.models import build_model

    # All that can be missing or wrong is found by these three, before an earlier experiment is moved aside.
    model, data, validation = build_model(options), _training_data(options), _validation_data(options)
    setup.prepare_folders(options, resuming=state is not None)
    setup.set_up_log(options["path"]["log"], options["rank"])
    if options["rank"] == 0:
        copy = Path(options["path"]["experiments_root"]) / "options.json"
        copy.write_text(json.dumps(options, indent=2, default=str), encoding="utf-8")

    board = None
    try:
        if state is not None:
            model.resume_training(state)
            LOGGER.info(f"Going on from step {state['iter']}")
        board = _board(options)
        _loop(model, data, validation, state, board)
    except RuntimeError as error:
        if isinstance(error, RealESRGANError) or not options.get("trial"):
            raise
        raise DeviceError(
            f"training does not work on {options['trial']}: {error}. Use --device cpu, or a CUDA card"
        ) from error
    finally:
        if board is not None:
            board.close()
        if options["dist"]:
            import torch

            torch.distributed.destroy_process_group()
    result = Path(options["path"]["models"]) / "net_g_latest.pth"
    LOGGER.info(f"Done: {result}")
    return result


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The command line. Returns the exit status."""
    args = _parse(argv)
    try:
        from realesrgan.models import options as reader

        options = reader.load(args.opt)
        reader.override(options, args.force_yml)
        train(options, Path.cwd(), args.launcher, auto_resume=args.auto_resume, debug=args.debug, device=args.device)
    except RealESRGANError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. --auto_resume goes on from the last saved state.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
