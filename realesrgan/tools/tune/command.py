"""``realesrgan tune``: measure which tile and which precision are quickest on this machine, and keep them.

This process opens no device. The work is done in a child: if memory stays stuck or the card is lost, that child is
ended, what it has measured counts, and another one goes on.
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

from realesrgan.cli import messages
from realesrgan.cli.options import Parser, model_name, real
from realesrgan.errors import InputError, RealESRGANError
from realesrgan.inference import tuned as profile
from realesrgan.inference.child import Child, ChildGoneError, rebuild_error
from realesrgan.weights import zoo

__all__ = ["Tuning", "best", "main"]

_NO_BOUND = 1 << 30
_GRACE = 90.0
"""Seconds beyond its own that a child is waited for: starting it, loading weights, one slow tile."""
_CLOSE = 0.97

_TEXT: Dict[str, Dict[str, str]] = {
    "begin": {
        "en": "Measuring {count} networks on {device}, for {seconds:.0f} s at most. Do not use the card meanwhile.",
        "ko": "{device}에서 네트워크 {count}개를 최대 {seconds:.0f}초 동안 측정합니다. 그동안 그래픽 카드를 쓰지 "
        "마십시오.",
    },
    "measured": {
        "en": "  {model} {precision} tile {tile}: {rate:.1f} thousand pixels a second",
        "ko": "  {model} {precision} 타일 {tile}: 초당 {rate:.1f}천 픽셀",
    },
    "end": {
        "en": "  {model} {precision}: no larger tile: {why}",
        "ko": "  {model} {precision}: 더 큰 타일은 측정하지 않음: {why}",
    },
    "short": {
        "en": "  {model} {precision}: not kept, since the time did not suffice to reach the usual tile {rule}: "
        "--seconds {more}",
        "ko": "  {model} {precision}: 기본 타일 {rule}까지 측정할 시간이 모자라 저장하지 않습니다: --seconds {more}",
    },
    "best": {"en": "{model}: tile {tile}, {precision}", "ko": "{model}: 타일 {tile}, {precision}"},
    "kept": {
        "en": "Kept in {path}. Runs use it where neither -t nor a precision is given; --no-profile leaves it out.",
        "ko": "{path}에 저장했습니다. -t나 정밀도를 지정하지 않으면 이 값을 사용하며, --no-profile로 끌 수 있습니다.",
    },
    "nothing": {
        "en": "Nothing could be measured. 'realesrgan doctor' says what is wrong.",
        "ko": "측정하지 못했습니다. 'realesrgan doctor'로 원인을 확인하십시오.",
    },
    "not_kept": {
        "en": "Nothing was kept: the time did not suffice. Give more of it with --seconds, or fewer --models.",
        "ko": "시간이 모자라 저장한 결과가 없습니다. --seconds를 늘리거나 --models를 줄이십시오.",
    },
    "unwritable": {"en": "The profile cannot be written: {reason}", "ko": "결과를 저장할 수 없습니다: {reason}"},
    "forgotten": {"en": "Removed: {path}", "ko": "삭제했습니다: {path}"},
    "none": {"en": "There is no profile.", "ko": "저장된 결과가 없습니다."},
}
_HARMLESS = ("", "time", "slower", "room", "FP16 does not hold")
"""Ends of a measurement after which the same child may go on."""
_WHY: Dict[str, Dict[str, str]] = {
    "time": {"en": "the time is up", "ko": "시간 제한"},
    "slower": {"en": "it becomes slower", "ko": "더 느려짐"},
    "room": {"en": "it would not fit", "ko": "메모리에 맞지 않음"},
    "memory": {"en": "memory does not suffice", "ko": "메모리 부족"},
    "lost": {"en": "the device was lost", "ko": "장치 연결이 끊어짐"},
    "FP16 does not hold": {"en": "FP16 does not hold", "ko": "FP16을 쓸 수 없음"},
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; gives 0 if something was measured and kept, 1 if not, 2 for wrong usage."""
    options = _parser().parse_args(argv)
    lang = options.lang or messages.system_language()
    try:
        if options.forget:
            path = profile.forget()
            _say("none" if path is None else "forgotten", lang, path=path)
            return 0
        names = _distinct(options.models or zoo.names())
        return Tuning(options.device, names, options.seconds, lang).run()
    except RealESRGANError as error:
        print(messages.render(error, lang))
        return 2 if isinstance(error, InputError) or error.code == "device.missing" else 1


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


