"""Our own kernels for CUDA cards: the order of weights and products, when they are taken, and, on a card, the results.

Without a card a convolution is computed from the packed weights by PyTorch, and the kernels run in Triton's
interpreter, in a process of their own.
"""

from __future__ import annotations

import copy
import gc
import logging
import os
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import pytest
import torch
from support.networks import CPU, rrdb, srvgg
from torch import nn
from torch.nn import functional as F

from realesrgan import devices
from realesrgan.archs import structure
from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from realesrgan.backends import BACKENDS
from realesrgan.errors import Phrase
from realesrgan.inference import cuda_conv, cuda_stages, network, tiling
from realesrgan.inference.cuda_conv import SHAPES, Convolution, Picture, Shape, enlarging, fits, shapes_of
from realesrgan.inference.network import TileNetwork
from realesrgan.inference.precision import Networks
from realesrgan.inference.stages import Band, RRDBStages, Runtime
from realesrgan.inference.tiling import Box
from realesrgan.tools.tune import kernels as kernel_search

on_a_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
NARROW = SHAPES["other"]["narrow"]


def made(scale: int = 4, blocks: int = 1) -> nn.Module:
    torch.manual_seed(3)
    module = RRDBNet(3, 3, scale, num_block=blocks).eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.1, 0.1)
        module.conv_last.weight.mul_(4)
        module.conv_last.bias.add_(0.4)
    return module


def made_sequence() -> nn.Module:
    torch.manual_seed(4)
    module = SRVGGNetCompact(num_conv=3).eval()
    with torch.no_grad():
        for layer in module.body:
            if isinstance(layer, nn.PReLU):
                layer.weight.uniform_(-0.2, 0.6)
    return module


def reference(
    conv: Convolution,
    source: Picture,
    out: Picture,
    *,
    plane: int = 0,
    follow: int = 0,
    channel: int = 0,
    out_plane: int = 0,
    out_channel: int = 0,
    add: Any = None,
    ratio: Any = None,
    entry: Any = None,
) -> None:
    """What a convolution's call is to do, by PyTorch, from the packed weights and their described order."""
    taps, block, steps, width = conv.taps, conv.shape.block, conv.steps, conv.width
    weight = conv.weight.float().view(-1, steps, taps, taps, block, width)  # phase, step, column, row, in, out
    weight = weight.permute(0, 5, 1, 4, 3, 2).reshape(weight.shape[0], width, steps * block, taps, taps)
    per_plane = source.tensor.shape[3] // block
    seen = []
    for step in range(steps):
        place = plane if step < per_plane else follow + step // per_plane - 1
        first = channel + step % per_plane * block
        seen.append(source.tensor[place, :, :, first : first + block])
    x = torch.cat(seen, 2).permute(2, 0, 1)[None].float()
    target = out.tensor[:, :, :, out_channel : out_channel + width]
    for phase, each in enumerate(weight):
        if taps == 3:
            value = F.conv2d(x, each, conv.bias, padding=1)
        else:
            row, column = divmod(phase, 2)
            value = F.conv2d(F.pad(x, (1 - column, column, 1 - row, row)), each, conv.bias)
        value = value[0].permute(1, 2, 0)
        if add is not None and ratio is None:
            value = value + target[add].float()
        value = torch.where(value >= 0, value, value * conv.slope)
        if ratio is not None:
            value = target[add].float() + ratio * value
            if entry is not None:
                value = target[entry].float() + ratio * value
        if taps == 3:
            target[out_plane] = value.half()
        else:
            target[0, row::2, column::2] = value.half()


@pytest.fixture
def by_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Convolution, "__call__", reference)


def taken_apart(module: nn.Module) -> cuda_stages.CudaRRDBStages:
    return cuda_stages.CudaRRDBStages(copy.deepcopy(module).half(), Runtime(CPU, structure.of(module, 1), half=True))


