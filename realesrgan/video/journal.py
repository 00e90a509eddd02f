"""What is finished: of a video a folder of segments and one line of JSON for each, of a folder of videos a list.

A segment counts once its line stands in the journal, and its line is written once its file is whole and on the disk. So
a run may die at any moment: the next one finds whole segments and computes the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from ..errors import notice, one_line
from ..files import atomic, jsonl
from .pyav import VideoError, disk_error

__all__ = ["Journal", "Ledger", "Segment"]

logger = logging.getLogger(__name__)

_NAME = "journal.jsonl"
_LEDGER = ".realesrgan-videos.jsonl"


@dataclass(frozen=True)
class Segment:
    """Finished frames.

    Attributes:
        first: Index of the first one in the video.
        pts: Their time stamps in the order of the packets.
        last: How many ticks the last one is shown.
        size: Bytes of the file.
        anchor: Time stamp and checksum of the last input frame, to find the place again; None if it had no time stamp.
        repeated: How many were the same picture as the one before, and not computed again.
        concealed: Index, time stamp and kind of those that are not the input's own picture.
    """

    first: int
    pts: List[int]
    last: int
    size: int
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


class Journal:
    """The journal in ``folder``, which is made if need be.

    Args:
        identity: Name -> what the frames depend on: the input, the model, the encoder. Plain values.
        restart: Throw away what another run left.

    Raises:
        VideoError: What is there was made from another input or with other options, or cannot be read.
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
        if lines:
            self._compare(lines[0].get("identity", {}), identity)
            for line in lines[1:]:
                self._take(line)
        for leftover in folder.glob("*.partial"):
            with contextlib.suppress(OSError):  # a scanner may hold it; it is written anew anyway
                leftover.unlink()
        # A torn last line, of a run that died while writing it, goes.
        self._rewrite(identity)

    @property
    def path(self) -> Path:
        return self.folder / _NAME

    def _read(self) -> List[Dict[str, Any]]:
        lines: List[Dict[str, Any]] = []
        try:
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
                f"{self.folder} holds the unfinished result of a run with another {', '.join(other)}. Start with the "
                "same options to go on, or with --restart to throw it away.",
                code="video.other",
                folder=str(self.folder),
                names=tuple(other),
            )

    def _take(self, line: Mapping[str, Any]) -> None:
        if "total" in line:
            self.total = line["total"]
            return
        try:
            anchor = line["anchor"] and (line["anchor"][0], line["anchor"][1])
            concealed = [(entry[0], entry[1], entry[2]) for entry in line["concealed"]]
            segment = Segment(**{**line, "anchor": anchor, "concealed": concealed})
            whole = (self.folder / segment.name).stat().st_size == segment.size
        except (KeyError, TypeError, IndexError, OSError):
            whole = False
        if not whole:
            notice(
                logger,
                "video.segment",
                f"A finished segment ({line.get('first')}) is missing or damaged: it is computed again.",
                first=line.get("first"),
            )
            return
        self.segments.append(segment)

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
        """Whether every frame of the input is there."""
        ordered = self.ordered()
        return self.total is not None and (ordered[-1].end if ordered else 0) == self.total

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


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
        """Whether ``target`` is there as it was made from this input with these options."""
        try:
            return _entry(target, identity) in jsonl.read(self._path)
        except OSError:
            return False

    def add(self, target: Path, identity: Mapping[str, Any]) -> None:
        """Note that ``target`` is done."""
        try:
            with jsonl.LineWriter(self._path) as file:
                file.write(_entry(target, identity))
        except OSError as error:
            logger.debug("%s cannot be written: %s", self._path, error)


def _entry(target: Path, identity: Mapping[str, Any]) -> Dict[str, Any]:
    text = json.dumps(identity, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"output": target.name, "size": target.stat().st_size, "identity": digest}
