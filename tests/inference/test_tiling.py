"""Tiles cover a picture once, see what they should, and split into tiles that do the same; how large they may be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks import CPU, rrdb, srvgg
from torch.utils.flop_counter import FlopCounterMode

from realesrgan import devices
from realesrgan.archs import structure as structures
from realesrgan.archs.structure import Structure
from realesrgan.backends import BACKENDS
from realesrgan.devices import Device
from realesrgan.errors import InputError
from realesrgan.inference import tiling
from realesrgan.inference.tiling import Box, Canvas, budget, choose_tile, device_tile, plan, split, tile_bytes
from realesrgan.weights import zoo

GB = 2**30
sizes = st.integers(1, 70)


def coverage(canvas: Canvas, tiles: list) -> np.ndarray:
    count = np.zeros((canvas.height, canvas.width), int)
    for tile in tiles:
        count[tile.write.slices] += 1
    return count


@settings(deadline=None)
@given(
    sizes,
    sizes,
    st.integers(0, 12),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(0, 80),
    st.integers(0, 40),
)
def test_tiles_write_every_pixel_once_and_read_around_it(height, width, pre_pad, multiple, size, pad) -> None:
    canvas = Canvas(height, width, pre_pad, multiple)
    tiles = plan(canvas, size, pad)
    assert (coverage(canvas, tiles) == 1).all()
    for tile in tiles:
        read, write = tile.read, tile.write
        assert read.height % multiple == read.width % multiple == 0
        assert read.y0 % multiple == read.x0 % multiple == 0
        assert read.y0 >= 0
        assert read.x0 >= 0
        assert read.y1 <= canvas.padded_height
        assert read.x1 <= canvas.padded_width
        # At least the padding, unless the canvas ends.
        assert read.y0 <= max(write.y0 - pad, 0)
        assert read.x0 <= max(write.x0 - pad, 0)
        assert read.y1 >= min(write.y1 + pad, canvas.padded_height)
        assert read.x1 >= min(write.x1 + pad, canvas.padded_width)
        assert read.height <= write.height + 2 * pad + 2 * multiple + pre_pad


@settings(deadline=None)
@given(sizes, sizes, st.integers(1, 80), st.integers(1, 40))
def test_a_split_tile_writes_the_same_pixels(height, width, size, limit) -> None:
    canvas = Canvas(height, width)
    for tile in plan(canvas, size, 5):
        children = split(canvas, tile, limit, 5)
        count = coverage(canvas, children)
        assert (count[tile.write.slices] == 1).all()
        assert count.sum() == tile.write.height * tile.write.width
        assert all(child.side <= limit for child in children)


def test_untiled_is_one_tile_of_the_whole_canvas() -> None:
    canvas = Canvas(5, 7, 3, 4)
    (tile,) = plan(canvas, 0, 10)
    assert tile.write == Box(0, 0, 5, 7)
    assert tile.read == Box(0, 0, 8, 12)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(0, 15), st.sampled_from([1, 2, 4]))
def test_reflections_are_numpys(size, pre_pad, multiple) -> None:
    canvas = Canvas(size, 1, pre_pad, multiple)
    once = np.pad(np.arange(size), (0, pre_pad), mode="reflect")
    twice = np.pad(once, (0, canvas.padded_height - size - pre_pad), mode="reflect")
    assert canvas.rows(Box(0, 0, canvas.padded_height, 1)) == twice.tolist()


@pytest.mark.parametrize(
    "call", [lambda: plan(Canvas(4, 4), -1, 0), lambda: plan(Canvas(4, 4), 4, -1), lambda: Canvas(0, 4)]
)
def test_impossible_geometry_is_refused(call) -> None:
    with pytest.raises(InputError):
        call()


# How large they may be


def official(name: str) -> Structure:
    spec = zoo.get(name)
    with torch.device("meta"):
        module = zoo.construct(spec)
    return structures.of(module, spec.scale)


X4PLUS = official("RealESRGAN_x4plus")
X2PLUS = official("RealESRGAN_x2plus")
ANIME = official("realesr-animevideov3")
GENERAL = official("realesr-general-x4v3")


def card(gigabytes: float, name: str = "Some card", backend: str = "directml") -> Device:
    return Device(backend, 0, name, int(gigabytes * GB))


@pytest.mark.parametrize("name", [name for name in zoo.MODELS if zoo.MODELS[name].listed])
def test_the_work_is_what_torch_counts(name) -> None:
    spec = zoo.get(name)
    with torch.device("meta"):
        module, x = zoo.construct(spec), torch.empty(1, 3, 72, 128)
    with FlopCounterMode(display=False) as counter:
        module(x)
    assert official(name).flops(72, 128) == counter.get_total_flops()


def test_the_work_for_1080p_in_teraflops() -> None:
    work = [structure.flops(1080, 1920) / 1e12 for structure in (X4PLUS, X2PLUS, GENERAL, ANIME)]
    assert work == pytest.approx([75, 19, 5.0, 2.6], rel=0.03)


@pytest.mark.parametrize(("name", "context"), [("realesr-animevideov3", 18), ("realesr-general-x4v3", 34)])
def test_short_networks_are_padded_exactly(name, context) -> None:
    assert official(name).default_pad == context == zoo.get(name).network.context
    assert X4PLUS.default_pad == X2PLUS.default_pad == 32


def test_a_structure_is_read_from_any_rrdbnet() -> None:
    assert structures.of(rrdb(2), 2).unshuffle == 2
    assert structures.of(rrdb(1), 1).unshuffle == 4
    assert structures.of(srvgg(), 4).family == "srvgg"
    assert structures.of(rrdb(4), 4).context == rrdb(4).context


# Peak of PyTorch 2.11's allocator on an H100 in bands of 64 rows, MB of 2**20, weights included (docs/performance.md).
MEASURED = {
    (128, True): 69,
    (256, True): 117,
    (512, True): 327,
    (576, True): 407,
    (1024, True): 1205,
    (128, False): 139,
    (256, False): 233,
    (512, False): 652,
    (576, False): 811,
    (1024, False): 2407,
}


@pytest.mark.parametrize(("side", "half"), MEASURED)
def test_the_figure_is_within_15_percent_of_what_was_measured_on_cuda(side, half) -> None:
    figure = tile_bytes(X4PLUS, side, side, half=half, device=card(80, backend="cuda"))
    assert figure / 2**20 == pytest.approx(MEASURED[side, half], rel=0.15)


# The measured rule for DirectML with weights of one block, MB of 10**6.
@pytest.mark.parametrize(("side", "half", "megabytes"), [(256, False, 645), (128, True, 111), (256, True, 258)])
def test_the_figure_on_directml_follows_its_rule(side, half, megabytes) -> None:
    weights = BACKENDS["directml"].weight_bytes(X4PLUS, half)
    figure = tile_bytes(X4PLUS, side, side, half=half, device=card(8)) - weights
    assert figure / 1e6 == pytest.approx(megabytes, rel=0.15)


@pytest.mark.parametrize("name", ["Radeon RX 580 Series", "RX 580 2048SP", "AMD Radeon RX 580", "Radeon RX 570 Series"])
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("total", [None, 8 * GB])
def test_the_rx_580_gets_512(name, half, total) -> None:
    device = Device("directml", 0, name, total)
    assert device_tile(X4PLUS, 32, half=half, device=device) == 512
    assert device_tile(ANIME, 18, half=half, device=device) == 512


def test_smaller_cards_get_smaller_tiles() -> None:
    tiles = [device_tile(X4PLUS, 32, half=False, device=card(size)) for size in (2, 4, 6, 8)]
    assert tiles == [96, 256, 384, 512]
    halves = [device_tile(X4PLUS, 32, half=True, device=card(size)) for size in (2, 4, 6, 8)]
    assert halves == [256, 512, 512, 512]
    assert device_tile(X4PLUS, 32, half=False, device=card(4, "Radeon RX 570 Series")) == 256


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8, 16])
@pytest.mark.parametrize("structure", [X4PLUS, X2PLUS, ANIME, GENERAL], ids=["x4plus", "x2plus", "anime", "general"])
@pytest.mark.parametrize("half", [True, False])
def test_the_chosen_tile_fits_with_room_to_spare(size, structure, half) -> None:
    device = card(size)
    pad = structure.default_pad
    side = device_tile(structure, pad, half=half, device=device)
    figure = tile_bytes(structure, side + 2 * pad, side + 2 * pad, half=half, device=device)
    assert side == 32 or tiling.SAFETY * figure <= budget(device)


def test_windows_keeps_a_part_for_itself() -> None:
    assert budget(card(8)) == 8 * GB - int(8 * GB / 5)
    assert budget(card(4)) == 4 * GB - int(1.5e9)


def test_an_integrated_adapter_shares_the_main_memory() -> None:
    tiny = Device("directml", 0, "AMD Radeon(TM) Graphics", 512 * 2**20, integrated=True)
    assert device_tile(X4PLUS, 32, half=False, device=tiny) == 96


def test_unknown_memory_is_assumed_once_and_said(caplog) -> None:
    with caplog.at_level("INFO"):
        for _ in range(3):
            device_tile(X4PLUS, 32, half=False, device=Device("directml", 0, "Mystery"))
    assert [record.notice_code for record in caplog.records] == ["memory.assumed"]


def test_a_picture_that_fits_is_not_cut() -> None:
    big = card(80, backend="cuda")
    assert choose_tile(X4PLUS, 1080, 1920, 32, half=True, device=big, free=60 * GB) == 0
    assert choose_tile(X4PLUS, 1080, 1920, 32, half=True, device=big, free=2 * GB) == 512
    assert choose_tile(X4PLUS, 512, 512, 32, half=False, device=card(8)) == 0
    assert choose_tile(X4PLUS, 513, 512, 32, half=False, device=card(8)) == 512
    side = device_tile(X4PLUS, 32, half=False, device=CPU)
    assert choose_tile(X4PLUS, side, side, 32, half=False, device=CPU) == 0
    assert choose_tile(X4PLUS, 4000, 4000, 32, half=False, device=CPU) == side


def test_every_tile_of_the_ladder_keeps_the_grid() -> None:
    assert all(side % 32 == 0 for side in tiling.LADDER)
    assert devices.Capabilities().band_rows > 0
