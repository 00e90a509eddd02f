"""A sentence in the language of the reader, from its code, its English text and its fields.

The English text is written where the sentence is raised or said; the Korean one is in :mod:`realesrgan.cli.ko`.
Control characters and line feeds of a value (a file name, a key, a text of a file) are shown as escapes.
"""

from __future__ import annotations

import locale
import logging
import os
import sys
from typing import Any, Mapping, Union

from ..errors import Lines, Phrase, RealESRGANError, as_field, visible
from ..files.paths import shown
from .ko import KOREAN

__all__ = ["LANGUAGES", "of_record", "phrase", "render", "system_language"]

LANGUAGES = ("en", "ko")

_KOREAN_PRIMARY_LANGUAGE = 0x12  # the low ten bits of a Windows language identifier


def phrase(code: str, template: str, /, **fields: Any) -> Phrase:
    """A sentence of the command line's own, in English and ready to be rendered.

    Args:
        template: The English sentence with its fields in braces.
    """
    shown = {name: _shown(as_field(value), "en") for name, value in fields.items()}
    return Phrase(code, template.format(**shown), **fields)


def render(sentence: Union[RealESRGANError, Phrase], lang: str) -> str:
    """An error or a phrase in words; in English where there is no Korean sentence or a field of it is missing."""
    return _translate(sentence.code, sentence.fields, str(sentence), lang)


def of_record(record: logging.LogRecord) -> Phrase:
    """A log record's sentence: a notice (see :func:`realesrgan.errors.notice`), or a line that has no translation."""
    code = getattr(record, "notice_code", "")
    return Phrase(code, record.getMessage(), **getattr(record, "notice_fields", {}))


def _translate(code: str, fields: Mapping[str, Any], english: str, lang: str) -> str:
    if lang == "en" or code not in KOREAN:
        return english
    shown = {name: _shown(value, lang) for name, value in fields.items()}
    try:
        return KOREAN[code].format(**{"text": english, **shown})
    except (KeyError, IndexError, ValueError):
        return english


def _shown(value: Any, lang: str) -> str:
    """A field as a part of a sentence."""
    if isinstance(value, Phrase):
        if lang == "en" or value.code in KOREAN:
            return render(value, lang).rstrip(".")
        return f"“{value}”"
    if isinstance(value, (tuple, list)):
        return ", ".join(_shown(item, lang) for item in value)
    return str(value) if isinstance(value, Lines) else visible(shown(str(value)))


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
