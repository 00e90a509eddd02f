"""What is written, read back by other libraries; what a format cannot hold; metadata; whole files or none."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Iterator

import cv2
import numpy as np
import pytest
from PIL import Image
from support.picture_samples import (
    bound_by_permissions,
    cmyk_profile,
    exif_block,
    get,
    grey_profile,
    jpeg_segments,
    pattern,
    png_chunks,
    rgb_profile,
)

from realesrgan import files
from realesrgan.errors import PictureError
from realesrgan.files import atomic
from realesrgan.files import writing as packing


def codes(notes: tuple) -> list:
    return [note.code for note in notes]


@pytest.fixture()
def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many bands and several threads for a tiny picture."""
    monkeypatch.setattr(packing, "_BAND_BYTES", 700)
    monkeypatch.setattr(packing.os, "cpu_count", lambda: 4)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("compression", [0, 1, 3, 9])
@pytest.mark.usefixtures("small_bands")
def test_lossless_formats(tmp_path: Path, suffix: str, depth: int, channels: int, compression: int) -> None:
    pixels = pattern(37, 53, channels, depth)
    path = tmp_path / f"a{suffix}"
    assert files.write(path, pixels, compression=compression) == ()
    if suffix == ".tif" and channels == 4 and depth == 8:  # OpenCV multiplies 8-bit TIFF colours by their alpha
        assert np.array_equal(np.asarray(Image.open(path))[..., [2, 1, 0, 3]], pixels)
    else:
        assert np.array_equal(get(path), pixels)
    assert np.array_equal(files.read(path).pixels, pixels)
    with Image.open(path) as image:
        image.load()
        assert image.size == (53, 37)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("depth", [8, 16])
def test_grey_with_alpha_stays_two_channels(tmp_path: Path, suffix: str, depth: int) -> None:
    grey_alpha = pattern(37, 53, 2, depth)
    path = tmp_path / f"a{suffix}"
    assert files.write(path, grey_alpha[..., [0, 0, 0, 1]], mode="LA") == ()
    found = files.read(path)
    assert (found.mode, found.pixels.dtype) == ("LA", grey_alpha.dtype)
    assert np.array_equal(found.pixels, grey_alpha[..., [0, 0, 0, 1]])
    if depth == 8:
        assert np.array_equal(np.asarray(Image.open(path)), grey_alpha)
    elif suffix == ".png":
        assert np.array_equal(get(path), grey_alpha[..., [0, 0, 0, 1]])


def test_grey_of_coloured_pixels_is_their_luma(tmp_path: Path) -> None:
    bgr = pattern(20, 30, 3)
    files.write(tmp_path / "a.png", bgr, mode="L")
    luma = bgr @ np.array([0.114, 0.587, 0.299])
    found = get(tmp_path / "a.png")
    assert found.ndim == 2
    assert np.abs(found - luma).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 4), (1, 300, 3), (300, 1, 3)])
@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jpg", ".webp", ".bmp"])
def test_smallest_sizes(tmp_path: Path, suffix: str, shape: tuple) -> None:
    path = tmp_path / f"a{suffix}"
    files.write(path, np.full(shape, 200, np.uint8))
    with Image.open(path) as image:
        image.load()
        assert image.size == (shape[1], shape[0])


@pytest.mark.usefixtures("small_bands")
def test_same_pixels_give_the_same_bytes(tmp_path: Path) -> None:
    pixels = pattern(64, 64, 3, 16)
    for suffix in (".png", ".tif"):
        contents = set()
        for number in range(3):
            path = tmp_path / f"{number}{suffix}"
            files.write(path, pixels)
            contents.add(path.read_bytes())
        assert len(contents) == 1


def test_input_is_not_changed_and_views_are_taken(tmp_path: Path) -> None:
    whole = pattern(40, 40, 4, 16)
    before = whole.copy()
    view = whole[3:30:2, 5:33]
    for suffix in (".png", ".tif", ".jpg", ".webp", ".bmp"):
        files.write(tmp_path / f"a{suffix}", view)
    assert np.array_equal(whole, before)
    assert np.array_equal(get(tmp_path / "a.png"), view)


