"""What public scripts do with RealESRGANer beside calling ``enhance``: assign, subclass, patch, hook, call steps."""

from __future__ import annotations

from typing import Any, List

import cv2
import numpy as np
import pytest
import torch
from support.networks import Nearest, rrdb, srvgg
from torch import nn
from torch.nn import functional as F

from realesrgan import RealESRGANer
from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.errors import InputError

PIXELS = np.random.default_rng(5).integers(0, 256, (23, 31, 3), np.uint8)


def upscaler(model: Any = None, **arguments: Any) -> RealESRGANer:
    arguments = {"tile_pad": 4, "pre_pad": 0, "device": "cpu", **arguments}
    return RealESRGANer(4, None, model=srvgg() if model is None else model, **arguments)


def nearest(pixels: np.ndarray, scale: int = 4) -> np.ndarray:
    return pixels.repeat(scale, 0).repeat(scale, 1)


class Doubled(nn.Module):
    """The nearest enlargement, darkened: its result is known."""

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=4, mode="nearest") * self.share


def dark(pixels: np.ndarray, share: float = 0.5) -> np.ndarray:
    return np.rint(nearest(pixels).astype(np.float32) * np.float32(share)).astype(np.uint8)


# --- assigning ---


@pytest.mark.parametrize("tile", [0, 16])
def test_an_assigned_module_computes(tile: int) -> None:
    u = upscaler(tile=tile)
    u.model = Doubled()
    np.testing.assert_array_equal(u.enhance(PIXELS)[0], dark(PIXELS))
    assert isinstance(u.model, Doubled)


def test_an_assigned_function_computes_and_is_given_back() -> None:
    u = upscaler()
    seen: List[Any] = []

    def function(x: torch.Tensor) -> torch.Tensor:
        seen.append((x.dtype, x.device.type, x.shape[1]))
        return Doubled()(x)

    u.model = function
    np.testing.assert_array_equal(u.enhance(PIXELS)[0], dark(PIXELS))
    assert u.model is function and set(seen) == {(torch.float32, "cpu", 3)}


def test_a_wrapper_around_the_network_computes_what_the_network_does() -> None:
    u = upscaler(rrdb(4))
    expected = u.enhance(PIXELS)[0]
    u.model = torch.compile(u.model, backend="eager")
    assert np.abs(u.enhance(PIXELS)[0].astype(int) - expected).max() <= 1
    u.model = nn.DataParallel(rrdb(4))
    assert np.abs(u.enhance(PIXELS)[0].astype(int) - expected).max() <= 1


def test_what_is_read_may_be_assigned_again() -> None:
    u = upscaler()
    expected = u.enhance(PIXELS)[0]
    for name in ("model", "half", "device", "img", "output", "scale", "tile_size", "tile_pad", "pre_pad", "mod_scale"):
        setattr(u, name, getattr(u, name))
    u.device = torch.device("cpu")
    u.device = "cpu"
    np.testing.assert_array_equal(u.enhance(PIXELS)[0], expected)


def test_an_assigned_device_is_where_it_computes(directml) -> None:
    u = upscaler()
    expected = u.enhance(PIXELS)[0]
    u.device = "dml"
    assert u.device.type == "privateuseone"
    before = directml.counts["convolution"]
    assert np.abs(u.enhance(PIXELS)[0].astype(int) - expected).max() <= 1
    assert directml.counts["convolution"] > before
    u.device = torch.device("cpu")
    before = directml.counts["convolution"]
    np.testing.assert_array_equal(u.enhance(PIXELS)[0], expected)
    assert directml.counts["convolution"] == before
    with pytest.raises(InputError):
        u.device = "gpu5x"


def test_an_assigned_half_is_in_force_where_the_device_has_it(directml) -> None:
    u = upscaler(device="dml")
    assert u.half is False
    u.half = True
    assert u.half and next(u.model.parameters()).dtype == torch.float16
    u.enhance(PIXELS)
    assert u.last_run.precision == "fp16"
    u.half = False
    u.enhance(PIXELS)
    assert u.last_run.precision == "fp32" and next(u.model.parameters()).dtype == torch.float32


def test_half_on_the_processor_stays_fp32_and_says_so(caplog) -> None:
    u = upscaler()
    expected = u.enhance(PIXELS)[0]
    u.half = True
    np.testing.assert_array_equal(u.enhance(PIXELS)[0], expected)
    assert u.half is False and [record.notice_code for record in caplog.records] == ["precision.single"]


