r"""Paths, and the files that they lead to.

Windows has device names, folders that cannot be resolved, more than 260 characters, and stray quotes. Everywhere two
paths lead to one file through links, through the case of letters, and as hard links: nothing that a run reads is
written to. Needs the standard library only. What depends on Windows takes ``windows``, so that it can be tested
anywhere.
"""

from __future__ import annotations

import ntpath
import os
import re
import stat
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from ..errors import InputError

__all__ = [
    "MAX_PATH",
    "WINDOWS",
    "Identity",
    "Inputs",
    "PathLike",
    "check_regular",
    "check_written",
    "identity",
    "is_reserved",
    "openable",
    "real",
    "reserved_part",
    "same_file",
    "shown",
    "too_long",
    "unprefixed",
    "unquoted",
    "utf16_units",
]

PathLike = Union[str, "os.PathLike[str]"]
#: Device and number of a file.
Identity = Tuple[int, int]

WINDOWS = os.name == "nt"
#: Characters of a path that Windows accepts without a prefix: 260, one of which ends it.
MAX_PATH = 259
#: From this length on a path gets the prefix. Names beside it (unfinished files, a video's segments) are longer.
_PREFIXED_FROM = 200
_PREFIX, _UNC = "\\\\?\\", "\\\\?\\UNC\\"
_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"}
_RESERVED |= {name + digit for name in ("com", "lpt") for digit in "0123456789\u00b9\u00b2\u00b3"}


def real(path: PathLike) -> str:
    """The absolute path without links, as :func:`os.path.realpath` gives it; never raises for what cannot be resolved.

    Windows raises for devices (``CON``, ``COM1``) and for folders on some network and RAM disks: those keep the path
    that they have.
    """
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return os.path.abspath(path)  # noqa: PTH100 - pathlib's does not fold ".."


def is_reserved(name: str) -> bool:
    """Whether Windows keeps a file name, whatever its suffix, for a device: ``CON``, ``nul.txt``, ``COM1``."""
    return re.split(r"[.:]", name, maxsplit=1)[0].rstrip(" ").lower() in _RESERVED


def reserved_part(path: PathLike, *, windows: bool = WINDOWS) -> Optional[str]:
    r"""The first part of a path that is reserved on Windows; None elsewhere and behind the prefix ``\\?\``."""
    prefix, text = unprefixed(os.fspath(path), windows=windows)
    if not windows or prefix:
        return None
    parts = re.split(r"[\\/]", ntpath.splitdrive(text)[1])
    return next((part for part in parts if is_reserved(part)), None)


def unprefixed(text: str, *, windows: bool = WINDOWS) -> Tuple[str, str]:
    r"""(prefix, path without it): ``("\\?\", "C:\x")`` for ``\\?\C:\x``. On a share the rest begins with ``\\`` again.

    The prefix contains a question mark, and is no pattern for all that.
    """
    if windows:
        if text[:8].upper() == _UNC:
            return text[:8], "\\\\" + text[8:]
        if text.startswith(_PREFIX):
            return _PREFIX, text[4:]
    return "", text


def openable(path: PathLike, *, windows: bool = WINDOWS) -> str:
    r"""The path by which the system opens a file or a name beside it: on Windows with ``\\?\``, from 200 characters on.

    With it a path may have 32,767 characters. Elsewhere, and for shorter paths, it is the path itself.
    """
    text = os.fspath(path)
    if not windows or text.startswith(("\\\\?\\", "\\\\.\\")):
        return text
    absolute = ntpath.abspath(text)
    if utf16_units(absolute) < _PREFIXED_FROM:
        return text
    return _UNC + absolute[2:] if absolute.startswith("\\\\") else _PREFIX + absolute


def shown(path: PathLike, *, windows: bool = WINDOWS) -> str:
    """The path as a user knows it, without the prefix that :func:`openable` gave it."""
    return unprefixed(os.fspath(path), windows=windows)[1]


def too_long(path: PathLike, *, windows: bool = WINDOWS) -> Optional[int]:
    """The length of a path in characters if it is more than Windows accepts without a prefix, else None."""
    if not windows:
        return None
    length = utf16_units(ntpath.abspath(shown(path, windows=True)))
    return length if length > MAX_PATH else None


def unquoted(arguments: Sequence[str], *, windows: bool = WINDOWS) -> List[str]:
    r"""Arguments as they were meant where a folder was given as ``"C:\dir\"``.

    Windows reads ``\"`` as a quotation mark, which no file name contains, so the rest of the line went into the same
    argument: ``C:\dir" -o out`` becomes ``C:\dir``, ``-o``, ``out``.
    """
    if not windows:
        return list(arguments)
    found: List[str] = []
    for argument in arguments:
        head, mark, rest = argument.partition('"')
        found.append(head)
        if mark:
            found.extend(word for word in rest.replace('"', " ").split() if word)
    return found


def utf16_units(text: str) -> int:
    """Characters as Windows counts them: those outside the first 65,536 count twice."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def identity(path: PathLike) -> Optional[Identity]:
    """The identity of the file or folder that a path leads to; None if there is none."""
    try:
        status = os.stat(openable(path))  # noqa: PTH116 - a path of any type
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if status.st_ino else None


def same_file(first: PathLike, second: PathLike) -> bool:
    """Whether two paths name one file, through links and case; works for files that do not exist yet."""
    here, there = identity(first), identity(second)
    if here is not None and there is not None:
        return here == there
    return os.path.normcase(real(first)) == os.path.normcase(real(second))


class Inputs:
    """The files that a run reads. They are looked at when the first question comes that needs it."""

    def __init__(self, paths: Iterable[PathLike]) -> None:
        self._paths = list(paths)
        self._known: Optional[Dict[Identity, PathLike]] = None

    def at(self, path: PathLike) -> Optional[Path]:
        """The input that would change if ``path`` was written to; None if there is none."""
        there = identity(path)
        if there is None:  # nothing exists, so no input either
            return None
        if self._known is None:
            known = ((identity(each), each) for each in reversed(self._paths))
            self._known = {found: each for found, each in known if found is not None}
        found = self._known.get(there)
        return None if found is None else Path(found)


def check_regular(path: PathLike, flag: str) -> None:
    """See that a path names a file or nothing yet: a pipe would be waited for, a device would be written to.

    Raises:
        InputError: It is a folder, a pipe or a device.
    """
    try:
        mode = os.stat(openable(path)).st_mode  # noqa: PTH116 - a path of any type
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode):
        raise InputError(
            f"{flag} {shown(path)} is a folder, a pipe or a device. Name a file.",
            code="output.not_file",
            flag=flag,
            path=shown(path),
        )


def check_written(inputs: Inputs, written: Mapping[str, PathLike]) -> None:
    """Check the files that a run writes beside its results, before it begins.

    Args:
        written: The flag that names each, and its path.

    Raises:
        InputError: One is no file, is an input, or two of them are one file.
    """
    before: Dict[str, PathLike] = {}
    for flag, path in written.items():
        check_regular(path, flag)
        found = inputs.at(path)
        if found is not None:
            raise InputError(
                f"{flag} {shown(path)} is the input {shown(found)}, which would be overwritten. Name another file.",
                code="output.is_input",
                flag=flag,
                path=shown(path),
                input=shown(found),
            )
        for other, there in before.items():
            if same_file(path, there):
                raise InputError(
                    f"{flag} and {other} name one file, {shown(path)}. Name two.",
                    code="output.twice",
                    flag=flag,
                    other=other,
                    path=shown(path),
                )
        before[flag] = path
