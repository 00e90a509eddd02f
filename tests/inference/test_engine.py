"""A plane through tiles: every pixel right, whatever the tiles, and no failure or slow card without a word."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks import CPU, Failing, Nearest, rrdb, seeded, srvgg

from realesrgan import RealESRGANer, devices
from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.errors import DeviceLostError, DeviceOutOfMemoryError, TileError
from realesrgan.inference import arrays as image
from realesrgan.inference import engine
from realesrgan.inference.engine import Job, Pace
from realesrgan.inference.precision import Networks
from realesrgan.inference.tiling import Canvas


def picture(height: int, width: int, channels: int = 3, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    top = np.iinfo(dtype).max
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, top + 1, shape, dtype=dtype)


def upscale(module, pixels, *, tile=0, pad=0, pre_pad=0, multiple=1, scale=4, progress=None):
    decoded = image.decode(pixels)
    out = image.allocate(decoded.height * scale, decoded.width * scale, 1 if decoded.mode == "L" else 3, decoded.depth)
    canvas = Canvas(decoded.height, decoded.width, pre_pad, multiple)
    networks = Networks(module, CPU, scale)
    outcome = engine.run(networks, Job(decoded.color, canvas, scale, tile, pad), out, progress)
    return out, outcome


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 50), st.integers(0, 12), st.integers(0, 7))
def test_an_identity_network_gives_each_pixel_back(height, width, tile, pad, pre_pad) -> None:
    pixels = picture(height, width)
    out, _ = upscale(Nearest(), pixels, tile=tile, pad=pad, pre_pad=pre_pad, multiple=2)
    np.testing.assert_array_equal(out, pixels.repeat(4, 0).repeat(4, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_value_survives(dtype) -> None:
    pixels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(-1, 16)
    color = np.stack((pixels, pixels[::-1], pixels[:, ::-1]), 2)
    out, _ = upscale(Nearest(1), color, scale=1)
    np.testing.assert_array_equal(out, color)


def test_grey_is_the_luma_of_three_equal_channels() -> None:
    pixels = picture(9, 8, 1)
    out, _ = upscale(Nearest(), pixels, tile=5)
    np.testing.assert_array_equal(out, pixels.repeat(4, 0).repeat(4, 1))


class Tint(Nearest):
    """Red as it is, green doubled, blue gone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x * torch.tensor([1.0, 2.0, 0.0]).view(1, 3, 1, 1))


def test_luma_is_taken_in_float_from_clamped_channels() -> None:
    pixels = picture(16, 16, 1)
    out, _ = upscale(Tint(1), pixels, scale=1)
    unit = pixels.astype(np.float64) / 255
    expected = 0.299 * unit + 0.587 * np.minimum(2 * unit, 1)
    assert np.abs(out - expected * 255).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("build", [lambda: rrdb(4), lambda: rrdb(2), lambda: rrdb(1), srvgg])
@pytest.mark.parametrize("tile", [7, 16, 33])
def test_tiled_equals_untiled_where_the_padding_covers_the_context(build, tile) -> None:
    module = build()
    scale = {12: 2, 48: 1}.get(getattr(getattr(module, "conv_first", None), "in_channels", 3), 4)
    pixels = picture(37, 50)
    whole, _ = upscale(module, pixels, scale=scale, multiple=module.multiple)
    tiled, outcome = upscale(module, pixels, tile=tile, pad=module.context, scale=scale, multiple=module.multiple)
    assert outcome.tiles > 1
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    assert (whole == tiled).mean() > 0.999


def test_too_little_padding_shows() -> None:
    module = srvgg(8)
    pixels = picture(40, 40)
    whole, _ = upscale(module, pixels)
    tiled, _ = upscale(module, pixels, tile=20, pad=0)
    assert (whole != tiled).any()


def test_progress_counts_up_to_the_end() -> None:
    seen = []
    upscale(Nearest(), picture(20, 20), tile=8, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, 10))
    assert seen[-1] == (9, 9)


MEMORY = [
    RuntimeError("Could not allocate tensor with 123456 bytes. There is not enough GPU video memory available!"),
    RuntimeError("Unknown error -2147024882"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    if hasattr(torch, "OutOfMemoryError")
    else torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.07 GB)"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: not enough memory: you tried to "
        "allocate 44302336000 bytes."
    ),
    MemoryError(),
]


@pytest.mark.parametrize("error", MEMORY, ids=[type(error).__name__ + str(index) for index, error in enumerate(MEMORY)])
def test_out_of_memory_makes_tiles_smaller_from_there_on(error, caplog) -> None:
    module = Failing(error, limit=50)
    pixels = picture(100, 150)
    with caplog.at_level(logging.WARNING):
        out, outcome = upscale(module, pixels, tile=80)
    np.testing.assert_array_equal(out, pixels.repeat(4, 0).repeat(4, 1))
    assert (outcome.splits, outcome.limit) == (1, 40)
    assert [record.notice_code for record in caplog.records] == ["tile.smaller"]
    assert sum(size > 50 for size in module.seen) == 1  # learnt once, not tile by tile


