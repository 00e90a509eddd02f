"""An RRDBNet on the processor, in planes and by Winograd's F(4, 3), gives what the plain order of operations gives."""

from __future__ import annotations

from dataclasses import replace
from typing import List

import pytest
import torch
from support.networks import CPU, rrdb
from torch import Tensor, nn
from torch.nn import functional as F

from realesrgan.archs import structure as structures
from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.backends import BACKENDS
from realesrgan.devices import resolve
from realesrgan.inference import cpu_rrdb
from realesrgan.inference.cpu_rrdb import PlanarStages, Rows, Spectrum
from realesrgan.inference.network import TileNetwork
from realesrgan.inference.stages import Derived, RRDBStages
from realesrgan.inference.tiling import Box

CHANNELS = 4
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
needs_fast_kernels = pytest.mark.skipif(not cpu_rrdb.fast_kernels(), reason="this processor has no AVX2")


def result_of(network: TileNetwork, x: torch.Tensor, scale: int) -> torch.Tensor:
    keep = Box(0, 0, x.shape[2], x.shape[3])
    return torch.cat([band.values for band in network.bands(x, keep, scale)], 2)


def plain(monkeypatch: pytest.MonkeyPatch, module: nn.Module) -> TileNetwork:
    with monkeypatch.context() as patch:
        patch.setattr(BACKENDS["cpu"], "capabilities", replace(BACKENDS["cpu"].capabilities, planes=False))
        return TileNetwork(module, CPU)


@needs_fast_kernels
@pytest.mark.parametrize(("scale", "blocks"), [(4, 1), (4, 3), (2, 2), (1, 2)])
def test_planes_give_what_the_module_gives(scale, blocks) -> None:
    module, x = rrdb(scale, blocks), torch.rand(1, 3, 36, 28)
    network = TileNetwork(module, CPU)
    assert type(network._stages) is PlanarStages
    with torch.no_grad():
        torch.testing.assert_close(result_of(network, x, scale), module(x), rtol=0, atol=2e-6)


@needs_fast_kernels
def test_a_tile_leaves_nothing_behind_for_the_next() -> None:
    network = TileNetwork(rrdb(4, 2), CPU)
    first, second = torch.rand(1, 3, 24, 20), torch.rand(1, 3, 17, 31)
    alone = result_of(network, first, 4)
    result_of(network, second, 4)
    assert torch.equal(result_of(network, first, 4), alone)


