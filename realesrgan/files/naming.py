"""Which pictures to read and what their results are called. Needs the standard library only."""

from __future__ import annotations

import functools
import os
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple, Union

from ..errors import InputError, PictureError
from .paths import WINDOWS, Inputs, PathLike, is_reserved, openable, real, same_file, shown, utf16_units

__all__ = [
    "OUTPUT_FORMATS",
    "PICTURE_SUFFIXES",
    "WRITABLE",
    "Format",
    "Names",
    "OutputPlan",
    "Source",
    "choose_extension",
    "output_path",
    "plan_outputs",
    "possible_extensions",
    "results_among",
]

#: Suffix (lower case) of each format that can be written.
WRITABLE: Dict[str, str] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}


class Format(NamedTuple):
    """What a format that is written can contain.

    Attributes:
        deep: Whether it has 16 bit.
        side: Its largest side, in pixels.
        kinds: Of :meth:`realesrgan.files.Metadata.names`; the colour space is seen to by itself.
    """

    alpha: bool
    deep: bool
    side: int
    kinds: FrozenSet[str]


_SIDE = (1 << 31) - 1
_KINDS = frozenset(("ICC", "EXIF", "XMP", "dpi"))
OUTPUT_FORMATS = {
    "PNG": Format(True, True, _SIDE, _KINDS | {"comment", "text"}),
    "JPEG": Format(False, False, 65500, _KINDS | {"IPTC", "comment"}),  # libjpeg's own bound, a little below 65535
    "WEBP": Format(True, False, 16383, _KINDS),
    "TIFF": Format(True, True, _SIDE, _KINDS | {"IPTC"}),
    "BMP": Format(False, False, _SIDE, frozenset(("dpi",))),
}
#: Suffixes (lower case) by which a picture is recognised in a folder; its content decides how it is read.
PICTURE_SUFFIXES = frozenset(WRITABLE) | {".dib", ".gif", ".avif", ".heic", ".heif", ".tga", ".dds", ".hdr"}
PICTURE_SUFFIXES |= {".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k"}

