"""Errors, notices and parts of sentences that reach a user.

The tree of errors::

    RealESRGANError
      InputError              an argument, a flag or an array is not accepted (also a ValueError)
      PictureError            a picture file cannot be read or written
      WeightsError            weights cannot be found, fetched, verified or loaded
      DeviceError             a device is missing, refused or unusable
        DeviceOutOfMemoryError
        DeviceLostError
      TileError               the network failed on one tile
      VideoError              a video cannot be read or written (realesrgan.video.problems)

Every error carries a ``code`` and the ``fields`` of its sentence, so that a program can act on it and
:mod:`realesrgan.cli.messages` can say it in the user's language. ``str(error)`` is the English sentence: what happened,
which value, what is allowed, and the next step. The sentence is written where it is raised, the Korean one is under
the same code in :mod:`realesrgan.cli.ko`, which also says how a sentence is added.

A reason is given as a field in the form it has: an error (of any kind) as the error, a reason of ours as a
:class:`Phrase`, which may also be the text of an error that only carries it, as in ``ValueError(Phrase(...))``. All are
translated with the sentence around them::

    raise WeightsError(
        f"{path} cannot be read: {one_line(error)}. Check the path.", code="weights.unreadable", path=path, reason=error
    )
"""

from __future__ import annotations

import errno
import logging
import re
from pathlib import PurePath
from typing import Any, Dict, Iterable, List, Mapping, Optional, Set, Tuple

__all__ = [
    "SAID",
    "DeviceError",
    "DeviceLostError",
    "DeviceOutOfMemoryError",
    "InputError",
    "Lines",
    "Phrase",
    "PictureError",
    "RealESRGANError",
    "TileError",
    "WeightsError",
    "as_field",
    "aside",
    "notice",
    "one_line",
    "visible",
]

#: What ``notice(..., once=True)`` has said in this process. ``SAID.clear()`` lets all of it be said again.
SAID: Set[Any] = set()

# Control characters, line separators, and marks that change the direction of what follows.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Phrase(str):
    """A part of a sentence in English, such as a reason, with a code and fields by which it can be translated.

    The text has no full stop at its end. The code ``"quote"`` marks a text of another program, without translation.
    """

    code: str
    fields: Dict[str, Any]

    def __new__(cls, code: str, text: str, /, **fields: Any) -> Phrase:
        phrase = super().__new__(cls, _shown(text, fields))
        phrase.code = code
        phrase.fields = _as_fields(fields)
        return phrase

    def __reduce__(self) -> Tuple[Any, ...]:
        return _make_phrase, (self.code, str(self), self.fields)


def _make_phrase(code: str, text: str, fields: Mapping[str, Any]) -> Phrase:
    return Phrase(code, text, **fields)


class Lines(str):
    """A list with one line for each item: the only field of a sentence that keeps its line feeds."""

    def __new__(cls, items: Iterable[Any]) -> Lines:
        return super().__new__(cls, "\n".join(visible(str(item)) for item in items))

    def __reduce__(self) -> Tuple[Any, ...]:
        return Lines, (self.split("\n"),)


class RealESRGANError(RuntimeError):
    """Base of all errors of this package.

    Args:
        message: The English sentence. Control characters in it, and line feeds of names, become visible escapes.
        code: A short dotted identifier, for example ``"weights.hash"``. Defaults to the class's own.
        **fields: The values that the sentence names, by name: str, int, float, paths, :class:`Phrase`, :class:`Lines`,
            errors (kept as phrases), or tuples of them.
    """

    default_code = "error"

    def __init__(self, message: str, *, code: Optional[str] = None, **fields: Any) -> None:
        super().__init__(_shown(message, fields))
        self.code = code or self.default_code
        self.fields = _as_fields(fields)


class InputError(RealESRGANError, ValueError):
    """An argument or an array is not what the call takes."""

    default_code = "input"


class PictureError(RealESRGANError):
    """A picture file cannot be read or written. ``fields``: ``path``, ``reason``."""

    default_code = "picture"


