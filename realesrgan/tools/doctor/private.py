"""Take out of a report what is private: folders, the user's name, the machine's name."""

from __future__ import annotations

import getpass
import os
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

from realesrgan.files.paths import real

__all__ = ["Scrubber"]

_ROOT = Path(real(__file__)).parents[3]
# What is left after the known folders: a drive, a share, or a path from the root with two parts at least.
_PATH = re.compile(r"""(?<![\w/\\.:<>])(?:[A-Za-z]:[\\/]|\\\\|~[\\/]|/(?=[^\s/'"]+/))[^\s'"<>|*?;,:()]*""", re.VERBOSE)
# A home that is not named by the environment; users' names may have spaces.
_HOMES = re.compile(
    r"""(?:[A-Za-z]:[\\/]+Users|(?<![\w.])/(?:home|Users))[\\/]+[^\\/"'<>|:*?,;\n]+(?=[\\/])""", re.IGNORECASE
)
# Folders of the user's own say something about the user too, and may have spaces in their names.
_BELOW = re.compile(r"""(<home>|<working\ folder>)[\\/](?:[^"'<>|:;,\n]*[\\/])?""", re.VERBOSE)
_NAMES = ("USER", "USERNAME", "LOGNAME", "COMPUTERNAME", "HOSTNAME", "USERDOMAIN", "SUDO_USER")


class Scrubber:
    """Replaces folders by what they are, and names by ``<user>`` and ``<machine>``."""

    def __init__(self) -> None:
        self._folders = _folders()
        self._names = _names()

    def text(self, text: str) -> str:
        """The text without private parts; of other paths only the last part is left."""
        for folder, label in self._folders:
            text = re.sub(re.escape(folder) + r"(?![\w.-])", label, text, flags=re.IGNORECASE)
        text = _HOMES.sub("<home>", text)
        text = _PATH.sub(lambda match: re.split(r"[\\/]", match.group().rstrip("\\/"))[-1] or "<path>", text)
        text = _BELOW.sub(r"\1/", text)
        for name, label in self._names:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", label, text, flags=re.IGNORECASE)
        return text

    def value(self, value: Any) -> Any:
        """The same for the strings in lists and dictionaries; keys stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value


def _folders() -> List[Tuple[str, str]]:
    """Folders and their labels, the longest first."""
    labels: Dict[str, str] = {}

    def add(path: Any, label: str) -> None:
        for form in {str(path), real(path)}:
            if len(form) > 3:
                for slashed in {form, form.replace("\\", "/"), form.replace("\\", "\\\\")}:
                    labels.setdefault(slashed, label)

    add(_ROOT, "<program>")
    add(Path.cwd(), "<working folder>")
    add(sys.prefix, "<python>")
    add(sys.base_prefix, "<python>")
    add(tempfile.gettempdir(), "<temporary>")
    for variable in ("HOME", "USERPROFILE"):
        if os.environ.get(variable):
            add(os.environ[variable], "<home>")
    try:
        add(Path.home(), "<home>")
    except RuntimeError:
        pass
    return sorted(labels.items(), key=lambda item: -len(item[0]))


def _names() -> List[Tuple[str, str]]:
    labels: Dict[str, str] = {}
    for variable in _NAMES:
        labels[os.environ.get(variable, "")] = (
            "<user>" if variable in ("USER", "USERNAME", "LOGNAME", "SUDO_USER") else "<machine>"
        )
    labels[platform.node()] = "<machine>"
    labels[platform.node().partition(".")[0]] = "<machine>"
    try:
        labels[getpass.getuser()] = "<user>"
        labels[Path.home().name] = "<user>"
    except (RuntimeError, KeyError, OSError, ImportError):
        pass
    return sorted(((name, label) for name, label in labels.items() if name), key=lambda item: -len(item[0]))
