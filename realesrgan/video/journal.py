"""What is finished: of a video a folder of segments and one line of JSON for each, of a folder of videos a list.

A segment counts once its line is in the journal, and its line is written once its file is whole and on the disk. So
a run may die at any moment: the next one finds whole segments and computes the rest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Pattern, Sequence, Set, Tuple

from ..errors import notice, one_line
from ..files import atomic, jsonl
from .pyav import VideoError, disk_error

__all__ = ["ELSEWHERE", "Journal", "Ledger", "Lock", "Segment", "crc_of"]

logger = logging.getLogger(__name__)

_NAME = "journal.jsonl"
_LEDGER = ".realesrgan-videos.jsonl"
#: Files that a run leaves in the folder of its segments.
_OURS = re.compile(r"journal\.jsonl(\.new)?|\d{8,}\.nut|template\.mov|.+\.partial")
#: A folder in it where another machine writes segments, and what it leaves there.
ELSEWHERE = "actor-{}.partial"
_ELSEWHERE = re.compile(r"actor-[0-9a-f]{32}\.partial")
_SEGMENTS = re.compile(r"\d{8,}\.nut(\.partial)?")
_LARGEST = 1 << 62
#: Which byte of a lock file is locked where bytes are: none that contains the process id, which others read.
_LOCKED_BYTE = 1 << 20


@dataclass(frozen=True)
class Segment:
    """Finished frames.

    Attributes:
        first: Index of the first one in the video.
        pts: Their time stamps in the order of the packets.
        last: How many ticks the last one is shown.
        size, crc: Bytes of the file, and their CRC-32.
        anchor: Time stamp and checksum of the last input frame, to find the place again; None if it had no time stamp.
        repeated: How many were the same picture as the one before, and not computed again.
        concealed: Index, time stamp and kind of those that are not the input's own picture.
    """

    first: int
    pts: List[int]
    last: int
    size: int
    crc: int
    anchor: Optional[Tuple[int, int]]
    repeated: int
    concealed: List[Tuple[int, int, str]]

    @property
    def name(self) -> str:
        return f"{self.first:08d}.nut"

    @property
    def end(self) -> int:
        """Index of the frame after the last one."""
        return self.first + len(self.pts)

    @classmethod
    def from_mapping(cls, line: Mapping[str, Any]) -> Segment:
        """A segment from a parsed line.

        Raises:
            ValueError: Something is missing, or is not what this class contains.
        """
        try:
            whole = [line[name] for name in ("first", "last", "size", "crc", "repeated")]
            anchor = None if line["anchor"] is None else tuple(line["anchor"])
            concealed = [tuple(entry) for entry in line["concealed"]]
            segment = cls(**{**line, "anchor": anchor, "concealed": concealed})
        except (KeyError, TypeError) as error:
            raise ValueError(f"no segment: {error}") from error
        fits = (
            all(_is_whole(number) and number >= 0 for number in whole)
            and isinstance(segment.pts, list)
            and 0 < len(set(filter(_is_whole, segment.pts))) == len(segment.pts)
            and (segment.anchor is None or (len(segment.anchor) == 2 and all(map(_is_whole, segment.anchor))))
            and all(
                len(entry) == 3 and _is_whole(entry[0]) and _is_whole(entry[1]) and isinstance(entry[2], str)
                for entry in segment.concealed
            )
        )
        if not fits:
            raise ValueError("no segment: a value is of another kind")
        return segment


def _is_whole(value: Any) -> bool:
    """Whether a parsed value is a number that fits into 63 bits, as time stamps do."""
    return isinstance(value, int) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def crc_of(path: Path) -> int:
    """The CRC-32 of a file.

    Raises:
        OSError: It cannot be read.
    """
    value = 0
    with path.open("rb") as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return value
            value = zlib.crc32(block, value)


class Lock:
    """Keeps other runs away from one result, as long as the block lasts or the process lives.

    The file ``.<result>.lock`` contains the process id. The system frees the lock when the process ends.

    Raises:
        VideoError: Another process has it.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._path = target.with_name(f".{target.name}.lock")
        self._file: Any = None

    def __enter__(self) -> Lock:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            while self._file is None:
                self._file = self._take()
        except OSError as error:
            raise disk_error(error, self._path) or _unwritable(self._path, error) from error
        return self

    def _take(self) -> Any:
        """The open and locked file; None if another run removed it at this very moment."""
        file = self._path.open("a+b", buffering=0)
        try:
            lock(file.fileno())
            if not _is_at(self._path, file.fileno()):
                file.close()
                return None
            file.truncate(0)
            file.write(b"%d\n" % os.getpid())
            return file
        except BlockingIOError:
            file.seek(0)
            owner = file.read(20).decode("ascii", "replace").strip()
            file.close()
            raise VideoError(
                f"{self._target} is being made by another run (process {owner}). Wait for it or stop it, or give "
                "another folder with -o.",
                code="video.locked",
                path=str(self._target),
                process=owner,
            ) from None
        except BaseException:
            file.close()
            raise

    def __exit__(self, *exc: object) -> None:
        # Windows does not delete an open file, and elsewhere no other run may lock a file that is about to go.
        with contextlib.suppress(OSError):
            if os.name != "nt":
                self._path.unlink()
        self._file.close()
        with contextlib.suppress(OSError):
            if os.name == "nt":
                self._path.unlink()


