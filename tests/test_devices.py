"""Which device is taken, what is said about those that are not, and what errors mean."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from typing import Any, List

import pytest
import torch

from realesrgan import devices, errors
from realesrgan.backends import base, windows
from realesrgan.cli import messages
from realesrgan.devices import Device, Listing, Note
from realesrgan.errors import DeviceError, InputError

CPU = Device("cpu", 0, "A processor")
CUDA = [Device("cuda", 0, "NVIDIA A", 8 * 2**30), Device("cuda", 1, "NVIDIA B", 8 * 2**30)]
RX_580 = Device("directml", 1, "Radeon RX 580 Series")
IGPU = Device("directml", 0, "AMD Radeon(TM) Graphics", integrated=True)


@pytest.fixture(autouse=True)
def fresh(monkeypatch) -> None:
    monkeypatch.delenv(devices.ENVIRONMENT, raising=False)
    found = devices._found
    found.cache_clear()
    errors.SAID.clear()
    yield
    found.cache_clear()


def machine(monkeypatch, *found: Device, notes: Any = ()) -> None:
    monkeypatch.setattr(devices, "available", lambda *names: Listing(tuple(found), tuple(notes)))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([RX_580, IGPU, *CUDA, CPU], RX_580),
        ([*CUDA, CPU], CUDA[0]),
        ([Device("xpu", 0, "Arc"), CPU], Device("xpu", 0, "Arc")),
        ([CPU], CPU),
        ([IGPU, CPU], IGPU),
        ([Device("directml", 0, "Microsoft Basic Render Driver", software=True), CPU], CPU),
    ],
)
def test_auto_takes_directml_then_cuda_then_the_cpu(monkeypatch, found, expected) -> None:
    machine(monkeypatch, *found)
    for request in (None, "auto", "AUTO"):
        assert devices.resolve(request) == expected


@pytest.mark.parametrize(
    ("request_", "gpu_id", "expected"),
    [
        ("directml", None, RX_580),
        ("dml", None, RX_580),
        ("dml:0", None, IGPU),
        ("privateuseone:0", None, IGPU),
        (None, 0, IGPU),
        (None, 1, RX_580),
        ("cuda", 0, CUDA[0]),
        ("cuda", 1, CUDA[1]),
        ("cuda:1", None, CUDA[1]),
        ("cuda:1", 1, CUDA[1]),
        (torch.device("cuda", 1), None, CUDA[1]),
        (torch.device("cpu"), None, CPU),
        ("cpu", None, CPU),
        ("cpu", 1, CPU),
    ],
)
def test_a_request_is_obeyed_and_0_means_0(monkeypatch, request_, gpu_id, expected) -> None:
    machine(monkeypatch, RX_580, IGPU, *CUDA, CPU)
    assert devices.resolve(request_, gpu_id) == expected


def test_the_environment_counts_when_nothing_is_asked_for(monkeypatch) -> None:
    machine(monkeypatch, RX_580, *CUDA, CPU)
    monkeypatch.setenv(devices.ENVIRONMENT, "cuda:1")
    assert devices.resolve() == CUDA[1]
    assert devices.resolve("cpu") == CPU
    assert devices.is_explicit(None)
    assert not devices.is_explicit("auto")
    monkeypatch.setenv(devices.ENVIRONMENT, "cuda:x")
    with pytest.raises(InputError, match=r"'cuda:x' \(from REALESRGAN_DEVICE\) is not known"):
        devices.resolve()


@pytest.mark.parametrize("wrong", ["dlm", "cuda:x", "auto:1", "vulcan", "cuda:-1"])
def test_an_unknown_name_lists_the_known_ones(monkeypatch, wrong) -> None:
    machine(monkeypatch, CPU)
    with pytest.raises(InputError, match=r"allowed are auto, directml"):
        devices.resolve(wrong)


def test_contradictions_and_negative_indices_are_refused(monkeypatch) -> None:
    machine(monkeypatch, *CUDA, CPU)
    with pytest.raises(InputError, match="contradicts"):
        devices.resolve("cuda:0", 1)
    with pytest.raises(InputError, match="0 or more"):
        devices.resolve("cuda", -1)


def test_what_is_not_there_is_an_error_that_lists_what_is(monkeypatch) -> None:
    machine(monkeypatch, *CUDA, CPU, notes=[Note("directml", "torch-directml is not installed", False)])
    with pytest.raises(DeviceError, match=r"directml is not available: torch-directml is not installed") as caught:
        devices.resolve("dml")
    assert "cuda:0 (NVIDIA A)" in str(caught.value)
    assert "pip install torch-directml" in str(caught.value)
    assert "pip install torch-directml" in messages.render(caught.value, "ko")
    with pytest.raises(DeviceError, match="cuda:7 is not available.* --device cuda:0") as caught:
        devices.resolve("cuda", 7)
    assert "--device cuda:0" in messages.render(caught.value, "ko")


def test_an_unfit_device_is_passed_over(monkeypatch) -> None:
    machine(monkeypatch, RX_580, IGPU, *CUDA, CPU)
    assert devices.resolve("auto", exclude=[RX_580, IGPU]) == CUDA[0]


BROKEN = [
    ({"import_error": "libd3d12"}, "libd3d12.so: cannot open shared object file"),
    ({"import_error": "symbol"}, "undefined symbol"),
    ({"import_error": "runtime"}, "RuntimeError"),
    ({"missing": ("device_count",)}, "device_count"),
    ({"missing": ("device_name",)}, "device_name"),
    ({"adapters": ()}, "no DirectX 12 adapter"),
]


@pytest.mark.parametrize(("options", "reason"), BROKEN)
def test_a_broken_torch_directml_is_passed_over_with_one_line(directml_with, caplog, options, reason) -> None:
    with directml_with(**options), caplog.at_level(logging.WARNING):
        assert devices.resolve("auto").backend != "directml"
        devices.resolve("auto")
        with pytest.raises(DeviceError, match="directml is not available"):
            devices.resolve("directml")
    passed = [record for record in caplog.records if record.notice_code == "device.passed_over"]
    # Outside of Linux, Vulkan is looked for next, and has a line too where ncnn finds no driver.
    lines = [record.getMessage() for record in passed if record.notice_fields["backend"] == "DirectML"]
    assert len(lines) == 1
    assert reason in lines[0]


def test_nothing_that_ends_the_process_is_asked_without_an_adapter(directml_with) -> None:
    with directml_with(adapters=()) as simulation:
        assert all(device.backend != "directml" for device in devices.available().devices)
        assert simulation.ended == []


def test_an_integrated_adapter_comes_last_and_names_lose_their_nul(directml_with) -> None:
    from directml_standin import integrated_first

    with directml_with(adapters=integrated_first()):
        found = [device for device in devices.available().devices if device.backend == "directml"]
        assert [device.integrated for device in found] == [False, True]
        assert all("\0" not in device.name for device in found)
        assert devices.resolve("auto") == found[0]
        assert devices.resolve("auto").index == 1
        assert devices.resolve(None, 0).integrated
        assert found[0].torch_device.type == "privateuseone"


@pytest.mark.parametrize(
    ("name", "integrated"),
    [
        ("Radeon RX 580 Series", False),
        ("RX 580 2048SP", False),
        ("Radeon RX Vega", False),
        ("Radeon (TM) RX 480 Graphics", False),
        ("AMD Radeon R7 200 Series", False),
        ("AMD Radeon RX 6600 XT", False),
        ("NVIDIA GeForce RTX 3060", False),
        ("Intel(R) Arc(TM) A770 Graphics", False),
        ("AMD Radeon(TM) Graphics", True),
        ("AMD Radeon Graphics", True),
        ("AMD Radeon(TM) R7 Graphics", True),
        ("AMD Radeon(TM) RX Vega 10 Graphics", True),
        ("Radeon Vega 8 Graphics", True),
        ("AMD Radeon 780M Graphics", True),
        ("Intel(R) UHD Graphics 630", True),
        ("Intel(R) HD Graphics 4600", True),
        ("Intel(R) Iris(R) Xe Graphics", True),
    ],
)
def test_names_tell_integrated_adapters(name, integrated) -> None:
    assert base.integrated_name(name) is integrated


def test_missing_torch_leaves_the_cpu_and_says_why(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    listing = devices.available()
    assert [device.backend for device in listing.devices if not device.software] == ["cpu"]
    assert {note.backend for note in listing.notes if note.reason == "PyTorch is not installed"} >= {"cuda", "xpu"}
    with pytest.raises(DeviceError, match=r"CPU needs PyTorch, which is not installed.*pip install torch") as caught:
        devices.resolve("cpu")
    assert "pip install ncnn" in messages.render(caught.value, "ko")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            RuntimeError("Could not allocate tensor with 9 bytes. There is not enough GPU video memory available!"),
            "memory",
        ),
        (RuntimeError("Unknown error -2147024882"), "memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 1.00 GiB"), "memory"),
        (RuntimeError("MPS backend out of memory"), "memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), "memory"),
        (MemoryError(), "memory"),
        (RuntimeError("Unknown error -2005270522"), "lost"),
        (RuntimeError("Unknown error -2005270523"), "lost"),
        (RuntimeError("Unknown error -2147467259"), "lost"),
        (RuntimeError("The GPU device instance has been suspended. Use GetDeviceRemovedReason"), "lost"),
        (RuntimeError("887A0005"), "lost"),
        (RuntimeError("887A0006"), "lost"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "lost"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "other"),
        (ValueError("x"), "other"),
        (KeyboardInterrupt(), "other"),
    ],
)
def test_errors_are_told_apart_by_their_texts(error, kind) -> None:
    assert devices.classify(error) == kind


class FakeRegistry:
    """winreg, as far as it is used: a tree of dictionaries."""

    HKEY_LOCAL_MACHINE = object()

    def __init__(self, adapters: List[Any]) -> None:
        self.adapters = adapters

    def OpenKey(self, root: Any, path: str) -> Any:
        if root is self.HKEY_LOCAL_MACHINE:
            return Key({"Configuration": {}, **{f"{i:04}": values for i, values in enumerate(self.adapters)}})
        values = root.values[path]
        if values is None:
            raise PermissionError("refused")
        return Key(values)

    def EnumKey(self, key: Any, index: int) -> str:
        names = list(key.values)
        if index >= len(names):
            raise OSError("no more")
        return names[index]

    def QueryValueEx(self, key: Any, name: str) -> Any:
        if name not in key.values:
            raise FileNotFoundError(name)
        return key.values[name], 0


class Key:
    def __init__(self, values: Any) -> None:
        self.values = values

    def __enter__(self) -> Key:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def test_memory_and_driver_come_from_the_registry(monkeypatch, directml_with) -> None:
    eight = 8 * 2**30
    registry = FakeRegistry(
        [
            {"DriverDesc": "AMD Radeon(TM) Graphics", "HardwareInformation.qwMemorySize": 512 * 2**20},
            None,
            {
                "DriverDesc": "Radeon RX 580 Series",
                "HardwareInformation.qwMemorySize": eight.to_bytes(8, "little"),
                "DriverVersion": "31.0.21921.1000",
            },
            {"DriverDesc": "No size"},
        ]
    )
    monkeypatch.setitem(sys.modules, "winreg", registry)
    assert [adapter.name for adapter in windows.adapters()] == [
        "AMD Radeon(TM) Graphics",
        "Radeon RX 580 Series",
        "No size",
    ]
    assert windows.total_memory("radeon rx 580 series ") == eight
    assert windows.total_memory("No size") is None
    with directml_with():
        device = devices.resolve("dml")
        assert (device.memory, device.driver) == (eight, "31.0.21921.1000")


def test_without_a_registry_nothing_is_known(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "winreg", None)
    assert windows.adapters() == []


def test_used_memory_is_asked_for_in_blocks(directml) -> None:
    device = devices.resolve("dml")
    before = devices.memory_used(device)
    held = torch.zeros(4, 1024, 1024, device=device.torch_device)
    assert devices.memory_used(device) >= before + held.numel() * 4


def test_used_memory_may_be_unknown(directml_with) -> None:
    with directml_with(gpu_memory="empty"):
        assert devices.memory_used(devices.resolve("dml")) is None


def test_a_spec_names_its_device(monkeypatch) -> None:
    machine(monkeypatch, RX_580, *CUDA, CPU)
    for device in (RX_580, *CUDA, CPU):
        assert devices.resolve(device.spec) == device
    assert replace(RX_580, index=0).spec == "directml:0"


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("Radeon RX 580 Series", True),
        ("AMD Radeon RX 580 Series (RADV POLARIS10)", True),
        ("AMD Radeon(TM) RX 580", True),
        ("AMD Radeon(TM) Graphics", False),
        ("NVIDIA GeForce RTX 3060", False),
    ],
)
def test_a_card_is_known_again_behind_another_backend(monkeypatch, name, same) -> None:
    cards = [Device("vulkan", 0, "llvmpipe", software=True), Device("vulkan", 1, name)]
    machine(monkeypatch, *cards)
    monkeypatch.setattr(
        devices, "available", lambda *names: Listing(tuple(card for card in cards if card.backend in names), ())
    )
    assert devices.same_card(RX_580) == (cards[1:] if same else [])
    assert devices.same_card(CUDA[0]) == []
    assert devices.same_card(CPU) == []
