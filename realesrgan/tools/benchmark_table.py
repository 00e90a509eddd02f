"""The benchmark's table: its cells and their results as plain values, as Markdown, CSV, JSON and as a picture."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import platform
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from realesrgan import __version__
from realesrgan.backends.base import installed_version
from realesrgan.batch.monitor import aligned
from realesrgan.devices import Device
from realesrgan.errors import InputError
from realesrgan.files.atomic import write_atomically

__all__ = [
    "FORMATS",
    "LOST",
    "OK",
    "OUT_OF_MEMORY",
    "Cell",
    "Result",
    "as_csv",
    "as_json",
    "as_markdown",
    "environment",
    "load_plotting",
    "plot",
    "write",
]

OK = "ok"
OUT_OF_MEMORY = "out of memory"
LOST = "device lost"


@dataclass(frozen=True)
class Cell:
    """What is timed. ``tile`` 0 is untiled, None lets the program choose; ``pad`` None is the default padding."""

    model: str
    half: bool
    width: int
    height: int
    tile: Optional[int]
    pad: Optional[int] = None

    @property
    def precision(self) -> str:
        return "fp16" if self.half else "fp32"

    @property
    def what(self) -> str:
        tile = "auto" if self.tile is None else self.tile or "untiled"
        return f"{self.model} {self.precision} {self.width}x{self.height} tile {tile}"


@dataclass(frozen=True)
class Result:
    """How it went.

    Attributes:
        weights: ``release``, ``file``, ``pypi`` or ``random``.
        status: ``ok``, ``out of memory``, ``device lost``, or a sentence.
        note: What a reader of the row must know.
        tile: Side of the tiles in use, 0 for untiled.
        pad: Padding in use.
        tiles: Their number.
        first: Seconds of the first run, a compiler's work included.
        seconds: Of each timed run.
        tflop: Computed cost of the picture, without the work that padding adds.
        device_peak: Most bytes on the device, None where it is unknown.
        resident_peak: Most bytes of main memory of this process.
        planned: What the memory model says of one tile, in bytes.
    """

    cell: Cell
    weights: str = ""
    status: str = OK
    note: str = ""
    tile: int = 0
    pad: int = 0
    tiles: int = 0
    first: Optional[float] = None
    seconds: Tuple[float, ...] = field(default=())
    tflop: float = 0.0
    device_peak: Optional[int] = None
    resident_peak: Optional[int] = None
    planned: Optional[int] = None

    @property
    def median(self) -> Optional[float]:
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def pixels_per_second(self) -> Optional[float]:
        """Input pixels."""
        return self.cell.width * self.cell.height / self.median if self.median else None

    @property
    def tflops(self) -> Optional[float]:
        """Computed cost by the median time, TFLOP/s."""
        return self.tflop / self.median if self.median else None


FORMATS = (".json", ".csv", ".md")
_HEAD = (
    *("model", "weights", "precision", "input", "tile", "tiles", "median s", "min..max s", "Mpixel/s", "TFLOP/s"),
    *("peak MiB", "note"),
)
_TO_THE_RIGHT = range(5, 11)


def environment(device: Device, command: str) -> Dict[str, Any]:
    """What the figures were measured on."""
    torch = sys.modules.get("torch")  # on Vulkan it may not even be installed
    through_torch = device.capabilities.through_torch
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "device": device.spec,
        "backend": device.label,
        "name": device.name,
        "memory": device.memory,
        "driver": device.driver,
        "cores": os.cpu_count(),
        "threads": os.cpu_count() if torch is None else torch.get_num_threads(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "realesrgan": __version__,
        "torch": None if torch is None else torch.__version__,
        "torch-directml": installed_version("torch-directml"),
        "ncnn": None if through_torch else installed_version("ncnn"),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def _libraries(about: Dict[str, Any]) -> str:
    return ", ".join(f"{name} {about[name]}" for name in ("torch", "torch-directml", "ncnn") if about.get(name))


def as_markdown(results: Sequence[Result], about: Dict[str, Any]) -> str:
    """A table that lines up as plain text too, with what a reader must know above and below it."""
    rows = [_HEAD, *(_row(result) for result in results)]
    cells = aligned(rows, right=_TO_THE_RIGHT)
    rule = ["-" * (len(cell) - 1) + (":" if column in _TO_THE_RIGHT else "-") for column, cell in enumerate(cells[0])]
    lines = ["| " + " | ".join(row) + " |" for row in (cells[0], rule, *cells[1:])]
    return "\n".join([*_above(about), "", *lines, "", *_below(results)]) + "\n"


def _above(about: Dict[str, Any]) -> List[str]:
    memory = f", {about['memory'] / 2**30:.1f} GiB" if about["memory"] else ""
    return [
        f"{about['name']} ({about['device']}{memory}), {about['date']}; Real-ESRGAN {about['realesrgan']}, "
        f"{_libraries(about)}, Python {about['python']}, {about['system']}, {about['threads']} threads",
        "",
        f"    {about['command']}",
    ]


def _below(results: Sequence[Result]) -> List[str]:
    lines = [
        "Seconds of one enhance() of a made, textured picture, its result on the host. Pixels are the input's. "
        "TFLOP/s: the computed cost of the picture, without what padding adds, by the median."
    ]
    done = [result for result in results if result.seconds]
    if any(result.device_peak is None for result in done):
        lines.append(
            'Peaks marked "r" are the resident memory of the whole process, Python and libraries included; the others '
            "are the device's."
        )
    if any(result.weights == "random" for result in done):
        lines.append('Weights "random": the official ones are not available; seeded random ones take as long.')
    return lines


def _row(result: Result) -> Tuple[str, ...]:
    cell = result.cell
    size = f"{cell.width}x{cell.height}"
    if not result.seconds:
        asked = "auto" if cell.tile is None else str(cell.tile or "untiled")
        return cell.model, result.weights, cell.precision, size, asked, "", result.status, "", "", "", "", result.note
    tile = f"{result.tile} pad {result.pad}" if result.tile else "untiled"
    return (
        cell.model,
        result.weights,
        cell.precision,
        size,
        f"auto: {tile}" if cell.tile is None else tile,
        str(result.tiles),
        _digits(result.median),
        f"{_digits(min(result.seconds))}..{_digits(max(result.seconds))}",
        _digits((result.pixels_per_second or 0) / 1e6),
        _digits(result.tflops),
        _peak(result),
        result.note,
    )


def _digits(value: Optional[float]) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value < 9.9995 else f"{value:.1f}"


def _peak(result: Result) -> str:
    if result.device_peak is not None:
        return f"{result.device_peak / 2**20:.0f}"
    return "unknown" if result.resident_peak is None else f"{result.resident_peak / 2**20:.0f} r"


def _flat(result: Result) -> Dict[str, Any]:
    cell = result.cell
    return {
        "model": cell.model,
        "weights": result.weights,
        "precision": cell.precision,
        "width": cell.width,
        "height": cell.height,
        "tile_asked": "auto" if cell.tile is None else cell.tile,
        "tile": result.tile,
        "tile_pad": result.pad,
        "tiles": result.tiles,
        "status": result.status,
        "note": result.note,
        "median_seconds": result.median,
        "min_seconds": min(result.seconds) if result.seconds else None,
        "max_seconds": max(result.seconds) if result.seconds else None,
        "first_seconds": result.first,
        "repeats": len(result.seconds),
        "input_pixels_per_second": result.pixels_per_second,
        "tflop": result.tflop,
        "tflop_per_second": result.tflops,
        "device_peak_bytes": result.device_peak,
        "resident_peak_bytes": result.resident_peak,
        "planned_tile_bytes": result.planned,
    }


def as_json(results: Sequence[Result], about: Dict[str, Any]) -> str:
    """Everything, each run's seconds included."""
    cells = [{**_flat(result), "seconds": list(result.seconds)} for result in results]
    return json.dumps({"environment": about, "cells": cells}, indent=1) + "\n"