def test_16_to_8_bit_is_rounding_by_257(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    notes = files.write(tmp_path / "a.bmp", values)
    assert np.array_equal(get(tmp_path / "a.bmp"), np.rint(np.arange(65536) / 257).astype(np.uint8).reshape(256, 256))
    assert codes(notes) == ["note.depth"]
    for suffix in (".jpg", ".webp"):
        notes = files.write(tmp_path / f"a{suffix}", pattern(40, 40, 3, 16), quality=100)
        assert codes(notes) == ["note.depth"]
        expected = np.rint(pattern(40, 40, 3, 16) / 257)
        assert np.abs(get(tmp_path / f"a{suffix}") - expected).max() <= (0 if suffix == ".webp" else 4)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_alpha_is_laid_onto_white(tmp_path: Path, suffix: str) -> None:
    bgra = pattern(40, 40, 4)
    notes = files.write(tmp_path / f"a{suffix}", bgra, quality=100)
    assert codes(notes) == ["note.alpha"]
    alpha = bgra[..., 3:] / 255
    expected = np.rint(bgra[..., :3] * alpha + 255 * (1 - alpha))
    assert np.abs(get(tmp_path / f"a{suffix}") - expected).max() <= (0 if suffix == ".bmp" else 4)


def test_webp_lossless_keeps_colour_under_alpha(tmp_path: Path) -> None:
    bgra = pattern(30, 30, 4)
    bgra[:10, :, 3] = 0
    assert files.write(tmp_path / "a.webp", bgra, quality=100) == ()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.webp"))[..., [2, 1, 0, 3]], bgra)


def test_quality_and_compression_matter(tmp_path: Path) -> None:
    pixels = cv2.resize(pattern(16, 16, 3), (256, 256), interpolation=cv2.INTER_CUBIC)
    for name in ("jpg", "webp"):
        sizes = []
        for quality in (50, 95):
            files.write(tmp_path / f"a.{name}", pixels, quality=quality)
            sizes.append((tmp_path / f"a.{name}").stat().st_size)
        assert sizes[0] < sizes[1]
    for name in ("png", "tif"):
        sizes = []
        for compression in (0, 3):
            files.write(tmp_path / f"a.{name}", pixels, compression=compression)
            sizes.append((tmp_path / f"a.{name}").stat().st_size)
        assert sizes[1] < 0.8 * sizes[0]
    # The default is no larger than what OpenCV and Pillow make at a like effort.
    files.write(tmp_path / "a.png", pixels)
    assert (tmp_path / "a.png").stat().st_size < 1.1 * len(cv2.imencode(".png", pixels)[1])


@pytest.mark.parametrize(("name", "shape"), [("a.jpg", (1, 65501)), ("a.webp", (16384, 1))])
def test_sizes_that_a_format_does_not_take(tmp_path: Path, name: str, shape: tuple) -> None:
    with pytest.raises(PictureError, match="PNG") as caught:
        files.write(tmp_path / name, np.zeros(shape, np.uint8))
    assert caught.value.code == "picture.format_limit"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_metadata_is_carried(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = exif_block(size=(10, 12))[6:]
    assert files.write(path, pattern(48, 40, 3), icc=rgb_profile(), exif=exif) == ()
    with Image.open(path) as image:
        assert image.info["icc_profile"] == rgb_profile()
        found = image.getexif()
        assert found[272] == "Model 5"
        inner = found.get_ifd(34665)
        assert (inner[40962], inner[40963]) == (40, 48)
        assert (found[256], found[257]) == (40, 48)
        assert inner[36867] == "2024:02:03 04:05:06"
        assert inner[33434] == 0.25
    again = files.read(path)
    assert again.icc == rgb_profile()
    assert again.exif is not None


def test_exif_sizes_beyond_16_bit(tmp_path: Path) -> None:
    files.write(tmp_path / "a.png", np.zeros((1, 70000), np.uint8), exif=exif_block(size=(10, 12))[6:])
    with Image.open(tmp_path / "a.png") as image:
        assert image.getexif().get_ifd(34665)[40962] == 70000


def test_nothing_is_attached_where_nothing_is_given(tmp_path: Path) -> None:
    files.write(tmp_path / "a.png", pattern(9, 8))
    files.write(tmp_path / "a.jpg", pattern(9, 8))
    assert set(png_chunks((tmp_path / "a.png").read_bytes())) == {b"IHDR", b"IDAT", b"IEND"}
    assert not {0xE1, 0xE2} & set(jpeg_segments((tmp_path / "a.jpg").read_bytes()))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("profile", ["grey", "cmyk", "broken"])
def test_a_profile_that_does_not_fit_is_left_out(tmp_path: Path, suffix: str, profile: str) -> None:
    icc = {"grey": grey_profile(), "cmyk": cmyk_profile()[0], "broken": b"not a profile"}[profile]
    notes = files.write(tmp_path / f"a.{suffix}", pattern(9, 8, 3), icc=icc)
    assert codes(notes) == ["note.icc_dropped"]
    with Image.open(tmp_path / f"a.{suffix}") as image:
        assert image.info.get("icc_profile") is None


def test_grey_profile_on_grey(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "tif"):
        assert files.write(tmp_path / f"a.{suffix}", pattern(9, 8, 1), icc=grey_profile()) == ()
        with Image.open(tmp_path / f"a.{suffix}") as image:
            assert image.info["icc_profile"] == grey_profile()


def test_a_profile_of_several_jpeg_segments(tmp_path: Path) -> None:
    icc = rgb_profile() + np.random.default_rng(0).bytes(150_000)
    assert files.write(tmp_path / "a.jpg", pattern(9, 8, 3), icc=icc) == ()
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.info["icc_profile"] == icc


def test_exif_too_large_for_jpeg(tmp_path: Path) -> None:
    exif = exif_block()[6:] + bytes(70_000)
    assert codes(files.write(tmp_path / "a.jpg", pattern(9, 8, 3), exif=exif)) == ["note.exif_dropped"]
    assert codes(files.write(tmp_path / "a.png", pattern(9, 8, 3), exif=exif)) == []
    assert codes(files.write(tmp_path / "a.png", pattern(9, 8, 3), exif=b"nonsense")) == ["note.exif_damaged"]


def test_a_round_trip_of_a_tiff_keeps_its_description(tmp_path: Path) -> None:
    image = Image.fromarray(pattern(12, 10, 3))
    image.save(tmp_path / "in.tif", exif=exif_block(6), dpi=(300, 300), description="한국어 caption")
    source = files.read(tmp_path / "in.tif")
    files.write(tmp_path / "out.jpg", source.pixels, exif=source.exif)
    files.write(tmp_path / "out.tif", source.pixels, exif=source.exif)
    for name in ("out.jpg", "out.tif"):
        with Image.open(tmp_path / name) as found:
            exif = found.getexif()
            assert exif[271] == "Maker" and exif[282] == 300
            assert exif.get(274, 1) == 1
            assert exif.get_ifd(34665)[36867] == "2024:02:03 04:05:06"


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (np.zeros((4, 4, 2), np.uint8), {}),
        (np.zeros((4, 4), np.float32), {}),
        (np.zeros((0, 4), np.uint8), {}),
        (np.zeros((4, 4, 3), np.uint8), {"mode": "RGBA"}),
        (np.zeros((4, 4), np.uint8), {"quality": 0}),
        (np.zeros((4, 4), np.uint8), {"compression": 10}),
    ],
)
def test_wrong_arguments_are_one_error(tmp_path: Path, pixels: np.ndarray, options: dict) -> None:
    with pytest.raises(PictureError):
        files.write(tmp_path / "a.png", pixels, **options)
    assert list(tmp_path.iterdir()) == []


