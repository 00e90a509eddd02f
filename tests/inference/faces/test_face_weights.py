"""Which face weights are found, refused, fetched and read; without gfpgan, and with tiny state dicts."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, Iterator

import pytest
import torch
from support import tiny_zoo
from support.http_server import Answer, Server

from realesrgan.errors import InputError, WeightsError
from realesrgan.inference.faces import weights as face_weights
from realesrgan.weights import download
from realesrgan.weights import folders as places

NAMES = ("GFPGANv1.3", "detection_Resnet50_Final", "parsing_parsenet")
NOWHERE = "http://127.0.0.1:9/"  # the discard port: refused at once


@pytest.fixture()
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ``weights`` folder of the working directory, on a machine that has nothing else and is offline."""
    folder = tmp_path / "work" / "weights"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(places, "REPOSITORY", None)
    monkeypatch.setattr(places, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("REALESRGAN_WEIGHTS", raising=False)
    tiny_zoo.without_proxies(monkeypatch)
    download._unreachable.clear()
    publish(monkeypatch, NOWHERE)
    return folder


@pytest.fixture()
def server(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as running:
        publish(monkeypatch, running.url)
        running.files.update({f"{name}.pth": content(name) for name in NAMES})
        yield running


def publish(monkeypatch: pytest.MonkeyPatch, base: str, hashes: bool = False) -> None:
    files = {
        name: replace(
            file,
            url=f"{base}{file.file_name}",
            sha256=hashlib.sha256(content(name)).hexdigest() if hashes else "",
        )
        for name, file in face_weights.FILES.items()
    }
    monkeypatch.setattr(face_weights, "FILES", MappingProxyType(files))


def state(name: str) -> Dict[str, torch.Tensor]:
    torch.manual_seed(len(name))
    return {"a.weight": torch.rand(2, 3), "a.num_batches_tracked": torch.tensor(3)}


def content(name: str) -> bytes:
    return tiny_zoo.saved({"params_ema": state(name)} if name.startswith("GFPGAN") else state(name), pickle_protocol=2)


def put(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or NAMES:
        (folder / f"{name}.pth").write_bytes(content(name))


def refused(**options: Any) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        face_weights.load(**options)
    return caught.value


def test_the_table() -> None:
    assert face_weights.RESTORERS == ("GFPGANv1.3", "GFPGANv1.4")
    assert set(face_weights.FILES) == {*face_weights.RESTORERS, face_weights.DETECTION, face_weights.PARSING}
    for name, file in face_weights.FILES.items():
        assert file.url.startswith("https://github.com/") and file.url.endswith(f"/{name}.pth")
        assert len(file.sha256) in (0, 64)


def test_missing_files_are_named_with_all_that_is_to_be_done(here: Path, tmp_path: Path) -> None:
    error = refused()
    assert error.code == "faces.weights"
    assert str(error).splitlines() == [
        "--face_enhance needs weights that are not here:",
        f"  GFPGANv1.3.pth (or GFPGANv1.4.pth), 349 MB: {NOWHERE}GFPGANv1.3.pth",
        f"  detection_Resnet50_Final.pth, 109 MB: {NOWHERE}detection_Resnet50_Final.pth",
        f"  parsing_parsenet.pth, 85 MB: {NOWHERE}parsing_parsenet.pth",
        "Put them into one of these folders:",
        f"  {here}",
        f"  {tmp_path / 'cache'}",
        "and run with --trust-weights (trust_weights=True): no SHA-256 of these files is recorded here from two "
        "independent sources, so that you must vouch for them. With --trust-weights, missing ones are also downloaded "
        "from the addresses above.",
    ]


def test_only_what_is_missing_is_named(here: Path) -> None:
    put(here, "GFPGANv1.4", "parsing_parsenet")
    error = refused()
    assert error.fields["files"] == ("detection_Resnet50_Final.pth",)
    assert "GFPGAN" not in error.fields["listing"]


def test_nothing_is_downloaded_without_trust(server: Server) -> None:
    refused()
    assert server.requests == []


@pytest.mark.parametrize("place", ["weights", "named", "cache"])
def test_files_at_hand_are_refused_without_trust(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = {"weights": here, "named": tmp_path / "named", "cache": tmp_path / "cache"}[place]
    put(folder)
    if place == "named":
        monkeypatch.setenv("REALESRGAN_WEIGHTS", str(folder))
    error = refused()
    assert error.code == "faces.untrusted"
    assert "--trust-weights" in str(error)
    for name in NAMES:
        line = next(line for line in str(error).splitlines() if f"{name}.pth: SHA-256" in line)
        assert str(folder / f"{name}.pth") in line
        assert hashlib.sha256(content(name)).hexdigest() in line
    found = face_weights.load(trust=True)
    assert found.restorer == "GFPGANv1.3"
    for name in NAMES:
        assert found.paths[name] == folder / f"{name}.pth"
        assert tiny_zoo.equal(found.states[name], state(name))


def test_first_use_is_no_trust(here: Path) -> None:
    put(here)
    face_weights.load(trust=True)
    assert refused().code == "faces.untrusted"


def test_a_recorded_hash_is_trust_enough(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The day that two sources agree, the table is all that changes; old torch then loads them as well."""
    put(here)
    publish(monkeypatch, NOWHERE, hashes=True)
    monkeypatch.setattr("realesrgan.weights.checkpoints.torch_is_breakable", lambda: True)
    assert face_weights.load().restorer == "GFPGANv1.3"
    (here / "parsing_parsenet.pth").write_bytes(content("GFPGANv1.3"))
    for trust in (False, True):
        assert refused(trust=trust).code == "weights.hash"


def test_the_restorer_at_hand_is_taken(here: Path) -> None:
    put(here, "GFPGANv1.4", *NAMES[1:])
    assert face_weights.load(trust=True).restorer == "GFPGANv1.4"
    put(here)
    assert face_weights.load(trust=True).restorer == "GFPGANv1.3"
    assert face_weights.load("GFPGANv1.4", trust=True).restorer == "GFPGANv1.4"
    with pytest.raises(InputError, match=r"GFPGANv1.3, GFPGANv1.4, not 'GFPGANv9'"):
        face_weights.load("GFPGANv9")


def test_with_trust_missing_files_are_downloaded(server: Server, here: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    put(here, "parsing_parsenet")
    seen = []
    found = face_weights.load(trust=True, progress=lambda done, total: seen.append((done, total)))
    assert sorted(request.path for request in server.requests) == ["GFPGANv1.3.pth", "detection_Resnet50_Final.pth"]
    assert found.paths["GFPGANv1.3"] == here / "GFPGANv1.3.pth"
    assert seen and seen[-1][0] == seen[-1][1]
    assert "GFPGANv1.3" in caplog.text


def test_a_download_that_fails_says_what_to_fetch(here: Path, tmp_path: Path) -> None:
    error = refused(trust=True)
    assert error.code == "faces.download"
    assert "cannot be reached" in str(error) and str(here) in str(error)
    for name in NAMES:
        assert f"{NOWHERE}{name}.pth" in str(error)
    assert list(here.iterdir()) == []


def test_a_download_that_is_cut_short_is_not_kept(server: Server, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "RETRIES", 0)
    server.answers.append(Answer(cut=50))
    assert "broke off" in str(refused(trust=True))
    assert list(here.iterdir()) == []


class Runs:
    """Runs code when unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", NAMES)
def test_code_in_a_face_file_never_runs(here: Path, tmp_path: Path, name: str) -> None:
    put(here)
    (here / f"{name}.pth").write_bytes(tiny_zoo.saved({"params_ema": {"a": Runs(tmp_path / "ran")}}))
    for trust in (False, True):
        error = refused(trust=trust)
        assert f"{name}.pth" in str(error)
    assert error.code == "weights.unsafe"
    assert not (tmp_path / "ran").exists()
    torch.load(here / f"{name}.pth", weights_only=False)
    assert (tmp_path / "ran").exists(), "the attack is one"


@pytest.mark.parametrize("cut", [0, 10, 400])
def test_damaged_files_are_refused(here: Path, cut: int) -> None:
    put(here)
    (here / "parsing_parsenet.pth").write_bytes(content("parsing_parsenet")[:cut])
    assert "parsing_parsenet.pth" in str(refused(trust=True))


def test_importing_needs_neither_torch_nor_gfpgan() -> None:
    code = (
        "import sys, realesrgan.inference.faces.weights as f; print(f.RESTORERS); "
        "print(sorted({'torch', 'gfpgan', 'facexlib'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[3]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[1] == "[]"
