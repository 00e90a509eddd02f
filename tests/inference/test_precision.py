"""A device is checked before it is used, and FP16 is left for FP32 where it does not hold."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.networks import CPU, rrdb, srvgg
from torch import Tensor, nn

from realesrgan import devices
from realesrgan.backends import BACKENDS
from realesrgan.cli import messages
from realesrgan.errors import DeviceError, DeviceLostError
from realesrgan.inference import arrays as image
from realesrgan.inference import engine
from realesrgan.inference.engine import Job
from realesrgan.inference.precision import HALF_MAX, Networks, check_device, half_fault, sample_texture
from realesrgan.inference.tiling import Canvas
from realesrgan.inference.upsampler import RealESRGANer


def run(networks: Networks, pixels: np.ndarray, tile: int = 16) -> Any:
    picture = image.decode(pixels)
    out = image.allocate(picture.height * 4, picture.width * 4, 3, picture.depth)
    canvas = Canvas(picture.height, picture.width)
    return out, engine.run(networks, Job(picture.color, canvas, 4, tile, 4), out)


def pixels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (32, 48, 3), dtype=np.uint8)


def half_networks(module: nn.Module) -> Networks:
    networks = Networks(module, devices.resolve("dml"), 4)
    networks.choose(True)
    return networks


def test_the_texture_has_texture_and_unequal_sides() -> None:
    texture = sample_texture()
    assert texture.shape == (3, 24, 36) and texture.dtype == np.float32
    assert float(texture.std()) > 0.1
    assert 0 <= float(texture.min()) < float(texture.max()) <= 1


def test_fp16_that_holds_is_taken_when_asked_for(directml) -> None:
    networks = half_networks(rrdb())
    assert networks.half
    out, outcome = run(networks, pixels())
    assert outcome.redone == 0
    expected, _ = run(Networks(rrdb(), CPU, 4), pixels())
    assert np.abs(out.astype(int) - expected).max() <= 2
    assert any(dtype == torch.float16 or "float16" in str(dtype) for dtype in directml.dtypes)


def test_fp16_is_not_taken_unasked_on_directml(directml) -> None:
    networks = Networks(rrdb(), devices.resolve("dml"), 4)
    networks.choose(None)
    assert not networks.half


@pytest.mark.parametrize("fault", ["nan", "black", "off"])
def test_fp16_that_fails_its_self_test_is_not_taken(directml_with, caplog, fault) -> None:
    with directml_with(half=fault), caplog.at_level(logging.WARNING):
        networks = Networks(bright(), devices.resolve("dml"), 4)
        networks.choose(True)
        assert not networks.half
    assert [record.notice_code for record in caplog.records] == ["precision.single"]


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("Unknown error -2005270522"), True),
        (Exception("Unknown error -2005270523"), True),
        (RuntimeError("no kernel for half"), False),
        (Exception("no kernel for half"), False),
    ],
)
def test_fp16_that_fails_with_an_error_is_not_taken_and_a_lost_device_is_said(
    directml, monkeypatch, caplog, error, lost
) -> None:
    from realesrgan.inference import precision

    def failing(network: Any, x: Tensor, scale: int) -> Tensor:
        if network.half:
            raise error
        return as_before(network, x, scale)

    as_before = precision._run
    monkeypatch.setattr(precision, "_run", failing)
    if lost:
        with pytest.raises(DeviceLostError, match="--device cpu"):
            RealESRGANer(4, None, model=srvgg(), half=True, device="dml")
        assert RealESRGANer(4, None, model=srvgg(), half=True).device.type == "cpu"
        assert "device.refused" in [record.notice_code for record in caplog.records]
    else:
        assert RealESRGANer(4, None, model=srvgg(), half=True, device="dml").half is False
        assert [record.notice_code for record in caplog.records] == ["precision.single"]


def bright() -> nn.Module:
    """A tiny network whose results are not near black."""
    module = srvgg()
    with torch.no_grad():
        module.body[-1].bias.fill_(0.3)
    return module


@pytest.mark.parametrize("fault", ["nan", "black"])
def test_fp16_failing_in_the_middle_is_redone_in_fp32_exactly(directml_with, caplog, fault) -> None:
    with directml_with() as simulation:
        networks = half_networks(bright())
        single = Networks(bright(), devices.resolve("dml"), 4)
        expected, _ = run(single, pixels())
        used = simulation.half_convolutions
    with directml_with(half=fault, half_from=used + 5), caplog.at_level(logging.WARNING):
        networks = half_networks(bright())
        assert networks.half
        out, outcome = run(networks, pixels())
        assert outcome.redone >= 1
        assert not networks.half
        # The first tile was right in FP16; from the fault on, all is FP32.
        np.testing.assert_array_equal(out[64:], expected[64:])
        assert np.abs(out.astype(int) - expected).max() <= 2
    assert [record.notice_code for record in caplog.records].count("precision.single") == 1


def test_black_that_is_right_stays_and_so_does_fp16(directml) -> None:
    module = srvgg()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.5)
        module.body[-1].bias.fill_(-9.0)  # everything is below 0, whatever the input
    networks = Networks(module, devices.resolve("dml"), 4)
    networks.half = True
    out, outcome = run(networks, pixels())
    assert not out.any()
    assert networks.half
    assert outcome.redone == outcome.tiles == 6


def test_a_black_input_is_not_computed_twice(directml) -> None:
    networks = Networks(srvgg(), devices.resolve("dml"), 4)
    networks.half = True
    _, outcome = run(networks, np.zeros((32, 48, 3), np.uint8))
    assert outcome.redone == 0


def test_the_cpu_works_in_fp32_and_says_so_once(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        upsampler = RealESRGANer(4, None, model=srvgg(), half=True, device="cpu")
    assert upsampler.half is False
    assert [record.notice_code for record in caplog.records] == ["precision.single"]
    assert "더 느리고" in messages.render(messages.of_record(caplog.records[0]), "ko")


@pytest.fixture()
def tf32_allowed() -> Any:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_tf32_is_off_while_a_device_is_checked(directml, tf32_allowed, monkeypatch) -> None:
    from realesrgan.inference import precision

    flags = torch.backends
    as_on_cuda, as_before = devices.full_precision, precision._run
    seen = []

    def run_and_look(network: Any, x: Tensor, scale: int) -> Tensor:
        seen.append((network.device.backend, flags.cudnn.allow_tf32, flags.cuda.matmul.allow_tf32))
        return as_before(network, x, scale)

    monkeypatch.setattr(precision, "_run", run_and_look)
    monkeypatch.setattr(devices, "full_precision", lambda device: as_on_cuda(devices.Device("cuda", 0, "NVIDIA A")))
    check_device(Networks(srvgg(), devices.resolve("dml"), 4))
    assert seen[0] == ("directml", False, False)
    assert (flags.cudnn.allow_tf32, flags.cuda.matmul.allow_tf32) == (True, True)


def wrong(network_run: Any, amount: float) -> Any:
    def run_wrong(network: Any, x: Tensor, scale: int) -> Tensor:
        result = network_run(network, x, scale)
        return result if network.device.backend == "cpu" else result + amount

    return run_wrong


@pytest.mark.parametrize(("amount", "fit"), [(0.0001, True), (0.01, False), (float("nan"), False)])
def test_a_device_that_computes_wrong_pictures_is_refused(directml, monkeypatch, amount, fit) -> None:
    from realesrgan.inference import precision

    monkeypatch.setattr(precision, "_run", wrong(precision._run, amount))
    networks = Networks(srvgg(), devices.resolve("dml"), 4)
    if fit:
        check_device(networks)
    else:
        with pytest.raises(DeviceError, match="computes wrong pictures"):
            check_device(networks)


def test_auto_takes_the_next_device_and_a_name_is_an_error(directml, monkeypatch, caplog) -> None:
    from realesrgan.inference import precision

    monkeypatch.setattr(precision, "_run", wrong(precision._run, 0.1))
    monkeypatch.setattr(BACKENDS["cuda"], "find", list)
    devices._found.cache_clear()
    with caplog.at_level(logging.WARNING):
        upsampler = RealESRGANer(4, None, model=srvgg())
    assert upsampler.device.type == "cpu"
    refused, *others = [record.notice_code for record in caplog.records]
    assert refused == "device.refused"
    assert others in ([], ["device.passed_over"])  # where ncnn is installed and no driver with Vulkan
    with pytest.raises(DeviceError, match="Update the graphics driver"):
        RealESRGANer(4, None, model=srvgg(), device="dml")


def test_a_plain_exception_of_a_backend_refuses_the_device_too(directml, monkeypatch) -> None:
    from realesrgan.inference import precision

    def broken(network: Any, x: Tensor, scale: int) -> Tensor:
        raise Exception("Invalid device_id argument supplied 0. device_id must be in range [0, 0).")

    monkeypatch.setattr(precision, "_run", broken)
    with pytest.raises(DeviceError, match="Invalid device_id"):
        check_device(Networks(srvgg(), devices.resolve("dml"), 4))


def test_a_device_that_fails_its_check_is_refused(directml_with) -> None:
    with directml_with(lost_after=3), pytest.raises(
        DeviceError, match="failed on a small test picture: .+ Update .+ --device cpu"
    ):
        RealESRGANer(4, None, model=srvgg(), device="dml")


def test_prelu_with_many_weights_is_never_asked_of_directml(directml, monkeypatch) -> None:
    RealESRGANer(4, None, model=srvgg(), device="dml").enhance(pixels())
    assert directml.ended == []
    # The guard taken out, the trap bites.
    backend = BACKENDS["directml"]
    monkeypatch.setattr(backend, "capabilities", replace(backend.capabilities, multi_prelu=True, submission_flops=0))
    from directml_standin import ProcessEnded

    with pytest.raises(ProcessEnded):
        RealESRGANer(4, None, model=srvgg(), device="dml")
    directml.forgive()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda x: x, None),
        (lambda x: x + 0.001, None),
        (lambda x: x * float("nan"), "NaN"),
        (lambda x: x * 0, "black"),
        (lambda x: x + 0.01, "off"),
        (lambda x: x + 2 * HALF_MAX * (np.arange(x.size) == 0).reshape(x.shape), "off"),
    ],
)
def test_faults_of_fp16(change, fault) -> None:
    expected = sample_texture()
    found = half_fault(change(expected), expected)
    assert (found is None) if fault is None else fault in str(found)
