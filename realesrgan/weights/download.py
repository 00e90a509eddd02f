"""Fetch one file over HTTP: short patience before the first byte, resuming after it, verified before it counts.

Time and size have limits whatever a server does. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Optional, Tuple

from realesrgan import __version__
from realesrgan.errors import Phrase, WeightsError, as_field, one_line
from realesrgan.files.atomic import remove_leftovers, write_atomically
from realesrgan.weights.folders import MAX_DOWNLOAD

fcntl: Any = None
with contextlib.suppress(ImportError):  # not on Windows
    import fcntl

__all__ = ["MAX_DOWNLOAD", "Check", "Progress", "download", "sha256_of", "split_url"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # bytes done, bytes in all (0 if not known)
Check = Callable[[bytes, Path], object]  # what has come, and the file that it is for; raises WeightsError

RETRIES = 4  # once the first byte has come
RETRY_PAUSE_SECONDS = 1.0
REMEMBER_SECONDS = 300.0  # how long a host counts as unreachable
CONNECT_SECONDS = 3.0  # name, addresses, proxy and TLS together
SILENCE_SECONDS = 15.0  # between two reads
DEADLINE_SECONDS = 3600.0  # for one download with all its connections
GRACE_SECONDS = 60.0  # after which it must have come at SLOWEST on the average
SLOWEST = 2000.0  # bytes a second
_CHUNK = 1 << 18
_WATCH_SECONDS = 0.25
_SHOWN = 80  # letters of what a server says
_YOUNG_SECONDS = 2.0  # an unfinished file may not be locked yet

_unreachable: Dict[str, Tuple[float, Phrase]] = {}
_locks: Dict[str, threading.Lock] = {}
_locks_guard = threading.Lock()


def download(
    url: str,
    target: Path,
    *,
    sha256: str = "",
    size: Optional[int] = None,
    check: Optional[Check] = None,
    progress: Optional[Progress] = None,
    patient: bool = True,
    max_download: int = MAX_DOWNLOAD,
) -> Path:
    """Fetch ``url`` into ``target``, whose folder is made if need be.

    The bytes go to a temporary file beside ``target`` and take its name only when complete and verified. Proxies are
    taken from the environment. Several threads or processes may fetch the same file. Unfinished files that killed
    downloads left in the folder are removed.

    Args:
        sha256: Expected SHA-256 in lower-case hexadecimal; empty if not known.
        size: Expected number of bytes; None if not known.
        check: Called with all bytes before they take the name.
        progress: Called after each piece with the bytes done and the bytes in all (0 if not known).
        patient: If false, a host that could not be reached a few minutes ago is not tried again.
        max_download: Bytes at most, where ``size`` is None.

    Returns:
        ``target``.

    Raises:
        WeightsError: Not reachable, refused, interrupted too often, too slow, too large, not the expected bytes, or not
            writable.
    """
    host = split_url(url).netloc
    with _lock_of(target):
        if _is_there(target, sha256):
            return target  # another thread or process was quicker
        if not patient:
            _refuse_unreachable(host, url)

        def receive(stream: BinaryIO) -> None:
            with contextlib.suppress(OSError, ValueError, AttributeError):  # a file system without locks
                _lock(stream)
            found = _Transfer(url, host, stream, target, size, max_download, progress).run()
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
            if check is not None:
                _check(url, stream, target, check)

        with _disk(target):
            for path in remove_leftovers(target.parent, older_than=_YOUNG_SECONDS, refuse=_refuse_held):
                logger.debug("%s was left by a download that was killed; removed", path)
            try:
                write_atomically(target, receive)
            except PermissionError:
                # On Windows: another process may be reading the same file, which it fetched before us.
                if not _is_there(target, sha256):
                    raise
    return target


def _check(url: str, stream: BinaryIO, target: Path, check: Check) -> None:
    stream.seek(0)
    try:
        check(stream.read(), target)
    except WeightsError as error:
        raise WeightsError(
            f"What came from {url} cannot be used: {one_line(error)}. The file was not kept.",
            code="weights.download_check",
            url=url,
            reason=error,
        ) from error


def _lock(stream: BinaryIO) -> None:
    """Mark an unfinished file as being written to; OSError if another process has. Windows does it by itself."""
    if fcntl is not None:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _refuse_held(path: Path) -> None:
    with path.open("rb") as stream:
        _lock(stream)


def split_url(url: str) -> urllib.parse.SplitResult:
    """The parts of an address of HTTP.

    Raises:
        WeightsError: It is none.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.hostname and parts.port != 0:  # reading the port raises on a bad one
            return parts
    except ValueError:
        pass
    raise WeightsError(
        f"{url} is not an address: http:// or https://, a host and a path are expected.",
        code="weights.address",
        url=url,
    )


