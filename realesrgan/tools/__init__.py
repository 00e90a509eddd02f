"""Programs beside the main one: doctor, tune, benchmark, stability, the page, the cluster."""

from __future__ import annotations

import os
from pathlib import Path

from realesrgan.files.paths import real

__all__ = ["ROOT", "python_path"]

ROOT = Path(real(__file__)).parents[2]
"""The folder that contains the package."""


def python_path() -> str:
    """The PYTHONPATH with which a Python that is started from here finds this package, wherever it lies."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
