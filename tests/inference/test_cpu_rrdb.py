"""On the processor an RRDBNet's channels lie in planes; what comes out is what the plain order of operations gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.networks import CPU, rrdb
from torch import nn

from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.backends import BACKENDS
from realesrgan.inference import cpu_rrdb as planes
from realesrgan.inference.cpu_rrdb import PlanarStages
from realesrgan.inference.network import TileNetwork
from realesrgan.inference.stages import RRDBStages
from realesrgan.inference.tiling import Box

needs_fast_kernels = pytest.mark.skipif(not planes.fast_kernels(), reason="this processor has no AVX2")


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
