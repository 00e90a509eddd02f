"""The stand-in for torch-directml computes what the CPU computes, and is gone afterwards."""

from __future__ import annotations

import copy
import importlib
import sys
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from directml_standin import Adapter, integrated_first
from torch import nn


def device(index: int = 0) -> torch.device:
    return importlib.import_module("torch_directml").device(index)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.5


@pytest.fixture()
def dml(directml) -> torch.device:
    return device()


def same(function, *tensors: torch.Tensor) -> None:
    """`function` gives the very same numbers on the device as on the CPU."""
    with torch.no_grad():
        expected = function(*tensors)
        got = function(*(t.to("privateuseone:0") for t in tensors))
    if isinstance(expected, torch.Tensor):
        assert got.device == torch.device("privateuseone:0")
        assert got.shape == expected.shape and got.dtype == expected.dtype
        got = got.cpu()
        assert type(got) is torch.Tensor
        torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)
    else:
        assert got == expected


OPERATIONS = {
    "conv2d": lambda x: F.conv2d(x, rand(5, 4, 3, 3, seed=1).to(x.device), rand(5, seed=2).to(x.device), padding=1),
    "grouped convolution": lambda x: F.conv2d(x, rand(4, 2, 3, 3, seed=1).to(x.device), groups=2, stride=2),
    "transposed convolution": lambda x: F.conv_transpose2d(x, rand(4, 3, 3, 3, seed=1).to(x.device), stride=2),
    "convolution of a row": lambda x: F.conv1d(x[0], rand(2, 6, 3, seed=1).to(x.device), padding=2, dilation=2),
    "scaled addition": lambda x: torch.add(x, x, alpha=0.2),
    "einsum": lambda x: torch.einsum("nchw,nchw->nc", x, x),
    "rsqrt": lambda x: torch.rsqrt(x.square().sum([2, 3]) + 1e-8),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "leaky_relu in place": lambda x: F.leaky_relu(x.clone(), 0.2, inplace=True),
    "prelu of one parameter": lambda x: F.prelu(x, torch.tensor([0.3]).to(x.device)),
    "cat": lambda x: torch.cat([x, x * 2], 1),
    "nearest": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "bicubic": lambda x: F.interpolate(x, size=(7, 9), mode="bicubic"),
    "bilinear with aligned corners": lambda x: F.interpolate(x, size=(7, 9), mode="bilinear", align_corners=True),
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
    "clamp": lambda x: x.clamp(-0.1, 0.2),
    "clamp in place": lambda x: x.clone().clamp_(-0.1, 0.2),
    "round": lambda x: (x * 255).round(),
    "uint8": lambda x: (x * 255).clamp(0, 255).round().to(torch.uint8),
    "half": lambda x: x.half(),
    "float": lambda x: x.half().float(),
    "isfinite": lambda x: torch.isfinite(x / 0).all().item(),
    "isfinite tensor": lambda x: torch.isfinite(x),
    "amax": lambda x: x.amax(),
    "amax dims": lambda x: x.amax((2, 3)),
    "slice": lambda x: x[:, 1:3, ..., 2:],
    "select": lambda x: x[0, -1],
    "none": lambda x: x[None, :, 0],
    "mask": lambda x: x[x > 0],
    "tensor index": lambda x: x[:, torch.tensor([2, 0])],
    "channel swap": lambda x: x[:, [2, 1, 0]],
    "permute": lambda x: x.permute(0, 2, 3, 1).contiguous(),
    "where": lambda x: torch.where(x >= 0, x, x * torch.arange(4.0).to(x.device).view(1, -1, 1, 1)),
    "matmul": lambda x: x @ x.transpose(-1, -2),
    "linear": lambda x: F.linear(x, rand(3, 6, seed=3).to(x.device), rand(3, seed=4).to(x.device)),
    "flip": lambda x: x.flip(3),
    "constant padding": lambda x: F.pad(x, (0, 2, 1, 0)),
    "equal reflection": lambda x: F.pad(x, (1, 2, 1, 2), mode="reflect"),
    "sum": lambda x: x.sum(1, keepdim=True),
    "mean": lambda x: x.mean(),
    "item": lambda x: x.max().item(),
    "comparison": lambda x: bool((x == x).all()),
    "tolist": lambda x: x[0, 0].tolist(),
    "expand": lambda x: x[:, :1].expand(-1, 3, -1, -1),
    "reshape": lambda x: x.reshape(1, -1).view(4, -1),
    "new_zeros": lambda x: x.new_zeros(2, 3) + torch.ones_like(x).sum(),
    "group_norm": lambda x: F.group_norm(x, 2),
    "softmax": lambda x: x.softmax(1),
    "stack": lambda x: torch.stack([x, x]),
    "unbind": lambda x: sum(x.unbind(1)),
    "iteration": lambda x: sum(c.sum() for c in x[0]),
    "numbers of a view": lambda x: x[:, 1:3] * 2 + x.permute(0, 1, 3, 2)[:, 1:3].mT,
}


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_equals_the_cpu(dml, directml, name):
    same(OPERATIONS[name], rand(1, 4, 6, 6))
    assert directml.traps == []


@pytest.mark.parametrize(
    "make",
    [
        lambda **k: torch.zeros(2, 3, **k),
        lambda **k: torch.ones(2, 3, dtype=torch.half, **k),
        lambda **k: torch.tensor([[1.0, 2.0]], **k),
        lambda **k: torch.arange(5, **k),
        lambda **k: torch.full((2,), 0.5, dtype=torch.float32, **k),
        lambda **k: torch.full((2,), 5, **k),
        lambda **k: torch.linspace(0, 1, 5, **k),
        lambda **k: torch.eye(3, **k),
        lambda **k: torch.from_numpy(np.arange(6, dtype=np.uint8).reshape(2, 3)).to(k.get("device", "cpu")),
    ],
)
def test_makes_tensors(dml, make):
    made, expected = make(device=dml), make()
    assert made.device == dml and made.dtype == expected.dtype
    assert torch.equal(made.cpu(), expected)


