"""Find the pictures that a user names: files, folders and glob patterns. Needs the standard library only."""

from __future__ import annotations

import glob
import os
from pathlib import Path, PurePath
from typing import Dict, Iterator, List, Sequence, Set, Tuple

from ..errors import InputError, one_line
from .naming import PICTURE_SUFFIXES, Source
from .paths import PathLike, openable, real, reserved_part, shown, unprefixed

__all__ = ["list_pictures", "refuse_device"]


def list_pictures(
    inputs: Sequence[PathLike], *, recursive: bool = False, exclude: Sequence[PathLike] = ()
) -> List[Source]:
    """The pictures behind ``inputs``, each once, in the order given; inside a folder or pattern sorted by code point.

    A file is accepted whatever its suffix. In folders and patterns only names with a picture suffix count, hidden names
    (leading dot, so also our own unfinished files) do not. Entries that cannot be read (a dangling or circular link,
    a folder named ``x.png``, a locked subfolder) are listed too, so that reading them names them.

    Args:
        recursive: Go into subfolders, through links too, each folder once.
        exclude: Folders below an input that are not read, such as the output folder.

    Raises:
        InputError: An input does not exist, matches nothing, or is a folder that cannot be opened.
    """
    skipped = {shown(real(folder)) for folder in exclude}
    found: List[Source] = []
    seen: Dict[str, List[str]] = {}
    for item in inputs:
        for source in _expand(os.fspath(item), recursive, skipped):
            spelled = os.path.normpath(source.path.absolute())
            others = seen.setdefault(os.path.normcase(spelled), [])
            if not any(_is_same(spelled, other) for other in others):
                others.append(spelled)
                found.append(source)
    return found


def _is_same(path: str, other: str) -> bool:
    """Whether two paths that differ at most in case are one; in a case-sensitive folder of Windows they are two."""
    try:
        return path == other or os.path.samefile(path, other)  # noqa: PTH121 - they are strings
    except OSError:  # unreadable: as the system usually has it
        return True


def _expand(item: str, recursive: bool, skipped: Set[str]) -> Iterator[Source]:
    refuse_device(item)
    try:
        path = Path(openable(item))
        if item and path.is_dir():
            yield from _walk(Path(item), recursive, skipped)
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


def _walk(root: Path, recursive: bool, skipped: Set[str]) -> Iterator[Source]:
    visited: Set[Tuple[int, int]] = set()
    pending = [root]
    sources: List[Source] = []

    def found(path: Path) -> None:
        sources.append(Source(Path(openable(path)), path.relative_to(root)))

    while pending:
        folder = pending.pop()
        try:
            status = Path(openable(folder)).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(openable(folder)), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            if folder == root:
                raise InputError(
                    f"The folder {root} cannot be opened: {one_line(error)}.",
                    code="input.unreadable",
                    path=root,
                    reason=error,
                ) from error
            found(folder)
            continue
        for entry in entries:
            path = folder / entry.name
            if recursive and _is_folder(entry):
                if not entry.name.startswith(".") and shown(real(entry.path)) not in skipped:
                    pending.append(path)
            elif _is_picture_name(entry.name):
                found(path)
    yield from sorted(sources, key=lambda source: source.relative.parts)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link
        return False
