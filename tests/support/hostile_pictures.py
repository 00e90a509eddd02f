"""Seeded hostile pictures: small files that were made to cost time or memory, or to break a reader.

``python -m support.hostile_pictures START STOP STEP`` reads every STEP-th of them in this process and prints a line of
JSON for each: its name, the error's code, the seconds of processor time and the bytes of memory that it took. Without
numbers it reads the few named ones, without a limit on pixels of its own.
"""

from __future__ import annotations

import faulthandler
import io
import json
import random
import struct
import sys
import tempfile
import time
import warnings
import zlib
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Tuple

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from support.picture_samples import by_opencv, exif_block, pattern, png, png_chunks, rgb_profile, saved

__all__ = ["COUNT", "MAX_PIXELS", "NAMED", "make", "mutate", "with_changed_rows", "with_right_checksums"]

MAX_PIXELS = 1 << 22
SEED = 20261126


def mutate(data: bytes, rng: random.Random, pixels: Tuple[int, int]) -> Tuple[bytes, bool]:
    """A changed copy, and whether all of the change lies in its pixels."""
    changed = bytearray(data)
    deep = rng.random() < 0.5
    low, high = pixels if deep else (0, len(data))
    # A directory behind the pixels, as in most TIFF files, must stay if only they are to change.
    way = rng.randrange(7 if high == len(data) else 6)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        if high - low < 4:
            break
        at = rng.randrange(low, max(low + 1, high - 8))
        before = len(changed)
        if way == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif way == 2:
            number = rng.choice((0, 1, 0xFFFF, 1 << 31, (1 << 32) - 1))
            changed[at : at + 4] = struct.pack(rng.choice("<>") + "I", number)
        elif way == 3:
            del changed[at : min(high, at + rng.randrange(1, 30))]
        elif way == 4:
            changed[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 30)))
        elif way == 5:
            source = rng.randrange(low, high)
            length = min(16, high - at, high - source)
            changed[at : at + length] = changed[source : source + length]
        else:
            del changed[at:]
        high += len(changed) - before
    return bytes(changed), deep