def result_of(stages: Any, x: torch.Tensor, keep: Box, scale: int) -> torch.Tensor:
    return torch.cat([band.values.float() for band in stages.bands(x, keep, scale)], 2)


@pytest.mark.parametrize(
    ("scale", "size", "keep"),
    [
        (4, (21, 34), Box(0, 0, 21, 34)),
        (4, (70, 18), Box(3, 2, 66, 17)),
        (2, (24, 38), Box(0, 0, 24, 38)),
        (1, (48, 36), Box(4, 8, 44, 32)),
    ],
)
def test_an_rrdbnet_in_planes_gives_what_the_module_gives(by_pytorch, scale, size, keep) -> None:
    module, x = made(scale, blocks=2), torch.rand(1, 3, *size)
    stages = taken_apart(module)
    rows, columns = keep.scaled(scale).slices
    with torch.no_grad():
        expected = module(x)[:, :, rows, columns]
    result = result_of(stages, x.half(), keep, scale)
    assert result.shape == expected.shape
    assert float(expected.std()) > 0.02, "a picture, so that a wrong one would differ"
    assert float((result - expected).abs().max()) < 2e-3


@pytest.mark.parametrize(
    ("size", "keep"), [((21, 34), Box(0, 0, 21, 34)), ((150, 18), Box(3, 2, 140, 17)), ((1, 1), Box(0, 0, 1, 1))]
)
def test_a_sequence_gives_what_the_module_gives(by_pytorch, monkeypatch, size, keep) -> None:
    def enlarged(self: Any, features: Any, x: Any, read: Box, scale: int) -> torch.Tensor:
        rows, columns = read.slices
        values = features[rows, columns, : 3 * scale**2].permute(2, 0, 1)[None].float()
        base = x[:, :, rows, columns].float()
        return F.pixel_shuffle(values, scale) + F.interpolate(base, scale_factor=scale, mode="nearest")

    monkeypatch.setattr(cuda_stages.CudaSequenceStages, "_enlarged", enlarged)
    module, x = made_sequence(), torch.rand(1, 3, *size)
    runtime = Runtime(CPU, structure.of(module, 1), half=True)
    stages = cuda_stages.CudaSequenceStages(copy.deepcopy(module).half(), runtime)
    rows, columns = keep.scaled(4).slices
    with torch.no_grad():
        expected = module(x)[:, :, rows, columns]
    result = result_of(stages, x.half(), keep, 4)
    assert result.shape == expected.shape
    assert float((result - expected).abs().max()) < 2e-3


def test_bands_do_not_overwrite_what_was_given_before(by_pytorch) -> None:
    stages = taken_apart(made())
    keep, x = Box(0, 0, 60, 20), torch.rand(1, 3, 60, 20).half()
    kept = [(band.values, band.values.clone()) for band in stages.bands(x, keep, 4)]
    assert len(kept) > 2
    assert all(torch.equal(now, then) for now, then in kept)


@pytest.mark.parametrize("how", ["load_state_dict", "data", "in place"])
def test_weights_that_change_later_count(by_pytorch, how) -> None:
    stages = taken_apart(made())
    keep, x = Box(0, 0, 12, 12), torch.rand(1, 3, 12, 12).half()
    before = result_of(stages, x, keep, 4)
    weight = stages.module.body[0].rdb2.conv3.weight
    with torch.no_grad():
        if how == "load_state_dict":
            stages.module.load_state_dict({name: 2 * value for name, value in stages.module.state_dict().items()})
        elif how == "data":
            weight.data = 3 * weight.data
        else:
            weight.mul_(3)
    assert not torch.equal(result_of(stages, x, keep, 4), before)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 7)])
