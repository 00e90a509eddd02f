"""The video command: ``realesrgan video`` and ``inference_realesrgan_video.py``."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Sequence

from ..errors import InputError, RealESRGANError, visible
from ..files.paths import Inputs, same_file, unquoted
from . import messages
from . import options as cli_options
from .console import FAILED, INTERRUPTED, OK, Console, prepare_streams, status_of
from .options import DEFAULT_VIDEO_MODEL, former_flags, parse_video

if TYPE_CHECKING:
    import argparse

    from ..video.run import VideoOptions, VideoResult
    from ..video.shared import Crew
    from ..video.tasks import Task

__all__ = ["Team", "VideoConsole", "enlarge", "main", "only_preview", "run_with"]

_SHOWN_CONCEALED = 10
_QUIET_SECONDS = 30.0


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command.

    Args:
        argv: Words after the command's name; by default those of the process.

    Returns:
        0 if all went well, 1 if something failed, 2 for wrong usage, 130 after Ctrl-C.
    """
    prepare_streams()
    try:
        options = parse_video(unquoted(sys.argv[1:] if argv is None else argv))
    except SystemExit as end:
        return status_of(end)
    return run_with(options)


def run_with(options: argparse.Namespace, team: Optional[Team] = None) -> int:
    """Run the command with flags that are read; the exit status, as :func:`main`."""
    console = VideoConsole(options.lang or messages.system_language(), options.verbose)
    with _alone(), console:
        try:
            return enlarge(options, console, team)
        except RealESRGANError as error:
            console.error(error)
            return status_of(error)
        except KeyboardInterrupt:
            console.close_bars()
            return INTERRUPTED
        except Exception as error:  # noqa: BLE001 - a mistake of ours: one line, and the trace with --verbose
            console.error(error)
            return FAILED


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Take off the handlers of a console around this one, so that nothing is said twice."""
    logger = logging.getLogger("realesrgan")
    others = list(logger.handlers)
    for handler in others:
        logger.removeHandler(handler)
    try:
        yield
    finally:
        for handler in others:
            logger.addHandler(handler)


class VideoConsole(Console):
    """Also shows how far a video is."""

    _begun = _quiet_since = 0.0
    _first: Optional[int] = None

    def begin_frames(self) -> None:
        """A video begins."""
        self._begun = self._quiet_since = time.perf_counter()
        self._first = None

    def frames_bar(self, name: str, done: int, total: Optional[int]) -> None:
        """Frames a second and time left: a bar on a terminal, else a line now and then."""
        if self.has_bars:
            if self._tiles is None:
                # What an earlier run left says nothing of the speed.
                self._tiles = self._bar(total or 0, 0, visible(name), unit=" frames", initial=done - 1)
            if total and self._tiles.total != total:
                self._tiles.total = total
            self._tiles.update(done - self._tiles.n)
            return
        now = time.perf_counter()
        if self._first is None:
            self._first = done - 1
        if now - self._quiet_since < _QUIET_SECONDS:
            return
        self._quiet_since = now
        rate = (done - self._first) / (now - self._begun)
        left = "?" if not total else f"{max(0, total - done) / rate:.0f}"
        self.say(
            "video.progress",
            "{name}: {done} of {total} frames, {rate} a second, {left} s left",
            name=name,
            done=done,
            total=total or "?",
            rate=f"{rate:.2f}",
            left=left,
        )


class Team:
    """Who enlarges the frames: by default the devices that ``--device`` names, where those are several."""

    def check(self, options: argparse.Namespace) -> None:
        """See before anything else that the flags fit.

        Raises:
            InputError: They do not.
        """

    def start(self, options: argparse.Namespace, arguments: Mapping[str, Any], console: Console) -> Optional[Crew]:
        """Workers that are ready; None leaves the work to one upsampler.

        Raises:
            RealESRGANError: There are none.
        """
        from .. import devices
        from ..batch import dispatch
        from ..video.shared import Crew
        from ..video.worker import DEPTH, SERVE
        from .run import worker_arguments

        if not devices.several(options.device):
            return None
        name = Path(str(options.model_path or options.model_name)).name
        try:
            names = dispatch.devices_for(options.device)
            built_from = worker_arguments(arguments, options)
            told = partial(console.bytes_bar, name)
            return Crew(list(dispatch.start(names, built_from, told, serve=SERVE, depth=DEPTH)))
        finally:
            console.close_bars()


@dataclass(frozen=True)
class _Means:
    """What there is to do, and what enlarges: an upsampler, or a crew."""

    tasks: List[Task]
    upsampler: Any
    crew: Optional[Crew]
    arguments: Dict[str, Any]

    def described(self) -> List[Mapping[str, Any]]:
        """See :meth:`realesrgan.inference.upsampler.RealESRGANer.describe`; of each worker, if there are several."""
        return [worker.described for worker in self.crew.workers] if self.crew else [self.upsampler.describe()]


@contextlib.contextmanager
def _ready(options: argparse.Namespace, console: Console, team: Optional[Team]) -> Iterator[_Means]:
    """Everything that a run needs. Without a team one upsampler enlarges."""
    from ..video import pyav
    from ..video.tasks import find_tasks
    from .run import build_upscaler, upscaler_arguments

    for sentence in former_flags(options):
        console.show(sentence)
    pyav.load()
    if team is not None:
        team.check(options)
    if not options.model_path:
        options.model_name = cli_options.model_name(options.model_name or DEFAULT_VIDEO_MODEL)
    tasks = _named(find_tasks(options.input), options)
    arguments = upscaler_arguments(options, os.environ)
    crew = None if team is None else team.start(options, arguments, console)
    upsampler = build_upscaler(arguments, options, console) if crew is None else None
    try:
        with _half_of_the_cores(upsampler):
            yield _Means(tasks, upsampler, crew, arguments)
    finally:
        for each in [upsampler] if crew is None else crew.workers:
            _close(each)


def _named(tasks: List[Task], options: argparse.Namespace) -> List[Task]:
    """The tasks. Where ``-o`` names the file of a single result, that is noted, and the file's folder is the output."""
    from ..video.encoding import ANIMATIONS, CONTAINERS

    named: Path = options.output
    kind = named.suffix.lower().lstrip(".")
    if len(tasks) != 1 or kind not in (*CONTAINERS, *ANIMATIONS) or named.is_dir():
        return tasks
    wish = options.ext if options.ext in ANIMATIONS else options.container
    if wish not in ("auto", kind):
        raise InputError(
            f"-o {named} names a file of the kind {kind}, and --container or --ext asks for {wish}: leave one of them "
            "out.",
            code="video.named",
            path=str(named),
            kind=kind,
            wish=wish,
        )
    options.output = named.parent
    if kind in ANIMATIONS:
        options.ext = kind
    else:
        options.container = kind
    return [replace(tasks[0], result=named)]


