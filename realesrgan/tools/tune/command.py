"""``realesrgan tune``: measure which tile and which precision are quickest on this machine, and keep them.

This process opens no device. The work is done in a child: if memory stays stuck or the card is lost, that child is
ended, what it has measured counts, and another one goes on.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from realesrgan.cli import messages
from realesrgan.cli.console import Console, status_of
from realesrgan.cli.options import Parser, model_name, real
from realesrgan.errors import Phrase, RealESRGANError, as_field
from realesrgan.inference import tuned as profile
from realesrgan.inference.child import Child, ChildGoneError, rebuild_error
from realesrgan.weights import zoo

__all__ = ["Tuning", "best", "main"]

_NO_BOUND = 1 << 30
_GRACE = 90.0
"""Seconds beyond its own that a child is waited for: starting it, loading weights, one slow tile."""
_CLOSE = 0.97

_HARMLESS = ("", "time", "slower", "room", "half")
"""Ends of a measurement after which the same child may go on."""
_WHY = {
    "time": Phrase("tune.time", "the time is up"),
    "slower": Phrase("tune.slower", "it becomes slower"),
    "room": Phrase("tune.room", "it would not fit"),
    "memory": Phrase("tune.memory", "memory does not suffice"),
    "lost": Phrase("tune.lost", "the device was lost"),
    "half": Phrase("tune.half", "FP16 is not reliable there"),
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; gives 0 if something was measured and kept, 1 if not, 2 for wrong usage."""
    options = _parser().parse_args(argv)
    console = Console(options.lang or messages.system_language(), options.verbose)
    try:
        if options.forget:
            path = profile.forget()
            if path is None:
                console.say("tune.none", "There is no profile.")
            else:
                console.say("tune.forgotten", "Removed: {path}", path=path)
            return 0
        names = _distinct(options.models or zoo.names())
        return Tuning(options.device, names, options.seconds, console).run()
    except RealESRGANError as error:
        console.show(error)
        return status_of(error)


def _parser() -> Parser:
    parser = Parser(
        prog="realesrgan tune",
        description="Measures which tile and precision are quickest on this machine; runs then use them.",
    )
    parser.add_argument("--device", help="directml, dml:1, cuda, cpu ... (default: as a run would choose)")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="models to measure (default: all)")
    parser.add_argument("--seconds", type=real(1, 86400), default=240.0, help="the most it may take (default: 240)")
    parser.add_argument("--forget", action="store_true", help="remove what was measured before, and end")
    parser.add_argument("--lang", choices=messages.LANGUAGES, help="language (default: the system's)")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the library's own lines too")
    return parser


def _distinct(words: Sequence[str]) -> List[str]:
    """Models of different networks; those of equal ones take equally long."""
    names: Dict[Any, str] = {}
    for word in words:
        name = model_name(word)
        names.setdefault(zoo.MODELS[name].network, name)
    return list(names.values())