def test_phases_are_the_doubling_and_its_convolution(by_pytorch, size) -> None:
    weight, bias, x = torch.randn(32, 64, 3, 3) / 24, torch.randn(32), torch.randn(1, *size, 64).half()
    out = Picture(torch.empty(1, 2 * size[0], 2 * size[1], 32).half())
    Convolution(enlarging(weight), bias, 0.2, NARROW, hopper=False)(Picture(x), out)
    larger = F.interpolate(x.float().permute(0, 3, 1, 2), scale_factor=2, mode="nearest")
    expected = F.leaky_relu(F.conv2d(larger, weight, bias, padding=1), 0.2).permute(0, 2, 3, 1)
    torch.testing.assert_close(out.tensor.float(), expected, rtol=2e-3, atol=2e-3)


def test_networks_of_other_sizes_are_left_to_pytorch() -> None:
    def suits(suiting: Any, module: nn.Module) -> bool:
        return suiting(module, Runtime(CPU, structure.of(module, 1)))

    assert suits(cuda_stages.suits_rrdb, made()) and not suits(cuda_stages.suits_sequence, made())
    assert not suits(cuda_stages.suits_rrdb, rrdb()), "eight features"
    assert not suits(cuda_stages.suits_rrdb, RRDBNet(3, 3, 2, num_block=1, unshuffle=1)), "one doubling"
    other = made()
    other.conv_hr = nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect")
    assert not suits(cuda_stages.suits_rrdb, other)
    assert suits(cuda_stages.suits_sequence, made_sequence()) and not suits(cuda_stages.suits_rrdb, made_sequence())
    assert not suits(cuda_stages.suits_sequence, srvgg()), "eight features"
    assert not suits(cuda_stages.suits_sequence, SRVGGNetCompact(num_conv=2, upscale=8)), (
        "more than 64 channels at the end"
    )


@pytest.mark.parametrize("cards", sorted(SHAPES))
def test_shapes_fit_the_kernels(cards) -> None:
    for role, shape in SHAPES[cards].items():
        assert fits(cards, role, shape)
        assert not fits(cards, role, shape._replace(stages=40)), "the shared memory of a card has an end"
    assert not fits("hopper", "wide", Shape(8, 32, 32, 3, 4)), "four rows of 64 pixels are what the kernel computes"
    assert not fits("hopper", "first", Shape(4, 64, 16, 3, 4)), "a row and a half would be left"


def test_tuned_shapes_are_used_where_they_fit() -> None:
    tuned = {"wide": (8, 8, 64, 2, 4), "narrow": (8, 16, 32, 99, 4), "unknown": (1, 1, 1, 1, 1)}
    shapes = shapes_of("other", tuned)
    assert shapes == {**SHAPES["other"], "wide": Shape(8, 8, 64, 2, 4)}
    net = TileNetwork(made(), CPU, half=True, shapes=tuned)
    assert net.runtime.shapes == tuned


@pytest.mark.parametrize("cards", sorted(SHAPES))
def test_the_search_takes_what_is_clearly_quicker(monkeypatch, cards) -> None:
    monkeypatch.setattr(kernel_search, "family", lambda device: cards)
    monkeypatch.setattr(kernel_search, "_problem", lambda device, family, role, shape: (role, shape))
    tried = []

    def timed(problem: Any, device: Any) -> float:
        role, shape = problem
        tried.append(problem)
        assert fits(cards, role, shape)
        if shape.stages == 2 and role == "last":
            raise RuntimeError("out of resources: shared memory")
        usual = SHAPES[cards][role]
        return 0.5 if role == "wide" and shape.stages == 2 else 1.0 if shape == usual else 0.99

    found = kernel_search.search(CPU, 60, timed)
    assert list(found) == ["wide"] and found["wide"][3] == 2
    assert len(set(tried)) == len(tried) > 10
    assert kernel_search.search(CPU, -1, timed) == {}, "no time, no search"


def test_memory_counts_the_planes() -> None:
    net = structure.of(made(blocks=2), 4)
    cuda = devices.Device("cuda", 0, "card", memory=8 * 2**30)
    for side in (532, 1024):
        plain = tiling.tile_bytes(net, side, side, half=True, device=cuda)
        own = tiling.tile_bytes(net, side, side, half=True, device=cuda, kernels=True)
        assert 6 * 2 * 64 * side**2 < own < plain
    assert tiling.device_tile(net, 32, half=True, device=cuda, kernels=True) == 512


