"""What the main command shows of a run: its first line, its pictures, its tables and its end."""

from __future__ import annotations

import argparse
from typing import Any, List, Mapping, Sequence

from ..batch import report
from ..errors import RealESRGANError
from . import messages
from .console import Console

__all__ = ["Show", "introduce", "note_text", "show_monitor", "summary"]


def introduce(described: Mapping[str, Any], console: Console) -> None:
    """The line at the start of a run: device, memory, precision and tile."""
    memory = described.get("memory")
    tile = described.get("tile")
    console.say(
        "cli.device" if memory else "cli.device_without_memory",
        backend=described.get("backend"),
        name=described.get("name"),
        spec=described.get("device"),
        memory=f"{int(memory) / 2**30:.1f} GB" if memory else "",
        precision=str(described.get("precision")).upper(),
        tile=tile or "auto",
    )


class Show:
    """Events of the batch as lines and bars. ``failed`` keeps a line for each picture that could not be done."""

    def __init__(self, console: Console, options: argparse.Namespace) -> None:
        self.failed: List[str] = []
        self._console = console
        self._each = options.verbose or not console.has_bars
        self._ended = 0

    def __call__(self, event: Any) -> None:
        console = self._console
        if event.kind == "tiles":
            console.files_bar(event.total, self._ended)
            console.tiles_bar(str(event.source.relative), *event.tiles)
        elif event.kind == "end":
            self._ended += 1
            console.files_bar(event.total, self._ended)
            self._end(event)

    def _end(self, event: Any) -> None:
        record, console = event.record, self._console
        if record.status == report.FAILED:
            reason = console.sentence(event.error)
            # The device does not know which picture it works on, and a writer names the result.
            line = reason if reason.startswith(record.input) else f"{record.input}: {reason}"
            self.failed.append(line)
            place = {"number": event.index + 1, "total": event.total}
            console.error(event.error, messages.say("cli.failed", console.lang, reason=line, **place))
            return
        for note in record.notes if record.status == report.DONE else ():
            console.line(f"{record.input}: {note_text(note, console.lang)}", problem=True)
        if not (self._each or event.total == 1):
            return
        if record.status == report.DONE:
            seconds = sum(value or 0.0 for value in (record.read_seconds, record.device_seconds, record.write_seconds))
            console.say(
                "cli.done",
                number=event.index + 1,
                total=event.total,
                input=record.input,
                output=record.output,
                width=record.output_size[0],
                height=record.output_size[1],
                seconds=f"{seconds:.1f}",
                work=_work(record, console.lang),
            )
        elif record.status == report.SKIPPED:
            console.say("cli.skipped", number=event.index + 1, total=event.total, input=record.input)


def _work(record: report.Record, lang: str) -> str:
    """How the picture was cut, which the program chooses where -t does not say."""
    if not record.tiles or record.tile is None:
        return ""
    if record.tile == record.input_size:
        return messages.say("cli.untiled", lang)
    return messages.say("cli.tiled", lang, count=record.tiles, tile=f"{record.tile[0]}x{record.tile[1]}")


def note_text(note: str, lang: str) -> str:
    """What is to be known of a picture, translated where its note carries a code."""
    code = getattr(note, "code", None)
    if code is None:
        return note
    return messages.render(RealESRGANError(str(note), code=code, **note.fields), lang)  # type: ignore[attr-defined]


def show_monitor(monitor: Any, options: argparse.Namespace, console: Console) -> None:
    """The table of ``--monitor-memory``, and its file."""
    console.line(monitor.table())
    if options.monitor_memory:
        try:
            monitor.write_csv(options.monitor_memory)
        except OSError as error:
            console.warn("cli.csv", path=options.monitor_memory, reason=error.strerror or error)


def summary(result: Any, failed: Sequence[str], flag: str, console: Console) -> int:
    """The lines at the end of a run, and its exit status.

    Args:
        failed: A line for each picture, and for each input that is not there. They are shown again, since the first
            time may be thousands of lines ago.
        flag: What continues such a run.
    """
    console.say(
        "cli.summary", done=result.done, skipped=result.skipped, failed=len(failed), seconds=f"{result.seconds:.1f}"
    )
    if result.total > 1 or len(failed) > 1:
        for line in failed:
            console.warn("cli.failed_again", reason=line)
    if result.not_done:
        console.warn("cli.not_done", count=result.not_done, flag=flag)
    if result.interrupted:
        console.warn("cli.interrupted", flag=flag)
        return 130
    return 1 if failed or result.not_done else 0
