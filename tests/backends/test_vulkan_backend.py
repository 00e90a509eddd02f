"""The Vulkan backend with a stand-in for ncnn: what is found, what errors mean, what a process uses."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Tuple

import pytest

from realesrgan import devices
from realesrgan.archs.structure import rrdbnet, srvgg
from realesrgan.backends import vulkan
from realesrgan.backends.vulkan import Vulkan
from realesrgan.devices import Device
from realesrgan.errors import DeviceError

DISCRETE, INTEGRATED, VIRTUAL, SOFTWARE = range(4)
AMD, NVIDIA = 0x1002, 0x10DE


def fake(*adapters: Tuple[str, int, int]) -> Any:
    """ncnn with these adapters: name, type, memory budget in MB."""

    def info(index: int) -> Any:
        name, kind, _ = adapters[index]
        vendor = NVIDIA if "NVIDIA" in name else AMD
        version = 580 << 22 | 159 << 14 if vendor == NVIDIA else 24 << 22 | 3 << 12 | 1
        values = {"device_name": name, "type": kind, "vendor_id": vendor, "driver_version": version}
        return SimpleNamespace(**{key: lambda value=value: value for key, value in values.items()})

    def device(index: int) -> Any:
        return SimpleNamespace(get_heap_budget=lambda: adapters[index][2])

    return SimpleNamespace(get_gpu_count=lambda: len(adapters), get_gpu_info=info, get_gpu_device=device)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv(devices.ENVIRONMENT, raising=False)
    devices._found.cache_clear()
    yield
    devices._found.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, *adapters: Tuple[str, int, int]) -> None:
    monkeypatch.setitem(sys.modules, "ncnn", fake(*adapters))


MACHINE = [
    ("AMD Radeon(TM) Graphics", INTEGRATED, 512),
    ("Radeon RX 580 Series\0", DISCRETE, 8192),
    ("llvmpipe (LLVM 15.0.6, 256 bits)", SOFTWARE, 1024),
    ("NVIDIA GeForce RTX 3060", DISCRETE, 12288),
]


def test_adapters_are_listed_discrete_ones_first(monkeypatch) -> None:
    install(monkeypatch, *MACHINE)
    found = devices.available("vulkan").devices
    assert [device.index for device in found] == [1, 3, 0, 2]
    assert found[0] == Device("vulkan", 1, "Radeon RX 580 Series", 8192 * 2**20, driver="24.3.1")
    assert found[1].driver == "580.159.0"
    assert found[2].integrated and not found[2].software
    assert found[3].software
    assert devices.resolve("vulkan").spec == "vulkan:1"
    assert devices.resolve("vulkan:0").integrated
    assert devices.resolve("vk", 3).name == "NVIDIA GeForce RTX 3060"


def test_auto_uses_a_card_and_never_a_software_renderer(monkeypatch) -> None:
    monkeypatch.setattr(vulkan, "_NODES", ("null",))  # /dev/null: as if there were a graphics card
    install(monkeypatch, *MACHINE)
    for name in ("directml", "cuda", "xpu", "mps"):
        monkeypatch.setattr(devices.BACKENDS[name], "find", list)
    assert devices.resolve("auto").spec == "vulkan:1"
    devices._found.cache_clear()
    install(monkeypatch, MACHINE[2])
    assert devices.resolve("auto").backend == "cpu"
    assert devices.resolve("vulkan").software, "named, it is used"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev")
def test_without_a_graphics_card_auto_does_not_look_for_one(monkeypatch) -> None:
    monkeypatch.setattr(vulkan, "_NODES", ("no-such-node*",))

    def fail() -> List[Device]:
        raise AssertionError("asked")

    monkeypatch.setattr(Vulkan, "find", lambda self: fail())
    assert devices.resolve("auto").backend != "vulkan"
    assert not devices.may_be_lost("auto")


def test_a_card_behind_vulkan_is_isolated_unless_cuda_comes_first(monkeypatch) -> None:
    monkeypatch.setattr(vulkan, "_NODES", ("null",))
    install(monkeypatch)
    assert devices.may_be_lost("vulkan:1")
    assert devices.may_be_lost("auto")
    monkeypatch.setattr(devices.BACKENDS["cuda"], "certain", lambda: True)
    assert not devices.may_be_lost("auto")


@pytest.mark.parametrize(
    ("ncnn", "reason"),
    [
        (None, "ncnn is not installed"),
        (SimpleNamespace(), "built without Vulkan"),
        (fake(), "no graphics driver with Vulkan"),
    ],
)
def test_what_is_missing_is_said(monkeypatch, ncnn, reason) -> None:
    monkeypatch.setitem(sys.modules, "ncnn", ncnn)
    with pytest.raises(DeviceError, match=f"vulkan is not available: .*{reason}.*pip install ncnn"):
        devices.resolve("vulkan")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("vkAllocateMemory failed -2", "memory"),
        ("vkAllocateMemory failed -1", "memory"),
        ("VK_ERROR_OUT_OF_DEVICE_MEMORY", "memory"),
        ("vkQueueSubmit failed -4", "lost"),
        ("vkWaitForFences failed -4", "lost"),
        ("VK_ERROR_DEVICE_LOST", "lost"),
        ("vkCreateInstance failed -9", "other"),
    ],
)
def test_texts_of_vulkan(text, kind) -> None:
    assert devices.classify(RuntimeError(text)) == kind


@pytest.mark.parametrize(("status", "kind"), [(-100, "memory"), (-1, "lost"), (-7, "other")])
def test_return_codes_of_ncnn(status, kind) -> None:
    vulkan.check(0)
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        vulkan.check(status)
    assert devices.classify(caught.value) == kind


def test_memory_of_this_process_is_counted_once_a_client(monkeypatch, tmp_path: Path) -> None:
    amd = "drm-driver:\tamdgpu\ndrm-client-id:\t{}\ndrm-memory-vram:\t{} KiB\n"
    for name, text in [
        ("3", amd.format(7, 1000)),
        ("4", amd.format(7, 1000)),
        ("5", amd.format(9, 24)),
        ("6", "pos:\t0"),
    ]:
        (tmp_path / name).write_text(text, encoding="ascii")
    monkeypatch.setattr(vulkan, "_OPEN_FILES", tmp_path)
    assert devices.memory_used(Device("vulkan", 0, "Radeon RX 580 Series")) == 1024 * 1024
    assert devices.memory_used(Device("vulkan", 0, "llvmpipe", software=True)) is None
    monkeypatch.setattr(vulkan, "_OPEN_FILES", tmp_path / "nothing")
    assert devices.memory_used(Device("vulkan", 0, "Radeon RX 580 Series")) is None


def test_allocators_are_kept_until_they_are_freed_or_a_tile_fails(monkeypatch) -> None:
    made: List[object] = []

    def make(card: object) -> object:
        made.append(object())
        return made[-1]

    ncnn = SimpleNamespace(get_gpu_device=lambda index: index, VkBlobAllocator=make, VkStagingAllocator=make)
    monkeypatch.setitem(sys.modules, "ncnn", ncnn)
    monkeypatch.setattr(vulkan, "_idle", {})
    card = Device("vulkan", 5, "a card")
    with vulkan.allocators(card) as first, vulkan.allocators(card) as second:
        assert set(first).isdisjoint(second), "two tiles at the same time share nothing"
    with vulkan.allocators(card) as again:
        assert again in (first, second)
    devices.free(card)
    with pytest.raises(MemoryError), vulkan.allocators(card) as fresh:
        assert set(fresh).isdisjoint({*first, *second})
        raise MemoryError
    assert not vulkan._idle.get(5)


def test_lines_of_ncnn_on_the_standard_error_are_kept_away(capfd) -> None:
    import os

    with vulkan._quiet():
        os.write(2, b"[0 llvmpipe]  queueC=0\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


@pytest.mark.parametrize(
    ("network", "side", "pad", "half", "measured"),
    [
        (rrdbnet(4), 512, 32, True, 1294),
        (rrdbnet(4), 512, 10, True, 1221),
        (rrdbnet(4), 512, 32, False, 2499),
        (rrdbnet(4), 256, 32, True, 668),
        (rrdbnet(4), 128, 32, True, 478),
        (srvgg(4), 512, 18, True, 361),
        (srvgg(4), 512, 18, False, 635),
    ],
)
def test_the_memory_rule_beside_what_was_measured(network, side, pad, half, measured) -> None:
    """MiB on an NVIDIA H100: never less than measured, and at most a seventh more."""
    read = side + 2 * pad
    rule = Vulkan().tile_bytes(network, read, read, half) / 2**20
    assert measured <= rule <= 1.15 * measured
