"""The files in options/ run, with networks and pictures made small; and a start that fails costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest
from training import ROOT, metrics, require_basicsr, tiny_options

require_basicsr()
pytestmark = pytest.mark.train

import torch  # noqa: E402

from realesrgan.data import sources  # noqa: E402
from realesrgan.errors import RealESRGANError  # noqa: E402
from realesrgan.models import options as reader  # noqa: E402
from realesrgan.train import train  # noqa: E402

RECIPES = sorted(path for path in (ROOT / "options").glob("*.yml") if path.stem != "smoke")


def data_of(options: Dict[str, Any], here: Path) -> None:
    """Pictures and the list that the recipe names, where it looks for them."""
    wanted, root = options["datasets"]["train"], here / "datasets" / "DF2K"
    sources.draw_folder(root / "HR", 2, 100, 1, root / "LR", options["scale"])
    paired = "dataroot_lq" in wanted
    lines = [f"HR/{n:04d}.png, LR/{n:04d}.png" if paired else f"HR/{n:04d}.png" for n in range(2)]
    (here / wanted["meta_info"]).parent.mkdir(parents=True)
    (here / wanted["meta_info"]).write_text("\n".join(lines), encoding="utf-8")
    wanted.update(gt_size=64, batch_size_per_gpu=2, num_worker_per_gpu=0)
    if not paired:
        wanted["crop_pad_size"], options["gt_size"] = 100, 64


def start_files(options: Dict[str, Any], here: Path) -> None:
    """The networks that the recipe starts from, where it looks for them; ESRGAN's has its parameters at the top."""
    from basicsr.archs import build_network

    torch.manual_seed(5)
    for key, parameters in (("g", options["path"].get("param_key_g")), ("d", "params")):
        path = options["path"].get(f"pretrain_network_{key}")
        if path:
            network = dict(options[f"network_{key}"])
            if key == "g" and not options["path"]["strict_load_g"]:
                network["scale"] = 4
            state = build_network(network).state_dict()
            (here / path).parent.mkdir(parents=True, exist_ok=True)
            torch.save({parameters: state} if parameters else state, here / path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_runs(path: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = reader.load(path)
    data_of(options, here)
    options["network_g"].update(num_feat=4, num_block=1, num_grow_ch=4)
    if "network_d" in options:
        options["network_d"]["num_feat"] = 4
        del options["train"]["perceptual_opt"]  # its weights cannot be had here; test_perceptual.py has a way
    options["train"]["total_iter"] = options["logger"]["print_freq"] = 1
    start_files(options, here)
    result = train(options, here)
    trained = torch.load(result, weights_only=True)
    assert set(trained) == {"params", "params_ema"}
    expected = {"l_g_pix", "l_g_gan", "l_d_real", "l_d_fake"} if "network_d" in options else {"l_pix"}
    (line,) = metrics(result.parent.parent)
    assert {key for key in line if key.startswith("l_")} == expected
    assert torch.isfinite(torch.tensor([line[key] for key in expected])).all()
    # One step of 1e-4 away from the file that it started from, or it had not started there.
    start = torch.load(here / options["path"]["pretrain_network_g"], weights_only=True)
    start = start.get(options["path"]["param_key_g"], start)
    moved = (trained["params"]["conv_hr.weight"] - start["conv_hr.weight"]).abs().max()
    assert 0 < moved <= 1.01 * options["train"]["optim_g"]["lr"]
    assert list((here / "tb_logger" / options["name"]).glob("events.*"))


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("path", "pretrain_network_g", "missing.pth", r"missing\.pth"),
        ("datasets:train", "meta_info", "missing.txt", r"missing\.txt"),
        ("datasets:val", "dataroot_gt", "missing", "missing"),
        ("datasets:train", "batch_size_per_gpu", 999, "less than a batch"),
    ],
)
def test_a_start_that_fails_leaves_the_earlier_experiment(
    section: str, key: str, value: Any, words: str, here: Path
) -> None:
    train(tiny_options("RealESRNetModel", total_iter=1), here)
    before = sorted(path.relative_to(here) for path in here.rglob("*"))
    options: Any = tiny_options("RealESRNetModel", total_iter=1)
    place = options
    for name in section.split(":"):
        place = place[name]
    place[key] = value
    place.pop("textures", None)
    with pytest.raises(RealESRGANError, match=words):
        train(options, here)
    assert sorted(path.relative_to(here) for path in here.rglob("*")) == before


def test_the_log_begins_before_its_file(here: Path) -> None:
    """What is said while the networks are made, when there is no folder yet, is in the file as well."""
    result = train(tiny_options("RealESRNetModel", total_iter=1), here)
    (log,) = result.parent.parent.glob("train_*.log")
    lines = log.read_text(encoding="utf-8").splitlines()
    for words in ("RRDBNet with", "Training on 5 pictures", "Done: "):
        assert len([line for line in lines if words in line]) == 1, words
