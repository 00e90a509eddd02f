"""Formats, depths and modes: each file is made by another library than the one that reads it, or by hand."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support.picture_samples import by_opencv, cmyk_profile, exif_block, grey_profile, pattern, png, rgb_profile, saved

from realesrgan import files
from realesrgan.errors import PictureError


def read_bytes(tmp_path: Path, data: bytes, name: str = "picture.bin", **options: int) -> files.PictureFile:
    path = tmp_path / name
    path.write_bytes(data)
    return files.read(path, **options)


def rows(array: np.ndarray) -> bytes:
    big = array.astype(">u2") if array.dtype == np.uint16 else array
    return b"".join(b"\0" + row.tobytes() for row in big)


def check(found: files.PictureFile, pixels: np.ndarray, mode: str, kind: str) -> None:
    assert (found.mode, found.format) == (mode, kind)
    assert found.pixels.dtype == pixels.dtype
    assert found.pixels.flags.c_contiguous
    assert np.array_equal(found.pixels, pixels)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_8bit(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = pattern(21, 34, channels)
    found = read_bytes(tmp_path, by_opencv(suffix, pixels))
    check(found, pixels, "L" if channels == 1 else "RGB", suffix[1:].upper())
    assert found.notes == ()


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16bit_stays_16bit(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = pattern(21, 34, channels, depth=16)
    check(
        read_bytes(tmp_path, by_opencv(suffix, pixels)),
        pixels,
        {1: "L", 3: "RGB", 4: "RGBA"}[channels],
        suffix[1:].upper(),
    )


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_depth_is_the_files_not_the_values(tmp_path: Path, suffix: str, channels: int) -> None:
    dark = pattern(9, 8, channels, depth=16) // 400  # all values below 256
    assert dark.max() < 256
    check(read_bytes(tmp_path, by_opencv(suffix, dark)), dark, "L" if channels == 1 else "RGB", suffix[1:].upper())


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_rgba_8bit(tmp_path: Path, kind: str) -> None:
    rgba = pattern(21, 34, 4)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    found = read_bytes(tmp_path, saved(Image.fromarray(rgba), kind, **options))
    check(found, rgba[:, :, [2, 1, 0, 3]], "RGBA", kind)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_with_alpha_8bit(tmp_path: Path, kind: str) -> None:
    grey_alpha = pattern(21, 34, 2)
    found = read_bytes(tmp_path, saved(Image.fromarray(grey_alpha), kind))
    check(found, grey_alpha[:, :, [0, 0, 0, 1]], "LA", kind)


@pytest.mark.parametrize("interlace", [0, 1])
def test_grey_with_alpha_16bit_png(tmp_path: Path, interlace: int) -> None:
    grey_alpha = pattern(8, 8, 2, depth=16)
    raw = rows(grey_alpha)
    if interlace:
        steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        raw = b"".join(rows(grey_alpha[y::dy, x::dx]) for y, x, dy, dx in steps)
    found = read_bytes(tmp_path, png(raw, (8, 8), 16, 4, interlace=interlace))
    check(found, grey_alpha[:, :, [0, 0, 0, 1]], "LA", "PNG")


BGR_ORDER = {2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packing", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}], ids=str)
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16bit_tiff_of_all_kinds(tmp_path: Path, order: str, packing: dict, tile: object, channels: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    samples = pattern(21, 34, channels, depth=16)
    options = {"photometric": "rgb" if channels > 2 else "minisblack", "tile": tile, **packing}
    if channels in (2, 4):
        options["extrasamples"] = ["unassalpha"]
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, byteorder=order, **options)
    expected = samples if channels == 1 else samples[..., BGR_ORDER[channels]]
    check(read_bytes(tmp_path, buffer.getvalue()), expected, MODES[channels], "TIFF")


@pytest.mark.parametrize("channels", [3, 4])
def test_16bit_tiff_in_planes_and_bigtiff(tmp_path: Path, channels: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    samples = pattern(21, 34, channels, depth=16)
    extra = ["unassalpha"] if channels == 4 else None
    for options in ({"planarconfig": "separate"}, {"bigtiff": True}, {"planarconfig": "separate", "rowsperstrip": 4}):
        buffer = io.BytesIO()
        data = np.moveaxis(samples, 2, 0) if "planarconfig" in options else samples
        tifffile.imwrite(buffer, np.ascontiguousarray(data), photometric="rgb", extrasamples=extra, **options)
        check(read_bytes(tmp_path, buffer.getvalue()), samples[..., BGR_ORDER[channels]], MODES[channels], "TIFF")


def test_16bit_tiff_with_premultiplied_alpha(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    rgba = pattern(12, 13, 4, depth=16)
    rgba[..., 3] = np.maximum(rgba[..., 3], 20000)
    stored = rgba.copy()
    stored[..., :3] = np.rint(rgba[..., :3] * (rgba[..., 3:] / 65535))
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stored, photometric="rgb", extrasamples=["assocalpha"])
    found = read_bytes(tmp_path, buffer.getvalue())
    assert found.mode == "RGBA"
    assert np.abs(found.pixels.astype(int) - rgba[..., [2, 1, 0, 3]]).max() <= 2


@pytest.mark.parametrize("depth", [8, 16])
def test_tiff_with_white_as_zero(tmp_path: Path, depth: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    grey = pattern(12, 13, 1, depth=depth)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, ~grey, photometric="miniswhite")
    check(read_bytes(tmp_path, buffer.getvalue()), grey, "L", "TIFF")


def test_one_bit(tmp_path: Path) -> None:
    bits = pattern(21, 34, 1) > 127
    for kind in ("PNG", "TIFF", "BMP"):
        data = saved(Image.fromarray(bits.astype(np.uint8) * 255).convert("1", dither=Image.Dither.NONE), kind)
        check(read_bytes(tmp_path, data), np.where(bits, 255, 0).astype(np.uint8), "L", kind)


@pytest.mark.parametrize("depth", [2, 4])
def test_few_bit_grey_png(tmp_path: Path, depth: int) -> None:
    levels = np.arange(16, dtype=np.uint8).reshape(2, 8) % (1 << depth)
    packed = b"".join(
        b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - depth :].reshape(-1)).tobytes() for row in levels
    )
    expected = levels * (255 // ((1 << depth) - 1))
    check(read_bytes(tmp_path, png(packed, (8, 2), depth, 0)), expected, "L", "PNG")
    keyed = read_bytes(tmp_path, png(packed, (8, 2), depth, 0, [(b"tRNS", struct.pack(">H", 3))]))
    assert keyed.mode == "LA"
    assert np.array_equal(keyed.pixels[..., 3], np.where(levels == 3, 0, 255))


def test_palette(tmp_path: Path) -> None:
    index = np.arange(40, dtype=np.uint8).reshape(5, 8) % 7
    colors = np.random.default_rng(0).integers(0, 256, (7, 3), dtype=np.uint8)
    palette = (b"PLTE", colors.tobytes())
    check(read_bytes(tmp_path, png(rows(index), (8, 5), 8, 3, [palette])), colors[index][..., ::-1], "RGB", "PNG")
    opacity = np.array([255, 0, 128, 7, 255, 255, 255], np.uint8)
    found = read_bytes(tmp_path, png(rows(index), (8, 5), 8, 3, [palette, (b"tRNS", opacity[:4].tobytes())]))
    check(found, np.dstack((colors[index][..., ::-1], opacity[index])), "RGBA", "PNG")


@pytest.mark.parametrize("depth", [8, 16])
def test_color_key(tmp_path: Path, depth: int) -> None:
    rgb = pattern(5, 6, 3, depth)
    rgb[2, 3] = rgb[0, 0]
    key = struct.pack(">3H", *rgb[0, 0].tolist())
    found = read_bytes(tmp_path, png(rows(rgb), (6, 5), depth, 2, [(b"tRNS", key)]))
    alpha = np.full((5, 6), (1 << depth) - 1, rgb.dtype)
    alpha[0, 0] = alpha[2, 3] = 0
    check(found, np.dstack((rgb[..., ::-1], alpha)), "RGBA", "PNG")


def test_jpeg_equals_opencv(tmp_path: Path) -> None:
    for pixels, mode in ((pattern(50, 70, 3), "RGB"), (pattern(50, 70, 1), "L")):
        data = by_opencv(".jpg", pixels)
        other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        found = read_bytes(tmp_path, data)
        assert (found.mode, found.format) == (mode, "JPEG")
        assert np.abs(found.pixels.astype(int) - other).max() <= 2  # two builds of libjpeg


def test_webp_lossy(tmp_path: Path) -> None:
    rgb = pattern(50, 70, 3)
    found = read_bytes(tmp_path, by_opencv(".webp", rgb, cv2.IMWRITE_WEBP_QUALITY, 95))
    assert (found.mode, found.format) == ("RGB", "WEBP")
    assert np.abs(found.pixels.astype(int) - rgb).mean() < 4


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """D50 Lab to 8-bit sRGB, by the textbook (Bradford-adapted sRGB primaries)."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1.0, 0.8249]
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(xyz @ np.array(matrix).T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


def test_cmyk_jpeg_goes_through_its_profile(tmp_path: Path) -> None:
    profile, corners = cmyk_profile()
    inks = np.array([(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (1, 1, 0, 0), (1, 1, 1, 0)])
    wide = np.repeat(np.repeat(inks[None] * 255, 16, axis=0), 16, axis=1).astype(np.uint8)
    data = saved(Image.frombytes("CMYK", (wide.shape[1], 16), wide.tobytes()), "JPEG", quality=100, icc_profile=profile)
    found = read_bytes(tmp_path, data)
    assert (found.mode, found.icc) == ("RGB", None)
    assert any("profile" in note for note in found.notes)
    expected = lab_to_srgb(np.array([corners[tuple(ink)] for ink in inks]))
    middle = found.pixels[8, 8::16, ::-1].astype(float)
    assert np.abs(middle - expected).max() < 8, (middle, expected)


def test_cmyk_without_profile(tmp_path: Path) -> None:
    cmyk = np.zeros((16, 16, 4), np.uint8)
    cmyk[..., 0] = 255  # full cyan
    found = read_bytes(tmp_path, saved(Image.frombytes("CMYK", (16, 16), cmyk.tobytes()), "JPEG", quality=100))
    assert found.mode == "RGB"
    assert np.abs(found.pixels[8, 8].astype(int) - [255, 255, 0]).max() < 6
    assert any("no profile" in note for note in found.notes)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once_and_reset(tmp_path: Path, kind: str, orientation: int) -> None:
    stored = np.zeros((16, 24), np.uint8)
    stored[:8, :8] = 250  # the stored top left corner
    stored[:8, 16:] = 120  # the stored top right corner
    image = Image.fromarray(stored).convert("RGB")
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    found = read_bytes(tmp_path, saved(image, kind, exif=exif_block(orientation), **options))
    # EXIF 2.32, table of the Orientation tag: where the stored 0th row and 0th column are in the upright picture.
    wide = orientation < 5
    assert found.pixels.shape[:2] == ((16, 24) if wide else (24, 16))
    row_first = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}[orientation]
    other = {1: "tr", 2: "tl", 3: "bl", 4: "br", 5: "bl", 6: "br", 7: "tr", 8: "tl"}[orientation]
    places = {"tl": (4, 4), "tr": (4, -4), "bl": (-4, 4), "br": (-4, -4)}
    assert abs(int(found.pixels[places[row_first]][0]) - 250) < 6
    assert abs(int(found.pixels[places[other]][0]) - 120) < 6
    assert found.exif is not None
    again = Image.Exif()
    again.load(b"Exif\0\0" + found.exif)
    assert again.get(274, 1) == 1
    assert again[272] == "Model 5"
    assert again.get_ifd(34665)[36867] == "2024:02:03 04:05:06"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_profile_is_kept_only_where_it_fits(tmp_path: Path, kind: str) -> None:
    color, grey = Image.fromarray(pattern(9, 8, 3)), Image.fromarray(pattern(9, 8, 1))
    assert read_bytes(tmp_path, saved(color, kind, icc_profile=rgb_profile())).icc == rgb_profile()
    wrong = read_bytes(tmp_path, saved(color, kind, icc_profile=grey_profile()))
    assert wrong.icc is None
    assert any("profile" in note for note in wrong.notes)
    if kind != "WEBP":
        assert read_bytes(tmp_path, saved(grey, kind, icc_profile=grey_profile())).icc == grey_profile()
        assert read_bytes(tmp_path, saved(grey, kind, icc_profile=rgb_profile())).icc is None


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_with_a_note(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (12, 10), color) for color in ("#ff0000", "#00ff00", "#0000ff")]
    options = {"lossless": True} if kind == "WEBP" else {}
    found = read_bytes(tmp_path, saved(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert found.pixels.shape == (10, 12, 3)
    assert (found.pixels == [0, 0, 255]).all()
    assert [getattr(note, "code", "") for note in found.notes] == [
        "note.first_page" if kind == "TIFF" else "note.first_frame"
    ]


def test_avif_where_pillow_can(tmp_path: Path) -> None:
    Image.init()
    if "AVIF" not in Image.SAVE:
        with pytest.raises(PictureError, match="Pillow"):
            read_bytes(tmp_path, b"\0\0\0\x20ftypavif" + bytes(40))
        return
    rgb = pattern(32, 48, 3)
    found = read_bytes(tmp_path, saved(Image.fromarray(rgb), "AVIF", quality=100, subsampling="4:4:4"))
    assert (found.mode, found.format) == ("RGB", "AVIF")
    assert np.abs(found.pixels[..., ::-1].astype(int) - rgb).max() < 12


def test_content_decides_not_the_suffix(tmp_path: Path) -> None:
    pixels = pattern(9, 8, 3)
    check(read_bytes(tmp_path, by_opencv(".png", pixels), "really.jpg"), pixels, "RGB", "PNG")


def test_damaged_exif_does_not_cost_the_picture(tmp_path: Path) -> None:
    block = bytearray(exif_block(6))
    struct.pack_into(">I" if block[6:8] == b"MM" else "<I", block, 10, 0xFFFFFFF0)  # the directory lies nowhere
    image = Image.fromarray(pattern(9, 8, 3))
    for kind in ("PNG", "JPEG", "WEBP"):
        found = read_bytes(tmp_path, saved(image, kind, exif=bytes(block)))
        assert found.exif is None
        assert found.pixels.shape == (9, 8, 3)
        assert any("EXIF" in note for note in found.notes)


def test_damaged_ancillary_chunks_do_not_cost_the_picture(tmp_path: Path) -> None:
    rgb = pattern(9, 8, 3)
    extra = [(b"iCCP", b"x\0\0broken"), (b"gAMA", b"?"), (b"tEXt", b"no separator"), (b"eXIf", b"II*\0")]
    found = read_bytes(tmp_path, png(rows(rgb), (8, 9), 8, 2, extra))
    assert np.array_equal(found.pixels, rgb[..., ::-1])
    assert found.icc is None and found.exif is None


def test_exif_of_imagemagick(tmp_path: Path) -> None:
    block = exif_block(3)
    text = f"\nexif\n{len(block):8d}\n" + block.hex() + "\n"
    rgb = pattern(9, 8, 3)
    found = read_bytes(tmp_path, png(rows(rgb), (8, 9), 8, 2, [(b"tEXt", b"Raw profile type exif\0" + text.encode())]))
    assert np.array_equal(found.pixels, rgb[::-1, ::-1, ::-1])
    assert found.exif is not None


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_floating_point_and_32_bit_tiff_become_16_bit(tmp_path: Path, dtype: type, channels: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    deep = pattern(9, 8, channels, depth=16)
    stored = deep.astype(dtype) * 65537 if dtype == np.uint32 else (deep / 65535).astype(dtype)
    extra = ["unassalpha"] if channels == 4 else None
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb" if channels > 1 else "minisblack", extrasamples=extra
    )
    found = files.read(tmp_path / "a.tif")
    expected = deep if channels == 1 else deep[..., BGR_ORDER[channels]]
    check(found, expected, MODES[channels], "TIFF")
    assert [note.code for note in found.notes] == ["note.deep" if dtype == np.uint32 else "note.float"]


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_bright_floating_point_keeps_its_range(tmp_path: Path, shape: tuple) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = np.linspace(0, 8, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    values[0, 0], values[0, 1], values[0, 2] = np.nan, -3, np.inf
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb" if len(shape) == 3 else "minisblack")
    found = files.read(tmp_path / "a.tif")
    assert found.notes[0].fields == {"white": "8"}
    expected = np.rint(np.clip(np.nan_to_num(values.astype(float), posinf=8), 0, 8) / 8 * 65535)
    assert np.array_equal(found.pixels, expected if len(shape) == 2 else expected[..., ::-1])


@pytest.mark.parametrize(("dtype", "says"), [(np.int16, "signed"), (np.uint64, "64 bit"), (np.float16, "floating")])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_depths_of_tiff_are_refused_not_guessed(tmp_path: Path, dtype: type, says: str, channels: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = pattern(9, 8, channels).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb" if channels == 3 else "minisblack")
    with pytest.raises(PictureError, match=says) as caught:
        files.read(tmp_path / "a.tif")
    assert caught.value.code == "picture.unsupported"
