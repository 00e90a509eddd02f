"""Checkpoint files: what is read, what is refused, and that nothing in them runs."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, Tuple

import pytest
import torch
from support import tiny_zoo
from support.tiny_zoo import saved

from realesrgan.errors import InputError, WeightsError
from realesrgan.weights import checkpoints, convert, zoo

STATE = tiny_zoo.network(1).state_dict()
OTHER = tiny_zoo.network(2).state_dict()
OLD: Dict[str, Any] = {"_use_new_zipfile_serialization": False}


@pytest.fixture(autouse=True)
def safe_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a torch without known holes; what holds on others has tests of its own."""
    monkeypatch.setattr(checkpoints, "_SAFE_TORCH", (0, 0))


@pytest.fixture()
def old_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_SAFE_TORCH", (999, 0))


def write(folder: Path, data: bytes, name: str = "model.pth") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def refused(path: Path, **options: Any) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        checkpoints.read(path, **options)
    assert str(path) in str(caught.value)
    assert caught.value.fields["path"] == str(path)
    return caught.value


@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "pickle"])
@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"params": STATE},
        {"params_ema": STATE, "params": OTHER},
        {"params": OTHER, "params_ema": STATE, "iter": 3},
        {"params": {key: value.half() for key, value in STATE.items()}},
        {"params": {key: value.double() for key, value in STATE.items()}},
        {"params": {key: value.transpose(0, -1).contiguous().transpose(0, -1) for key, value in STATE.items()}},
    ],
)
def test_read(tmp_path: Path, content: Any, options: Dict[str, Any]) -> None:
    data = saved(content, **options)
    result = checkpoints.read(write(tmp_path, data))
    assert tiny_zoo.equal(result.state_dict, STATE)
    assert all(value.dtype == torch.float32 and value.is_contiguous() for value in result.state_dict.values())
    assert result.sha256 == tiny_zoo.sha256(data)


def test_parameters_come_without_gradients(tmp_path: Path) -> None:
    content = {key: torch.nn.Parameter(value) for key, value in STATE.items()}
    result = checkpoints.read(write(tmp_path, saved(content)))
    assert not any(value.requires_grad for value in result.state_dict.values())


def test_whole_numbers_stay_so(tmp_path: Path) -> None:
    result = checkpoints.read(write(tmp_path, saved({"count": torch.tensor(3)})))
    assert result.state_dict["count"].dtype == torch.int64


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_safetensors(tmp_path: Path, name: str) -> None:
    library = pytest.importorskip("safetensors.torch")
    assert tiny_zoo.equal(sort(checkpoints.read(write(tmp_path, library.save(STATE), name)).state_dict), sort(STATE))


def sort(state: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    return {key: state[key] for key in sorted(state)}


def test_safetensors_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, (2).to_bytes(8, "little") + b"{}", "model.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    assert "pip install safetensors" in str(refused(path))


def test_a_damaged_safetensors_file(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.torch")
    assert refused(write(tmp_path, library.save(STATE)[:-1], "model.safetensors")).code == "weights.damaged"


@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "pickle"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_truncated(tmp_path: Path, options: Dict[str, Any], part: float) -> None:
    data = saved({"params": STATE}, **options)
    error = refused(write(tmp_path, data[: int(len(data) * part)]))
    assert error.code == "weights.damaged"
    assert "Delete it" in str(error)


def test_a_flipped_bit(tmp_path: Path) -> None:
    data = bytearray(saved({"params": STATE}))
    numbers = bytes(STATE["body.0.weight"].numpy().tobytes())
    data[bytes(data).index(numbers) + 5] ^= 1
    assert refused(write(tmp_path, bytes(data))).code == "weights.damaged"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "weights.empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "weights.page"),
        (b"\n  <HTML>", "weights.page"),
        (b"Not Found", "weights.format"),
        (b"\x00" * 7, "weights.format"),
        (b"\x80\x04N.", "weights.format"),  # a pickle that is not torch's
        (b"PK\x03\x04 and then nothing", "weights.damaged"),
    ],
)
def test_not_a_checkpoint(tmp_path: Path, data: bytes, code: str) -> None:
    assert refused(write(tmp_path, data)).code == code


def test_missing_or_a_folder(tmp_path: Path) -> None:
    error = refused(tmp_path / "none.pth")
    assert error.code == "weights.unreadable"
    assert "RealESRGAN_x4plus" in str(error)
    assert refused(tmp_path).code == "weights.unreadable"


@pytest.mark.parametrize(
    "content", [torch.zeros(3), [STATE], {}, {"params": {}}, {"params": [1]}, {"epoch": 3}, {**STATE, "more": [3]}, 5]
)
def test_no_state_dict(tmp_path: Path, content: Any) -> None:
    assert refused(write(tmp_path, saved(content))).code == "weights.content"


def test_the_expected_hash(tmp_path: Path) -> None:
    data = saved(STATE)
    path = write(tmp_path, data)
    assert checkpoints.read(path, sha256=tiny_zoo.sha256(data)).sha256 == tiny_zoo.sha256(data)
    error = refused(path, sha256="0" * 64, size=len(data) + 1)
    assert error.code == "weights.hash"
    for words in ("0" * 64, tiny_zoo.sha256(data), str(len(data)), str(len(data) + 1), "--model_path"):
        assert words in str(error)


