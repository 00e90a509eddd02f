"""The stand-in does each known trap of torch-directml: right answers would make it useless."""

from __future__ import annotations

import copy
import importlib
import io

import pytest
import torch
import torch.nn.functional as F
from directml_standin import Adapter, ProcessEnded


def device() -> torch.device:
    return importlib.import_module("torch_directml").device()


@pytest.fixture()
def dml(directml) -> torch.device:
    return device()


def ramp(*shape: int) -> torch.Tensor:
    return torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape)


def numbers(simulation) -> set:
    return {trap.number for trap in simulation.traps}


def slice_of(host, tile):
    host[:, :, 1:3, 1:3] = tile


def first_of(host, tile):
    host[0] = F.pad(tile, (1, 1, 1, 1))[0]


def permuted(host, tile):
    host.permute(0, 1, 3, 2).copy_(F.pad(tile, (1, 1, 1, 1)))


def of_an_array(host, tile):
    torch.from_numpy(host.numpy()[:, :, 1:3, 1:3]).copy_(tile)


@pytest.mark.parametrize("paste", [slice_of, first_of, permuted, of_an_array])
def test_1_paste_into_a_view_of_the_host_is_lost(dml, directml, paste):
    host, tile = torch.zeros(1, 1, 4, 4), ramp(1, 1, 2, 2)
    paste(host, tile.to(dml))
    assert host.sum() == 0 and numbers(directml) == {1}
    paste(host, tile)
    assert host.sum() == 10
    whole = torch.zeros(1, 1, 2, 2)
    assert torch.equal(whole.copy_(tile.to(dml)), tile)


@pytest.mark.parametrize("amounts", [(0, 0, 0, 0), (0, 0)])
def test_2_padding_of_zero_width_is_garbage(dml, directml, amounts):
    x = ramp(1, 1, 2, 2)
    padded = F.pad(x.to(dml), amounts).cpu()
    assert padded.shape == x.shape and not torch.equal(padded, x)
    assert numbers(directml) == {2}
    assert torch.equal(F.pad(x.to(dml), (0, 1, 0, 0)).cpu(), F.pad(x, (0, 1, 0, 0)))


def test_3_reflection_swaps_the_shape_of_right_numbers(dml, directml):
    x = ramp(1, 1, 5, 5)
    padded, right = F.pad(x.to(dml), (0, 3, 0, 1), mode="reflect").cpu(), F.pad(x, (0, 3, 0, 1), mode="reflect")
    assert padded.shape == (1, 1, 8, 6) and right.shape == (1, 1, 6, 8)
    assert torch.equal(padded.flatten(), right.flatten())
    assert numbers(directml) == {3}


def test_4_bilinear_is_shifted(dml, directml):
    x = ramp(1, 1, 4, 4)
    got = F.interpolate(x.to(dml), scale_factor=2, mode="bilinear").cpu()
    row = torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0])
    assert torch.equal(got[0, 0], row + 4 * (row[:, None] - 1))
    assert numbers(directml) == {4}
    halved = F.interpolate(x.to(dml), scale_factor=0.5, mode="bilinear").cpu()
    assert torch.equal(halved[0, 0], x[0, 0, ::2, ::2])


def test_4_antialiased_bilinear_is_right_on_the_cpu(dml, directml):
    x = ramp(1, 1, 4, 4)
    with pytest.warns(UserWarning, match="_upsample_bilinear2d_aa"):
        got = F.interpolate(x.to(dml), scale_factor=2, mode="bilinear", antialias=True)
    assert torch.equal(got.cpu(), F.interpolate(x, scale_factor=2, mode="bilinear", antialias=True))


def test_5_a_view_with_an_offset_in_a_row_is_stale(dml, directml):
    x = ramp(1, 4).to(dml)
    y = x[:, 1:3]
    before = y.cpu()
    assert directml.traps == []
    x.add_(1)
    assert torch.equal(y.cpu(), before) and numbers(directml) == {5}
    y.mul_(0)  # written back, over the newer numbers too
    assert torch.equal(x[:, 1:3].cpu(), torch.zeros_like(before))