def test_device_is_called_privateuseone(dml):
    assert dml.type == "privateuseone" and str(torch.zeros(1).to(dml).device) == "privateuseone:0"
    assert torch.zeros(1, device="privateuseone").device == dml
    assert torch.randn(3, device=dml).device == dml


def test_tensors_of_another_layout_can_be_moved(dml):
    image = torch.from_numpy(np.arange(24, dtype=np.float32).reshape(2, 4, 3)).permute(2, 0, 1).unsqueeze(0)
    moved = image.to(dml)
    assert torch.equal(moved.cpu(), image) and torch.equal((moved * 2).cpu(), image * 2)
    sliced = image[..., 1:3]
    assert torch.equal(sliced.to(dml).cpu(), sliced)
    assert torch.equal(sliced.to(dml, torch.half).cpu(), sliced.half())


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.two = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(F.relu(self.norm(self.one(x))))


def test_modules_move_and_convert(dml):
    torch.manual_seed(1)
    net = Net().eval()
    picture = rand(1, 3, 5, 6)
    with torch.no_grad():
        expected = net(picture)
        moved = copy.deepcopy(net).to(dml)
        assert all(isinstance(p, nn.Parameter) and p.device == dml for p in moved.parameters())
        assert torch.equal(moved(picture.to(dml)).cpu(), expected)
        second = copy.deepcopy(moved)
        second.half()
        assert {p.dtype for p in second.parameters()} == {torch.half}
        assert {p.dtype for p in moved.parameters()} == {torch.float32}
        close = second(picture.to(dml).half()).float().cpu()
        assert 0 < (close - expected).abs().max() < 5e-3
        second.float()
        second.load_state_dict(net.state_dict())
        assert torch.equal(second(picture.to(dml)).cpu(), expected)
        back = Net().eval()
        back.load_state_dict(second.state_dict())
        assert torch.equal(back(picture), expected)
        assert torch.equal(second.cpu()(picture), expected)


def test_half_is_fp32_rounded_at_each_operation(dml):
    x, w = rand(1, 4, 9, 9).half(), rand(5, 4, 3, 3, seed=1).half()
    got = F.conv2d(x.to(dml), w.to(dml), padding=1).cpu()
    assert torch.equal(got, F.conv2d(x.float(), w.float(), padding=1).half())


def test_writes_through_slices_are_right(dml):
    x, expected = torch.zeros(1, 4, 4, 4, device=dml), torch.zeros(1, 4, 4, 4)
    for target in (x, expected):
        other = rand(1, 2, 4, 4).to(target.device)
        target[:, 1:3] = other
        target[:, 1:3] += other
        target[:, 0].add_(3)
        target[0][1][2:] = 7
        target[target > 6] = -1
        target.permute(0, 2, 3, 1)[..., 3].copy_(other[:, 0])
    assert torch.equal(x.cpu(), expected)


def test_nan_turned_into_uint8_is_255(dml):
    assert torch.tensor([float("nan"), 3.0]).to(dml).to(torch.uint8).cpu().tolist() == [255, 3]


def test_threads_work(dml):
    results = []
    thread = threading.Thread(target=lambda: results.append((torch.ones(3).to(dml) * 2).cpu().tolist()))
    thread.start()
    thread.join()
    assert results == [[2.0, 2.0, 2.0]]


def test_every_operation_is_recorded(dml, directml):
    x = torch.zeros(1, 3, 8, 8).to(dml)
    F.conv2d(x.half(), torch.zeros(4, 3, 3, 3).to(dml).half())
    last = directml.operations[-1]
    assert (last.name, last.shapes, last.dtype) == ("convolution", ((1, 3, 8, 8), (4, 3, 3, 3)), "torch.float16")
    assert directml.counts["convolution"] == 1 and directml.read_backs == 0
    x.cpu()
    assert directml.read_backs == 1


def test_two_adapters(directml_with):
    with directml_with(adapters=integrated_first()):
        module = importlib.import_module("torch_directml")
        assert module.device_count() == 2
        assert module.device_name(0).startswith("AMD Radeon(TM) Graphics")
        x = torch.ones(2).to(module.device(1))
        assert x.device.index == 1 and (x + 1).device.index == 1
        with pytest.raises(RuntimeError, match="same device"):
            _ = x + torch.ones(2).to(module.device(0))
        assert x.to(module.device(0)).device.index == 0


def test_host_tensors_are_refused_in_operations(dml):
    with pytest.raises(RuntimeError, match="unbox expects Dml"):
        _ = torch.ones(2).to(dml) + torch.ones(2)
    assert (torch.ones(2).to(dml) + torch.tensor(1.0)).cpu().tolist() == [2.0, 2.0]


def test_nothing_is_left_behind(directml_with):
    path = list(sys.path)
    real = importlib.util.find_spec("torch_directml")  # None, unless the real package is installed
    with directml_with(adapters=[Adapter(memory=None)]) as simulation:
        x = torch.ones(2).to(device())
    assert sys.path == path and "torch_directml" not in sys.modules
    assert not hasattr(torch, "privateuseone") and "torch.privateuseone" not in sys.modules
    after = importlib.util.find_spec("torch_directml")
    assert getattr(after, "origin", None) == getattr(real, "origin", None)
    with pytest.raises((NotImplementedError, ModuleNotFoundError)):  # which of them depends on torch's version
        torch.ones(2, device="privateuseone:0")
    with pytest.raises(RuntimeError, match="removed"):
        x + 1
    assert simulation.ended == []
