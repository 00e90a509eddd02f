"""Checkpoints of the networks known here under other names and in other wrappers: they compute what they always did."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Dict, Mapping

import numpy as np
import pytest
import torch
from support import tiny_zoo
from support.tiny_zoo import saved
from torch import Tensor
from torch.nn import functional as F

from realesrgan import RealESRGANer
from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from realesrgan.errors import WeightsError
from realesrgan.weights import checkpoints
from realesrgan.weights import loading as weights

FEATURES, GROWTH, BLOCKS = 6, 4, 2


pytestmark = pytest.mark.usefixtures("tiny")


def conv(state: Dict[str, Tensor], name: str, inputs: int, outputs: int) -> None:
    state[f"{name}.weight"] = torch.randn(outputs, inputs, 3, 3) * 0.2
    state[f"{name}.bias"] = torch.randn(outputs) * 0.1


def first_release(doublings: int) -> Dict[str, Tensor]:
    """Parameters as ESRGAN's first release names them: convolutions of a ``Sequential`` by their places in it."""
    torch.manual_seed(doublings)
    state: Dict[str, Tensor] = {}
    conv(state, "model.0", 3, FEATURES)
    for block in range(BLOCKS):
        for dense in (1, 2, 3):
            for number in range(5):
                outputs = GROWTH if number < 4 else FEATURES
                conv(state, f"model.1.sub.{block}.RDB{dense}.conv{number + 1}.0", FEATURES + number * GROWTH, outputs)
    conv(state, f"model.1.sub.{BLOCKS}", FEATURES, FEATURES)
    # Behind each enlargement (without parameters) come a convolution and its activation.
    for number in range(doublings):
        conv(state, f"model.{3 + 3 * number}", FEATURES, FEATURES)
    conv(state, f"model.{2 + 3 * doublings}", FEATURES, FEATURES)
    conv(state, f"model.{4 + 3 * doublings}", FEATURES, 3)
    return state


