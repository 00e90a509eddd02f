"""What a user reads, in English and Korean, by code: the command line's own lines, notices and errors.

English errors and notices carry their own sentence; the table holds the Korean one beside an English one with the same
fields, so that both can be said from the fields alone.
"""

from __future__ import annotations

import locale
import logging
import os
import string
import sys
from types import MappingProxyType
from typing import Any, FrozenSet, Mapping

from ..errors import RealESRGANError
from .messages_table import TABLE

__all__ = ["LANGUAGES", "MESSAGES", "fields_of", "render", "render_record", "say", "system_language"]

LANGUAGES = ("en", "ko")
MESSAGES: Mapping[str, Mapping[str, str]] = MappingProxyType(TABLE)

_KOREAN_PRIMARY_LANGUAGE = 0x12  # the low ten bits of a Windows language identifier


def say(code: str, lang: str, **fields: Any) -> str:
    """The sentence of ``code``.

    Raises:
        KeyError: No such code, or a field of the sentence is missing (a mistake in the program).
    """
    return MESSAGES[code][lang].format(**{name: _plain(value) for name, value in fields.items()})


def render(error: RealESRGANError, lang: str) -> str:
    """An error's sentence; its own English one where the table has none or a field is missing."""
    return _translate(error.code, error.fields, str(error), lang)


def render_record(record: logging.LogRecord, lang: str) -> str:
    """A log record's sentence, translated if it is a notice (see :func:`realesrgan.errors.notice`)."""
    message = record.getMessage()
    code = getattr(record, "notice_code", None)
    return message if code is None else _translate(code, getattr(record, "notice_fields", {}), message, lang)


def _translate(code: str, fields: Mapping[str, Any], english: str, lang: str) -> str:
    if lang == "en" or code not in MESSAGES:
        return english
    try:
        return say(code, lang, **fields)
    except (KeyError, IndexError, ValueError):
        return english


def _plain(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ", ".join(str(item) for item in value)
    return str(value)


def fields_of(template: str) -> FrozenSet[str]:
    """The names of the fields of a sentence."""
    return frozenset(name for _, name, _, _ in string.Formatter().parse(template) if name)


def system_language(environment: Mapping[str, str] = os.environ) -> str:
    """``"ko"`` where the system speaks Korean, else ``"en"``."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = environment.get(variable, "")
        if value:
            return "ko" if value.lower().startswith("ko") else "en"
    if sys.platform == "win32":
        return _windows_language()
    name = locale.getlocale()[0] or ""
    return "ko" if name.lower().startswith("ko") else "en"


def _windows_language() -> str:
    import ctypes

    try:
        identifier = ctypes.WinDLL("kernel32").GetUserDefaultUILanguage()  # type: ignore[attr-defined,unused-ignore]
    except (AttributeError, OSError):
        return "en"
    return "ko" if identifier & 0x3FF == _KOREAN_PRIMARY_LANGUAGE else "en"
