"""Which videos of a folder are done, so that a second run leaves them out: a file in the output folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Mapping

__all__ = ["Ledger"]

_NAME = ".realesrgan-videos.jsonl"


class Ledger:
    """The list in ``folder``. It is a convenience: where it cannot be read or written, videos are made again."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME

    def has(self, target: Path, identity: Mapping[str, Any]) -> bool:
        """Whether ``target`` is there as it was made from this input with these options."""
        try:
            wanted = self._line(target, identity)
            return wanted in self._path.read_text(encoding="utf-8").splitlines()
        except OSError:
            return False

    def add(self, target: Path, identity: Mapping[str, Any]) -> None:
        """Note that ``target`` is done."""
        try:
            with self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(self._line(target, identity) + "\n")
        except OSError:
            pass

    @staticmethod
    def _line(target: Path, identity: Mapping[str, Any]) -> str:
        text = json.dumps(identity, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return json.dumps({"output": target.name, "size": target.stat().st_size, "identity": digest})