def with_right_checksums(data: bytes) -> bytes:
    """A PNG whose chunks are believed, so that the decoders behind the checksums see the damage."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        (length,) = struct.unpack_from(">I", out, at)
        if at + 12 + length > len(out):
            break
        struct.pack_into(">I", out, at + 8 + length, zlib.crc32(out[at + 4 : at + 8 + length]))
        at += 12 + length
    return bytes(out)


def with_changed_rows(data: bytes, rng: random.Random) -> bytes:
    """A PNG that is right but for its rows: wrong filters, too many or too few bytes, other pixels."""
    chunks = png_chunks(data)
    width, height, depth, color = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    rows = zlib.decompress(chunks[b"IDAT"])
    rows, _ = mutate(rows, rng, (0, len(rows)))
    extra = [(name, chunks[name]) for name in (b"PLTE", b"tRNS") if name in chunks]
    return png(rows, (width, height), depth, color, extra)


# Each maker gives one file from a seeded generator.

Maker = Callable[[random.Random], bytes]
_IMAGE = Image.fromarray(pattern(20, 24, 3))
_ROWS = (b"\0" + bytes(24)) * 8


def _seeds() -> Dict[str, List[bytes]]:
    rgba = Image.fromarray(pattern(20, 24, 4))
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "steps " * 300, zip=True)
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6" GPano:FullPanoWidthPixels="24"/>')
    kinds = {
        "png": [saved(_IMAGE, "PNG", exif=exif_block(6), icc_profile=rgb_profile(), pnginfo=text, dpi=(300, 300))],
        "jpeg": [saved(_IMAGE, "JPEG", exif=exif_block(6), icc_profile=rgb_profile(), progressive=True)],
        "webp": [saved(_IMAGE, "WEBP", exif=exif_block(6), icc_profile=rgb_profile()), saved(rgba, "WEBP")],
        "bmp": [saved(_IMAGE, "BMP"), saved(_IMAGE.convert("P"), "BMP")],
        "gif": [saved(_IMAGE.convert("P"), "GIF", save_all=True, append_images=[_IMAGE.rotate(90)], comment=b"hello")],
        "tiff": [
            by_opencv(".tiff", pattern(20, 24, 4, 16)),
            saved(_IMAGE, "TIFF", exif=exif_block(6)),
            saved(_IMAGE, "TIFF", compression="tiff_lzw"),
            saved(_IMAGE, "TIFF", compression="jpeg"),
        ],
        "pnm": [by_opencv(".ppm", pattern(20, 24, 3, 16)), by_opencv(".pgm", pattern(20, 24, 1), 32, 0)],
        "pfm": [b"PF\n24 20\n-1.0\n" + pattern(20, 24).astype("<f4").tobytes()],
        "hdr": [by_opencv(".hdr", (pattern(20, 24) / 255).astype(np.float32))],
        "jp2": [by_opencv(".jp2", pattern(40, 48)), by_opencv(".jp2", pattern(40, 48, 3, 16))],
        "tga": [saved(_IMAGE, "TGA", compression="tga_rle"), saved(rgba, "TGA")],
        "dds": [saved(rgba, "DDS")],
    }
    try:
        kinds["avif"] = [saved(_IMAGE, "AVIF")]
    except (KeyError, OSError, ValueError):  # this Pillow has no AVIF
        kinds["avif"] = kinds["webp"]
    return kinds


def _mutated(kind: str) -> Maker:
    def make_one(rng: random.Random) -> bytes:
        seeds = _SEEDS[kind]
        data = rng.choice(seeds)
        changed, _ = mutate(data, rng, (len(data) // 2, len(data)))
        return with_right_checksums(changed) if kind == "png" and rng.random() < 0.7 else changed

    return make_one


def _directories(rng: random.Random, size: int) -> bytes:
    """An EXIF block whose entries share their bytes, point at each other, or have types that do not fit."""
    order = rng.choice("<>")
    tags = [270, 271, 272, 305, 306, 315, 33432, 34665, 34853, 40965, 282, 283, 296, 256, 257, 700, 33723, 34675]
    out = bytearray((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8))
    for _ in range(rng.choice((1, 2, 4))):
        number = rng.choice((3, 18, 200, 1500, 4096))
        out += struct.pack(order + "H", number)
        for index in range(number):
            tag = rng.choice(tags) if rng.random() < 0.5 else 40000 + index
            kind, count = rng.choice((1, 2, 3, 4, 5, 7, 12, 13, 0, 99)), rng.choice((1, 4, size // 8, size, 1 << 28))
            place = rng.choice((8, 10, len(out), size // 2, size - 4))
            out += struct.pack(order + "HHII", tag, kind, count, place)
        out += struct.pack(order + "I", rng.choice((0, 8, len(out) + 4)))
    return bytes(out).ljust(size, b"\x01")


def _with_exif(rng: random.Random) -> bytes:
    kind = rng.choice(("PNG", "JPEG", "WEBP"))
    size = rng.choice((2000, 50_000)) if kind == "JPEG" else rng.choice((2000, 60_000, 500_000))
    block = b"Exif\0\0" + _directories(rng, size)[: 65_000 if kind == "JPEG" else size]
    return saved(_IMAGE, kind, exif=block)


def _tiff(rng: random.Random) -> bytes:
    """A TIFF with a right picture of 8x8 and directories that cost."""
    shared = rng.choice((1000, 100_000, 500_000))
    number = rng.choice((20, 300, 4000))
    tags = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags += [(278, 4, 1, 8), (279, 4, 1, 64), (273, 4, 1, 8)]
    named = [270, 271, 272, 305, 306, 315, 700, 33432, 33723, 34675, 320, 347, 324, 325, 338, 339, 34665, 34853]
    for index in range(number):
        tag = named[index] if index < len(named) else 41000 + index
        tags.append((tag, rng.choice((1, 2, 3, 4, 5, 7, 13)), rng.choice((shared, shared // 8, 1 << 20)), 8))
    entries = b"".join(struct.pack("<HHII", *item) for item in sorted(tags))
    at = 8 + max(64, shared)
    link = rng.choice((0, at, 8))
    return (
        b"II*\0"
        + struct.pack("<I", at)
        + bytes(at - 8)
        + struct.pack("<H", len(tags))
        + entries
        + struct.pack("<I", link)
    )


def _tiff_strips(rng: random.Random) -> bytes:
    """A TIFF of very many strips or tiles, all of them the same bytes."""
    number = rng.choice((1000, 60_000, 130_000, 400_000))
    offsets = struct.pack("<I", 8) * number
    tiled = rng.random() < 0.5
    side = rng.choice((16, 64)) if tiled else 1
    tags = [
        (256, 4, 1, 8 if not tiled else side),
        (257, 4, 1, number * side),
        (258, 3, 1, 8),
        (259, 3, 1, rng.choice((1, 5, 8))),
    ]
    tags += [(262, 3, 1, 1), (277, 3, 1, 1)]
    at = 8 + 256
    if tiled:
        tags += [(322, 4, 1, side), (323, 4, 1, side), (324, 4, number, at), (325, 4, number, at)]
    else:
        tags += [(273, 4, number, at), (278, 4, 1, 1), (279, 4, number, at)]
    entries = b"".join(struct.pack("<HHII", *item) for item in sorted(tags))
    first = at + len(offsets)
    return (
        b"II*\0" + struct.pack("<I", first) + bytes(256) + offsets + struct.pack("<H", len(tags)) + entries + bytes(4)
    )


def _png_chunks(rng: random.Random) -> bytes:
    kinds = [
        (b"iCCP", b"x\0\0" + _BOMB),
        (b"iCCP", b"x\0\0" + zlib.compress(rgb_profile())),
        (b"zTXt", b"y\0\0" + _BOMB),
        (b"zTXt", b"Raw profile type exif\0\0" + _BOMB),
        (b"iTXt", b"z\0\1\0\0\0" + _BOMB),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + _BOMB),
        (b"tEXt", b"k\0" + b"v" * 5000),
        (b"eXIf", _directories(rng, 3000)),
        (b"pHYs", b"\xff" * 9),
        (b"cICP", b"\xff" * 4),
        (b"PLTE", bytes(15_000)),
    ]
    sizes = {b"acTL": 8, b"gAMA": 4, b"cHRM": 32, b"abCD": 0, b"tRNS": 2000}
    kinds += [(name, bytes(size)) for name, size in sizes.items()]
    most = rng.choice((1, 30, 300, 3000))
    chosen = rng.choice(kinds)
    number = max(1, min(most, 2_000_000 // (len(chosen[1]) + 12)))
    extra = [chosen] * number + [rng.choice(kinds) for _ in range(3)]
    return png(_ROWS, (8, 8), 8, 2, extra)


def _png_parts(rng: random.Random) -> bytes:
    """A PNG in very many, or in empty, chunks of pixels."""
    data = png(_ROWS, (8, 8), 8, 2)
    at = data.index(b"IDAT") - 4
    empty = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    return data[:at] + empty * rng.choice((10, 1000, 100_000, 300_000)) + data[at:]


def _jpeg_scans(rng: random.Random) -> bytes:
    data = bytearray(saved(Image.new(rng.choice(("L", "RGB")), (64, 64), 128), "JPEG", progressive=True))
    side = rng.choice((64, 500, 2000, 16000, 65000))
    struct.pack_into(">HH", data, data.index(b"\xff\xc2") + 5, side, side)
    starts = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    which = rng.randrange(len(starts) - 1)
    scan = data[starts[which] : starts[which + 1]]
    return bytes(data[: starts[-1]] + scan * rng.choice((3, 40, 300, 3000)) + data[starts[-1] :])


def _jpeg_segments(rng: random.Random) -> bytes:
    data = saved(_IMAGE, "JPEG")
    kinds = [b"\xff\xfe\0\x04ab", b"\xff\xe1\0\x08Exif\0\0", b"\xff\xe2\0\x10ICC_PROFILE\0\1\1", b"\xff\xe0\0\x02"]
    kinds += [b"\xff\xff\xff\xff", b"\xff\xd0\xff\x01", b"ab\0\0", b"\xff\xc4\0\x02", b"\xff\xdb\0\x02"]
    kinds += [b"\xff\xed\0\x22Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x02ab"]
    filler = rng.choice(kinds)
    if rng.random() < 0.3:
        filler = (
            b"\xff\xe1"
            + struct.pack(">H", 60_002)
            + b"http://ns.adobe.com/xap/1.0/\0".ljust(60_000, rng.choice(kinds)[-1:])
        )
    return data[:2] + filler * max(1, min(rng.choice((5, 3000, 500_000)), 2_000_000 // len(filler))) + data[2:]


def _claims(rng: random.Random) -> bytes:
    """A header that claims far more pixels than there are bytes."""
    side = rng.choice((2100, 16385, 65535, 1 << 30))
    kind = rng.choice(("png", "pnm", "hdr", "bmp", "gif", "tiff", "dds", "jp2", "tga"))
    if kind == "png":
        return png(
            zlib.compress(bytes(100)),
            (side, side),
            rng.choice((8, 16)),
            rng.choice((2, 6)),
            interlace=rng.choice((0, 1)),
        )
    if kind == "pnm":
        return b"P%d %d %d %d\n" % (rng.randrange(1, 7), side, side, rng.choice((1, 255, 65535))) + bytes(100)
    if kind == "hdr":
        return b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (side, side) + bytes(100)
    data = bytearray(rng.choice(_SEEDS[kind]))
    small = struct.pack("<H", side & 0xFFFF)
    if kind == "jp2":
        at = data.index(b"\xff\x4f\xff\x51") + 8
        struct.pack_into(">II", data, at, side, rng.choice((side, 1)))
        struct.pack_into(">II", data, at + 16, rng.choice((1, 24, side)), rng.choice((1, 24, side)))
    elif kind == "gif":
        data[6:10] = small * 2
    elif kind == "tga":
        data[12:16] = small * 2
    elif kind == "tiff":
        first = struct.unpack_from("<I", data, 4)[0]
        for at in range(first + 2, min(first + 200, len(data) - 12), 12):
            if struct.unpack_from("<H", data, at)[0] in (256, 257, 322, 323):
                struct.pack_into("<HII", data, at + 2, 4, 1, side)
    else:
        struct.pack_into("<II", data, 18 if kind == "bmp" else 12, side & 0x7FFFFFFF, side & 0x7FFFFFFF)
    return bytes(data)


def _many_parts(rng: random.Random) -> bytes:
    """GIF and WebP of very many extensions, frames or chunks."""
    number = rng.choice((10, 3000, 100_000))
    if rng.random() < 0.5:
        data = saved(_IMAGE.convert("P"), "GIF")
        at = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
        part = rng.choice(
            (b"!\xfe\x01a\0", b"!\xfe" + b"\xff" + b"c" * 255 + b"\0", b"!\xf9\x04\0\0\0\0\0", b"!\xff\x01b\0", b"\0")
        )
        return data[:at] + part * min(number, 2_000_000 // len(part)) + data[at:]
    data = _SEEDS["webp"][0]
    part = rng.choice((b"EXIF\0\0\0\0", b"abcd\0\0\0\0", b"XMP \x02\0\0\0ab", b"ANMF\0\0\0\0", b"ICCP\0\0\0\0"))
    body = data[8:] + part * min(number, 1_000_000 // len(part))
    return b"RIFF" + struct.pack("<I", len(body)) + body


_BOMB = zlib.compress(bytes(1 << 25), 9)
_SEEDS = _seeds()
_MAKERS: List[Tuple[str, int, Maker]] = [(f"mutated {kind}", 110, _mutated(kind)) for kind in _SEEDS]
_MAKERS += [
    ("EXIF that shares bytes", 150, _with_exif),
    ("TIFF that shares bytes", 150, _tiff),
    ("TIFF of many strips", 40, _tiff_strips),
    ("PNG of many chunks", 150, _png_chunks),
    ("PNG of many parts", 20, _png_parts),
    ("JPEG of many scans", 120, _jpeg_scans),
    ("JPEG of many segments", 60, _jpeg_segments),
    ("sizes that are claimed", 120, _claims),
    ("GIF and WebP of many parts", 60, _many_parts),
]
COUNT = sum(number for _, number, _ in _MAKERS)


def _amplified() -> bytes:
    """A TIFF of half a megabyte: 3,900 tags, each of them the same 500 kB."""
    tags = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    tags += [(277, 3, 1, 1), (278, 4, 1, 8), (279, 4, 1, 64), (34665, 4, 1, 500_008)]
    inner = b"".join(struct.pack("<HHII", 36864 + index, 7, 500_000, 8) for index in range(3900))
    entries = b"".join(struct.pack("<HHII", *item) for item in tags)
    at = 500_008 + 2 + len(inner) + 4
    head = b"II*\0" + struct.pack("<I", at) + bytes(500_000) + struct.pack("<H", 3900) + inner + bytes(4)
    return head + struct.pack("<H", len(tags)) + entries + bytes(4)


def _scans() -> bytes:
    """A progressive JPEG of 16000x16000 pixels in 300 scans."""
    data = bytearray(saved(Image.new("L", (64, 64), 128), "JPEG", progressive=True))
    struct.pack_into(">HH", data, data.index(b"\xff\xc2") + 5, 16000, 16000)
    starts = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    return bytes(data[: starts[1]] + data[starts[1] : starts[2]] * 300 + b"\xff\xd9")


#: The cases by which the limits were found.
NAMED: Dict[str, Callable[[], bytes]] = {
    "EXIF of a TIFF that shares its bytes": _amplified,
    "300 profiles": lambda: png(_ROWS, (8, 8), 8, 2, [(b"iCCP", b"x\0\0" + _BOMB)] * 300),
    "3000 texts": lambda: png(_ROWS, (8, 8), 8, 2, [(b"zTXt", b"Raw profile type exif\0\0" + _BOMB[:2000])] * 3000),
    "300 scans of 16000x16000": _scans,
}


def make(index: int) -> Tuple[str, bytes]:
    """The ``index``-th file of the corpus: what it is, and its bytes."""
    left = index
    for name, number, maker in _MAKERS:
        if left < number:
            return f"{name} {left}", maker(random.Random(f"{SEED} {name} {left}"))
        left -= number
    raise IndexError(index)


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _read_all(files_to_read: Iterable[Tuple[str, bytes]], **options: int) -> None:
    import psutil

    from realesrgan import files
    from realesrgan.errors import PictureError

    process = psutil.Process()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, data) in enumerate(files_to_read):
            path = Path(folder, "a.tga" if "tga" in name else "a.bin")
            path.write_bytes(data)
            del data
            result = ""
            faulthandler.dump_traceback_later(60, exit=True)
            before, top, clock = process.memory_info().rss, _peak(), time.process_time()
            try:
                found = files.read(path, **options)
            except PictureError as error:
                result = error.code
            seconds, peak = time.process_time() - clock, _peak()
            if not result:
                target = Path(folder, "out" + (".jpg", ".png", ".webp", ".tif")[number % 4])
                files.write(target, found.pixels[:64, :64], mode=found.mode, metadata=found.metadata)
                with Image.open(io.BytesIO(target.read_bytes())) as image:
                    image.load()
                    image.getexif()
            faulthandler.cancel_dump_traceback_later()
            # Where the peak is an older one, this file took no more than what was free below it.
            took = peak - before if peak > top else 0
            print(json.dumps({"name": name, "result": result, "seconds": seconds, "bytes": took}), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # what Pillow has to say of results
    if len(sys.argv) > 1:
        _read_all(map(make, range(*map(int, sys.argv[1:]))), max_pixels=MAX_PIXELS)
    else:
        _read_all((name, maker()) for name, maker in NAMED.items())