class WeightsError(RealESRGANError):
    """Weights cannot be found, fetched, verified or loaded."""

    default_code = "weights"


class DeviceError(RealESRGANError):
    """A device that was asked for is missing, refused or unusable."""

    default_code = "device"


class DeviceOutOfMemoryError(DeviceError):
    """The device's memory does not suffice even for the smallest tile. ``fields``: ``tried`` (tile sizes)."""

    default_code = "device.memory"


class DeviceLostError(DeviceError):
    """The device was removed or reset; this process cannot use it any more."""

    default_code = "device.lost"


class TileError(RealESRGANError):
    """The network failed on one tile for a reason other than memory. ``__cause__`` is the original error."""

    default_code = "tile"


def notice(
    logger: logging.Logger, code: str, message: str, *, level: int = logging.WARNING, once: bool = False, **fields: Any
) -> None:
    """Say one line to the user through ``logger``.

    The record gets the attributes ``notice_code`` and ``notice_fields``, by which a handler can translate it.

    Args:
        code: As of an error, and so are ``message`` and ``fields``.
        once: Say it only the first time in this process (:data:`SAID`); other fields make it another notice.
    """
    shown = _shown(message, fields)
    if once:
        if (code, shown) in SAID:
            return
        SAID.add((code, shown))
    logger.log(level, shown, extra={"notice_code": code, "notice_fields": _as_fields(fields)})


def one_line(error: BaseException, limit: int = 200) -> str:
    """What an error says, as a part of a sentence.

    One line of at most ``limit`` characters without a full stop at its end. An error of the system gives its reason
    without the path, an error without a text the name of its type.
    """
    told = getattr(error, "strerror", None)
    text = " ".join((told if isinstance(told, str) and told else str(error)).split())
    return visible(text)[:limit].rstrip(" .") or type(error).__name__


def as_field(value: Any) -> Any:
    """A value as the fields of errors keep it: picklable, and with errors as :class:`Phrase`."""
    if isinstance(value, RealESRGANError):
        return Phrase(value.code, str(value).rstrip("."), **value.fields)
    if isinstance(value, OSError) and value.strerror and (value.errno or 0) in errno.errorcode:
        name = errno.errorcode[value.errno or 0]
        # Windows numbers what befalls a connection anew: WSAECONNREFUSED is its ECONNREFUSED.
        return Phrase("os." + (name[3:] if name.startswith("WSAE") else name), one_line(value))
    if isinstance(value, BaseException):
        told = value.args[0] if len(value.args) == 1 else None
        return told if isinstance(told, Phrase) else Phrase("quote", one_line(value))
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, (tuple, list)):
        return tuple(map(as_field, value))
    return value


def aside(reason: Any) -> Any:
    """A reason in parentheses at the end of a part of a sentence; nothing where there is none."""
    field = as_field(reason)
    return Phrase("aside", f" ({field})", reason=field) if field else ""


def visible(text: str) -> str:
    r"""The text with its control characters and line feeds as escapes (``\n``, ``\x1b``, ``\u202e``)."""
    return _INVISIBLE.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


def _as_fields(fields: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: as_field(value) for name, value in fields.items()}


def _shown(message: str, fields: Mapping[str, Any]) -> str:
    """The message with every control character visible, but for the line feeds around a field of :class:`Lines`."""
    if _INVISIBLE.search(message) is None:
        return message
    texts = list(_texts(fields.values()))
    if not any(isinstance(text, Lines) for text in texts):
        return visible(message)
    for text in texts:
        if not isinstance(text, (Lines, Phrase)) and _INVISIBLE.search(text):
            message = message.replace(text, visible(text))
    return "\n".join(map(visible, message.split("\n")))


def _texts(values: Iterable[Any]) -> List[str]:
    """The texts among the values of fields, those within tuples and phrases too."""
    found: List[str] = []
    for value in map(as_field, values):
        if isinstance(value, tuple):
            found += _texts(value)
        elif isinstance(value, str):
            found.append(value)
            found += _texts(getattr(value, "fields", {}).values())
    return found