@needs_fast_kernels
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 7), (9, 4)])
def test_enlarging_and_convolving_in_one(size) -> None:
    stages = TileNetwork(rrdb(), CPU)._stages
    assert isinstance(stages, PlanarStages)
    x = torch.rand(1, 8, *size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        both = stages._enlarged(stages.module.conv_up1, x)
        torch.testing.assert_close(both, RRDBStages._enlarged(stages, stages.module.conv_up1, x), rtol=0, atol=1e-6)


@needs_fast_kernels
@pytest.mark.parametrize("how", ["load_state_dict", "data", "in place"])
def test_weights_that_change_later_count(how) -> None:
    module, x = rrdb(), torch.rand(1, 3, 12, 12)
    network = TileNetwork(module, CPU)
    before = result_of(network, x, 4)
    if how == "load_state_dict":
        module.load_state_dict({name: value * 1.5 for name, value in module.state_dict().items()})
    for conv in [part for part in module.modules() if isinstance(part, nn.Conv2d)]:
        if how == "data":
            conv.weight.data = conv.weight.data * 1.5
        elif how == "in place":
            with torch.no_grad():
                conv.weight.mul_(1.5)
    after = result_of(network, x, 4)
    assert not torch.allclose(before, after)
    with torch.no_grad():
        torch.testing.assert_close(after, module(x), rtol=0, atol=2e-5)


class Doubling(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize("kind", ["class", "1x1", "circular"])
def test_another_kind_of_convolution_is_asked_itself(kind) -> None:
    module, x = rrdb(), torch.rand(1, 3, 12, 12)
    module.body[0].rdb2.conv3 = {
        "class": Doubling(16, 4, 3, padding=1),
        "1x1": nn.Conv2d(16, 4, 1),
        "circular": nn.Conv2d(16, 4, 3, padding=1, padding_mode="circular"),
    }[kind]
    network = TileNetwork(module, CPU)
    # Of other shapes it is no RRDBNet: it runs in one piece.
    assert type(network._stages) is (type(None) if kind == "1x1" else RRDBStages)
    with torch.no_grad():
        torch.testing.assert_close(result_of(network, x, 4), module(x), rtol=0, atol=2e-6)


@pytest.mark.parametrize("lacking", ["AVX2", "oneDNN"])
def test_where_the_kernels_are_missing_the_plain_order_stays(monkeypatch, lacking) -> None:
    if lacking == "AVX2":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    else:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert type(TileNetwork(rrdb(), CPU)._stages) is RRDBStages


@pytest.mark.parametrize(("blocks", "growth"), [(1, 3), (0, 4)])
def test_channels_that_fall_into_no_planes(blocks, growth) -> None:
    module = RRDBNet(3, 3, 4, num_feat=8, num_block=blocks, num_grow_ch=growth).eval()
    x = torch.rand(1, 3, 12, 12)
    network = TileNetwork(module, CPU)
    assert type(network._stages) is RRDBStages
    with torch.no_grad():
        torch.testing.assert_close(result_of(network, x, 4), module(x), rtol=0, atol=2e-6)


@needs_fast_kernels
def test_both_orders_differ_by_rounding_alone(monkeypatch) -> None:
    module, x = rrdb(4, 3), torch.rand(1, 3, 30, 22)
    planar, other = TileNetwork(module, CPU), plain(monkeypatch, module)
    assert type(planar._stages) is not type(other._stages)
    torch.testing.assert_close(result_of(planar, x, 4), result_of(other, x, 4), rtol=0, atol=2e-6)


# The convolutions by themselves


def rows_of(picture: Tensor) -> Rows:
    """A 1 x channels x H x W picture in planes of :data:`CHANNELS`."""
    planes = picture.shape[1] // CHANNELS
    rows = Rows(planes, picture.shape[2], picture.shape[3], CHANNELS, picture)
    rows.inner.copy_(picture[0].unflatten(0, (planes, CHANNELS)).permute(0, 2, 3, 1))
    return rows


def in_planes(conv: nn.Conv2d) -> List[Tensor]:
    return cpu_rrdb.folded(conv, CHANNELS)


def convolved(conv: nn.Conv2d, picture: Tensor) -> Tensor:
    """A convolution through the module under test, its result as 1 x out x H x W."""
    rows = rows_of(picture)
    planes = rows.all.shape[0]
    spectrum = Spectrum(planes, rows)
    spectrum.put(rows, 0)
    result = Rows(1, picture.shape[2], picture.shape[3], conv.out_channels, picture)
    result.all.fill_(float("nan"))
    with torch.no_grad():
        for part, every in spectrum.convolved(conv, planes, Derived(in_planes)):
            for number, row in enumerate(every):
                result.every(number, part).copy_(row[None])
    return result.inner.permute(0, 3, 1, 2)


def conv_of(planes: int, out: int) -> nn.Conv2d:
    torch.manual_seed(planes)
    return nn.Conv2d(planes * CHANNELS, out, 3, padding=1)


@needs_onednn
@pytest.mark.parametrize("pixels", [1, 12, 8192])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 4), (5, 1), (8, 7), (13, 6), (22, 3)])
@pytest.mark.parametrize(("planes", "out"), [(1, 4), (3, 4), (2, 8)])
def test_it_is_the_plain_convolution(monkeypatch, size, pixels, planes, out) -> None:
    monkeypatch.setattr(cpu_rrdb, "_PIXELS", pixels)
    conv, picture = conv_of(planes, out), torch.randn(1, planes * CHANNELS, *size)
    with torch.no_grad():
        expected = F.conv2d(picture.double(), conv.weight.double(), conv.bias.double(), padding=1)
    torch.testing.assert_close(convolved(conv, picture).double(), expected, rtol=0, atol=1e-5)


@needs_onednn
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
            monkeypatch.setattr(cpu_rrdb, "_PIXELS", pixels)
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
    conv, weights = conv_of(2, 4), Derived(in_planes)
    first = weights.of(conv)
    assert weights.of(conv) is first
    with torch.no_grad():
        conv.weight.add_(1)
    assert weights.of(conv) is not first


@needs_fast_kernels
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