LIVE = {
    "narrow": lambda x: x.narrow(1, 1, 2),
    "view": lambda x: x.view(2, 2),
    "reshape": lambda x: x.reshape(4),
    "unsqueeze": lambda x: x.unsqueeze(0),
    "select": lambda x: x.select(1, 2),
    "T": lambda x: x.T,
    "rows": lambda x: x[:1],
    "from the start": lambda x: x[:, :2],
    "unbind": lambda x: x.unbind(1)[1],
}


@pytest.mark.parametrize("name", sorted(LIVE))
def test_5_other_views_are_live(dml, directml, name):
    x = ramp(1, 4).to(dml)
    y = LIVE[name](x)
    before = y.cpu()
    x.add_(1)
    assert torch.equal(y.cpu(), before + 1)
    y.mul_(0)
    assert torch.equal(LIVE[name](x).cpu(), torch.zeros_like(before)) and directml.traps == []


def test_5_a_view_of_what_has_not_changed_is_not_stale(dml, directml):
    x = ramp(1, 4).to(dml)
    y = x[:, :2]
    x[:, 2:] = 0
    assert torch.equal(y.cpu(), ramp(1, 2)) and directml.traps == []


@pytest.mark.parametrize("cut", [lambda x: x.split(2, 1), lambda x: x.chunk(2, 1)])
def test_5_writing_to_pieces_is_lost(dml, directml, cut):
    x = ramp(1, 4).to(dml)
    piece = cut(x)[0]
    piece.add_(10)
    assert torch.equal(x.cpu(), ramp(1, 4)) and piece.cpu().flatten()[0] == 11
    assert numbers(directml) == {5}


def test_6_full_is_float64(dml, directml):
    assert torch.full((2,), 0.5, device=dml).dtype == torch.float64
    assert numbers(directml) == {6}
    assert torch.full((2,), 0.5, device=dml, dtype=torch.float32).dtype == torch.float32


def test_6_var_of_everything_is_biased(dml, directml):
    x = ramp(2, 3)
    assert torch.equal(x.to(dml).var(1).cpu(), x.var(1)) and directml.traps == []
    assert torch.equal(x.to(dml).var().cpu(), x.var(unbiased=False))
    assert numbers(directml) == {6}


def test_6_sizes_are_cut(directml_with):
    with directml_with(cut_at=64) as simulation:
        x = torch.cat([ramp(10), ramp(10)]).to("cpu")
        on_device = ramp(10).to(device())
        got = torch.cat([on_device, on_device]).cpu()
    assert torch.equal(got[:4], x[:4]) and not torch.equal(got[4:], x[4:])
    assert numbers(simulation) == {6}


ENDINGS = {
    "prelu": lambda x: F.prelu(x, torch.ones(2).to(x.device)),
    "prelu module": lambda x: torch.nn.PReLU(2).to(x.device)(x),
    "bfloat16": lambda x: x.to(torch.bfloat16),
    "bfloat16 from the host": lambda x: torch.zeros(2, dtype=torch.bfloat16).to(x.device),
    "bfloat16 made": lambda x: torch.zeros(2, dtype=torch.bfloat16, device=x.device),
    "complex": lambda x: torch.zeros(2, dtype=torch.complex64).to(x.device),
    "uint16": lambda x: torch.zeros(2, dtype=torch.uint16).to(x.device),
    "uint32": lambda x: torch.zeros(2, dtype=torch.uint32, device=x.device),
    "uint64": lambda x: torch.zeros(2, dtype=torch.uint64).to(x.device),
    "flip": lambda x: x.flip(-1),
    "fliplr of a list": lambda x: x.flip([1, -2]),
}


