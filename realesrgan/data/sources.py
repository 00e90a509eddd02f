"""Where training pictures come from: files in a folder, an lmdb database, or drawn ones.

Drawn pictures have edges, lines, discs, gradients and grain, enough for a small network to learn from, so that the
smoke training runs anywhere, without a data set and without a network.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Optional, Tuple, Union

import cv2
import numpy as np

from realesrgan import files
from realesrgan.errors import InputError, PictureError, one_line
from realesrgan.files.picture import os_failure

__all__ = ["FolderSource", "LmdbSource", "decode_bgr", "draw", "draw_folder", "meta_lines", "open_source", "shrink"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
SHAPE = re.compile(r"\s+\(\d+,\s*\d+(,\s*\d+)?\)(\s+\d+)?$")  # "NAME (120,125,3) 1": the shape and compression level


def decode_bgr(data: bytes, name: str) -> np.ndarray:
    """An encoded picture as HxWx3 BGR float32 in [0, 1]; grey is repeated, alpha dropped, 16 bit kept.

    Raises:
        PictureError: The bytes are no picture.
    """
    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if pixels is None:
        raise PictureError(f"cannot decode {name}: not a picture, or broken", path=name, reason="not a picture")
    full = np.float32(65535 if pixels.dtype == np.uint16 else 255)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, :3]).astype(np.float32) / full


def meta_lines(path: Union[str, Path], what: str = "meta_info") -> List[str]:
    """The lines of a UTF-8 list that are not empty."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {what} {path}: {one_line(error)}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{what} {path} names no picture")
    return lines


