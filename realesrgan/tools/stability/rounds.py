"""One round of the long run: some pictures through a batch, with or without a fault, and what must come of it."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from realesrgan import files
from realesrgan.batch import report
from realesrgan.batch import run as batch
from realesrgan.files.naming import Source
from realesrgan.tools.stability import common as stability
from realesrgan.tools.stability.faults import NetworkFault, SlowDisk

__all__ = ["CLEAN", "NEAR", "Judge", "Round", "Seen", "Watched", "likeness"]

CLEAN = "clean"
NEAR = 40.0
"""PSNR in dB that a result in smaller tiles, or redone in another precision, must have to the usual one."""


@dataclass(frozen=True)
class Round:
    """What to do. ``target`` is the place among the pictures of the one that a network fault hits, ``times`` times."""

    kind: str
    model: str
    pictures: Tuple[Source, ...]
    target: int = -1
    times: int = 1
    text: str = ""


@dataclass
class Seen:
    """What came of a round. ``records`` by the name of the picture; ``half``: FP16 was in force when it began."""

    result: batch.BatchResult
    records: Dict[str, report.Record]
    runs: Dict[str, List[Any]]
    fired: int
    half: bool
    disk: Optional[SlowDisk]


class Watched:
    """An upsampler whose fault is armed for one picture, and that notes how each picture was computed."""

    def __init__(self, inner: Any, fault: NetworkFault) -> None:
        self.inner = inner
        self.fault = fault
        self.scale = inner.scale
        self.runs: Dict[str, List[Any]] = {}
        self._current = ""

    @property
    def last_run(self) -> Any:
        return self.inner.last_run

    def describe(self) -> Mapping[str, object]:
        """As of the upsampler."""
        described: Mapping[str, object] = self.inner.describe()
        return described

    def enhance(self, *arguments: Any, **options: Any) -> Tuple[np.ndarray, str]:
        """As of the upsampler."""
        pixels, mode = self.inner.enhance(*arguments, **options)
        self.runs.setdefault(self._current, []).append(self.inner.last_run)
        return pixels, mode

    def do(self, task: Round, output: Path, bad: Sequence[Source] = ()) -> Seen:
        """Run a round. Damaged files, if it is theirs, come between the pictures."""
        shutil.rmtree(output, ignore_errors=True)
        sources = list(task.pictures)
        for place, source in enumerate(bad):
            sources.insert(2 * place + 1, source)
        target = str(task.pictures[task.target].relative) if task.target >= 0 else None
        records: Dict[str, report.Record] = {}
        fired = 0

        def watch(event: batch.Event) -> None:
            nonlocal fired
            name = str(event.source.relative)
            if event.kind == "start":
                fired = max(fired, self.fault.fired)
                self.fault.disarm()
                self._current = name
                if name == target:
                    self.fault.arm(task.kind, task.times, task.text)
            elif event.kind == "end" and event.record is not None:
                records[name] = event.record

        self.runs = {}
        self.fault.fired = 0
        half = bool(self.inner.half)
        disk = SlowDisk() if task.kind == "slow-disk" else None
        with disk() if disk else nullcontext():
            result = batch.run(sources, self, batch.BatchOptions(output=output), watch)
        self.fault.disarm()
        return Seen(result, records, self.runs, max(fired, self.fault.fired), half, disk)


def likeness(first: Path, second: Path) -> float:
    """PSNR of two picture files in dB; infinite if they show the same, negative infinity if they differ in shape."""
    one, two = files.read(first).pixels, files.read(second).pixels
    if one.shape != two.shape or one.dtype != two.dtype:
        return -math.inf
    error = float(np.square(one.astype(np.float64) - two).mean()) / float(np.iinfo(one.dtype).max) ** 2
    return math.inf if error == 0 else -10 * math.log10(error)


class Judge:
    """Compares rounds with what must come of them.

    Args:
        keep: A folder for the usual results, against which later ones are compared.

    Attributes:
        pictures: Pictures that went through, damaged files not counted.
        injected, expected: Faults that were brought about, and those that led to what they must, by kind.
        deviations: What was not as it must be, in words; ``deviating`` counts all of them.
        nearest: The smallest PSNR of results that may differ from the usual ones.
    """

    def __init__(self, keep: Path) -> None:
        self.keep = keep
        self.usual: Dict[Tuple[str, str, str], Tuple[str, Path]] = {}
        self.statuses: Counter[str] = Counter()
        self.pictures = 0
        self.same = 0
        self.near = 0
        self.nearest = math.inf
        self.injected: Counter[str] = Counter()
        self.expected: Counter[str] = Counter()
        self.deviations: List[str] = []
        self.deviating = 0

    def judge(self, task: Round, seen: Seen, output: Path, bad: Sequence[Source] = ()) -> None:
        """Check a round that ran to its end, and count it."""
        problems: List[str] = []
        written = 0
        for place, source in enumerate(task.pictures):
            name = str(source.relative)
            record = seen.records.get(name)
            self.statuses[record.status if record else "missing"] += 1
            if task.kind == "nan" and place == task.target and not seen.half:
                problems += _must_fail(name, record, "tile.nan")
                continue
            if record is None or record.status != report.DONE or record.output is None:
                problems.append(f"{name}: {record.error_text if record else 'no record of it'}")
                continue
            written += 1
            changed = task.kind == "oom" or (task.kind == "nan" and seen.half)
            problems += self._compare(task.model, name, record, near=changed and place >= task.target)
        for source in bad:
            problems += _must_fail(str(source.relative), seen.records.get(str(source.relative)), "picture.")
        problems += self._network_fault(task, seen)
        if seen.disk is not None and (seen.disk.files != written or seen.result.write_seconds < seen.disk.slept):
            problems.append(f"{seen.disk.files} of {written} pictures went through the slow disk")
        there = [path for path in output.rglob("*") if path.is_file()] if output.exists() else []
        if len(there) != written:
            problems.append(f"{len(there)} files lie in the output folder, {written} were written")
        self.pictures += len(task.pictures)
        self._count(task, len(bad), problems)

    def _count(self, task: Round, damaged: int, problems: List[str]) -> None:
        if task.kind != CLEAN:
            count = damaged if task.kind == "corrupt" else 1
            self.injected[task.kind] += count
            if not problems:
                self.expected[task.kind] += count
        self.deviating += len(problems)
        room = 50 - len(self.deviations)
        self.deviations += [f"{task.kind}, {task.model}: {problem}" for problem in problems[: max(0, room)]]

    def _compare(self, model: str, name: str, record: report.Record, near: bool) -> List[str]:
        path = Path(str(record.output))
        found = stability.digest(path)
        key = (model, name, str(record.precision))
        if not near and key not in self.usual:
            kept = self.keep / f"{len(self.usual)}{path.suffix}"
            self.keep.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, kept)
            self.usual[key] = found, kept
        usual = self.usual.get(key) or next(value for known, value in self.usual.items() if known[:2] == key[:2])
        if found == usual[0]:
            self.same += 1
            return []
        if not near:
            return [f"{name}: other bytes than before"]
        psnr = likeness(path, usual[1])
        self.near += 1
        self.nearest = min(self.nearest, psnr)
        return [] if psnr >= NEAR else [f"{name}: {psnr:.1f} dB from the usual result, {NEAR:g} are needed"]

    def _network_fault(self, task: Round, seen: Seen) -> List[str]:
        if task.target < 0:
            return []
        name = str(task.pictures[task.target].relative)
        if seen.fired != task.times:
            return [f"{name}: the fault came {seen.fired} times instead of {task.times}"]
        runs = seen.runs.get(name, [])
        splits, redone = sum(run.splits for run in runs), sum(run.redone for run in runs)
        if task.kind == "oom" and splits != task.times:
            return [f"{name}: {splits} tiles were split after {task.times} errors ({task.text})"]
        if task.kind == "nan" and seen.half and (redone < 1 or runs[-1].precision != "fp32"):
            return [f"{name}: NaN in FP16, and {redone} tiles computed again in {runs[-1].precision}"]
        return []


def _must_fail(name: str, record: Optional[report.Record], code: str) -> List[str]:
    if record is None or record.status != report.FAILED:
        return [f"{name}: it had to fail, but is {record.status if record else 'not in the report'}"]
    if not str(record.error_code).startswith(code):
        return [f"{name}: it had to fail with {code}, but did with {record.error_code}: {record.error_text}"]
    return []
