"""``realesrgan cluster -i film.mp4``: the actors of a cluster as workers that do pieces of a video."""

from __future__ import annotations

import argparse
import logging
import re
import threading
from pathlib import Path
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

from realesrgan.batch import dispatch
from realesrgan.cli import options as cli_options
from realesrgan.cli import video as cli_video
from realesrgan.cli.console import Console
from realesrgan.errors import InputError, Phrase, one_line
from realesrgan.files import atomic
from realesrgan.files.naming import PICTURE_SUFFIXES
from realesrgan.inference.child import pack_error
from realesrgan.video.pieces import Piece, VideoPlan
from realesrgan.video.pyav import VideoError, disk_error
from realesrgan.video.shared import Crew
from realesrgan.video.tasks import VIDEO_SUFFIXES
from realesrgan.video.worker import DEPTH

from .store import is_address, local
from .video_actor import Carried, VideoActor
from .workers import ActorWorker, Team

__all__ = ["RayVideoWorker", "VideoTeam", "are_meant", "parse"]

logger = logging.getLogger(__name__)

_PART = 16 << 20
"""Bytes of a carried file that travel as one object."""


def are_meant(words: Sequence[str]) -> bool:
    """Whether ``-i`` names a video, or a folder with videos and without pictures."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-i", "--input", nargs="+", default=[])
    try:
        given, _ = parser.parse_known_args(list(words))
    except SystemExit:  # wrong usage, which the real parser says
        return False
    return bool(given.input) and all(_is_video(item) for item in given.input)


def _is_video(item: str) -> bool:
    path = Path(item)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return True
    if is_address(item) or not path.is_dir():
        return False
    suffixes = {entry.suffix.lower() for entry in path.iterdir() if not entry.name.startswith(".")}
    return bool(suffixes & VIDEO_SUFFIXES) and not suffixes & set(PICTURE_SUFFIXES)


def parse(words: Sequence[str], add_cluster: Callable[[argparse.ArgumentParser], None]) -> argparse.Namespace:
    """The flags of the video command, and those of a cluster.

    Args:
        add_cluster: Adds the latter to a parser.

    Raises:
        SystemExit: Wrong usage (status 2), or ``--help`` (status 0).
    """
    parser = cli_options.build_video_parser("realesrgan cluster")
    add_cluster(parser)
    options: argparse.Namespace = parser.parse_args([local(word) for word in words])
    return options


def _check_paths(options: argparse.Namespace) -> None:
    """Make the paths such that they name the same on every machine that shares them; a store is refused."""
    for name in ("input", "output"):
        path = getattr(options, name)
        if re.match(r"[A-Za-z][\w+.-]+:/", path.as_posix()):
            raise InputError(
                f"Videos are not read from a store, nor written to one: copy {path} to a folder first.",
                code="cluster.video_store",
                address=str(path),
            )
        setattr(options, name, path.absolute())


class VideoTeam(cli_video.Team):
    """The actors of a cluster.

    Args:
        connect: Gives Ray's module, connected to the cluster.
        carry: Files travel with the work.
    """

    def __init__(self, connect: Callable[[], Any], carry: bool) -> None:
        self._connect = connect
        self._carry = carry
        self._ray: Any = None
        self._team: Optional[_Actors] = None

    def check(self, options: argparse.Namespace) -> None:
        _check_paths(options)

    def start(self, options: argparse.Namespace, arguments: Mapping[str, Any], console: Console) -> Crew:
        from realesrgan.cli.run import worker_arguments

        built_from = worker_arguments(arguments, options)
        self._ray = ray = self._connect()
        self._team = _Actors(ray, built_from, _Carrier(ray) if self._carry else None)
        first = self._team.first()
        return Crew(first, self._team.more, self._team.count())

    def close(self) -> None:
        """Let go of Ray's objects, and of Ray."""
        if self._team is not None:
            self._team.close()
        if self._ray is not None:
            self._ray.shutdown()


