"""RealESRGANer, as scripts written for the original use it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.networks import Failing, Nearest, rrdb, srvgg

from realesrgan import RealESRGANer
from realesrgan.errors import DeviceError, InputError, RealESRGANError
from realesrgan.inference import upsampler as upsampler_room
from realesrgan.inference.tiling import Box


def upsampler(module=None, scale=4, **options) -> RealESRGANer:
    return RealESRGANer(scale, None, model=Nearest(scale) if module is None else module, device="cpu", **options)


def test_the_arguments_and_attributes_that_scripts_use(tmp_path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"params_ema": rrdb().state_dict()}, path)
    # Positional, in the original's order.
    made = RealESRGANer(4, str(path), None, rrdb(), 16, 10, 3, False, torch.device("cpu"), None, trust_weights=True)
    assert (made.scale, made.tile_size, made.tile_pad, made.pre_pad, made.mod_scale) == (4, 16, 10, 3, None)
    assert made.half is False
    assert made.device == torch.device("cpu")
    assert isinstance(made.model, torch.nn.Module)
    assert made.img is None
    assert made.output is None


@pytest.mark.parametrize("scale", [4, 2, 1])
def test_the_steps_of_the_original(scale) -> None:
    module = rrdb(scale)
    made = upsampler(module, scale, tile=10, tile_pad=module.context, pre_pad=2)
    picture = np.random.default_rng(0).random((12, 13, 3)).astype(np.float32)
    made.pre_process(picture)
    multiple = {4: 1, 2: 2, 1: 4}[scale]
    height, width = -(-14 // multiple) * multiple, -(-15 // multiple) * multiple
    assert made.img.shape == (1, 3, height, width)
    np.testing.assert_array_equal(made.img[0, :, :12, :13].numpy().transpose(1, 2, 0), picture)
    np.testing.assert_array_equal(made.img[0, :, 12].numpy(), made.img[0, :, 10].numpy())  # reflected
    with torch.no_grad():
        expected = module(made.img)
    made.process()
    torch.testing.assert_close(made.output, expected, rtol=0, atol=3e-6)
    assert made.post_process().shape == (1, 3, 12 * scale, 13 * scale)
    made.tile_process()
    torch.testing.assert_close(made.output, expected, rtol=0, atol=3e-6)


def test_steps_out_of_order_say_what_comes_first() -> None:
    made = upsampler()
    with pytest.raises(InputError, match="pre_process"):
        made.process()
    with pytest.raises(InputError, match="process"):
        made.post_process()


@pytest.mark.parametrize(("shape", "mode"), [((12, 10, 3), "RGB"), ((12, 10, 4), "RGBA"), ((12, 10), "L")])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("alpha", ["realesrgan", "bicubic", None])
def test_what_comes_back_has_the_inputs_depth_and_mode(shape, mode, dtype, alpha) -> None:
    picture = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    result, found = upsampler(tile=7).enhance(picture, alpha_upsampler=alpha)
    assert (found, result.dtype, result.shape) == (mode, dtype, (48, 40, *shape[2:]))
    if mode != "RGBA" or alpha == "realesrgan":
        np.testing.assert_array_equal(result, picture.repeat(4, 0).repeat(4, 1))
    else:
        np.testing.assert_array_equal(result[:, :, :3], picture[:, :, :3].repeat(4, 0).repeat(4, 1))
        assert not np.array_equal(result[:, :, 3], picture[:, :, 3].repeat(4, 0).repeat(4, 1))


@pytest.mark.parametrize(
    ("outscale", "size"), [(None, (48, 40)), (4, (48, 40)), (2, (24, 20)), (3.5, (42, 35)), (0.01, (1, 1))]
)
def test_outscale_is_the_size_of_the_result(outscale, size) -> None:
    result, _ = upsampler().enhance(np.zeros((12, 10, 3), np.uint8), outscale=outscale)
    assert result.shape[:2] == size


@pytest.mark.parametrize("outscale", [0, -1, float("nan"), float("inf"), "4", [4]])
def test_an_impossible_outscale_is_refused(outscale) -> None:
    with pytest.raises(ValueError, match="outscale is"):
        upsampler().enhance(np.zeros((4, 4, 3), np.uint8), outscale=outscale)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (5, 7)])
@pytest.mark.parametrize("build", [lambda: rrdb(4), lambda: rrdb(2), lambda: rrdb(1), srvgg])
def test_pictures_smaller_than_their_padding_work(size, build) -> None:
    module = build()
    scale = {12: 2, 48: 1}.get(getattr(getattr(module, "conv_first", None), "in_channels", 3), 4)
    made = upsampler(module, scale, tile=3, pre_pad=10)
    result, _ = made.enhance(np.full((*size, 3), 90, np.uint8))
    assert result.shape == (size[0] * scale, size[1] * scale, 3)


def test_attributes_are_read_at_each_call() -> None:
    made = upsampler(srvgg(), tile=0)
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    made.enhance(picture)
    assert made.last_run.tiles == 1
    made.tile_size, made.tile_pad = 10, 7
    made.enhance(picture)
    assert (made.last_run.tiles, made.last_run.tile, made.last_run.tile_pad) == (16, (10, 10), 7)
    made.mod_scale = 8
    made.pre_pad = 1
    made.enhance(picture)
    made.scale = 2
    with pytest.raises(InputError, match="scale is 2, but the network of SRVGGNetCompact enlarges by 4"):
        made.enhance(picture)


@pytest.mark.parametrize("mod_scale", [1, 3, 4])
def test_a_mod_scale_that_the_network_cannot_take_is_raised_to_one_it_can(mod_scale) -> None:
    module = rrdb(2)
    made = upsampler(module, 2, tile=8, tile_pad=4, pre_pad=0)
    made.mod_scale = mod_scale
    assert made.enhance(np.full((13, 11, 3), 90, np.uint8))[0].shape == (26, 22, 3)


def test_a_scale_that_is_not_the_networks_is_an_error_that_says_which_is() -> None:
    with pytest.raises(InputError, match="enlarges by 2: pass scale=2"):
        upsampler(rrdb(2), 4)


def test_padding_defaults_to_what_leaves_no_seams() -> None:
    assert upsampler(rrdb()).tile_pad == 32
    assert upsampler(srvgg(2)).tile_pad == srvgg(2).context == 4
    assert upsampler(rrdb(), tile_pad=0).tile_pad == 0


def test_the_tile_that_survived_is_kept_for_the_next_picture() -> None:
    module = Failing(RuntimeError("CUDA out of memory."), limit=20)
    made = upsampler(module, tile=32, tile_pad=0, pre_pad=0)
    picture = np.zeros((64, 64, 3), np.uint8)
    made.tile_size = 64
    with pytest.raises(RealESRGANError):
        made.enhance(picture)  # 64, then 32: still over 20
    module.limit = 40
    made.enhance(picture)
    assert made.last_run.splits == 1
    made.enhance(picture)
    assert made.last_run.splits == 0
    assert made.last_run.tile == (32, 32)


def test_weights_are_found_by_path_alone(tmp_path) -> None:
    path = tmp_path / "mine.pth"
    torch.save({"params": srvgg().state_dict()}, path)
    made = RealESRGANer(4, path, device="cpu", trust_weights=True)
    given = upsampler(srvgg())
    picture = np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(made.enhance(picture)[0], given.enhance(picture)[0])


def test_two_checkpoints_are_mixed_parameter_by_parameter(tmp_path) -> None:
    first, second = srvgg(), srvgg()
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.mul_(3)
    for name, module in (("a", first), ("b", second)):
        torch.save({"params_ema": module.state_dict(), "params": {}}, tmp_path / f"{name}.pth")
    paths = [str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]
    made = RealESRGANer(4, paths, dni_weight=[0.25, 0.75], model=srvgg(), device="cpu", trust_weights=True)
    for name, value in made.model.state_dict().items():
        torch.testing.assert_close(value, 0.25 * first.state_dict()[name] + 0.75 * second.state_dict()[name])


def test_nothing_to_load_is_an_error() -> None:
    with pytest.raises(InputError, match="model_path"):
        RealESRGANer(4, None)
    with pytest.raises(InputError, match="2 files"):
        RealESRGANer(4, ["a.pth", "b.pth"])
    upsampler(dni_weight=[0.5, 0.5])  # ignored, as from the original, where no list of files goes with it


def test_a_device_that_is_not_there_is_said_before_weights_are_looked_for(monkeypatch) -> None:
    def unexpected(*args, **options):
        raise AssertionError("weights were looked for")

    monkeypatch.setattr(upsampler_room, "source_of", unexpected)
    with pytest.raises(DeviceError, match="xpu:9 is not available"):
        RealESRGANer(4, "RealESRGAN_x4plus", device="xpu:9")


def test_a_run_can_be_described() -> None:
    found = upsampler(srvgg()).describe()
    assert (found["device"], found["precision"], found["weights_source"]) == ("cpu", "fp32", "model")
    assert found["weights_sha256"] == ""
    assert found["tile"] > 0


def test_the_whole_picture_is_read_as_it_is_and_not_kept() -> None:
    made = upsampler()
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    before = picture.copy()
    made.enhance(picture)
    np.testing.assert_array_equal(picture, before)
    assert made.img is None
    assert Box(0, 0, 4, 4).height == 4