@contextlib.contextmanager
def _half_of_the_cores(upsampler: Any) -> Iterator[None]:
    """Leave the other half to decoder and encoder where a graphics card computes.

    PyTorch has few small things to do on the processor then, and its threads wait for each of them on a core of their
    own: with as many threads as cores, a run on a quick card took nearly twice as long (docs/video.md).
    """
    torch: Any = sys.modules.get("torch")
    described = {} if upsampler is None else upsampler.describe()
    if torch is None or described.get("isolated") or described.get("device") in (None, "cpu"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, max(1, (os.cpu_count() or 2) // 2)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _close(upsampler: Any) -> None:
    close = getattr(upsampler, "close", None)
    if close is not None:
        close()


def enlarge(options: argparse.Namespace, console: VideoConsole, team: Optional[Team] = None) -> int:
    """Enlarge what ``-i`` names; gives the exit status.

    Raises:
        RealESRGANError: Nothing could be begun, or the only video failed.
    """
    with _ready(options, console, team or Team()) as means:
        arguments, (described, *others) = means.arguments, means.described()
        for each in (described, *others):
            console.say(
                "video.device",
                "Device: {name} ({device}), {precision}, model {model}",
                name=each.get("name"),
                device=each.get("device"),
                precision=str(each.get("precision")).upper(),
                model=each.get("model"),
            )
        faces = described.get("face_weights_sha256") or options.face_enhance
        identity = {"mix": arguments["dni_weight"], "faces": faces}
        identity.update({name: described.get(name) for name in ("tile_pad", "weights_source")})
        # The bytes count, wherever they lie.
        identity["precision"] = ",".join(sorted({str(each.get("precision")) for each in (described, *others)}))
        identity["weights"] = described.get("weights_sha256") or arguments["model_path"]
        plain = {key: _plain(value) for key, value in identity.items()}
        return _all(means, plain, options, console)


def only_preview(options: argparse.Namespace, console: Console) -> List[Path]:
    """Write ``--preview`` frames of the first video before and after, and enlarge nothing else.

    Raises:
        RealESRGANError: The video cannot be read, or a frame cannot be enlarged.
    """
    from ..video import run
    from ..video.tasks import open_source

    with _ready(options, console, None) as means:
        settings, task = _settings(options, {}), means.tasks[0]
        opened = open_source(task, settings.fps)
        form = run.plan(opened, settings)
        target = task.target(options.output, options.suffix, form.container)
        return _preview(opened, means, form, target, Inputs(task.read()), options, console)


def _listed(value: Any) -> List[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _plain(value: Any) -> Any:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else str(value)


def _all(means: _Means, identity: Dict[str, Any], options: argparse.Namespace, console: VideoConsole) -> int:
    from ..video.journal import Ledger
    from ..video.tasks import without_results

    weights = means.arguments["model_path"]
    tasks = without_results(means.tasks, options.output, options.suffix)
    inputs = Inputs([path for task in tasks for path in task.read()] + [Path(str(each)) for each in _listed(weights)])
    settings = _settings(options, identity)
    ledger = Ledger(options.output) if len(tasks) > 1 else None
    taken: Dict[Path, Path] = {}
    status, done, failed = OK, 0, 0
    for task in tasks:
        try:
            state = _one(task, means, settings, ledger, taken, inputs, options, console)
        except RealESRGANError as error:
            if len(tasks) == 1:
                raise
            console.close_bars()
            console.error(error)
            failed, status = failed + 1, FAILED
            continue
        if state == INTERRUPTED:
            return INTERRUPTED
        done += 1
    if len(tasks) > 1:
        console.say("video.summary", "{done} videos done, {failed} failed", done=done, failed=failed)
    return status


def _settings(options: argparse.Namespace, identity: Dict[str, Any]) -> VideoOptions:
    from ..video.encoding import ANIMATIONS, EncoderChoice
    from ..video.run import VideoOptions

    container = options.ext if options.ext in ANIMATIONS else options.container
    choice = EncoderChoice(options.codec, options.crf, options.preset, options.pix_fmt, container, options.drop_alpha)
    return VideoOptions(
        outscale=options.outscale,
        fps=options.fps,
        encoder=choice,
        segment=options.segment,
        skip_repeats=not options.no_skip_repeats,
        alpha_upsampler=options.alpha_upsampler,
        identity=identity,
        restart=options.restart,
    )


def _one(
    task: Task,
    means: _Means,
    settings: VideoOptions,
    ledger: Any,
    taken: Dict[Path, Path],
    inputs: Inputs,
    options: argparse.Namespace,
    console: VideoConsole,
) -> int:
    from ..video import run
    from ..video.encoding import ANIMATIONS
    from ..video.tasks import open_source

    source = open_source(task, settings.fps)
    if task.pictures:
        settings = replace(settings, fps=None)  # the source has the rate already
    form = run.plan(source, settings)
    target = task.target(options.output, options.suffix, form.container, inputs)
    other = next((path for result, path in taken.items() if same_file(result, target)), None)
    if other is not None:
        raise InputError(
            f"{task.path} is left out: {other} has the same result name, {target.name}.",
            code="video.clash",
            path=str(task.path),
            other=str(other),
            name=target.name,
        )
    taken[target] = task.path
    identity = run.identity(source, form, settings)
    if target.exists() and (options.skip_existing or (ledger is not None and ledger.has(target, identity))):
        console.say("video.skipped", "{path} is done already: skipped", path=target)
        return OK
    info = source.info
    console.say(
        "video.begins",
        "{input} ({width}x{height}) -> {output} ({out_width}x{out_height}, {encoder}, {pix_fmt})",
        input=task.path,
        width=info.width,
        height=info.height,
        output=target,
        out_width=form.width,
        out_height=form.height,
        encoder=form.container if form.container in ANIMATIONS else form.encoder,
        pix_fmt=form.pix_fmt,
    )
    if options.preview:
        _preview(source, means, form, target, inputs, options, console)
    console.begin_frames()
    bar = partial(console.frames_bar, task.name)
    try:
        result = run.process(source, means.upsampler, target, settings, bar, crew=means.crew)
    finally:
        console.close_bars()
    _report(result, target, console)
    if result.interrupted:
        return INTERRUPTED
    if ledger is not None:
        ledger.add(target, identity)
    return OK


def _preview(
    source: Any, means: _Means, form: Any, target: Path, inputs: Inputs, options: argparse.Namespace, console: Console
) -> List[Path]:
    from ..video import run
    from ..video.preview import preview
    from ..video.tasks import refuse_input
    from .run import build_upscaler

    options.output.mkdir(parents=True, exist_ok=True)
    paths = [target.with_name(f"{target.stem}_preview{number + 1}.png") for number in range(options.preview)]
    for path in paths:
        refuse_input(inputs, path)
    # Where several devices work, its few frames are computed by one of their own.
    upsampler = means.upsampler or build_upscaler(means.arguments, options, console)
    try:
        count = preview(source, upsampler, run.to_pixels(source.info, form), options.outscale, paths)
    finally:
        if means.upsampler is None:
            _close(upsampler)
    for path in paths[:count]:
        console.say("video.preview", "Preview, input beside result: {path}", path=path)
    return paths[:count]


def _report(result: VideoResult, target: Path, console: Console) -> None:
    if result.concealed:
        console.warn("video.concealed", "{count} frames of the input are damaged:", count=len(result.concealed))
    for index, moment, kind in result.concealed[:_SHOWN_CONCEALED]:
        if kind == "repeated":
            console.warn(
                "video.concealed_repeated",
                "frame {index} at {time} s cannot be read: the one before is shown again",
                index=index,
                time=f"{moment:.3f}",
            )
        else:
            console.warn(
                "video.concealed_damaged",
                "frame {index} at {time} s is damaged: it is used as the decoder repaired it",
                index=index,
                time=f"{moment:.3f}",
            )
    if len(result.concealed) > _SHOWN_CONCEALED:
        console.warn("video.concealed_more", "and {count} more", count=len(result.concealed) - _SHOWN_CONCEALED)
    if result.interrupted:
        if result.path is None:
            console.warn("video.stopped_early", "Stopped before any frame was finished.")
        else:
            console.warn(
                "video.stopped",
                "Stopped after {frames} frames, playable in {path}. The same command goes on from there.",
                frames=result.frames,
                path=result.path,
            )
        return
    rate = (result.computed + result.repeated) / result.seconds if result.seconds else 0.0
    console.say(
        "video.done",
        "{output}: {frames} frames in {seconds} s ({rate} a second, device busy {share} %), {repeated} repeats "
        "computed once, {resumed} from an earlier run, dropped {dropped}",
        output=target,
        frames=result.frames,
        seconds=f"{result.seconds:.1f}",
        rate=f"{rate:.2f}",
        share=f"{100 * result.device_share:.0f}",
        repeated=result.repeated,
        resumed=result.resumed,
        dropped=result.dropped,
    )
    if console.verbose:
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in result.busy.items())
        console.say("video.busy", "Busy, in seconds: {stages}", stages=stages)
