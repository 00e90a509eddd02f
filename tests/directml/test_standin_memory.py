"""The stand-in takes the memory that the real torch-directml took, and runs out of it as the real one does."""

from __future__ import annotations

import importlib
import time

import pytest
import torch
import torch.nn.functional as F
from directml_standin import adapters
from shaped_like_x4plus import OneBlock

MB = 1_000_000


def device(index: int = 0) -> torch.device:
    return importlib.import_module("torch_directml").device(index)


def peak_of(simulation, net: OneBlock, tile: int, rows: int = 0) -> float:
    """MB at the peak of a tile run the original's way, or with the last stage in bands."""
    simulation.reset_peak()
    weight = next(net.parameters())
    with torch.no_grad():
        x = torch.zeros(1, 3, tile, tile).to(weight.device).to(weight.dtype)
        net.in_bands(x, rows) if rows else net(x)
    return simulation.peak[0] / MB


def test_memory_is_what_the_real_one_took(directml_with):
    with directml_with(adapters=adapters(None)) as simulation:
        net = OneBlock().to(device())
        assert peak_of(simulation, net, 64) == pytest.approx(146, rel=0.25)
        assert peak_of(simulation, net, 128) == pytest.approx(531, rel=0.25)
        assert peak_of(simulation, net, 64, rows=16) == pytest.approx(68, rel=0.25)
        assert peak_of(simulation, net, 128, rows=16) == pytest.approx(152, rel=0.25)


def test_half_takes_half_the_memory(directml_with):
    with directml_with(adapters=adapters(None)) as simulation:
        assert peak_of(simulation, OneBlock().to(device()).half(), 64) == pytest.approx(73, rel=0.25)


def test_bands_equal_the_whole_exactly_as_on_the_cpu(directml_with):
    torch.manual_seed(3)
    net, picture = OneBlock(), torch.rand(1, 3, 20, 12)
    with torch.no_grad():
        expected = net.in_bands(picture, 8)
        assert torch.allclose(net(picture), expected, atol=1e-5)
        with directml_with() as simulation:
            got = net.to(device()).in_bands(picture.to(device()), 8)
    assert torch.equal(got, expected) and simulation.traps == []


def test_memory_is_given_back(directml):
    x = torch.zeros(MB, device=device())
    taken = directml.taken[0]
    assert taken >= 4 * MB
    y = x + 1
    same = y.detach()
    assert directml.taken[0] == pytest.approx(2 * taken)
    del y
    assert directml.taken[0] == pytest.approx(2 * taken)
    del same, x
    assert directml.taken[0] == 0


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (
            "allocate",
            r"Could not allocate tensor with 40000000 bytes. There is not enough GPU video memory available!",
        ),
        ("unknown", r"Unknown error -2147024882"),
    ],
)
def test_out_of_memory(directml_with, kind, text):
    with directml_with(adapters=adapters(100 * MB), out_of_memory=kind, stuck_memory=False) as simulation:
        with pytest.raises(RuntimeError) as caught:
            torch.zeros(10 * MB, device=device())
        assert str(caught.value) == text
        assert torch.ones(MB, device=device()).sum().item() == MB  # smaller work runs on and is right
        assert simulation.out_of_memory == 1


def test_a_convolution_that_does_not_fit_is_refused_before_it_is_computed(directml_with):
    with directml_with(adapters=adapters(60 * MB), out_of_memory="allocate"):
        x = torch.zeros(1, 3, 256, 256).to(device())
        with pytest.raises(RuntimeError, match="allocate tensor with 16777216 bytes"):
            F.conv2d(x, torch.zeros(64, 3, 3, 3).to(device()), padding=1)


def test_out_of_memory_once_at_an_operation(directml_with):
    with directml_with(out_of_memory_at=5, out_of_memory="allocate", stuck_memory=False):
        x = torch.zeros(4).to(device())
        with pytest.raises(RuntimeError, match="Could not allocate"):
            for _ in range(9):
                x = x + 1
        assert (x + 1).cpu().tolist() == [3.0] * 4


def test_stuck_memory(directml_with):
    with directml_with(adapters=adapters(100 * MB)):
        held = torch.zeros(5 * MB, device=device())
        with pytest.raises(RuntimeError, match="-2147024882"):
            torch.zeros(5 * MB, device=device())
        del held
        for size in (5 * MB, MB, 10_000):  # however much smaller
            with pytest.raises(RuntimeError, match="-2147024882"):
                torch.zeros(size, device=device())
    with directml_with(adapters=adapters(100 * MB)):  # a new process has its memory back
        torch.zeros(5 * MB, device=device())


def test_each_adapter_has_its_own_memory(directml_with):
    with directml_with(adapters=adapters(10 * MB, 100 * MB), out_of_memory="allocate"):
        with pytest.raises(RuntimeError, match="Could not allocate"):
            torch.zeros(5 * MB, device=device(0))
        torch.zeros(5 * MB, device=device(1))


def test_spilling_is_slow_and_silent(directml_with):
    weight = torch.zeros(64, 64, 3, 3)
    seconds = []
    for memory in (100 * MB, 10 * MB):
        options = {"spill": True, "shared": 200 * MB, "out_of_memory": "allocate"}
        with directml_with(adapters=adapters(memory), **options) as simulation:
            F.conv2d(torch.zeros(1, 64, 32, 32).to(device()), weight.to(device()))
            held = torch.zeros(5 * MB, device=device())
            before = simulation.simulated_seconds
            F.conv2d(torch.zeros(1, 64, 32, 32).to(device()), weight.to(device()))
            seconds.append(simulation.simulated_seconds - before)
            del held
            assert (simulation.spills > 0) == (memory == 10 * MB)
            with pytest.raises(RuntimeError, match="Could not allocate"):
                torch.zeros(100 * MB, device=device())
    assert seconds[1] > 10 * seconds[0] > 0


def test_another_programs_memory_makes_equal_work_slow_and_smaller_work_quick_again(directml_with):
    """What a run over equal tiles sees when somebody opens a browser."""

    def work(side: int) -> float:
        begun = time.perf_counter()
        x = torch.zeros(1, 8, side, side).to(device())
        for _ in range(4):
            x = torch.cat((x, x), 1)[:, :8].contiguous()
        x.cpu()
        return time.perf_counter() - begun

    options = {"spill": True, "spill_sleep": 0.2, "elsewhere": 80 * MB}
    with directml_with(adapters=adapters(100 * MB)) as simulation:
        work(128)
        number, peak = simulation.operation_number, simulation.peak[0]
    assert 20 * MB < peak < 100 * MB
    with directml_with(adapters=adapters(100 * MB), elsewhere_from=2 * number, **options) as simulation:
        first, second, third = work(128), work(128), work(128)
        assert third > 3 * min(first, second) and simulation.spills > 0
        before = simulation.spills
        work(16)
        assert simulation.spills == before
    with directml_with(adapters=adapters(100 * MB), elsewhere=80 * MB, elsewhere_from=number):  # without spilling
        work(128)
        with pytest.raises(RuntimeError, match="-2147024882"):
            work(128)