class _Broken(Exception):
    """The network failed; ``answered`` if the host did answer, though not in a way that can be used."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        inner = getattr(error, "reason", None)
        self.reason: Phrase = as_field(inner if isinstance(inner, BaseException) else error)
        self.answered = isinstance(error, ValueError)


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Turns what the network does into :class:`_Broken`; ValueError: an address in a redirect that is none."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Broken(error) from error


class _Watch:
    """Closes connections as soon as ``expired`` says so, in whatever call they hang."""

    def __init__(self, expired: Callable[[], bool]) -> None:
        self._expired = expired
        self._sockets: List[socket.socket] = []
        self._finished = threading.Event()

    def add(self, opened: socket.socket) -> None:
        self._sockets.append(opened)

    def __enter__(self) -> _Watch:
        threading.Thread(target=self._work, name="realesrgan-download-watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()

    def _work(self) -> None:
        while not self._finished.wait(_WATCH_SECONDS):
            for opened in list(self._sockets) if self._expired() else ():
                with contextlib.suppress(OSError):
                    # The plain call: that of an encrypted connection would change it under the reader's hands.
                    socket.socket.shutdown(opened, socket.SHUT_RDWR)


@dataclass
class _Transfer:
    """The bytes of one address on their way into a stream, over as many connections as it takes."""

    url: str
    host: str
    stream: BinaryIO
    target: Path
    size: Optional[int]
    limit: int
    progress: Optional[Progress]

    def __post_init__(self) -> None:
        self._total = self.size or 0
        self._done = 0
        self._received = 0  # in all connections together
        self._begun = time.monotonic()
        self._watch = _Watch(self._is_slow)
        self._digest = hashlib.sha256()
        self._version = ""  # what the server calls these very bytes

    def run(self) -> str:
        """Receive everything; returns the SHA-256."""
        with self._watch:
            return self._run()

    def _is_slow(self) -> bool:
        seconds = time.monotonic() - self._begun
        return seconds > DEADLINE_SECONDS or seconds > GRACE_SECONDS + self._received / SLOWEST

    def _run(self) -> str:
        for failures in range(RETRIES + 1):
            try:
                with self._request() as response:
                    _unreachable.pop(self.host, None)
                    self._start(response)
                    self._receive(response)
                if self._done and (not self._total or self._done == self._total):
                    return self._digest.hexdigest()
                reason = Phrase("connection.ended", "the connection ended early")
            except urllib.error.HTTPError as error:
                with error:
                    reason = Phrase("quote", f"{error.code} {error.reason}"[:_SHOWN])
                if not self._done or error.code < 500:
                    raise self._refused(reason) from None
            except _Broken as error:
                reason = error.reason
                if error.answered:
                    raise self._refused(reason) from error
                if not self._done and not self._is_slow():
                    _unreachable[self.host] = (time.monotonic(), reason)
                    raise _not_reachable(self.url, reason) from error
            if self._is_slow():
                raise self._too_slow()
            if not self._done:
                break
            logger.debug("%s: %s after %d bytes", self.url, reason, self._done)
            if failures < RETRIES:
                time.sleep(RETRY_PAUSE_SECONDS)
        raise WeightsError(
            f"The download of {self.url} broke off after {self._done} of {self._total or 'unknown'} bytes: {reason}. "
            "Try again later.",
            code="weights.interrupted",
            url=self.url,
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
        request = urllib.request.Request(self.url, headers=headers)
        with _network():
            return open_url(request, self._watch.add)

    def _start(self, response: Any) -> None:
        """Judge the headers, and be at the position from which the server sends."""
        if response.headers.get_content_type() == "text/html":
            raise WeightsError(
                f"{self.url} answers with a web page instead of a file (a login page of the network, perhaps). Open "
                "it in a browser, or set HTTPS_PROXY, and try again.",
                code="weights.download_page",
                url=self.url,
            )
        length = self._count("Content-Length", response.headers.get("Content-Length") or "0")
        if response.status == 206:
            first, _, total_text = response.headers.get("Content-Range", "").partition("/")
            if not first.startswith(f"bytes {self._done}-"):
                told = f"asked for bytes from {self._done}, got {first[:_SHOWN]!r}"
                raise self._refused(Phrase("connection.range", told, wanted=self._done, got=first[:_SHOWN]))
            total = self._done + length if total_text in ("", "*") else self._count("Content-Range", total_text)
        else:
            total = length
            if self._done:  # the server sends all of it again
                with _disk(self.target):
                    self.stream.seek(0)
                    self.stream.truncate()
                self._done = 0
                self._digest = hashlib.sha256()
        entity_tag = response.headers.get("ETag", "")
        self._version = entity_tag if entity_tag.startswith('"') else response.headers.get("Last-Modified", "")
        if total:
            self._check_size(total)
            self._total = total

    def _count(self, header: str, text: str) -> int:
        """A number of bytes in a header."""
        if re.fullmatch("[0-9]{1,18}", text) is None:
            text = text[:_SHOWN]
            told = f"its header {header} is {text!r}"
            raise self._refused(Phrase("connection.header", told, name=header, value=text))
        return int(text)

    def _receive(self, response: Any) -> None:
        # Until the total, not until the end: a server may leave the connection open.
        while not self._total or self._done < self._total:
            with _network():
                chunk = response.read1(_CHUNK)
            if not chunk or self._is_slow():
                return
            with _disk(self.target):
                self.stream.write(chunk)
            self._digest.update(chunk)
            self._done += len(chunk)
            self._received += len(chunk)
            if self._done > (self.limit if self.size is None else self.size):
                self._check_size(self._done)
            if self.progress is not None:
                self.progress(self._done, self._total)

    def _check_size(self, found: int) -> None:
        if self.size is not None and found != self.size:
            raise WeightsError(
                f"{self.url} has {found} bytes or more, but {self.size} are expected. The file was not kept. Try "
                f"again, or fetch it elsewhere and put it at {self.target}.",
                code="weights.download_size",
                url=self.url,
                expected=self.size,
                found=found,
                path=str(self.target),
            )
        if self.size is None and found > self.limit:
            raise WeightsError(
                f"{self.url} has {found} bytes or more, but {self.limit} are allowed. The file was not kept. To "
                "allow more, pass --max-download.",
                code="weights.download_limit",
                url=self.url,
                limit=self.limit,
                found=found,
            )

    def _too_slow(self) -> WeightsError:
        seconds = round(time.monotonic() - self._begun)
        return WeightsError(
            f"The download of {self.url} was given up: {self._received} bytes came in {seconds} s. Try again later, "
            f"or fetch the file elsewhere and put it at {self.target}.",
            code="weights.download_slow",
            url=self.url,
            done=self._received,
            seconds=seconds,
            path=str(self.target),
        )

    def _refused(self, reason: Phrase) -> WeightsError:
        return WeightsError(
            f"{self.url} cannot be downloaded: {reason}. Fetch the file elsewhere and put it at {self.target}.",
            code="weights.refused",
            url=self.url,
            reason=reason,
            path=str(self.target),
        )


def _not_reachable(url: str, reason: Phrase) -> WeightsError:
    return WeightsError(
        f"{url} cannot be reached: {reason}. Check the connection (HTTPS_PROXY is obeyed).",
        code="weights.unreachable",
        url=url,
        reason=reason,
    )


def _refuse_unreachable(host: str, url: str) -> None:
    when, reason = _unreachable.get(host, (float("-inf"), Phrase("quote", "")))
    if time.monotonic() - when < REMEMBER_SECONDS:
        raise _not_reachable(url, reason)


@contextlib.contextmanager
def _disk(target: Path) -> Iterator[None]:
    """Turns what the disk says into our error; a network's OSError must not be mistaken for it."""
    try:
        yield
    except OSError as error:
        raise WeightsError(
            f"{target} cannot be written: {one_line(error)}. Free space or choose a folder that is writable.",
            code="weights.disk",
            path=str(target),
            reason=error,
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


def _is_there(target: Path, sha256: str) -> bool:
    """Whether the expected file is there already."""
    with _disk(target):
        return bool(sha256) and target.is_file() and sha256_of(target) == sha256


def _lock_of(target: Path) -> threading.Lock:
    with _locks_guard:
        return _locks.setdefault(os.path.normcase(target.absolute()), threading.Lock())


def open_url(request: urllib.request.Request, opened: Callable[[socket.socket], None]) -> Any:
    """The response to ``request``, redirects to HTTP followed, proxies taken from the environment.

    Args:
        opened: Called with each socket that is connected.

    Raises:
        OSError: As :func:`urllib.request.urlopen` does (``URLError`` and ``HTTPError`` are OSErrors).
        http.client.HTTPException: The answer is not HTTP.
        ValueError: An address, also of a redirect, is none.
    """
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
        _Web(opened),
    ):
        director.add_handler(handler)
    return director.open(request, timeout=CONNECT_SECONDS)


