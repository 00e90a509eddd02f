"""The stand-in's lost devices, its FP16, and the ways in which the package may be broken."""

from __future__ import annotations

import importlib
import importlib.util
import json

import pytest
import torch
import torch.nn.functional as F
from directml_standin import LOST_TEXTS, Adapter, Options, ProcessEnded, integrated_first


def module():
    return importlib.import_module("torch_directml")


def device(index: int = 0) -> torch.device:
    return module().device(index)


# --- losing the device ---


@pytest.mark.parametrize("kind", sorted(LOST_TEXTS))
def test_lost_after_some_operations(directml_with, kind):
    with directml_with(lost_after=10, lost=kind) as simulation:
        x, done = torch.zeros(1).to(device()), 0
        with pytest.raises(RuntimeError) as caught:
            for _ in range(99):
                x, done = x + 1, done + 1
        assert str(caught.value) == LOST_TEXTS[kind] and done > 5
        for use in (lambda: x + 1, lambda: x.cpu(), lambda: torch.ones(1).to(device()), lambda: x[0], lambda: repr(x)):
            with pytest.raises(RuntimeError) as caught:
                use()
            assert str(caught.value) == LOST_TEXTS[kind]
        assert module().is_available() is True and module().device_count() == 1
        assert simulation.lost is not None


def test_lost_once_for_all_processes(directml_with, tmp_path):
    options = {"lost_after": 0, "once": str(tmp_path / "lost")}
    with directml_with(**options), pytest.raises(RuntimeError, match="-2005270523"):
        torch.zeros(1).to(device())
    with directml_with(**options):
        torch.zeros(1).to(device())


def test_watchdog(directml_with):
    def work(read_back: bool) -> None:
        x, weight = torch.zeros(1, 8, 16, 16).to(device()), torch.zeros(8, 8, 3, 3).to(device())
        for _ in range(6):  # 0.3 MFLOP each
            x = F.conv2d(x, weight, padding=1)
            if read_back:
                x[0, 0, 0, 0].item()

    with directml_with(watchdog_flops=1e6) as simulation:
        work(True)
        assert simulation.largest_submission == 2 * 9 * 8 * 8 * 256
        with pytest.raises(RuntimeError, match="-2005270523"):
            work(False)


# --- FP16 ---


def convolved(x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, torch.ones(1, 1, 1, 1).to(x.device).to(x.dtype))


@pytest.mark.parametrize(
    ("half", "check"),
    [
        ("exact", lambda out: out.eq(1).all()),
        ("nan", lambda out: out.isnan().all()),
        ("black", lambda out: out.eq(0).all()),
        ("off", lambda out: out.eq(1.0625).all()),
    ],
)
def test_half_faults(directml_with, half, check):
    with directml_with(half=half, half_from=2) as simulation:
        x = torch.ones(1, 1, 4, 4).to(device())
        for _ in range(2):
            assert torch.equal(convolved(x.half()).float().cpu(), torch.ones(1, 1, 4, 4))
        assert check(convolved(x.half()).cpu())
        assert torch.equal(convolved(x).cpu(), torch.ones(1, 1, 4, 4))  # FP32 is never touched
        assert torch.equal(x.half().float().cpu(), torch.ones(1, 1, 4, 4))  # nor are conversions
        assert simulation.half_convolutions == 3


def test_black_is_black_behind_an_added_picture_too(directml_with):
    with directml_with(half="black"):
        x = torch.ones(1, 1, 4, 4).to(device()).half()
        assert (convolved(x) + x).cpu().sum() == 0
        assert convolved(x).add_(x).cpu().sum() == 0


def test_events_are_written_down(directml_with, tmp_path):
    record = tmp_path / "record.jsonl"
    with directml_with(record=str(record), out_of_memory_at=6, lost_after=6):
        x = torch.zeros(2).to(device())
        for _ in range(3):
            x = x + 1
        for text in ("-2147024882", "-2005270523"):
            with pytest.raises(RuntimeError, match=text):
                x + 1
    seen = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    assert [e["event"] for e in seen] == ["imported", "opened", "out of memory", "lost", "exit"]


# --- finding it ---


def test_names_and_counts(directml_with):
    with directml_with(adapters=[Adapter(), Adapter("Intel(R) UHD Graphics 630")]):
        assert module().device_name(0) == "Radeon RX 580 Series\0"
        assert module().device_name(1) == "Intel(R) UHD Graphics 630"
        assert module().device_name(2) == module().device_name(-1) == ""
        assert module().default_device() == 0 and module().device() == device(0)
        assert module().has_float64_support(0) is True
    assert integrated_first()[0].name.startswith("AMD Radeon(TM) Graphics")


def test_gpu_memory(directml_with):
    with directml_with():
        module().disable_tiled_resources(False)
        before = module().gpu_memory(0)
        held = torch.zeros(10 * 2**20, device=device())
        after = module().gpu_memory(0)
        assert len(after) - len(before) >= 40 and all(0 < f <= 1 for f in after)
        assert len(module().gpu_memory(0, mb_per_tile=16)) < len(after) / 8
        module().disable_tiled_resources(True)
        assert module().gpu_memory(0) == []
        del held
    with directml_with(gpu_memory="empty"):
        assert module().gpu_memory() == []


def test_without_adapters(directml_with):
    with directml_with(adapters=()) as simulation:
        assert module().is_available() is False and module().device_count() == 0
        assert module().device_name(0) == ""
        assert module().device() == torch.device("privateuseone:0")
        with pytest.raises(
            Exception, match=r"^Invalid device_id argument supplied 0\. .* in range \[0, 0\)\.$"
        ) as error:
            module().device(0)
        assert type(error.value) is Exception
        uses = (
            lambda: torch.zeros(1).to(module().device()),
            lambda: torch.zeros(1, device=module().device()),
            lambda: module().gpu_memory(),
            lambda: module().has_float64_support(0),
        )
        for use in uses:
            with pytest.raises(ProcessEnded):
                use()
            simulation.forgive()


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("libd3d12", OSError, "libd3d12.so: cannot open shared object file"),
        ("symbol", ImportError, "undefined symbol"),
        ("runtime", RuntimeError, "DirectML"),
    ],
)
def test_broken_imports(directml_with, kind, error, text):
    with directml_with(import_error=kind):
        assert importlib.util.find_spec("torch_directml") is not None
        for _ in range(2):
            with pytest.raises(error, match=text):
                importlib.import_module("torch_directml")


def test_missing_attributes(directml_with):
    with directml_with(missing=["device_count", "gpu_memory"]):
        assert not hasattr(module(), "device_count") and not hasattr(module(), "gpu_memory")
        assert module().is_available()


def test_the_package_tells_its_version(directml):
    import importlib.metadata

    assert importlib.metadata.version("torch-directml") == "0.2.5.dev240914"


@pytest.mark.parametrize(
    "options",
    [{"half": "wrong"}, {"lost": "?"}, {"out_of_memory": "no"}, {"import_error": "x"}, {"gpu_memory": 1}, {"ends": ""}],
)
def test_options_are_checked(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)


def test_options_go_through_json():
    options = Options(adapters=integrated_first(), half="nan", missing=("device",), lost_after=3)
    assert Options.from_json(options.to_json()) == options
    with pytest.raises(ValueError, match="no option mistyped"):
        Options.from_json('{"mistyped": 1}')
