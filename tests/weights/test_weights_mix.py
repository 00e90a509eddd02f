"""Mixing checkpoints: the denoise strength, and two of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import tiny_zoo
from support.http_server import Server
from support.tiny_zoo import TinyZoo

from realesrgan import RealESRGANer
from realesrgan.errors import InputError, WeightsError
from realesrgan.weights import loading as weights


@pytest.mark.parametrize("strength", [0, 0.25, 0.5])
@pytest.mark.parametrize("given", ["name", "file", "path", "url"])
def test_denoise_strength(tiny: TinyZoo, server: Server, tmp_path: Path, strength: float, given: str) -> None:
    folder = tmp_path / "general"  # a folder of the model's own name must not mislead
    paths = [tiny.put(folder, name) for name in ("general", "wdn")]
    name = {
        "name": "general",
        "file": "general.pth",
        "path": str(paths[0]),
        "url": server.url + "v1/general.pth?of=general",
    }[given]
    found = weights.load(name, dni=strength)
    assert (found.source, found.spec) == ("release", tiny.models["general"])
    for key, value in found.state_dict.items():
        expected = strength * tiny.state("general")[key] + (1 - strength) * tiny.state("wdn")[key]
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("strength", [None, 1, 1.0])
def test_full_strength_is_the_model_alone(tiny: TinyZoo, server: Server, strength: Any) -> None:
    assert tiny_zoo.equal(weights.load("general", dni=strength).state_dict, tiny.state("general"))
    assert [request.path for request in server.requests] == ["v1/general.pth"]


def test_strength_of_a_model_without_a_partner(tiny: TinyZoo, server: Server) -> None:
    assert tiny_zoo.equal(weights.load("video", dni=0.5).state_dict, tiny.state("video"))


def test_the_partner_is_missing(tiny: TinyZoo, tmp_path: Path) -> None:
    path = tiny.put(tmp_path, "general")
    with pytest.raises(WeightsError) as caught:
        weights.load(str(path), dni=0.5)
    assert str(tmp_path / "wdn.pth") in str(caught.value)


@pytest.mark.parametrize("options", [{"dni": -0.1}, {"dni": 1.5}, {"dni": float("nan")}, {"weights_from": "gitlab"}])
def test_wrong_options(tiny: TinyZoo, options: Any) -> None:
    with pytest.raises(InputError, match=str(next(iter(options.values())))):
        weights.load("general", **options)


def test_load_mixed(tiny: TinyZoo, tmp_path: Path) -> None:
    first, second = tiny.put(tmp_path, "general"), tmp_path / "own.pth"
    second.write_bytes(tiny_zoo.saved(tiny_zoo.network(5).state_dict()))
    found = weights.load_mixed([first, second], [0.9, 0.4])
    assert (found.source, found.spec, found.path) == ("mixed", tiny.models["general"], first)
    for key, value in found.state_dict.items():
        expected = 0.9 * tiny.state("general")[key] + 0.4 * tiny_zoo.network(5).state_dict()[key]
        torch.testing.assert_close(value, expected)
    with pytest.raises(InputError):
        weights.load_mixed([first], [1.0])
    second.write_bytes(tiny_zoo.saved(tiny_zoo.network(5, num_conv=2).state_dict()))
    with pytest.raises(WeightsError, match="same network"):
        weights.load_mixed([first, second], [0.5, 0.5])


def test_the_methods_that_scripts_call(tiny: TinyZoo, tmp_path: Path) -> None:
    paths = [tiny.put(tmp_path, name) for name in ("general", "wdn")]
    upsampler = RealESRGANer(2, str(paths[0]), device="cpu")
    states = [torch.load(path, weights_only=True) for path in paths]
    for pair in (paths, states, [state["params"] for state in states]):
        mixed = upsampler.dni(pair[0], pair[1], [0.25, 0.75], key="params", loc="cpu")
        assert list(mixed) == ["params"]
        for name, value in mixed["params"].items():
            expected = 0.25 * tiny.state("general")[name] + 0.75 * tiny.state("wdn")[name]
            torch.testing.assert_close(value, expected)
    with pytest.raises(InputError):
        upsampler.dni(paths[0], paths[1], [1])
