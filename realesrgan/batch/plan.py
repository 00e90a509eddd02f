"""How a batch is done, and what is to be done with which file of it: shares of a folder, what a former run has done,
what exists already."""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from ..errors import InputError, Phrase, PictureError, notice, one_line
from ..files import atomic, listing, naming, paths
from ..files.paths import real
from . import report

__all__ = [
    "CHECK",
    "DO",
    "SKIP",
    "BatchOptions",
    "Job",
    "check_output_folder",
    "left_out",
    "parse_shard",
    "plan_jobs",
    "result_at",
    "share",
]

_log = logging.getLogger(__name__)

DO = "do"
CHECK = "check"  # whether there is a result is known only once the picture is read
SKIP = "skip"


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is done.

    Attributes:
        output: The folder of the results.
        extension: ``auto``, ``png``, ``jpg``, ``webp`` or ``tiff``.
        alpha_bleed: Bleed colour under transparent pixels and keep constant alpha out of the network.
        max_pixels: Pictures with more are refused; None leaves the limit to the reader.
        accept_truncated: Accept JPEG files that are cut short.
        skip_existing: Leave a picture out whose result exists.
        resume: How the result of a former run is checked: ``"content"`` by size, time and a hash of samples of it,
            ``"size"`` by size alone.
        digest: A number for all options that change a result; a record with another one is done again.
        shard: This run's share of the list, counted from 1, and how many there are.
        readers, writers: Threads; 0 chooses.
    """

    output: Path
    suffix: str = "out"
    extension: str = "auto"
    outscale: Optional[float] = None
    alpha_upsampler: str = "realesrgan"
    alpha_bleed: bool = True
    strip_metadata: bool = False
    max_pixels: Optional[int] = None
    accept_truncated: bool = False
    jpeg_quality: int = 95
    png_compression: int = 3
    skip_existing: bool = False
    resume: str = "content"
    digest: str = ""
    shard: Tuple[int, int] = (1, 1)
    readers: int = 0
    writers: int = 0


@dataclass(frozen=True)
class Job:
    """One picture of a batch.

    ``output`` is known beforehand only for what is skipped; ``names`` are given to what goes to another process.
    """

    index: int
    source: naming.Source
    action: str = DO
    output: Optional[Path] = None
    reason: str = ""
    names: Optional[naming.Names] = None


def parse_shard(text: str) -> Tuple[int, int]:
    """``"2/4"`` is the second of four shares.

    Returns:
        Index from 1 and count.

    Raises:
        ValueError: Not of that form, or the index is outside 1..count.
    """
    first, separator, last = text.partition("/")
    if not separator or not first.strip().isdigit() or not last.strip().isdigit():
        told = f"{text!r} is not of the form i/n, for example 1/4 for the first of four shares"
        raise ValueError(Phrase("usage.shard_form", told, value=text))
    index, count = int(first), int(last)
    if not 1 <= index <= count:
        told = f"the share {text!r} must be between 1/{count} and {count}/{count}"
        raise ValueError(Phrase("usage.shard_range", told, value=text, count=count))
    return index, count


def share(sources: Sequence[naming.Source], index: int, count: int) -> List[naming.Source]:
    """The ``index``-th (from 1) of ``count`` shares; together the shares are the whole, without overlap.

    Files that differ in their suffix alone stay together, since they may map to one output name.
    """
    groups: Dict[str, List[naming.Source]] = {}
    for source in sources:
        groups.setdefault(_stem(source), []).append(source)
    return [source for group in list(groups.values())[index - 1 :: count] for source in group]


def _stem(source: naming.Source) -> str:
    return str(source.relative.with_suffix("")).casefold()


def plan_jobs(sources: Sequence[naming.Source], options: BatchOptions, done: Mapping[str, report.Record]) -> List[Job]:
    """A job for every source, in order.

    Args:
        done: What a former run says of each picture, by :func:`report.key`; empty without ``--resume``.
    """
    stems = Counter(map(_stem, sources)) if options.skip_existing else Counter()
    again: Counter[str] = Counter()
    jobs = []
    for index, source in enumerate(sources):
        record = done.get(report.key(source.path)) if done else None
        changed = "record" if record is None or record.status != report.DONE else _changed(record, source, options)
        if record is not None and not changed:
            jobs.append(Job(index, source, SKIP, Path(str(record.output)), "resume"))
            continue
        again[changed] += 1
        if options.skip_existing:
            jobs.append(_unless_there(index, source, options, stems[_stem(source)] == 1))
        else:
            jobs.append(Job(index, source))
    if again["options"]:
        notice(
            _log,
            "batch.other_options",
            f"{again['options']} pictures were done with other options or other weights: they are done again.",
            count=again["options"],
        )
    if again["files"]:
        notice(
            _log,
            "batch.changed",
            f"{again['files']} pictures were done, but the picture or its result has changed since: they are done "
            "again.",
            count=again["files"],
        )
    return jobs


def _changed(record: report.Record, source: naming.Source, options: BatchOptions) -> str:
    """Why a record's result is not what this run would make: ``"options"`` or ``"files"``; empty if it is."""
    if record.options != options.digest:
        return "options"
    if not record.output:
        return "files"
    before = Path(record.output)
    if report.key(before) != report.key(naming.output_path(source, options.output, options.suffix, before.suffix)):
        return "options"
    try:
        if report.fingerprint(source.path) != (record.input_bytes, record.input_mtime_ns):
            return "files"
        size, time = report.fingerprint(before)
        if size != record.output_bytes:
            return "files"
        if options.resume == "size":
            return ""
        # Some file systems keep times to two seconds only.
        same = record.output_mtime_ns is not None and abs(time - record.output_mtime_ns) <= 2_000_000_000
        return "" if same and report.content_hash(before) == record.output_hash else "files"
    except (OSError, ValueError):
        return "files"


