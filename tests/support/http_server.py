"""A web server on the loopback that misbehaves as told."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, List, Optional


@dataclass
class Answer:
    """How to answer one request.

    Attributes:
        status: Of a whole answer; 206 is chosen by itself where a range is asked for and ``ranges`` is true.
        cut: Send only so many bytes of the body, then close.
        ranges: Obey Range headers.
        length: Send Content-Length.
        stall: Send the headers and the ``cut`` bytes, then nothing more until the server ends.
        silent: Send nothing at all until the server ends.
        shift: Add this to the first byte of an answered range: a server that counts wrongly.
        total: What an answered range says that the whole has.
        drip: Send ``headers``, the ``body``, or the ``chunks`` of one, a byte at a time and without end.
    """

    status: int = 200
    body: Optional[bytes] = None
    content_type: str = "application/octet-stream"
    cut: Optional[int] = None
    ranges: bool = True
    length: bool = True
    stall: bool = False
    silent: bool = False
    shift: int = 0
    total: str = ""
    drip: str = ""
    headers: Dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    path: str
    headers: Dict[str, str]


class Server:
    """``with Server() as server:`` ``server.url`` ends in a slash.

    ``files`` maps paths (without the slash and the query) to bytes, served well. ``answers`` are used up first, one a
    request.
    """

    def __init__(self) -> None:
        self.files: Dict[str, bytes] = {}
        self.answers: List[Answer] = []
        self.requests: List[Request] = []
        self.ending = threading.Event()
        self._lock = threading.Lock()
        self._server = _QuietServer(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def next_answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            return self.answers.pop(0) if self.answers else Answer()

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()  # waits for the handlers
        self._thread.join()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = False
    owner: Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what the tests do."""


class _Handler(BaseHTTPRequestHandler):
    server: _QuietServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        owner = self.server.owner
        answer = owner.next_answer(Request(self.path.lstrip("/"), dict(self.headers.items())))
        self.close_connection = True
        if answer.silent:
            owner.ending.wait()
            return
        body = answer.body if answer.body is not None else owner.files.get(self.path.lstrip("/").partition("?")[0])
        status = answer.status
        if body is None or status >= 400:
            self.send_error(status if status >= 400 else 404)
            return
        if answer.drip:
            self._drip(answer.drip)
            return
        start = 0
        wanted = self.headers.get("Range")
        if wanted and answer.ranges:
            start = int(wanted[len("bytes=") :].rstrip("-"))
            status = 206
        self.send_response(status)
        self.send_header("Content-Type", answer.content_type)
        if answer.length:
            self.send_header("Content-Length", str(len(body) - start))
        if status == 206:
            self.send_header(
                "Content-Range", f"bytes {start + answer.shift}-{len(body) - 1}/{answer.total or len(body)}"
            )
        for name, value in answer.headers.items():
            self.send_header(name, value.encode("utf-8").decode("latin-1"))
        self.end_headers()
        self.wfile.write(body[start : None if answer.cut is None else start + answer.cut])
        self.wfile.flush()
        if answer.stall:
            owner.ending.wait()

    def _drip(self, part: str) -> None:
        opening = {
            "headers": b"HTTP/1.1 200 OK\r\nX-Long: ",
            "body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
            "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;note=",
        }
        self.wfile.write(opening[part])
        while not self.server.owner.ending.wait(0.02):
            try:
                self.wfile.write(b"x")
                self.wfile.flush()
            except OSError:
                return
