"""What the command line shows: lines, bars on a terminal, and the notices of the library."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import IO, Any, Optional, Set, Tuple, TypeVar, Union

from ..errors import InputError, Phrase, RealESRGANError, visible
from . import messages

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "OK",
    "USAGE",
    "Console",
    "as_sentence",
    "can_show",
    "prepare_streams",
    "status_of",
]

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses of all commands."""

# Wrong from the start, whatever the pictures: these end a run with the status of wrong usage.
_USAGE_CODES = (
    *("device.missing", "device.no_card", "device.unknown", "weights.missing", "weights.unreadable"),
    *("faces.missing", "faces.python", "faces.weights", "faces.download", "faces.untrusted"),
    *("video.no_av", "video.old_av", "video.encoder"),
)

Sentence = Union[RealESRGANError, Phrase]
_Kind = TypeVar("_Kind", bound="Console")


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

    def __enter__(self: _Kind) -> _Kind:
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

    def say(self, code: str, template: str, **fields: Any) -> None:
        """A sentence to standard output: its code, its English text with the fields in braces, and the fields."""
        self.show(messages.phrase(code, template, **fields))

    def warn(self, code: str, template: str, **fields: Any) -> None:
        """As :meth:`say`, to standard error."""
        self.show(messages.phrase(code, template, **fields), problem=True)

    def show(self, sentence: Sentence, *, problem: bool = False) -> None:
        """An error or a phrase in the reader's language; in English where the stream's encoding lacks the language."""
        self.line(self._words(sentence, problem), problem=problem)

    def _words(self, sentence: Sentence, problem: bool) -> str:
        text = messages.render(sentence, self.lang)
        fits = self.lang == "en" or can_show(text, sys.stderr if problem else sys.stdout)
        return text if fits else messages.render(sentence, "en")

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

    def once(self, sentence: Sentence, *, problem: bool) -> None:
        """A sentence that is not said a second time."""
        text = self._words(sentence, problem)
        if text not in self._said:
            self._said.add(text)
            self.line(text, problem=problem)

    def error(self, error: BaseException, sentence: Optional[Phrase] = None) -> None:
        """What an error says, or ``sentence`` in its place; with ``verbose`` also where it came from."""
        self.show(sentence or as_sentence(error), problem=True)
        if self.verbose:
            trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            self.line(trace.rstrip(), problem=True)

    def files_bar(self, total: int, done: int = 0) -> None:
        """Show how many of ``total`` files are done; a single file has no bar of its own."""
        if not self.has_bars or total < 2:
            return
        if self._files is None:
            self._files = self._bar(total, 0, self._words(Phrase("cli.bar_files", "pictures"), problem=True))
        self._files.update(done - self._files.n)

    def tiles_bar(self, name: str, done: int, total: int) -> None:
        """Show how many tiles of the picture ``name`` are done."""
        if not self.has_bars:
            return
        name = visible(name)
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
        name = visible(name)
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
        problem = record.levelno >= logging.WARNING or not is_notice
        self._console.once(messages.of_record(record), problem=problem)
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


def as_sentence(error: BaseException) -> Sentence:
    """An error in words; one that is not ours is a mistake of the program."""
    if isinstance(error, RealESRGANError):
        return error
    return messages.phrase(
        "cli.unexpected",
        "Unexpected error: {kind}: {reason}. -v shows where it came from.",
        kind=type(error).__name__,
        reason=error,
    )


def status_of(error: BaseException) -> int:
    """The exit status of a command that an error has ended; an end by argparse and Ctrl-C are such errors too."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else (OK if error.code is None else USAGE)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return USAGE if isinstance(error, InputError) or getattr(error, "code", "") in _USAGE_CODES else FAILED


def can_show(text: str, stream: Optional[IO[str]]) -> bool:
    """Whether every character of the text exists in the encoding of the stream."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    except LookupError:
        pass
    return True
