"""Folders of many or deeply nested pictures, and what is left out of them."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Iterator

import pytest

from realesrgan import files
from realesrgan.errors import InputError
from realesrgan.files import listing


def test_what_is_no_picture_is_counted_by_suffix(tmp_path: Path) -> None:
    names = "a.png b.PPM c.jp2 d.hdr e.tga f.dds g.pfm h.txt i.TXT j.mp4 k .hidden.txt Thumbs.db"
    for name in names.split():
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "l.pdf").write_bytes(b"")
    others: dict = {}
    found = files.list_pictures([tmp_path], others=others)
    assert [source.path.name for source in found] == ["a.png", "b.PPM", "c.jp2", "d.hdr", "e.tga", "f.dds", "g.pfm"]
    assert others == {".txt": 2, ".mp4": 1, "": 1}
    others.clear()
    files.list_pictures([tmp_path], recursive=True, others=others)
    assert others == {".txt": 2, ".mp4": 1, "": 1, ".pdf": 1}
    others.clear()
    files.list_pictures([tmp_path / "h.txt"], others=others)
    assert others == {}, "a file that is named is no part of a folder"


@pytest.fixture()
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """1,200 folders in each other, each with a picture; removed one by one, because rmtree calls itself for each."""
    depth = 1200
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        Path("p.png").write_bytes(b"")
        Path("d").mkdir()
        os.chdir("d")
    os.chdir(tmp_path)
    yield depth
    for _ in range(depth):
        os.chdir("d")
    for _ in range(depth):
        os.chdir("..")
        Path("d").rmdir()
        Path("p.png").unlink()


@pytest.mark.skipif(os.name == "nt", reason="paths of 3,000 characters are made by relative names")
def test_a_deep_tree_is_walked_once_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep: int) -> None:
    depth, asked = deep, []
    real_stat, real_link, resolve = os.stat, os.path.islink, os.path.realpath
    monkeypatch.setattr(listing.os, "stat", lambda path, **more: (asked.append(path), real_stat(path, **more))[1])
    found = files.list_pictures([tmp_path], recursive=True, exclude=[tmp_path / "out"])
    assert len(found) == depth
    assert len(asked) <= depth + 10, "one look at each folder, not one at each of its parents"
    assert found[0].relative == Path("p.png") or len(found[0].relative.parts) == depth
    links, resolved = [], []
    monkeypatch.setattr(os.path, "islink", lambda path: (links.append(path), real_link(path))[1])
    monkeypatch.setattr(os.path, "realpath", lambda path, **more: (resolved.append(path), resolve(path, **more))[1])
    plan = files.plan_outputs(found, tmp_path / "out")
    assert len(links) <= 3 * depth and len(resolved) < 10
    assert plan.path(found[3], ".png").name == "p_out.png"


def test_many_files_are_listed_and_named(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number:05d}.png").write_bytes(b"")
    found = files.list_pictures([tmp_path])
    assert [source.path.name for source in found] == [f"{number:05d}.png" for number in range(3000)]
    plan = files.plan_outputs(found, tmp_path / "out")
    assert len({plan.path(source, ".png") for source in found}) == 3000


def test_a_large_folder_says_what_takes_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"")
    clock = iter(range(0, 100, 3))  # three seconds pass between two looks at the clock
    monkeypatch.setattr(listing.time, "monotonic", lambda: float(next(clock)))
    with caplog.at_level(logging.WARNING):
        assert len(files.list_pictures([tmp_path], recursive=True)) == 3
    notices = [record for record in caplog.records if getattr(record, "notice_code", "") == "input.listing"]
    assert 1 <= len(notices) < 4
    assert str(tmp_path) in notices[0].getMessage() and "so far" in notices[0].getMessage()


def test_links_and_excluded_folders(tmp_path: Path) -> None:
    (tmp_path / "in" / "out").mkdir(parents=True)
    (tmp_path / "in" / "out" / "x.png").write_bytes(b"")
    (tmp_path / "in" / "y.png").write_bytes(b"")
    if os.name != "nt":
        (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
        (tmp_path / "in" / "other").symlink_to(tmp_path / "in" / "out")
    found = files.list_pictures([tmp_path / "in"], recursive=True, exclude=[tmp_path / "in" / "out"])
    assert [str(source.relative) for source in found] == ["y.png"]


@pytest.mark.parametrize("address", ["https://example.org/a.png", "rtsp://camera/stream", "file:///a/b.mp4"])
def test_an_address_names_the_next_step(address: str) -> None:
    with pytest.raises(InputError, match="realesrgan video") as caught:
        files.list_pictures([address])
    assert caught.value.code == "input.address"
