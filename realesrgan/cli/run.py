"""A run of the main command: the flags become an upscaler and a batch. What it shows is in :mod:`.show`."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ..batch import report, torchrun
from ..errors import DeviceError, InputError, Phrase, RealESRGANError, as_field, one_line
from ..files import listing, paths
from ..files.naming import PICTURE_SUFFIXES, WRITABLE, Source
from ..video.tasks import VIDEO_SUFFIXES
from ..weights import zoo
from . import show
from .console import Console
from .options import DEFAULT_DENOISE

__all__ = [
    "Team",
    "batch_settings",
    "build_upscaler",
    "download_models",
    "upscale",
    "upscaler_arguments",
    "worker_arguments",
]

REPORT_NAME = "report.jsonl"
_FACE_PACKAGES = ("gfpgan", "facexlib")
_TOO_NEW = (3, 13)  # for basicsr 1.4.2


def download_models(options: argparse.Namespace, console: Console) -> int:
    """``--download-models``: fetch weights, say where they are; 1 if any was not available."""
    from .. import weights

    names = [name for word in options.download_models for name in word.split(",") if name]
    results = weights.fetch_all(names or None, weights_from=options.weights_from, progress=console.bytes_bar)
    console.close_bars()
    for name, result in results.items():
        if isinstance(result, RealESRGANError):
            console.error(result)
        else:
            console.say("cli.downloaded", "{name}: {path}", name=name, path=result)
    return 1 if any(isinstance(result, RealESRGANError) for result in results.values()) else 0


class Team:
    """Who does the pictures of a run, where it is not one device of this machine."""

    def sources(self, options: argparse.Namespace) -> Optional[List[Source]]:
        """The pictures, where they are no files of this machine."""
        return None

    def start(self, arguments: Mapping[str, Any], count: int) -> List[Any]:
        """Workers of a pool that are ready; none leaves the work to one device of this machine."""
        return []

    def left(self, sources: List[Source], digest: str) -> List[Source]:
        """What is to be done of the pictures, once it is known with which options."""
        return sources

    more: Any = None
    """See ``more_workers`` of :func:`realesrgan.batch.pool.run`."""


def upscale(options: argparse.Namespace, console: Console, team: Optional[Team] = None) -> int:
    """Enlarge what ``-i`` names.

    Args:
        team: Who does it; None takes the devices that ``--device`` names.

    Returns:
        The exit status.

    Raises:
        RealESRGANError: Nothing could be begun.
    """
    from ..batch import pool
    from ..batch import run as batch

    others: Dict[str, int] = {}
    team = team or _Devices(options, console)
    given = team.sources(options)
    sources, missing = _sources(options, console, others) if given is None else (given, [])
    if not sources:
        console.warn(
            "cli.nothing",
            "There is no picture in: {inputs}. Give a picture, a folder or a pattern with -i; --recursive goes into "
            "subfolders.",
            inputs=options.input,
        )
        show.others(others, console)
        return 1 if missing else 2
    shard = options.shard or torchrun.shard(os.environ)
    settings = batch_settings(options, shard)
    arguments = upscaler_arguments(options, os.environ)
    if options.denoise_strength not in (None, 1) and arguments["dni_weight"] is None:
        console.warn(
            "cli.denoise", "-dn has no effect: only realesr-general-x4v3 accepts it, under its official file name."
        )
    report_path = _report_path(options)
    own_report = None if report_path is None else report.shard_path(report_path, *shard)
    _check_written(sources, settings, arguments["model_path"], own_report, options)
    former = report.load_all(report_path) if options.resume and report_path else {}
    workers = team.start(arguments, len(sources))
    upscaler: Any = build_upscaler(arguments, options, console) if not workers else None
    described = workers[0].described if workers else upscaler.describe()
    settings = replace(settings, digest=_digest(arguments, settings, options, described))
    sources = team.left(sources, settings.digest)
    for each in [worker.described for worker in workers] or [described]:
        show.introduce(each, console)
    events = show.Events(console, options)
    writer = None if own_report is None else _writer(own_report, bool(options.resume), console)
    monitor = _monitor(described, options)
    unclosed: Optional[RealESRGANError] = None
    try:
        if monitor is not None:
            monitor.__enter__()
        more: Dict[str, Any] = {"former": former, "writer": writer, "monitor": monitor}
        if workers:
            result = pool.run(sources, workers, settings, events, more_workers=team.more, **more)
        else:
            result = batch.run(sources, upscaler, settings, events, **more)
    finally:
        console.close_bars()
        unclosed = None if writer is None else _close(writer)
        if monitor is not None:
            monitor.__exit__(None, None, None)
            show.monitored(monitor, options, console)
        if hasattr(upscaler, "close"):
            upscaler.close()
    status = show.summary(result, events.failed + missing, show.continuing_flag(options), console)
    show.others(others, console)
    if unclosed is not None:
        console.error(unclosed)
        status = status or 1
    return torchrun.end_together(status, os.environ)


def _check_written(
    sources: Sequence[Source], settings: Any, weights: Any, own_report: Optional[Path], options: argparse.Namespace
) -> None:
    """See that the report and the samples overwrite no picture, no weights, no result and not each other."""
    from ..batch.plan import result_at

    written: Dict[str, Path] = {}
    if own_report is not None:
        written["--report"] = own_report
    if options.monitor_memory:
        written["--monitor-memory"] = Path(options.monitor_memory)
    read = [source.path for source in sources]
    read += [Path(str(path)) for path in (weights if isinstance(weights, list) else [weights])]
    paths.check_written(paths.Inputs(read), written)
    for flag, path in written.items():
        source = result_at(path, sources, settings)
        if source is not None:
            raise InputError(
                f"{flag} {path} is where the result of {source.path} goes. Name another file.",
                code="output.is_result",
                flag=flag,
                path=str(path),
                input=str(source.path),
            )


def _close(writer: report.ReportWriter) -> Optional[RealESRGANError]:
    """Close the report; the error if its last lines may be missing."""
    try:
        writer.close()
    except OSError as error:
        return RealESRGANError(
            f"The end of the report {writer.path} may be missing: {one_line(error)}. --resume does again what it does "
            "not show.",
            code="report.close",
            path=str(writer.path),
            reason=error,
        )
    return None


def _digest(
    arguments: Mapping[str, Any], settings: Any, options: argparse.Namespace, described: Mapping[str, Any]
) -> str:
    """A number for everything that a result depends on: the options, and the bytes of the weights."""
    faces = described.get("face_weights_sha256") or options.face_enhance
    values = {**_lasting(arguments), **_lasting(asdict(settings)), "faces": faces}
    if described.get("weights_sha256"):
        values.update(model_path=described["weights_sha256"], weights_from="", scale=None)  # the weights have theirs
    return report.digest(values)


def _sources(
    options: argparse.Namespace, console: Console, others: Dict[str, int]
) -> Tuple[List[Source], List[Phrase]]:
    """The pictures, and what is wrong with the inputs that do not exist though others do.

    Where ``-o`` names the file of a single result, ``options.output`` becomes its folder.
    """
    named = Path(options.output)
    if _is_file_name(named) and len(options.input) == 1 and Path(options.input[0]).is_file():
        options.output = str(named.parent)
        found = listing.list_pictures(options.input)
        return [replace(source, target=named) for source in _no_videos(found)], []
    given: Dict[str, Any] = {"recursive": options.recursive, "exclude": [options.output]}
    try:
        return _no_videos(listing.list_pictures(options.input, **given, others=others)), []
    except InputError:
        if len(options.input) == 1:
            raise
    there, missing = [], []
    for item in options.input:
        try:
            listing.list_pictures([item], **given)
            there.append(item)
        except InputError as error:
            console.error(error)
            missing.append(as_field(error))
    others.clear()
    return _no_videos(listing.list_pictures(there, **given, others=others)), missing


def _is_file_name(path: Path) -> bool:
    return path.suffix.lower() in WRITABLE and not path.is_dir()


def _no_videos(sources: List[Source]) -> List[Source]:
    """The sources; if there are only videos, an error that names the command for them, before weights are loaded."""
    video = VIDEO_SUFFIXES - PICTURE_SUFFIXES
    if sources and all(source.path.suffix.lower() in video for source in sources):
        path = sources[0].path
        text = f"{path} is a video. Enlarge it with: realesrgan video -i {path}"
        raise InputError(text, code="input.video", path=path)
    return sources


def upscaler_arguments(options: argparse.Namespace, environment: Mapping[str, str]) -> Dict[str, Any]:
    """The arguments of :class:`RealESRGANer`, all plain values, so that a child process can build it as well."""
    spec = zoo.MODELS.get(options.model_name, zoo.MODELS["RealESRGAN_x4plus"])
    path: Any = options.model_path or options.model_name
    strength = DEFAULT_DENOISE if options.denoise_strength is None else options.denoise_strength
    dni: Optional[List[float]] = None
    if spec.partner and strength != 1:
        head, found, tail = str(path).rpartition(spec.name)
        if found:
            path, dni = [path, head + spec.partner + tail], [strength, 1 - strength]
    gpu_id = options.gpu_id
    named = re.search(r":\d+$", options.device or "")
    if gpu_id is None and not named and environment.get("LOCAL_RANK", "").isdigit() and "RANK" in environment:
        gpu_id = int(environment["LOCAL_RANK"])
    return {
        "scale": None if options.model_path else spec.scale,
        "model_path": path,
        "dni_weight": dni,
        "tile": options.tile,
        "tile_pad": options.tile_pad,
        "pre_pad": options.pre_pad,
        "half": False if options.fp32 else True if options.fp16 else None,
        "device": options.device,
        "gpu_id": gpu_id,
        "weights_from": options.weights_from,
        "trust_weights": options.trust_weights,
        "max_download": options.max_download,
        "compile": options.compile,
        "profile": not options.no_profile,
    }


def worker_arguments(arguments: Mapping[str, Any], options: argparse.Namespace) -> Dict[str, Any]:
    """What a worker's process builds its upsampler from.

    Raises:
        InputError: Faces are to be restored, and GFPGAN is missing.
    """
    faces = {"trust_weights": options.trust_weights} if options.face_enhance and _face_enhancer() else None
    return {**arguments, "faces": faces}


class _Devices(Team):
    """The devices of this machine: a process for each where several are asked for and there are pictures for them."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self._options = options
        self._console = console

    def start(self, arguments: Mapping[str, Any], count: int) -> List[Any]:
        from .. import devices
        from ..batch import pool

        options, console = self._options, self._console
        if count < 2 or not devices.several(options.device):
            return []
        name = Path(str(options.model_path or options.model_name)).name
        try:
            return list(
                pool.start(
                    pool.devices_for(options.device),
                    worker_arguments(arguments, options),
                    lambda done, total: console.bytes_bar(name, done, total),
                )
            )
        finally:
            console.close_bars()