class FolderSource:
    """Pictures below a folder, by their path relative to it (with ``/``)."""

    def __init__(self, root: Union[str, Path]) -> None:
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise InputError(f"there is no folder {self.root} (option dataroot_gt or dataroot_lq)")

    def names(self, meta_info: Optional[str] = None) -> List[str]:
        """The names in the ``meta_info`` file (less a shape behind them), or all pictures in and below the folder."""
        if meta_info:
            return [self.key_of(line) for line in meta_lines(meta_info)]
        found = [path for path in self.root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
        if not found:
            raise InputError(f"there is no picture in {self.root}")
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    @staticmethod
    def key_of(line: str) -> str:
        """The name in a line of a list, less the shape that may follow it."""
        return SHAPE.sub("", line.strip())

    def path_of(self, key: str) -> str:
        """The whole path of a picture by its name."""
        return str(self.root / key)

    @staticmethod
    def read(path: str) -> np.ndarray:
        """The picture of a whole path, as :func:`decode_bgr` gives it."""
        try:
            return decode_bgr(Path(path).read_bytes(), path)
        except OSError as error:
            raise os_failure(path, error, "read") from error


class LmdbSource:
    """Pictures in an lmdb database as basicsr lays it out: ``meta_info.txt`` beside the data; keys without suffix."""

    def __init__(self, root: Union[str, Path]) -> None:
        self.root = Path(root).expanduser()
        if self.root.suffix != ".lmdb" or not (self.root / "data.mdb").is_file():
            raise InputError(f"{self.root} is no lmdb database: a folder NAME.lmdb with a data.mdb in it is needed")

    def names(self, meta_info: Optional[str] = None) -> List[str]:
        """The keys of ``meta_info.txt`` (or of another such file): lines like ``0001.png (120,125,3) 1``."""
        return [self.key_of(line) for line in meta_lines(meta_info or self.root / "meta_info.txt")]

    @staticmethod
    def key_of(line: str) -> str:
        """The name in a line of a list, less its suffix and the shape that may follow it."""
        return PurePosixPath(SHAPE.sub("", line.strip())).with_suffix("").as_posix()

    @staticmethod
    def path_of(key: str) -> str:
        """The key itself: pictures in a database have no path."""
        return key

    def read(self, key: str) -> np.ndarray:
        """The picture as :func:`decode_bgr` gives it."""
        with _environment(self.root).begin(write=False) as transaction:
            data = transaction.get(key.encode("utf-8"))
        if data is None:
            raise PictureError(f"there is no picture {key!r} in {self.root}", path=key, reason="not in the database")
        return decode_bgr(data, f"{self.root}:{key}")


# lmdb allows one environment a database and process, which must not cross into another process.
_environments: Dict[Tuple[int, str], Any] = {}


def _environment(root: Path) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise InputError("io_backend lmdb needs the package lmdb: pip install lmdb") from error
    place = os.getpid(), str(root.resolve())
    if place not in _environments:
        _environments[place] = lmdb.open(place[1], readonly=True, lock=False, readahead=False, meminit=False)
    return _environments[place]


def open_source(root: Optional[str], options: Dict[str, Any], key: str) -> Union[FolderSource, LmdbSource]:
    """The source that a data set's ``io_backend`` asks for, at ``root`` (the value of option ``key``).

    Raises:
        InputError: There is nothing at ``root``, or the backend is not known.
    """
    if not root:
        raise InputError(f"option {key!r} is missing in data set {options.get('name', '?')!r}: the pictures' folder")
    backend = (options.get("io_backend") or {}).get("type", "disk")
    if backend == "disk":
        return FolderSource(root)
    if backend == "lmdb":
        return LmdbSource(root)
    raise InputError(f"option 'io_backend:type' is disk or lmdb, not {backend!r}")


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.mgrid[0:size, 0:size] / size
    ramp = np.clip(0.5 + (rows - 0.5) * math.sin(angle) + (columns - 0.5) * math.cos(angle), 0, 1)[..., None]
    ends = rng.uniform(0, 255, (2, 3))
    return ends[0] * (1 - ramp) + ends[1] * ramp


def _grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise whose amplitude falls with the frequency, as in photographs; zero mean."""
    frequencies = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    frequencies[0, 0] = np.inf
    spectrum = np.exp(2j * math.pi * rng.random((size, size))) / frequencies
    pattern = np.fft.ifft2(spectrum).real
    return (pattern / pattern.std())[..., None]


def draw(seed: int, size: int) -> np.ndarray:
    """A picture of its own for every seed: (size, size, 3) BGR uint8."""
    rng = np.random.default_rng(seed)
    picture = np.ascontiguousarray(np.clip(_gradient(rng, size) + 12 * _grain(rng, size), 0, 255).astype(np.uint8))
    for _ in range(int(rng.integers(6, 12))):
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        start, end = (tuple(int(value) for value in rng.integers(0, size, 2)) for _ in range(2))
        kind = int(rng.integers(0, 4))
        if kind == 0:
            cv2.line(picture, start, end, colour, int(rng.integers(1, 4)), cv2.LINE_AA)
        elif kind == 1:
            cv2.circle(picture, start, int(rng.integers(3, size // 4)), colour, -1, cv2.LINE_AA)
        elif kind == 2:
            cv2.rectangle(picture, start, end, colour, int(rng.integers(1, 4)))
        else:
            tilt = float(rng.uniform(0, 180))
            cv2.ellipse(picture, start, (size // 5, size // 9), tilt, 0, 360, colour, 2, cv2.LINE_AA)
    return picture


def shrink(picture: np.ndarray, scale: int, seed: int) -> np.ndarray:
    """A plain low-resolution partner: a slight blur, area averaging, noise of 3 levels and JPEG of quality 75."""
    rng = np.random.default_rng(seed)
    height, width = picture.shape[0] // scale, picture.shape[1] // scale
    small = cv2.resize(cv2.GaussianBlur(picture, (0, 0), 1.0), (width, height), interpolation=cv2.INTER_AREA)
    small = np.clip(small + rng.normal(0, 3, small.shape), 0, 255).round().astype(np.uint8)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 75])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def draw_folder(
    gt_folder: Union[str, Path],
    count: int,
    size: int,
    seed: int = 0,
    lq_folder: Optional[Union[str, Path]] = None,
    scale: int = 4,
) -> None:
    """Fill a folder with ``count`` drawn PNGs, and another with their low-resolution partners; both made if missing.

    Raises:
        PictureError: A picture cannot be written.
    """
    for number in range(count):
        picture = draw(seed + number, size)
        files.write(Path(gt_folder) / f"{number:04d}.png", picture)
        if lq_folder is not None:
            files.write(Path(lq_folder) / f"{number:04d}.png", shrink(picture, scale, seed + number))