# When they are taken


class Faulty(RRDBStages):
    """Stands for kernels that do not work on a card."""

    how = "raise"

    def bands(self, x: torch.Tensor, keep: Box, scale: int) -> Iterator[Band]:
        if self.how == "raise":
            raise ValueError("no such instruction")
        for band in super().bands(x, keep, scale):
            yield Band(band.row, band.values + (float("nan") if self.how == "nan" else 0.2))


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor as a device that has FP16 and on which our own kernels may be tried."""
    capabilities = replace(BACKENDS["cpu"].capabilities, half=True, kernels=True, planes=False)
    monkeypatch.setattr(BACKENDS["cpu"], "capabilities", capabilities)
    monkeypatch.setattr(cuda_conv, "refusal", lambda device: None)


def notices(caplog: pytest.LogCaptureFixture) -> List[Tuple[str, int]]:
    return [(r.notice_code, r.levelno) for r in caplog.records if hasattr(r, "notice_code")]


@pytest.mark.parametrize("how", ["raise", "nan", "off"])
def test_kernels_that_fail_the_check_are_left_and_it_is_said(card, monkeypatch, caplog, how) -> None:
    monkeypatch.setattr(Faulty, "how", how)
    monkeypatch.setattr(network, "_KERNELS", ((lambda module, runtime: True, Faulty),))
    networks = Networks(made(), CPU, 4)
    networks.choose(True)
    assert networks.half and not networks.own_kernels
    assert type(networks.current()._stages) is RRDBStages
    assert notices(caplog) == [("kernels.plain", logging.WARNING)]


def test_kernels_that_cannot_run_are_said_quietly(card, monkeypatch, caplog) -> None:
    caplog.set_level(logging.INFO)
    reason = Phrase("kernels.capability", "its compute capability is 7.5, 8.0 is needed", found="7.5")
    monkeypatch.setattr(cuda_conv, "refusal", lambda device: reason)
    networks = Networks(made(), CPU, 4)
    networks.choose(True)
    assert networks.half and not networks.own_kernels
    assert notices(caplog) == [("kernels.plain", logging.INFO)]


@pytest.mark.parametrize(("own", "taken"), [(0.5, "other"), (2.0, "")])
def test_where_nobody_measured_them_the_quicker_ones_are_taken(card, by_pytorch, monkeypatch, own, taken) -> None:
    monkeypatch.setattr(Networks, "_seconds", lambda self, network: own if network.own_kernels else 1.0)
    networks = Networks(made(), CPU, 4)
    networks.choose(True)
    assert networks.half
    assert networks.current().own_kernels == taken


def test_neither_fp32_nor_the_compiler_takes_them(card, monkeypatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # torch 2.4 has no such option
    for options in ({"half": False}, {"half": True, "kernels": False}, {"half": True, "compiled": True}):
        assert not TileNetwork(made(), CPU, **options).own_kernels


def test_what_refuses_a_device() -> None:
    refused = cuda_conv.refusal(torch.device("cpu"))
    assert refused is not None and refused.code == "kernels.no_cuda"
    assert network.TileNetwork(made(), CPU, half=False).refusal is None


# The kernels themselves

INTERPRETED = Path(__file__).parent.parent / "support" / "interpreted_kernels.py"


@pytest.mark.slow
def test_kernels_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    paths = os.pathsep.join(filter(None, [str(INTERPRETED.parents[2]), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, str(INTERPRETED)], capture_output=True, text=True, env=environment, timeout=600, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.split() == ["plain", "added", "residual", "doubled", "planes", "shuffled", "quantised"]


def card_device() -> devices.Device:
    return devices.resolve("cuda")


@pytest.fixture(params=["own", "other"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kernels of this card's family, and those by pointers, which run on every card."""
    if request.param == "other":
        for module in (cuda_conv, cuda_stages):
            monkeypatch.setattr(module, "family", lambda device: "other")
    return request.param


