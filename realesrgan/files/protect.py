"""Nothing that a run reads is written to: paths compared by where they lead and by the identity of the file there.

Two paths lead to one file through links, through the case of letters, and as hard links. Needs the standard library
only.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Dict, Iterable, Mapping, Optional, Tuple

from ..errors import InputError
from .paths import PathLike, openable, real, shown

__all__ = ["Inputs", "check_regular", "check_written", "same_file"]

Identity = Tuple[int, int]


def _identity(path: PathLike) -> Optional[Identity]:
    """Device and number of the file that a path leads to; None if there is none."""
    try:
        status = os.stat(openable(path))  # noqa: PTH116 - a path of any type
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if status.st_ino else None


def same_file(first: PathLike, second: PathLike) -> bool:
    """Whether two paths name one file, through links and case; works for files that do not exist yet."""
    here, there = _identity(first), _identity(second)
    if here is not None and there is not None:
        return here == there
    return os.path.normcase(real(first)) == os.path.normcase(real(second))


class Inputs:
    """The files that a run reads. They are looked at when the first question comes that needs it."""

    def __init__(self, paths: Iterable[PathLike]) -> None:
        self._paths = [Path(path) for path in paths]
        self._known: Optional[Dict[Identity, Path]] = None

    def at(self, path: PathLike) -> Optional[Path]:
        """The input that would change if ``path`` was written to; None if there is none."""
        identity = _identity(path)
        if identity is None:  # nothing exists, so no input either
            return None
        if self._known is None:
            known = ((_identity(each), each) for each in reversed(self._paths))
            self._known = {found: each for found, each in known if found is not None}
        return self._known.get(identity)


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
