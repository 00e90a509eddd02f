"""Input that is broken, dangerous or in the way: one kind of error, naming the file, and never half a picture."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path
from typing import Dict

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile
from support.picture_samples import bound_by_permissions, by_opencv, exif_block, pattern, png, saved

from realesrgan import files
from realesrgan.errors import PictureError
from realesrgan.files import picture
from realesrgan.files import reading as reader


def refuse(path: object, **options: int) -> PictureError:
    with pytest.raises(PictureError) as caught:
        files.read(path, **options)  # type: ignore[arg-type]
    error = caught.value
    assert error.fields["path"] == os.fspath(path)  # type: ignore[call-overload]
    assert error.fields["reason"]
    assert error.fields["reason"] in str(error) and "\n" not in error.fields["reason"]
    assert error.code.startswith("picture.")
    return error


def refuse_bytes(tmp_path: Path, data: bytes, **options: int) -> PictureError:
    (tmp_path / "bad.png").write_bytes(data)
    return refuse(tmp_path / "bad.png", **options)


def samples() -> Dict[str, bytes]:
    rgb, deep, alpha = pattern(40, 48, 3), pattern(40, 48, 3, 16), pattern(40, 48, 4)
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    return {
        "png": by_opencv(".png", rgb),
        "png16": by_opencv(".png", deep),
        "png palette": saved(image.convert("P"), "PNG"),
        "jpeg": by_opencv(".jpg", noise),
        "jpeg progressive": saved(image, "JPEG", progressive=True, exif=exif_block(6)),
        "jpeg cmyk": saved(image.convert("CMYK"), "JPEG"),
        "webp": by_opencv(".webp", noise, cv2.IMWRITE_WEBP_QUALITY, 90),
        "webp lossless": saved(Image.fromarray(alpha), "WEBP", lossless=True),
        "bmp": by_opencv(".bmp", rgb),
        "tiff lzw": by_opencv(".tiff", rgb),
        "tiff16": by_opencv(".tiff", deep),
        "tiff raw": saved(image, "TIFF"),
        "tiff deflate": saved(image, "TIFF", compression="tiff_adobe_deflate"),
        "gif": saved(image.convert("P"), "GIF"),
    }


@pytest.mark.parametrize("name", list(samples()))
def test_a_truncated_file_is_an_error_wherever_it_ends(tmp_path: Path, name: str) -> None:
    data = samples()[name]
    (tmp_path / "good").write_bytes(data)
    whole = files.read(tmp_path / "good")
    lengths = (
        {len(data) * part // 24 for part in range(24)} | {len(data) - back for back in (16, 100)} | {1, 2, 8, 12, 33}
    )
    for length in sorted(length for length in lengths if 0 <= length < len(data)):
        (tmp_path / "cut").write_bytes(data[:length])
        try:
            found = files.read(tmp_path / "cut")
        except PictureError as error:
            assert error.code in ("picture.truncated", "picture.damaged", "picture.empty", "picture.format"), error
        else:
            # Only padding or what stands behind the pixels was lost.
            assert np.array_equal(found.pixels, whole.pixels), (name, length, len(data))
            assert length >= len(data) - 130


def test_truncation_is_seen_though_another_library_allows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    refuse_bytes(tmp_path, samples()["jpeg"][:-900])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True  # and it is left as it was


def test_a_download_whose_rest_is_zero(tmp_path: Path) -> None:
    for name in ("png", "png16", "jpeg", "jpeg progressive", "jpeg cmyk", "tiff deflate", "gif"):
        data = samples()[name]
        half = len(data) // 2
        assert refuse_bytes(tmp_path, data[:half] + bytes(len(data) - half)).code != "picture.missing"
        assert refuse_bytes(tmp_path, data[:half] + bytes(100_000)).code != "picture.missing"


def test_a_flipped_bit_in_a_png_is_seen(tmp_path: Path) -> None:
    for name in ("png", "png16", "png palette"):
        data = bytearray(samples()[name])
        at = data.index(b"IDAT") + 30
        data[at] ^= 4
        assert "checksum" in str(refuse_bytes(tmp_path, bytes(data)))


@pytest.mark.parametrize(("depth", "color"), [(8, 2), (16, 2), (16, 6), (16, 4), (16, 0), (1, 0)])
def test_a_png_with_too_few_pixels(tmp_path: Path, depth: int, color: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    row = b"\0" + bytes(-(-20 * channels * depth // 8))
    (tmp_path / "good.png").write_bytes(png(row * 10, (20, 10), depth, color))
    assert files.read(tmp_path / "good.png").pixels.shape[:2] == (10, 20)
    refuse_bytes(tmp_path, png(row * 9, (20, 10), depth, color))
    refuse_bytes(tmp_path, png((row * 10)[:-1], (20, 10), depth, color))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "picture.empty"),
        (b"\0", "picture.format"),
        ("<html>한국어</html>".encode() * 30, "picture.format"),
        (b"hello", "picture.format"),
        (b"%PDF-1.7 \0\x93\xff", "picture.format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "picture.format"),
        (b"\x89PNG\r\n\x1a\n", "picture.truncated"),
        (b"\xff\xd8\xff", "picture.damaged"),
        (b"BM", "picture.damaged"),
        (b"II*\0", "picture.damaged"),
        (b"RIFF\0\0\0\0WEBP", "picture.truncated"),
        (b"GIF89a", "picture.damaged"),
    ],
)
def test_what_is_no_picture(tmp_path: Path, data: bytes, code: str) -> None:
    assert refuse_bytes(tmp_path, data).code == code


def test_text_named_png_is_called_text(tmp_path: Path) -> None:
    assert "text" in str(refuse_bytes(tmp_path, b"just some words\n" * 50))


def tiff_header(width: int, height: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 4, height), (279, 4, width * height & 0xFFFFFFFF)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def bombs(side: int) -> Dict[str, bytes]:
    """Small files whose headers claim side x side pixels."""
    gif = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    gif += b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x44\x01\0;"
    bmp = (
        b"BM"
        + struct.pack("<IHHI", 60, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    jpeg = bytearray(saved(Image.new("L", (16, 16)), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", side, side)
    size = (side - 1).to_bytes(3, "little") * 2
    webp = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + b"VP8L" + struct.pack("<I", 5) + b"\x2f" + bytes(4)
    return {
        "png": png(zlib.compress(bytes(100)), (side, side), 8, 2),
        "png16": png(bytes(100), (side, side), 16, 6),
        "jpeg": bytes(jpeg),
        "bmp": bmp + bytes(100),
        "gif": gif,
        "tiff": tiff_header(side, side),
        "webp": b"RIFF" + struct.pack("<I", len(webp)) + webp,
    }


@pytest.mark.parametrize("name", list(bombs(9)))
@pytest.mark.parametrize("side", [16385, 60000])
def test_a_bomb_is_refused_from_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, side: int
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("decoded before the size was checked")

    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    monkeypatch.setattr(cv2, "imdecode", never)
    if name == "webp" and side > 16384:
        assert side * side > picture.MAX_PIXELS
    error = refuse_bytes(tmp_path, bombs(side)[name])
    assert error.code == "picture.too_large"
    assert f"{side}x{side}" in str(error) and "--max-pixels" in str(error)


def test_the_limit_is_the_callers(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(by_opencv(".png", pattern(10, 12)))
    assert files.read(tmp_path / "a.png", max_pixels=120).pixels.shape == (10, 12, 3)
    assert refuse(tmp_path / "a.png", max_pixels=119).fields["limit"] == 119


def test_pillows_own_limit_does_not_stand_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # stands for a max_pixels beyond Pillow's 179 million
    for name, data in samples().items():
        if not name.startswith(("webp", "gif")):  # WebP is never so large, and GIF in practice
            (tmp_path / "a").write_bytes(data)
            assert files.read(tmp_path / "a").pixels.size > 40, name


def test_a_deflate_bomb_in_a_profile(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(1 << 27), 9)
    rows = (b"\0" + bytes(24)) * 8
    (tmp_path / "a.png").write_bytes(png(rows, (8, 8), 8, 2, [(b"iCCP", b"x\0\0" + bomb), (b"zTXt", b"y\0\0" + bomb)]))
    assert files.read(tmp_path / "a.png").icc is None


def test_a_file_larger_than_any_picture_is_not_loaded(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as stream:
        stream.truncate(1 << 33)  # sparse
    assert refuse(tmp_path / "a.png").code == "picture.file_size"


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "x.png").mkdir()
    assert refuse(tmp_path / "gone.png").code == "picture.missing"
    assert refuse(str(tmp_path / "file" / "a.png")).code == "picture.missing"
    assert refuse(tmp_path / "x.png").code == "picture.directory"
    assert refuse(tmp_path / ("x" * 300 + ".png")).code in ("picture.name_length", "picture.missing")
    assert refuse(str(tmp_path / "a\0.png")).code == "picture.missing"


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
def test_pipes_and_devices_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert refuse(tmp_path / "pipe.png").code == "picture.not_a_file"
    assert refuse("/dev/zero").code == "picture.not_a_file"


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(samples()["png"])
    with bound_by_permissions(tmp_path):
        assert files.read(tmp_path / "a.png").format == "PNG"
        (tmp_path / "a.png").chmod(0)
        assert refuse(tmp_path / "a.png").code == "picture.permission"


def test_errors_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(samples()["png"])

    def broken(*_: object) -> int:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(reader.os, "open", broken)
    assert refuse(tmp_path / "a.png").code == "picture.permission"


def test_names_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = samples()["png"]
    monkeypatch.chdir(tmp_path)
    names = ["a b.png", "사진.png", "é😀.png", "-rf.png", "--help", "%s{0}.png", "new\nline.png", "x" * 250 + ".png"]
    for name in names[:6] if os.name == "nt" else names:
        Path(name).write_bytes(data)
        assert files.read(name).pixels.shape == (40, 48, 3)
        assert files.read(tmp_path / name).pixels.shape == (40, 48, 3)
    if sys.platform == "linux":  # bytes that are no UTF-8
        name = os.fsdecode(b"\xff\xfe.png")
        Path(name).write_bytes(data)
        assert files.read(name).pixels.shape == (40, 48, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_reading_ends_when_it_is_stopped(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 600, 3), dtype=np.uint8)
    (tmp_path / "a").write_bytes(saved(Image.fromarray(noise), kind))
    asked = []

    def stopped() -> bool:
        asked.append(1)
        return len(asked) > 5

    with pytest.raises(PictureError) as caught:
        files.read(tmp_path / "a", stopped=stopped)
    assert caught.value.code == "picture.stopped" and len(asked) == 6
    assert files.read(tmp_path / "a").pixels.shape == (500, 600, 3), "only the reading that it was said of"


def test_memory_that_does_not_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out(*_: object) -> None:
        raise MemoryError

    (tmp_path / "a.png").write_bytes(samples()["png"])
    monkeypatch.setattr(reader, "_decode", out)
    assert refuse(tmp_path / "a.png").code == "picture.memory"


def test_settings_of_the_process_are_left_alone_by_many_threads(tmp_path: Path) -> None:
    paths = []
    for name, data in samples().items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
    limit = Image.MAX_IMAGE_PIXELS
    before, level = list(warnings.filters), getattr(cv2, "getLogLevel", int)()

    def work() -> None:
        for path in paths:
            files.read(path)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before
    assert getattr(cv2, "getLogLevel", int)() == level
    assert reader._any_size.users == 0
    assert limit == Image.MAX_IMAGE_PIXELS


def test_decoders_say_nothing_by_themselves(tmp_path: Path) -> None:
    """Warnings as errors, and nothing on the console, for good and for broken files."""
    block = bytearray(exif_block(6))
    block[30:60] = bytes(range(200, 230))
    broken = {f"cut {name}": data[: len(data) * 2 // 3] for name, data in samples().items()}
    broken["exif.jpg"] = saved(Image.fromarray(pattern(9, 8)), "JPEG", exif=bytes(block))
    broken["exif.tif"] = saved(Image.fromarray(pattern(9, 8)), "TIFF").replace(b"\x0f\x01", b"\x69\x87")
    palette = Image.fromarray(pattern(9, 8)).convert("P")
    broken["p.png"] = saved(palette, "PNG", transparency=bytes(range(200)))
    srgb = b"x\0\0" + zlib.compress(bytes(400))
    broken["srgb.png"] = png((b"\0" + bytes(48)) * 8, (8, 8), 16, 2, [(b"iCCP", srgb), (b"gAMA", bytes(4))])
    for name, data in {**samples(), **broken}.items():
        (tmp_path / name).write_bytes(data)
    code = (
        "import sys\nfrom pathlib import Path\nfrom realesrgan import files\n"
        "from realesrgan.errors import PictureError\n"
        "read = 0\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    try:\n        files.read(path)\n        read += 1\n    except PictureError:\n        pass\n"
        "print(read)\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.stderr == ""
    assert int(done.stdout) >= len(samples())
