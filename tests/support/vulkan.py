"""A Vulkan device for tests, which may be a software renderer (Debian: mesa-vulkan-drivers)."""

from __future__ import annotations

import pytest

from realesrgan import devices
from realesrgan.errors import RealESRGANError

WHY = "needs ncnn and a Vulkan driver, for example lavapipe (Debian: mesa-vulkan-drivers)"


def device() -> devices.Device:
    """The first Vulkan device; skips the test where there is none."""
    try:
        return devices.resolve("vulkan")
    except RealESRGANError as error:
        pytest.skip(f"{WHY}: {error}")
