"""Networks of other architectures, and of one channel: they compute what they are, on pictures."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch
from support.tiny_zoo import TinyZoo, saved

from realesrgan import RealESRGANer, devices
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from realesrgan.errors import WeightsError
from realesrgan.inference.precision import Networks
from realesrgan.weights import folders, other_networks
from realesrgan.weights import loading as weights

PICTURE = np.random.default_rng(0).integers(0, 256, (37, 45, 3), np.uint8)


@pytest.fixture(autouse=True)
def elsewhere(tiny: TinyZoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "user_folder", lambda kind: tmp_path / kind)


def write(folder: Path, state: Dict[str, Any], name: str = "community.pth") -> Path:
    path = folder / name
    path.write_bytes(saved({"params": state}))
    return path


def test_a_grey_network_enlarges_grey_and_colour(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    network = SRVGGNetCompact(1, 1, 8, 2, 2).eval()
    upsampler = RealESRGANer(None, str(write(tmp_path, network.state_dict())), device="cpu", pre_pad=0)
    assert upsampler.scale == 2
    notices = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.__dict__["notice_code"] for record in notices] == ["weights.grey"]

    def plainly(plane: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            result = network(torch.from_numpy(plane.astype(np.float32) / 255)[None, None])[0, 0]
        return (result.clamp(0, 1) * 255).round().numpy()

    grey, mode = upsampler.enhance(PICTURE[:, :, 0])
    assert mode == "L" and np.abs(grey - plainly(PICTURE[:, :, 0])).max() <= 1
    color, _ = upsampler.enhance(PICTURE)
    for channel in range(3):
        assert np.abs(color[:, :, channel] - plainly(PICTURE[:, :, channel])).max() <= 1


def test_a_network_of_two_channels_is_refused_when_loading(tmp_path: Path) -> None:
    path = write(tmp_path, SRVGGNetCompact(2, 2, 8, 2, 2).state_dict())
    with pytest.raises(WeightsError) as caught:
        RealESRGANer(None, str(path), device="cpu")
    assert caught.value.code == "weights.channels" and "2 channels" in str(caught.value)


def test_without_spandrel_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(WeightsError) as caught:
        weights.load(write(tmp_path, {"layers.0.weight": torch.zeros(2, 2)})).build()
    assert caught.value.code == "weights.unknown_network" and "pip install spandrel" in str(caught.value)


def span() -> Any:
    from spandrel.architectures.SPAN import SPAN

    return SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2, img_range=1.0, norm=False)


def swinir() -> Any:
    from spandrel.architectures.SwinIR import SwinIR

    return SwinIR(
        img_size=16,
        window_size=8,
        depths=[2],
        embed_dim=12,
        num_heads=[2],
        mlp_ratio=2,
        upscale=2,
        upsampler="pixelshuffledirect",
        resi_connection="1conv",
    )


def omnisr() -> Any:
    from spandrel.architectures.OmniSR import OmniSR

    return OmniSR(num_feat=16, res_num=1, block_num=1, up_scale=2, window_size=8)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("make", [span, swinir, omnisr])
def test_other_architectures(tmp_path: Path, make: Any) -> None:
    spandrel = pytest.importorskip("spandrel")
    torch.manual_seed(1)
    network = make().eval()
    path = write(tmp_path, network.state_dict())
    upsampler = RealESRGANer(None, str(path), device="cpu", pre_pad=0, tile=0)
    assert upsampler.scale == 2
    result, mode = upsampler.enhance(PICTURE)
    assert mode == "RGB"
    descriptor = spandrel.ModelLoader().load_from_state_dict(dict(network.state_dict()))
    multiple = descriptor.size_requirements.multiple_of
    height, width = (-(-side // multiple) * multiple for side in PICTURE.shape[:2])
    mirrored = np.pad(PICTURE, ((0, height - 37), (0, width - 45), (0, 0)), mode="reflect")
    x = torch.from_numpy(mirrored[:, :, ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = (descriptor(x)[0, :, :74, :90] * 255).round().permute(1, 2, 0).numpy()[:, :, ::-1]
    assert np.abs(result.astype(int) - expected).max() <= 1
    kept = json.loads((tmp_path / "cache" / "padding.json").read_text("utf-8"))
    assert list(kept) == [weights.load(path).sha256]
    assert upsampler.tile_pad == kept[weights.load(path).sha256]


def test_the_padding_is_measured_once_and_tiles_have_no_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("spandrel")
    torch.manual_seed(2)
    path = str(write(tmp_path, span().state_dict()))
    whole, _ = RealESRGANer(None, path, device="cpu", pre_pad=0).enhance(PICTURE)
    monkeypatch.setattr(other_networks, "_measured", lambda *_: pytest.fail("measured again"))
    tiled, _ = RealESRGANer(None, path, device="cpu", pre_pad=0, tile=16).enhance(PICTURE)
    assert np.abs(whole.astype(int) - tiled).max() <= 2


@pytest.mark.parametrize("allowed", [False, True])
def test_half_precision_only_where_the_network_allows_it(
    allowed: bool, directml: Any, caplog: pytest.LogCaptureFixture
) -> None:
    module = SRVGGNetCompact(3, 3, 8, 2, 2, act_type="relu").eval()
    module.half_allowed = allowed
    networks = Networks(module, devices.resolve("dml"), 2)
    networks.choose(True)
    assert networks.half == allowed
    assert ("the network is not made for it" in caplog.text) != allowed


def test_sizes_that_a_network_needs(tmp_path: Path) -> None:
    shapes = []

    class Descriptor:
        class size_requirements:
            minimum, multiple_of, square = 16, 4, True

        model = torch.nn.Identity()
        scale = 2
        supports_half = True

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            shapes.append(tuple(x.shape))
            return torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")

    module = other_networks.OtherNetwork(Descriptor())
    assert module(torch.rand(2, 3, 8, 20)).shape == (2, 3, 16, 40)
    assert shapes == [(1, 3, 20, 20)] * 2
    assert module.multiple == 4


@pytest.mark.parametrize(
    "state",
    [
        {"layers.999999999.weight": torch.zeros(2)},
        {"conv_1.sk.weight": torch.zeros(10**7 // 4), "block_1.c1_r.sk.weight": torch.zeros(4, 4, 1, 1)},
    ],
)
def test_parameters_that_promise_much(tmp_path: Path, state: Dict[str, torch.Tensor]) -> None:
    pytest.importorskip("spandrel")
    with pytest.raises(WeightsError) as caught:
        weights.load(write(tmp_path, state)).build()
    assert caught.value.code == "weights.unknown_network"


def test_building_is_bounded() -> None:
    with pytest.raises(MemoryError), other_networks._Bounded(1000):
        torch.nn.Linear(100_000, 100_000)
