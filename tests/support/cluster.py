"""What tests that start Ray have in common."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MARKS = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="kills by signal"),
    # Of Ray's own files and sockets.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def set_environment(patch: pytest.MonkeyPatch) -> None:
    """For Ray's processes, which start with the environment of the test."""
    patch.setenv("PYTHONPATH", str(ROOT))
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("OMP_NUM_THREADS", "1")
