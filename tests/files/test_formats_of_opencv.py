"""Formats that the original reads through OpenCV, TGA and DDS; and files that are to be judged rightly."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support.picture_samples import by_opencv, pattern, saved

from realesrgan import files
from realesrgan.errors import PictureError

CASES = Path(__file__).resolve().parents[1] / "data" / "cases"


def read(tmp_path: Path, data: bytes, name: str = "picture", **options: object) -> files.PictureFile:
    (tmp_path / name).write_bytes(data)
    return files.read(tmp_path / name, **options)  # type: ignore[arg-type]


def refuse(tmp_path: Path, data: bytes, name: str = "picture", **options: object) -> PictureError:
    with pytest.raises(PictureError) as caught:
        read(tmp_path, data, name, **options)
    return caught.value


def codes(found: files.PictureFile) -> list:
    return [note.code for note in found.notes]  # type: ignore[attr-defined]


@pytest.mark.parametrize("binary", [0, 1])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(("suffix", "channels"), [(".ppm", 3), (".pgm", 1)])
def test_netpbm_as_opencv_writes_it(tmp_path: Path, suffix: str, channels: int, depth: int, binary: int) -> None:
    pixels = pattern(21, 34, channels, depth)
    data = by_opencv(suffix, pixels, cv2.IMWRITE_PXM_BINARY, binary)
    found = read(tmp_path, data)
    assert (found.format, found.mode, found.notes) == ("PNM", "L" if channels == 1 else "RGB", ())
    assert found.pixels.dtype == pixels.dtype and np.array_equal(found.pixels, pixels)
    for cut in (len(data) - 30, len(data) // 2, 14, 6, 3):
        assert refuse(tmp_path, data[:cut]).code in ("picture.truncated", "picture.damaged"), cut
    assert refuse(tmp_path, data, max_pixels=21 * 34 - 1).code == "picture.too_large"


def test_netpbm_of_all_kinds(tmp_path: Path) -> None:
    bits = np.array([[0, 255, 0], [255, 0, 255]], np.uint8)
    packed = b"P4\n3 2\n" + bytes((0b10100000, 0b01000000))
    for data in (b"P1\n# a comment\n3 2\n1 0 1\n0 1 0\n", b"P1 3 2 101010", packed):
        assert np.array_equal(read(tmp_path, data).pixels, bits)
    grey = read(tmp_path, b"P2\n2 2 # size\n100\n0 50\n100 200\n")
    assert grey.pixels.tolist() == [[0, 128], [255, 255]]
    deep = read(tmp_path, b"P5 2 1 1000 " + struct.pack(">HH", 500, 1000))
    assert deep.pixels.dtype == np.uint16 and deep.pixels.tolist() == [[32768, 65535]]
    assert refuse(tmp_path, b"P5 2 2 70000 ....").code == "picture.damaged"
    assert refuse(tmp_path, b"P6 0 2 255 ....").code == "picture.damaged"
    assert refuse(tmp_path, b"P3 100000 100000 255 1 2 3").code == "picture.too_large"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_pfm(tmp_path: Path, channels: int, order: str) -> None:
    deep = pattern(9, 8, channels, 16)
    stored = (deep / 65535).astype(order + "f4")[::-1]
    head = b"%s\n8 9\n%s1.0\n" % (b"Pf" if channels == 1 else b"PF", b"-" if order == "<" else b"")
    found = read(tmp_path, head + np.ascontiguousarray(stored[..., ::-1] if channels == 3 else stored).tobytes())
    assert (found.format, codes(found)) == ("PFM", ["note.float"])
    assert np.array_equal(found.pixels, deep)


def test_radiance(tmp_path: Path) -> None:
    light = (pattern(21, 34) / 255).astype(np.float32)
    data = by_opencv(".hdr", light)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    found = read(tmp_path, data)
    assert (found.format, found.mode, codes(found)) == ("HDR", "RGB", ["note.float"])
    assert np.abs(found.pixels / 65535 - expected).max() < 1e-4, "the tone is not changed"
    bright = read(tmp_path, by_opencv(".hdr", light * 40))
    assert float(bright.notes[0].fields["white"]) == pytest.approx(float((light * 40).max()), rel=0.02)  # type: ignore[attr-defined]
    assert np.abs(bright.pixels.astype(int) - found.pixels * (1 / light.max())).max() < 1500, "nothing is clipped"
    assert refuse(tmp_path, data, max_pixels=100).code == "picture.too_large"
    for cut in (len(data) // 2, 60, 20):
        assert refuse(tmp_path, data[:cut]).code in ("picture.truncated", "picture.damaged"), cut


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", [8, 16])
def test_jpeg_2000(tmp_path: Path, channels: int, depth: int) -> None:
    pixels = pattern(40, 48, channels, depth)
    data = by_opencv(".jp2", pixels, cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000)
    found = read(tmp_path, data)
    assert (found.format, found.mode) == ("JPEG2000", "L" if channels == 1 else "RGB")
    assert found.pixels.dtype == pixels.dtype and np.array_equal(found.pixels, pixels)
    assert refuse(tmp_path, data, max_pixels=40 * 48 - 1).code == "picture.too_large"
    for cut in (len(data) // 3, 100, 60, 13):
        assert refuse(tmp_path, data[:cut]).code in ("picture.truncated", "picture.damaged"), cut


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_tga_and_dds(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(pattern(12, 13, {"L": 1, "RGB": 3, "RGBA": 4}[mode]))
    for kind, name in (("TGA", "a.tga"), ("DDS", "a.dds")):
        data = saved(image, kind)
        found = read(tmp_path, data, name)
        assert (found.format, found.mode) == (kind, mode)
        expected = np.asarray(image)
        order = {"L": slice(None), "RGB": [2, 1, 0], "RGBA": [2, 1, 0, 3]}[mode]
        assert np.array_equal(found.pixels, expected if mode == "L" else expected[..., order])
        assert refuse(tmp_path, data[: len(data) // 2], name).code in ("picture.truncated", "picture.damaged")
        assert refuse(tmp_path, data, name, max_pixels=100).code == "picture.too_large"
    assert refuse(tmp_path, saved(image, "TGA")[:-26], "a.png").code == "picture.format", "TGA is known by its suffix"


def test_a_video_names_its_command(tmp_path: Path) -> None:
    for data in (b"\0\0\0\x20ftypisom" + bytes(50), b"\x1aE\xdf\xa3" + bytes(50), b"RIFF\0\0\0\0AVI LIST" + bytes(50)):
        error = refuse(tmp_path, data, "a.mp4")
        assert error.code == "picture.video" and "realesrgan video" in str(error)


# Judged rightly


def test_a_jpeg_without_its_end_marker_is_whole(tmp_path: Path) -> None:
    assert codes(files.read(CASES / "noeoi2.jpg")) == ["note.no_end"]
    image = Image.fromarray(pattern(100, 120))
    ways = ({}, {"progressive": True}, {"optimize": True, "quality": 30}, {"subsampling": 0, "restart_marker_rows": 1})
    for options in ways:
        data = saved(image, "JPEG", **options)
        whole = read(tmp_path, data)
        for cut in (data[:-2], data[:-1], data[:-2] + bytes(5000)):
            found = read(tmp_path, cut)
            assert codes(found) == ["note.no_end"], options
            assert np.array_equal(found.pixels, whole.pixels)
    grey = saved(image.convert("L"), "JPEG")
    assert codes(read(tmp_path, grey[:-2])) == ["note.no_end"]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"restart_marker_rows": 1}], ids=str)
def test_a_jpeg_cut_short_is_refused_unless_it_is_accepted(tmp_path: Path, options: dict) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (90, 100, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), "JPEG", **options)
    for cut in (3, 4, 5, 10, 100, len(data) // 2, len(data) * 3 // 4):
        error = refuse(tmp_path, data[:-cut])
        assert error.code == "picture.truncated" and "--accept-truncated" in str(error), cut
        found = read(tmp_path, data[:-cut], accept_truncated=True)
        assert codes(found) == ["note.truncated"]
        assert found.pixels.shape == (90, 100, 3)


def test_a_progressive_jpeg_without_its_last_scans_is_not_whole(tmp_path: Path) -> None:
    data = saved(Image.fromarray(pattern(64, 64)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert refuse(tmp_path, data[:last]).code == "picture.truncated"


def test_a_small_webp_is_whole(tmp_path: Path) -> None:
    # Its size, no transforms, and five Huffman codes of one symbol, which is 0.
    bits = "000" + "1000" * 5 + "0"
    pixels = b"\x2f" + struct.pack("<I", 99 | 99 << 14) + int(bits[::-1], 2).to_bytes(3, "little")
    data = b"WEBPVP8L" + struct.pack("<I", len(pixels)) + pixels
    data = b"RIFF" + struct.pack("<I", len(data)) + data
    assert len(data) == 28
    found = read(tmp_path, data)
    assert found.pixels.shape[:2] == (100, 100) and not found.pixels[..., :3].any()
    assert refuse(tmp_path, data[:24]).code == "picture.truncated"


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (4, 12, "12-bit JPEG"),
        (1, 0xC3, "lossless"),
        (1, 0xC7, "lossless"),
    ],
)
def test_jpegs_that_no_decoder_here_reads(tmp_path: Path, at: int, value: int, says: str) -> None:
    data = bytearray(saved(Image.fromarray(pattern(16, 16)), "JPEG"))
    data[data.index(b"\xff\xc0") + at] = value
    error = refuse(tmp_path, bytes(data))
    assert error.code == "picture.unsupported" and says in str(error)


# Known before the work


@pytest.mark.parametrize(
    ("name", "size", "code"),
    [
        ("a.webp", (16384, 8), "picture.format_limit"),
        ("a.jpg", (8, 65501), "picture.format_limit"),
        ("a.png", (1 << 20, 1 << 30), "picture.disk_space"),
        ("a.webp", (16383, 8), None),
        ("a.tif", (70000, 8), None),
    ],
)
def test_what_cannot_be_written_is_known_beforehand(tmp_path: Path, name: str, size: tuple, code: object) -> None:
    if code is None:
        files.check_result(tmp_path / "new" / name, *size)
        return
    with pytest.raises(PictureError) as caught:
        files.check_result(tmp_path / "new" / name, *size)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_raw_size_is_that_of_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from realesrgan.files import writing

    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 6 * 1000})())
    files.check_result(tmp_path / "a.png", 100, 10, depth=16)
    files.check_result(tmp_path / "a.jpg", 100, 20, mode="RGBA", depth=16)
    for mode, depth, name in (("RGBA", 16, "a.png"), ("RGB", 16, "a.tif")):
        with pytest.raises(PictureError, match="free some space"):
            files.check_result(tmp_path / name, 100, 11, mode=mode, depth=depth)


def test_gif_of_one_frame_has_no_note(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pattern(9, 8)).convert("P").save(buffer, "GIF", comment=b"one frame")
    found = read(tmp_path, buffer.getvalue())
    assert found.notes == () and found.metadata.comment == "one frame"
