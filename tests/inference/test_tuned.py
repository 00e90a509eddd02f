"""The profile: kept, found again, and ignored with one line where it does not fit."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from realesrgan import devices
from realesrgan.archs.structure import rrdbnet
from realesrgan.cli import messages
from realesrgan.devices import Device
from realesrgan.errors import InputError
from realesrgan.inference import tuned as profile

CARD = Device("directml", 0, "Radeon RX 580 Series", 8 * 2**30, driver="31.0.1")
NETWORK = rrdbnet(4)
SLOW = profile.Choice(256, False, 1000.0)
QUICK = profile.Choice(512, True, 2000.0)


@pytest.fixture(autouse=True)
def own_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "프로필" / "profile.json"
    monkeypatch.setenv(profile.VARIABLE, str(path))
    monkeypatch.setattr(profile, "torch_version", lambda: "2.4.1")
    return path


def lines(caplog: pytest.LogCaptureFixture) -> list:
    return [getattr(record, "notice_code", "") for record in caplog.records]


def test_nothing_is_known_at_first_and_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert profile.lookup(CARD, NETWORK, None) is None
    assert lines(caplog) == []


def test_a_wish_for_a_precision_is_kept_and_no_wish_takes_the_quicker(own_file: Path) -> None:
    assert profile.store(CARD, NETWORK, [SLOW, QUICK]) == own_file
    assert profile.lookup(CARD, NETWORK, None) == QUICK
    assert profile.lookup(CARD, NETWORK, True) == QUICK
    assert profile.lookup(CARD, NETWORK, False) == SLOW


def test_a_precision_that_was_not_measured_is_not_made_up() -> None:
    profile.store(CARD, NETWORK, [SLOW])
    assert profile.lookup(CARD, NETWORK, True) is None


def test_the_index_of_a_card_may_change_but_not_its_name_backend_or_the_network() -> None:
    profile.store(CARD, NETWORK, [SLOW])
    assert profile.lookup(replace(CARD, index=1), NETWORK, None) == SLOW
    assert profile.lookup(replace(CARD, name="Radeon RX 570 Series"), NETWORK, None) is None
    assert profile.lookup(replace(CARD, backend="cuda"), NETWORK, None) is None
    assert profile.lookup(CARD, replace(NETWORK, weights=4_467_779), None) is None


def test_new_measurements_replace_those_of_the_same_network_alone() -> None:
    other = rrdbnet(2)
    profile.store(CARD, NETWORK, [SLOW, QUICK])
    profile.store(CARD, other, [QUICK])
    profile.store(CARD, NETWORK, [replace(SLOW, tile=128)])
    assert profile.lookup(CARD, NETWORK, None) == replace(SLOW, tile=128)
    assert profile.lookup(CARD, other, None) == QUICK


@pytest.mark.parametrize("what", ["driver", "torch", "realesrgan"])
def test_a_stale_entry_is_ignored_with_one_line(
    what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    profile.store(CARD, NETWORK, [SLOW])
    now = replace(CARD, driver="32.0.1") if what == "driver" else CARD
    if what == "torch":
        monkeypatch.setattr(profile, "torch_version", lambda: "2.9.0")
    if what == "realesrgan":
        monkeypatch.setattr(profile, "__version__", "99.0")
    assert profile.lookup(now, NETWORK, None) is None
    assert profile.lookup(now, NETWORK, False) is None
    assert lines(caplog) == ["profile.stale"]
    assert what in caplog.text and "tune" in caplog.text


GOOD = {
    "device": "directml Radeon RX 580 Series",
    "structure": profile.structure_key(NETWORK),
    "driver": "31.0.1",
    "torch": "2.4.1",
    "realesrgan": profile.__version__,
    "choices": {"fp32": {"tile": 256, "rate": 10.0}},
}


def document(**changes: object) -> str:
    return json.dumps({"format": 1, "entries": [{**GOOD, **changes}]})


def test_the_good_document_of_the_next_test_is_good(own_file: Path) -> None:
    own_file.parent.mkdir()
    own_file.write_text(document(), encoding="utf-8")
    assert profile.lookup(CARD, NETWORK, None) == profile.Choice(256, False, 10.0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"format": 1}',
        b'{"format": 2, "entries": []}',
        document(driver=None).encode(),
        document(choices=[]).encode(),
        document(choices={"fp64": {}}).encode(),
        document(choices={"fp32": {"tile": 0, "rate": 1}}).encode(),
        document(choices={"fp32": {"tile": True, "rate": 1}}).encode(),
        document(choices={"fp32": {"tile": 10**9, "rate": 1}}).encode(),
        document(choices={"fp32": {"tile": 256, "rate": -1}}).encode(),
        document(choices={"fp32": {"tile": 256, "rate": float("nan")}}).encode(),
        document(choices={"fp32": 256}).encode(),
        document(choices={"fp16": {"tile": 256, "rate": 1, "kernels": []}}).encode(),
        document(choices={"fp16": {"tile": 256, "rate": 1, "kernels": {"wide": [4, 64, 32, 3]}}}).encode(),
        document(choices={"fp16": {"tile": 256, "rate": 1, "kernels": {"wide": [4, 64, 10**9, 3, 4]}}}).encode(),
        document(choices={"fp16": {"tile": 256, "rate": 1, "kernels": {"wide": [4, 64, "32", 3, 4]}}}).encode(),
    ],
)
def test_a_corrupt_file_is_ignored_with_one_line_and_can_be_written_anew(
    content: bytes, own_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own_file.parent.mkdir()
    own_file.write_bytes(content)
    assert profile.lookup(CARD, NETWORK, None) is None
    assert profile.lookup(CARD, NETWORK, None) is None
    assert lines(caplog) == ["profile.corrupt"]
    profile.store(CARD, NETWORK, [SLOW])
    assert profile.lookup(CARD, NETWORK, None) == SLOW


@pytest.mark.parametrize("name", ["picture.png", "own.pth", "own.SAFETENSORS"])
def test_pictures_and_weights_are_never_taken_for_a_profile(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_bytes(b"mine")
    monkeypatch.setenv(profile.VARIABLE, str(path))
    with pytest.raises(InputError, match="a picture or weights") as caught:
        profile.store(CARD, NETWORK, [SLOW])
    assert caught.value.code == "profile.other_file"
    assert path.read_bytes() == b"mine"


def test_the_kernels_of_a_choice_are_kept() -> None:
    choice = profile.Choice(512, True, 2000.0, {"wide": (8, 16, 64, 2, 4)})
    profile.store(CARD, NETWORK, [SLOW, choice])
    assert profile.lookup(CARD, NETWORK, None) == choice
    assert profile.lookup(CARD, NETWORK, False) == SLOW


def test_off_means_neither_reading_nor_writing(own_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile.store(CARD, NETWORK, [SLOW])
    monkeypatch.setenv(profile.VARIABLE, "off")
    assert profile.lookup(CARD, NETWORK, None) is None
    assert profile.forget() is None
    with pytest.raises(InputError, match="off"):
        profile.store(CARD, NETWORK, [SLOW])


def test_forget_removes_the_file(own_file: Path) -> None:
    profile.store(CARD, NETWORK, [SLOW])
    assert profile.forget() == own_file
    assert not own_file.exists()
    assert profile.forget() is None


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("win32", "APPDATA", "{there}/realesrgan/profile.json"),
        ("linux", "XDG_CONFIG_HOME", "{there}/realesrgan/profile.json"),
        ("win32", "", "{home}/AppData/Roaming/realesrgan/profile.json"),
        ("linux", "", "{home}/.config/realesrgan/profile.json"),
        ("darwin", "", "{home}/Library/Application Support/realesrgan/profile.json"),
    ],
)
def test_the_folder_is_where_the_system_keeps_such_files(
    platform: str, variable: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(profile.VARIABLE)
    for name in ("APPDATA", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "there"))
    assert profile.location() == Path(expected.format(there=tmp_path / "there", home=tmp_path / "home"))


def test_that_it_is_used_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    profile.say_used(CARD, QUICK)
    profile.say_used(CARD, QUICK)
    assert lines(caplog) == ["profile.used"]
    assert "512" in caplog.text and "FP16" in caplog.text and "tune" in caplog.text


def test_looking_up_imports_neither_torch_nor_numpy(own_file: Path) -> None:
    profile.store(CARD, NETWORK, [SLOW])
    code = (
        "import sys\n"
        "from realesrgan.devices import Device\n"
        "from realesrgan.inference import tuned as profile\n"
        "device = Device('directml', 0, 'Radeon RX 580 Series', driver='31.0.1')\n"
        "from realesrgan.archs.structure import rrdbnet\n"
        "network = rrdbnet(4)\n"
        "profile.torch_version = lambda: '2.4.1'\n"
        "print(profile.lookup(device, network, None).tile, 'torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True)
    assert done.stdout.split() == ["256", "False", "False"]


VULKAN = Device("vulkan", 1, CARD.name, driver="24.3.1")


def available(monkeypatch: pytest.MonkeyPatch, *found: Device) -> None:
    def listed(*names: str) -> devices.Listing:
        return devices.Listing(tuple(device for device in found if device.backend in names), ())

    monkeypatch.setattr(profile, "available", listed)
    monkeypatch.setattr(profile, "library_version", lambda device: f"{device.backend} 1.0")


def test_auto_uses_the_backend_that_tuning_found_quicker_and_says_so(
    own_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    available(monkeypatch, CARD, VULKAN)
    assert profile.quickest(CARD, NETWORK, None) == CARD, "nothing is known"
    profile.store(CARD, NETWORK, [profile.Choice(256, False, 1000.0)])
    profile.store(VULKAN, NETWORK, [profile.Choice(512, True, 2500.0), profile.Choice(256, False, 900.0)])
    with caplog.at_level("INFO"):
        assert profile.quickest(CARD, NETWORK, None) == VULKAN
    (record,) = [record for record in caplog.records if record.notice_code == "profile.quicker"]
    assert "2.5 times as quick as DirectML" in record.getMessage()
    assert "2.5배" in messages.render(messages.of_record(record), "ko")
    assert profile.quickest(CARD, NETWORK, False) == CARD, "not in FP32"
    assert profile.quickest(VULKAN, NETWORK, None) == VULKAN
    assert profile.quickest(CARD, NETWORK, None, [VULKAN]) == CARD, "found unfit"
    assert profile.quickest(CARD, rrdbnet(2), None) == CARD, "another network"


@pytest.mark.parametrize("change", ["gone", "driver", "software", "hardly quicker"])
def test_a_quicker_backend_that_cannot_be_relied_on_is_left_out(
    own_file: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    now = {
        "gone": [],
        "driver": [replace(VULKAN, driver="25.0.0")],
        "software": [replace(VULKAN, software=True)],
        "hardly quicker": [VULKAN],
    }[change]
    available(monkeypatch, CARD, *now)
    profile.store(CARD, NETWORK, [profile.Choice(256, False, 1000.0)])
    rate = 1050.0 if change == "hardly quicker" else 2500.0
    profile.store(VULKAN, NETWORK, [profile.Choice(512, True, rate)])
    assert profile.quickest(CARD, NETWORK, None) == CARD
