"""Batches with something wrong in them: each thing gives one clear line, the rest goes on, no partial file is left.

What each kind of damage does to the reader and the writer by themselves is tested beside them; here it lies between
good pictures, and the command line has to say it and to end with status 1.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.picture_samples import bound_by_permissions, by_opencv, get, pattern, saved

from realesrgan.batch import run as batch
from realesrgan.cli import commands as cli
from realesrgan.files import atomic, paths
from realesrgan.files.headers import FORMATS
from tests.support.nearest import Nearest

pytestmark = pytest.mark.usefixtures("stand_in")

GOOD = ("0 first.png", "z last.png")
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX")
needs_links = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """A folder with two good pictures, one before and one behind all others."""
    made = tmp_path / "in"
    made.mkdir()
    for seed, name in enumerate(GOOD):
        (made / name).write_bytes(by_opencv(".png", pattern(6, 7, seed=seed)))
    return made


def enlarge(folder: Path, *words: str) -> int:
    return cli.main(["-i", str(folder), "-o", str(folder.parent / "out"), *words])


def results(folder: Path) -> list:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def check(folder: Path, capsys: Any, name: str, says: str, *words: str, also: tuple = ()) -> None:
    """One failure, named and explained; the good pictures are there as they must be, and nothing else."""
    assert enlarge(folder, *words) == 1
    shown = capsys.readouterr()
    assert re.search(r"^2 done, 0 skipped, 1 failed", shown.out, re.MULTILINE), shown.out
    lines = [line for line in shown.err.splitlines() if line.startswith("[")]
    assert len(lines) == 1, shown.err
    assert re.match(rf"\[2/3\] failed: .*{re.escape(name)}", lines[0]), lines
    assert says in lines[0]
    again = [line for line in shown.err.splitlines() if line.startswith("  failed: ")]
    assert again == ["  " + lines[0][len("[2/3] ") :]], "said again at the end, where it is found in the morning"
    assert "Traceback" not in shown.err
    out = folder.parent / "out"
    assert results(out) == sorted([f"{name[:-4]}_out.png" for name in GOOD] + list(also))
    for seed, good in enumerate(GOOD):
        found = get(out / f"{good[:-4]}_out.png")
        assert np.array_equal(found, pattern(6, 7, seed=seed).repeat(4, 0).repeat(4, 1))


# What a file can be


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _bomb() -> bytes:
    header = struct.pack(">IIBBBBB", 90_000, 90_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0x5A for byte in data[middle : middle + 8]) + data[middle + 8 :]


PNG = by_opencv(".png", pattern(40, 50))
JPEG = saved(Image.fromarray(pattern(40, 50)), "JPEG", quality=95)
WEBP = saved(Image.fromarray(pattern(40, 50)), "WEBP")
TIFF = by_opencv(".tiff", pattern(40, 50))
BMP = by_opencv(".bmp", pattern(40, 50))
CONTENTS = {
    "truncated.png": (PNG[: len(PNG) // 2], "the file is truncated"),
    "truncated.jpg": (JPEG[:-300], "the file is truncated"),
    "truncated.webp": (WEBP[: len(WEBP) // 2], "the file is truncated"),
    "truncated.tiff": (TIFF[: len(TIFF) // 2], "the file is damaged"),
    "truncated.bmp": (BMP[: len(BMP) // 2], "the file is damaged"),
    "corrupt.png": (_flipped(PNG), "the file is damaged"),
    "reserved but never filled.jpg": (JPEG[:-300] + bytes(300), "the file is truncated"),
    "empty.png": (b"", "the file is empty"),
    "text.png": ("그냥 글입니다\n".encode() * 9, "it is text, not a picture"),
    "program.jpg": (b"MZ\x90\0" + bytes(400), "no known picture format"),
    "bomb.png": (_bomb(), "90000x90000 is 8100000000 pixels, the limit is 268435456; raise --max-pixels"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_bad_file_among_good_ones(folder, capsys, name):
    data, says = CONTENTS[name]
    (folder / name).write_bytes(data)
    check(folder, capsys, name, says)


def test_max_pixels_is_the_users(folder, capsys):
    (folder / "large.png").write_bytes(PNG)
    check(folder, capsys, "large.png", "50x40 is 2000 pixels, the limit is 1999", "--max-pixels", "1999")
    assert enlarge(folder, "--max-pixels", "2000") == 0


def test_a_folder_named_like_a_picture(folder, capsys):
    (folder / "x.png").mkdir()
    check(folder, capsys, "x.png", "it is a folder, not a picture")


@posix
def test_a_file_that_may_not_be_read(folder, tmp_path, capsys):
    (folder / "secret.png").write_bytes(PNG)
    with bound_by_permissions(tmp_path):
        (folder / "secret.png").chmod(0)
        check(folder, capsys, "secret.png", "no permission, or another program holds it open")


def test_a_file_that_vanishes_after_it_was_listed(folder, capsys, monkeypatch):
    (folder / "gone.png").write_bytes(PNG)
    run = batch.run

    def late(*arguments: Any, **options: Any) -> Any:
        (folder / "gone.png").unlink()
        return run(*arguments, **options)

    monkeypatch.setattr(batch, "run", late)
    check(folder, capsys, "gone.png", "cannot read: the file does not exist")


@needs_links
@pytest.mark.parametrize(
    ("target", "says"),
    [("loop.png", "its links lead in a circle"), ("nothing.png", "what it points to does not exist")],
)
def test_links_that_lead_nowhere(folder, capsys, target, says):
    (folder / "loop.png").symlink_to(target)
    check(folder, capsys, "loop.png", says)


@needs_links
def test_a_folder_that_links_to_itself_is_read_once(folder, capsys):
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to("..", target_is_directory=True)
    (folder / "sub" / "in.png").write_bytes(PNG)
    assert enlarge(folder, "--recursive") == 0
    assert "3 done" in capsys.readouterr().out


@posix
def test_a_pipe(folder, capsys):
    os.mkfifo(folder / "pipe.png")
    check(folder, capsys, "pipe.png", "it is a device or a pipe, not a file")


# Names


@pytest.mark.parametrize("name", ["with spaces .png", "한국어 사진.png", "party 🎉.png", "-n.png", "n" * 240 + ".png"])
def test_names_of_all_kinds(folder, capsys, name):
    (folder / name).write_bytes(PNG)
    assert enlarge(folder) == 0
    assert f"{name[:-4]}_out.png" in results(folder.parent / "out")
    assert name in capsys.readouterr().out


@posix
def test_a_name_whose_result_would_be_too_long(folder, capsys):
    name = "n" * 250 + ".png"
    (folder / name).write_bytes(PNG)
    check(folder, capsys, name, "the result's name has 258 bytes, file systems take 255; shorten the name")


def test_names_with_a_leading_dash_as_the_shell_gives_them(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    for name in ("-n.png", "--report"):
        Path(name).write_bytes(PNG)
    out = folder.parent / "out"
    assert cli.main(["-i", "-n.png", "0 first.png", "-o", str(out)]) == 0
    assert cli.main(["-i", "./--report", "-o", str(out)]) == 0
    assert results(out) == ["--report_out.png", "-n_out.png", "0 first_out.png"]
    capsys.readouterr()
    assert cli.main(["-i", "-not-there.png", "-o", str(out)]) == 2
    assert "./-name.png" in capsys.readouterr().err


# Where results go


def _broken_for(monkeypatch: pytest.MonkeyPatch, function: str, word: str, error: OSError) -> None:
    """Let a call of the operating system fail for the partial files of one target."""
    real = getattr(os, function)
    descriptors = set()

    def replaced(path: Any, *arguments: Any, **options: Any) -> Any:
        if function == "fsync":
            if path in descriptors:
                raise error
            return real(path)
        if word in os.fspath(path):
            raise error
        return real(path, *arguments, **options)

    monkeypatch.setattr(atomic.os, function, replaced)
    if function == "fsync":
        opened = os.open

        def opening(path: Any, *arguments: Any, **options: Any) -> int:
            descriptor = opened(path, *arguments, **options)
            (descriptors.add if word in os.fspath(path) else descriptors.discard)(descriptor)
            return descriptor

        monkeypatch.setattr(atomic.os, "open", opening)


def test_a_disk_that_is_full_for_one(folder, capsys, monkeypatch):
    (folder / "big.png").write_bytes(PNG)
    _broken_for(monkeypatch, "fsync", "big_out", OSError(errno.ENOSPC, "No space left on device"))
    check(folder, capsys, "big.png", "cannot write: the disk is full; free some space or give another output folder")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full, on Linux")
def test_a_disk_that_is_full_for_the_report(folder, capsys, monkeypatch):
    monkeypatch.setattr(paths, "check_regular", lambda *_: None)  # a device is refused otherwise
    assert enlarge(folder, "--report", "/dev/full") == 0
    shown = capsys.readouterr()
    assert "2 done, 0 skipped, 0 failed" in shown.out
    assert shown.err.count("/dev/full") == 1
    assert "cannot be written: No space left on device. It ends here." in shown.err


def test_a_target_that_another_program_holds_open(folder, capsys, monkeypatch):
    """As Windows refuses it while a viewer, a virus scanner or a cloud client reads the old result."""
    (folder / "held.png").write_bytes(PNG)
    (folder.parent / "out").mkdir()
    (folder.parent / "out" / "held_out.png").write_bytes(b"old")
    monkeypatch.setattr(atomic, "RETRY_SECONDS", 0.1)
    _broken_for(monkeypatch, "replace", "held_out", PermissionError(errno.EACCES, "Access is denied"))
    says = "another program holds the file open" if os.name == "nt" else "no permission, or another program"
    check(folder, capsys, "held.png", f"cannot write: {says}", also=("held_out.png",))
    assert (folder.parent / "out" / "held_out.png").read_bytes() == b"old"


@posix
def test_an_output_folder_that_is_read_only(folder, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    with bound_by_permissions(tmp_path):
        out.chmod(0o500)
        assert enlarge(folder) == 1
        out.chmod(0o700)
    error = capsys.readouterr().err
    assert f"Nothing can be written to the output folder {out}: Permission denied. Give another one with -o." in error
    assert results(out) == []


def test_an_output_that_is_a_file(folder, capsys):
    (folder.parent / "out").write_bytes(b"mine")
    assert enlarge(folder) == 2
    assert "is a file; -o needs a folder" in capsys.readouterr().err
    assert (folder.parent / "out").read_bytes() == b"mine"


def test_an_output_that_is_the_input(folder, capsys):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert cli.main(["-i", str(folder), "-o", str(folder), "--suffix", ""]) == 1
    error = capsys.readouterr().err
    assert error.count("would overwrite the input") == 4, "each twice: when it comes, and at the end"
    assert "give another folder or suffix" in error
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("flag", ["--resume", "--skip-existing", None])
def test_results_beside_their_pictures_are_not_enlarged_again(folder, capsys, flag):
    """A second run into the folder that it reads does only what is missing."""

    def again(*words: str) -> int:
        return cli.main(["-i", str(folder), "-o", str(folder), *([flag] if flag else []), *words])

    assert again() == 0
    first = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    assert len(first) == 4
    (folder / "new.bmp").write_bytes(BMP)
    assert again() == (0 if flag else 1)
    shown = capsys.readouterr()
    assert shown.err.count(f"2 files in {folder} are results of other pictures there: not enlarged again.") == 1
    assert {path.name: path.read_bytes() for path in folder.glob("*.png")} == first
    assert (folder / "new_out.bmp").exists()
    if flag:
        assert "1 done, 2 skipped, 0 failed" in shown.out
    else:  # nobody knows whose they are, so they keep their bytes
        assert "1 done, 0 skipped, 2 failed" in shown.out
        assert "would overwrite the input" in shown.err
    if flag == "--resume":
        assert again("-s", "2") == 0
        assert "3 done, 0 skipped, 0 failed" in capsys.readouterr().out, "our own results are replaced"
        assert len(list(folder.glob("*.png"))) == 4


def test_a_name_like_a_result_is_a_picture_where_results_go_elsewhere(folder, capsys):
    (folder / "0 first_out.png").write_bytes(PNG)
    assert enlarge(folder) == 0
    assert "3 done" in capsys.readouterr().out
    assert "0 first_out_out.png" in results(folder.parent / "out")


def test_two_inputs_of_one_result(folder, capsys):
    (folder / "a.png").write_bytes(PNG)
    (folder / "a.bmp").write_bytes(BMP)
    assert enlarge(folder, "--ext", "png") == 1
    shown = capsys.readouterr()
    assert "3 done, 0 skipped, 1 failed" in shown.out
    line = next(line for line in shown.err.splitlines() if line.startswith("["))
    assert re.match(r"\[2/4\] failed: .*a\.bmp is not written to .*a_out\.png: .*a\.png has the same result name", line)
    assert line.endswith("rename one of the two.")
    assert "a_out.png" in results(folder.parent / "out")
    assert enlarge(folder) == 0, "each keeps its own suffix"
    assert {"a_out.png", "a_out.bmp"} <= set(results(folder.parent / "out"))


def test_a_failure_on_the_device_names_the_picture(folder, capsys, stand_in):
    def fail(img: np.ndarray) -> None:
        if img.shape[0] == 40:
            raise RuntimeError("a kernel broke")

    (folder / "odd.png").write_bytes(PNG)
    stand_in(Nearest(fail))
    check(folder, capsys, "odd.png", "a kernel broke")


# What is said


def test_korean_lines_are_korean(folder, tmp_path, capsys):
    for name, (data, _) in CONTENTS.items():
        (folder / name).write_bytes(data)
    (folder / "x.png").mkdir()
    assert enlarge(folder, "--lang", "ko") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
    assert len(lines) == len(CONTENTS) + 1
    formats = {word.lower() for word in re.findall("[A-Za-z]{3,}", FORMATS)} | {"max", "pixels", "idat"}
    for line in lines:
        sentence = re.sub("“.*”|--[a-z-]+", "", line.split(": ", 2)[2])  # a decoder's own words
        assert re.search("[가-힣]", sentence)
        assert {word.lower() for word in re.findall("[A-Za-z]{3,}", sentence)} <= formats, line


def test_a_single_bad_picture_is_said_once(tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"")
    assert cli.main(["-i", str(tmp_path / "bad.png"), "-o", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == f"[1/1] failed: {tmp_path / 'bad.png'}: the file is empty.\n"


@pytest.mark.parametrize(("words", "flag"), [((), "--skip-existing"), (("--resume",), "--resume")])
def test_what_continues_a_stopped_run_is_named(folder, capsys, stand_in, words, flag):
    def stop(img: np.ndarray) -> None:
        raise KeyboardInterrupt

    stand_in(Nearest(stop))
    assert enlarge(folder, *words) == 130
    assert f"the same command with {flag} goes on from here" in capsys.readouterr().err


def test_unfinished_files_of_a_killed_run_go_from_subfolders_too(folder, tmp_path):
    (folder / "sub").mkdir()
    (folder / "sub" / "in.png").write_bytes(PNG)
    (tmp_path / "out" / "sub").mkdir(parents=True)
    left = [place / f".a.png.{'0f' * 8}.partial" for place in (tmp_path / "out", tmp_path / "out" / "sub")]
    for path in left:
        path.write_bytes(b"half")
        os.utime(path, (1e9, 1e9))
    assert enlarge(folder, "--recursive") == 0
    assert not any(path.exists() for path in left)
    assert len(results(tmp_path / "out")) == 3