def test_reading_takes_memory_for_the_bytes_that_there_are(tmp_path: Path) -> None:
    path = write(tmp_path, saved(STATE))
    checkpoints.read(path)
    tracemalloc.start()
    try:
        checkpoints.read(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


class Attack:
    """Makes the folder ``mark`` when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "pickle"])
def test_an_attack_is_refused_and_does_not_run(tmp_path: Path, options: Dict[str, Any], trust: bool) -> None:
    mark = tmp_path / "mark"
    path = write(tmp_path, saved({"params": STATE, "more": Attack(mark)}, **options))
    error = refused(path, trust=trust)
    assert error.code == "weights.unsafe"
    assert "mkdir" in str(error)
    assert "weights_only" not in str(error), "torch's advice how to run the code is not passed on"
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists(), "it would have run"


def test_an_object_that_is_not_numbers_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, saved({"params": STATE, "options": argparse.Namespace(a=1)}))
    assert "argparse.Namespace" in str(refused(path))


@pytest.mark.parametrize("trust", [False, True])
def test_torchscript_is_refused_before_torch_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trust: bool
) -> None:
    def unexpected(*args: Any, **options: Any) -> None:
        raise AssertionError("torch was asked")

    monkeypatch.setattr(torch, "load", unexpected)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py", "version"):
            archive.writestr(f"model/{name}", b"\x80\x02.")
    error = refused(write(tmp_path, stream.getvalue()), trust=trust)
    assert error.code == "weights.script"
    assert "state dict" in str(error)


@pytest.mark.parametrize("trust", [False, True])
def test_the_tar_form_is_refused_everywhere(tmp_path: Path, trust: bool) -> None:
    mark = tmp_path / "mark"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = saved(Attack(mark), **OLD)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    error = refused(write(tmp_path, stream.getvalue()), trust=trust)
    assert error.code == "weights.tar"
    assert not mark.exists()


@pytest.mark.usefixtures("old_torch")
class TestOldTorch:
    @pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "pickle"])
    def test_of_unknown_origin(self, tmp_path: Path, options: Dict[str, Any]) -> None:
        path = write(tmp_path, saved(STATE, **options))
        error = refused(path)
        assert error.code == "weights.untrusted"
        assert torch.__version__ in str(error)
        assert "--trust-weights" in str(error)
        assert f'"{path.with_suffix(".safetensors")}"' in str(error)
        assert tiny_zoo.equal(checkpoints.read(path, trust=True).state_dict, STATE)

    def test_torch_is_not_even_asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch, "load", None)
        assert refused(write(tmp_path, saved(STATE))).code == "weights.untrusted"

    def test_an_official_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tiny = tiny_zoo.tiny_zoo()
        monkeypatch.setattr(zoo, "MODELS", tiny.models)
        path = write(tmp_path, tiny.files["video"], "any name.pth")
        assert tiny_zoo.equal(checkpoints.read(path).state_dict, tiny.state("video"))
        monkeypatch.setattr(zoo, "MODELS", MappingProxyType({}))
        assert refused(path).code == "weights.untrusted"

    def test_safetensors(self, tmp_path: Path) -> None:
        library = pytest.importorskip("safetensors.torch")
        assert checkpoints.read(write(tmp_path, library.save(STATE))).state_dict


@pytest.mark.parametrize(
    ("version", "breakable"),
    [
        ("2.4.1", True),
        ("2.5.1+cu121", True),
        ("2.9.9", True),
        ("2.10.0", False),
        ("2.14.1+cu130", False),
        ("3.0.0a0", False),
        ("unknown", True),
    ],
)
def test_which_torch_is_breakable(monkeypatch: pytest.MonkeyPatch, version: str, breakable: bool) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch, "__version__", version)
    assert checkpoints.torch_is_breakable() is breakable


def test_interpolate() -> None:
    mixed = checkpoints.interpolate(STATE, OTHER, 0.3, 0.7)
    assert list(mixed) == list(STATE)
    for key, value in mixed.items():
        torch.testing.assert_close(value.double(), 0.3 * STATE[key].double() + 0.7 * OTHER[key].double())


@pytest.mark.parametrize(
    "other", [tiny_zoo.network(2, num_conv=2).state_dict(), {**OTHER, "body.1.weight": torch.zeros(4)}]
)
def test_interpolate_refuses_another_network(other: Dict[str, torch.Tensor]) -> None:
    with pytest.raises(WeightsError, match="body"):
        checkpoints.interpolate(STATE, other, 0.5, 0.5)


def test_convert(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    source, target = write(tmp_path, saved({"params_ema": STATE})), tmp_path / "model.safetensors"
    convert.convert(source, target)
    assert tiny_zoo.equal(sort(checkpoints.read(target).state_dict), sort(STATE))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pth", "model.safetensors"]
    for wrong in (target, tmp_path / "model.bin"):
        with pytest.raises(InputError, match=wrong.name):
            convert.convert(source, wrong)


def test_the_command_in_the_message_works(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    source = write(tmp_path, saved({"params": STATE}))
    target = tmp_path / "model.safetensors"
    command = [sys.executable, "-m", "realesrgan.weights.convert", str(source), str(target), "--trust-weights"]
    subprocess.run(command, check=True, timeout=120, cwd=Path(__file__).resolve().parents[2])
    assert tiny_zoo.equal(sort(checkpoints.read(target).state_dict), sort(STATE))


def test_the_command_says_why_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert convert.main([str(tmp_path / "none.pth"), str(tmp_path / "x.safetensors")]) == 1
    assert "none.pth" in caplog.text
