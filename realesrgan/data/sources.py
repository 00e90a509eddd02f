"""Where training pictures come from: files in a folder, or an lmdb database."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from realesrgan.errors import InputError, PictureError, one_line

__all__ = ["FolderSource", "LmdbSource", "decode_bgr", "meta_lines", "open_source"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
SHAPE = re.compile(r"\s+\(\d+,\s*\d+(,\s*\d+)?\)(\s+\d+)?$")  # "NAME (120,125,3) 1": the shape and compression level


def decode_bgr(data: bytes, name: str) -> np.ndarray:
    """An encoded picture as HxWx3 BGR float32 in [0, 1]; grey is repeated, alpha dropped, 16 bit kept.

    Raises:
        PictureError: The bytes are no picture.
    """
    import cv2

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
            reason = one_line(error)
            raise PictureError(f"cannot read {path}: {reason}", path=path, reason=reason) from error


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
