"""Thousands of mutated files: only our own error comes out of the reader, and memory stays bounded.

``pytest -rP tests/files/test_fuzz_files.py`` shows the counts.
"""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path
from typing import Dict, List, Tuple

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image
from support.hostile_pictures import mutate, with_changed_rows, with_right_checksums
from support.picture_samples import by_opencv, cmyk_profile, exif_block, pattern, rgb_profile, saved

from realesrgan import files
from realesrgan.errors import PictureError

#: Mutations of each of the five formats; together 2,400.
COUNT = 480
MAX_PIXELS = 1 << 20
GROWTH = 200 << 20


def corpus() -> Dict[str, List[bytes]]:
    color, deep, alpha = pattern(20, 24, 3), pattern(20, 24, 3, 16), pattern(20, 24, 4)
    image, rgba = Image.fromarray(color), Image.fromarray(alpha)
    cmyk, icc = image.convert("CMYK"), cmyk_profile()[0]
    return {
        "PNG": [
            by_opencv(".png", color),
            by_opencv(".png", deep),
            by_opencv(".png", pattern(20, 24, 4, 16)),
            saved(image.convert("P"), "PNG", transparency=bytes(range(99))),
            saved(image, "PNG", exif=exif_block(6), icc_profile=rgb_profile()),
            saved(image.convert("1"), "PNG"),
        ],
        "JPEG": [
            saved(image, "JPEG", quality=98, exif=exif_block(6), icc_profile=rgb_profile()),
            saved(image, "JPEG", quality=98, progressive=True),
            saved(cmyk, "JPEG", quality=98, icc_profile=icc),
            saved(image.convert("L"), "JPEG", quality=98),
        ],
        "WEBP": [
            saved(image, "WEBP", exif=exif_block(6), icc_profile=rgb_profile()),
            saved(rgba, "WEBP", lossless=True),
            saved(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
        ],
        "BMP": [
            by_opencv(".bmp", color),
            saved(image.convert("P"), "BMP"),
            saved(rgba, "BMP"),
            saved(image.convert("1"), "BMP"),
        ],
        "TIFF": [
            by_opencv(".tiff", color),
            by_opencv(".tiff", deep),
            by_opencv(".tiff", pattern(20, 24, 4, 16)),
            saved(image, "TIFF", exif=exif_block(6), icc_profile=rgb_profile()),
            saved(image.convert("P"), "TIFF", compression="packbits"),
            saved(cmyk, "TIFF", compression="tiff_adobe_deflate", icc_profile=icc),
            saved(image, "TIFF", compression="jpeg"),
        ],
    }


def pixels_of(kind: str, data: bytes) -> Tuple[int, int]:
    """Where the pixels of the first frame begin, and where what follows the header ends."""
    if kind == "PNG":
        return data.index(b"IDAT") + 4, len(data)
    if kind == "JPEG":
        at = 2
        while True:
            marker, length = struct.unpack_from(">HH", data, at)
            at += 2 + length
            if marker == 0xFFDA:
                return at, len(data)
    if kind == "WEBP":
        return next(at for at in range(12, len(data)) if data[at : at + 4] in (b"VP8 ", b"VP8L")) + 8, len(data)
    if kind == "BMP":
        return struct.unpack_from("<I", data, 10)[0], len(data)
    with Image.open(io.BytesIO(data)) as image:
        starts, sizes = image.tag_v2[273], image.tag_v2[279]  # type: ignore[attr-defined]
    return min(starts), max(start + size for start, size in zip(starts, sizes))


def test_good_files_are_read(tmp_path: Path) -> None:
    for kind, seeds in corpus().items():
        for data in seeds:
            (tmp_path / "a").write_bytes(data)
            assert files.read(tmp_path / "a").format == kind


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_what_is_called_pixels_is_pixels(kind: str) -> None:
    """Outside of them a mutation of the pixels changes nothing; what lies before them is a whole header."""
    rng = random.Random(3)
    for data in corpus()[kind]:
        start, end = pixels_of(kind, data)
        assert 8 <= start < end <= len(data)
        with Image.open(io.BytesIO(data)) as image:
            size = image.size
        deep = 0
        while deep < 20:
            changed, past_header = mutate(data, rng, (start, end))
            if past_header:
                deep += 1
                assert changed[:start] == data[:start]
                assert changed.endswith(data[end:])
        if kind not in ("TIFF", "WEBP"):  # a directory behind the pixels; a reader that wants the whole file
            with Image.open(io.BytesIO(data[:start])) as image:
                assert image.size == size, "the header says it all"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_mutated_files(tmp_path: Path, kind: str) -> None:
    rng = random.Random(f"mutations of {kind}")
    seeds = corpus()[kind]
    path = tmp_path / "mutated.bin"
    process = psutil.Process()
    start = peak = process.memory_info().rss
    deep = refused = 0
    for number in range(COUNT):
        seed = seeds[number % len(seeds)]
        data, past_header = mutate(seed, rng, pixels_of(kind, seed))
        if kind == "PNG" and number % 3 == 1:
            data = with_right_checksums(data)
        elif kind == "PNG" and number % 3 == 2:
            data, past_header = with_changed_rows(seeds[number // 3 % len(seeds)], rng), True
        deep += past_header
        path.write_bytes(data)
        try:
            found = files.read(path, max_pixels=MAX_PIXELS)
        except PictureError as error:
            refused += 1
            assert error.fields["path"] == str(path) and error.fields["reason"]
        else:
            height, width = found.pixels.shape[:2]
            assert 0 < height * width <= MAX_PIXELS
            assert found.pixels.dtype in (np.uint8, np.uint16)
            assert found.pixels.ndim == (2 if found.mode == "L" else 3)
            cv2.resize(found.pixels, (4, 4))  # the array is really there
        peak = max(peak, process.memory_info().rss)
    print(f"{kind}: {COUNT} files, {deep} changed past the header alone, {refused} refused, {(peak - start) >> 20} MB")
    assert deep >= 0.3 * COUNT, f"only {deep} of {COUNT} mutations past the header"
    assert refused >= 0.1 * COUNT, f"only {refused} of {COUNT} were refused: the mutations are too tame"
    assert peak - start < GROWTH, f"memory grew by {(peak - start) >> 20} MB"