def test_the_floor_is_an_error_that_lists_the_sizes() -> None:
    with pytest.raises(DeviceOutOfMemoryError) as caught:
        upscale(Failing(MEMORY[0], limit=0), picture(200, 200), tile=128)
    assert caught.value.fields["tried"] == (128, 64, 32)
    assert "128, 64, 32" in str(caught.value)


LOST = [
    "Unknown error -2005270522",
    "Unknown error -2005270523",
    "Unknown error -2147467259",
    "The GPU device instance has been suspended. Use GetDeviceRemovedReason to determine the appropriate action.",
    "DXGI_ERROR_DEVICE_REMOVED 887A0005",
    "HRESULT 887A0006",
]


@pytest.mark.parametrize("text", LOST)
def test_a_lost_device_says_what_to_do(text) -> None:
    with pytest.raises(DeviceLostError, match="--device cpu"):
        upscale(Failing(RuntimeError(text), limit=0), picture(9, 9))


def test_any_other_error_names_the_tile_and_its_cause() -> None:
    cause = RuntimeError("a shape does not match")
    with pytest.raises(TileError, match=r"x 16, y 0.*a shape does not match") as caught:
        upscale(FailsAt(cause, 1), picture(16, 40), tile=16)
    assert caught.value.__cause__ is cause


class FailsAt(Nearest):
    def __init__(self, error: Exception, call: int) -> None:
        super().__init__()
        self.error = error
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.call -= 1
        if self.call < 0:
            raise self.error
        return super().forward(x)


class NaNs(Nearest):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * float("nan")


def test_nan_in_fp32_is_an_error_and_never_a_picture() -> None:
    with pytest.raises(TileError, match="NaN"):
        upscale(NaNs(), picture(8, 8))


# A card that becomes slow without an error


EQUAL = (64, 64, False)


def test_two_slow_tiles_in_a_row_count_and_one_does_not():
    pace = Pace()
    assert not any(pace.dropped(EQUAL, seconds) for seconds in (1.0, 0.9, 2.6, 2.6, 3.5, 1.0, 3.5))
    assert pace.dropped(EQUAL, 3.5)


def test_tiles_of_other_shapes_and_precisions_are_not_compared():
    pace = Pace()
    assert not pace.dropped(EQUAL, 0.1)
    for shape in ((64, 32, False), (64, 64, True)):
        assert not pace.dropped(shape, 9.0)
        assert not pace.dropped(shape, 9.0)


def test_times_too_short_to_tell_do_not_count():
    pace = Pace()
    assert not any(pace.dropped(EQUAL, seconds) for seconds in (0.001, 0.04, 0.04, 0.04))


@pytest.mark.parametrize(
    ("backend", "platform", "spills"),
    [("directml", "linux", True), ("cuda", "win32", True), ("cuda", "linux", False), ("cpu", "win32", False)],
)
def test_which_devices_spill(backend, platform, spills, monkeypatch):
    monkeypatch.setattr("sys.platform", platform)
    assert devices.Device(backend, 0, "x").spills is spills


def test_on_a_card_that_spills_the_tile_shrinks_once_and_the_result_is_right(directml_with, caplog, monkeypatch):
    """Another program takes the card's memory in the middle of a picture. Time is the simulation's own."""
    from directml_standin import Adapter

    module = seeded(lambda: RRDBNet(3, 3, 4, num_feat=8, num_block=1, num_grow_ch=4))
    picture = np.random.default_rng(5).integers(0, 256, (96, 144, 3), dtype=np.uint8)
    card = [Adapter("Radeon RX 580 Series", 200 * 2**20)]

    def enhance():
        made = RealESRGANer(4, None, model=module, tile=48, tile_pad=4, pre_pad=0, half=False, device="directml")
        return made, made.enhance(picture)[0]

    with directml_with(adapters=card) as simulation:
        plain, expected = enhance()
        first, last = simulation.operation_number // 2, simulation.operation_number
    assert plain.last_run.tiles == 6 and last > first > 0
    spilling = {"spill": True, "elsewhere": 199 * 2**20, "elsewhere_from": first}
    with directml_with(adapters=card, **spilling) as simulation, caplog.at_level(logging.WARNING):
        # As if the network were a larger one, whose tiles take seconds.
        clock = SimpleNamespace(perf_counter=lambda: simulation.simulated_seconds * 1e6)
        monkeypatch.setattr(engine, "time", clock)
        made, result = enhance()
        assert simulation.spills > 0
    assert np.abs(result.astype(int) - expected).max() <= 1
    said = [record for record in caplog.records if getattr(record, "notice_code", "") == "tile.slow"]
    assert len(said) == 1 and said[0].notice_fields["smaller"] == 32
    assert made.last_run.tiles > 6