def computed(state: Mapping[str, Tensor], x: Tensor, doublings: int) -> Tensor:
    """ESRGAN written down once more, by the first release's names."""

    def apply(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def act(x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2)

    shallow = apply("model.0", x)
    trunk = shallow
    for block in range(BLOCKS):
        inner = trunk
        for dense in (1, 2, 3):
            parts = [inner]
            for number in range(5):
                out = apply(f"model.1.sub.{block}.RDB{dense}.conv{number + 1}.0", torch.cat(parts, 1))
                parts.append(act(out))
            inner = out * 0.2 + inner
        trunk = inner * 0.2 + trunk
    x = shallow + apply(f"model.1.sub.{BLOCKS}", trunk)
    for number in range(doublings):
        x = act(apply(f"model.{3 + 3 * number}", F.interpolate(x, scale_factor=2, mode="nearest")))
    return apply(f"model.{4 + 3 * doublings}", act(apply(f"model.{2 + 3 * doublings}", x)))


def later_names(state: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """The same by the names of ESRGAN's later release."""
    places = sorted({int(key.split(".")[1]) for key in state if "sub" not in key})
    inner = [f"upconv{number + 1}" for number in range(len(places) - 3)]
    outer = dict(zip(map(str, places), ["conv_first", *inner, "HRconv", "conv_last"]))
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"model\.1\.sub\.(\d+)\.(RDB\d)\.(conv\d)\.0", r"RRDB_trunk.\1.\2.\3", key)
        key = re.sub(r"model\.1\.sub\.\d+", "trunk_conv", key)
        key = re.sub(r"model\.(\d+)", lambda found: outer[found.group(1)], key)
        renamed[key] = value
    return renamed


def load(folder: Path, content: Any, name: str = "community.pth", data: bytes = b"") -> weights.Weights:
    path = folder / name
    path.write_bytes(data or saved(content))
    return weights.load(path)


def check(found: weights.Weights, state: Mapping[str, Tensor], doublings: int) -> None:
    assert found.spec is not None and found.spec.scale == 2**doublings
    x = torch.rand(1, 3, 7, 9)
    with torch.no_grad():
        torch.testing.assert_close(found.build()(x), computed(state, x, doublings), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("doublings", [0, 1, 2, 3])
@pytest.mark.parametrize("names", [dict, later_names])
def test_esrgan(tmp_path: Path, names: Callable[..., Dict[str, Tensor]], doublings: int) -> None:
    state = first_release(doublings)
    check(load(tmp_path, names(state)), state, doublings)


@pytest.mark.parametrize("doublings", [0, 1, 2, 3])
def test_esrgan_enlarges_pictures(tmp_path: Path, doublings: int) -> None:
    state = {key: value * 0.5 for key, value in first_release(doublings).items()}
    path = tmp_path / "community.pth"
    path.write_bytes(saved(state))
    upsampler = RealESRGANer(None, str(path), device="cpu", tile=16, tile_pad=64)
    assert upsampler.scale == 2**doublings
    picture = np.random.default_rng(0).integers(0, 256, (23, 31, 3), np.uint8)
    result, mode = upsampler.enhance(picture)
    assert (mode, result.shape) == ("RGB", (23 * 2**doublings, 31 * 2**doublings, 3))
    x = torch.from_numpy(picture[:, :, ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    expected = (computed(state, x, doublings)[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()[:, :, ::-1]
    # At the right and lower edges the program mirrors pixels (pre_pad); the plain network does not.
    inner = np.s_[: 12 * 2**doublings, : 20 * 2**doublings]
    assert np.abs(result[inner].astype(int) - expected[inner]).max() <= 1


SMALL = dict(RRDBNet(3, 3, 4, FEATURES, 1, GROWTH).state_dict())
COMPACT = dict(SRVGGNetCompact(3, 3, 5, 1, 2).state_dict())


@pytest.mark.parametrize("state", [SMALL, COMPACT], ids=["rrdbnet", "srvgg"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "name": "x"},
        lambda state: {"model_state_dict": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        lambda state: {"model": state},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"params_ema": None, "params": state},
        lambda state: {**state, "iter": 5, "psnr": 31.5},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
        lambda state: {f"generator.{key}": value for key, value in state.items()},
        lambda state: {f"netG.{key}": value for key, value in state.items()},
        lambda state: {f"model.{key}": value for key, value in state.items()},
        lambda state: {"params": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {
            **{f"params_ema.{key}": value for key, value in state.items()},
            **{f"params.{key}": value + 1 for key, value in state.items()},
        },
        lambda state: {
            **{f"generator.{key}": value for key, value in state.items()},
            "discriminator.conv.weight": torch.zeros(3),
        },
    ],
)
def test_wrappers_and_prefixes(
    tmp_path: Path, state: Dict[str, Tensor], wrap: Callable[[Dict[str, Tensor]], Dict[str, Any]]
) -> None:
    found = load(tmp_path, wrap(state))
    assert found.spec is not None
    assert tiny_zoo.equal(found.build().state_dict(), state)


@pytest.mark.parametrize("prefix", ["params_ema.", "module."])
def test_prefixes_in_safetensors(tmp_path: Path, prefix: str) -> None:
    library = pytest.importorskip("safetensors.torch")
    data = library.save({f"{prefix}{key}": value for key, value in COMPACT.items()})
    found = load(tmp_path, None, "own.safetensors", data)
    assert tiny_zoo.equal(found.build().state_dict(), COMPACT)


def test_a_network_that_is_passed_in_takes_other_names(tmp_path: Path) -> None:
    found = load(tmp_path, {f"module.{key}": value for key, value in first_release(2).items()})
    network = RRDBNet(3, 3, 4, FEATURES, BLOCKS, GROWTH)
    weights.assign(found, network)
    x = torch.rand(1, 3, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(network(x), computed(first_release(2), x, 2), rtol=1e-4, atol=1e-5)


def test_shapes_decide(tmp_path: Path) -> None:
    """Names alone make no network: a changed shape is not loaded."""
    state = first_release(2)
    state["model.3.weight"] = torch.zeros(FEATURES, FEATURES, 1, 1)
    found = load(tmp_path, state)
    assert found.spec is None
    with pytest.raises(WeightsError):
        found.build()


def test_other_names_stay() -> None:
    state = {"layers.0.weight": 1, "model.weight": 2}
    assert checkpoints.own_names(state) == state
    assert checkpoints.without_prefix({"module.a": 1, "b": 2}) == {"module.a": 1, "b": 2}
