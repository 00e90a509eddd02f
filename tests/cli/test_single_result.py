"""``-o result.png`` for one picture, videos and other files given to the picture program, truncated pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.picture_samples import pattern, saved

from realesrgan.cli import commands as cli
from realesrgan.cli import run as cli_run
from tests.support.nearest import Nearest

PICTURE = Image.fromarray(pattern(10, 12, 3))


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_run, "build_upscaler", lambda *_: Nearest())


@pytest.fixture()
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    path.write_bytes(saved(PICTURE, "PNG"))
    return path


@pytest.mark.parametrize("name", ["result.png", "deep/er/result.jpeg", "사진.webp", "r.TIF"])
def test_a_result_that_is_named(tmp_path: Path, picture: Path, name: str) -> None:
    target = tmp_path / name
    assert cli.main(["-i", str(picture), "-o", str(target), "-s", "2"]) == 0
    with Image.open(target) as image:
        assert image.size == (24, 20)
    assert sorted(path.name for path in target.parent.iterdir() if path != picture) == [target.name]


def test_a_result_that_is_named_is_resumed_and_never_the_input(tmp_path: Path, picture: Path, capsys) -> None:
    target = tmp_path / "out" / "result.png"
    assert cli.main(["-i", str(picture), "-o", str(target), "--resume"]) == 0
    before = target.stat().st_mtime_ns
    assert cli.main(["-i", str(picture), "-o", str(target), "--resume"]) == 0
    assert "0 done, 1 skipped" in capsys.readouterr().out
    assert cli.main(["-i", str(picture), "-o", str(target), "--skip-existing"]) == 0
    assert target.stat().st_mtime_ns == before
    assert cli.main(["-i", str(picture), "-o", str(picture)]) == 1
    assert "would overwrite the input" in capsys.readouterr().err
    assert np.array_equal(np.asarray(Image.open(picture)), np.asarray(PICTURE))
    assert cli.main(["-i", str(picture), "-o", str(target), "--report", str(target)]) != 0
    assert target.stat().st_mtime_ns == before


def test_a_folder_with_a_pictures_name_stays_a_folder(tmp_path: Path, picture: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    assert cli.main(["-i", str(picture), "-o", str(tmp_path / "folder.png")]) == 0
    assert (tmp_path / "folder.png" / "in_out.png").is_file()
    (tmp_path / "photos").mkdir()
    picture.rename(tmp_path / "photos" / "in.png")
    assert cli.main(["-i", str(tmp_path / "photos"), "-o", str(tmp_path / "many.png")]) == 0
    assert (tmp_path / "many.png" / "in_out.png").is_file()


def test_a_video_names_its_command(tmp_path: Path, capsys) -> None:
    video = tmp_path / "film.mp4"
    video.write_bytes(b"\0\0\0\x20ftypisom" + bytes(50))
    assert cli.main(["-i", str(video), "-o", str(tmp_path / "out")]) != 0
    assert f"realesrgan video -i {video}" in capsys.readouterr().err
    assert cli.main(["-i", "https://example.org/film.mp4", "-o", str(tmp_path / "out")]) != 0
    assert "realesrgan video -i" in capsys.readouterr().err


def test_what_a_folder_has_besides_is_named(tmp_path: Path, picture: Path, capsys) -> None:
    for name in ("film.mp4", "notes.txt", "more.txt"):
        (tmp_path / name).write_bytes(b"words")
    assert cli.main(["-i", str(tmp_path), "-o", str(tmp_path / "out")]) == 0
    assert "1 .mp4, 2 .txt" in capsys.readouterr().out
    assert cli.main(["-i", str(tmp_path), "-o", str(tmp_path / "out"), "--lang", "ko"]) == 0
    assert "제외한 파일" in capsys.readouterr().out


def test_a_truncated_picture_is_accepted_when_asked(tmp_path: Path, capsys) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(saved(PICTURE.resize((120, 100)), "JPEG")[:-200])
    words = ["-i", str(path), "-o", str(tmp_path / "out")]
    assert cli.main(words) == 1
    assert "--accept-truncated" in capsys.readouterr().err
    assert cli.main([*words, "--accept-truncated"]) == 0
    assert "what is missing is grey" in capsys.readouterr().err


def test_a_size_that_the_format_does_not_take_is_refused_before_the_work(tmp_path: Path, capsys, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(cli_run, "build_upscaler", lambda *_: Nearest(seen.append))
    path = tmp_path / "wide.png"
    path.write_bytes(saved(Image.new("RGB", (4200, 8)), "PNG"))
    assert cli.main(["-i", str(path), "-o", str(tmp_path / "out"), "--ext", "webp"]) == 1
    assert "16383" in capsys.readouterr().err
    assert seen == []
