"""Nothing is lost silently: what a file holds beside its pixels is carried, or one note names what was left out."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin
from support.picture_samples import exif_block, jpeg_segments, pattern, png, png_chunks, rgb_profile, saved

from realesrgan import files
from realesrgan.files.metadata import Color

CASES = Path(__file__).resolve().parents[1] / "data" / "cases"
PIXELS = pattern(16, 24)
ROWS = b"".join(b"\0" + row.tobytes() for row in PIXELS)
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description tiff:Orientation="%d" '
    'exif:PixelXDimension="24" GPano:FullPanoWidthPixels="48" GPano:CroppedAreaLeftPixels="12">'
    "<exif:PixelYDimension>16</exif:PixelYDimension></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
)
SUFFIXES = ("png", "jpg", "webp", "tif", "bmp")


def again(tmp_path: Path, source: files.PictureFile, suffix: str) -> tuple:
    """The picture, twice as large and written as another format: path, notes, and what is read from it."""
    large = source.pixels.repeat(2, 0).repeat(2, 1)
    path = tmp_path / f"result.{suffix}"
    notes = files.write(path, large, mode=source.mode, metadata=source.metadata)
    return path, notes, files.read(path)


def read(tmp_path: Path, data: bytes, name: str = "source") -> files.PictureFile:
    (tmp_path / name).write_bytes(data)
    return files.read(tmp_path / name)


def with_xmp(image: Image.Image, kind: str, packet: bytes, **options: object) -> bytes:
    """A file by Pillow with an XMP packet; older versions of it write none into JPEG."""
    if kind == "JPEG":
        segment = b"http://ns.adobe.com/xap/1.0/\0" + packet
        data = saved(image, kind, **options)
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        return saved(image, kind, pnginfo=info, **options)
    if kind == "TIFF":
        return saved(image, kind, tiffinfo={700: packet}, **options)
    return saved(image, kind, xmp=packet, **options)


def dropped(notes: tuple) -> Optional[str]:
    """What the one note about metadata names."""
    found = [note.fields["what"] for note in notes if note.code == "note.dropped"]
    assert len(found) <= 1, "one note a file"
    return found[0] if found else None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_text_of_png(tmp_path: Path, suffix: str) -> None:
    info = PngImagePlugin.PngInfo()
    parameters = "a house, 4k\nSteps: 20, Seed: 1" + ", detail" * 200
    info.add_text("parameters", parameters, zip=True)
    info.add_text("Software", "made by hand")
    info.add_itxt("Title", "한국어 제목", "ko", "제목")
    source = read(tmp_path, saved(Image.fromarray(PIXELS), "PNG", pnginfo=info))
    assert dict(source.metadata.text) == {"parameters": parameters, "Software": "made by hand", "Title": "한국어 제목"}
    path, notes, _ = again(tmp_path, source, suffix)
    if suffix == "png":
        assert notes == ()
        with Image.open(path) as image:
            found = image.text  # type: ignore[attr-defined]
        assert found == {"parameters": parameters, "Software": "made by hand", "Title": "한국어 제목"}
    else:
        assert dropped(notes) == "text"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_resolution(tmp_path: Path, kind: str, suffix: str) -> None:
    source = read(tmp_path, saved(Image.fromarray(PIXELS), kind, dpi=(300, 150)))
    path, notes, _ = again(tmp_path, source, suffix)
    if kind == "TIFF":  # there it is a part of EXIF
        assert dropped(notes) == ("EXIF" if suffix == "bmp" else None)
        return
    assert notes == ()
    with Image.open(path) as image:
        exif = image.getexif()
        found = image.info.get("dpi") or (exif[282], exif[283])
    assert tuple(float(value) for value in found) == pytest.approx((300, 150), rel=1e-3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_xmp_with_its_sizes(tmp_path: Path, kind: str, suffix: str) -> None:
    packet = (XMP % 1).encode()
    source = read(tmp_path, with_xmp(Image.fromarray(PIXELS), kind, packet))
    assert source.metadata.xmp == packet
    _, notes, found = again(tmp_path, source, suffix)
    if suffix == "bmp":
        assert dropped(notes) == "XMP"
        return
    assert notes == ()
    scaled = packet.replace(b'"24"', b'"48"', 1).replace(b'Pixels="48"', b'Pixels="96"').replace(b'"12"', b'"24"')
    assert found.metadata.xmp == scaled.replace(b">16<", b">32<")


def test_panorama(tmp_path: Path) -> None:
    source = files.read(CASES / "pano.jpg")
    before = source.metadata.xmp or b""
    assert b"GPano" in before
    _, notes, found = again(tmp_path, source, "jpg")
    assert notes == ()
    assert found.metadata.xmp == before


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_orientation_in_xmp_only(tmp_path: Path, kind: str) -> None:
    packet = (XMP % 6).encode()
    image = Image.fromarray(PIXELS)
    found = read(tmp_path, with_xmp(image, kind, packet))
    assert found.pixels.shape == (24, 16, 3)
    assert b'Orientation="1"' in (found.metadata.xmp or b"")
    both = read(tmp_path, with_xmp(image, kind, packet, exif=exif_block(1)))
    assert both.pixels.shape == (16, 24, 3), "EXIF comes first"


def test_iptc_and_comment_of_jpeg(tmp_path: Path) -> None:
    records = b"\x1c\x02\x69\0\x05title"
    photoshop = b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0" + struct.pack(">I", 4) + bytes(4)
    photoshop += b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records
    data = saved(Image.fromarray(PIXELS), "JPEG", comment="so long 안녕")
    data = data[:2] + b"\xff\xed" + struct.pack(">H", len(photoshop) + 2) + photoshop + data[2:]
    source = read(tmp_path, data)
    assert source.metadata.iptc == records
    assert source.metadata.comment == "so long 안녕"
    path, notes, found = again(tmp_path, source, "jpg")
    assert notes == ()
    assert found.metadata.iptc == records
    with Image.open(path) as image:
        assert image.info["comment"].decode() == "so long 안녕"
        assert image.info["photoshop"][0x0404][: len(records)] == records
    path, notes, found = again(tmp_path, source, "png")
    assert dropped(notes) == "IPTC"
    with Image.open(path) as image:
        assert image.text["Comment"] == "so long 안녕"  # type: ignore[attr-defined]
    _, notes, back = again(tmp_path, found, "jpg")
    assert back.metadata.comment == "so long 안녕"
    _, notes, found = again(tmp_path, source, "tif")
    assert found.metadata.iptc == records and dropped(notes) == "comment"
    _, notes, _ = again(tmp_path, source, "webp")
    assert dropped(notes) == "IPTC, comment"


# The meaning of colour


def tagged(*chunks: tuple) -> bytes:
    return png(ROWS, (24, 16), 8, 2, chunks)


def linear_light(icc: bytes) -> np.ndarray:
    """What LittleCMS makes of mid grey and the primaries, as sRGB."""
    image = Image.fromarray(np.array([[[128] * 3, [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    srgb = ImageCms.createProfile("sRGB")
    out = ImageCms.profileToProfile(image, profile, srgb, renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC)
    assert out is not None
    return np.asarray(out)[0].astype(int)


GAMA10 = (b"gAMA", struct.pack(">I", 100000))
CHRM = (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))


@pytest.mark.parametrize("extra", [(), (CHRM,)])
def test_gamma_is_carried_or_made_a_profile(tmp_path: Path, extra: tuple) -> None:
    source = read(tmp_path, tagged(GAMA10, *extra))
    path, notes, _ = again(tmp_path, source, "png")
    chunks = png_chunks(path.read_bytes())
    assert chunks[b"gAMA"] == GAMA10[1] and chunks.get(b"cHRM") == (CHRM[1] if extra else None)
    for suffix in ("jpg", "webp", "tif"):
        _, notes, found = again(tmp_path, source, suffix)
        assert notes == ()
        assert found.icc is not None
        grey, red = linear_light(found.icc)[:2]
        # 128 / 255 of the light is 188 in sRGB.
        assert np.abs(grey - 188).max() <= 1
        assert np.abs(red - [255, 0, 0]).max() <= 2
    _, notes, _ = again(tmp_path, source, "bmp")
    assert dropped(notes) == "gAMA/cHRM"


def test_grey_with_gamma(tmp_path: Path) -> None:
    grey = pattern(16, 24, 1)
    data = png(b"".join(b"\0" + row.tobytes() for row in grey), (24, 16), 8, 0, [GAMA10])
    source = read(tmp_path, data)
    path, notes, _ = again(tmp_path, source, "jpg")
    assert notes == ()
    with Image.open(path) as image:
        assert image.mode == "L" and image.info["icc_profile"][16:20] == b"GRAY"


def test_usual_gamma_and_srgb_need_no_profile(tmp_path: Path) -> None:
    for chunk in ((b"gAMA", struct.pack(">I", 45455)), (b"sRGB", b"\0"), (b"cICP", bytes((1, 13, 0, 1)))):
        source = read(tmp_path, tagged(chunk))
        path, notes, _ = again(tmp_path, source, "png")
        assert png_chunks(path.read_bytes())[chunk[0]] == chunk[1]
        _, notes, found = again(tmp_path, source, "jpg")
        assert notes == () and found.icc is None


def test_cicp(tmp_path: Path) -> None:
    source = read(tmp_path, tagged((b"cICP", bytes((9, 16, 0, 1)))))
    path, notes, _ = again(tmp_path, source, "png")
    assert notes == () and png_chunks(path.read_bytes())[b"cICP"] == bytes((9, 16, 0, 1))
    _, notes, found = again(tmp_path, source, "jpg")
    assert dropped(notes) == "PQ" and found.icc is None
    source = read(tmp_path, tagged((b"cICP", bytes((12, 13, 0, 1)))))
    path, notes, found = again(tmp_path, source, "png")
    assert notes == () and b"cICP" in png_chunks(path.read_bytes()) and found.icc
    _, notes, found = again(tmp_path, source, "jpg")
    assert notes == () and found.icc is not None
    grey, _, green = linear_light(found.icc)[:3]
    assert np.abs(grey - 128).max() <= 1
    assert green.tolist() == [0, 255, 0], "Display P3 green is outside of sRGB"


@pytest.mark.parametrize("cicp", [(9, 1), (5, 4), (11, 8), (12, 13), (6, 5)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_profiles_of_codes_open(cicp: tuple, mode: str) -> None:
    icc = Color(cicp).profile(mode)
    assert icc is not None and len(icc) == struct.unpack(">I", icc[:4])[0]
    profile = ImageCms.getOpenProfile(io.BytesIO(icc))
    assert profile.profile.xcolor_space.strip() == ("GRAY" if mode == "L" else "RGB")


def test_a_profile_comes_before_gamma(tmp_path: Path) -> None:
    source = read(tmp_path, tagged((b"iCCP", b"x\0\0" + zlib.compress(rgb_profile())), GAMA10))
    path, notes, found = again(tmp_path, source, "png")
    assert notes == () and found.icc == rgb_profile()
    assert b"gAMA" not in png_chunks(path.read_bytes())


def test_chromaticities_that_are_no_triangle(tmp_path: Path) -> None:
    source = read(tmp_path, tagged((b"gAMA", struct.pack(">I", 1)), (b"cHRM", bytes(32))))
    _, notes, found = again(tmp_path, source, "jpg")
    assert dropped(notes) == "gAMA/cHRM" and found.icc is None


def test_heic_of_10_bit_in_pq(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    source = files.read(CASES / "hdr10_pq.heic")
    assert source.pixels.dtype == np.uint16 and source.pixels.max() == 65535
    assert source.metadata.color == Color((9, 16))
    path, notes, _ = again(tmp_path, source, "png")
    assert notes == () and png_chunks(path.read_bytes())[b"cICP"] == bytes((9, 16, 0, 1))
    _, notes, _ = again(tmp_path, source, "jpg")
    assert dropped(notes) == "PQ"


# Values of a wrong type


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_values_of_a_wrong_type(tmp_path: Path, suffix: str) -> None:
    source = files.read(CASES / "wrong_types.tif")
    assert [note.code for note in source.notes] == ["note.lost"]
    path, _, _ = again(tmp_path, source, suffix)
    with Image.open(path) as image:
        image.load()
        image.getexif().get_ifd(34665)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(("tag", "now"), [(282, 2), (271, 5), (274, 2), (34665, 2), (296, 7)])
def test_exif_entries_of_a_wrong_type(tmp_path: Path, kind: str, tag: int, now: int) -> None:
    exif = Image.Exif()
    exif[271], exif[272], exif[274], exif[282], exif[296] = "Maker", "Model 5", 1, 72.0, 2
    exif[34665] = {36867: "2024:02:03 04:05:06"}
    block = bytearray(exif.tobytes()[6:])
    order = "<" if block[:2] == b"II" else ">"
    (count,) = struct.unpack_from(order + "H", block, 8)
    at = next(at for at in range(10, 10 + 12 * count, 12) if struct.unpack_from(order + "H", block, at)[0] == tag)
    struct.pack_into(order + "H", block, at + 2, now)
    source = read(tmp_path, saved(Image.fromarray(PIXELS), kind, exif=b"Exif\0\0" + bytes(block)))
    assert source.pixels.shape == (16, 24, 3)
    assert [note.fields["what"] for note in source.notes] == ["EXIF"]
    for suffix in ("jpg", "png", "webp", "tif"):
        path, _, _ = again(tmp_path, source, suffix)
        with Image.open(path) as image:
            found = image.getexif()
            assert found.get(272) == "Model 5"
            assert tag not in found or tag == 274
            assert ("2024:02:03 04:05:06" in found.get_ifd(34665).values()) == (tag != 34665)


def test_metadata_too_large_for_jpeg(tmp_path: Path) -> None:
    packet = b"<x:xmpmeta>" + bytes(range(32, 127)) * 800 + b"</x:xmpmeta>"
    notes = files.write(tmp_path / "a.jpg", PIXELS, metadata=files.Metadata(xmp=packet, comment="c" * 70000))
    assert [note.fields.get("what") for note in notes] == ["XMP", "comment"]
    assert not {0xE1, 0xFE} & set(jpeg_segments((tmp_path / "a.jpg").read_bytes()))
