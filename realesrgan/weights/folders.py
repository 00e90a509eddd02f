"""The folders in which weights are looked for and put."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import List, Optional, Sequence

from realesrgan.errors import WeightsError, notice
from realesrgan.files.paths import real

__all__ = [
    "MAX_DOWNLOAD",
    "SUFFIXES",
    "cache_folder",
    "download_folder",
    "find",
    "listed",
    "search_folders",
    "user_folder",
]

logger = logging.getLogger(__name__)

SUFFIXES = (".pth", ".safetensors")
MAX_DOWNLOAD = 2_000_000_000  # bytes of a file whose size is not known
VARIABLE = "REALESRGAN_WEIGHTS"


def _repository() -> Optional[Path]:
    """The checkout this runs from; None beside an installed package, where no folder is ours."""
    root = Path(real(__file__)).parents[2]
    return root if (root / "setup.py").is_file() else None


REPOSITORY = _repository()


def search_folders() -> List[Path]:
    """Where weights may be, best first; not all of them exist."""
    folders = [*_weights_folders(), *_named_folder()]
    cache = cache_folder()
    if cache is not None:
        folders.append(cache)
    return list(dict.fromkeys(folders))


def listed() -> str:
    """:func:`search_folders` in one line, for messages."""
    return ", ".join(map(str, search_folders()))


def find(stem: str, suffixes: Sequence[str] = SUFFIXES) -> Optional[Path]:
    """The first file of that name in :func:`search_folders`, or None."""
    candidates = (folder / f"{stem}{suffix}" for folder in search_folders() for suffix in suffixes)
    return next(filter(Path.is_file, candidates), None)


def download_folder() -> Path:
    """The first ``weights/`` folder that can be written to, else the user's cache, which need not exist yet.

    Raises:
        WeightsError: There is neither.
    """
    for folder in _weights_folders():
        if folder.is_dir() and _is_writable(folder):
            return folder
    cache = cache_folder()
    if cache is None:
        raise WeightsError(
            "There is no folder to download weights into. Make a folder named weights in the working directory.",
            code="weights.no_folder",
        )
    return cache


def cache_folder() -> Optional[Path]:
    """The user's cache of weights by the custom of the system; None where there is no home."""
    base = user_folder("cache")
    return base / "weights" if base is not None else None


def user_folder(kind: str) -> Optional[Path]:
    """This program's folder for what it keeps for a user, by the custom of the system; None where there is no home.

    Args:
        kind: ``"cache"`` for what can be fetched again, ``"config"`` for what was found out or chosen.
    """
    try:
        home = Path.home()
    except RuntimeError:
        return None
    cache = kind == "cache"
    if sys.platform == "win32":
        data = home / "AppData" / ("Local" if cache else "Roaming")
        base = _absolute("LOCALAPPDATA" if cache else "APPDATA") or data
    elif sys.platform == "darwin":
        base = home / "Library" / ("Caches" if cache else "Application Support")
    else:
        base = _absolute("XDG_CACHE_HOME" if cache else "XDG_CONFIG_HOME") or home / (".cache" if cache else ".config")
    return base / "realesrgan"


def _absolute(variable: str) -> Optional[Path]:
    path = Path(os.environ.get(variable, ""))
    return path if path.is_absolute() else None


def _weights_folders() -> List[Path]:
    folders = [Path.cwd() / "weights"]
    if REPOSITORY is not None:
        folders.append(REPOSITORY / "weights")
    return folders


def _named_folder() -> List[Path]:
    value = os.environ.get(VARIABLE, "")
    if not value:
        return []
    if not Path(value).is_dir():
        notice(
            logger,
            "weights.variable",
            f"{VARIABLE} is '{value}', which is not a folder; it is ignored.",
            once=True,
            variable=VARIABLE,
            value=value,
        )
        return []
    return [Path(value)]


def _is_writable(folder: Path) -> bool:
    # Asking is not enough: on Windows the answer leaves out access lists.
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