def _unless_there(index: int, source: naming.Source, options: BatchOptions, alone: bool) -> Job:
    extensions = naming.possible_extensions(options.extension, source.path)
    there = [
        path
        for path in (naming.output_path(source, options.output, options.suffix, item) for item in sorted(extensions))
        if path.exists()
    ]
    if not there:
        return Job(index, source)
    if alone or len(extensions) == 1:
        return Job(index, source, SKIP, there[0], "exists")
    # a.jpg and a.png lie side by side: which of them a result belongs to depends on what they contain.
    return Job(index, source, CHECK)


def left_out(
    sources: Sequence[naming.Source], options: BatchOptions, done: Mapping[str, report.Record]
) -> Tuple[Set[naming.Source], Set[naming.Source]]:
    """Sources that are results of others, where a run writes into the folder that it reads.

    Args:
        done: What a former run says, as for :func:`plan_jobs`.

    Returns:
        Those that are not enlarged once more, and those of them that may be overwritten: the former run wrote them.
    """
    results = naming.results_among(sources, options.output, options.suffix, options.extension)
    written = {report.key(record.output) for record in done.values() if record.status == report.DONE and record.output}
    return results, {source for source in results if report.key(source.path) in written}


def result_at(path: Path, sources: Sequence[naming.Source], options: BatchOptions) -> Optional[naming.Source]:
    """The source whose result may be written to ``path``, through links too; None if there is none."""
    linked = path.exists() and path.stat().st_nlink > 1  # a hard link may have any name
    ends = {os.path.normcase(name) for name in (path.stem, Path(real(path)).stem)}
    for source in sources:
        probe = naming.output_path(source, options.output, options.suffix, ".png")
        if linked or os.path.normcase(probe.stem) in ends:
            wishes = sorted(naming.possible_extensions(options.extension, source.path))
            if any(paths.same_file(path, probe.with_suffix(wish)) for wish in (probe.suffix, *wishes)):
                return source
    return None


def check_output_folder(output: Path, below: Iterable[PurePath] = ()) -> None:
    """Make the output folder and see that a file can be made in it, before an hour of work is lost.

    Unfinished files that a killed run left there an hour ago or longer are removed.

    Args:
        below: Folders in it that results go to as well, if they exist.

    Raises:
        InputError: It is a file, or a name that Windows reserves.
        PictureError: It cannot be made or written to.
    """
    listing.refuse_device(output)
    output = Path(paths.openable(output))
    if output.exists() and not output.is_dir():
        raise InputError(f"The output {output} is a file; -o needs a folder.", code="output.file", path=str(output))
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=str(output)):
            pass
        for folder in sorted({output, *(output / name for name in below)}):
            for path in atomic.remove_leftovers(paths.openable(folder)):
                _log.info("removed %s, the unfinished file of a run that was killed", path)
    except OSError as error:
        raise PictureError(
            f"Nothing can be written to the output folder {output}: {one_line(error)}. Give another one with -o.",
            code="output.unwritable",
            path=str(output),
            reason=error,
        ) from error
