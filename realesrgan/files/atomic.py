"""Write a file whole or not at all. Needs the standard library only."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from pathlib import Path
from typing import BinaryIO, Callable, List

from .naming import PathLike

__all__ = ["PARTIAL_SUFFIX", "remove_leftovers", "write_atomically"]

#: The suffix of an unfinished file; its name is ``.<start of the target's name>.<16 hex digits>.partial``.
PARTIAL_SUFFIX = ".partial"
#: Seconds for which a replacement is tried again while the target is held open by a viewer or a virus scanner.
RETRY_SECONDS = 2.0
_RETRY_PAUSE = 0.05


def write_atomically(path: PathLike, produce: Callable[[BinaryIO], object]) -> None:
    """Let ``produce`` write to a file beside ``path``, then put that file in its place in one step.

    If anything fails, ``path`` keeps its old content and the unfinished file is removed. A link is followed: what it
    points to is replaced. Missing folders are made.

    Raises:
        OSError: The disk's own error. Whatever ``produce`` raises comes through.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink():  # what cannot be resolved further
        raise OSError(errno.ELOOP, "its links lead in a circle", str(target))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder has this name", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name[:24]}.{secrets.token_hex(8)}{PARTIAL_SUFFIX}")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(partial, flags, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            produce(stream)
            stream.flush()
            _sync(stream.fileno())
        _replace(partial, target)
    except BaseException:
        _unlink(partial)
        raise


def remove_leftovers(folder: PathLike, *, older_than: float = 3600.0) -> List[Path]:
    """Remove unfinished files that a killed run left in ``folder`` (not below it).

    Args:
        older_than: Seconds since the last change; younger ones may belong to a run that still goes on.

    Returns:
        What was removed.
    """
    removed = []
    now = time.time()
    for path in sorted(Path(folder).glob(".*" + PARTIAL_SUFFIX)):
        pieces = path.name.split(".")
        if len(pieces[-2]) != 16 or set(pieces[-2]) - set("0123456789abcdef"):
            continue
        try:
            if now - path.stat().st_mtime >= older_than:
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


def _replace(partial: Path, target: Path) -> None:
    deadline = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            os.replace(partial, target)
            return
        except PermissionError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_PAUSE)


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