class _Carrier:
    """Puts the files of a video into Ray's store, once for all machines."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._files: Tuple[Path, ...] = ()
        self._carried: List[Tuple[str, List[Any]]] = []

    def carry(self, plan: VideoPlan) -> Carried:
        """Its files as objects.

        Raises:
            OSError: One cannot be read.
        """
        files = tuple(plan.source.files)
        if files != self._files:
            self._carried = [(path.suffix, self._put(path)) for path in files]
            self._files = files
        return self._carried

    def _put(self, path: Path) -> List[Any]:
        found: List[Any] = []
        with path.open("rb") as file:
            while True:
                part = file.read(_PART)
                if not part:
                    return found
                found.append(self._ray.put(part))

    def close(self) -> None:
        """Let go of the objects."""
        self._files, self._carried = (), []


class _Actors(Team):
    """Starts the actors; see :class:`~realesrgan.tools.cluster.workers.Team`."""

    actor = VideoActor

    def __init__(self, ray: Any, arguments: Mapping[str, Any], files: Optional[_Carrier]) -> None:
        super().__init__(ray, arguments, None)
        self._files = files

    def worker(self, made: Any, name: str, described: Mapping[str, Any]) -> dispatch.Worker:
        return RayVideoWorker(self._ray, made, name, described, self._files, lambda: self.refused(name))

    def close(self) -> None:
        super().close()
        if self._files is not None:
            self._files.close()


class RayVideoWorker(ActorWorker):
    """Does pieces of a video.

    Args:
        files: Carries the video there, and segments back; None where the folders are shared.
        refused: Called where the actor's machine is of no use for a video.
    """

    depth = DEPTH

    def __init__(
        self,
        ray: Any,
        actor: Any,
        name: str,
        described: Mapping[str, Any],
        files: Optional[_Carrier],
        refused: Callable[[], None],
    ) -> None:
        super().__init__(ray, actor, name, described)
        self._files = files
        self._refused = refused
        self._plan: Optional[VideoPlan] = None
        self._post: Optional[dispatch.Post] = None
        self._closed = threading.Event()
        self._lost = False
        self._thread: Optional[threading.Thread] = None

    def begin(self, plan: Tuple[Any, ...], post: dispatch.Post) -> None:
        (video,) = plan
        self._plan, self._post = video, post
        carried = None if self._files is None else self._files.carry(video)
        self._planned = self._actor.plan.remote(video, carried)
        if self._thread is None:
            self._thread = threading.Thread(target=self._listen, name=f"listen-{self.name}", daemon=True)
            self._thread.start()

    def hand(self, job: Piece) -> None:
        self.under_way[job.index] = job
        self._actor.job.remote(self._planned, job)

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(10)
        try:
            if self._actor is not None and not self._lost:
                self._ray.get(self._actor.forget.remote(), timeout=20)
        except Exception as error:  # noqa: BLE001 - it is gone, or busy
            logger.debug("%s does not clean up: %s", self.name, one_line(error))
        self._kill()

    # ------------------------------------------------------------------------------------------------------ listening

    def _listen(self) -> None:
        planned = None
        try:
            while not self._closed.is_set():
                if self._planned is not planned:
                    planned = self._planned
                    self._ray.get(planned)
                for message in self._ray.get(self._actor.news.remote()):
                    self._tell(*message)
        except self._ray.exceptions.RayTaskError as error:
            self._refused()
            self._gone(error)
        except Exception as error:  # noqa: BLE001 - the actor or its node is gone, however Ray says so
            self._gone(error)

    def _gone(self, error: BaseException) -> None:
        self._lost = True
        if not self._closed.is_set() and self._post is not None:
            self._post(self, ("gone", Phrase("quote", one_line(error)[:200])))

    def _tell(self, kind: str, index: int, *values: Any) -> None:
        assert self._post is not None
        if kind == "segment":
            segment, where = values
            try:
                self._put_in_place(segment.name, where)
            except OSError as error:
                self._post(self, ("end", index, "other", pack_error(_as_raised(error, segment.name)), {}))
                return
            values = (segment,)
        elif kind == "end" and values[0] == "unfit":
            self._refused()
        self._post(self, (kind, index, *values))

    def _put_in_place(self, name: str, where: Any) -> None:
        assert self._plan is not None
        target = self._plan.folder / name
        if isinstance(where, bytes):
            atomic.write_atomically(target, lambda stream: stream.write(where))
        else:
            atomic.replace(Path(where), target)


def _as_raised(error: OSError, name: str) -> Exception:
    return disk_error(error, name) or VideoError(
        f"{name} cannot be written: {one_line(error)}.", code="video.unwritable", path=name, reason=error
    )