def compare(module: nn.Module, x: torch.Tensor, keep: Box, scale: int) -> None:
    half = TileNetwork(module, card_device(), half=True)
    assert half.own_kernels
    rows, columns = keep.scaled(scale).slices
    with torch.no_grad(), devices.full_precision(card_device()):
        expected = copy.deepcopy(module).cuda()(x.cuda())[:, :, rows, columns]
    result = result_of(half, x.half().cuda(), keep, scale)
    assert result.shape == expected.shape
    difference = (result - expected).abs()
    assert float(difference.max()) < 4e-3
    assert float((difference < 1 / 255).float().mean()) >= 0.999


@pytest.mark.gpu
@on_a_card
@pytest.mark.parametrize(
    ("scale", "size", "keep"),
    [
        (4, (1, 1), Box(0, 0, 1, 1)),
        (4, (5, 130), Box(0, 0, 5, 130)),
        (4, (131, 67), Box(10, 3, 120, 66)),
        (4, (300, 257), Box(0, 0, 300, 257)),
        (2, (98, 150), Box(6, 0, 98, 146)),
        (1, (96, 160), Box(0, 8, 92, 160)),
    ],
)
def test_rrdbnets_on_a_card(kernels, scale, size, keep) -> None:
    compare(made(scale, blocks=3), torch.rand(1, 3, *size), keep, scale)


@pytest.mark.gpu
@on_a_card
@pytest.mark.parametrize(
    ("size", "keep"), [((1, 1), Box(0, 0, 1, 1)), ((67, 131), Box(5, 6, 60, 131)), ((200, 90), Box(0, 0, 200, 90))]
)
def test_sequences_on_a_card(kernels, size, keep) -> None:
    compare(made_sequence(), torch.rand(1, 3, *size), keep, 4)


@pytest.mark.gpu
@on_a_card
def test_the_search_on_a_card(kernels, monkeypatch) -> None:
    cards = cuda_conv.family(torch.device("cuda", 0)) if kernels == "own" else "other"
    monkeypatch.setattr(kernel_search, "family", lambda device: cards)
    found = kernel_search.search(card_device(), 20, kernel_search.once)
    assert all(fits(cards, role, Shape(*shape)) for role, shape in found.items())
    x = torch.rand(1, 3, 40, 70).half().cuda()
    results = []
    for shapes in (found, {}):
        half = TileNetwork(made(), card_device(), half=True, shapes=shapes)
        results.append(result_of(half, x, Box(0, 0, 40, 70), 4))
    assert float((results[0] - results[1]).abs().max()) < 2e-3


@pytest.mark.gpu
@on_a_card
@pytest.mark.parametrize("pad", [10, 32])
def test_a_tile_takes_no_more_memory_than_without(pad) -> None:
    peaks = []
    for own in (True, False):
        half = TileNetwork(made(blocks=23), card_device(), half=True, kernels=own)
        side = 512 + 2 * pad
        x, keep = torch.rand(1, 3, side, side).half().cuda(), Box(pad, pad, side - pad, side - pad)
        for _ in range(2):
            torch.cuda.reset_peak_memory_stats()
            for _band in half.bands(x, keep, 4):
                pass
        peaks.append(torch.cuda.max_memory_allocated())
        del half
    assert peaks[0] <= peaks[1]


@pytest.mark.parametrize("module", [made(), made_sequence()], ids=["rrdb", "sequence"])
def test_a_network_is_freed_with_its_last_user(module) -> None:
    """Nothing in it points back at it: a card's memory is free again without the garbage collector."""
    for suits, stages in network._KERNELS:
        if suits(module, Runtime(CPU, structure.of(module, 1))):
            kept = stages(module, Runtime(CPU, structure.of(module, 1), half=True))
    dead = weakref.ref(kept)
    gc.disable()
    try:
        del kept
        assert dead() is None
    finally:
        gc.enable()