def lock(descriptor: int) -> None:
    """Lock an open file for this process; does nothing on file systems without locks.

    Raises:
        BlockingIOError: Another process has it.
    """
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[attr-defined,unused-ignore]
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise BlockingIOError(error.errno, "locked") from error
        logger.debug("this file system has no locks: %s", error)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one that a path names."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


class Journal:
    """The journal in ``folder``, which is made if need be.

    Args:
        identity: Name -> what the frames depend on: the input, the model, the encoder. Plain values.
        restart: Throw away what another run left.

    Raises:
        VideoError: The unfinished result was made from another input or with other options, or cannot be read.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, restart: bool = False) -> None:
        self.folder = folder
        self.segments: List[Segment] = []
        self.total: Optional[int] = None
        if restart and folder.is_dir():
            self.remove()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, folder) or _unwritable(folder, error) from error
        identity = json.loads(json.dumps(identity))
        lines = self._read()
        if lines and not isinstance(lines[0].get("identity"), dict):
            self._begin_again()
        elif lines:
            self._compare(lines[0]["identity"], identity)
            self._take(lines[1:])
        self._remove_elsewhere()
        for leftover in folder.glob("*.partial"):
            with contextlib.suppress(OSError):  # a scanner may hold it; it is written again anyway
                leftover.unlink()
        # A torn last line, of a run that died while writing it, goes.
        self._rewrite(identity)

    @property
    def path(self) -> Path:
        return self.folder / _NAME

    def _read(self) -> List[Dict[str, Any]]:
        lines: List[Dict[str, Any]] = []
        try:
            if self.path.exists() and not self.path.is_file():
                raise OSError(errno.EINVAL, "it is no file")
            for line in jsonl.read(self.path):
                if line is None:
                    break
                lines.append(line)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _unwritable(self.path, error) from error
        return lines

    def _compare(self, former: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        other = sorted(key for key in {*former, *now} if former.get(key) != now.get(key))
        if other:
            raise VideoError(
                f"{self.folder} contains the unfinished result of a run with another {', '.join(other)}. Start with "
                "the same options to go on, or with --restart to throw it away.",
                code="video.other",
                folder=str(self.folder),
                names=tuple(other),
            )

    def _take(self, lines: Sequence[Mapping[str, Any]]) -> None:
        totals = [line["total"] for line in lines if "total" in line]
        found = [self._segment(line) for line in lines if "total" not in line]
        segments = sorted((each for each in found if each is not None), key=lambda each: each.first)
        neighbours = list(zip(segments, segments[1:]))
        consistent = (
            all(_is_whole(total) and total > 0 and total == totals[0] for total in totals)
            and all(before.end <= after.first for before, after in neighbours)
            and all(max(before.pts) < min(after.pts) for before, after in neighbours)
            and not (totals and segments and segments[-1].end > totals[0])
        )
        if not consistent:
            self._begin_again()
            return
        self.total = totals[0] if totals else None
        self.segments = [segment for segment in segments if self._is_intact(segment)]

    @staticmethod
    def _segment(line: Mapping[str, Any]) -> Optional[Segment]:
        try:
            return Segment.from_mapping(line)
        except ValueError as error:
            logger.debug("a line of the journal is skipped: %s", error)
            _say_damaged(line.get("first"))
            return None

    def _is_intact(self, segment: Segment) -> bool:
        path = self.folder / segment.name
        try:
            if path.is_file() and path.stat().st_size == segment.size and crc_of(path) == segment.crc:
                return True
        except OSError as error:
            logger.debug("%s: %s", path, error)
        _say_damaged(segment.first)
        return False

    def _begin_again(self) -> None:
        notice(
            logger,
            "video.contradiction",
            f"The journal of the unfinished result in {self.folder} contradicts itself: the video is begun again.",
            folder=str(self.folder),
        )
        self.remove()
        self.folder.mkdir(parents=True, exist_ok=True)

    def _rewrite(self, identity: Mapping[str, Any]) -> None:
        lines: List[Mapping[str, Any]] = [{"identity": identity}, *map(asdict, self.segments)]
        if self.total is not None:
            lines.append({"total": self.total})
        fresh = self.path.with_name(_NAME + ".new")
        try:
            self._write(fresh, lines, append=False)
            atomic.replace(fresh, self.path)
        except OSError as error:
            raise disk_error(error, self.path) or _unwritable(self.path, error) from error

    @staticmethod
    def _write(path: Path, lines: List[Mapping[str, Any]], *, append: bool) -> None:
        with jsonl.LineWriter(path, append=append) as file:
            for line in lines:
                file.write(line)
            file.sync()

    def add(self, segment: Segment) -> None:
        """Note a segment whose file is on the disk."""
        self._append(asdict(segment))
        self.segments.append(segment)

    def end(self, total: int) -> None:
        """Note that the input has ``total`` frames and no more."""
        self._append({"total": total})
        self.total = total

    def _append(self, line: Mapping[str, Any]) -> None:
        try:
            self._write(self.path, [line], append=True)
        except OSError as error:
            raise disk_error(error, self.path) or _unwritable(self.path, error) from error

    def done(self) -> Set[int]:
        """The indices of the finished frames."""
        return {index for segment in self.segments for index in range(segment.first, segment.end)}

    def ordered(self) -> List[Segment]:
        """The segments from the first frame on, without a gap."""
        found: List[Segment] = []
        for segment in sorted(self.segments, key=lambda segment: segment.first):
            if segment.first != (found[-1].end if found else 0):
                break
            found.append(segment)
        return found

    @property
    def is_whole(self) -> bool:
        """Whether it has every frame of the input."""
        ordered = self.ordered()
        return self.total is not None and (ordered[-1].end if ordered else 0) == self.total

    def remove(self) -> None:
        """Delete what a journal and its segments are, and the folder if nothing else is in it."""
        self._remove_elsewhere()
        _remove_matching(self.folder, _OURS)

    def _remove_elsewhere(self) -> None:
        """Delete what other machines left of their segments."""
        with contextlib.suppress(OSError):
            for folder in self.folder.iterdir():
                if _ELSEWHERE.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                    _remove_matching(folder, _SEGMENTS)


def _remove_matching(folder: Path, ours: Pattern[str]) -> None:
    """Delete the files with such names, and the folder if nothing else is in it."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if ours.fullmatch(path.name) and not path.is_dir():
                with contextlib.suppress(OSError):
                    path.unlink()
        folder.rmdir()


