"""HTTP connections that give up soon when nobody is there, and wait longer once somebody is."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import urllib.request
from typing import Any, List

__all__ = ["open_url"]

CONNECT_SECONDS = 3.0  # name, addresses, proxy and TLS together
SILENCE_SECONDS = 15.0  # between two reads


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
