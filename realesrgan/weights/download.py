"""Fetch one file over HTTP: short patience before the first byte, resuming after it, verified before it counts."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, Optional, Tuple

from realesrgan import __version__
from realesrgan.errors import WeightsError
from realesrgan.files.atomic import write_atomically
from realesrgan.weights import transport

__all__ = ["Progress", "download", "forget_unreachable", "sha256_of"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # bytes done, bytes in all (0 if not known)

RETRIES = 4  # once the first byte has come
RETRY_PAUSE_SECONDS = 1.0
REMEMBER_SECONDS = 300.0  # how long a host counts as unreachable
_CHUNK = 1 << 18

_unreachable: Dict[str, Tuple[float, str]] = {}
_locks: Dict[str, threading.Lock] = {}
_locks_guard = threading.Lock()


def download(
    url: str,
    target: Path,
    *,
    sha256: str = "",
    size: Optional[int] = None,
    progress: Optional[Progress] = None,
    patient: bool = True,
) -> Path:
    """Fetch ``url`` into ``target``, whose folder is made if need be.

    The bytes go to a temporary file beside ``target`` and take its name only when complete and verified. Proxies are
    taken from the environment. Several threads or processes may fetch the same file.

    Args:
        sha256: Expected SHA-256 in lower-case hexadecimal; empty if not known.
        size: Expected number of bytes; None if not known.
        progress: Called after each piece with the bytes done and the bytes in all (0 if not known).
        patient: If false, a host that could not be reached a few minutes ago is not tried again.

    Returns:
        ``target``.

    Raises:
        WeightsError: Not reachable, refused, interrupted too often, not the expected bytes, or not writable.
    """
    host = urllib.parse.urlsplit(url).netloc
    with _lock_of(target):
        if sha256 and target.is_file() and _sha256(target) == sha256:
            return target  # another thread or process was quicker
        if not patient:
            _refuse_unreachable(host, url)

        def receive(stream: BinaryIO) -> None:
            found = _Transfer(url, host, stream, target, size, progress).run()
            if sha256 and found != sha256:
                raise WeightsError(
                    f"{url} has SHA-256 {found}, but {sha256} is expected. The file was not kept. Try again, or fetch "
                    f"it elsewhere and put it at {target}.",
                    code="weights.download_hash",
                    url=url,
                    expected=sha256,
                    found=found,
                    path=str(target),
                )

        with _disk(target):
            try:
                write_atomically(target, receive)
            except PermissionError:
                # On Windows: another process may be reading the same file, which it fetched before us.
                if not (sha256 and target.is_file() and _sha256(target) == sha256):
                    raise
    return target


def forget_unreachable() -> None:
    """Let every host be tried again at once."""
    _unreachable.clear()


class _Transfer:
    """The bytes of one address on their way into a stream, over as many connections as it takes."""

    def __init__(
        self,
        url: str,
        host: str,
        stream: BinaryIO,
        target: Path,
        size: Optional[int],
        progress: Optional[Progress],
    ) -> None:
        self._url = url
        self._host = host
        self._stream = stream
        self._target = target
        self._size = size
        self._progress = progress
        self._total = size or 0
        self._done = 0
        self._digest = hashlib.sha256()
        self._version = ""  # what the server calls these very bytes

    def run(self) -> str:
        """Receive everything; returns the SHA-256."""
        for failures in range(RETRIES + 1):
            try:
                with self._request() as response:
                    _unreachable.pop(self._host, None)
                    self._start(response)
                    self._receive(response)
                if self._done and (not self._total or self._done == self._total):
                    return self._digest.hexdigest()
                reason = "the connection ended early"
            except urllib.error.HTTPError as error:
                with error:
                    reason = f"{error.code} {error.reason}"
                if not self._done or error.code < 500:
                    raise self._refused(reason) from None
            except (OSError, http.client.HTTPException) as error:
                reason = _reason_of(error)
                if not self._done:
                    _unreachable[self._host] = (time.monotonic(), reason)
                    raise _not_reachable(self._url, reason) from error
            if not self._done:
                break
            logger.debug("%s: %s after %d bytes", self._url, reason, self._done)
            if failures < RETRIES:
                time.sleep(RETRY_PAUSE_SECONDS)
        raise WeightsError(
            f"The download of {self._url} broke off after {self._done} of {self._total or 'unknown'} bytes: {reason}. "
            "Try again later.",
            code="weights.interrupted",
            url=self._url,
            done=self._done,
            total=self._total,
            reason=reason,
        )

    def _request(self) -> Any:
        headers = {"User-Agent": f"realesrgan/{__version__}"}
        if self._done:
            headers["Range"] = f"bytes={self._done}-"
            if self._version:
                headers["If-Range"] = self._version
        request = urllib.request.Request(self._url, headers=headers)
        return transport.open_url(request)

    def _start(self, response: Any) -> None:
        """Judge the headers, and be at the position from which the server sends."""
        if response.headers.get_content_type() == "text/html":
            raise WeightsError(
                f"{self._url} answers with a web page instead of a file (a login page of the network, perhaps). Open "
                "it in a browser, or set HTTPS_PROXY, and try again.",
                code="weights.download_page",
                url=self._url,
            )
        length = int(response.headers.get("Content-Length") or 0)
        if response.status == 206:
            first, _, total_text = response.headers.get("Content-Range", "").partition("/")
            if not first.startswith(f"bytes {self._done}-"):
                raise self._refused(f"asked for bytes from {self._done}, got {first!r}")
            total = int(total_text) if total_text.isdigit() else self._done + length
        else:
            total = length
            if self._done:  # the server sends all of it again
                with _disk(self._target):
                    self._stream.seek(0)
                    self._stream.truncate()
                self._done = 0
                self._digest = hashlib.sha256()
        entity_tag = response.headers.get("ETag", "")
        self._version = entity_tag if entity_tag.startswith('"') else response.headers.get("Last-Modified", "")
        if total:
            self._check_size(total)
            self._total = total

    def _receive(self, response: Any) -> None:
        # Until the total, not until the end: a server may leave the connection open.
        while not self._total or self._done < self._total:
            chunk = response.read1(_CHUNK)
            if not chunk:
                return
            with _disk(self._target):
                self._stream.write(chunk)
            self._digest.update(chunk)
            self._done += len(chunk)
            if self._size is not None and self._done > self._size:
                self._check_size(self._done)
            if self._progress is not None:
                self._progress(self._done, self._total)

    def _check_size(self, found: int) -> None:
        if self._size is not None and found != self._size:
            raise WeightsError(
                f"{self._url} has {found} bytes or more, but {self._size} are expected. The file was not kept. Try "
                f"again, or fetch it elsewhere and put it at {self._target}.",
                code="weights.download_size",
                url=self._url,
                expected=self._size,
                found=found,
                path=str(self._target),
            )

    def _refused(self, reason: str) -> WeightsError:
        return WeightsError(
            f"{self._url} cannot be downloaded: {reason}. Fetch the file elsewhere and put it at {self._target}.",
            code="weights.refused",
            url=self._url,
            reason=reason,
            path=str(self._target),
        )


def _reason_of(error: BaseException) -> str:
    inner = getattr(error, "reason", None)
    error = inner if isinstance(inner, BaseException) else error
    return str(error) or type(error).__name__


def _not_reachable(url: str, reason: str) -> WeightsError:
    return WeightsError(
        f"{url} cannot be reached: {reason}. Check the connection (HTTPS_PROXY is obeyed).",
        code="weights.unreachable",
        url=url,
        reason=reason,
    )


def _refuse_unreachable(host: str, url: str) -> None:
    when, reason = _unreachable.get(host, (float("-inf"), ""))
    if time.monotonic() - when < REMEMBER_SECONDS:
        raise _not_reachable(url, reason)


@contextlib.contextmanager
def _disk(target: Path) -> Iterator[None]:
    """Turns what the disk says into our error; a network's OSError must not be taken for it."""
    try:
        yield
    except OSError as error:
        raise WeightsError(
            f"{target} cannot be written: {error}. Free space or choose a folder that is writable.",
            code="weights.disk",
            path=str(target),
            reason=str(error),
        ) from error


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with _disk(path):
        return sha256_of(path)


def _lock_of(target: Path) -> threading.Lock:
    with _locks_guard:
        return _locks.setdefault(os.path.normcase(target.absolute()), threading.Lock())
