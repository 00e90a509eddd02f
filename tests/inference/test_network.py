"""Bands of the last stage are exact, whatever their height and whoever built the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.networks import CPU, rrdb, srvgg
from torch import Tensor, nn
from torch.nn import functional as F

from realesrgan.archs.structure import enlargement
from realesrgan.inference.network import TileNetwork
from realesrgan.inference.tiling import Box


def assembled(network: TileNetwork, x: Tensor, keep: Box, scale: int) -> Tensor:
    bands = list(network.bands(x, keep, scale))
    assert [band.row for band in bands] == [sum(b.values.shape[2] for b in bands[:i]) for i in range(len(bands))]
    return torch.cat([band.values for band in bands], 2)


@pytest.mark.parametrize("scale", [4, 2, 1])
@pytest.mark.parametrize("rows", [1, 3, 5, 16, 100])
def test_bands_equal_the_whole(scale, rows) -> None:
    module = rrdb(scale)
    x = torch.rand(1, 3, 28, 20)
    with torch.no_grad():
        whole = module(x)
    network = TileNetwork(module, CPU, band_rows=rows)
    result = assembled(network, x, Box(0, 0, 28, 20), scale)
    torch.testing.assert_close(result, whole, rtol=0, atol=2e-6)


@pytest.mark.parametrize("scale", [4, 2, 1])
@pytest.mark.parametrize("keep", [Box(4, 4, 24, 16), Box(3, 5, 17, 18), Box(0, 7, 28, 8), Box(27, 19, 28, 20)])
def test_only_what_is_kept_is_computed_and_it_is_the_same(scale, keep) -> None:
    module = rrdb(scale)
    x = torch.rand(1, 3, 28, 20)
    with torch.no_grad():
        whole = module(x)
    rows, columns = keep.scaled(scale).slices
    result = assembled(TileNetwork(module, CPU, band_rows=3), x, keep, scale)
    torch.testing.assert_close(result, whole[:, :, rows, columns], rtol=0, atol=2e-6)


def test_a_margin_of_one_row_would_be_wrong(monkeypatch) -> None:
    module = rrdb(4)
    x = torch.rand(1, 3, 28, 20)
    with torch.no_grad():
        whole = module(x)
    monkeypatch.setattr("realesrgan.inference.stages.HALO", 1)
    result = assembled(TileNetwork(module, CPU, band_rows=5), x, Box(0, 0, 28, 20), 4)
    assert (result - whole).abs().max() > 2e-6


class ForeignDense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for index in range(5):
            self.add_module(f"conv{index + 1}", nn.Conv2d(8 + 4 * index, 8 if index == 4 else 4, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for index in range(1, 5):
            seen.append(F.leaky_relu(getattr(self, f"conv{index}")(torch.cat(seen, 1)), 0.2))
        return self.conv5(torch.cat(seen, 1)) * 0.2 + x


class ForeignBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = ForeignDense(), ForeignDense(), ForeignDense()

    def forward(self, x: Tensor) -> Tensor:
        return self.rdb3(self.rdb2(self.rdb1(x))) * 0.2 + x


class Foreign(nn.Module):
    """Somebody else's RRDBNet: the same names, another class."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(ForeignBlock())
        for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
            self.add_module(name, nn.Conv2d(8, 8, 3, padding=1))
        self.conv_last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv_first(x)
        out: Any = first + self.conv_body(self.body(first))
        for conv in (self.conv_up1, self.conv_up2):
            out = F.leaky_relu(conv(F.interpolate(out, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(out), 0.2))


def test_another_ones_rrdbnet_runs_in_bands_too() -> None:
    torch.manual_seed(3)
    module = Foreign().eval()
    x = torch.rand(1, 3, 21, 13)
    with torch.no_grad():
        whole = module(x)
    bands = list(TileNetwork(module, CPU, band_rows=4).bands(x, Box(0, 0, 21, 13), 4))
    assert len(bands) == 6
    torch.testing.assert_close(torch.cat([band.values for band in bands], 2), whole, rtol=0, atol=2e-6)


def test_training_goes_on_working_after_the_module_ran_elsewhere() -> None:
    module = rrdb(4).train()
    module(torch.rand(1, 3, 8, 8)).mean().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_scale_is_read_from_the_structure() -> None:
    assert [enlargement(rrdb(scale)) for scale in (4, 2, 1)] == [4, 2, 1]
    assert enlargement(srvgg()) == 4
    assert enlargement(nn.Conv2d(3, 3, 1)) is None