def test_unknown_suffix_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"\.webp") as caught:
        files.write(tmp_path / "a.xyz", pattern(4, 4))
    assert caught.value.fields["path"] == str(tmp_path / "a.xyz")


# Whole files or none


@contextlib.contextmanager
def old_file(path: Path) -> Iterator[None]:
    """Whatever happens inside: the old content is there afterwards and nothing else is in the folder."""
    path.write_bytes(b"old")
    yield
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.webp", "a.bmp"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)])
def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    real_open = os.fdopen

    class Full(io.FileIO):
        def write(self, data):  # type: ignore[no-untyped-def]
            if self.tell() + len(data) > 100:
                raise OSError(number, os.strerror(number))
            return super().write(data)

    monkeypatch.setattr(atomic.os, "fdopen", lambda descriptor, mode: io.BufferedWriter(Full(descriptor, mode)))
    with old_file(tmp_path / name), pytest.raises(PictureError) as caught:
        files.write(tmp_path / name, pattern(40, 40, 3))
    assert caught.value.fields["errno"] == number
    if number == errno.ENOSPC:
        assert caught.value.code == "picture.disk_full"
        assert "disk is full" in str(caught.value)
    monkeypatch.setattr(atomic.os, "fdopen", real_open)
    files.write(tmp_path / name, pattern(40, 40, 3))


