"""The folders of weights on each system."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from realesrgan.errors import WeightsError
from realesrgan.weights import folders as places


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("REALESRGAN_WEIGHTS", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(places, "REPOSITORY", tmp_path / "repository")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.mark.parametrize(
    ("platform", "variable", "below_home"),
    [
        ("linux", "XDG_CACHE_HOME", ".cache"),
        ("darwin", "", "Library/Caches"),
        ("win32", "LOCALAPPDATA", "AppData/Local"),
    ],
)
def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, variable: str, below_home: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    expected = tmp_path / "home" / below_home / "realesrgan" / "weights"
    assert places.cache_folder() == expected
    if variable:
        monkeypatch.setenv(variable, "relative")
        assert places.cache_folder() == expected
        monkeypatch.setenv(variable, str(tmp_path / "\ucd94 caches"))
        assert places.cache_folder() == tmp_path / "\ucd94 caches" / "realesrgan" / "weights"


def test_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert places.search_folders() == [tmp_path / "work" / "weights", tmp_path / "repository" / "weights"]
    with pytest.raises(WeightsError, match="weights"):
        places.download_folder()


def test_search_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "named").mkdir()
    monkeypatch.setenv("REALESRGAN_WEIGHTS", str(tmp_path / "named"))
    cache = places.cache_folder()
    assert places.search_folders() == [
        tmp_path / "work" / "weights",
        tmp_path / "repository" / "weights",
        tmp_path / "named",
        cache,
    ]
    monkeypatch.chdir(tmp_path / "named")
    monkeypatch.setattr(places, "REPOSITORY", tmp_path / "named")
    assert places.search_folders() == [tmp_path / "named" / "weights", tmp_path / "named", cache]
    monkeypatch.setattr(places, "REPOSITORY", None)
    assert places.search_folders()[0] == tmp_path / "named" / "weights"
    assert len(places.search_folders()) == 3


def test_a_variable_that_names_no_folder_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("REALESRGAN_WEIGHTS", str(tmp_path / "typo"))
    for _ in range(3):
        assert tmp_path / "typo" not in places.search_folders()
    assert [record.__dict__["notice_code"] for record in caplog.records] == ["weights.variable"]
    assert str(tmp_path / "typo") in caplog.records[0].__dict__["notice_fields"]["value"]


def test_find(tmp_path: Path) -> None:
    assert places.find("model") is None
    late = tmp_path / "repository" / "weights" / "model.pth"
    late.parent.mkdir(parents=True)
    late.write_bytes(b"")
    assert places.find("model") == late
    early = tmp_path / "work" / "weights" / "model.safetensors"
    early.parent.mkdir()
    early.write_bytes(b"")
    assert places.find("model") == early
    assert places.find("model", (".pth",)) == late
    (tmp_path / "work" / "weights" / "model.pth").mkdir()  # a folder is no file
    assert places.find("model") == early


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work" / "weights").mkdir()
    assert places.download_folder() == tmp_path / "work" / "weights"
    assert list((tmp_path / "work" / "weights").iterdir()) == []

    def read_only(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    assert places.download_folder() == places.cache_folder()


def test_the_checkout_is_known() -> None:
    root = Path(__file__).resolve().parents[2]
    assert (root if (root / "setup.py").is_file() else None) == places._repository()
