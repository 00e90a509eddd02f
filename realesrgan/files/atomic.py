"""Write a file whole or not at all. Needs the standard library only."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from pathlib import Path
from typing import BinaryIO, Callable, List, TypeVar

from .paths import MAX_PATH, PathLike, openable, real, reserved_part

__all__ = [
    "PARTIAL_SUFFIX",
    "HeldOpen",
    "ReadOnly",
    "check_replaceable",
    "patiently",
    "remove_leftovers",
    "replace",
    "write_atomically",
]

_T = TypeVar("_T")

#: The suffix of an unfinished file; its name is ``.<start of the target's name>.<16 hex digits>.partial``.
PARTIAL_SUFFIX = ".partial"
#: Seconds for which a replacement is tried again while the target is held open by a viewer or a virus scanner.
RETRY_SECONDS = 2.0
_RETRY_PAUSE = 0.05
_WINDOWS = os.name == "nt"
_DIGITS = 16
#: Most characters of the target's name in that of the unfinished file.
_START = 24


class HeldOpen(PermissionError):
    """Another program holds the target open, and the system does not let it be replaced."""


class ReadOnly(PermissionError):
    """The target is marked as read-only, and the system does not let it be replaced."""


def write_atomically(path: PathLike, produce: Callable[[BinaryIO], object]) -> None:
    """Let ``produce`` write to (and read) a file beside ``path``, then put that file in its place in one step.

    If anything fails, ``path`` keeps its old content and the unfinished file is removed. A link is followed: what it
    points to is replaced. Missing folders are made.

    Raises:
        OSError: The disk's own error, HeldOpen or ReadOnly. Whatever ``produce`` raises comes through.
    """
    reserved = reserved_part(path)
    if reserved is not None:
        raise OSError(errno.EINVAL, f"Windows reserves the name {reserved} for a device; choose another", str(path))
    target = Path(openable(real(openable(path))))
    if target.is_symlink():  # what cannot be resolved further
        raise OSError(errno.ELOOP, "its links lead in a circle", str(target))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder has this name", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial_path(target)
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(partial, flags, 0o666)
    try:
        with os.fdopen(descriptor, "w+b") as stream:
            produce(stream)
            stream.flush()
            _sync(stream.fileno())
        replace(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _partial_path(target: Path) -> Path:
    """A new name beside ``target`` for what is unfinished, which :func:`remove_leftovers` knows.

    Near the longest path that Windows accepts it is no longer than the target's.
    """
    tail = f".{secrets.token_hex(_DIGITS // 2)}{PARTIAL_SUFFIX}"
    start = _START
    if len(str(target.parent)) + 2 + start + len(tail) > MAX_PATH:
        start = max(0, min(start, len(target.name) - len(tail) - 1))
    return target.with_name(f".{target.name[:start]}{tail}")


def replace(source: PathLike, target: PathLike) -> None:
    """:func:`os.replace`, tried again for two seconds while a scanner, an indexer or a viewer holds a file open.

    Raises:
        HeldOpen: Another program still holds the target open.
        ReadOnly: The target is marked as read-only (Windows; elsewhere that does not matter).
        OSError: The system's own error.
    """
    deadline = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError as error:
            if _is_read_only(target):
                raise ReadOnly(errno.EACCES, "the file is read-only", str(target)) from error
            if time.monotonic() >= deadline:
                # Elsewhere an open file can be replaced; without a target it is the folder that gives no permission.
                if not (_WINDOWS and os.path.exists(target)):  # noqa: PTH110 - accepts any kind of path
                    raise
                raise HeldOpen(errno.EACCES, "another program holds the file open", str(target)) from error
            time.sleep(_RETRY_PAUSE)


def patiently(action: Callable[[], _T]) -> _T:
    """What ``action`` gives; on Windows tried again for two seconds while another program holds its file open.

    Raises:
        PermissionError: It still does, or there is no permission. Whatever else ``action`` raises comes through.
    """
    deadline = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return action()
        except PermissionError:
            if not _WINDOWS or time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_PAUSE)


def check_replaceable(target: PathLike) -> None:
    """See whether an existing file could be replaced now, without changing it; a missing one can.

    Only Windows refuses to replace a file that is open or read-only. A program that opens it later is not foreseen.

    Raises:
        HeldOpen: Another program holds it open.
        ReadOnly: It is marked as read-only.
    """
    if not _WINDOWS or not os.path.isfile(target):  # noqa: PTH113 - accepts any kind of path
        return
    if _is_read_only(target):
        raise ReadOnly(errno.EACCES, "the file is read-only", str(target))
    try:
        # To its own name: Windows asks for the same right to delete as a replacement does.
        os.rename(target, target)  # noqa: PTH104
    except PermissionError as error:
        raise HeldOpen(errno.EACCES, "another program holds the file open", str(target)) from error
    except OSError:
        return


def _is_read_only(path: PathLike) -> bool:
    try:
        return _WINDOWS and not os.stat(path).st_mode & stat.S_IWRITE  # noqa: PTH116 - accepts any kind of path
    except OSError:
        return False


def remove_leftovers(
    folder: PathLike, *, older_than: float = 3600.0, refuse: Callable[[Path], object] = lambda path: None
) -> List[Path]:
    """Remove unfinished files that a killed run left in ``folder`` (not below it).

    Args:
        older_than: Seconds since the last change; younger ones may belong to a run that still goes on.
        refuse: Raises OSError for a file that is to stay.

    Returns:
        What was removed.
    """
    removed = []
    now = time.time()
    for path in sorted(Path(folder).glob(".*" + PARTIAL_SUFFIX)):
        digits = path.name.split(".")[-2]
        if len(digits) != _DIGITS or set(digits) - set("0123456789abcdef"):
            continue
        try:
            if now - path.stat().st_mtime >= older_than:
                refuse(path)
                path.unlink()
                removed.append(path)
        except OSError:
            continue
    return removed


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems have no such call; a full disk (ENOSPC, EDQUOT, EIO) is a real error.
        if error.errno not in (errno.EINVAL, errno.ENOSYS, getattr(errno, "ENOTSUP", errno.EINVAL)):
            raise