def build_upscaler(arguments: Mapping[str, Any], options: argparse.Namespace, console: Console) -> Any:
    """What enlarges: in this process, in a child, or its tiles on several devices; ``--face_enhance`` goes around it.

    Raises:
        RealESRGANError: It cannot be built.
    """
    from .. import devices
    from ..inference.isolated import IsolatedUpsampler, isolates
    from ..inference.upsampler import RealESRGANer

    faces = _face_enhancer() if options.face_enhance else None
    name = Path(str(options.model_path or options.model_name)).name
    arguments = {**arguments, "progress": lambda done, total: console.bytes_bar(name, done, total)}
    trusted = {"trust_weights": options.trust_weights}
    if devices.several(options.device):
        from ..inference.shared import SharedUpsampler

        made = _load(SharedUpsampler, arguments, console)
    elif isolates(options.isolate, options.device):
        made = _load(IsolatedUpsampler, {**arguments, "faces": None if faces is None else trusted}, console)
    else:
        made = _load(RealESRGANer, arguments, console)
    _check_card(made, options)
    if faces is None or isinstance(made, IsolatedUpsampler):
        return made
    return faces(made, **trusted, progress=arguments["progress"])


def _check_card(upscaler: Any, options: argparse.Namespace) -> None:
    """See that -g, which names a graphics card, did not end on the CPU. In the library it may, as in the original."""
    from .. import devices

    if (
        options.gpu_id is None
        or devices.several(options.device)
        or devices.is_explicit(options.device)
        or upscaler.describe().get("device") != "cpu"
    ):
        return
    if hasattr(upscaler, "close"):
        upscaler.close()
    raise DeviceError(
        f"There is no graphics card {options.gpu_id} (-g) that can be used here; only the CPU is left. 'realesrgan "
        "doctor' lists the cards. Leave -g out, or give --device cpu.",
        code="device.no_card",
        gpu_id=options.gpu_id,
    )


