"""The networks: names, shapes, how far they see, and a second opinion on their arithmetic."""

from __future__ import annotations

from typing import Any, List, Tuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from realesrgan.archs.structure import of, rrdbnet, srvgg


def positive(network: nn.Module) -> nn.Module:
    """Every weight positive and no bias: black stays exactly 0, and nothing in reach of a bright pixel does."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.rand_like(parameter) * 0.1 + 0.01)
            if name.endswith("bias"):
                parameter.zero_()
    return network


def reach(network: nn.Module, length: int, scale: int, axis: int) -> int:
    """The largest distance, in input pixels, between an output pixel and an input pixel that it depends on."""
    shape = [1, 3, 8, 8]
    shape[axis] = length
    base = torch.zeros(shape, dtype=torch.float64)
    farthest = 0
    with torch.no_grad():
        assert not network(base).any()
        for offset in range(8):  # wherever the pixel stands in a folded block
            position = length // 2 + offset
            changed = base.clone()
            changed.select(axis, position).fill_(1.0)
            lit = network(changed).amax(dim=[d for d in range(4) if d != axis])
            touched = lit.nonzero().flatten() // scale
            assert touched.min() > 0 and touched.max() < length - 1, "the test picture is too small"
            farthest = max(farthest, position - int(touched.min()), int(touched.max()) - position)
    return farthest


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize(("scale", "unshuffle"), [(4, None), (2, None), (1, None), (1, 1), (2, 1), (8, 1)])
@pytest.mark.parametrize("blocks", [0, 1])
def test_rrdbnet_context_is_exact(scale: int, unshuffle: Any, blocks: int, axis: int) -> None:
    network = RRDBNet(3, 3, scale, num_feat=2, num_block=blocks, num_grow_ch=1, unshuffle=unshuffle).double()
    length = 8 * (-(-(2 * network.context + 40) // 8))
    assert reach(positive(network), length, scale, axis) == network.context


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize(("inner", "upscale"), [(0, 4), (3, 4), (2, 1), (2, 3)])
def test_srvgg_context_is_exact(inner: int, upscale: int, axis: int) -> None:
    network = SRVGGNetCompact(3, 3, num_feat=2, num_conv=inner, upscale=upscale).double()
    assert reach(positive(network), 2 * network.context + 24, upscale, axis) == network.context


def test_contexts_of_the_real_networks() -> None:
    assert rrdbnet(4, num_block=23).context == 349
    assert rrdbnet(4, num_block=6).context == 94
    assert rrdbnet(2, num_block=23).context == 2 * 349
    assert srvgg(4, num_conv=16).context == 18
    assert srvgg(4, num_conv=32).context == 34


@pytest.mark.parametrize(("scale", "unshuffle"), [(4, 1), (2, 2), (1, 4), (1, 1), (2, 1), (8, 1), (2, 4)])
@pytest.mark.parametrize("channels", [3, 1])
def test_an_rrdbnet_is_read_from_its_shapes(scale: int, unshuffle: int, channels: int) -> None:
    network = RRDBNet(channels, channels, scale, 4, 1, 2, unshuffle)
    found = of(network, 0)
    assert found == rrdbnet(scale, channels, channels, 4, 1, 2, unshuffle)
    assert found.weights == sum(parameter.numel() for parameter in network.parameters())
    side = 4 * unshuffle
    assert network(torch.zeros(1, channels, side, side)).shape[2:] == (side * scale, side * scale)
    again = found.row.make(found)
    again.load_state_dict(network.state_dict(), strict=True)


@pytest.mark.parametrize("activation", ["prelu", "relu", "leakyrelu"])
def test_an_srvgg_is_read_whatever_its_activation(activation: str) -> None:
    assert of(SRVGGNetCompact(3, 3, 4, 2, 3, activation), 0) == srvgg(3, num_feat=4, num_conv=2)


def test_another_network_says_what_its_convolutions_and_attributes_tell() -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 3, 3))
    network.multiple = 8  # type: ignore[assignment]
    found = of(network, 2)
    assert (found.family, found.scale, found.multiple, found.unshuffle, found.context) == ("other", 2, 8, 1, 2)
    assert found.flops(10, 10) == 2 * 100 * 2 * 6 * 3 * 9


@pytest.mark.parametrize(("scale", "multiple"), [(4, 1), (2, 2), (1, 4)])
def test_rrdbnet_scales(scale: int, multiple: int) -> None:
    network = RRDBNet(3, 3, scale, num_feat=4, num_block=1, num_grow_ch=2)
    assert network.multiple == multiple
    with torch.no_grad():
        assert network(torch.rand(2, 3, 4, 12)).shape == (2, 3, 4 * scale, 12 * scale)
    if multiple > 1:
        with pytest.raises(RuntimeError), torch.no_grad():
            network(torch.rand(1, 3, multiple + 1, multiple))


def test_rrdbnet_other_channels() -> None:
    network = RRDBNet(num_in_ch=1, num_out_ch=2, scale=2, num_feat=4, num_block=1, num_grow_ch=2)
    with torch.no_grad():
        assert network(torch.rand(1, 1, 4, 6)).shape == (1, 2, 8, 12)


@pytest.mark.parametrize("scale", [0, 3, 8, None])
def test_rrdbnet_refuses_other_scales(scale: object) -> None:
    with pytest.raises(ValueError, match="4, 2 or 1"):
        RRDBNet(3, 3, scale)  # type: ignore[arg-type]


def test_rrdbnet_names() -> None:
    convolutions = ["conv_first"]
    convolutions += [f"body.{b}.rdb{r}.conv{c}" for b in range(2) for r in (1, 2, 3) for c in (1, 2, 3, 4, 5)]
    convolutions += ["conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    names = [f"{name}.{kind}" for name in convolutions for kind in ("weight", "bias")]
    assert list(RRDBNet(3, 3, num_feat=4, num_block=2, num_grow_ch=2).state_dict()) == names


def test_rrdbnet_defaults_are_the_originals() -> None:
    with torch.device("meta"):
        network = RRDBNet(3, 3)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["conv_first.weight"] == (64, 3, 3, 3)
    assert shapes["body.22.rdb3.conv4.weight"] == (32, 64 + 3 * 32, 3, 3)
    assert shapes["body.22.rdb3.conv5.weight"] == (64, 64 + 4 * 32, 3, 3)
    assert "body.23.rdb1.conv1.weight" not in shapes
    assert sum(value.numel() for value in network.parameters()) == 16_697_987


def test_srvgg_names_and_positional_arguments() -> None:
    network = SRVGGNetCompact(3, 3, 8, 2, 2, "prelu")
    names: List[str] = []
    for index in (0, 2, 4):
        names += [f"body.{index}.weight", f"body.{index}.bias", f"body.{index + 1}.weight"]
    assert list(network.state_dict()) == [*names, "body.6.weight", "body.6.bias"]
    assert network.state_dict()["body.1.weight"].shape == (8,)
    assert network.state_dict()["body.6.weight"].shape == (3 * 4, 8, 3, 3)
    with torch.no_grad():
        assert network(torch.rand(1, 3, 3, 5)).shape == (1, 3, 6, 10)


@pytest.mark.parametrize(("act_type", "slope"), [("relu", 0.0), ("leakyrelu", 0.1), ("prelu", 0.25)])
def test_srvgg_against_a_loop(act_type: str, slope: float) -> None:
    """Written out as sums over the nine neighbours."""
    torch.manual_seed(1)
    network = SRVGGNetCompact(3, 3, 4, 1, 2, act_type).double()
    x = torch.rand(1, 3, 4, 5, dtype=torch.float64)
    layers = [layer for layer in network.body if isinstance(layer, nn.Conv2d)]
    y = x
    for index, layer in enumerate(layers):
        y = convolve(y, layer.weight, layer.bias)
        if index < len(layers) - 1:
            y = y.clamp(min=0) + slope * y.clamp(max=0)
    expected = torch.empty(1, 3, 8, 10, dtype=torch.float64)
    for row in range(2):
        for column in range(2):
            expected[:, :, row::2, column::2] = y[:, row * 2 + column :: 4] + x
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected)


def convolve(x: torch.Tensor, weight: torch.Tensor, bias: Any) -> torch.Tensor:
    height, width = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1))
    total = bias.detach().view(1, -1, 1, 1).expand(1, -1, height, width).clone()
    for dy in range(3):
        for dx in range(3):
            window = padded[:, :, dy : dy + height, dx : dx + width]
            total += torch.einsum("nchw,oc->nohw", window, weight.detach()[:, :, dy, dx])
    return total


def test_rrdbnet_against_a_loop() -> None:
    torch.manual_seed(2)
    network = RRDBNet(3, 3, 2, num_feat=4, num_block=1, num_grow_ch=2).double()
    state = network.state_dict()

    def conv(name: str, value: torch.Tensor) -> torch.Tensor:
        return convolve(value, state[f"{name}.weight"], state[f"{name}.bias"])

    def leaky(value: torch.Tensor) -> torch.Tensor:
        return torch.maximum(value, 0.2 * value)

    x = torch.rand(1, 3, 6, 4, dtype=torch.float64)
    folded = torch.stack([x[:, c, r::2, k::2] for c in range(3) for r in range(2) for k in range(2)], 1)
    first = conv("conv_first", folded)
    block = first
    for dense in ("rdb1", "rdb2", "rdb3"):
        parts = [block]
        for index in (1, 2, 3, 4):
            parts.append(leaky(conv(f"body.0.{dense}.conv{index}", torch.cat(parts, 1))))
        block = block + 0.2 * conv(f"body.0.{dense}.conv5", torch.cat(parts, 1))
    y = first + conv("conv_body", first + 0.2 * block)
    for name in ("conv_up1", "conv_up2"):
        y = leaky(conv(name, y.repeat_interleave(2, 2).repeat_interleave(2, 3)))
    expected = conv("conv_last", leaky(conv("conv_hr", y)))
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected)


def test_srvgg_refuses_other_activations() -> None:
    with pytest.raises(ValueError, match="'gelu'"):
        SRVGGNetCompact(act_type="gelu")


NETWORKS: Tuple[nn.Module, ...] = (
    RRDBNet(3, 3, 2, num_feat=4, num_block=1, num_grow_ch=2),
    SRVGGNetCompact(3, 3, 4, 1, 2),
    SRVGGNetCompact(3, 3, 4, 1, 2, "leakyrelu"),
)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_every_parameter_is_trained(network: nn.Module) -> None:
    torch.manual_seed(3)
    network(torch.rand(1, 3, 8, 8)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
