"""Files through the command line: every format in, every format out, and what becomes of depth, alpha and metadata.

Inputs are made by Pillow, OpenCV and tifffile, results are looked at with them; the network's place is taken by a
stand-in that repeats each pixel, so that what has to come out is known.
"""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support.picture_samples import by_opencv, cmyk_profile, exif_block, pattern, png, rgb_profile, saved

from realesrgan.cli import commands as cli
from realesrgan.cli import run as cli_run
from tests.support.nearest import Nearest

HEIGHT, WIDTH = 10, 12
SIGNATURES = {"PNG": b"\x89PNG", "JPEG": b"\xff\xd8\xff", "WEBP": b"RIFF", "BMP": b"BM", "TIFF": b"II*\0"}
SUFFIX = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tiff"}
FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF"}
#: What each format holds: modes and depths.
HOLDS = {
    "PNG": (("L", "LA", "RGB", "RGBA"), (8, 16)),
    "TIFF": (("L", "LA", "RGB", "RGBA"), (8, 16)),
    "JPEG": (("L", "RGB"), (8,)),
    "BMP": (("L", "RGB"), (8,)),
    "WEBP": (("RGB", "RGBA"), (8,)),
}


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    """The command line with the stand-in."""
    upscaler = Nearest()
    monkeypatch.setattr(cli_run, "build_upscaler", lambda *_: upscaler)
    monkeypatch.setenv("LC_ALL", "C")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return upscaler


def run(tmp_path: Path, data: bytes, suffix: str, *words: str) -> Path:
    """Enlarge one file twofold; the only file in the output folder."""
    source, output = tmp_path / f"in{suffix}", tmp_path / "out"
    source.write_bytes(data)
    assert cli.main(["-i", str(source), "-o", str(output), "-s", "2", *words]) == 0
    (result,) = output.iterdir()
    return result


def samples():
    """Bytes, suffix, mode and depth of an input of every format and mode."""
    color, alpha = pattern(HEIGHT, WIDTH, 3), pattern(HEIGHT, WIDTH, 4)
    image, rgba = Image.fromarray(color[:, :, ::-1].copy()), Image.fromarray(alpha)
    grey16, color16, alpha16 = (pattern(HEIGHT, WIDTH, count, 16) for count in (1, 3, 4))
    rows = np.dstack((grey16, grey16[::-1])).astype(">u2")
    la16 = png(b"".join(b"\0" + row.tobytes() for row in rows), (WIDTH, HEIGHT), 16, 4)
    made = {}
    for kind in SUFFIX:
        grey_mode = "RGB" if kind == "WEBP" else "L"  # WebP knows no grey
        made[f"{kind} grey"] = saved(image.convert("L"), kind), SUFFIX[kind], grey_mode, 8
        made[f"{kind} rgb"] = saved(image, kind), SUFFIX[kind], "RGB", 8
    for kind in ("PNG", "TIFF", "WEBP"):
        made[f"{kind} rgba"] = saved(rgba, kind), SUFFIX[kind], "RGBA", 8
    for kind in ("PNG", "TIFF"):
        made[f"{kind} grey+alpha"] = saved(rgba.convert("LA"), kind), SUFFIX[kind], "LA", 8
        made[f"{kind} 1-bit"] = saved(image.convert("1"), kind), SUFFIX[kind], "L", 8
        made[f"{kind} grey 16"] = by_opencv(SUFFIX[kind], grey16), SUFFIX[kind], "L", 16
        made[f"{kind} rgb 16"] = by_opencv(SUFFIX[kind], color16), SUFFIX[kind], "RGB", 16
        made[f"{kind} rgba 16"] = by_opencv(SUFFIX[kind], alpha16), SUFFIX[kind], "RGBA", 16
    made["PNG grey+alpha 16"] = la16, ".png", "LA", 16
    made["PNG palette"] = saved(image.quantize(32), "PNG"), ".png", "RGB", 8
    clear = saved(image.quantize(32), "PNG", transparency=bytes(range(0, 256, 8)))
    made["PNG palette with alpha"] = clear, ".png", "RGBA", 8
    made["BMP palette"] = saved(image.quantize(32), "BMP"), ".bmp", "RGB", 8
    made["GIF"] = saved(image.quantize(32), "GIF"), ".gif", "RGB", 8
    made["JPEG cmyk"] = saved(image.convert("CMYK"), "JPEG", icc_profile=cmyk_profile()[0]), ".jpg", "RGB", 8
    made["TIFF cmyk"] = saved(image.convert("CMYK"), "TIFF"), ".tiff", "RGB", 8
    return made


