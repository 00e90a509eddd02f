"""Whole trainings: the smoke run of docs/training.md, resuming, two processes, errors of the command line."""

from __future__ import annotations

import copy
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from training import ROOT, metrics, require_basicsr, tiny_options

require_basicsr()
pytestmark = pytest.mark.train

import torch  # noqa: E402
import yaml  # noqa: E402

from realesrgan.errors import DeviceError, RealESRGANError, WeightsError  # noqa: E402
from realesrgan.train import main, train  # noqa: E402


def run(*arguments: str, cwd: Path, launcher: bool = False) -> subprocess.CompletedProcess[str]:
    before = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if launcher else []
    return subprocess.run(
        [sys.executable, *before, str(ROOT / "realesrgan" / "train.py"), *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=400,
    )


@pytest.mark.slow
def test_smoke_training_learns_and_its_network_upscales(tmp_path: Path) -> None:
    done = run("-opt", str(ROOT / "options" / "smoke.yml"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = metrics(tmp_path / "experiments" / "smoke")
    held_out = [line["l1"] for line in lines if line.get("validation") == "held_out"]
    assert len(held_out) == 40
    assert statistics.median(held_out[-10:]) < 0.8 * statistics.median(held_out[:10])
    assert all(np.isfinite([line[key] for key in line if key.startswith("l_")]).all() for line in lines)

    from realesrgan import RealESRGANer

    path = tmp_path / "experiments" / "smoke" / "models" / "net_g_latest.pth"
    picture = np.full((20, 24, 3), (200, 120, 40), np.uint8)
    result, mode = RealESRGANer(4, str(path), device="cpu", tile=16, tile_pad=8, trust_weights=True).enhance(picture)
    assert (result.shape, mode) == ((80, 96, 3), "RGB")
    # It has learnt what a plain colour is.
    assert np.abs(result[8:-8, 8:-8].astype(int) - (200, 120, 40)).mean() < 25


@pytest.mark.parametrize("model", ["RealESRGANModel", "RealESRNetModel"])
def test_a_resumed_training_goes_on_exactly(model: str, here: Path) -> None:
    """Stopped inside an epoch, with the pool full: losses and weights are those of the unbroken training."""
    options = tiny_options(model, total_iter=12, warmup_iter=9)
    options["logger"]["save_checkpoint_freq"] = 7
    train(copy.deepcopy(options), here)
    whole = here / "whole"
    (here / "experiments" / "tiny").rename(whole)

    broken = here / "experiments" / "tiny"
    shutil.copytree(whole, broken)
    for path in [*broken.glob("models/*_latest.pth"), *broken.glob("metrics.jsonl")]:
        path.unlink()
    torch.manual_seed(999)  # whatever the generators are at
    options["datasets"]["train"]["num_worker_per_gpu"] = 1  # workers change nothing
    train(copy.deepcopy(options), here, auto_resume=True)

    resumed = metrics(broken)
    assert [line["iter"] for line in resumed if "lr" in line] == [8, 9, 10, 11, 12]
    assert resumed == [line for line in metrics(whole) if line["iter"] > 7]
    for name in ("net_g_latest.pth",) + (("net_d_latest.pth",) if model == "RealESRGANModel" else ()):
        one, other = (torch.load(root / "models" / name, weights_only=True) for root in (whole, broken))
        for key in one:
            for parameter in one[key]:
                assert torch.equal(one[key][parameter], other[key][parameter]), (name, key, parameter)


def test_another_seed_gives_other_losses(here: Path) -> None:
    """The comparison above could not fail if nothing were random."""
    found = []
    for seed in (0, 1):
        options = tiny_options("RealESRNetModel", total_iter=1)
        options["manual_seed"] = seed
        train(options, here)
        found.append(metrics(here / "experiments" / "tiny")[0]["l_pix"])
    assert found[0] != found[1]


def test_the_state_continues_from_a_file_and_the_seed_is_kept(here: Path) -> None:
    options = tiny_options("RealESRNetModel", total_iter=4)
    options["manual_seed"] = None
    options["logger"]["save_checkpoint_freq"] = 2
    train(copy.deepcopy(options), here)
    first = metrics(here / "experiments" / "tiny")
    moved = here / "elsewhere"
    (here / "experiments" / "tiny").rename(moved)
    options["path"]["resume_state"] = str(moved / "training_states" / "2.state")
    train(options, here)
    assert metrics(here / "experiments" / "tiny") == first[2:]


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """Over gloo on the CPU; both draw their own half of the pictures, and a resumed pair goes on exactly."""
    options = tiny_options("RealESRGANModel", total_iter=4)
    options["logger"]["save_checkpoint_freq"] = 2
    file = tmp_path / "two.yml"
    file.write_text(yaml.safe_dump(options), encoding="utf-8")
    done = run("-opt", str(file), "--launcher", "pytorch", cwd=tmp_path, launcher=True)
    assert done.returncode == 0, done.stderr[-3000:]
    experiment = tmp_path / "experiments" / "tiny"
    whole = metrics(experiment)
    assert [line["iter"] for line in whole if "lr" in line] == [1, 2, 3, 4]
    assert {path.name for path in (experiment / "training_states").iterdir()} == {
        *("2.state", "2.rank1", "4.state", "4.rank1")
    }
    for path in (experiment / "training_states").glob("4.*"):
        path.unlink()
    done = run("-opt", str(file), "--launcher", "pytorch", "--auto_resume", cwd=tmp_path, launcher=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert metrics(experiment) == whole


def test_pairs_of_ones_own(here: Path) -> None:
    """The fine-tuning on pairs: no degradation, all other parts."""
    options = tiny_options(total_iter=2)
    options["high_order_degradation"] = False
    for key in [key for key in options if key.startswith(("resize_", "jpeg_", "noise_"))]:
        del options[key]
    options["datasets"]["train"] = {
        "name": "pairs",
        "type": "RealESRGANPairedDataset",
        "dataroot_gt": "pairs/gt",
        "dataroot_lq": "pairs/lq",
        "textures": {"count": 3, "size": 48},
        "gt_size": 32,
        "batch_size_per_gpu": 2,
        "dataset_enlarge_ratio": 2,
    }
    result = train(options, here)
    assert set(torch.load(result, weights_only=True)) == {"params", "params_ema"}
    assert len([line for line in metrics(here / "experiments" / "tiny") if "l_d_real" in line]) == 2


def test_the_scale_2_network_starts_from_the_scale_4_one(here: Path) -> None:
    """As options/train_realesrnet_x2plus.yml does: everything but the first convolution is taken over."""
    from realesrgan.archs.rrdbnet_arch import RRDBNet
    from realesrgan.models.base import save_file

    start = RRDBNet(3, 3, scale=4, num_feat=4, num_block=1, num_grow_ch=4)
    save_file({"params_ema": start.state_dict()}, here / "start.pth")
    options = tiny_options("RealESRNetModel", total_iter=1)
    options["scale"] = options["network_g"]["scale"] = 2
    options["train"]["optim_g"]["lr"] = 0.0
    options["path"].update(pretrain_network_g="start.pth", param_key_g="params_ema", strict_load_g=False)
    trained = torch.load(train(options, here), weights_only=True)["params"]
    assert trained["conv_first.weight"].shape[1] == 12
    assert torch.equal(trained["conv_last.weight"], start.conv_last.weight)
    options = tiny_options("RealESRNetModel", total_iter=1)
    options["path"].update(pretrain_network_g="start.pth", param_key_g="params_ema")
    options["network_g"]["num_block"] = 2
    with pytest.raises(WeightsError, match=r"start\.pth does not fit RRDBNet"):
        train(options, here)


def wrong(change: str, value: Any) -> Dict[str, Any]:
    options = tiny_options("RealESRGANModel", total_iter=1)
    *sections, last = change.split(":")
    section = options
    for name in sections:
        section = section[name]
    section[last] = value
    return options


@pytest.mark.parametrize(
    ("change", "value", "words"),
    [
        ("num_gpu", 64, "num_gpu is 64"),
        ("datasets:train:dataset_enlarge_ratio", 0, "less than a batch"),
        ("queue_size", 1, "queue_size"),
        ("path:pretrain_network_g", "missing.pth", r"missing\.pth"),
        ("path:resume_state", "missing.state", r"missing\.state"),
        ("val", None, "no section 'val'"),
        ("network_d", None, "network_d"),
        ("model_type", "RealESRGANModell", "'RealESRGANModel'"),
    ],
)
def test_what_cannot_be_is_said(change: str, value: Any, words: str, here: Path) -> None:
    with pytest.raises(RealESRGANError, match=words):
        train(wrong(change, value), here)


def test_a_device_that_cannot_run_the_network_is_refused(here: Path, directml: Any) -> None:
    options = tiny_options("RealESRNetModel", total_iter=1)
    options["network_g"] = {"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 4}
    with pytest.raises(RealESRGANError, match="PReLU"):
        train(options, here, device="directml")


def test_another_device_is_tried_and_its_failure_said(
    here: Path, directml: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stand-in computes forward only: the trial fails at the first backward pass, and says what to do."""
    with pytest.raises(DeviceError, match=r"training does not work on directml:0: .*--device cpu"):
        train(tiny_options("RealESRNetModel", total_iter=1), here, device="directml")
    assert "Training on directml:0 is a trial" in capsys.readouterr().err


def test_the_command_line_says_errors_in_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "bad.yml").write_text("name: x\nmodel_typ: y\n", encoding="utf-8")
    assert main(["-opt", "bad.yml"]) == 1
    assert capsys.readouterr().err == "error: unknown option 'model_typ'; the nearest known one is 'model_type'\n"
    assert main(["-opt", "missing.yml"]) == 1
    assert "missing.yml" in capsys.readouterr().err
    assert main(["-opt", str(ROOT / "options" / "smoke.yml"), "--launcher", "pytorch"]) == 1
    assert "torchrun" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("too_new", "words"), [((99, 0), "first_run.py --train"), ((3, 0), "does not build on Python")]
)
def test_without_basicsr_the_way_to_it_is_said(
    too_new: Any, words: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from realesrgan.models import compat

    monkeypatch.setattr(compat, "_TOO_NEW", too_new)
    for name in [name for name in sys.modules if name.split(".")[0] == "basicsr"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "basicsr", None)
    assert main(["-opt", str(ROOT / "options" / "smoke.yml")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: Training needs basicsr") and words in told and told.count("\n") == 1


def test_debug_and_force_yml(here: Path) -> None:
    arguments: List[str] = ["-opt", "tiny.yml", "--debug", "--force_yml", "train:total_iter=3", "train:ema_decay=0"]
    (here / "tiny.yml").write_text(yaml.safe_dump(tiny_options("RealESRNetModel")), encoding="utf-8")
    assert main(arguments) == 0
    experiment = here / "experiments" / "debug_tiny"
    assert [line["iter"] for line in metrics(experiment) if "lr" in line] == [1, 2, 3]
    assert set(torch.load(experiment / "models" / "net_g_latest.pth", weights_only=True)) == {"params"}
