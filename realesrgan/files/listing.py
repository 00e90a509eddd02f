"""Find the pictures that a user names: files, folders and glob patterns. Needs the standard library only."""

from __future__ import annotations

import glob
import logging
import os
import re
import time
from pathlib import Path, PurePath
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple

from ..errors import InputError, notice, one_line
from .naming import PICTURE_SUFFIXES, Source
from .paths import Identity, PathLike, identity, openable, reserved_part, shown, unprefixed

__all__ = ["list_pictures", "refuse_device"]

_log = logging.getLogger(__name__)
#: Seconds without a word about a large folder.
_SILENT = 2.0
_OF_THE_SYSTEM = {"thumbs.db", "desktop.ini"}


def list_pictures(
    inputs: Sequence[PathLike],
    *,
    recursive: bool = False,
    exclude: Sequence[PathLike] = (),
    others: Optional[Dict[str, int]] = None,
) -> List[Source]:
    """The pictures behind ``inputs``, each once, in the order given; inside a folder or pattern sorted by code point.

    A file is accepted whatever its suffix. In folders and patterns only names with a picture suffix count, hidden names
    (leading dot, so also our own unfinished files) do not. Entries that cannot be read (a dangling or circular link,
    a folder named ``x.png``, a locked subfolder) are listed too, so that reading them names them.

    Args:
        recursive: Go into subfolders, through links too, each folder once.
        exclude: Folders below an input that are not read, such as the output folder.
        others: Where the files of folders that are no pictures are counted, by suffix in lower case.

    Raises:
        InputError: An input does not exist, matches nothing, or is a folder that cannot be opened.
    """
    skipped = set(filter(None, map(identity, exclude)))
    counted: Dict[str, int] = {} if others is None else others
    found: List[Source] = []
    seen: Dict[str, List[str]] = {}
    for item in inputs:
        for source in _expand(os.fspath(item), recursive, skipped, counted):
            spelled = os.path.normpath(source.path.absolute())
            alike = seen.setdefault(os.path.normcase(spelled), [])
            if not any(_is_same(spelled, other) for other in alike):
                alike.append(spelled)
                found.append(source)
    return found


def _is_same(path: str, other: str) -> bool:
    """Whether two paths that differ at most in case are one; in a case-sensitive folder of Windows they are two."""
    try:
        return path == other or os.path.samefile(path, other)  # noqa: PTH121 - they are strings
    except OSError:  # unreadable: as the system usually has it
        return True


def _expand(item: str, recursive: bool, skipped: Set[Identity], others: Dict[str, int]) -> Iterator[Source]:
    refuse_device(item)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", item):
        raise InputError(
            f"{item} is an address. Download the file first, then give its name: a picture with -i, a video to "
            "realesrgan video -i.",
            code="input.address",
            path=item,
        )
    try:
        path = Path(openable(item))
        if item and path.is_dir():
            yield from _walk(Path(item), recursive, skipped, others)
            return
        if item and os.path.lexists(path):
            yield Source(path, PurePath(path.name))
            return
    except OSError as error:
        raise InputError(f"{item}: {one_line(error)}.", code="input.unreadable", path=item, reason=error) from error
    except ValueError as error:  # a NUL character
        raise InputError(f"{item} is not a path.", code="input.path", path=item) from error
    is_pattern = glob.has_magic(unprefixed(item)[1])
    matches = sorted(_matches(item), key=lambda source: source.relative.parts) if is_pattern else []
    if not matches:
        if is_pattern:
            raise InputError(
                f"'{item}' matches no picture. Give a picture, a folder or a pattern such as 'photos/*.jpg'.",
                code="input.no_match",
                path=item,
            )
        raise InputError(
            f"'{item}' does not exist. Give a picture, a folder or a pattern such as 'photos/*.jpg'.",
            code="input.missing",
            path=item,
        )
    yield from matches


def refuse_device(path: PathLike) -> None:
    """See that a path names no device of Windows.

    Raises:
        InputError: It does (``CON``, ``aux.png``), and is no file. Windows 11 keeps only the bare names for devices.
    """
    reserved = reserved_part(path)
    if reserved is None:
        return
    try:
        if Path(path).is_file():
            return
    except (OSError, ValueError):
        pass
    raise InputError(
        f"{path}: Windows reserves the name {reserved} for a device. Give a file or a folder of another name.",
        code="input.reserved",
        path=path,
        name=reserved,
    )


def _matches(pattern: str) -> Iterator[Source]:
    pattern = unprefixed(pattern)[1]  # glob would see the prefix's question mark
    parts = PurePath(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = PurePath(*parts[:fixed])
    for match in glob.glob(pattern, recursive=True):  # noqa: PTH207 - Path.glob accepts no absolute pattern
        path = Path(openable(match))
        if _is_picture_name(path.name):
            yield Source(path, PurePath(match).relative_to(root))


def _is_picture_name(name: str) -> bool:
    return not name.startswith(".") and PurePath(name).suffix.lower() in PICTURE_SUFFIXES


def _walk(root: Path, recursive: bool, skipped: Set[Identity], others: Dict[str, int]) -> Iterator[Source]:
    visited: Set[Identity] = set()
    # Folders below the root as the names on the way to them.
    pending: List[Tuple[str, ...]] = [()]
    found: List[Tuple[str, ...]] = []
    said = time.monotonic() + _SILENT
    while pending:
        below = pending.pop()
        folder = openable(os.path.join(root, *below))  # noqa: PTH118 - quicker than pathlib, for deep trees
        if time.monotonic() > said:
            said = time.monotonic() + 5 * _SILENT
            text = f"Looking for pictures in {shown(root)}: {len(found)} so far, {len(visited)} folders."
            notice(_log, "input.listing", text, path=shown(root), count=len(found), folders=len(visited))
        try:
            status = os.stat(folder)  # noqa: PTH116
            here = (status.st_dev, status.st_ino)
            if here in visited or (below and here in skipped):
                continue
            visited.add(here)
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            if not below:
                raise InputError(
                    f"The folder {root} cannot be opened: {one_line(error)}.",
                    code="input.unreadable",
                    path=root,
                    reason=error,
                ) from error
            found.append(below)
            continue
        for entry in entries:
            hidden = entry.name.startswith(".")
            if _is_folder(entry) and (recursive or not _is_picture_name(entry.name)):
                if recursive and not hidden:
                    pending.append((*below, entry.name))
            elif _is_picture_name(entry.name):
                found.append((*below, entry.name))
            elif not hidden and entry.name.lower() not in _OF_THE_SYSTEM:
                kind = PurePath(entry.name).suffix.lower()
                others[kind] = others.get(kind, 0) + 1
    for names in sorted(found):
        path = os.path.join(root, *names)  # noqa: PTH118
        yield Source(Path(openable(path)), PurePath(*names))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link
        return False