_EXTENSIONS = {"png": ".png", "jpg": ".jpg", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tiff", "tif": ".tiff"}
_EXTENSIONS["bmp"] = ".bmp"
_LONGEST_NAME = 255
_MODES = ("L", "LA", "RGB", "RGBA")
_DEPTHS = (8, 16)


@dataclass(frozen=True, eq=False)
class Source:
    """A picture to read.

    Attributes:
        path: Where it lies.
        relative: Its path under the folder that was given, or its name alone: the tree that the results keep.
        target: Where its result goes, if the user has named that file.
    """

    path: Path
    relative: PurePath
    target: Optional[Path] = None

    # By their spelling: paths of Windows that differ in case are equal, and in some of its folders they are two files.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source) and self._spelling() == other._spelling()

    def __hash__(self) -> int:
        return hash(self._spelling())

    def _spelling(self) -> Tuple[str, str]:
        return str(self.path), str(self.relative)


def choose_extension(requested: str, source_path: PathLike, mode: str, depth: int) -> str:
    """The suffix of a result, with its dot.

    ``auto`` keeps the source's own suffix as it is spelled, with two exceptions: pictures with alpha become ``.png``
    (the original's rule), and so does what the source's format cannot contain or what cannot be written (GIF, AVIF).

    Args:
        requested: ``auto``, ``png``, ``jpg``, ``webp``, ``tiff`` or ``bmp``; with a leading dot or in capitals too.
        mode: ``L``, ``LA``, ``RGB`` or ``RGBA``.
        depth: 8 or 16.

    Raises:
        InputError: ``requested`` is none of those.
    """
    wish = requested.lower().lstrip(".")
    if wish in _EXTENSIONS:
        return _EXTENSIONS[wish]
    if wish != "auto":
        allowed = ("auto", "png", "jpg", "webp", "tiff", "bmp")
        raise InputError(
            f"Unknown output format '{requested}'. Allowed: {', '.join(allowed)}.",
            code="input.extension",
            value=requested,
            allowed=allowed,
        )
    suffix = PurePath(source_path).suffix
    kind = WRITABLE.get(suffix.lower())
    if kind is None or mode.endswith("A") or (depth > 8 and not OUTPUT_FORMATS[kind].deep):
        return ".png"
    return suffix


def possible_extensions(requested: str, source_path: PathLike) -> FrozenSet[str]:
    """Every suffix that :func:`choose_extension` may give a picture that is not read yet."""
    return _possible(requested, PurePath(source_path).suffix)


@functools.lru_cache(maxsize=256)
def _possible(requested: str, suffix: str) -> FrozenSet[str]:
    return frozenset(choose_extension(requested, "a" + suffix, mode, depth) for mode in _MODES for depth in _DEPTHS)


def output_path(source: Source, output_dir: PathLike, suffix: str, extension: str, *, windows: bool = WINDOWS) -> Path:
    """``<output_dir>/<the source's own tree>/<stem>_<suffix><extension>``, without ``_`` when the suffix is empty.

    A stem that Windows reserves (CON, NUL, COM1 ...) gets ``_`` appended where ``windows`` is true.

    Raises:
        InputError: The suffix contains a path separator or a character that no file name allows.
    """
    forbidden = set('/\\\0<>:"|?*')
    if forbidden & set(suffix):
        raise InputError(
            f"The suffix '{suffix}' cannot be part of a file name. Leave out / \\ < > : \" | ? *",
            code="input.suffix",
            value=suffix,
        )
    if source.target is not None:
        return Path(openable(source.target))
    name = _result_stem(source, suffix, windows) + extension
    below = os.path.split(str(source.relative))[0]
    return Path(openable(os.path.join(output_dir, below, name)))  # noqa: PTH118 - quicker, for a million names


def _result_stem(source: Source, suffix: str, windows: bool = WINDOWS) -> str:
    stem = source.relative.stem + (f"_{suffix}" if suffix else "")
    if windows and is_reserved(stem):
        head, dot, tail = stem.partition(".")
        stem = f"{head.rstrip(' ')}_{dot}{tail}"
    return stem


class Names:
    """What an :class:`OutputPlan` says of one source: small, so that it travels with the source to another process.

    Args:
        found: For each suffix that the result may have, its path, or why it is refused.
    """

    def __init__(self, found: Mapping[str, Union[Path, PictureError]]) -> None:
        self._found = dict(found)

    def path(self, extension: str) -> Path:
        """See :meth:`OutputPlan.path`."""
        found = self._found[extension]
        if isinstance(found, PictureError):
            raise found
        return found


class OutputPlan:
    """Who may write which name. Decided from the list of sources alone, so that a second run decides the same.

    A name belongs to the source that keeps its suffix (``a.png`` before ``a.jpg`` for ``a_out.png``), else to the
    first in the list; each other one is refused with an error naming both.

    Args:
        extension: As in :func:`choose_extension`.
        case_sensitive: Whether the output's file system tells ``a.png`` from ``A.png``; ``None``: find out.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        output_dir: PathLike,
        suffix: str = "out",
        extension: str = "auto",
        *,
        case_sensitive: Optional[bool] = None,
    ) -> None:
        self._output_dir = Path(output_dir)
        self._suffix = suffix
        self._extension = extension
        self._sensitive = _is_case_sensitive(self._output_dir) if case_sensitive is None else case_sensitive
        self._folders: Dict[str, str] = {}
        self._owners: Dict[str, Source] = {}
        self._sources = list(sources)
        self._inputs = {self._key(source.path): source for source in sources}
        self._files = Inputs(source.path for source in sources)
        wishes = [(source, choose_extension(extension, source.path, "RGB", 8)) for source in sources]
        # Those that keep their suffix come first: beside a.bmp, it is a.png that users expect to give a_out.png.
        for source, wish in sorted(wishes, key=lambda pair: pair[0].path.suffix != pair[1]):
            self._claim(source, wish)
        if extension.lower().lstrip(".") == "auto":
            # Alpha is known only once a picture is read; such a result goes to .png, so that name is kept for it.
            for source in sources:
                if WRITABLE.get(source.path.suffix.lower()) != "JPEG":
                    self._claim(source, ".png")

    def path(self, source: Source, extension: str) -> Path:
        """Where the result of ``source`` goes.

        Raises:
            PictureError: The name belongs to another source, is an input itself, or is too long for a file system.
        """
        target = output_path(source, self._output_dir, self._suffix, extension)
        key = self._key(target)
        owner = self._owners.setdefault(key, source)
        # Most often nothing is there, and one look says so: on a shared folder each is a message to its server.
        there = os.path.lexists(target)
        if there and owner == source and os.path.islink(target):  # noqa: PTH114 - Path raises for a too long name
            owner = self._owners.setdefault(self._key(Path(real(target))), source)
        if owner != source:
            reason = f"{shown(owner.path)} has the same result name; rename one of the two"
            raise _refusal(source, target, "picture.clash", reason, owner.path)
        named = self._inputs.get(key)
        overwritten = named.path if named is not None else self._files.at(target) if there else None
        if overwritten is not None:
            reason = f"the result would overwrite the input {shown(overwritten)}; give another folder or suffix"
            raise _refusal(source, target, "picture.overwrites", reason, overwritten)
        length = utf16_units(target.name) if WINDOWS else len(os.fsencode(target.name))
        if length > _LONGEST_NAME:
            reason = f"the result's name has {length} bytes, file systems take {_LONGEST_NAME}; shorten the name"
            raise _refusal(source, target, "picture.name_length", reason, target)
        return target

    def names(self, source: Source) -> Names:
        """All that :meth:`path` says of one source, decided now for each suffix that its result may have."""
        found: Dict[str, Union[Path, PictureError]] = {}
        for extension in sorted(possible_extensions(self._extension, source.path)):
            try:
                found[extension] = self.path(source, extension)
            except PictureError as error:
                found[extension] = error
        return Names(found)

    def clashes(self, extension: str) -> Dict[Source, PictureError]:
        """The sources that are refused if every result had ``extension``, in no time and without reading them."""
        found: Dict[Source, PictureError] = {}
        for source in self._sources:
            try:
                self.path(source, choose_extension(extension, source.path, "RGB", 8))
            except PictureError as error:
                found[source] = error
        return found

    def _claim(self, source: Source, extension: str) -> None:
        target = output_path(source, self._output_dir, self._suffix, extension)
        self._owners.setdefault(self._key(target), source)

    def _key(self, path: Path) -> str:
        head, name = os.path.split(path)
        text = unicodedata.normalize("NFC", os.path.join(self._folder(head), name))  # noqa: PTH118 - quicker
        return text if self._sensitive else text.casefold()

    def _folder(self, path: str) -> str:
        """A folder without links; of a deep tree each folder is looked at once."""
        missing: List[str] = []
        while path not in self._folders:
            head, name = os.path.split(path)
            if WINDOWS or not head or not name or name in (os.curdir, os.pardir):
                self._folders[path] = shown(real(path or os.curdir))
                break
            missing.append(path)
            path = head
        for path in reversed(missing):
            head, name = os.path.split(path)
            found = os.path.join(self._folders[head], name)  # noqa: PTH118
            self._folders[path] = real(found) if os.path.islink(found) else found  # noqa: PTH114
        return self._folders[path]


#: The plan under the name of a function, by which scripts call it.
plan_outputs = OutputPlan


def results_among(sources: Sequence[Source], output_dir: PathLike, suffix: str, extension: str) -> Set[Source]:
    """The sources that lie where the result of another one goes: a former run wrote into the folder that it read.

    Without a suffix results cannot be told from pictures, and nothing is found.
    """
    found: Set[Source] = set()
    if not suffix:
        return found
    named: Dict[str, List[Source]] = {}
    for source in sources:
        named.setdefault(source.path.name.casefold(), []).append(source)
    for source in sources:
        stem = _result_stem(source, suffix)
        for wish in possible_extensions(extension, source.path):
            for other in named.get((stem + wish).casefold(), ()):
                if other not in found and same_file(other.path, output_path(source, output_dir, suffix, wish)):
                    found.add(other)
    return found


def _refusal(source: Source, target: Path, code: str, reason: str, other: Path) -> PictureError:
    return PictureError(
        f"{shown(source.path)} is not written to {shown(target)}: {reason}.",
        code=code,
        path=shown(source.path),
        reason=reason,
        target=shown(target),
        other=shown(other),
    )


def _is_case_sensitive(folder: Path) -> bool:
    """Ask the file system: does the nearest existing folder answer to its name in the other case?"""
    for candidate in [folder.absolute(), *folder.absolute().parents]:
        swapped = candidate.with_name(candidate.name.swapcase()) if candidate.name else candidate
        if candidate.exists() and swapped != candidate:
            return not (swapped.exists() and same_file(candidate, swapped))
    return not (os.name == "nt" or sys.platform == "darwin")
