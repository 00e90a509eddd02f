"""Runs that the page starts: the program's own functions in a thread, with progress that can be read, and a stop.

Nothing here knows how a page is drawn. One run at a time has the device; the others wait in the order of their coming.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Deque, List, Optional, Sequence, Tuple

from realesrgan import files
from realesrgan.batch import report
from realesrgan.batch import run as batch
from realesrgan.cli import messages, options, show, video
from realesrgan.cli import run as cli_run
from realesrgan.cli.console import Console, Sentence, as_sentence
from realesrgan.errors import InputError, Phrase, RealESRGANError
from realesrgan.files.naming import Source
from realesrgan.tools import python_path
from realesrgan.tools.doctor import checks
from realesrgan.tools.doctor import command as doctor
from realesrgan.tools.doctor.facts import gather

__all__ = ["Desk", "Job", "Progress", "Result", "as_shown", "copied", "zipped"]

KEPT_SECONDS = 3600.0
"""Files of a run are removed this long after it has ended."""
_SHOWN = frozenset((".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".bmp"))


@dataclass(frozen=True)
class Result:
    """A finished picture or video.

    Attributes:
        before: The input file.
        after: The result file.
        sizes: Width and height of both, empty for a video.
        seconds: What it took.
    """

    before: Path
    after: Path
    sizes: Tuple[Tuple[int, int], ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Progress:
    """How far a run is; a value that does not change.

    Attributes:
        state: ``waiting``, ``loading``, ``working``, ``paused``, ``done``, ``stopped`` or ``failed``.
        ahead: Runs that have the device first, while ``waiting``.
        device: The device in plain words, once it is known.
        name: The file in work.
        files: Files done or failed, and in all.
        share: Finished part of the whole run, 0 to 1.
        left: Likely seconds that are left, None while unknown.
        lines: Notes and errors as sentences, in order; each with whether it is an error.
        results: What is finished.
    """

    state: str = "waiting"
    ahead: int = 0
    device: str = ""
    name: str = ""
    files: Tuple[int, int] = (0, 0)
    share: float = 0.0
    left: Optional[float] = None
    lines: Tuple[Tuple[str, bool], ...] = ()
    results: Tuple[Result, ...] = ()

    @property
    def ended(self) -> bool:
        return self.state in ("done", "stopped", "failed")


class Job:
    """One run, in a thread of its own. Any thread may read :attr:`progress`, stop it, or let it pause."""

    def __init__(self, desk: Desk, lang: str, folder: Path, work: Callable[[Job], None]) -> None:
        self.desk = desk
        self.lang = lang
        self.folder = folder
        self.progress = Progress()
        self.ended_at: Optional[float] = None
        self.thread = threading.Thread(target=self._run, name="realesrgan-web-run", daemon=True)
        self.text = ""
        """The doctor's report, or what tuning has printed."""
        self._work = work
        self._stop = threading.Event()
        self._go_on = threading.Event()
        self._go_on.set()
        self.begun = 0.0

    def update(self, **changes: Any) -> None:
        """Put a new :class:`Progress` in place of the last."""
        self.progress = replace(self.progress, **changes)

    def say(self, text: str, problem: bool = False) -> None:
        """Add a sentence, unless it has been said."""
        if text and (text, problem) not in self.progress.lines:
            self.update(lines=(*self.progress.lines, (text, problem)))

    def stop(self) -> None:
        """End it before the next tile or frame. What is finished stays."""
        self._stop.set()
        self._go_on.set()
        self.desk.wake()

    def pause(self, paused: bool) -> None:
        """Wait before the next tile or frame, or go on."""
        (self._go_on.clear if paused else self._go_on.set)()

    def check(self) -> None:
        """Called between tiles and frames: waits while paused.

        Raises:
            KeyboardInterrupt: The run is to stop; batches and videos then end as they do after Ctrl-C.
        """
        if not self._go_on.is_set() and not self._stop.is_set():
            before, self.begun = self.progress.state, self.begun - time.monotonic()
            self.update(state="paused")
            self._go_on.wait()
            self.begun += time.monotonic()
            self.update(state=before)
        if self._stop.is_set():
            raise KeyboardInterrupt

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def share(self, share: float, **changes: Any) -> None:
        """Set the finished part, and what is left by the time it took."""
        seconds = time.monotonic() - self.begun
        left = seconds / share * (1 - share) if share > 0 and seconds > 1 else None
        self.update(share=share, left=left, **changes)

    def _run(self) -> None:
        try:
            if self.desk.wait_for_turn(self):
                self.begun = time.monotonic()
                self.update(state="loading", ahead=0)
                self._work(self)
        except KeyboardInterrupt:
            pass
        except RealESRGANError as error:
            self.say(messages.render(error, self.lang), True)
            self.update(state="failed")
        except SystemExit:  # argparse: the page's own controls allow nothing that it refuses
            self.update(state="failed")
        except Exception as error:  # noqa: BLE001 - one run's mistake must not end the server
            self.say(messages.render(as_sentence(error), self.lang), True)
            self.update(state="failed")
        finally:
            if not self.progress.ended:
                self.update(state="stopped" if self.stopping else "done", left=None)
            self.ended_at = time.monotonic()
            self.desk.leave(self)


