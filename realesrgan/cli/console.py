"""What the command line shows: lines, bars on a terminal, and the notices of the library."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import IO, Any, Optional, Set, Tuple

from ..errors import RealESRGANError
from . import messages

__all__ = ["Console", "prepare_streams"]


def prepare_streams() -> None:
    """Let standard output and error show any name: what the console's encoding lacks is escaped, never an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


class Console:
    """Lines to standard output, problems and bars to standard error; bars only if that is a terminal.

    Args:
        lang: ``"en"`` or ``"ko"``.
        verbose: Show debugging lines and where errors came from.
    """

    def __init__(self, lang: str, verbose: bool = False) -> None:
        self.lang = lang
        self.verbose = verbose
        self.has_bars = _is_terminal(sys.stderr)
        self._files: Any = None
        self._tiles: Any = None
        self._handler = _Handler(self)
        self._said: Set[str] = set()

    def __enter__(self) -> Console:
        logger = logging.getLogger("realesrgan")
        self._level = logger.level
        logger.setLevel(logging.DEBUG if self.verbose else logging.INFO)
        logger.addHandler(self._handler)
        return self

    def __exit__(self, *exc: object) -> None:
        self.close_bars()
        logger = logging.getLogger("realesrgan")
        logger.removeHandler(self._handler)
        logger.setLevel(self._level)

    def say(self, code: str, **fields: Any) -> None:
        """A line of the table, to standard output."""
        self.line(messages.say(code, self.lang, **fields))

    def warn(self, code: str, **fields: Any) -> None:
        """A line of the table, to standard error."""
        self.line(messages.say(code, self.lang, **fields), problem=True)

    def line(self, text: str, *, problem: bool = False) -> None:
        """A line of text. A reader that went away (``| head``) is no error."""
        stream: Optional[IO[str]] = sys.stderr if problem else sys.stdout
        if stream is None:  # pythonw
            return
        try:
            if self._files is not None or self._tiles is not None:
                from tqdm import tqdm

                tqdm.write(text, file=stream)
            else:
                stream.write(text + "\n")
            stream.flush()
        except (BrokenPipeError, ValueError):
            pass

    def once(self, text: str, *, problem: bool) -> None:
        """A line that is not said a second time."""
        if text not in self._said:
            self._said.add(text)
            self.line(text, problem=problem)

    def sentence(self, error: BaseException) -> str:
        """An error in words."""
        if isinstance(error, RealESRGANError):
            return messages.render(error, self.lang)
        return messages.say("cli.unexpected", self.lang, kind=type(error).__name__, reason=one_line(error))

    def error(self, error: BaseException, text: str = "") -> None:
        """An error's sentence, or ``text`` in its place; with ``verbose`` also where it came from."""
        self.line(text or self.sentence(error), problem=True)
        if self.verbose:
            trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            self.line(trace.rstrip(), problem=True)

    def files_bar(self, total: int, done: int = 0) -> None:
        """Show how many of ``total`` files are done; a single file has no bar of its own."""
        if not self.has_bars or total < 2:
            return
        if self._files is None:
            self._files = self._bar(total, 0, messages.say("cli.bar_files", self.lang))
        self._files.update(done - self._files.n)

    def tiles_bar(self, name: str, done: int, total: int) -> None:
        """Show how many tiles of the picture ``name`` are done."""
        if not self.has_bars:
            return
        if self._tiles is None:
            self._tiles = self._bar(total, 1, name)
        if (self._tiles.total, self._tiles.desc) != (total, name):
            self._tiles.set_description_str(name, refresh=False)
            self._tiles.reset(total)
        self._tiles.update(done - self._tiles.n)

    def bytes_bar(self, name: str, done: int, total: int) -> None:
        """Show a download."""
        if not self.has_bars:
            return
        if self._tiles is None or self._tiles.desc != name:
            self.close_bars()
            self._tiles = self._bar(total, 0, name, unit="B", unit_scale=True)
        self._tiles.update(done - self._tiles.n)
        if total and done >= total:
            self.close_bars()

    def _bar(self, total: int, position: int, name: str, **options: Any) -> Any:
        from tqdm import tqdm

        # Shells, not terminals, know their width; dynamic_ncols follows a window that is resized.
        return tqdm(total=total, position=position, desc=name, leave=False, dynamic_ncols=True, **options)

    def close_bars(self) -> None:
        """Take the bars off the screen."""
        for bar in (self._tiles, self._files):
            if bar is not None:
                bar.close()
        self._tiles = self._files = None


class _Handler(logging.Handler):
    """Shows the library's records: notices and warnings always, the rest with ``--verbose``."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        is_notice = hasattr(record, "notice_code")
        if not (is_notice or record.levelno >= logging.WARNING or self._console.verbose):
            return
        text = messages.render_record(record, self._console.lang)
        self._console.once(text, problem=record.levelno >= logging.WARNING or not is_notice)
        if record.exc_info and self._console.verbose:
            self._console.line("".join(traceback.format_exception(*_trace(record))).rstrip(), problem=True)


def _trace(record: logging.LogRecord) -> Tuple[Any, Any, Any]:
    info: Any = record.exc_info
    return (info[0], info[1], info[2])


def _is_terminal(stream: Optional[IO[str]]) -> bool:
    """Whether bars can be drawn there: some pseudo-terminals have no width."""
    try:
        return stream is not None and stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):  # closed, or without a size
        return False


def one_line(error: BaseException) -> str:
    """An error's text without line breaks."""
    return " ".join(str(error).split())