def test_an_assigned_tile_and_padding_count() -> None:
    u = upscaler(tile=16)
    u.enhance(PIXELS)
    assert u.last_run.tiles == 4
    u.tile_size, u.tile_pad = 10, 2
    u.enhance(PIXELS)
    assert (u.last_run.tiles, u.last_run.tile_pad) == (12, 2)


# --- replacing steps ---


class Inverting(RealESRGANer):
    """As scripts change the steps: each calls the original's."""

    def pre_process(self, img: np.ndarray) -> None:
        super().pre_process(img)
        self.img = 1 - self.img

    def post_process(self) -> torch.Tensor:
        return 1 - super().post_process()


def test_replaced_steps_of_a_subclass_are_called_by_enhance() -> None:
    plain = upscaler(Doubled()).enhance(PIXELS)[0]
    found = Inverting(4, None, model=Doubled(), device="cpu", pre_pad=0).enhance(PIXELS)[0]
    expected = np.rint(255 - (255 - nearest(PIXELS).astype(np.float32)) * 0.5)
    assert np.abs(found - expected).max() <= 1 and not np.array_equal(found, plain)


@pytest.mark.parametrize("where", ["object", "class"])
def test_a_patched_tile_process_is_called(monkeypatch, where: str) -> None:
    u = upscaler(tile=16)
    expected = u.enhance(PIXELS)[0]
    calls: List[Any] = []

    def patched(self: Any) -> None:
        calls.append(tuple(self.img.shape))
        self.output = self.model(self.img)

    if where == "class":
        monkeypatch.setattr(RealESRGANer, "tile_process", patched)
    else:
        u.tile_process = lambda: patched(u)  # type: ignore[method-assign]
    found = u.enhance(PIXELS)[0]
    assert calls == [(1, 3, 23, 31)]
    assert np.abs(found.astype(int) - expected).max() <= 1
    u.tile_size = 0  # then it is process() that runs
    u.enhance(PIXELS)
    assert len(calls) == 1


