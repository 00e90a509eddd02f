"""What a run of the main command shows: the device, its pictures, and the summary at its end."""

from __future__ import annotations

import argparse
from typing import Any, List, Mapping, Sequence

from ..batch import report
from ..errors import Phrase, as_field
from . import messages
from .console import FAILED, INTERRUPTED, OK, Console, as_sentence

__all__ = [
    "Events",
    "continuing_flag",
    "failed_input",
    "interrupted",
    "introduce",
    "monitored",
    "others",
    "summary",
]


def introduce(described: Mapping[str, Any], console: Console) -> None:
    """The line at the start of a run: device, memory, precision and tile."""
    memory = described.get("memory")
    tile = described.get("tile")
    amount = f"{int(memory) / 2**30:.1f} GB" if memory else ""
    console.say(
        "cli.device",
        "Device: {backend}, {name} ({spec}){memory}, {precision}, tile {tile}",
        backend=described.get("backend"),
        name=described.get("name"),
        spec=described.get("device"),
        memory=messages.phrase("cli.memory", ", {amount} memory", amount=amount) if amount else "",
        precision=str(described.get("precision")).upper(),
        tile=tile or "auto",
    )


class Events:
    """Events of the batch as lines and bars. ``failed`` keeps the reason for each picture that could not be done."""

    def __init__(self, console: Console, options: argparse.Namespace) -> None:
        self.failed: List[Phrase] = []
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
            reason = failed_input(event.error, record.input)
            self.failed.append(reason)
            said = messages.phrase(
                "cli.failed",
                "[{number}/{total}] failed: {reason}.",
                number=event.index + 1,
                total=event.total,
                reason=reason,
            )
            console.error(event.error, said)
            return
        for note in record.notes if record.status == report.DONE else ():
            console.warn("cli.note", "{input}: {note}", input=record.input, note=note)
        if not (self._each or event.total == 1):
            return
        if record.status == report.DONE:
            seconds = sum(value or 0.0 for value in (record.read_seconds, record.device_seconds, record.write_seconds))
            console.say(
                "cli.done",
                "[{number}/{total}] {input} -> {output} ({width}x{height}, {seconds} s{work})",
                number=event.index + 1,
                total=event.total,
                input=record.input,
                output=record.output,
                width=record.output_size[0],
                height=record.output_size[1],
                seconds=f"{seconds:.1f}",
                work=_work(record),
            )
        elif record.status == report.SKIPPED:
            console.say(
                "cli.skipped",
                "[{number}/{total}] {input} is done already: skipped",
                number=event.index + 1,
                total=event.total,
                input=record.input,
            )


def failed_input(error: BaseException, name: str) -> Phrase:
    """Why a picture failed, with its name: the device does not know it, and a writer names the result."""
    reason = as_field(as_sentence(error))
    if reason.startswith(name):
        return reason  # type: ignore[no-any-return]
    return messages.phrase("cli.failed_input", "{input}: {reason}", input=name, reason=reason)


def _work(record: report.Record) -> str:
    """How the picture was cut, which the program chooses where -t does not say."""
    if not record.tiles or record.tile is None:
        return ""
    if record.tile == record.input_size:
        return Phrase("cli.untiled", ", untiled")
    width, height = record.tile
    return messages.phrase("cli.tiled", ", {count} tiles of up to {tile}", count=record.tiles, tile=f"{width}x{height}")


def monitored(monitor: Any, options: argparse.Namespace, console: Console) -> None:
    """The table of ``--monitor-memory``, and its file."""
    console.line(monitor.table())
    if options.monitor_memory:
        try:
            monitor.write_csv(options.monitor_memory)
        except OSError as error:
            console.warn(
                "cli.csv",
                "The samples cannot be written to {path}: {reason}.",
                path=options.monitor_memory,
                reason=error,
            )


def summary(result: Any, failed: Sequence[Phrase], flag: str, console: Console) -> int:
    """The lines at the end of a run, and its exit status.

    Args:
        failed: The reason for each picture, and for each input that does not exist. They are shown again, since the
            first time may be thousands of lines ago.
        flag: What continues such a run.
    """
    console.say(
        "cli.summary",
        "{done} done, {skipped} skipped, {failed} failed, in {seconds} s",
        done=result.done,
        skipped=result.skipped,
        failed=len(failed),
        seconds=f"{result.seconds:.1f}",
    )
    if result.total > 1 or len(failed) > 1:
        for reason in failed:
            console.warn("cli.failed_again", "  failed: {reason}.", reason=reason)
    if result.not_done:
        console.warn(
            "cli.not_done",
            "{count} pictures were not tried. The same command with {flag} goes on where this run ended.",
            count=result.not_done,
            flag=flag,
        )
    if result.interrupted:
        interrupted(flag, console)
        return INTERRUPTED
    return FAILED if failed or result.not_done else OK


def others(left_out: Mapping[str, int], console: Console) -> None:
    """What was left out in folders because it is no picture by its name, counted by suffix."""
    if left_out:
        kinds = ", ".join(f"{count} {suffix or '-'}" for suffix, count in sorted(left_out.items()))
        console.say("cli.others", "Left out in folders, not pictures by their names: {kinds}", kinds=kinds)


def interrupted(flag: str, console: Console) -> None:
    """What Ctrl-C left."""
    console.warn(
        "cli.interrupted",
        "Stopped. No file is half-written; the same command with {flag} goes on from here.",
        flag=flag,
    )


def continuing_flag(options: argparse.Namespace) -> str:
    """The flag that goes on where a run with these options ended: only a report knows more than the results do."""
    return "--resume" if options.resume or options.report is not None else "--skip-existing"
