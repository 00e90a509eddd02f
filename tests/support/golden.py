"""What the published program made of small pictures, and how close ours must come to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np

from tests.support.picture_samples import get

FOLDER = Path(__file__).parents[1] / "data" / "golden"
CASES: Dict[str, Dict[str, Any]] = {
    case["name"]: case for case in json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))
}


def given(name: str) -> np.ndarray:
    """The picture of a case."""
    return get(FOLDER / f"{name}.in.png")


def expected(name: str) -> np.ndarray:
    """What the published program made of it."""
    return get(FOLDER / f"{name}.out.png")


def assert_equal(result: np.ndarray, name: str) -> None:
    """Of 8 bit, one value in a thousand may differ by 1; of 16 bit, each by 8."""
    wanted = expected(name)
    assert (result.shape, result.dtype) == (wanted.shape, wanted.dtype)
    difference = np.abs(result.astype(np.int64) - wanted.astype(np.int64))
    if result.dtype == np.uint8:
        assert difference.max() <= 1
        assert (difference == 0).mean() >= 0.999
    else:
        assert difference.max() <= 8