def _face_enhancer() -> Any:
    """The class that restores faces; what it needs is looked for before anything is loaded."""
    missing = [name for name in _FACE_PACKAGES if importlib.util.find_spec(name) is None]
    try:
        if not missing:
            return importlib.import_module("realesrgan.inference.faces.enhancer").FaceEnhancer
        reason = Phrase("faces.package", f"{missing[0]} is missing", name=missing[0])
    except (ImportError, OSError) as error:
        reason = Phrase("quote", f"{type(error).__name__}: {one_line(error)}")
    if sys.version_info >= _TOO_NEW and importlib.util.find_spec("basicsr") is None:
        version = "{}.{}".format(*sys.version_info)
        raise InputError(
            f"--face_enhance needs GFPGAN, which needs basicsr, and that does not build on Python {version}. Use "
            "Python 3.9 to 3.12.",
            code="faces.python",
            version=version,
        )
    raise InputError(
        f"--face_enhance needs GFPGAN, which cannot be imported here ({reason}). Install it with: python "
        "scripts/first_run.py --train --install-only (docs/faces.md has the lines for pip).",
        code="faces.missing",
        reason=reason,
    )


def _load(make: Callable[..., Any], arguments: Dict[str, Any], console: Console) -> Any:
    try:
        return make(**arguments)
    except InputError as error:
        # Weights of the user's own may be of another scale than the model that -n names.
        if error.code != "scale.mismatch":
            raise
        return make(**{**arguments, "scale": error.fields["network"]})
    finally:
        console.close_bars()