@pytest.mark.parametrize("name", sorted(ENDINGS))
def test_7_and_8_end_the_process(dml, directml, name):
    x = ramp(1, 2, 3, 3).to(dml)
    with pytest.raises(ProcessEnded):
        try:
            ENDINGS[name](x)
        except Exception:
            pytest.fail("code of ours could have caught it")
    assert numbers(directml) == {7 if name.startswith("prelu") else 8}
    with pytest.raises(ProcessEnded):  # there is no life afterwards
        x + 1
    directml.forgive()


def test_7_one_parameter_or_fewer_dimensions_are_right(dml):
    x = ramp(1, 2, 3, 3) - 9
    assert torch.equal(F.prelu(x.to(dml), torch.tensor([0.5]).to(dml)).cpu(), F.prelu(x, torch.tensor([0.5])))
    w = torch.tensor([0.5, 0.25])
    columns = x[0, :, 0].T.contiguous()
    assert torch.equal(F.prelu(columns.to(dml), w.to(dml)).cpu(), F.prelu(columns, w))


def test_a_swallowed_end_fails_the_test(directml_with):
    with pytest.raises(pytest.fail.Exception, match="ended the process"), directml_with():
        try:
            torch.zeros(2, 2).to(device()).flip(-1)
        except BaseException:
            pass


def test_8_uint16_converted_on_the_way_works(dml, directml):
    assert torch.tensor([1, 65535], dtype=torch.uint16).to(dml, torch.float32).cpu().tolist() == [1.0, 65535.0]
    assert directml.traps == []


def test_9_inference_mode_refuses_indexing_alone(dml, directml):
    x = torch.ones(2).to(dml)
    with torch.inference_mode():
        assert ((torch.ones(2).to(dml) + torch.ones(2, device=dml)) * x).cpu().tolist() == [2.0, 2.0]
        assert directml.traps == []
        with pytest.raises(RuntimeError, match="Cannot set version_counter for inference tensor"):
            _ = x[0]
    assert numbers(directml) == {9}
    with torch.no_grad():
        assert x[0].item() == 1.0


def test_10_load_onto_it(dml, directml):
    stream = io.BytesIO()
    torch.save({"weight": ramp(2)}, stream)
    for place in (dml, str(dml)):
        stream.seek(0)
        with pytest.raises(TypeError):
            torch.load(stream, map_location=place, weights_only=True)
    assert numbers(directml) == {10}
    stream.seek(0)
    assert torch.load(stream, map_location="cpu", weights_only=True)["weight"].tolist() == [1, 2]


