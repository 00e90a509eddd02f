"""``benchmark_directml.py``: a table of networks, sizes, tiles and precisions, timed on one device."""

from __future__ import annotations

import sys
import time
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from realesrgan import devices
from realesrgan.cli import messages
from realesrgan.devices import Device
from realesrgan.errors import InputError, RealESRGANError
from realesrgan.inference import memory
from realesrgan.tools import benchmark_options as options_of
from realesrgan.tools import benchmark_output as output
from realesrgan.tools.benchmark_cells import Bench
from realesrgan.tools.benchmark_options import Options
from realesrgan.tools.benchmark_types import LOST, OK, Cell, Result

__all__ = ["ASK_BEYOND", "Benchmark", "main"]

ASK_BEYOND = 600.0
"""Seconds beyond which somebody must want it."""
_QUICK = 75.0
"""Seconds that --quick plans with; loading and probing come on top."""
_1080P = (1920, 1080)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; gives 0 if there is a table, 1 if nothing could be timed, 2 for wrong usage, 130 for Ctrl-C."""
    lang = messages.system_language()
    try:
        options = options_of.read(argv)
        if options.plot is not None:
            output.load_plotting()
        device = devices.resolve(options.device)
    except InputError as error:
        print(messages.render(error, lang), file=sys.stderr)
        return 2
    except RealESRGANError as error:
        print(messages.render(error, lang), file=sys.stderr)
        return 1
    arguments = sys.argv[1:] if argv is None else argv
    return Benchmark(options, device, " ".join(["python benchmark_directml.py", *arguments])).run()


class Benchmark:
    """One run of the command.

    Args:
        command: What was typed, for the table.
        confirm: Asks a yes-or-no question; None asks on a terminal and refuses elsewhere.
    """

    def __init__(
        self, options: Options, device: Device, command: str, confirm: Optional[Callable[[str], bool]] = None
    ) -> None:
        self.options = options
        self.device = device
        self.command = command
        self.confirm = confirm or _ask
        halves = options.precisions or (device.capabilities.prefers_half,)
        self.benches = [(model, half) for model in options.models for half in halves]
        self.results: List[Result] = []
        self._bench: Tuple[Tuple[str, bool], Optional[Bench]] = (("", False), None)

    def run(self) -> int:
        """Estimate, time, show and write; gives the exit status."""
        _say(f"{self.device.name} ({self.device.spec})")
        status = 0
        try:
            cells, seconds = self._plan()
            if cells and seconds > ASK_BEYOND and not self.options.yes and not self.confirm(_long(seconds)):
                return 2
            self._time(cells)
        except KeyboardInterrupt:
            _say("Interrupted.")
            status = 130
        except RealESRGANError as error:
            print(messages.render(error, messages.system_language()), file=sys.stderr)
            status = 1
        if not self.results:
            return status or 1
        written = self._show()
        return status or (0 if written and any(result.seconds for result in self.results) else 1)

    def _plan(self) -> Tuple[List[Cell], float]:
        """The cells, and the seconds that they will take by what short runs on small pictures took."""
        cells: List[Cell] = []
        total = 0.0
        rates: Dict[Tuple[str, bool], float] = {}
        for key in self.benches:
            bench = self._of(key)
            if not bench.refusal():
                rates[key] = bench.rate()
                _say(f"  {key[0]} {_precision(key[1])}: about {rates[key] / 1e12:.3g} TFLOP/s")
            for cell in self._cells(bench, rates.get(key)):
                cells.append(cell)
                if key in rates:
                    # The interpreter and the host's share count too, where the device is very quick.
                    total += (self.options.warmup + self.options.repeats) * (bench.work(cell) / rates[key] + 0.01)
        _say(f"{len(cells)} cells, about {_duration(total)}")
        return cells, total

    def _cells(self, bench: Bench, rate: Optional[float]) -> List[Cell]:
        tiles, pad = self.options.tiles, self.options.pad
        sizes = self.options.resolutions
        if sizes is None:
            share = _QUICK / len(self.benches) / len(tiles) / (self.options.warmup + self.options.repeats)
            fitting = [
                size for size in options_of.QUICK_SIZES if rate and memory.flops(bench.structure, *size) / rate < share
            ]
            sizes = tuple((fitting or options_of.QUICK_SIZES[-1:])[:1])
        return [Cell(bench.model, bench.half, width, height, tile, pad) for width, height in sizes for tile in tiles]

    def _time(self, cells: Sequence[Cell]) -> None:
        for number, cell in enumerate(cells, 1):
            begun = time.perf_counter()
            result = self._of((cell.model, cell.half)).run(cell, self.options.warmup, self.options.repeats)
            self.results.append(result)
            if result.status == OK:
                said = f"{result.median:.3f} s, {result.tflops:.3g} TFLOP/s"
            else:
                said = f"{result.status}: {result.note}"
            _say(f"  {number}/{len(cells)} {cell.what}: {said} ({_duration(time.perf_counter() - begun)})")
            if result.status == LOST:
                _say("The device was lost; what is left is not timed. Start again with smaller tiles.")
                break

    def _of(self, key: Tuple[str, bool]) -> Bench:
        """The one bench that holds the device's memory."""
        if self._bench[1] is None or self._bench[0] != key:
            self._bench = (key, None)  # the former one goes first
            devices.free(self.device)
            model, half = key
            bench = Bench(
                self.device, model, half, weights_from=self.options.weights_from, compiled=self.options.compiled
            )
            self._bench = (key, bench)
            return bench
        return self._bench[1]

    def _show(self) -> bool:
        about = output.environment(self.device, self.command)
        print(output.as_markdown(self.results, about), end="")
        if self.options.quick:
            print(self._scaled(), end="")
        written = True
        for path in (*self.options.outputs, *([self.options.plot] if self.options.plot else [])):
            try:
                drawing = path is self.options.plot
                (output.plot if drawing else output.write)(path, self.results, about)
                _say(f"Written: {path}")
            except (OSError, ValueError) as error:  # ValueError: a format that matplotlib does not know
                _say(f"{path} cannot be written: {error}")
                written = False
        return written

    def _scaled(self) -> str:
        """What a picture of 1080p would take, by its computed work: an estimate, and said to be one."""
        lines = ["", "Estimated for one picture of 1920x1080, by its share of computed work:"]
        for result in self.results:
            if result.median:
                factor = _1080P[0] * _1080P[1] / (result.cell.width * result.cell.height)
                cell = result.cell
                lines.append(f"- {cell.model}, {cell.precision}: about {_duration(result.median * factor)}")
        return "\n".join(lines) + "\n"


def _ask(question: str) -> bool:
    """On a terminal; elsewhere nobody can answer, so the question says what to do instead."""
    if not sys.stdin.isatty():
        _say(f"{question} Give --yes to go on, or --quick, fewer cells or --repeats 1.")
        return False
    try:
        return input(f"{question} Go on? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _long(seconds: float) -> str:
    return f"This will take about {_duration(seconds)}."


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _precision(half: bool) -> str:
    return "fp16" if half else "fp32"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