def _say_damaged(first: Any) -> None:
    notice(
        logger,
        "video.segment",
        f"A finished segment ({first}) is missing or damaged: it is computed again.",
        first=first,
    )


def _unwritable(path: Path, error: OSError) -> VideoError:
    return VideoError(
        f"{path} cannot be written: {one_line(error)}.",
        code="video.unwritable",
        path=str(path),
        reason=error,
    )


class Ledger:
    """Which videos of a folder are done, so that a second run leaves them out: a file in the output folder.

    It is a convenience: where it cannot be read or written, videos are made again.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _LEDGER

    def has(self, target: Path, identity: Mapping[str, Any]) -> bool:
        """Whether ``target`` exists as it was made from this input with these options."""
        try:
            return self._path.is_file() and _entry(target, identity) in jsonl.read(self._path)
        except OSError:
            return False

    def add(self, target: Path, identity: Mapping[str, Any]) -> None:
        """Note that ``target`` is done."""
        try:
            if self._path.is_file() or not self._path.exists():
                with jsonl.LineWriter(self._path) as file:
                    file.write(_entry(target, identity))
        except OSError as error:
            logger.debug("%s cannot be written: %s", self._path, error)


def _entry(target: Path, identity: Mapping[str, Any]) -> Dict[str, Any]:
    text = json.dumps(identity, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"output": target.name, "size": target.stat().st_size, "identity": digest}
