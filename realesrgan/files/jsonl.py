"""JSON lines: one object a line, appended and sent to the system line by line, so that a killed run leaves whole lines.

A killed run may leave a torn last line, and a user may name any file at all: a line that is no object is reported as
such and never raises. Needs the standard library only.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional

from . import atomic

__all__ = ["LineWriter", "parse", "read"]

#: Longer lines are no objects of ours.
MAX_LINE = 8 << 20
_DIGITS = 40


def _whole(text: str) -> int:
    """A number; thousands of digits, which would take minutes on older Pythons, are none of ours."""
    if len(text) > _DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def parse(line: bytes) -> Optional[Dict[str, Any]]:
    """The object that a line contains; None if it contains none."""
    if line.lstrip()[:1] != b"{":
        return None
    try:
        value = json.loads(line.decode("utf-8", "replace"), parse_int=_whole)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read(path: Path) -> Iterator[Optional[Dict[str, Any]]]:
    """The object of each line, None for a line that contains none; blank lines are left out.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        while True:
            line = file.readline(MAX_LINE)
            if not line:
                return
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE)
                yield None
            elif line.strip():
                yield parse(line)


class LineWriter:
    """Writes objects to a file; each line is with the system before :meth:`write` returns.

    A torn last line is closed with a line feed first, so that the next object has a line of its own.

    Args:
        path: The file; its folder exists.
        append: Keep the lines of the file; otherwise the file starts empty.

    Raises:
        OSError: The disk's own error, here and in every method.
    """

    def __init__(self, path: Path, *, append: bool = True) -> None:
        torn = append and _is_torn(path)
        # Unbuffered: on a full disk nothing is left over that closing would fail to write once more.
        self._file = atomic.patiently(lambda: path.open("ab" if append else "wb", buffering=0))
        if torn:
            self._write(b"\n")

    def write(self, values: Mapping[str, Any]) -> None:
        """Append one object."""
        text = json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n"
        # Lone surrogates (names that are not valid UTF-8 on Linux) must not end a run at its report.
        self._write(text.encode("utf-8", "backslashreplace"))

    def _write(self, content: bytes) -> None:
        left = memoryview(content)
        while left:
            left = left[self._file.write(left) :]

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; some network file systems tell only now that they are full."""
        self._file.close()

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _is_torn(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False