def _say(code: str, lang: str, **fields: Any) -> None:
    print(_TEXT[code][lang].format(**fields), flush=True)


class Tuning:
    """One run of the command."""

    def __init__(self, request: Optional[str], names: Sequence[str], seconds: float, lang: str) -> None:
        self.request = request
        self.names = names
        self.end = time.perf_counter() + seconds
        self.seconds = seconds
        self.lang = lang
        self.device: Any = None
        self.short = False
        self._child: Optional[Child] = None

    def run(self) -> int:
        """Measure and keep; gives the exit status."""
        kept = None
        try:
            for number, name in enumerate(self.names):
                share = (self.end - time.perf_counter()) / (len(self.names) - number)
                structure, choices = self._model(name, share)
                if choices:
                    kept = profile.store(self.device, structure, choices)
                    quickest = max(choices, key=lambda choice: choice.rate)
                    _say("best", self.lang, model=name, tile=quickest.tile, precision=_precision(quickest.half))
        except ChildGoneError as gone:
            print(f"{gone}")
        except OSError as error:
            _say("unwritable", self.lang, reason=error.strerror or error)
            return 1
        finally:
            self._discard()
        if kept is None:
            _say("not_kept" if self.short else "nothing", self.lang)
            return 1
        _say("kept", self.lang, path=kept)
        return 0

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
                choices.append(profile.Choice(tile, half, rate))
        return structure, choices

    def _precision(self, name: str, half: bool, below: int, seconds: float) -> Tuple[Any, List[Tuple[int, float]], int]:
        """Structure, sides with seconds, and the side at which the device or the process was lost."""
        child = self._child or self._start()
        structure, rule, side, why = None, 0, _NO_BOUND, ""
        measured: List[Tuple[int, float]] = []
        try:
            child.call(child.line.send, name, half, below, seconds)
            while True:
                kind, *values = child.receive(seconds + _GRACE)
                if kind == "network":
                    structure, rule = values
                elif kind == "tile":
                    side = values[0]
                elif kind == "measured":
                    measured.append((values[0], values[1]))
                    rate = values[0] ** 2 / values[1] / 1000
                    _say("measured", self.lang, model=name, precision=_precision(half), tile=values[0], rate=rate)
                elif kind == "end":
                    why = values[0]
                    break
        except ChildGoneError as gone:
            why = str(gone)
        except BaseException:
            self._discard()
            raise
        if why not in _HARMLESS:
            self._discard()
        fatal = why not in (*_HARMLESS, "memory") and side not in [tile for tile, _ in measured]
        if why == "time" and measured and measured[-1][0] < rule:
            # A choice among small tiles alone would be worse than the rule.
            more = int(2 * self.seconds)
            _say("short", self.lang, model=name, precision=_precision(half), rule=rule, more=more)
            measured, self.short = [], True
        elif why:
            _say("end", self.lang, model=name, precision=_precision(half), why=_WHY.get(why, {}).get(self.lang, why))
        return structure, measured, side if fatal else _NO_BOUND

    def _start(self) -> Child:
        self._child = Child("realesrgan.tools.tune.measure:serve", self.request)
        kind, found = self._child.receive(self.seconds + _GRACE)
        if kind == "refused":
            raise rebuild_error(*found)
        if self.device is None:
            _say("begin", self.lang, count=len(self.names), device=f"{found.name} ({found.spec})", seconds=self.seconds)
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
