"""What ``-i`` names: a video, an animated picture, a folder of frames or a folder of videos; and where results go."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any, List, Optional, Sequence, Tuple

from ..errors import InputError, notice
from ..files import listing
from ..files.naming import Source, output_path
from ..files.paths import Inputs, openable, real, shown
from .animation import AnimationSource, is_animation
from .probe import probe
from .source import FolderSource, VideoSource

__all__ = [
    "VIDEO_SUFFIXES",
    "Task",
    "find_tasks",
    "open_source",
    "part_path",
    "parts_folder",
    "refuse_input",
    "without_results",
]

logger = logging.getLogger(__name__)

#: By which a video is recognised in a folder; a file that is named itself is accepted whatever its suffix.
VIDEO_SUFFIXES = frozenset(
    "." + name
    for names in ("mp4 m4v mov mkv webm avi flv f4v wmv asf", "ts m2ts mts mpg mpeg vob ogv 3gp mxf")
    for name in names.split()
)
#: The original's rate for a folder of frames.
FOLDER_RATE = Fraction(24)
#: Pictures in a folder that are looked into: animated ones are videos, the others frames.
_ANIMATED_SUFFIXES = (".gif", ".webp", ".apng")


@dataclass(frozen=True)
class Task:
    """One video to make: of a file, or of the pictures of a folder. ``result`` is its file where that was named."""

    path: Path
    pictures: Tuple[Path, ...] = ()
    result: Optional[Path] = None

    @property
    def name(self) -> str:
        """The result's name before its suffix."""
        return Path(real(self.path)).name if self.pictures else self.path.stem

    def target(self, output: Path, suffix: str, container: str, inputs: Optional[Inputs] = None) -> Path:
        """Where the result goes.

        Args:
            inputs: Everything that the run reads; by default this video alone.

        Raises:
            InputError: It, or what is written beside it, would overwrite an input, the suffix cannot be part of a
                name, or Windows reserves a name.
        """
        listing.refuse_device(output)
        stand_in = Source(self.path, PurePath(self.name + ".video"), target=self.result)
        target = output_path(stand_in, output, suffix, f".{container}")
        inputs = inputs or Inputs(self.read())
        for path in (target, part_path(target)):
            refuse_input(inputs, path)
        if any(real(parts_folder(target)) == real(path.parent) for path in self.read()):
            raise _overwrites(self.path)
        return target

    def read(self) -> List[Path]:
        """The files that are read."""
        return list(self.pictures) or [self.path]


def parts_folder(target: Path) -> Path:
    """Where the segments of a result are kept until it is whole."""
    return target.with_name(f".{target.name}.parts")


def part_path(target: Path) -> Path:
    """Where the playable part of an unfinished result goes."""
    return target.with_name(f"{target.stem}.part{target.suffix}")


def refuse_input(inputs: Inputs, path: Path) -> None:
    """See that what is written to ``path`` changes no input.

    Raises:
        InputError: It would.
    """
    found = inputs.at(path)
    if found is not None:
        raise _overwrites(found)


def _overwrites(path: Path) -> InputError:
    return InputError(
        f"The result would overwrite the input {shown(path)}: give another folder with -o, or a --suffix.",
        code="video.overwrites",
        path=shown(path),
    )


def find_tasks(path: Path) -> List[Task]:
    """What there is to do, by name.

    Raises:
        InputError: There is no such file or folder, or nothing in it.
    """
    listing.refuse_device(path)
    path = Path(openable(path))
    if not path.is_dir():
        if not path.exists():
            raise InputError(
                f"'{shown(path)}' does not exist. Give a video, a folder of frames or a folder of videos with -i.",
                code="video.missing",
                path=shown(path),
            )
        return [Task(path)]
    videos = [
        entry
        for entry in sorted(path.iterdir())
        if not entry.name.startswith(".") and (entry.suffix.lower() in VIDEO_SUFFIXES or _is_animated(entry))
    ]
    pictures = [source.path for source in listing.list_pictures([path]) if source.path not in videos]
    if videos and pictures:
        notice(
            logger,
            "video.mixed",
            f"{path} contains {len(videos)} videos and {len(pictures)} pictures: the videos are used.",
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


def _is_animated(path: Path) -> bool:
    return path.suffix.lower() in _ANIMATED_SUFFIXES and path.is_file() and is_animation(path)


def without_results(tasks: Sequence[Task], output: Path, suffix: str) -> List[Task]:
    """The tasks without those that are results of others, where a run writes into the folder that it reads."""
    names = {f"{task.name}_{suffix}" for task in tasks} if suffix else set()
    left = [task for task in tasks if task.name not in names or real(task.path.parent) != real(output)]
    if len(left) < len(tasks):
        notice(
            logger,
            "batch.results",
            f"{len(tasks) - len(left)} files in {output} are results of other pictures there: not enlarged again.",
            count=len(tasks) - len(left),
            path=str(output),
        )
    return left


def open_source(task: Task, fps: Optional[Fraction]) -> Any:
    """The frames of a task; a folder of pictures has the rate ``fps``.

    Raises:
        VideoError: It cannot be read.
    """
    if task.pictures:
        return FolderSource(task.path, task.pictures, fps or FOLDER_RATE)
    if task.path.suffix.lower() == ".gif" or is_animation(task.path):
        return AnimationSource(task.path)
    return VideoSource(probe(task.path))
