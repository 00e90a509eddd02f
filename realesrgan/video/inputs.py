"""What ``-i`` names: a video, a folder of frames or a folder of videos."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any, List, Optional, Tuple

from ..errors import InputError, notice
from ..files import listing
from ..files.naming import Source, output_path, same_file

__all__ = ["VIDEO_SUFFIXES", "Task", "find_tasks", "open_source"]

logger = logging.getLogger(__name__)

#: By which a video is recognised in a folder; a file that is named itself is taken whatever its suffix.
VIDEO_SUFFIXES = frozenset(
    "." + name
    for names in ("mp4 m4v mov mkv webm avi flv f4v wmv asf", "ts m2ts mts mpg mpeg vob ogv 3gp mxf")
    for name in names.split()
)
#: The original's rate for a folder of frames.
FOLDER_RATE = Fraction(24)


@dataclass(frozen=True)
class Task:
    """One video to make: of a file, or of the pictures of a folder."""

    path: Path
    pictures: Tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The result's name before its suffix."""
        return self.path.resolve().name if self.pictures else self.path.stem

    def target(self, output: Path, suffix: str, container: str) -> Path:
        """Where the result goes.

        Raises:
            InputError: It would overwrite the input, or the suffix cannot be part of a name.
        """
        stand_in = Source(self.path, PurePath(self.name + ".video"))
        target = output_path(stand_in, output, suffix, f".{container}")
        if same_file(self.path, target):
            raise InputError(
                f"The result would overwrite the input {self.path}: give another folder with -o, or a --suffix.",
                code="video.overwrites",
                path=str(self.path),
            )
        return target


def find_tasks(path: Path) -> List[Task]:
    """What there is to do, by name.

    Raises:
        InputError: There is no such file or folder, or nothing in it.
    """
    if not path.is_dir():
        if not path.exists():
            raise InputError(
                f"{str(path)!r} does not exist. Give a video, a folder of frames or a folder of videos with -i.",
                code="video.missing",
                path=str(path),
            )
        return [Task(path)]
    videos = sorted(
        entry for entry in path.iterdir() if entry.suffix.lower() in VIDEO_SUFFIXES and not entry.name.startswith(".")
    )
    pictures = [source.path for source in listing.list_pictures([path])]
    if videos and pictures:
        notice(
            logger,
            "video.mixed",
            f"{path} holds {len(videos)} videos and {len(pictures)} pictures: the videos are taken.",
            path=str(path),
            videos=len(videos),
            pictures=len(pictures),
        )
    if videos:
        return [Task(video) for video in videos]
    if pictures:
        return [Task(path, tuple(pictures))]
    raise InputError(
        f"There is neither a video nor a picture in the folder {path}.", code="video.empty_folder", path=str(path)
    )


def open_source(task: Task, fps: Optional[Fraction]) -> Any:
    """The frames of a task; a folder of pictures has the rate ``fps``.

    Raises:
        VideoError: It cannot be read.
    """
    if task.pictures:
        from .folder import FolderSource

        return FolderSource(task.path, task.pictures, fps or FOLDER_RATE)
    from .probe import probe
    from .source import VideoSource

    return VideoSource(probe(task.path))