@pytest.mark.parametrize("shape", [(23, 31), (23, 31, 3), (23, 31, 4)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("alpha", ["realesrgan", "bicubic"])
def test_the_steps_way_gives_what_the_quick_way_gives(shape: Any, kind: Any, alpha: str) -> None:
    pixels = np.random.default_rng(6).integers(0, np.iinfo(kind).max + 1, shape).astype(kind)
    u = upscaler(pre_pad=3)
    expected, mode = u.enhance(pixels, outscale=2.5, alpha_upsampler=alpha)
    u.process = u.process  # type: ignore[method-assign]
    found, found_mode = u.enhance(pixels, outscale=2.5, alpha_upsampler=alpha)
    assert found_mode == mode and found.dtype == expected.dtype and found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_steps_called_one_by_one() -> None:
    u = upscaler(Nearest(), pre_pad=5)
    unit = PIXELS[:, :, ::-1].astype(np.float32) / 255
    u.pre_process(unit)
    assert u.img.shape == (1, 3, 28, 36) and u.img.device.type == "cpu" and u.img.dtype == torch.float32
    u.process()
    output = u.post_process()
    np.testing.assert_array_equal((output[0].permute(1, 2, 0).numpy() * 255).round()[:, :, ::-1], nearest(PIXELS))
    u.tile_size = 10
    u.tile_process()
    np.testing.assert_array_equal(u.post_process().numpy(), output.numpy())


def test_a_batch_of_a_script_is_kept() -> None:
    u = upscaler(Nearest())
    u.img = torch.rand(3, 3, 8, 12)
    u.process()
    assert torch.equal(u.output, F.interpolate(u.img, scale_factor=4, mode="nearest"))


def test_steps_put_the_picture_on_the_device_in_its_precision(directml) -> None:
    u = upscaler(device="dml", half=True)
    u.pre_process(PIXELS.astype(np.float32) / 255)
    assert u.img.device.type == "privateuseone" and u.img.dtype == torch.float16
    u.process()
    assert u.output.device.type == "privateuseone" and u.output.shape == (1, 3, 92, 124)


# --- hooks, gradients ---


def test_hooks_and_a_replaced_forward_are_reached() -> None:
    u = upscaler(rrdb(4))
    expected = u.enhance(PIXELS)[0]
    seen: List[Any] = []
    handle = u.model.body[0].register_forward_hook(lambda module, args, out: seen.append(tuple(out.shape)))
    assert np.abs(u.enhance(PIXELS)[0].astype(int) - expected).max() <= 1
    assert seen == [(1, 8, 23, 31)]
    handle.remove()
    u.model.conv_last.register_forward_pre_hook(lambda module, args: seen.append("conv_last"))
    u.enhance(PIXELS)
    assert seen[1:] == ["conv_last"]
    own = u.model.forward
    u.model.forward = lambda x: own(x) * 0
    assert not u.enhance(PIXELS)[0].any()


def test_a_forward_patched_on_the_class_is_reached(monkeypatch) -> None:
    u = upscaler(rrdb(4))
    own = RRDBNet.forward
    monkeypatch.setattr(RRDBNet, "forward", lambda self, x: own(self, x) * 0)
    assert not u.enhance(PIXELS)[0].any()


def test_the_network_that_is_passed_in_is_used_and_stays_trainable() -> None:
    module = rrdb(4)
    u = upscaler(module)
    assert u.model is module
    before = u.enhance(PIXELS)[0]
    assert all(parameter.requires_grad for parameter in module.parameters())
    module(torch.rand(1, 3, 8, 8)).mean().backward()
    assert module.conv_first.weight.grad is not None
    with torch.no_grad():
        module.conv_last.bias.add_(0.1)
    after = u.enhance(PIXELS)[0]
    assert (after.astype(int) - before).mean() > 10


# --- subclasses without the constructor ---


class Bare(RealESRGANer):
    """Sets what the original's constructor sets, and calls no other."""

    def __init__(self, model: nn.Module) -> None:
        self.scale = 4
        self.tile_size = 0
        self.tile_pad = 10
        self.pre_pad = 0
        self.mod_scale = None
        self.half = False
        self.device = torch.device("cpu")
        self.model = model.eval().to(self.device)


class BareModelFirst(RealESRGANer):
    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.scale, self.device, self.half = 4, "cpu", False
        assert self.model is model


@pytest.mark.parametrize("kind", [Bare, BareModelFirst])
def test_a_subclass_without_super_init_works(kind: Any) -> None:
    u = kind(srvgg())
    expected = upscaler(pre_pad=u.pre_pad, tile_pad=10).enhance(PIXELS)[0]
    np.testing.assert_array_equal(u.enhance(PIXELS)[0], expected)
    assert u.describe()["model"] == "SRVGGNetCompact"
    u.pre_process(PIXELS.astype(np.float32) / 255)
    u.process()
    assert u.post_process().shape == (1, 3, 92, 124)


def test_a_subclass_without_a_network_says_so() -> None:
    class Empty(RealESRGANer):
        def __init__(self) -> None:
            self.scale = 4

    with pytest.raises(InputError, match=r"assign one to \.model"):
        Empty().enhance(PIXELS)


# --- as somebody else's upsampler ---


def test_as_gfpgans_background_upsampler() -> None:
    class Restorer:
        def __init__(self, upscale: float, bg_upsampler: Any) -> None:
            self.upscale, self.bg_upsampler = upscale, bg_upsampler

        def enhance(self, img: np.ndarray) -> np.ndarray:
            return self.bg_upsampler.enhance(img, outscale=self.upscale)[0]

    result = Restorer(2, upscaler()).enhance(PIXELS)
    assert result.shape == (46, 62, 3) and result.dtype == np.uint8


# --- arguments ---


@pytest.mark.parametrize(
    "arguments",
    [
        {"tile": "16"},
        {"tile": 16.0},
        {"tile": np.int64(16)},
        {"tile_pad": "4"},
        {"pre_pad": None},
        {"pre_pad": "0"},
        {"gpu_id": "0"},
        {"half": 0},
        {"dni_weight": [0.5, 0.5]},
    ],
)
def test_arguments_as_scripts_pass_them(arguments: Any) -> None:
    expected = upscaler().enhance(PIXELS)[0]
    assert np.abs(upscaler(**arguments).enhance(PIXELS)[0].astype(int) - expected).max() <= 1


def test_scale_as_a_float_and_a_tile_below_zero() -> None:
    u = RealESRGANer(4.0, None, model=Nearest(), tile=-1, device="cpu")  # type: ignore[arg-type]
    wide = PIXELS.repeat(20, 1)
    np.testing.assert_array_equal(u.enhance(wide)[0], nearest(wide))
    assert u.last_run.tiles == 1 and u.describe()["tile"] == 0


@pytest.mark.parametrize("arguments", [{"tile": "big"}, {"tile": 1.5}, {"pre_pad": []}, {"gpu_id": "x"}])
def test_arguments_that_are_no_numbers(arguments: Any) -> None:
    with pytest.raises(InputError, match="must be a whole number"):
        upscaler(**arguments)


@pytest.mark.parametrize(
    "array",
    [
        PIXELS.astype(np.int32),
        PIXELS.astype(np.int64),
        PIXELS.astype(np.float64),
        PIXELS.astype(">f4"),
        PIXELS.astype(np.float16),
        PIXELS.astype(np.uint32),
    ],
    ids=lambda array: array.dtype.str,
)
def test_other_types_of_numbers(array: np.ndarray) -> None:
    np.testing.assert_array_equal(upscaler(Nearest()).enhance(array)[0], nearest(PIXELS))


def test_big_endian_bool_and_one_channel() -> None:
    u = upscaler(Nearest())
    deep = (PIXELS.astype(np.uint16) * 257).astype(">u2")
    result, _ = u.enhance(deep)
    assert result.dtype == np.uint16 and np.array_equal(result, nearest(deep.astype(np.uint16)))
    mask = PIXELS[:, :, 0] > 127
    np.testing.assert_array_equal(u.enhance(mask)[0], nearest(mask.astype(np.uint8)))  # 0 and 1 of 255, as numbers are
    result, mode = u.enhance(PIXELS[:, :, :1])
    assert mode == "L" and np.array_equal(result, nearest(PIXELS[:, :, 0]))


@pytest.mark.parametrize("outscale", [1e308, float("inf"), 0, -2, "2"])
def test_an_outscale_that_cannot_be(outscale: Any) -> None:
    with pytest.raises(InputError, match="outscale is"):
        upscaler().enhance(PIXELS, outscale=outscale)


def test_an_exception_of_the_scripts_own_progress_passes_unchanged() -> None:
    class Stop(RuntimeError):
        pass

    stop = Stop("out of memory")  # the text must not be taken for a device's

    def progress(done: int, total: int) -> None:
        raise stop

    with pytest.raises(Stop) as caught:
        upscaler(tile=16).enhance(PIXELS, progress=progress)
    assert caught.value is stop


# --- padding smaller than what is reflected ---


def original_tiles(module: nn.Module, pixels: np.ndarray, tile: int, pad: int, pre_pad: int) -> np.ndarray:
    """What the original's arithmetic of tiles gives: the padded picture in tiles, the padding cut off at the end."""
    unit = torch.from_numpy(pixels[:, :, ::-1].astype(np.float32) / 255).permute(2, 0, 1)[None]
    unit = F.pad(unit, (0, pre_pad, 0, pre_pad), "reflect")
    height, width = unit.shape[2:]
    out = torch.zeros(1, 3, height * 4, width * 4)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            y0, x0 = max(top - pad, 0), max(left - pad, 0)
            with torch.no_grad():
                done = module(unit[:, :, y0 : min(bottom + pad, height), x0 : min(right + pad, width)])
            y, x = (top - y0) * 4, (left - x0) * 4
            out[:, :, top * 4 : bottom * 4, left * 4 : right * 4] = done[
                :, :, y : y + (bottom - top) * 4, x : x + (right - left) * 4
            ]
    out = out[0, :, : pixels.shape[0] * 4, : pixels.shape[1] * 4].clamp(0, 1).permute(1, 2, 0).numpy()
    return (out[:, :, ::-1] * 255).round().astype(np.uint8)


@pytest.mark.parametrize(("tile", "pad", "pre_pad"), [(10, 2, 6), (16, 0, 10), (12, 3, 3), (8, 6, 2)])
def test_tiles_see_what_the_originals_see(tile: int, pad: int, pre_pad: int) -> None:
    module = srvgg()
    found = upscaler(module, tile=tile, tile_pad=pad, pre_pad=pre_pad).enhance(PIXELS)[0]
    expected = original_tiles(module, PIXELS, tile, pad, pre_pad)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_other_sizes_are_reached_as_the_original_does() -> None:
    result, _ = upscaler(Nearest()).enhance(PIXELS, outscale=1.5)
    expected = cv2.resize(nearest(PIXELS), (46, 34), interpolation=cv2.INTER_LANCZOS4)
    np.testing.assert_array_equal(result, expected)
