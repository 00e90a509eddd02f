"""Work that may take only so much time and memory: each piece in a child process that is ended when it takes more.

The child is this module. It starts from a function named ``module:function``, which gets one argument (a str) a line of
its input and answers with one line.
"""

from __future__ import annotations

import importlib
import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterable, List, NamedTuple

import psutil

_ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 120.0
_HANGS = 10.0
"""Wall time is allowed to be so many times the limit, which is one of processor time: the machine may be busy."""


class Outcome(NamedTuple):
    """What one piece of work answered, its processor time, and how far memory rose above the child's at its start."""

    answer: str
    seconds: float
    megabytes: float


class Exceeded(AssertionError):
    """A piece of work took more than it may."""


def run(function: str, arguments: Iterable[str], *, seconds: float, megabytes: float, first: str) -> List[Outcome]:
    """Call ``function`` for each argument in one child process, after ``first``, whose time and memory do not count.

    Raises:
        Exceeded: A call took more processor time or memory than it may, or ended the process; names the argument.
    """
    command = [sys.executable, "-m", "support.bounded", function]
    outcomes: List[Outcome] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        cwd=_ROOT / "tests",
        env={**_environment(), "PYTHONPATH": f"{_ROOT}", "PYTHONIOENCODING": "utf-8"},
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_pump, args=(child.stdout, lines), daemon=True).start()
        try:
            child.stdin.write(json.dumps(first) + "\n")
            child.stdin.flush()
            base = json.loads(_next(lines, child, _START_SECONDS, first))["megabytes"]
            for argument in arguments:
                child.stdin.write(json.dumps(argument) + "\n")
                child.stdin.flush()
                answer = json.loads(_next(lines, child, seconds * _HANGS, argument, base + megabytes))
                outcome = Outcome(answer["answer"], answer["seconds"], answer["megabytes"] - base)
                if outcome.seconds > seconds or outcome.megabytes > megabytes:
                    raise Exceeded(f"{argument}: {outcome.seconds:.2f} s, {outcome.megabytes:.0f} MB: {outcome.answer}")
                outcomes.append(outcome)
        finally:
            child.kill()
    return outcomes


def _environment() -> Any:
    import os

    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _pump(stream: Any, lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _next(lines: queue.Queue[str], child: Any, seconds: float, what: str, most: float = float("inf")) -> str:
    watched = psutil.Process(child.pid)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            line = lines.get(timeout=0.05)
        except queue.Empty:
            try:
                used = watched.memory_info().rss / 1e6
            except psutil.Error:
                used = 0.0
            if used > most:
                raise Exceeded(f"{what}: {used:.0f} MB") from None
            continue
        if line:
            return line
        raise Exceeded(f"{what}: the process ended with status {child.wait()}")
    raise Exceeded(f"{what}: no answer within {seconds:g} s")


def _peak() -> float:
    """The most memory that this process has had, in MB; on Linux not that of the process that started it."""
    from realesrgan.batch.monitor import peak_resident

    return (peak_resident() or 0) / 1e6


def _main(name: str) -> None:
    module, _, function = name.partition(":")
    work = getattr(importlib.import_module(module), function)
    out = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        begun = time.process_time()
        answer = str(work(json.loads(line)))
        seconds = time.process_time() - begun
        print(json.dumps({"answer": answer, "seconds": seconds, "megabytes": _peak()}), file=out, flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
