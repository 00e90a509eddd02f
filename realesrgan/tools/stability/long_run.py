"""``long_running_test.py``: mixed pictures and models for hours, with faults on request, and the same checks.

A round is some pictures through a batch, with or without a fault; a judge compares it with what must come of it.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from realesrgan import files
from realesrgan.batch import report
from realesrgan.batch import run as batch
from realesrgan.cli.options import real, whole
from realesrgan.files.naming import Source
from realesrgan.tools.made_pictures import write_kinds
from realesrgan.tools.stability import drift, faults, program
from realesrgan.tools.stability.drift import Vitals
from realesrgan.tools.stability.faults import NetworkFault, SlowDisk
from realesrgan.tools.stability.program import Check, Screen

__all__ = ["CLEAN", "NEAR", "Judge", "LongRun", "Round", "Seen", "Watched", "likeness", "main"]

MODELS = ("realesr-animevideov3", "RealESRGAN_x4plus_anime_6B")
_PICTURES = 5
"""Pictures in a round."""
_SPLITTABLE = 33
"""A tile of this side or more is split when memory runs out; a smaller one is the smallest that is tried."""
_SUMMARY = 60.0
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
        found = program.digest(path)
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


class LongRun:
    """Rounds until the time is over.

    A deck contains a clean round and one with each fault in turn, for every model; they are shuffled with a fixed seed.
    The first round of each model does all pictures: what it writes is what every later one must write. After an
    out-of-memory error or NaN the upsampler is built again, because it rightly keeps to smaller tiles or FP32 then.

    Args:
        build: Gives an upsampler for a model, with a fault's hooks in its network.
        inject: Kinds of faults, of :data:`realesrgan.tools.program.faults.KINDS`.
    """

    def __init__(
        self,
        build: Any,
        models: Sequence[str],
        sources: Sequence[Source],
        inject: Sequence[str],
        folder: Path,
        seed: int,
    ) -> None:
        self.build = build
        self.models = models
        self.sources = list(sources)
        self.inject = inject
        self.output = folder / "results"
        self.bad = [Source(path, PurePath(path.name)) for path in faults.corrupt_files(folder / "damaged")]
        self.judge = Judge(folder / "usual")
        self.vitals = Vitals()
        self.rounds = 0
        self.told = 0
        self.built = 0
        self.stopped = ""
        self.interrupted = False
        self._dice = np.random.default_rng(seed)
        self._deck: List[Tuple[str, str]] = []
        self._texts = 0
        self._up: Dict[str, Watched] = {}
        self._sides: Dict[str, int] = {}

    @property
    def pictures(self) -> int:
        return self.judge.pictures

    def upsampler(self, model: str) -> Watched:
        """The model's upsampler; a new one if there is none."""
        if model not in self._up:
            fault = NetworkFault()
            self._up[model] = Watched(self.build(model, fault), fault)
            self.built += 1
            if self.vitals.device is None:
                self.vitals.device = program.device_of(self._up[model])
        return self._up[model]

    def first_rounds(self) -> List[Round]:
        """All pictures with every model."""
        return [Round(CLEAN, model, tuple(self.sources)) for model in self.models]

    def next_round(self) -> Round:
        """The next of the deck."""
        if not self._deck:
            kinds = [kind for fault in self.inject for kind in (CLEAN, fault)] or [CLEAN]
            deck = [(kind, model) for kind in kinds for model in self.models]
            self._deck = [deck[place] for place in self._dice.permutation(len(deck))]
        kind, model = self._deck.pop()
        places = self._dice.permutation(len(self.sources))[:_PICTURES]
        pictures = tuple(self.sources[place] for place in places)
        if kind not in ("oom", "nan"):
            return Round(kind, model, pictures)
        fit = [place for place, one in enumerate(pictures) if self._sides[str(one.relative)] >= _SPLITTABLE]
        if not fit:
            return Round(CLEAN, model, pictures)
        target = int(self._dice.choice(fit))
        if kind == "nan":
            return Round(kind, model, pictures, target)
        # Twice only if half of the tile can be split again.
        large = self._sides[str(pictures[target].relative)] >= 2 * _SPLITTABLE
        self._texts += 1
        text = faults.OUT_OF_MEMORY[self._texts % len(faults.OUT_OF_MEMORY)]
        return Round(kind, model, pictures, target, 2 if large else 1, text)

    def do(self, task: Round) -> bool:
        """One round; False if the run is over."""
        bad = self.bad[: len(task.pictures)] if task.kind == "corrupt" else []
        if bad:
            self.bad = self.bad[len(bad) :] + bad
        seen = self.upsampler(task.model).do(task, self.output, bad)
        if seen.result.interrupted:
            self.interrupted = True
            return False
        for name, record in seen.records.items():
            if record.input_size:
                self._sides[name] = max(record.input_size)
        self.judge.judge(task, seen, self.output, bad)
        self.rounds += 1
        if task.kind in ("oom", "nan"):
            del self._up[task.model]
        self.vitals.take(self.judge.pictures)
        if seen.result.not_done:
            self.stopped = "the device was lost"
        return not self.stopped

    def checks(self) -> List[Check]:
        """Whether everything came as it had to."""
        judge = self.judge
        wrong = judge.deviating
        text = f"{judge.same} results with the usual bytes, {judge.near} near them"
        text += f" (at least {judge.nearest:.1f} dB)" if judge.near else ""
        found = f"{wrong} were not: " + "; ".join(judge.deviations[:5]) if wrong else "all of them"
        checks = [Check("as it must be", not wrong, "NO" if wrong else "yes", f"{found}; {text}")]
        if self.inject:
            kinds = ", ".join(f"{kind} {judge.expected[kind]}/{judge.injected[kind]}" for kind in self.inject)
            missing = [kind for kind in self.inject if judge.injected[kind] == 0]
            as_expected = judge.injected == judge.expected
            if missing:
                kinds += f"; too short a run, or no picture of {_SPLITTABLE} pixels a side, for {', '.join(missing)}"
            verdict = "NO" if not as_expected else "not all came" if missing else "yes"
            checks.append(Check("faults as expected", verdict == "yes", verdict, kinds))
        return checks

    def summary(self) -> str:
        """A line: pictures, faults, memory and its slope so far."""
        samples = self.vitals.samples
        judge = self.judge
        self.told = judge.pictures
        now = samples[-1]
        found = drift.trend([sample.pictures for sample in samples], [sample.resident for sample in samples])
        slope = program.slope_text(found) if found else "too early for a slope"
        return (
            f"[{_clock(self.vitals.seconds)}] {judge.pictures} pictures, {sum(judge.injected.values())} faults, "
            f"{judge.deviating} deviations; resident {now.resident / 1e6:.0f} MB, {slope}; "
            f"{now.handles} handles, {now.threads} threads"
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _faults(text: str) -> List[str]:
    kinds = [word.strip() for word in text.split(",") if word.strip()]
    wrong = [kind for kind in kinds if kind not in faults.KINDS]
    if wrong:
        raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: allowed are {','.join(faults.KINDS)}")
    return kinds


def _parser() -> argparse.ArgumentParser:
    expected = "\n".join(f"  {kind:10} {text}" for kind, text in faults.EXPECTED.items())
    parser = argparse.ArgumentParser(
        prog="long_running_test.py",
        description="Enlarge mixed pictures with several models for a given time, and check that results stay the same "
        "and that memory, file handles and threads do not grow. Status 0: passed, 1: failed, 130: stopped by Ctrl-C.",
        epilog=f"faults, and what must come of them:\n{expected}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--duration", type=real(0, 1e9), default=3600, metavar="SECONDS", help="(default: %(default)s)")
    parser.add_argument(
        "--inject",
        type=_faults,
        default=[],
        metavar="KINDS",
        help=f"faults, of {','.join(faults.KINDS)} (default: none)",
    )
    parser.add_argument("-n", "--model_name", nargs="+", default=list(MODELS), metavar="NAME", help="(default: two)")
    parser.add_argument("--input-dir", metavar="DIR", help="pictures to use (default: small ones of every kind)")
    parser.add_argument(
        "--max-side",
        type=whole(0),
        default=0,
        metavar="N",
        help="longer side of the pictures that are made (default: 64 on a CPU, 640 elsewhere)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order of rounds and of the pictures")
    program.add_flags(parser)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the program.

    Returns:
        0 if every check passed, 1 if not, 2 for wrong usage, 130 after Ctrl-C.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if options.outscale is not None:
        parser.error("-s is for batch_process_test.py; here every model enlarges by its own factor")
    with program.Notices() as notices, tempfile.TemporaryDirectory() as scratch:
        with program.beginning(parser):
            described = program.build(options.model_name[0], options).describe()
            side = options.max_side or (64 if described["device"] == "cpu" else 640)
            if options.input_dir:
                sources = program.list_pictures(options)
            else:
                sources = write_kinds(Path(scratch) / "pictures", side, options.seed)
        if not sources:
            parser.error(f"--input-dir {options.input_dir} contains no pictures")
        run = LongRun(
            lambda name, fault: program.build(name, options, fault),
            options.model_name,
            sources,
            options.inject,
            Path(scratch),
            options.seed,
        )
        screen = Screen(options.duration)
        screen.line(
            f"{len(sources)} pictures, {', '.join(options.model_name)} on {described['name']} ({described['device']}, "
            f"{described['precision']}) for {_clock(options.duration)}; faults: {', '.join(options.inject) or 'none'}"
        )
        with program.recording(run):
            _until(run, options.duration, screen)
        judge, samples = run.judge, run.vitals.samples
        if samples and run.told < judge.pictures:
            screen.line(run.summary())
        pace = run.vitals.seconds / max(1, judge.pictures)
        return program.conclude(
            screen,
            options,
            run,
            described,
            notices,
            lambda pictures: f"--duration {math.ceil(pictures * pace / 60) * 60}",
            rounds=run.rounds,
            upsamplers_built=run.built,
            statuses=judge.statuses,
            faults={
                kind: {"injected": judge.injected[kind], "as_expected": judge.expected[kind]} for kind in options.inject
            },
            deviations=judge.deviations,
        )


def _until(run: LongRun, duration: float, screen: Screen) -> None:
    """Rounds until ``duration`` seconds have gone, with a summary each minute."""
    due = time.perf_counter() + _SUMMARY
    pending = run.first_rounds()
    while pending or run.vitals.seconds < duration:
        if not run.do(pending.pop(0) if pending else run.next_round()):
            break
        screen.at(run.vitals.seconds, f"{run.judge.pictures} pictures")
        if time.perf_counter() >= due:
            screen.line(run.summary())
            due += _SUMMARY
