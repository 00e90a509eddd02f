"""``batch_process_test.py``: a folder again and again in one process; the same bytes, no drift, no leaks."""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from realesrgan.batch import report
from realesrgan.batch import run as batch
from realesrgan.cli.options import whole
from realesrgan.files.naming import Source
from realesrgan.tools.stability import program
from realesrgan.tools.stability.drift import Vitals
from realesrgan.tools.stability.program import Check, Screen

__all__ = ["Repetition", "main"]

_HEAD = ("pass", "pictures", "failed", "changed", "seconds", "resident MB", "device MB", "handles", "threads")
_WIDTHS = [max(8, len(word)) for word in _HEAD]


class Repetition:
    """Passes over the same pictures.

    Args:
        upscaler: What enlarges; see :class:`realesrgan.batch.run.Upscaler`.
        options: Its folder of results is this run's own, emptied before each pass.
    """

    def __init__(self, sources: Sequence[Source], upscaler: Any, options: batch.BatchOptions, vitals: Vitals) -> None:
        self.sources = sources
        self.upscaler = upscaler
        self.options = options
        self.vitals = vitals
        self.first: Optional[Dict[str, str]] = None
        self.passes = 0
        self.files = 0
        self.changed: List[str] = []
        self.failed: Dict[str, str] = {}
        self.leftovers: List[str] = []
        self.stopped = ""
        self.interrupted = False
        self.lost = False

    @property
    def pictures(self) -> int:
        return self.passes * len(self.sources)

    def once(self, screen: Screen) -> bool:
        """One pass; False if the run is over."""
        shutil.rmtree(self.options.output, ignore_errors=True)
        began, before = self.vitals.seconds, self.pictures

        def show(event: batch.Event) -> None:
            if event.kind == "end":
                screen.at(before + event.index + 1, str(event.source.relative))

        result = batch.run(self.sources, self.upscaler, self.options, show)
        if result.interrupted:
            self.interrupted = True
            return False
        self.lost = bool(result.not_done)
        self.passes += 1
        failed = {record.input: f"{record.error_code}: {record.error_text}" for record in result.failed}
        self.failed.update(failed)
        changed = self._compare()
        self.leftovers += sorted(path.name for path in self.options.output.rglob(".*.partial"))
        sample = self.vitals.take(self.pictures)
        row = (self.passes, len(self.sources), len(failed), len(changed), f"{sample.seconds - began:.1f}")
        screen.line(_row((*row, _mb(sample.resident), _mb(sample.device), sample.handles, sample.threads)))
        return not self.lost

    def _compare(self) -> List[str]:
        """Names of results that are not what the first pass made."""
        folder = self.options.output
        found = {
            path.relative_to(folder).as_posix(): program.digest(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        }
        if self.first is None:
            self.first = found
        names = sorted(found.keys() | self.first.keys())
        changed = [name for name in names if found.get(name) != self.first.get(name)]
        self.files += len(names)
        self.changed += [f"pass {self.passes}: {name}" for name in changed]
        return changed

    def checks(self) -> List[Check]:
        """Whether all was done, and alike."""
        changed, failed, few = self.changed, self.failed, self.passes < 2
        alike = f"{self.files - len(changed)} of {self.files} files over {self.passes} passes{_first_five(changed)}"
        done = f"{len(self.sources) - len(failed)} of {len(self.sources)} pictures{_first_five(list(failed.values()))}"
        return [
            Check("same bytes", not changed and not few, "too few passes" if few else _yes(not changed), alike),
            Check("every picture done", not failed and not self.lost, _yes(not failed and not self.lost), done),
            Check("no unfinished file", not self.leftovers, _yes(not self.leftovers), f"{len(self.leftovers)} left"),
        ]


def _yes(value: bool) -> str:
    return "yes" if value else "NO"


def _first_five(problems: Sequence[str]) -> str:
    return f": {'; '.join(problems[:5])}" if problems else ""


def _mb(value: Optional[int]) -> Optional[str]:
    return None if value is None else f"{value / 1e6:.1f}"


def _row(cells: Sequence[object]) -> str:
    return "  ".join(("-" if cell is None else str(cell)).rjust(width) for cell, width in zip(cells, _WIDTHS))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="batch_process_test.py",
        description="Enlarge a folder again and again in one process, and check that every pass writes the same bytes "
        "and that memory, file handles and threads do not grow. Status 0: passed, 1: failed, 130: stopped.",
    )
    parser.add_argument("--input-dir", default="inputs", metavar="DIR", help="folder of pictures (default: inputs)")
    parser.add_argument("--recursive", action="store_true", help="go into subfolders")
    parser.add_argument("--iterations", type=whole(1), default=10, metavar="N", help="passes (default: %(default)s)")
    parser.add_argument("-n", "--model_name", default="RealESRGAN_x4plus", metavar="NAME")
    parser.add_argument("--ext", choices=("auto", "jpg", "png", "webp", "tiff"), default="auto")
    parser.add_argument("--results", type=Path, metavar="DIR", help="keep the last pass's results in a new folder")
    program.add_flags(parser)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the program.

    Returns:
        0 if every check passed, 1 if not, 2 for wrong usage, 130 after Ctrl-C.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if options.results and options.results.exists() and any(options.results.iterdir()):
        parser.error(f"--results {options.results} is not empty; name a new folder, since it is emptied on every pass")
    with program.Notices() as notices, tempfile.TemporaryDirectory() as scratch:
        with program.beginning(parser):
            sources = program.list_pictures(options, recursive=options.recursive)
            if not sources:
                parser.error(f"--input-dir {options.input_dir} contains no pictures")
            upscaler = program.build(options.model_name, options)
        output = options.results or Path(scratch) / "results"
        settings = batch.BatchOptions(output=output, outscale=options.outscale, extension=options.ext)
        described = upscaler.describe()
        screen = Screen(options.iterations * len(sources), "pictures")
        screen.line(
            f"{len(sources)} pictures, {options.iterations} passes: {described['model']} on {described['name']}"
        )
        screen.line(_row(_HEAD))
        run = Repetition(sources, upscaler, settings, Vitals(program.device_of(upscaler)))
        with program.recording(run):
            for _ in range(options.iterations):
                if not run.once(screen):
                    break
        return program.conclude(
            screen,
            options,
            run,
            described,
            notices,
            lambda pictures: f"--iterations {math.ceil(pictures / len(sources))}",
            passes=run.passes,
            statuses={report.DONE: run.pictures - len(run.failed), report.FAILED: sorted(run.failed)},
        )
