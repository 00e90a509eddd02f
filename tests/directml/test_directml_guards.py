"""Every trap of torch-directml bites when our guard against it is taken out, and does nothing while it is in place.

The numbers are those of the list in ``tests/directml/README.md``.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Set

import numpy as np
import pytest
import torch
from directml_standin import Adapter, ProcessEnded, adapters, integrated_first
from support.card import picture, save, spread
from support.networks import rrdb, srvgg
from torch import Tensor
from torch.nn import functional as F

from realesrgan import RealESRGANer, devices
from realesrgan.backends import BACKENDS
from realesrgan.errors import DeviceError, DeviceLostError, RealESRGANError
from realesrgan.inference import arrays as image
from realesrgan.inference import network as tile_network
from realesrgan.inference import stages
from realesrgan.inference.network import TileNetwork

PIXELS = picture(31, 42)


@pytest.fixture()
def plain(tmp_path: Path) -> str:
    return save(tmp_path / "plain.pth", spread(rrdb()))


@pytest.fixture()
def twice(tmp_path: Path) -> str:
    return save(tmp_path / "twice.pth", spread(rrdb(scale=2)))


@pytest.fixture()
def compact(tmp_path: Path) -> str:
    return save(tmp_path / "compact.pth", srvgg())


def make(weights: str, scale: int = 4, device: str = "dml", **arguments: Any) -> RealESRGANer:
    arguments = {"tile": 0, "pre_pad": 0, "tile_pad": 8, **arguments}
    return RealESRGANer(scale, weights, device=device, trust_weights=True, **arguments)


def right(weights: str, scale: int = 4, pixels: np.ndarray = PIXELS, **arguments: Any) -> np.ndarray:
    """On the CPU, with the fixture like_directml in the same layout and bands."""
    return make(weights, scale, device="cpu", **arguments).enhance(pixels)[0]


def capabilities(patch: pytest.MonkeyPatch, **changes: Any) -> None:
    patch.setattr(BACKENDS["directml"], "capabilities", replace(BACKENDS["directml"].capabilities, **changes))


def numbers(simulation: Any) -> Set[int]:
    return {trap.number for trap in simulation.traps}


NEVER = {"var", "std", "var_mean", "full", "split", "chunk", "unbind", "upsample_bilinear2d", "reflection_pad2d"}

# The guards are in place.


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(31, 42, 3), (31, 42, 1), (31, 42, 4), (32, 44, 3), (30, 41, 3)])
def test_with_all_guards_nothing_bites(directml, like_directml, plain, twice, compact, shape, kind) -> None:
    pixels = picture(*shape, dtype=kind)
    for weights, scale in ((plain, 4), (twice, 2), (compact, 4)):
        for settings in ({}, {"tile": 20}, {"pre_pad": 3}):
            result, _ = make(weights, scale, **settings).enhance(pixels)
            np.testing.assert_array_equal(result, right(weights, scale, pixels, **settings))
    assert directml.traps == [] and not directml.fallbacks
    assert directml.counts["convolution"] > 0 and not NEVER & set(directml.counts)


def test_the_originals_steps_meet_no_trap(directml, like_directml, twice) -> None:
    results = []
    for device in ("dml", "cpu"):
        upsampler = make(twice, 2, device, pre_pad=3, tile=16)
        upsampler.pre_process(PIXELS.astype(np.float32) / 255)
        upsampler.tile_process()
        results.append(upsampler.post_process().cpu().numpy())
        upsampler.process()
        results.append(upsampler.post_process().cpu().numpy())
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[3])
    assert directml.traps == []


# Each is taken out.


def test_1_pasted_into_a_view_of_the_host_a_tile_is_lost(directml, like_directml, plain, monkeypatch) -> None:
    to_host = devices.to_host

    class Pasted:
        ready = True

        def __init__(self, tile: Tensor) -> None:
            self.tile = tile

        def wait(self) -> Tensor:
            whole = torch.zeros(self.tile.shape[0] + 1, *self.tile.shape[1:], dtype=self.tile.dtype)
            whole[1:] = self.tile  # as the original puts a tile into its picture
            return whole[1:]

    def arrive(device: Any, tensor: Tensor) -> Any:
        return Pasted(tensor) if tensor.dim() == 3 else to_host(device, tensor)

    upsampler = make(plain)
    monkeypatch.setattr(devices, "to_host", arrive)
    result, _ = upsampler.enhance(PIXELS)
    assert not result.any() and right(plain).any()
    assert numbers(directml) == {1}


def padding_on_the_device(patch: pytest.MonkeyPatch, height: int, width: int, mode: str) -> None:
    """The network pads by itself, as the original does, from what the host has not padded."""
    bands = TileNetwork.bands

    def pad_and_run(self: TileNetwork, x: Tensor, *others: Any) -> Any:
        right, bottom = x.shape[3] - width, x.shape[2] - height
        return bands(self, F.pad(x[:, :, :height, :width], (0, right, 0, bottom), mode=mode), *others)

    patch.setattr(TileNetwork, "bands", pad_and_run)


@pytest.mark.parametrize(
    ("pixels", "mode", "number"), [(picture(32, 42), "constant", 2), (picture(31, 42), "reflect", 3)]
)
def test_2_and_3_padded_on_the_device_a_picture_is_wrong(
    directml, like_directml, twice, monkeypatch, pixels, mode, number
) -> None:
    upsampler, expected = make(twice, 2), right(twice, 2, pixels)
    np.testing.assert_array_equal(upsampler.enhance(pixels)[0], expected)
    padding_on_the_device(monkeypatch, pixels.shape[0], pixels.shape[1], mode)
    np.testing.assert_array_equal(right(twice, 2, pixels), expected)  # the CPU pads as it is asked
    try:
        result, _ = upsampler.enhance(pixels)
    except RealESRGANError as error:
        assert number == 3 and ("not divisible" in str(error) or "must match the size" in str(error))
    else:
        assert not np.array_equal(result, expected)
    assert numbers(directml) == {number}


def test_4_enlarged_on_the_device_alpha_is_shifted(directml, plain, monkeypatch) -> None:
    pixels = picture(31, 42, 4)
    expected, _ = make(plain).enhance(pixels, alpha_upsampler="bicubic")
    assert directml.traps == []

    def resize(alpha: Any, scale: int, out: np.ndarray) -> None:
        values = torch.from_numpy(alpha.unit(alpha.pixels))[None, None].to("privateuseone:0")
        large = F.interpolate(values, scale_factor=scale, mode="bilinear").cpu()
        out[...] = (large[0, 0].numpy() * 255).round()

    monkeypatch.setattr(image, "resize_alpha", resize)
    result, _ = make(plain).enhance(pixels, alpha_upsampler="bicubic")
    assert np.abs(result[:, :, 3].astype(int) - expected[:, :, 3]).max() > 10
    assert numbers(directml) == {4}


@pytest.mark.parametrize("piecewise", [False, True], ids=["views", "pieces"])
def test_5_a_dense_block_over_views_of_one_buffer_is_wrong(
    directml, like_directml, plain, monkeypatch, piecewise
) -> None:
    expected = right(plain)

    def grown(block: Any, x: Tensor, wait: Any = None) -> Tensor:
        parts, features = (block.conv1, block.conv2, block.conv3, block.conv4), x.shape[1]
        sizes = [features] + [conv.out_channels for conv in parts]
        buffer = torch.zeros(1, sum(sizes), *x.shape[2:], device=x.device)
        ends = np.cumsum(sizes).tolist()
        # Taken once; on the CPU they see what is written later, and write into the buffer.
        slots = buffer.split(sizes, 1) if piecewise else [buffer[:, e - s : e] for e, s in zip(ends, sizes)]
        slots[0].copy_(x)
        for number, conv in enumerate(parts, 1):
            added = F.leaky_relu(conv(torch.cat(slots[:number], 1)), 0.2)
            if piecewise:
                slots[number].copy_(added)
            else:
                buffer[:, ends[number] - sizes[number] : ends[number]] = added
        return buffer

    upsampler = make(plain)
    monkeypatch.setattr(stages, "_grown", grown)
    np.testing.assert_array_equal(right(plain), expected)
    result, _ = upsampler.enhance(PIXELS)
    assert not np.array_equal(result, expected)
    assert numbers(directml) == {5}


def test_6_a_constant_of_full_makes_all_of_it_float64(directml_with, plain, monkeypatch) -> None:
    def residual(x: Tensor, out: Tensor) -> Tensor:
        return out * torch.full((1,), 0.2, device=x.device) + x

    with directml_with(adapters=(Adapter(float64=False),)) as simulation:
        make(plain).enhance(PIXELS)
        assert simulation.traps == [] and "torch.float64" not in simulation.dtypes
        monkeypatch.setattr(stages, "_added", residual)
        with pytest.raises(DeviceError, match="Float64"):
            make(plain)
        assert numbers(simulation) == {6}


def test_6_a_variance_is_another_one(directml) -> None:
    """None is ever asked for: NEVER, above."""
    values = torch.rand(1, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    on_device = values.to(devices.resolve("dml").torch_device)
    assert abs(on_device.var().item() - values.var().item()) > 0.01
    assert numbers(directml) == {6}


def test_6_tensors_of_4_gib_are_cut(directml_with, like_directml, plain, monkeypatch) -> None:
    capabilities(monkeypatch, tall_bands=False)
    host = BACKENDS["cpu"]
    monkeypatch.setattr(host, "capabilities", replace(host.capabilities, tall_bands=False))
    pixels = picture(300, 40)  # 300 x 40 x 24 channels, 1.2 MB
    expected = right(plain, pixels=pixels, tile=150)
    with directml_with(cut_at=2**20) as simulation:
        capabilities(monkeypatch, largest_tensor=2**20 - 1)
        upsampler = make(plain, tile=512)
        np.testing.assert_array_equal(upsampler.enhance(pixels)[0], expected)
        assert upsampler.last_run.splits == 1 and simulation.traps == []
        capabilities(monkeypatch, largest_tensor=0)
        result, _ = make(plain, tile=512).enhance(pixels)
        assert not np.array_equal(result, right(plain, pixels=pixels, tile=512))
        assert numbers(simulation) == {6}


def test_7_prelu_with_many_weights_ends_the_process(directml, compact, monkeypatch) -> None:
    make(compact).enhance(PIXELS)
    capabilities(monkeypatch, multi_prelu=True, submission_flops=0)
    with pytest.raises(ProcessEnded, match="prelu"):
        make(compact)
    assert numbers(directml) == {7}
    directml.forgive()


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.flip(-3),
        lambda values: values.to(torch.uint16),
        lambda values: values.to(torch.bfloat16),
        lambda values: torch.complex(values, values),
    ],
    ids=["flip", "uint16", "bfloat16", "complex"],
)
def test_8_quantised_in_another_way_ends_the_process(directml, plain, monkeypatch, change) -> None:
    quantise = tile_network.quantise
    pixels = picture(31, 42, dtype=np.uint16)
    upsampler = make(plain)
    upsampler.enhance(pixels)
    monkeypatch.setattr(tile_network, "quantise", lambda values, *others: quantise(change(values), *others))
    with pytest.raises(ProcessEnded):
        upsampler.enhance(pixels)
    assert numbers(directml) == {8}
    directml.forgive()


def test_9_inference_mode_is_refused(directml, plain) -> None:
    upsampler = make(plain)
    upsampler.enhance(PIXELS)
    with torch.inference_mode(), pytest.raises(RealESRGANError, match="inference tensor"):
        upsampler.enhance(PIXELS)
    assert numbers(directml) == {9}


def test_10_weights_are_not_loaded_straight_onto_it(directml, plain, monkeypatch) -> None:
    load = torch.load
    make(plain)
    assert directml.traps == []
    monkeypatch.setattr(torch, "load", lambda *a, **k: load(*a, **{**k, "map_location": "privateuseone:0"}))
    with pytest.raises(RealESRGANError):
        make(plain)
    assert numbers(directml) == {10}


@pytest.mark.parametrize(
    "take_out",
    [
        lambda patch: capabilities(patch, channels_last=True),
        lambda patch: patch.setattr(devices, "to_host", lambda device, tensor: devices.Arrival(tensor)),
    ],
    ids=["channels_last", "numpy"],
)
def test_11_what_it_refuses(directml, plain, monkeypatch, take_out: Callable[[pytest.MonkeyPatch], None]) -> None:
    make(plain).enhance(PIXELS)
    assert directml.traps == []
    take_out(monkeypatch)
    with pytest.raises(RuntimeError):
        make(plain).enhance(PIXELS)
    assert numbers(directml) == {11}


def test_11_pinned_memory_is_refused(directml, plain, monkeypatch) -> None:
    """Copies that overlap with work need pinned memory, which it does not know."""
    monkeypatch.setattr(BACKENDS["directml"], "to_host", BACKENDS["cuda"].to_host)
    with pytest.raises(RealESRGANError):
        make(plain).enhance(PIXELS)


@pytest.mark.parametrize(
    "change", [lambda values: values.to(torch.float64), lambda values: repr(values) and values], ids=["values", "print"]
)
def test_12_a_card_without_float64_refuses_it(directml_with, plain, monkeypatch, change) -> None:
    quantise = tile_network.quantise
    with directml_with(adapters=(Adapter(float64=False),)) as simulation:
        upsampler = make(plain)
        upsampler.enhance(PIXELS)
        assert "torch.float64" not in simulation.dtypes
        monkeypatch.setattr(tile_network, "quantise", lambda values, *others: quantise(change(values), *others))
        with pytest.raises(RealESRGANError, match="Float64"):
            upsampler.enhance(PIXELS)


def test_13_a_missing_operator_goes_to_the_cpu_and_back(directml, plain, monkeypatch) -> None:
    make(plain).enhance(PIXELS)
    assert not directml.fallbacks
    quantise = tile_network.quantise
    monkeypatch.setattr(tile_network, "quantise", lambda values, *others: quantise(torch.nan_to_num(values), *others))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        make(plain).enhance(PIXELS)
    assert directml.fallbacks["nan_to_num"] > 0
    assert len([w for w in said if "not currently supported" in str(w.message)]) == 1


# What is not numbered: finding it, memory, time.


def test_device_alone_promises_a_card_that_is_not_there(directml_with, plain) -> None:
    with directml_with(adapters=()) as simulation:
        assert make(plain, device="auto").describe()["device"] == "cpu"
        import torch_directml

        with pytest.raises(ProcessEnded):  # as the original's users do it
            torch.zeros(1).to(torch_directml.device())
        simulation.forgive()


def test_the_first_adapter_alone_would_be_the_slow_one(directml_with, plain) -> None:
    with directml_with(adapters=integrated_first()):
        import torch_directml

        assert make(plain, device="auto").describe()["device"] == "directml:1"
        assert torch_directml.default_device() == 0
        assert "Graphics" in torch_directml.device_name(0)


def test_privateuseone_is_directml(directml, plain) -> None:
    device = make(plain).device
    assert device.type == "privateuseone" and "dml" not in str(device)
    assert devices.resolve(device).spec == "directml:0"
    with pytest.raises(RuntimeError):
        torch.device("dml")


def test_a_nul_in_a_name_goes_nowhere(directml, plain) -> None:
    import torch_directml

    assert torch_directml.device_name(0).endswith("\0")
    assert "\0" not in str(make(plain).describe())


def test_without_pauses_the_watchdog_resets_the_card(directml_with, plain, monkeypatch) -> None:
    pixels = picture(120, 100)
    capabilities(monkeypatch, submission_flops=1000)
    with directml_with() as simulation:
        make(plain).enhance(pixels)
        largest = simulation.largest_submission
    with directml_with(watchdog_flops=2 * largest):
        make(plain).enhance(pixels)
    capabilities(monkeypatch, submission_flops=0, band_rows=10_000)
    with directml_with(watchdog_flops=2 * largest), pytest.raises(DeviceLostError):
        make(plain).enhance(pixels)


def test_without_bands_a_tile_takes_more_than_twice_the_memory(directml_with, plain, monkeypatch) -> None:
    pixels = picture(120, 100)
    peaks = []
    for rows in (16, 10_000):
        capabilities(monkeypatch, band_rows=rows, tall_bands=False)
        with directml_with(adapters=adapters(None), base_bytes=0) as simulation:
            make(plain).enhance(pixels)
            peaks.append(simulation.peak[0])
    assert peaks[1] > 2 * peaks[0]


@pytest.mark.parametrize("fault", ["nan", "black"])
def test_unchecked_a_tile_of_fp16_comes_out_broken(directml_with, like_directml, plain, monkeypatch, fault) -> None:
    expected = right(plain)
    with directml_with(half=fault, half_from=30) as simulation:  # the self-test takes 21 convolutions
        upsampler = make(plain, half=True)
        np.testing.assert_array_equal(upsampler.enhance(PIXELS)[0], expected)
        assert upsampler.last_run.redone > 0 and not upsampler.half
        assert simulation.half_convolutions > 30
    fine = torch.tensor([0.0, 1.0])
    monkeypatch.setattr(tile_network, "health", lambda values: fine.to(values.device))
    with directml_with(half=fault, half_from=30):
        result, _ = make(plain, half=True).enhance(PIXELS)
    assert np.abs(result.astype(int) - expected).max() > 100
    assert (result == (255 if fault == "nan" else 0)).mean() > 0.2
