"""Faults on request, through the places where real ones come in: the network's first layer, files, the disk.

What each must lead to is in :data:`EXPECTED`; :mod:`realesrgan.tools.stability.long_run` checks it.
"""

from __future__ import annotations

import contextlib
import importlib
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Tuple

import cv2
import numpy as np

__all__ = ["CORRUPT", "EXPECTED", "KINDS", "OUT_OF_MEMORY", "NetworkFault", "SlowDisk", "corrupt_files"]

KINDS = ("oom", "nan", "corrupt", "slow-disk")
EXPECTED: Dict[str, str] = {
    "oom": "the tile is split, every picture is done; from that picture on the results are near the usual ones "
    "(smaller tiles), before it they are the usual bytes",
    "nan": "in FP16 the tile is computed again in FP32 and every picture is done; in FP32 that picture alone fails "
    "with 'tile.nan' and leaves no file, all others have the usual bytes",
    "corrupt": "each damaged file fails with an error of its own and leaves no file, all others have the usual bytes",
    "slow-disk": "every picture is done with the usual bytes",
}
OUT_OF_MEMORY = (
    "Could not allocate tensor with 1073741824 bytes. There is not enough GPU video memory available!",
    "Unknown error -2147024882",
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB of which 1.10 GiB is free.",
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "8589934592 bytes. Error code 12 (Cannot allocate memory)",
    "MPS backend out of memory (MPS allocated: 7.50 GB, other allocations: 1.10 GB, max allowed: 9.07 GB).",
)
"""What torch-directml (two ways), CUDA, the CPU and MPS say, word for word."""


class NetworkFault:
    """Breaks a network's first layer when told to; otherwise the network is as it was.

    Hooks stay on copies of the network (one for each device and precision), and all copies share this object.
    """

    def __init__(self) -> None:
        self.fired = 0
        self._kind = ""
        self._left = 0
        self._text = ""

    def __deepcopy__(self, memo: object) -> NetworkFault:
        return self

    def attach(self, module: Any) -> None:
        """Hook the first convolution of a network."""
        from torch import nn

        first = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
        first.register_forward_pre_hook(self._before)
        first.register_forward_hook(self._after)

    def arm(self, kind: str, times: int = 1, text: str = "") -> None:
        """Break the next ``times`` tiles.

        Args:
            kind: ``"oom"`` raises what a device without memory raises (``text``), ``"nan"`` gives NaN.
        """
        self._kind, self._left, self._text = kind, times, text
        self.fired = 0

    def disarm(self) -> None:
        """Break nothing more."""
        self._left = 0

    def _fires(self, kind: str) -> bool:
        if self._kind != kind or self._left <= 0:
            return False
        self._left -= 1
        self.fired += 1
        return True

    def _before(self, layer: Any, inputs: Tuple[Any, ...]) -> None:
        if self._fires("oom"):
            raise RuntimeError(self._text)

    def _after(self, layer: Any, inputs: Tuple[Any, ...], output: Any) -> Any:
        return output * float("nan") if self._fires("nan") else None


def _png(side: Tuple[int, int], content: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side[0], side[1], 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


def _encoded(suffix: str) -> bytes:
    pixels = np.random.default_rng(3).integers(0, 255, (40, 60, 3), np.uint8)
    return bytes(cv2.imencode(suffix, pixels)[1].tobytes())


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0x5A for byte in data[middle : middle + 64]) + data[middle + 64 :]


CORRUPT: Dict[str, Callable[[], bytes]] = {
    "truncated.png": lambda: _encoded(".png")[:-2000],
    "truncated.jpg": lambda: _encoded(".jpg")[:600],
    "empty.png": lambda: b"",
    "text.png": lambda: b"This is no picture.\n" * 20,
    "noise.jpg": lambda: np.random.default_rng(4).bytes(3000),
    "bomb.png": lambda: _png((100_000, 100_000), b"\0" * 1000),
    "flipped.png": lambda: _flipped(_encoded(".png")),
}
"""Damaged files by name, and what makes their bytes."""


def corrupt_files(folder: Path) -> List[Path]:
    """Write every file of :data:`CORRUPT` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, make in CORRUPT.items():
        path = folder / name
        path.write_bytes(make())
        paths.append(path)
    return paths


class _Throttled:
    """A stream that accepts so many bytes a second."""

    def __init__(self, stream: BinaryIO, disk: SlowDisk) -> None:
        self._stream = stream
        self._disk = disk

    def write(self, data: Any) -> int:
        self._disk.sleep(len(bytes(data)) / self._disk.rate)
        return self._stream.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class SlowDisk:
    """Inside the block, pictures are written at ``rate`` bytes a second and wait ``pause`` seconds before renaming.

    Attributes:
        slept: Seconds that writing was held up, over all threads.
        files: Pictures written so.
    """

    def __init__(self, rate: float = 1e6, pause: float = 0.05) -> None:
        self.rate = rate
        self.pause = pause
        self.slept = 0.0
        self.files = 0
        self._lock = threading.Lock()

    def sleep(self, seconds: float) -> None:
        """Hold a write up."""
        time.sleep(seconds)
        with self._lock:
            self.slept += seconds

    @contextlib.contextmanager
    def __call__(self) -> Iterator[SlowDisk]:
        writer: Any = importlib.import_module("realesrgan.files.writing")  # whose name for the function is replaced

        original = writer.write_atomically

        def slow(path: Any, produce: Callable[[BinaryIO], object]) -> None:
            def throttled(stream: BinaryIO) -> None:
                produce(_Throttled(stream, self))  # type: ignore[arg-type]
                self.sleep(self.pause)

            with self._lock:
                self.files += 1
            original(path, throttled)

        writer.write_atomically = slow
        try:
            yield self
        finally:
            writer.write_atomically = original
