r"""Paths as Windows has them: device names, folders that cannot be resolved, more than 260 characters, stray quotes.

Needs the standard library only. What depends on Windows takes ``windows``, so that it can be tested anywhere.
"""

from __future__ import annotations

import ntpath
import os
import re
from typing import List, Optional, Sequence, Tuple, Union

__all__ = [
    "MAX_PATH",
    "WINDOWS",
    "PathLike",
    "is_reserved",
    "openable",
    "real",
    "reserved_part",
    "shown",
    "too_long",
    "unprefixed",
    "unquoted",
]

PathLike = Union[str, "os.PathLike[str]"]

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
    if _units(absolute) < _PREFIXED_FROM:
        return text
    return _UNC + absolute[2:] if absolute.startswith("\\\\") else _PREFIX + absolute


def shown(path: PathLike, *, windows: bool = WINDOWS) -> str:
    """The path as a user knows it, without the prefix that :func:`openable` gave it."""
    return unprefixed(os.fspath(path), windows=windows)[1]


def too_long(path: PathLike, *, windows: bool = WINDOWS) -> Optional[int]:
    """The length of a path in characters if it is more than Windows accepts without a prefix, else None."""
    if not windows:
        return None
    length = _units(ntpath.abspath(shown(path, windows=True)))
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


def _units(text: str) -> int:
    """Characters as Windows counts them: those outside the first 65,536 count twice."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
