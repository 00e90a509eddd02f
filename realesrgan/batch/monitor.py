"""Time and memory of a run: what reading, the device and writing took, and the peaks, sampled in a thread."""

from __future__ import annotations

import csv
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Container, Dict, List, Optional, Sequence, Union

import psutil

from ..errors import visible

if TYPE_CHECKING:
    from ..devices import Device

__all__ = ["Monitor", "PictureUse", "Sample", "aligned", "handles", "peak_resident", "resident", "threads"]

# Samples kept; when there are more, every other one goes and sampling slows down by half. A day fits.
_KEPT = 1 << 16
_STATUS = Path("/proc/self/status")


def resident() -> int:
    """Bytes of main memory that this process uses now."""
    return int(psutil.Process().memory_info().rss)


def peak_resident() -> Optional[int]:
    """The most bytes of main memory that this process ever held, None if it is unknown."""
    told = getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows
    if told is not None:
        return int(told)
    try:
        # Not getrusage on Linux: there it begins with the peak of the process that started this one.
        for line in _STATUS.read_bytes().splitlines():
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def handles() -> int:
    """Open file descriptors, on Windows handles of any kind, of this process."""
    process = psutil.Process()
    return int(process.num_handles() if sys.platform == "win32" else process.num_fds())


def threads() -> int:
    """Threads of this process, by the system's count."""
    return int(psutil.Process().num_threads())


@dataclass(frozen=True)
class Sample:
    """Memory at one moment. ``seconds`` since the start of the run; bytes, None where unknown."""

    seconds: float
    resident: Optional[int]
    device: Optional[int]


@dataclass(frozen=True)
class PictureUse:
    """What one picture took: seconds by stage, peak bytes while it was on the device."""

    name: str
    read: float
    device: float
    write: float
    resident: Optional[int]
    device_memory: Optional[int]


class Monitor:
    """Samples memory from entry to exit, and collects the times of pictures.

    Args:
        device: Whose memory is asked for; None: the main memory alone.
        interval: Seconds between samples.
        memory: What gives the resident bytes, replaced in tests.
    """

    def __init__(
        self,
        device: Optional[Device] = None,
        *,
        interval: float = 0.05,
        memory: Callable[[], Optional[int]] = resident,
    ) -> None:
        self.device = device
        self.interval = interval
        self.pictures: List[PictureUse] = []
        self.samples: List[Sample] = []
        self.seconds = 0.0
        self._memory = memory
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._start = 0.0
        # Peaks by what they are of, "resident" or "device": of the picture on the device, of the run, of pictures done.
        self._window: Dict[str, int] = {}
        self._peak: Dict[str, int] = {}
        self._marks: Dict[str, Dict[str, int]] = {}

    def __enter__(self) -> Monitor:
        self._start = time.perf_counter()
        self._ever = peak_resident()
        self._stop.clear()
        self._ask("reset_peak_memory")
        self.sample()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.sample()
        self._note("device", self._ask("peak_memory"))
        ever = peak_resident()
        if ever is not None and self._memory is resident and (self._ever is None or ever > self._ever):
            # The system's own high-water mark rose during the run: it sees what falls between two samples.
            self._note("resident", ever)
        self.seconds = time.perf_counter() - self._start

    def _run(self) -> None:
        while not self._stop.wait(self.interval):
            self.sample()

    def _ask(self, name: str) -> Optional[int]:
        """A question to the device room; what cannot be answered is None, and never ends a run."""
        if self.device is None:
            return None
        from .. import devices

        try:
            answer: Any = getattr(devices, name)(self.device)
        except Exception:  # noqa: BLE001 - a lost device is reported by the work itself, not by the monitor
            return None
        return None if answer is None else int(answer)

    def _note(self, what: str, value: Optional[int]) -> None:
        if value is None:
            return
        with self._lock:
            for peaks in (self._window, self._peak):
                peaks[what] = max(value, peaks.get(what, value))

    def sample(self) -> Sample:
        """Take one sample now."""
        taken = Sample(time.perf_counter() - self._start, self._memory(), self._ask("memory_used"))
        self._note("resident", taken.resident)
        self._note("device", taken.device)
        with self._lock:
            self.samples.append(taken)
            if len(self.samples) > _KEPT:
                del self.samples[1::2]
                self.interval *= 2
        return taken

    def begin(self, name: str) -> None:
        """A picture comes to the device."""
        with self._lock:
            self._window = {}
        self._ask("reset_peak_memory")
        self.sample()

    def end(self, name: str) -> None:
        """It left the device."""
        self.sample()
        self._note("device", self._ask("peak_memory"))
        self._marks[name] = dict(self._window)

    def add(self, name: str, read: float, device: float, write: float) -> None:
        """It is written: its seconds, by stage."""
        peaks = self._marks.pop(name, {})
        self.pictures.append(PictureUse(name, read, device, write, peaks.get("resident"), peaks.get("device")))

    def totals(self) -> PictureUse:
        """The run: sums of the seconds, peaks of the memory."""
        return PictureUse(
            "the run",
            sum(use.read for use in self.pictures),
            sum(use.device for use in self.pictures),
            sum(use.write for use in self.pictures),
            self._peak.get("resident"),
            self._peak.get("device"),
        )

    def table(self, rows: int = 40) -> str:
        """A line a picture, the run last. Of more than ``rows`` pictures the first and last are shown."""
        shown = self.pictures
        left_out = len(shown) - rows
        if left_out > 0:
            shown = shown[: rows // 2] + shown[-(rows - rows // 2) :]
        lines = [["picture", "read s", "device s", "write s", "resident", "device memory"]]
        lines += map(_row, (*shown, self.totals()))
        if left_out > 0:
            lines.insert(1 + rows // 2, [f"... {left_out} more", "", "", "", "", ""])
        text = ["  ".join(cells).rstrip() for cells in aligned(lines, right=range(1, 6))]
        text.append(f"wall time {self.seconds or time.perf_counter() - self._start:.2f} s")
        return "\n".join(text)

    def write_csv(self, path: Union[str, os.PathLike[str]]) -> None:
        """Every sample: seconds, resident bytes, device bytes (empty where unknown).

        Raises:
            OSError: The file cannot be written.
        """
        with self._lock:
            samples = list(self.samples)
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("seconds", "resident_bytes", "device_bytes"))
            for taken in samples:
                cells = ("" if value is None else value for value in (taken.resident, taken.device))
                writer.writerow((f"{taken.seconds:.3f}", *cells))


def _megabytes(value: Optional[int]) -> str:
    return "unknown" if value is None else f"{value / 1e6:.0f} MB"


def aligned(rows: Sequence[Sequence[str]], right: Container[int] = ()) -> List[List[str]]:
    """The cells of a text table, each as wide as its column; the columns numbered in ``right`` end at its right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        [cell.rjust(width) if at in right else cell.ljust(width) for at, (cell, width) in enumerate(zip(row, widths))]
        for row in rows
    ]


def _row(use: PictureUse) -> List[str]:
    seconds = [f"{value:.2f}" for value in (use.read, use.device, use.write)]
    return [visible(use.name), *seconds, _megabytes(use.resident), _megabytes(use.device_memory)]
