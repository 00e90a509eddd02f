"""Arrays in, planes out, and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from realesrgan.errors import InputError
from realesrgan.inference import arrays as image
from realesrgan.inference.arrays import Plane
from realesrgan.inference.tiling import Box, Canvas, plan


@pytest.mark.parametrize(("shape", "mode"), [((4, 5), "L"), ((4, 5, 1), "L"), ((4, 5, 3), "RGB"), ((4, 5, 4), "RGBA")])
@pytest.mark.parametrize(("dtype", "depth"), [(np.uint8, 8), (np.uint16, 16)])
def test_mode_and_depth_come_from_shape_and_type(shape, mode, dtype, depth) -> None:
    picture = image.decode(np.zeros(shape, dtype))
    assert (picture.mode, picture.depth, picture.height, picture.width) == (mode, depth, 4, 5)
    assert (picture.alpha is not None) == (mode == "RGBA")


def test_a_dark_16_bit_picture_stays_16_bit() -> None:
    picture = image.decode(np.full((3, 3, 3), 200, np.uint16))
    assert picture.depth == 16
    assert picture.color.max_value == 65535


@pytest.mark.parametrize(("maximum", "depth"), [(255.0, 8), (256.0, 8), (257.0, 16)])
def test_floats_are_8_bit_up_to_256(maximum, depth) -> None:
    assert image.decode(np.full((2, 2, 3), maximum, np.float32)).depth == depth


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [[1, 2], [3, 4]],
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((2, 2, 5), np.uint8),
        np.zeros((0, 2, 3), np.uint8),
        np.zeros((1, 2, 2, 3), np.uint8),
        np.zeros((2, 2, 3), np.complex64),
        np.zeros((2, 2, 3), object),
        np.full((2, 2, 3), np.nan, np.float32),
        np.full((2, 2, 3), np.inf),
    ],
)
def test_what_is_no_picture_is_refused_with_what_is(wrong) -> None:
    with pytest.raises(ValueError, match="allowed are|accepts a numpy array") as caught:
        image.decode(wrong)
    assert isinstance(caught.value, InputError)


def test_a_crop_beyond_the_edge_is_the_padded_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    canvas = Canvas(5, 6, 2, 4)
    crop = Plane(pixels, 255).crop(canvas, Box(4, 0, 8, 8))
    padded = np.pad(pixels, ((0, 2), (0, 2), (0, 0)), mode="reflect")
    padded = np.pad(padded, ((0, 1), (0, 0), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(crop, padded[4:8])


@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_alpha_in_bands_is_alpha_at_once(rows, scale) -> None:
    alpha = np.random.default_rng(1).integers(0, 256, (11, 7), dtype=np.uint8)
    out = np.empty((11 * scale, 7 * scale), np.uint8)
    image.resize_alpha(Plane(alpha, 255), scale, out, rows=rows)
    whole = cv2.resize(alpha.astype(np.float32) / 255, (7 * scale, 11 * scale), interpolation=cv2.INTER_LINEAR)
    expected = (whole * 255).round().astype(int)
    assert np.abs(out.astype(int) - expected).max() <= 1
    assert (out == expected).mean() > 0.99


def test_resize_of_the_same_size_is_the_same_array() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    assert image.resize(pixels, 4, 4) is pixels


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 5), (9, 30, 3), (40, 3)])
@pytest.mark.parametrize(("pre_pad", "multiple"), [(0, 1), (10, 1), (3, 4), (50, 2)])
def test_a_crop_reads_reflections_pixel_by_pixel(shape, pre_pad, multiple) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    canvas = Canvas(*shape[:2], pre_pad, multiple)
    plane = Plane(pixels, 65535.0)
    for tile in (tile for side in (0, 4, 8) for tile in plan(canvas, side, 3)):
        rows, columns = canvas.rows(tile.read), canvas.columns(tile.read)
        assert np.array_equal(plane.crop(canvas, tile.read), pixels[rows][:, columns])
