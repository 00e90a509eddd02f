"""Pictures and files for the tests of the file side, made by libraries and rules other than the package's own."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Dict, Iterable, Iterator, Optional, Tuple

import cv2
import numpy as np
from PIL import Image

__all__ = [
    "by_opencv",
    "cmyk_profile",
    "exif_block",
    "get",
    "grey_profile",
    "jpeg_segments",
    "noise",
    "pattern",
    "png",
    "png_chunks",
    "put",
    "rgb_profile",
]


def pattern(height: int, width: int, channels: int = 3, depth: int = 8, seed: int = 1) -> np.ndarray:
    """A smooth, coloured, unsymmetric picture with a little noise: HxWxC, or HxW for one channel."""
    top = (1 << depth) - 1
    y, x = np.mgrid[:height, :width]
    base = np.stack([x / max(1, width - 1), y / max(1, height - 1), (x + 2 * y) / (width + 2 * height)], axis=2)
    planes = [base[:, :, 0], base[:, :, 1], base[:, :, 2], 1 - base[:, :, 2]][:channels]
    noise = np.random.default_rng(seed).uniform(-0.02, 0.02, (height, width, channels))
    picture = np.clip(np.stack(planes, axis=2) * 0.8 + 0.1 + noise, 0, 1) * top
    result = np.rint(picture).astype(np.uint8 if depth == 8 else np.uint16)
    return result[:, :, 0] if channels == 1 else result


def png(
    raw: bytes,
    size: Tuple[int, int],
    depth: int,
    color: int,
    extra: Iterable[Tuple[bytes, bytes]] = (),
    interlace: int = 0,
) -> bytes:
    """A PNG from unfiltered rows that already carry their filter byte. ``size``: width, height."""
    header = struct.pack(">IIBBBBB", size[0], size[1], depth, color, 0, 0, interlace)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def png_chunks(data: bytes) -> Dict[bytes, bytes]:
    """The chunks of a PNG by name, IDATs joined, checksums checked."""
    found: Dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(name + content)
        found[name] = found.get(name, b"") + content
        at += 12 + length
    return found


def jpeg_segments(data: bytes) -> Dict[int, bytes]:
    """The segments of a JPEG before its pixels, by marker; those of one marker joined."""
    found: Dict[int, bytes] = {}
    at = 2
    while data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        found[data[at + 1]] = found.get(data[at + 1], b"") + data[at + 4 : at + 2 + length]
        at += 2 + length
    return found


def exif_block(orientation: Optional[int] = None, size: Optional[Tuple[int, int]] = None) -> bytes:
    """An EXIF block by Pillow, with its ``Exif`` prefix: maker, model, and what is asked for."""
    exif = Image.Exif()
    exif[271], exif[272] = "Maker", "Model 5"
    if orientation is not None:
        exif[274] = orientation
    inner = {36867: "2024:02:03 04:05:06", 33434: 0.25}
    if size is not None:
        exif[256], exif[257] = size
        inner[40962], inner[40963] = size
    exif[34665] = inner
    return exif.tobytes()


@functools.lru_cache(maxsize=None)
def rgb_profile() -> bytes:
    """An sRGB profile by LittleCMS, which writes the time of day into it: made once."""
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _profile(space: bytes, pcs: bytes, tags: Dict[bytes, bytes]) -> bytes:
    """An ICC v2 profile from its tags."""
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    size = 128 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"\0" * 4, 0x02400000, b"prtr", space, pcs)
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3I", 0x0000F6D6, 0x00010000, 0x0000D32D)
    return head.ljust(128, b"\0") + table + body


def _text(content: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(content) + 1) + content + b"\0" + bytes(79)


_WHITE = b"XYZ \0\0\0\0" + struct.pack(">3I", 0x0000F6D6, 0x00010000, 0x0000D32D)


def grey_profile() -> bytes:
    """A grey profile with gamma 2.2."""
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, int(2.2 * 256), 0)
    return _profile(b"GRAY", b"XYZ ", {b"desc": _text(b"grey"), b"wtpt": _WHITE, b"kTRC": curve})


def cmyk_profile() -> Tuple[bytes, np.ndarray]:
    """A CMYK profile with a 2-point table, and that table: Lab of the 16 corners, indexed [c, m, y, k].

    Its colours are nothing like the plain rule's: cyan is a dark red, so that a conversion past the profile shows.
    """
    corners = np.zeros((2, 2, 2, 2, 3))
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        light = max(0.0, 100 - 40 * c - 15 * m - 5 * y) * (1 - 0.85 * k)
        corners[c, m, y, k] = light, (45 * c - 20 * m) * (1 - k), (20 * c + 10 * m - 35 * y) * (1 - k)
    encoded = np.empty_like(corners)
    encoded[..., 0] = corners[..., 0] * 255 / 100
    encoded[..., 1:] = corners[..., 1:] + 128
    table = np.rint(encoded).astype(np.uint8)
    exact = table.astype(float)
    exact[..., 0] *= 100 / 255
    exact[..., 1:] -= 128
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *[65536 if i % 4 == 0 else 0 for i in range(9)])
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + identity * 4 + table.tobytes() + identity * 3
    return _profile(b"CMYK", b"Lab ", {b"desc": _text(b"cmyk"), b"wtpt": _WHITE, b"A2B0": lut}), exact


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """A file by Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_opencv(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    """A file by OpenCV."""
    done, encoded = cv2.imencode(suffix, pixels, list(options))
    assert done
    return encoded.tobytes()


def noise(*shape: int, seed: int = 1, dtype: type = np.uint8) -> np.ndarray:
    """Random pixels, of all values that the type has."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def put(path: Path, pixels: np.ndarray) -> Path:
    """Write a picture by OpenCV, in the format of the suffix; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(by_opencv(path.suffix, pixels))
    return path


def get(path: Path) -> np.ndarray:
    """What OpenCV reads from a picture as it is: grey, colour or alpha, 8 or 16 bit."""
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)


@contextlib.contextmanager
def bound_by_permissions(folder: Path) -> Iterator[None]:
    """Work as a user whom permissions bind: root (in a container, say) becomes nobody and owns ``folder``."""
    if os.geteuid() != 0:
        yield
        return
    nobody = 65534
    os.chown(folder, nobody, nobody)
    for path in folder.rglob("*"):
        os.chown(path, nobody, nobody)
    parents = [parent for parent in folder.parents if parent.stat().st_mode & 0o011 != 0o011]
    modes = [(parent, parent.stat().st_mode) for parent in parents]
    for parent in parents:
        parent.chmod(parent.stat().st_mode | 0o011)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)
        for parent, mode in modes:
            parent.chmod(mode)
