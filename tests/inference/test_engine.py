"""A plane through tiles: every pixel right, whatever the tiles, and no failure without a word."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks import CPU, Failing, Nearest, rrdb, srvgg

from realesrgan.errors import DeviceLostError, DeviceOutOfMemoryError, TileError
from realesrgan.inference import arrays as image
from realesrgan.inference import engine
from realesrgan.inference.engine import Job
from realesrgan.inference.precision import Networks
from realesrgan.inference.tiling import Canvas


def picture(height: int, width: int, channels: int = 3, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    top = np.iinfo(dtype).max
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, top + 1, shape, dtype=dtype)


def upscale(module, pixels, *, tile=0, pad=0, pre_pad=0, multiple=1, scale=4, progress=None, fixed=False):
    decoded = image.decode(pixels)
    out = image.allocate(decoded.height * scale, decoded.width * scale, 1 if decoded.mode == "L" else 3, decoded.depth)
    canvas = Canvas(decoded.height, decoded.width, pre_pad, multiple)
    networks = Networks(module, CPU, scale)
    outcome = engine.run(networks, Job(decoded.color, canvas, scale, tile, pad, fixed), out, progress)
    return out, outcome


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 50), st.integers(0, 12), st.integers(0, 7), st.booleans())
def test_an_identity_network_gives_each_pixel_back(height, width, tile, pad, pre_pad, fixed) -> None:
    pixels = picture(height, width)
    out, _ = upscale(Nearest(), pixels, tile=tile, pad=pad, pre_pad=pre_pad, multiple=2, fixed=fixed)
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
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: not enough memory: you tried to "
                 "allocate 44302336000 bytes."),
    MemoryError(),
]  # fmt: skip


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