@pytest.mark.skipif(os.name == "nt", reason="RLIMIT_FSIZE is POSIX")
def test_a_real_limit_on_the_file_size(tmp_path: Path) -> None:
    code = (
        "import resource, sys, numpy as np\n"
        "from realesrgan import files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))\n"
        "try:\n"
        "    files.write(sys.argv[1], np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8))\n"
        "except files.PictureError as error:\n"
        "    print(error.code)\n"
    ).replace("files.PictureError", "__import__('realesrgan.errors').errors.PictureError")
    with old_file(tmp_path / "a.png"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a.png")],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert done.stdout.strip() == "picture.disk_full", done.stderr


def test_interruption_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "fsync", interrupted)
    with old_file(tmp_path / "a.png"), pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "a.png", pattern(9, 8))


def test_a_target_held_open_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.replace, []

    def held(source: str, target: str) -> None:
        calls.append(source)
        if len(calls) < 4:
            raise PermissionError(errno.EACCES, "held by a viewer")
        real(source, target)

    monkeypatch.setattr(atomic.os, "replace", held)
    files.write(tmp_path / "a.png", pattern(9, 8))
    assert len(calls) == 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(("windows", "code"), [(True, "picture.held"), (False, "picture.permission")])
def test_a_target_held_open_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: bool, code: str) -> None:
    monkeypatch.setattr(atomic, "_WINDOWS", windows)
    assert atomic.RETRY_SECONDS == 2.0
    now = [0.0]
    monkeypatch.setattr(atomic.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(atomic.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def held(*_: object) -> None:
        raise PermissionError(errno.EACCES, "held by a viewer")

    monkeypatch.setattr(atomic.os, "replace", held)
    with old_file(tmp_path / "a.png"), pytest.raises(PictureError, match="another program") as caught:
        files.write(tmp_path / "a.png", pattern(9, 8))
    assert caught.value.code == code
    assert 2.0 <= now[0] < 2.2


def test_a_read_only_target_is_named_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: nothing is tried again, because nothing would change."""
    monkeypatch.setattr(atomic, "_WINDOWS", True)
    monkeypatch.setattr(atomic.time, "sleep", lambda seconds: pytest.fail("there is nothing to wait for"))

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Access is denied")

    monkeypatch.setattr(atomic.os, "replace", refuse)
    with old_file(tmp_path / "a.png"), pytest.raises(PictureError, match="the file is read-only") as caught:
        (tmp_path / "a.png").chmod(0o444)
        files.write(tmp_path / "a.png", pattern(9, 8))
    assert caught.value.code == "picture.target_read_only"
    (tmp_path / "a.png").chmod(0o644)


def test_a_target_is_checked_without_being_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "한글.png"
    monkeypatch.setattr(atomic, "_WINDOWS", True)
    atomic.check_replaceable(target)
    target.write_bytes(b"old")
    before = target.stat().st_mtime_ns
    atomic.check_replaceable(target)
    assert (target.read_bytes(), target.stat().st_mtime_ns) == (b"old", before)
    target.chmod(0o444)
    with pytest.raises(atomic.ReadOnly):
        atomic.check_replaceable(target)
    target.chmod(0o644)

    def held(*_: object) -> None:
        raise PermissionError(errno.EACCES, "The process cannot access the file")

    monkeypatch.setattr(atomic.os, "rename", held)
    with pytest.raises(atomic.HeldOpen):
        atomic.check_replaceable(target)


@pytest.mark.skipif(os.name != "nt", reason="elsewhere an open file can be replaced")
def test_an_open_target_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "RETRY_SECONDS", 0.2)
    target = tmp_path / "한글.png"
    target.write_bytes(b"old")
    with target.open("rb"):
        with pytest.raises(atomic.HeldOpen):
            atomic.check_replaceable(target)
        with pytest.raises(PictureError, match="another program holds the file open"):
            files.write(target, pattern(9, 8))
    assert target.read_bytes() == b"old"
    atomic.check_replaceable(target)
    files.write(target, pattern(9, 8))


def test_a_report_that_a_scanner_holds_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def opening() -> int:
        tried.append(1)
        if len(tried) < 3:
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        return 7

    monkeypatch.setattr(atomic.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(atomic, "_WINDOWS", True)
    assert atomic.patiently(opening) == 7
    tried.clear()
    monkeypatch.setattr(atomic, "_WINDOWS", False)
    with pytest.raises(PermissionError):
        atomic.patiently(opening)
    assert len(tried) == 1, "elsewhere it means that there is no permission"


def test_unfinished_names_near_the_limit_are_no_longer_than_the_target(tmp_path: Path) -> None:
    name = "n" * 60 + ".png"
    short = atomic._partial_path(Path("/folder") / name).name
    assert short.startswith(".nnn") and len(short) == 50
    deep = Path("/" + "d" * 230)
    for name in ("n" * 60 + ".png", "n" * 30 + ".png", "n" * 22 + ".png"):
        partial = atomic._partial_path(deep / name).name
        assert len(partial) <= len(name)
        assert partial.endswith(".partial")


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_read_only_folder(tmp_path: Path) -> None:
    with bound_by_permissions(tmp_path), old_file(tmp_path / "a.png"):
        tmp_path.chmod(0o500)
        for name in ("a.png", "b.png", "sub/c.png"):
            with pytest.raises(PictureError, match="no permission") as caught:
                files.write(tmp_path / name, pattern(9, 8))
            assert caught.value.code == "picture.permission"
    with bound_by_permissions(tmp_path):
        tmp_path.chmod(0o700)
        files.write(tmp_path / "a.png", pattern(9, 8))


@pytest.mark.parametrize(("number", "reason"), [(errno.EROFS, "read-only"), (errno.EACCES, "no permission")])
def test_read_only_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic.os, "open", refuse)
    with old_file(tmp_path / "a.png"), pytest.raises(PictureError, match=reason):
        files.write(tmp_path / "a.png", pattern(9, 8))


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for target, code in (("folder.png", "picture.directory"), ("file/a.png", "picture.missing")):
        with pytest.raises(PictureError) as caught:
            files.write(tmp_path / target, pattern(9, 8))
        assert caught.value.code == code
    with pytest.raises(PictureError):
        files.write(tmp_path / "nul\0.png", pattern(9, 8))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.png"]


def test_missing_folders_are_made_and_names_of_all_kinds_work(tmp_path: Path) -> None:
    for name in ("a b.png", "사진.png", "é😀.jpg", "-r.png", "x" * 240 + ".webp", "é" * 120 + ".tif", "dot..png"):
        path = tmp_path / "새 폴더" / "deep" / name
        files.write(path, pattern(9, 8))
        assert files.read(path).pixels.shape == (9, 8, 3)
        assert [entry.name for entry in path.parent.iterdir()] == [name]
        path.unlink()


@pytest.mark.skipif(os.name == "nt", reason="names of 255 bytes")
def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(PictureError) as caught:
        files.write(tmp_path / ("x" * 300 + ".png"), pattern(9, 8))
    assert caught.value.code == "picture.name_length"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to("real.png")
    files.write(tmp_path / "link.png", pattern(9, 8))
    assert (tmp_path / "link.png").is_symlink()
    assert files.read(tmp_path / "real.png").pixels.shape == (9, 8, 3)
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "b.png").symlink_to("a.png")
    with pytest.raises(PictureError):
        files.write(tmp_path / "a.png", pattern(9, 8))


def test_many_writers_of_one_name(tmp_path: Path) -> None:
    pictures = [np.full((64, 64, 3), number, np.uint8) for number in range(8)]
    threads = [threading.Thread(target=files.write, args=(tmp_path / "a.png", picture)) for picture in pictures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = files.read(tmp_path / "a.png").pixels
    assert any(np.array_equal(found, picture) for picture in pictures)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_no_thread_outlives_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_bands: None) -> None:
    class Stop(Exception):
        pass

    before = threading.active_count()

    def fail(*_: object) -> int:
        raise Stop

    from realesrgan.files import writing as encoders

    monkeypatch.setattr(encoders.zlib, "adler32", fail)
    with old_file(tmp_path / "a.png"), pytest.raises(Stop) as caught:
        files.write(tmp_path / "a.png", pattern(60, 60))
    assert caught.value is not None
    assert threading.active_count() == before


def test_leftovers(tmp_path: Path) -> None:
    left = tmp_path / f".a.png.{'0f' * 8}{atomic.PARTIAL_SUFFIX}"
    foreign = tmp_path / ".mine.partial"
    for path in (left, foreign):
        path.write_bytes(b"")
    assert files.remove_leftovers(tmp_path) == []
    old = time.time() - 7200
    for path in (left, foreign):
        os.utime(path, (old, old))
    assert files.remove_leftovers(tmp_path) == [left]
    assert foreign.exists()