def as_csv(results: Sequence[Result], about: Dict[str, Any]) -> str:
    """A row a cell; device and versions of PyTorch and of this program in each."""
    text = io.StringIO()
    rows = [{**_flat(result), **{key: about[key] for key in ("name", "torch", "realesrgan")}} for result in results]
    table = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def write(path: Path, results: Sequence[Result], about: Dict[str, Any]) -> None:
    """Write the table in the format of the file's suffix.

    Raises:
        OSError: It cannot be written.
    """
    text = {".json": as_json, ".csv": as_csv, ".md": as_markdown}[path.suffix.lower()](results, about)
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def load_plotting() -> Any:
    """matplotlib, drawing to files.

    Raises:
        InputError: It is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise InputError(
            "--plot draws with matplotlib, which is not installed: pip install matplotlib, or leave --plot out.",
            code="benchmark.matplotlib",
        ) from error
    matplotlib.use("Agg")
    from matplotlib import figure

    return figure


def plot(path: Path, results: Sequence[Result], about: Dict[str, Any]) -> None:
    """Draw the seconds of each cell as a bar, with its spread and its TFLOP/s.

    Raises:
        OSError: It cannot be written.
    """
    done = [result for result in results if result.status == OK and result.median]
    drawing = load_plotting().Figure(figsize=(10, 1.5 + 0.35 * max(len(done), 1)), layout="constrained")
    axes = drawing.add_subplot()
    for position, result in enumerate(done):
        median = result.median or 0.0
        spread = [[median - min(result.seconds)], [max(result.seconds) - median]]
        axes.barh(position, median, xerr=spread, color="C0" if result.cell.half else "C1")
        axes.annotate(
            f" {_digits(median)} s, {_digits(result.tflops)} TFLOP/s", (max(result.seconds), position), va="center"
        )
    names = [f"{result.cell.what}{' (random weights)' if result.weights == 'random' else ''}" for result in done]
    axes.set_yticks(range(len(done)), names)
    axes.invert_yaxis()
    axes.margins(x=0.45)
    axes.set_xlabel("seconds a picture, fastest to slowest; blue FP16, orange FP32")
    drawing.suptitle(f"{about['name']}, {_libraries(about)}, Real-ESRGAN {about['realesrgan']}")
    picture = io.BytesIO()
    drawing.savefig(picture, format=path.suffix.lstrip(".").lower() or "png", dpi=120)
    write_atomically(path, lambda file: file.write(picture.getvalue()))
