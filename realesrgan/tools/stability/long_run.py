"""``long_running_test.py``: mixed pictures and models for hours, with faults on request, and the same checks."""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path, PurePath
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from realesrgan.errors import RealESRGANError
from realesrgan.files.naming import Source
from realesrgan.tools.stability import common as stability
from realesrgan.tools.stability import corpus, drift, faults
from realesrgan.tools.stability.common import Check, Screen
from realesrgan.tools.stability.faults import NetworkFault
from realesrgan.tools.stability.rounds import CLEAN, Judge, Round, Watched
from realesrgan.tools.stability.vitals import Vitals

__all__ = ["LongRun", "main"]

MODELS = ("realesr-animevideov3", "RealESRGAN_x4plus_anime_6B")
_PICTURES = 5
"""Pictures in a round."""
_SPLITTABLE = 33
"""A tile of this side or more is split when memory runs out; a smaller one is the smallest that is tried."""
_SUMMARY = 60.0


class LongRun:
    """Rounds until the time is over.

    A deck contains a clean round and one with each fault in turn, for every model; they are shuffled with a fixed seed.
    The first round of each model does all pictures: what it writes is what every later one must write. After an
    out-of-memory error or NaN the upsampler is built again, because it rightly keeps to smaller tiles or FP32 then.

    Args:
        build: Gives an upsampler for a model, with a fault's hooks in its network.
        inject: Kinds of faults, of :data:`realesrgan.tools.stability.faults.KINDS`.
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

    def upsampler(self, model: str) -> Watched:
        """The model's upsampler; a new one if there is none."""
        if model not in self._up:
            fault = NetworkFault()
            self._up[model] = Watched(self.build(model, fault), fault)
            self.built += 1
            if self.vitals.device is None:
                self.vitals.device = stability.device_of(self._up[model])
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
        if self.stopped:
            checks.append(Check("ran to the end", False, "NO", self.stopped))
        return checks

    def summary(self) -> str:
        """A line: pictures, faults, memory and its slope so far."""
        samples = self.vitals.samples
        judge = self.judge
        self.told = judge.pictures
        now = samples[-1]
        found = drift.trend([sample.pictures for sample in samples], [sample.resident for sample in samples])
        memory = "unknown" if now.resident is None else f"{now.resident / 1e6:.0f} MB"
        slope = stability.slope_text(found) if found else "too early for a slope"
        return (
            f"[{_clock(self.vitals.seconds)}] {judge.pictures} pictures, {sum(judge.injected.values())} faults, "
            f"{judge.deviating} deviations; resident {memory}, {slope}; {now.handles} handles, {now.threads} threads"
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
    parser.add_argument("--duration", type=float, default=3600, metavar="SECONDS", help="(default: %(default)s)")
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
        "--max-side", type=int, default=0, metavar="N",
        help="longer side of the pictures that are made (default: 64 on a CPU, 640 elsewhere)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the order of rounds and of the pictures")
    stability.add_flags(parser)
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
    with stability.Notices() as notices, tempfile.TemporaryDirectory() as scratch:
        try:
            first = stability.build(options.model_name[0], options)
            described = dict(first.describe())
            del first
            side = options.max_side or (64 if described["device"] == "cpu" else 640)
            if options.input_dir:
                sources = stability.list_pictures(options)
            else:
                sources = corpus.make(Path(scratch) / "pictures", side, options.seed)
        except RealESRGANError as error:
            parser.exit(stability.USAGE, f"{error}\n")
        except KeyboardInterrupt:
            parser.exit(stability.INTERRUPTED, "Stopped before the first picture.\n")
        if not sources:
            parser.error(f"--input-dir {options.input_dir} contains no pictures")
        run = LongRun(
            lambda name, fault: stability.build(name, options, fault),
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
        _until(run, options.duration, screen)
        return _conclude(run, options, described, dict(notices.counts), screen)


def _until(run: LongRun, duration: float, screen: Screen) -> None:
    """Rounds until ``duration`` seconds have gone, Ctrl-C, or an error; a summary each minute."""
    due = time.perf_counter() + _SUMMARY
    pending = run.first_rounds()
    try:
        while pending or run.vitals.seconds < duration:
            if not run.do(pending.pop(0) if pending else run.next_round()):
                break
            screen.at(run.vitals.seconds, f"{run.judge.pictures} pictures")
            if time.perf_counter() >= due:
                screen.line(run.summary())
                due += _SUMMARY
    except KeyboardInterrupt:
        run.interrupted = True
    except Exception as problem:  # noqa: BLE001 - hours of figures must not be lost to it
        run.stopped = f"{type(problem).__name__}: {problem}"


def _conclude(
    run: LongRun, options: argparse.Namespace, described: Dict[str, Any], notices: Dict[str, int], screen: Screen
) -> int:
    judge, samples = run.judge, run.vitals.samples
    if samples and run.told < judge.pictures:
        screen.line(run.summary())
    pace = run.vitals.seconds / max(1, judge.pictures)
    checks, trends = stability.checks_of(
        samples, options.max_slope, lambda pictures: f"--duration {math.ceil(pictures * pace / 60) * 60}"
    )
    figures = {
        "device": described,
        "settings": {name: value for name, value in vars(options).items() if value is not None},
        "seconds": round(run.vitals.seconds, 1),
        "rounds": run.rounds,
        "upsamplers_built": run.built,
        "pictures": judge.pictures,
        "statuses": dict(judge.statuses),
        "faults": {
            kind: {"injected": judge.injected[kind], "as_expected": judge.expected[kind]} for kind in options.inject
        },
        "deviations": judge.deviations,
        "notices": notices,
    }
    return stability.conclude(screen, options, run.checks() + checks, samples, trends, figures, run.interrupted)
