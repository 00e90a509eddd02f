"""What the scripts that make pictures of pictures share: a pool of processes, a bar, and a count of failures."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Callable, Optional, Sequence

import cv2
import numpy as np
from tqdm import tqdm

from realesrgan.errors import InputError, PictureError, RealESRGANError, one_line

__all__ = ["read", "run", "write"]


def read(path: Path) -> np.ndarray:
    """The picture as it is stored.

    Raises:
        PictureError: It cannot be read or decoded.
    """
    try:
        data = path.read_bytes()  # OpenCV's own reading fails on names outside the code page on Windows
    except OSError as error:
        raise PictureError(f"cannot read {path}: {one_line(error)}", path=str(path)) from error
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if pixels is None:
        raise PictureError(f"cannot decode {path}: not a picture, or broken", path=str(path))
    return pixels


def write(path: Path, pixels: np.ndarray, compression: int = 3) -> None:
    """Write a PNG.

    Raises:
        PictureError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, compression])[1].tobytes())
    except OSError as error:
        raise PictureError(f"cannot write {path}: {one_line(error)}", path=str(path)) from error


def _guarded(job: Callable[[Path], int], path: Path) -> tuple[int, Optional[str]]:
    try:
        return job(path), None
    except RealESRGANError as error:
        return 0, str(error)


class _Guard:
    """A job that returns its error; an instance so that it can be sent to another process."""

    def __init__(self, job: Callable[[Path], int]) -> None:
        self.job = job

    def __call__(self, path: Path) -> tuple[int, Optional[str]]:
        return _guarded(self.job, path)


def run(job: Callable[[Path], int], paths: Sequence[Path], workers: int, title: str) -> int:
    """Do ``job`` for every path; it returns how many pictures it made. Returns the exit status: 1 if any failed.

    Raises:
        InputError: There is nothing to do.
    """
    if not paths:
        raise InputError("there is no picture in the input folder")
    made, failed = 0, 0
    # Not forked, as Linux would: libraries that have threads may hang in a copy of this process.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn")) if workers > 1 else None
    try:
        results = pool.map(_Guard(job), paths) if pool else map(_Guard(job), paths)
        for count, error in tqdm(results, total=len(paths), desc=title, unit="picture", disable=None):
            made += count
            if error:
                failed += 1
                print(f"error: {error}", file=sys.stderr)
    finally:
        if pool:
            pool.shutdown()
    print(f"{made} pictures made, {failed} of {len(paths)} failed")
    return 1 if failed else 0