SAMPLES = samples()


def look(path: Path):
    """Format, mode and depth of a result, by its bytes and by Pillow and OpenCV."""
    data = path.read_bytes()
    (kind,) = (name for name, start in SIGNATURES.items() if data.startswith(start))
    if kind == "PNG":
        mode = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}[data[25]]
        return kind, mode, data[24]
    if kind == "TIFF":
        tifffile = pytest.importorskip("tifffile")
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            page = tiff.pages[0]
            return kind, {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[page.samplesperpixel], page.bitspersample
    with Image.open(io.BytesIO(data)) as image:
        return kind, {"P": "L"}.get(image.mode, image.mode), 8


def stored(path: Path):
    """The samples of a PNG or TIFF, in its own order of channels."""
    if path.suffix != ".png":
        return pytest.importorskip("tifffile").imread(path)
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def expected(suffix: str, mode: str, depth: int, ext: str):
    """Format, mode and depth by the rules of the guide, worked out from :data:`HOLDS` alone."""
    if ext == "auto":
        kind = next((name for name, own in SUFFIX.items() if own == suffix), "PNG")
        if mode.endswith("A") or depth not in HOLDS[kind][1]:
            kind = "PNG"
    else:
        kind = FORMATS[ext]
    modes, depths = HOLDS[kind]
    if mode not in modes:
        mode = {"LA": "RGBA" if "RGBA" in modes else "L", "RGBA": "RGB", "L": "RGB"}[mode]
    return kind, mode, depth if depth in depths else 8


@pytest.mark.parametrize("ext", ["auto", *FORMATS])
@pytest.mark.parametrize("name", SAMPLES)
def test_every_format_in_and_out(tmp_path, stand_in, capsys, name, ext):
    data, suffix, mode, depth = SAMPLES[name]
    result = run(tmp_path, data, suffix, "--ext", ext, "--no-alpha-bleed", "--jpeg-quality", "100")
    kind, out_mode, out_depth = expected(suffix, mode, depth, ext)
    assert look(result) == (kind, out_mode, out_depth)
    assert result.suffix == (SUFFIX[kind] if ext == "auto" else f".{ext}")

    (shape, _, seen), *rest = stand_in.seen
    assert seen.dtype == (np.uint16 if depth == 16 else np.uint8), "depth is the file's"
    assert shape[:2] == (HEIGHT, WIDTH)
    assert len(rest) == (1 if mode == "LA" else 0), "grey with alpha goes through as two greys"
    said = capsys.readouterr().err
    assert ("rounded" in said) == (depth == 16 and out_depth == 8)
    assert ("laid onto white" in said) == (mode.endswith("A") and not out_mode.endswith("A"))
    if kind in ("PNG", "TIFF"):
        if mode == "LA":  # OpenCV gives the grey of a PNG three times
            seen = np.dstack((*[seen] * (3 if kind == "PNG" else 1), rest[0][2]))
        elif seen.ndim == 3:
            seen = cv2.cvtColor(seen, cv2.COLOR_BGR2RGB if seen.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
        assert np.array_equal(stored(result), seen.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff"])
def test_exif_and_profile_go_along_and_sizes_follow(tmp_path, suffix):
    image = Image.fromarray(pattern(HEIGHT, WIDTH, 3))
    kind = next(name for name, own in SUFFIX.items() if own == suffix)
    block, profile = exif_block(6, (WIDTH, HEIGHT)), rgb_profile()
    with Image.open(run(tmp_path, saved(image, kind, exif=block, icc_profile=profile), suffix)) as result:
        # Orientation 6: a quarter turn, applied once; the tag says upright, and the size fields are the new ones.
        assert result.size == (2 * HEIGHT, 2 * WIDTH)
        exif = result.getexif()
        assert exif.get(274, 1) == 1
        assert (exif[271], exif[272]) == ("Maker", "Model 5")
        inner = exif.get_ifd(34665)
        assert inner[36867] == "2024:02:03 04:05:06"
        assert (inner[40962], inner[40963]) == result.size
        assert result.info["icc_profile"] == profile


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff"])
def test_strip_metadata_leaves_nothing_but_the_picture(tmp_path, suffix):
    image = Image.fromarray(pattern(HEIGHT, WIDTH, 3))
    kind = next(name for name, own in SUFFIX.items() if own == suffix)
    data = saved(image, kind, exif=exif_block(6), icc_profile=rgb_profile())
    path = run(tmp_path, data, suffix, "--strip-metadata")
    with Image.open(path) as result:
        assert result.size == (2 * HEIGHT, 2 * WIDTH), "the turn that the tag asked for is in the pixels"
        assert "icc_profile" not in result.info
        assert result.getexif().get(271) is None
    content = path.read_bytes()
    assert b"Maker" not in content
    assert b"Model 5" not in content


def test_quality_and_compression_flags_reach_the_encoders(tmp_path):
    def size(number, ext, *words):
        folder = tmp_path / str(number)
        folder.mkdir()
        data = saved(Image.fromarray(pattern(60, 60, 3)), "PNG")
        return run(folder, data, ".png", "--ext", ext, *words).stat().st_size

    usual = size(0, "jpg")
    assert size(1, "jpg", "--jpeg-quality", "95") == usual
    assert size(2, "jpg", "--jpeg-quality", "20") < usual < size(3, "jpg", "--jpeg-quality", "100")
    assert size(4, "webp", "--jpeg-quality", "20") < size(5, "webp")
    usual = size(6, "png")
    assert size(7, "png", "--png-compression", "3") == usual
    assert size(8, "png", "--png-compression", "9") <= usual < size(9, "png", "--png-compression", "0")


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_an_animation_gives_its_first_frame_and_says_so(tmp_path, stand_in, capsys, kind):
    first = Image.fromarray(pattern(HEIGHT, WIDTH, 3))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(first, kind, save_all=True, append_images=[first.rotate(180)] * 3, **options)
    result = run(tmp_path, data, f".{kind.lower()}")
    assert "in." + kind.lower() + ": animation: first frame only; use realesrgan video" in capsys.readouterr().err
    assert result.suffix == (".png" if kind == "GIF" else ".webp")
    with Image.open(io.BytesIO(data)) as image:
        frame = np.asarray(image.convert("RGB"))
    assert np.array_equal(stand_in.seen[0][2][:, :, :3], frame[:, :, ::-1])


def test_dark_16_bit_pictures_stay_16_bit(tmp_path, stand_in):
    dark = pattern(HEIGHT, WIDTH, 3).astype(np.uint16)  # no value above 255
    assert dark.max() <= 255
    result = run(tmp_path, by_opencv(".png", dark), ".png")
    assert look(result) == ("PNG", "RGB", 16)
    assert stand_in.seen[0][2].dtype == np.uint16


def test_heic_without_its_package_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    source = tmp_path / "phone.heic"
    source.write_bytes(struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(100))
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    assert cli.main(["-i", str(source), "-o", str(tmp_path / "out")]) == 1
    assert "phone.heic: HEIF pictures can be read once this is installed: pillow-heif." in capsys.readouterr().err


def test_heic_where_its_package_is(tmp_path, stand_in):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    data = saved(Image.fromarray(pattern(64, 64, 3)), "HEIF")
    assert look(run(tmp_path, data, ".heic"))[0] == "PNG"


def test_avif_where_pillow_can(tmp_path, stand_in):
    try:
        data = saved(Image.fromarray(pattern(64, 64, 3)), "AVIF")
    except (KeyError, OSError, ValueError):
        pytest.skip("this Pillow has no AVIF")
    assert look(run(tmp_path, data, ".avif")) == ("PNG", "RGB", 8)
    assert stand_in.seen[0][0] == (64, 64, 3)
