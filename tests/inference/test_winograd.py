"""Convolutions by Winograd's F(4, 3) give what plain ones give, whatever the size and however they are cut."""

from __future__ import annotations

from typing import List

import pytest
import torch
from support.networks import rrdb
from torch import Tensor, nn
from torch.nn import functional as F

from realesrgan.archs import structure as structures
from realesrgan.devices import resolve
from realesrgan.inference import winograd
from realesrgan.inference.cpu_rrdb import PlanarStages, fast_kernels
from realesrgan.inference.network import TileNetwork
from realesrgan.inference.tiling import Box
from realesrgan.inference.winograd import Rows, Spectrum, Weights

CHANNELS = 4
pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")


def rows_of(picture: Tensor) -> Rows:
    """A 1 x channels x H x W picture in planes of :data:`CHANNELS`."""
    planes = picture.shape[1] // CHANNELS
    rows = Rows(planes, picture.shape[2], picture.shape[3], CHANNELS, picture)
    rows.inner.copy_(picture[0].unflatten(0, (planes, CHANNELS)).permute(0, 2, 3, 1))
    return rows


def convolved(conv: nn.Conv2d, picture: Tensor) -> Tensor:
    """A convolution through the module under test, its result as 1 x out x H x W."""
    rows = rows_of(picture)
    planes = rows.all.shape[0]
    spectrum = Spectrum(planes, rows)
    spectrum.put(rows, 0)
    result = Rows(1, picture.shape[2], picture.shape[3], conv.out_channels, picture)
    result.all.fill_(float("nan"))
    with torch.no_grad():
        for part, every in spectrum.convolved(conv, planes, Weights()):
            for number, row in enumerate(every):
                result.every(number, part).copy_(row[None])
    return result.inner.permute(0, 3, 1, 2)


def conv_of(planes: int, out: int) -> nn.Conv2d:
    torch.manual_seed(planes)
    return nn.Conv2d(planes * CHANNELS, out, 3, padding=1)


@pytest.mark.parametrize("pixels", [1, 12, 8192])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 4), (5, 1), (8, 7), (13, 6), (22, 3)])
@pytest.mark.parametrize(("planes", "out"), [(1, 4), (3, 4), (2, 8)])
def test_it_is_the_plain_convolution(monkeypatch, size, pixels, planes, out) -> None:
    monkeypatch.setattr(winograd, "_PIXELS", pixels)
    conv, picture = conv_of(planes, out), torch.randn(1, planes * CHANNELS, *size)
    with torch.no_grad():
        expected = F.conv2d(picture.double(), conv.weight.double(), conv.bias.double(), padding=1)
    torch.testing.assert_close(convolved(conv, picture).double(), expected, rtol=0, atol=1e-5)


def test_it_is_as_exact_as_the_plain_convolution() -> None:
    conv, picture = conv_of(8, 16), torch.rand(1, 8 * CHANNELS, 40, 40)
    with torch.no_grad():
        exact = F.conv2d(picture.double(), conv.weight.double(), conv.bias.double(), padding=1)
        plain = (conv(picture).double() - exact).square().mean().sqrt()
    ours = (convolved(conv, picture).double() - exact).square().mean().sqrt()
    assert ours < 4 * plain


def test_every_row_belongs_to_one_part(monkeypatch) -> None:
    for height in range(1, 40):
        for pixels in (1, 9, 30, 1000):
            monkeypatch.setattr(winograd, "_PIXELS", pixels)
            rows = Rows(1, height, 3, CHANNELS, torch.zeros(1))
            steps: List[int] = []
            for part in Spectrum(1, rows).parts:
                assert part.start < part.stop
                steps += range(part.start, part.stop)
            assert steps == list(range(-(-height // 4)))


def test_the_border_is_zero_again_after_mending() -> None:
    rows = rows_of(torch.ones(1, CHANNELS, 6, 3))
    rows.all[:, 1:].fill_(7)
    rows.mend()
    assert not rows.all[:, 0].any() and not rows.all[:, 7:].any()
    assert (rows.inner == 7).all()


def test_weights_are_computed_once_until_they_change() -> None:
    conv, weights = conv_of(2, 4), Weights()
    first = weights.of(conv, 2)
    assert weights.of(conv, 2) is first
    with torch.no_grad():
        conv.weight.add_(1)
    assert weights.of(conv, 2) is not first


@pytest.mark.skipif(not fast_kernels(), reason="this processor has no AVX2")
def test_the_memory_model_knows_what_weights_are_kept() -> None:
    module, cpu = rrdb(4, 2), resolve("cpu")
    stages = TileNetwork(module, cpu)._stages
    assert isinstance(stages, PlanarStages)
    list(stages.bands(torch.rand(1, 3, 8, 8), Box(0, 0, 8, 8), 4))
    kept = sum(one.numel() for _, folded in stages._weights._kept.values() for one in folded)
    in_blocks = sum(conv.weight.numel() for conv in module.body.modules() if isinstance(conv, nn.Conv2d))
    assert kept == 2 * in_blocks
    structure = structures.of(module, 4)
    held = 4 * (structure.weights + kept)
    assert held <= cpu.kind.weight_bytes(structure, half=False) <= 12 * structure.weights