class _Collecting(video.VideoConsole):
    """A console whose lines go to a job: notices of the library, downloads, frames."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.lang)
        self._job = job

    def show(self, sentence: Sentence, *, problem: bool = False) -> None:
        self._job.say(messages.render(sentence, self.lang), problem)

    def once(self, sentence: Sentence, *, problem: bool) -> None:
        if problem or not sentence.code.startswith("weights.source"):  # a path says nothing to most
            self.show(sentence, problem=problem)

    def line(self, text: str, *, problem: bool = False) -> None:
        self._job.say(text, problem)

    def bytes_bar(self, name: str, done: int, total: int) -> None:
        self._job.check()
        self._job.update(name=name, share=done / total if total else 0.0)

    def begin_frames(self) -> None:
        self._job.share(0.0, state="working")

    def frames_bar(self, name: str, done: int, total: Optional[int]) -> None:
        self._job.share(min(1.0, done / total) if total else 0.0, name=name, files=(done, total or 0))
        self._job.check()


class Desk:
    """What all runs share: the order in which they get the device, the network that is loaded, and their folders.

    Args:
        root: Where folders of runs are made; removed by :meth:`close`.
        weights_from: As ``--weights-from``.
    """

    def __init__(self, root: Optional[Path] = None, weights_from: str = "auto") -> None:
        self.root = Path(tempfile.mkdtemp(prefix="realesrgan-web-")) if root is None else root
        self.weights_from = weights_from
        self._turn = threading.Condition()
        self._line: Deque[Job] = deque()
        self._jobs: List[Job] = []
        self._upscaler: Tuple[str, Any] = ("", None)
        self._closed = False

    # ------------------------------------------------------------------------------------------------ the order

    def wait_for_turn(self, job: Job) -> bool:
        """Wait until the device is free for this job; False if it was stopped first."""
        with self._turn:
            while self._line[0] is not job and not job.stopping:
                job.update(ahead=self._line.index(job))
                self._turn.wait()
            return not job.stopping

    def leave(self, job: Job) -> None:
        """A job has ended: the next one's turn."""
        with self._turn:
            if job in self._line:
                self._line.remove(job)
            self._turn.notify_all()

    def wake(self) -> None:
        """Let waiting jobs look again whether they are to stop."""
        with self._turn:
            self._turn.notify_all()

    def _start(self, lang: str, work: Callable[[Job], None]) -> Job:
        self.sweep()
        job = Job(self, lang, Path(tempfile.mkdtemp(dir=self.root)), work)
        with self._turn:
            self._line.append(job)
            self._jobs.append(job)
            job.update(ahead=len(self._line) - 1)
        job.thread.start()
        return job

    # ------------------------------------------------------------------------------------------------ the work

    def pictures(self, paths: Sequence[Path], words: Sequence[str], lang: str) -> Job:
        """Enlarge pictures.

        Args:
            words: Flags of the main command, without input and output.
        """
        return self._start(lang, lambda job: self._pictures(job, paths, words))

    def _pictures(self, job: Job, paths: Sequence[Path], words: Sequence[str]) -> None:
        output = job.folder / "results"
        given = options.parse([*words, "--weights-from", self.weights_from, "-i", *map(str, paths), "-o", str(output)])
        with _Collecting(job) as console:
            upscaler = self._of(given, console)
            job.update(device=_in_words(upscaler.describe()), files=(0, len(paths)))
            sources = [Source(path, Path(path.name)) for path in paths]
            settings = cli_run.batch_settings(given, (1, 1))
            job.share(0.0, state="working")
            batch.run(sources, upscaler, settings, _Events(job))

    def video(self, path: Path, words: Sequence[str], lang: str, preview: bool = False) -> Job:
        """Enlarge a video, or with ``preview`` three frames of it; an unfinished run of the same flags is continued."""
        mark = hashlib.sha256(repr((str(path), list(words))).encode("utf-8")).hexdigest()[:16]
        folder = self.root / "videos" / mark
        return self._start(lang, lambda job: self._video(job, path, words, folder, preview))

    def _video(self, job: Job, path: Path, words: Sequence[str], folder: Path, preview: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        flags = [*words, "--weights-from", self.weights_from, "-i", str(path), "-o", str(folder)]
        if preview:
            flags += ["--preview", "3"]
        given = options.parse_video(flags)
        begun = time.monotonic()
        with _Collecting(job) as console:
            if preview:
                found = video.only_preview(given, console)
                job.update(results=tuple(Result(path, each) for each in found))
                return
            if video.enlarge(given, console) == 0:
                done = sorted(each for each in folder.iterdir() if each.is_file() and "_preview" not in each.stem)
                job.update(results=tuple(Result(path, each, (), time.monotonic() - begun) for each in done), share=1.0)

    def doctor(self, lang: str) -> Job:
        """What ``realesrgan doctor`` says; its verdict becomes a line, its table and report :attr:`Job.text`."""
        return self._start(lang, self._doctor)

    def _doctor(self, job: Job) -> None:
        facts = gather(None)
        findings = checks.judge(facts)
        verdict = messages.render(doctor.verdict(facts, findings), job.lang)
        job.say(verdict, doctor.diagnose(facts, findings) == doctor.BROKEN)
        job.update(share=1.0)
        table = "\n".join(messages.render(each, job.lang) for each in doctor.sentences(facts, findings))
        job.text = f"{table}\n\n{json.dumps(doctor.report(facts, findings), indent=1, ensure_ascii=False)}"

    def tune(self, seconds: int, lang: str) -> Job:
        """``realesrgan tune`` in a process of its own, with the device to itself."""
        return self._start(lang, lambda job: self._tune(job, seconds))

    def _tune(self, job: Job, seconds: int) -> None:
        self._forget()
        job.update(state="working")
        command = [sys.executable, "-m", "realesrgan", "tune", "--lang", job.lang, "--seconds", str(seconds)]
        environment = {**os.environ, "PYTHONPATH": python_path(), "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, encoding="utf-8"
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    job.text += line
                    job.share(min(1.0, (time.monotonic() - job.begun) / seconds))
                    job.check()
            except KeyboardInterrupt:
                process.terminate()
        if process.returncode and not job.stopping:
            job.update(state="failed")

    def job(self, name: str) -> Optional[Job]:
        """The run of this name, None if it has been swept away."""
        return next((job for job in self._jobs if job.name == name), None)

    def _of(self, given: Any, console: Console) -> Any:
        """The network for these flags: the one that is loaded, if the flags ask for the same."""
        arguments = cli_run.upscaler_arguments(given, {})
        key = repr((sorted(arguments.items(), key=str), given.face_enhance, given.isolate))
        if self._upscaler[0] != key:
            self._forget()
            self._upscaler = (key, cli_run.build_upscaler(arguments, given, console))
        return self._upscaler[1]

    def _forget(self) -> None:
        (_, upscaler), self._upscaler = self._upscaler, ("", None)
        if hasattr(upscaler, "close"):
            upscaler.close()

    # ------------------------------------------------------------------------------------------------ its files

    def sweep(self, age: float = KEPT_SECONDS) -> None:
        """Remove the folders of runs that ended more than ``age`` seconds ago."""
        now = time.monotonic()
        old = [job for job in self._jobs if job.ended_at is not None and now - job.ended_at > age]
        for job in old:
            shutil.rmtree(job.folder, ignore_errors=True)
            self._jobs.remove(job)
        videos = self.root / "videos"
        for folder in videos.iterdir() if videos.is_dir() else ():
            if time.time() - folder.stat().st_mtime > age:
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Stop what runs, and remove all files."""
        for job in list(self._jobs):
            job.stop()
        for job in list(self._jobs):
            job.thread.join(20)
        self._forget()
        shutil.rmtree(self.root, ignore_errors=True)


class _Events:
    """A batch's events into a job's progress."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._ended = 0

    def __call__(self, event: Any) -> None:
        job = self._job
        if event.kind in ("start", "tiles"):
            done, total = event.tiles or (0, 1)
            share = min(1.0, (event.index + done / max(total, 1)) / max(event.total, 1))
            job.share(max(share, job.progress.share), name=str(event.source.relative))
            job.check()
            return
        self._ended += 1
        job.share(max(self._ended / event.total, job.progress.share), files=(self._ended, event.total))
        record, name = event.record, event.source.path.name
        if record.status == report.FAILED:
            said = messages.render(show.failed_input(event.error, str(event.source.path)), job.lang)
            job.say(_without_folder(said, event.source.path), True)
        elif record.status == report.DONE:
            for note in record.notes:
                said = messages.render(note, job.lang) if isinstance(note, Phrase) else note
                job.say(f"{name}: {said}")
            seconds = sum(value or 0.0 for value in (record.read_seconds, record.device_seconds, record.write_seconds))
            sizes = (tuple(record.input_size), tuple(record.output_size))
            result = Result(event.source.path, Path(record.output), sizes, seconds)
            job.update(results=(*job.progress.results, result))


def _without_folder(text: str, path: Path) -> str:
    """An error's sentence without the upload folder, which says nothing to the user."""
    return text.replace(f"{path.parent}/", "").replace(f"{path.parent}\\", "")


def _in_words(described: Any) -> str:
    return f"{described.get('name')} ({described.get('backend')}, {str(described.get('precision')).upper()})"


def as_shown(path: Path, folder: Path) -> Path:
    """A file that a browser can draw: the picture itself, or a PNG of it in ``folder``."""
    if path.suffix.lower() in _SHOWN:
        return path
    shown = folder / f"{path.stem}_shown.png"
    if not shown.exists():
        picture = files.read(path)
        files.write(shown, picture.pixels, mode=picture.mode)
    return shown


def zipped(results: Sequence[Result], target: Path) -> Path:
    """All results in one archive; pictures are compressed already, so they are only stored."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for result in results:
            archive.write(result.after, result.after.name)
    return target


def copied(results: Sequence[Result], folder: Path) -> int:
    """Copy results into a folder of the user's, whole or not at all; a file that exists is never replaced.

    Raises:
        InputError: The folder cannot be used, or contains a file of that name.
    """
    if not folder.is_absolute() or not folder.is_dir():
        raise InputError(
            f"'{folder}' is not a folder. Give the whole path of a folder that exists.",
            code="web.folder",
            path=str(folder),
        )
    taken = [result.after.name for result in results if (folder / result.after.name).exists()]
    if taken:
        raise InputError(
            f"{folder} already contains {taken[0]}: nothing was copied. Choose another folder.",
            code="web.exists",
            path=str(folder),
            name=taken[0],
        )
    for result in results:
        _copy(result.after, folder / result.after.name)
    return len(results)


def _copy(source: Path, target: Path) -> None:
    files.write_atomically(target, lambda stream: stream.write(source.read_bytes()))
