"""Reading and checking of options; the files in options/."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from training import ROOT, require_basicsr, tiny_options

require_basicsr()
pytestmark = pytest.mark.train

from realesrgan.errors import InputError  # noqa: E402
from realesrgan.models import options as reader  # noqa: E402
from realesrgan.models.compat import register  # noqa: E402

FILES = sorted((ROOT / "options").glob("*.yml"))


def test_the_files_are_all_there() -> None:
    recipes = [f"train_{kind}_{scale}plus" for kind in ("realesrgan", "realesrnet") for scale in ("x2", "x4")]
    tuned = ["finetune_realesrgan_x4plus", "finetune_realesrgan_x4plus_pairdata"]
    assert {path.stem for path in FILES} == {*recipes, *tuned, "smoke"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_passes_its_own_checks(path: Path) -> None:
    options = reader.load(path)
    register()
    reader.check_keys(options)
    reader.check_components(options)
    if path.stem != "smoke" and "pairdata" not in path.stem:
        import torch

        from realesrgan.data.realesrgan_dataset import KernelRecipe
        from realesrgan.models.degradation import Degradation

        Degradation(options, torch.device("cpu"))
        for suffix in ("", "2"):
            KernelRecipe.from_options(options["datasets"]["train"], suffix)


def test_the_recipe_is_the_published_one() -> None:
    gan = reader.load(ROOT / "options" / "train_realesrgan_x4plus.yml")
    net = reader.load(ROOT / "options" / "train_realesrnet_x4plus.yml")
    train = gan["train"]
    assert (train["optim_g"]["lr"], train["optim_d"]["lr"], net["train"]["optim_g"]["lr"]) == (1e-4, 1e-4, 2e-4)
    assert (train["ema_decay"], train["total_iter"], net["train"]["total_iter"]) == (0.999, 400000, 1000000)
    weights = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1, "conv5_4": 1}
    assert train["perceptual_opt"]["layer_weights"] == weights
    assert (train["pixel_opt"]["loss_weight"], train["gan_opt"]["loss_weight"]) == (1.0, 0.1)
    assert (gan["gt_size"], gan["queue_size"], gan["second_blur_prob"]) == (256, 180, 0.8)
    assert (gan["l1_gt_usm"], gan["percep_gt_usm"], gan["gan_gt_usm"]) == (True, True, False)


@pytest.mark.parametrize(
    ("entry", "nearest"),
    [
        ("resize_probs=[1]", "resize_prob"),
        ("train:ema_decai=0.9", "ema_decay"),
        ("datasets:train:blur_sigm=[1, 2]", "blur_sigma"),
        ("datasets:train:io_backend:typ=disk", "type"),
        ("network_g:num_blok=3", "num_block"),
        ("train:optim_g:beta=[0, 1]", "betas"),
        ("train:gan_opt:los_weight=1", "loss_weight"),
        ("train:scheduler:milestone=[1]", "milestones"),
        ("val:metrics:psnr:crop_borde=4", "crop_border"),
        ("network_g:type=RRDBNett", "RRDBNet"),
        ("datasets:train:type=RealESRGANDatset", "RealESRGANDataset"),
        ("train:scheduler:type=MultiStep", "MultiStepLR"),
    ],
)
def test_what_nobody_knows_is_refused_with_the_nearest_name(entry: str, nearest: str) -> None:
    options = tiny_options()
    reader.override(options, [entry])
    register()
    with pytest.raises(InputError, match=f"nearest known one is '{nearest}'"):
        reader.check_keys(options)
        reader.check_components(options)


def test_what_is_missing_is_named() -> None:
    options = tiny_options()
    del options["train"]["total_iter"]
    with pytest.raises(InputError, match="'train:total_iter' is missing"):
        reader.check_keys(options)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("!!float 2e-4", 2e-4), ("2.5e3", 2500.0), ("7", 7), ("~", None), ("[0.9, 0.99]", [0.9, 0.99])],
)
def test_numbers_are_numbers(text: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "설정.yml"
    path.write_text(f"name: {text}\n", encoding="utf-8")
    assert reader.load(path) == {"name": value}


@pytest.mark.parametrize(
    ("text", "words"), [("a: 1\na: 2\n", "twice"), ("a: [1", "not valid YAML"), ("- 1\n", "no options")]
)
def test_broken_files_are_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        reader.load(path)


def test_overriding_needs_a_section_that_is_there() -> None:
    options = tiny_options()
    before: Dict[str, Any] = copy.deepcopy(options)
    for entry in ("trian:ema_decay=1", "train:ema_decay", "name:x=1"):
        with pytest.raises(InputError):
            reader.override(options, [entry])
    assert options == before
    reader.override(options, ["train:ema_decay=none", "datasets:train:name=a=b"])
    assert options["train"]["ema_decay"] is None
    assert options["datasets"]["train"]["name"] == "a=b"


def test_nothing_is_registered_on_import() -> None:
    code = (
        "import sys, realesrgan, realesrgan.models, realesrgan.data, realesrgan.train\n"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('basicsr', 'torch')]\n"
        "from realesrgan.models.compat import register\n"
        "register(); register()\n"
        "from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY\n"
        "for registry, names in ((ARCH_REGISTRY, 'RRDBNet SRVGGNetCompact UNetDiscriminatorSN'),\n"
        "    (DATASET_REGISTRY, 'RealESRGANDataset RealESRGANPairedDataset'),\n"
        "    (MODEL_REGISTRY, 'RealESRGANModel RealESRNetModel')):\n"
        "    for name in names.split():\n"
        "        assert registry.get(name).__module__.startswith('realesrgan.'), name\n"
    )
    arguments: List[str] = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
