"""Inputs and results at addresses such as ``s3://bucket/folder``, through fsspec and the package for the store."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, Dict, List, Optional

from realesrgan.batch import report
from realesrgan.batch.plan import Job
from realesrgan.errors import InputError, one_line
from realesrgan.files.naming import PICTURE_SUFFIXES, Source

from .workers import Carrier

__all__ = ["Store", "is_address", "local"]


def is_address(text: str) -> bool:
    """Whether it names a store and not a path (a drive letter is no store)."""
    return re.match(r"^[A-Za-z][\w+.-]+://", str(text)) is not None


def local(text: str) -> str:
    """``file://`` addresses as paths; everything else as it is."""
    if not text.lower().startswith("file://"):
        return text
    from urllib.parse import unquote, urlsplit
    from urllib.request import url2pathname

    parts = urlsplit(text)
    return url2pathname(unquote(parts.path)) if parts.netloc in ("", "localhost") else f"//{parts.netloc}{parts.path}"


class Store(Carrier):
    """A store's files as sources, and results into a store or a folder.

    Args:
        inputs: Addresses of files or folders.
        output: An address or a path.
        planned: The folder in which results are named; for an address an empty one, in which nothing is written.

    Raises:
        InputError: fsspec or the store's own package is missing, or there is nothing at an address.
    """

    def __init__(self, inputs: List[str], output: str, recursive: bool, planned: Path) -> None:
        self.output = output
        self.planned = planned
        self.addresses: Dict[str, str] = {}
        self.sizes: Dict[str, int] = {}
        self.sources: List[Source] = []
        for address in inputs:
            self._list(address, recursive)

    def _list(self, address: str, recursive: bool) -> None:
        system, root = _open(address)
        try:
            entries = system.find(root, detail=True, maxdepth=None if recursive else 1)
        except (OSError, ValueError) as error:
            raise _unreadable(address, error) from error
        for path, about in sorted(entries.items()):
            if posixpath.splitext(path)[1].lower() not in PICTURE_SUFFIXES and len(entries) > 1:
                continue
            relative = (
                posixpath.relpath(path, root) if path.rstrip("/") != root.rstrip("/") else posixpath.basename(path)
            )
            # Only a name: nothing of this path is ever opened here.
            source = Source(Path(address.split("://")[0] + "-store") / path.lstrip("/"), PurePath(relative))
            self.addresses[str(source.path)] = system.unstrip_protocol(path)
            self.sizes[str(source.path)] = int(about.get("size") or 0)
            self.sources.append(source)
        if not entries:
            raise InputError(f"There is no picture at {address}.", code="cluster.empty", address=address)

    def read(self, job: Job) -> bytes:
        system, path = _open(self.addresses[str(job.source.path)])
        data: bytes = system.cat_file(path)
        return data

    def write(self, target: Path, data: bytes) -> None:
        """Stores put objects there whole; where a store is a file system, a rename does it."""
        if not is_address(self.output):
            super().write(target, data)
            return
        system, path = _open(self.address_of(target))
        system.makedirs(posixpath.dirname(path), exist_ok=True)
        partial = f"{path}.partial"
        try:
            system.pipe_file(partial, data)
            system.mv(partial, path)
        except Exception as error:
            raise OSError(f"{self.address_of(target)} cannot be written: {one_line(error)}") from error

    def finish(self, job: Job, target: Path, record: report.Record, data: bytes) -> report.Record:
        self.write(target, data)
        key = str(job.source.path)
        where = self.address_of(target) if is_address(self.output) else str(target)
        known: Dict[str, Any] = {"input": self.addresses[key], "input_bytes": self.sizes[key], "output": where}
        return replace(
            record, **known, input_mtime_ns=None, output_bytes=len(data), output_mtime_ns=None, output_hash=None
        )

    def address_of(self, target: Path) -> str:
        """The address that stands for a path below the pretended output folder."""
        return f"{self.output.rstrip('/')}/{target.relative_to(self.planned).as_posix()}"

    def left(self, records: List[report.Record], digest: str) -> List[Source]:
        """The sources that a report does not show as done with the same options, with a result of the size it says."""
        done = {record.input: record for record in records if record.status == report.DONE and record.options == digest}
        return [source for source in self.sources if not self._is_there(source, done)]

    def _is_there(self, source: Source, done: Dict[str, report.Record]) -> bool:
        record = done.get(self.addresses[str(source.path)])
        if record is None or record.output is None or record.input_bytes != self.sizes[str(source.path)]:
            return False
        try:
            if not is_address(record.output):
                return Path(record.output).stat().st_size == record.output_bytes
            system, path = _open(record.output)
            return bool(system.size(path) == record.output_bytes)
        except OSError:
            return False


def _open(address: str) -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise InputError(
            f"{address} needs fsspec and the store's own package: pip install fsspec s3fs (for s3://).",
            code="cluster.fsspec",
            address=address,
        ) from error
    try:
        return fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise _unreadable(address, error) from error


def _unreadable(address: str, error: Optional[BaseException]) -> InputError:
    return InputError(
        f"{address} cannot be read: {one_line(error) if error else ''}.",
        code="cluster.address",
        address=address,
        reason=error,
    )