REFUSED = {
    "numpy": lambda x: x.numpy(),
    "array": lambda x: __import__("numpy").asarray(x),
    "from_dlpack": lambda x: torch.from_dlpack(x),
    "data_ptr": lambda x: x.data_ptr(),
    "pin_memory": lambda x: x.pin_memory(),
    "pin_memory when made": lambda x: torch.empty(2, device=x.device, pin_memory=True),
}
CHANNELS_LAST = {
    "to": lambda x: x.to(memory_format=torch.channels_last),
    "upload": lambda x: x.cpu().to(x.device, memory_format=torch.channels_last),
    "module": lambda x: torch.nn.Conv2d(2, 3, 3).to(x.device).to(memory_format=torch.channels_last),
    "empty": lambda x: torch.empty(1, 2, 3, 3, device=x.device, memory_format=torch.channels_last),
    "empty_like": lambda x: torch.empty_like(x, memory_format=torch.channels_last),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_11_refused(dml, name):
    x = ramp(1, 2, 3, 3).to(dml)
    with pytest.raises((RuntimeError, TypeError, ValueError, BufferError, AssertionError)):
        REFUSED[name](x)


@pytest.mark.parametrize("name", sorted(CHANNELS_LAST))
def test_11_channels_last(dml, directml, name):
    with pytest.raises(RuntimeError, match="'memory_format' argument is must be Contiguous for DML tensors"):
        CHANNELS_LAST[name](ramp(1, 2, 3, 3).to(dml))
    assert numbers(directml) == {11}


def test_11_contiguous_accepts_any_layout(dml, directml):
    x = ramp(1, 2, 3, 3).to(dml)
    assert torch.equal(x.contiguous(memory_format=torch.channels_last).cpu(), ramp(1, 2, 3, 3))
    assert directml.traps == []


def test_11_autocast_is_entered_and_a_convolution_inside_raises(dml, directml):
    x, weight = ramp(1, 2, 3, 3).to(dml), torch.ones(1, 2, 3, 3).to(dml)
    with torch.autocast("privateuseone", dtype=torch.float16), pytest.raises(NotImplementedError):
        F.conv2d(x, weight)
    assert F.conv2d(x, weight).item() == sum(range(1, 19))


def test_10_a_saved_tensor_does_not_load_with_weights_only(dml):
    stream = io.BytesIO()
    torch.save({"weight": ramp(2).to(dml)}, stream)
    stream.seek(0)
    with pytest.raises(Exception, match="(?i)weights.?only|unsupported"):
        torch.load(stream, weights_only=True)


def test_12_printing_without_float64(directml_with):
    with directml_with(adapters=[Adapter(float64=False)]):
        x = torch.ones(2).to(device())
        for show in (repr, str, "{}".format):
            with pytest.raises(RuntimeError, match="Float64"):
                show(x)
        with pytest.raises(RuntimeError, match="Float64"):
            x.double()
    with directml_with():
        assert repr(torch.ones(2).to(device())) == "tensor([1., 1.], device='privateuseone:0')"


LACKING = {
    "roll": lambda x: x.roll(1, 2),
    "std": lambda x: x.std(),
    "nan_to_num": lambda x: x.nan_to_num(),
    "lerp": lambda x: torch.lerp(x, x * 2, 0.5),
    "median": lambda x: x.median(),
    "grid_sampler_2d": lambda x: F.grid_sample(x, torch.zeros(1, 2, 2, 2).to(x.device), align_corners=True),
    "mish": lambda x: F.mish(x),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 2),
}


@pytest.mark.parametrize("name", sorted(LACKING))
def test_13_lacking_operators_run_on_the_cpu_with_one_warning(dml, directml, name):
    x = ramp(1, 2, 4, 4)
    with pytest.warns(UserWarning, match=f"'aten::{name}' is not currently supported on the DML backend"):
        got = LACKING[name](x.to(dml))
    assert torch.equal(got.cpu(), LACKING[name](x))
    LACKING[name](x.to(dml))  # no second warning: warnings are errors here
    assert directml.fallbacks[name] == 2


def test_14_a_copy_keeps_its_strides_and_prelu_misreads_them(dml, directml):
    x = (ramp(1, 3, 2, 4) - 12).permute(0, 3, 1, 2)
    there = x.to(dml)
    assert there.stride() == x.stride()
    assert torch.equal((there * 2).cpu(), x * 2) and directml.traps == []
    slope = torch.tensor([0.5])
    assert not torch.equal(F.prelu(there, slope.to(dml)).cpu(), F.prelu(x, slope))
    assert numbers(directml) == {14}
    assert torch.equal(F.prelu(there.contiguous(), slope.to(dml)).cpu(), F.prelu(x, slope))


def test_a_slice_brings_all_that_is_behind_it(dml, directml):
    x = torch.zeros(1, 4, 100, 100).to(dml)
    x[:1, :1, :1, :1].cpu()
    assert (directml.read_backs, directml.fetched) == (1, 160_000)
    (torch.zeros(1, device=dml) + 1).cpu()
    assert (directml.read_backs, directml.fetched) == (2, 160_004)


def test_work_is_submitted_every_thirteen_operators(dml, directml):
    x = torch.zeros(4).to(dml)
    before = directml.submissions
    for _ in range(40):
        x = x + 1
    assert directml.submissions - before == 3
    x.cpu()
    assert directml.submissions - before == 4


def test_a_copied_module_is_its_own(dml):
    net = torch.nn.Linear(2, 2).to(dml)
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.weight.zero_()
    assert net.weight.abs().sum().item() > 0