class Tuning:
    """One run of the command."""

    def __init__(self, request: Optional[str], names: Sequence[str], seconds: float, console: Console) -> None:
        self.request = request
        self.names = names
        self.end = time.perf_counter() + seconds
        self.seconds = seconds
        self.console = console
        self.device: Any = None
        self.others: Sequence[str] = ()
        self.short = False
        self.shapes: Dict[str, Tuple[int, ...]] = {}
        self._child: Optional[Child] = None
        self._kept: Optional[Path] = None
        # Of each model, what was reached on each device: pixels a second and the device.
        self._rates: Dict[str, List[Tuple[float, Any]]] = {}

    def run(self) -> int:
        """Measure and keep; gives the exit status."""
        try:
            self._start()
            requests = [self.request, *self.others]
            for number, request in enumerate(requests):
                if number:
                    self._discard()
                    self.request, self.device = request, None
                    try:
                        self._start()
                    except RealESRGANError as error:  # the device before it has been measured
                        self.console.show(error)
                        continue
                self._engine((self.end - time.perf_counter()) / (len(requests) - number))
            self._compare()
        except ChildGoneError as gone:
            self.console.say("tune.gone", "{reason}", reason=gone)
        except OSError as error:
            self.console.say("tune.unwritable", "The profile cannot be written: {reason}", reason=error)
            return 1
        finally:
            self._discard()
        if self._kept is None:
            if self.short:
                self.console.say(
                    "tune.not_kept",
                    "Nothing was kept: the time did not suffice. Give more of it with --seconds, or fewer --models.",
                )
            else:
                self.console.say("tune.nothing", "Nothing could be measured. 'realesrgan doctor' says what is wrong.")
            return 1
        self.console.say(
            "tune.kept",
            "Kept in {path}. Runs use it where neither -t nor a precision is given; --no-profile leaves it out.",
            path=self._kept,
        )
        return 0

    def _engine(self, seconds: float) -> None:
        """Measure all networks on one device, and keep what is best."""
        end = time.perf_counter() + seconds
        for number, name in enumerate(self.names):
            structure, choices = self._model(name, (end - time.perf_counter()) / (len(self.names) - number))
            if not choices:
                continue
            self._kept = profile.store(self.device, structure, choices)
            quickest = max(choices, key=lambda choice: choice.rate)
            self._rates.setdefault(name, []).append((quickest.rate, self.device))
            self.console.say(
                "tune.best",
                "{model}: tile {tile}, {precision}",
                model=name,
                tile=quickest.tile,
                precision=_precision(quickest.half),
            )

    def _compare(self) -> None:
        """Say on which device each network was quickest, where several were measured."""
        for name, rates in self._rates.items():
            if len(rates) < 2:
                continue
            (first, device), (second, other) = sorted(rates, key=lambda rate: -rate[0])[:2]
            self.console.say(
                "tune.engine",
                "{model}: {quicker} is quickest on {device} ({times} times as quick as {other}).",
                model=name,
                quicker=device.label,
                device=device.name,
                times=f"{first / second:.1f}",
                other=other.label,
            )

    def _model(self, name: str, seconds: float) -> Tuple[Any, List[profile.Choice]]:
        """What is best for one network in each precision."""
        structure: Any = None
        choices: List[profile.Choice] = []
        below = _NO_BOUND
        end = time.perf_counter() + seconds
        self._child = self._child or self._start()
        precisions = (False, True) if self.device.capabilities.half else (False,)
        for number, half in enumerate(precisions):
            share = (end - time.perf_counter()) / (len(precisions) - number)
            found, measured, failed_at = self._precision(name, half, below, max(share, 1.0))
            structure = structure or found
            # What has cost one process is not tried again for the other precision's sake.
            below = min(below, failed_at)
            if measured:
                tile, rate = best(measured)
                choices.append(profile.Choice(tile, half, rate, self.shapes))
        return structure, choices

    def _precision(self, name: str, half: bool, below: int, seconds: float) -> Tuple[Any, List[Tuple[int, float]], int]:
        """Structure, sides with seconds, and the side at which the device or the process was lost."""
        child = self._child or self._start()
        structure, rule, side, why = None, 0, _NO_BOUND, ""
        self.shapes = {}
        measured: List[Tuple[int, float]] = []
        try:
            child.call(child.line.send, name, half, below, seconds)
            while True:
                kind, *values = child.receive(seconds + _GRACE)
                if kind == "network":
                    structure, rule = values
                elif kind == "kernels":
                    self.shapes = values[0]
                elif kind == "tile":
                    side = values[0]
                elif kind == "measured":
                    measured.append((values[0], values[1]))
                    rate = values[0] ** 2 / values[1] / 1000
                    self.console.say(
                        "tune.measured",
                        "  {model} {precision} tile {tile}: {rate} thousand pixels a second",
                        model=name,
                        precision=_precision(half),
                        tile=values[0],
                        rate=f"{rate:.1f}",
                    )
                elif kind == "end":
                    why = values[0]
                    break
        except ChildGoneError as gone:
            why = as_field(gone)
        except BaseException:
            self._discard()
            raise
        if why not in _HARMLESS:
            self._discard()
        fatal = why not in (*_HARMLESS, "memory") and side not in [tile for tile, _ in measured]
        measured = self._worth_keeping(name, half, why, measured, rule)
        return structure, measured, side if fatal else _NO_BOUND

    def _worth_keeping(
        self, name: str, half: bool, why: str, measured: List[Tuple[int, float]], rule: int
    ) -> List[Tuple[int, float]]:
        """What was measured, if a choice among it is good; says why there is no more of it.

        Args:
            why: What ended the measurement.
            rule: The tile that a run uses without a measurement.
        """
        if why == "time" and measured and measured[-1][0] < rule:
            # A choice among small tiles alone would be worse than the rule.
            more = int(2 * self.seconds)
            self.console.say(
                "tune.short",
                "  {model} {precision}: not kept, since the time did not suffice to reach the usual tile {rule}: "
                "--seconds {more}",
                model=name,
                precision=_precision(half),
                rule=rule,
                more=more,
            )
            self.short = True
            return []
        if why == "time" and not measured:
            self.short = True
            self.console.say(
                "tune.no_time",
                "  {model} {precision}: not measured: the time was up before the first tile",
                model=name,
                precision=_precision(half),
            )
        elif why:
            self.console.say(
                "tune.end",
                "  {model} {precision}: no larger tile: {why}",
                model=name,
                precision=_precision(half),
                why=_WHY.get(why, why),
            )
        return measured

    def _start(self) -> Child:
        self._child = Child("realesrgan.tools.tune.measure:serve", self.request)
        kind, found, *others = self._child.receive(self.seconds + _GRACE)
        if kind == "refused":
            raise rebuild_error(*found)
        if self.device is None:
            self.console.say(
                "tune.begin",
                "Measuring {count} networks on {device}, for {seconds} s at most. Do not use the card meanwhile.",
                count=len(self.names),
                device=f"{found.name} ({found.spec})",
                seconds=f"{self.seconds:.0f}",
            )
            if others and not self.others:
                self.others = others[0]
        self.device = found
        return self._child

    def _discard(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end(gently=False)


def best(measured: Sequence[Tuple[int, float]]) -> Tuple[int, float]:
    """Of sides with seconds: the smallest tile that is nearly as quick as the quickest, and its pixels a second."""
    rates = [(side, side**2 / seconds) for side, seconds in measured]
    limit = _CLOSE * max(rate for _, rate in rates)
    return next((side, rate) for side, rate in sorted(rates) if rate >= limit)


def _precision(half: bool) -> str:
    return "FP16" if half else "FP32"