class _BoundedConnect:
    """Lets the whole of connecting take :data:`CONNECT_SECONDS`, and each read after it :data:`SILENCE_SECONDS`.

    A socket's timeout alone bounds neither the look-up of the name nor the number of addresses tried.
    """

    def __init__(self, host: str, *, opened: Callable[[socket.socket], None], **options: Any) -> None:
        super().__init__(host, **options)  # type: ignore[call-arg]
        self._opened = opened

    def connect(self) -> None:
        failure: List[BaseException] = []
        finished = threading.Event()
        abandoned = threading.Event()

        def work() -> None:
            try:
                super(_BoundedConnect, self).connect()  # type: ignore[misc]
            except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
                failure.append(error)
            finished.set()
            if abandoned.is_set():
                self.close()  # type: ignore[attr-defined]

        threading.Thread(target=work, name="realesrgan-connect", daemon=True).start()
        if not finished.wait(CONNECT_SECONDS):
            abandoned.set()
            raise socket.timeout(f"no connection within {CONNECT_SECONDS:g} s")
        if failure:
            raise failure[0]
        self.sock.settimeout(SILENCE_SECONDS)  # type: ignore[attr-defined]
        self._opened(self.sock)  # type: ignore[attr-defined]


class _Plain(_BoundedConnect, http.client.HTTPConnection):
    pass


class _Secure(_BoundedConnect, http.client.HTTPSConnection):
    pass


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Closes the answer also where the address in it is none."""

    def http_error_302(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError:
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _Web(urllib.request.AbstractHTTPHandler):
    """Opens http:// and https:// by bounded connections."""

    def __init__(self, opened: Callable[[socket.socket], None]) -> None:
        super().__init__()
        self._opened = opened

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        connection: Any = _Plain
        return self.do_open(connection, request, opened=self._opened)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        connection: Any = _Secure
        return self.do_open(connection, request, opened=self._opened, context=ssl.create_default_context())

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_