def batch_settings(options: argparse.Namespace, shard: Tuple[int, int]) -> Any:
    """The flags that say how a batch is done, as :class:`~realesrgan.batch.BatchOptions`."""
    from ..batch.run import BatchOptions

    return BatchOptions(
        output=Path(options.output),
        suffix=options.suffix,
        extension=options.ext,
        outscale=options.outscale,
        alpha_upsampler=options.alpha_upsampler,
        alpha_bleed=not options.no_alpha_bleed,
        strip_metadata=options.strip_metadata,
        max_pixels=options.max_pixels,
        accept_truncated=options.accept_truncated,
        jpeg_quality=options.jpeg_quality,
        png_compression=options.png_compression,
        skip_existing=options.skip_existing,
        resume=options.resume or "content",
        shard=shard,
    )


def _lasting(values: Mapping[str, Any]) -> Dict[str, Any]:
    """The options that change a result: not where it is made, nor how the work is shared out."""
    passing = {"device", "gpu_id", "compile", "profile", "trust_weights", "output", "skip_existing", "shard"}
    passing |= {"max_download", "max_pixels", "accept_truncated", "digest", "readers", "writers", "resume"}
    return {name: value for name, value in values.items() if name not in passing}


def _report_path(options: argparse.Namespace) -> Optional[Path]:
    if options.report is not None:
        return Path(options.report)
    return Path(options.output) / REPORT_NAME if options.resume else None


def _writer(path: Path, resume: bool, console: Console) -> report.ReportWriter:
    if resume and not path.exists():
        console.say("cli.new_report", "There is no report of a former run yet; this one is kept in {path}", path=path)
    return report.ReportWriter(path, append=resume)


def _monitor(described: Mapping[str, Any], options: argparse.Namespace) -> Any:
    if options.monitor_memory is None:
        return None
    from .. import devices
    from ..batch.monitor import Monitor

    if described.get("isolated") or devices.several(
        options.device
    ):  # this process must not open the device, not even to ask it
        return Monitor()
    try:
        return Monitor(devices.resolve(str(described.get("device"))))
    except RealESRGANError:
        return Monitor()
