"""Tiles cover a picture once, see what they should, and split into tiles that do the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realesrgan.errors import InputError
from realesrgan.inference.tiling import Box, Canvas, plan, split

sizes = st.integers(1, 70)


def coverage(canvas: Canvas, tiles: list) -> np.ndarray:
    count = np.zeros((canvas.height, canvas.width), int)
    for tile in tiles:
        count[tile.write.slices] += 1
    return count


@settings(deadline=None)
@given(
    sizes,
    sizes,
    st.integers(0, 12),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(0, 80),
    st.integers(0, 40),
    st.booleans(),
)
def test_tiles_write_every_pixel_once_and_read_around_it(height, width, pre_pad, multiple, size, pad, fixed) -> None:
    canvas = Canvas(height, width, pre_pad, multiple)
    tiles = plan(canvas, size, pad, fixed_shape=fixed)
    assert (coverage(canvas, tiles) == 1).all()
    for tile in tiles:
        read, write = tile.read, tile.write
        assert read.height % multiple == read.width % multiple == 0
        assert read.y0 % multiple == read.x0 % multiple == 0
        assert read.y0 >= 0
        assert read.x0 >= 0
        assert read.y1 <= canvas.padded_height
        assert read.x1 <= canvas.padded_width
        # At least the padding, unless the canvas ends.
        assert read.y0 <= max(write.y0 - pad, 0)
        assert read.x0 <= max(write.x0 - pad, 0)
        assert read.y1 >= min(write.y1 + pad, canvas.padded_height)
        assert read.x1 >= min(write.x1 + pad, canvas.padded_width)
        if not fixed:
            assert read.height <= write.height + 2 * pad + 2 * multiple + pre_pad
    if fixed:
        assert len({(tile.read.height, tile.read.width) for tile in tiles}) == 1


@settings(deadline=None)
@given(sizes, sizes, st.integers(1, 80), st.integers(1, 40))
def test_a_split_tile_writes_the_same_pixels(height, width, size, limit) -> None:
    canvas = Canvas(height, width)
    for tile in plan(canvas, size, 5):
        children = split(canvas, tile, limit, 5)
        count = coverage(canvas, children)
        assert (count[tile.write.slices] == 1).all()
        assert count.sum() == tile.write.height * tile.write.width
        assert all(child.side <= limit for child in children)


def test_untiled_is_one_tile_of_the_whole_canvas() -> None:
    canvas = Canvas(5, 7, 3, 4)
    (tile,) = plan(canvas, 0, 10)
    assert tile.write == Box(0, 0, 5, 7)
    assert tile.read == Box(0, 0, 8, 12)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(0, 15), st.sampled_from([1, 2, 4]))
def test_reflections_are_numpys(size, pre_pad, multiple) -> None:
    canvas = Canvas(size, 1, pre_pad, multiple)
    once = np.pad(np.arange(size), (0, pre_pad), mode="reflect")
    twice = np.pad(once, (0, canvas.padded_height - size - pre_pad), mode="reflect")
    assert canvas.rows(Box(0, 0, canvas.padded_height, 1)) == twice.tolist()


@pytest.mark.parametrize(
    "call", [lambda: plan(Canvas(4, 4), -1, 0), lambda: plan(Canvas(4, 4), 4, -1), lambda: Canvas(0, 4)]
)
def test_impossible_geometry_is_refused(call) -> None:
    with pytest.raises(InputError):
        call()
