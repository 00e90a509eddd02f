"""The perceptual loss: torchvision's VGG19 as basicsr asks for it, and its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict

import pytest
from training import metrics, require_basicsr, tiny_options

require_basicsr()
pytestmark = pytest.mark.train

import torch  # noqa: E402
from torchvision.models import vgg  # noqa: E402

from realesrgan.errors import WeightsError  # noqa: E402
from realesrgan.models import base  # noqa: E402
from realesrgan.train import train  # noqa: E402

LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1, "conv5_4": 1}
NAME = "vgg19-dcbb9e9d.pth"


def with_perceptual_loss(**changes: Any) -> Dict[str, Any]:
    options = tiny_options(total_iter=1)
    section = {"type": "PerceptualLoss", "layer_weights": LAYERS, "vgg_type": "vgg19", "use_input_norm": True}
    section.update(perceptual_weight=1.0, style_weight=0, range_norm=False, criterion="l1", **changes)
    options["train"]["perceptual_opt"] = section
    return options


@pytest.fixture()
def hub(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache, empty; nothing can be downloaded."""

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(here / "hub"))
    (here / "hub" / "checkpoints").mkdir(parents=True)
    return here / "hub" / "checkpoints"


@pytest.mark.parametrize("pretrained", [True, False])
def test_torchvision_still_takes_basicsrs_call(pretrained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the day this fails, the perceptual loss needs a way of our own to build its network."""
    with torch.device("meta"), base.quiet_vgg():
        state = vgg.vgg19(pretrained=False).state_dict()
        monkeypatch.setattr(vgg.VGG19_Weights, "get_state_dict", lambda *_, **__: state)
        network = vgg.vgg19(pretrained=pretrained)
    assert len(network.features) == 37 and network.features[34].out_channels == 512


def test_training_with_the_perceptual_loss(hub: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network of the same layers with a sixteenth of the channels, whose weights are random."""
    asked = []

    def narrow(pretrained: bool) -> Any:
        asked.append(pretrained)
        torch.manual_seed(3)
        channels = [max(1, value // 16) if isinstance(value, int) else value for value in vgg.cfgs["E"]]
        return SimpleNamespace(features=vgg.make_layers(channels, batch_norm=False))

    monkeypatch.setattr(vgg, "vgg19", narrow)
    monkeypatch.setattr(base, "_verify_vgg", lambda path: None)
    (hub / NAME).write_bytes(b"stands for the published file")
    weighted = {}
    for weight in (1.0, 10.0):
        options = with_perceptual_loss()
        options["train"]["perceptual_opt"]["perceptual_weight"] = weight
        result = train(options, here)
        (line,) = [line for line in metrics(here / "experiments" / "tiny") if "l_g_percep" in line]
        weighted[weight] = line["l_g_percep"], torch.load(result, weights_only=True)["params"]["conv_last.weight"]
    assert asked == [True, True]
    assert weighted[1.0][0] > 0
    assert weighted[10.0][0] == pytest.approx(10 * weighted[1.0][0], rel=1e-5)
    assert not torch.equal(weighted[1.0][1], weighted[10.0][1]), "the generator learns from it"


def test_weights_that_cannot_be_had_are_named(hub: Path, here: Path) -> None:
    with pytest.raises(WeightsError, match=r"vgg19-dcbb9e9d\.pth.*no route.*experiments/pretrained_models"):
        train(with_perceptual_loss(), here)


@pytest.mark.parametrize("place", ["local", "cached"])
def test_a_file_that_is_not_the_published_one_is_refused(place: str, hub: Path, here: Path) -> None:
    path = Path("experiments", "pretrained_models", NAME) if place == "local" else hub / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()[:8]
    with pytest.raises(WeightsError, match=f"begins with {found}, not dcbb9e9d. Delete it"):
        train(with_perceptual_loss(), here)


def test_the_published_one_is_taken(tmp_path: Path) -> None:
    digits = hashlib.sha256(b"weights").hexdigest()[:8]
    path = tmp_path / f"vgg19-{digits}.pth"
    path.write_bytes(b"weights")
    base._verify_vgg(path)
