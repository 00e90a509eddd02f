"""The record of a run: one line of JSON a file, appended and flushed, so that a killed run leaves a valid prefix."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple, Union

from ..errors import InputError, notice, one_line
from ..files import jsonl, paths
from ..files.paths import openable, shown

__all__ = [
    "DONE",
    "FAILED",
    "NOT_DONE",
    "SKIPPED",
    "Record",
    "ReportWriter",
    "content_hash",
    "digest",
    "fingerprint",
    "key",
    "load",
    "load_all",
    "now",
    "shard_path",
]

_log = logging.getLogger(__name__)

DONE = "done"
SKIPPED = "skipped"
FAILED = "failed"
NOT_DONE = "not done"

PathLike = Union[str, "os.PathLike[str]"]
#: Bytes of each part of a file that counts for its hash.
_SAMPLE = 1 << 16


@dataclass(frozen=True)
class Record:
    """What became of one picture. Sizes are (width, height) in pixels; times are seconds.

    ``status`` is one of ``done``, ``skipped``, ``failed`` (this picture could not be done) and ``not done`` (it was
    never tried, ``error_text`` says why). ``tile`` is (width, height) of the largest tile used.
    """

    input: str
    status: str
    output: Optional[str] = None
    read_seconds: Optional[float] = None
    device_seconds: Optional[float] = None
    write_seconds: Optional[float] = None
    device: Optional[str] = None
    model: Optional[str] = None
    weights: Optional[str] = None
    precision: Optional[str] = None
    tile: Optional[Tuple[int, int]] = None
    tile_pad: Optional[int] = None
    tiles: Optional[int] = None
    input_size: Optional[Tuple[int, int]] = None
    output_size: Optional[Tuple[int, int]] = None
    mode: Optional[str] = None
    input_bytes: Optional[int] = None
    input_mtime_ns: Optional[int] = None
    output_bytes: Optional[int] = None
    output_mtime_ns: Optional[int] = None
    output_hash: Optional[str] = None
    options: Optional[str] = None
    notes: Tuple[str, ...] = ()
    error_code: Optional[str] = None
    error_text: Optional[str] = None
    finished: Optional[str] = None

    def to_mapping(self) -> Dict[str, Any]:
        """Plain values by name, without what is not known."""
        return {name: value for name, value in vars(self).items() if value is not None and value != ()}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Record:
        """A record from parsed JSON; unknown names are ignored, so that older programs read newer reports.

        Raises:
            ValueError: ``input`` or ``status`` is missing, or a value is of another type than this class writes.
        """
        known = {name: values[name] for name in cls.__dataclass_fields__ if values.get(name) is not None}
        if not {"input", "status"} <= set(known):
            raise ValueError("a record needs 'input' and 'status'")
        for name, value in known.items():
            if not _FITS[cls.__annotations__[name]](value):
                raise ValueError(f"{name} cannot be {value!r}")
            if isinstance(value, list):
                known[name] = tuple(value)
        return cls(**known)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


#: Annotation of a field of :class:`Record` -> whether a parsed value fits.
_FITS: Mapping[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "Optional[str]": lambda value: isinstance(value, str),
    "Optional[int]": _is_whole,
    "Optional[float]": lambda value: _is_whole(value) or isinstance(value, float),
    "Optional[Tuple[int, int]]": lambda value: (
        isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value))
    ),
    "Tuple[str, ...]": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
}


def now() -> str:
    """The time of day in UTC, ISO 8601, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def key(path: PathLike) -> str:
    """The name under which a picture is looked up again: absolute, in the file system's own case rules."""
    # Not resolve(): a link and the file behind it are two pictures.
    return os.path.normcase(os.path.abspath(shown(path)))  # noqa: PTH100


def fingerprint(path: PathLike) -> Tuple[int, int]:
    """Size in bytes and time of change in nanoseconds.

    Raises:
        OSError: The file does not exist.
    """
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns


def content_hash(path: PathLike) -> str:
    """Sixteen hexadecimal digits for the start, the middle and the end of a file, which is cheap whatever its size.

    Raises:
        OSError: The file cannot be read.
    """
    found = hashlib.blake2b(digest_size=8)
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for start in sorted({0, max(0, size // 2 - _SAMPLE // 2), max(0, size - _SAMPLE)}):
            file.seek(start)
            found.update(file.read(_SAMPLE))
    return found.hexdigest()


def digest(options: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that change when any option changes. Values must be plain (JSON)."""
    text = json.dumps(options, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


class ReportWriter:
    """Appends records to a file; each is with the system before :meth:`write` returns.

    Args:
        path: The report. Its folder is made if needed.
        append: Keep the lines of the file; otherwise the report starts empty.

    Raises:
        InputError: It is no file, or cannot be opened for writing.
    """

    def __init__(self, path: PathLike, *, append: bool = True) -> None:
        self.path = Path(openable(path))
        paths.check_regular(path, "--report")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lines = jsonl.LineWriter(self.path, append=append)
        except OSError as error:
            raise InputError(
                f"The report {self.path} cannot be written: {one_line(error)}. Name another file with --report.",
                code="report.write",
                path=str(self.path),
                reason=error,
            ) from error

    def write(self, record: Record) -> None:
        """Append one record.

        Raises:
            OSError: The disk's own error.
        """
        self._lines.write(record.to_mapping())

    def close(self) -> None:
        """Close the file.

        Raises:
            OSError: The disk's own error.
        """
        self._lines.close()

    def __enter__(self) -> ReportWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def load(path: PathLike) -> List[Record]:
    """The records of a report, in the order written. Lines that are no records are skipped, and their number is said.

    Raises:
        InputError: The file exists and cannot be read. A file that does not exist is an empty report.
    """
    records: List[Record] = []
    skipped = 0
    torn = False
    paths.check_regular(path, "--report")
    try:
        for values in jsonl.read(Path(path)):
            torn = values is None
            try:
                record = None if values is None else Record.from_mapping(values)
            except ValueError:
                record = None
            if record is None:
                skipped += 1
            else:
                records.append(record)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"The report {path} cannot be read: {one_line(error)}. Name another file with --report.",
            code="report.read",
            path=str(path),
            reason=error,
        ) from error
    if skipped > torn:  # a run that was killed leaves a torn last line
        notice(
            _log,
            "report.lines",
            f"{path}: {skipped} lines are no records of this program; they are skipped.",
            path=str(path),
            count=skipped,
        )
    return records


def load_all(path: PathLike) -> Dict[str, Record]:
    """The last word on each picture, by :func:`key`, from a report and from the reports of its shards.

    A ``skipped`` record says nothing new and never replaces an older one.
    """
    latest: Dict[str, Record] = {}
    for file in _with_shards(Path(path)):
        for record in load(file):
            if record.status == SKIPPED:
                continue
            name = key(record.input)
            before = latest.get(name)
            if before is None or (record.finished or "") >= (before.finished or ""):
                latest[name] = record
    return latest


def shard_path(path: PathLike, index: int, count: int) -> Path:
    """``report.jsonl`` becomes ``report.2-of-4.jsonl``: each shard appends to a file of its own.

    ``index`` counts from 1. One shard keeps the name.
    """
    whole = Path(path)
    if count == 1:
        return whole
    return whole.with_name(f"{whole.stem}.{index}-of-{count}{whole.suffix}")


def _with_shards(path: Path) -> Iterable[Path]:
    yield path
    if not path.parent.is_dir():
        return
    start = path.stem + "."
    for other in sorted(path.parent.iterdir()):
        middle = other.stem[len(start) :]
        if other.suffix != path.suffix or not other.stem.startswith(start):
            continue
        first, separator, last = middle.partition("-of-")
        if separator and first.isdigit() and last.isdigit():
            yield other
