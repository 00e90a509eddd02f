"""Pixels into compressed bands, by several threads and in order: what the PNG and TIFF writers share."""

from __future__ import annotations

import os
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Deque, Generator, List, Tuple, TypeVar

import cv2
import numpy as np

__all__ = ["bands", "best_strategy", "in_order", "raster"]

#: Bytes of pixels that are compressed at a time.
BAND_BYTES = 1 << 20
_SAMPLE = 1 << 15

T = TypeVar("T")
U = TypeVar("U")


def bands(height: int, row_bytes: int) -> List[Tuple[int, int]]:
    """Split rows into bands ``(top, bottom)`` of about a megabyte."""
    rows = max(1, BAND_BYTES // max(1, row_bytes))
    return [(top, min(height, top + rows)) for top in range(0, height, rows)]


def in_order(work: Callable[[T], U], items: List[T]) -> Generator[U, None, None]:
    """``map`` by threads (zlib and numpy let go of the interpreter), never more than a few results ahead."""
    threads = min(8, os.cpu_count() or 1, len(items))
    if threads < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="encode") as pool:
        pending: Deque[Future[U]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > threads + 1:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def raster(pixels: np.ndarray, mode: str) -> np.ndarray:
    """Rows in the order of a file: HxWxC with grey, grey+alpha, RGB or RGBA; contiguous; depth unchanged."""
    if mode == "L":
        return np.ascontiguousarray(_grey(pixels))[:, :, None]
    if mode == "LA":
        return np.dstack((_grey(pixels), pixels[:, :, 3]))
    if mode == "RGB":
        code = cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
        return cv2.cvtColor(pixels, code)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)


def _grey(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels
    blue, green, red = pixels[:, :, 0], pixels[:, :, 1], pixels[:, :, 2]
    if np.array_equal(blue, green) and np.array_equal(green, red):
        return blue
    return cv2.cvtColor(np.ascontiguousarray(pixels[:, :, :3]), cv2.COLOR_BGR2GRAY)


def best_strategy(raw: bytes, level: int) -> int:
    """zlib's strategy for these bytes: run lengths alone win on photographs, in size and in time."""
    middle = len(raw) // 2
    sample = raw[max(0, middle - _SAMPLE) : middle + _SAMPLE]
    if level == 0 or len(sample) < 1024:
        return zlib.Z_DEFAULT_STRATEGY
    sizes = []
    for strategy in (zlib.Z_RLE, zlib.Z_DEFAULT_STRATEGY):
        worker = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
        sizes.append((len(worker.compress(sample)) + len(worker.flush()), strategy))
    return min(sizes, key=lambda pair: pair[0])[1]
