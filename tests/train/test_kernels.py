"""Blur kernels against their formulas."""

from __future__ import annotations

import math
import random
from typing import Any, Dict

import numpy as np
import pytest
from training import require_basicsr, tiny_options

require_basicsr()
pytestmark = pytest.mark.train

from realesrgan.data import realesrgan_dataset as kernels  # noqa: E402
from realesrgan.errors import InputError  # noqa: E402

SIZE = 21
OFFSETS = np.arange(SIZE) - SIZE // 2
ROWS, COLUMNS = np.meshgrid(OFFSETS, OFFSETS, indexing="ij")


def recipe(**changes: Any) -> kernels.KernelRecipe:
    options: Dict[str, Any] = {**tiny_options()["datasets"]["train"], "blur_kernel_size": SIZE, "sinc_prob": 0}
    return kernels.KernelRecipe.from_options({**options, **changes})


@pytest.fixture(autouse=True)
def _largest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are drawn at their full size, where the tails fit."""
    random.seed(2)
    np.random.seed(2)
    monkeypatch.setattr(kernels, "_random_size", lambda largest: largest)


def covariance(kernel: np.ndarray) -> np.ndarray:
    places = np.stack([ROWS, COLUMNS])
    return np.einsum("irc,jrc,rc->ij", places, places, kernel)


@pytest.mark.parametrize("sigma", [0.8, 1.5, 3.0])
def test_round_gaussian_has_its_width(sigma: float) -> None:
    kernel = recipe(kernel_list=["iso"], kernel_prob=[1], blur_sigma=[sigma, sigma]).draw()
    assert kernel.dtype == np.float32
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(covariance(kernel), np.eye(2) * sigma**2, rtol=0.02, atol=0.02 * sigma**2)


def test_oval_gaussians_have_two_widths_and_any_direction() -> None:
    maker = recipe(kernel_list=["aniso"], kernel_prob=[1], blur_sigma=[0.7, 2.5])
    widths, angles = [], []
    for _ in range(200):
        kernel = maker.draw()
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        values, vectors = np.linalg.eigh(covariance(kernel))
        widths.append(np.sqrt(values))
        angles.append(math.atan2(vectors[1, 1], vectors[0, 1]) % math.pi)
    assert 0.65 < np.min(widths) < 1.0
    assert 2.2 < np.max(widths) < 2.55
    assert np.std(angles) == pytest.approx(math.pi / 12**0.5, rel=0.2)


def shape_of(kernel: np.ndarray, plateau: bool) -> float:
    """The exponent of a round kernel of width 2, from its centre and the place 2 pixels off it."""
    centre, row = float(kernel[10, 10]), kernel[10].astype(float)
    ratios = {offset: centre / row[10 + offset] for offset in (1, 3)}
    if plateau:
        return float(np.log(ratios[3] - 1) / np.log(9 / 4))
    return float(np.log(2 * np.log(ratios[3])) / np.log(9 / 4))


@pytest.mark.parametrize(
    ("kind", "limits"),
    [("generalized_iso", "betag_range"), ("plateau_iso", "betap_range")],
    ids=["gaussian", "plateau"],
)
def test_generalised_shapes_follow_their_formulas(kind: str, limits: str) -> None:
    """exp(-((r/s)^2)^b / 2) and 1 / (1 + ((r/s)^2)^b); b is below 1 as often as above."""
    low, high = (0.5, 2.0) if limits == "betag_range" else (0.8, 2.0)
    maker = recipe(kernel_list=[kind], kernel_prob=[1], blur_sigma=[2, 2], **{limits: [low, high]})
    radius = (ROWS**2 + COLUMNS**2) / 4.0
    shapes = []
    for _ in range(200):
        kernel = maker.draw()
        beta = shape_of(kernel, kind == "plateau_iso")
        expected = 1 / (1 + radius**beta) if kind == "plateau_iso" else np.exp(-0.5 * radius**beta)
        np.testing.assert_allclose(kernel, expected / expected.sum(), atol=2e-6)
        shapes.append(beta)
    assert low - 1e-3 <= min(shapes) < low + 0.1
    assert high - 0.1 < max(shapes) <= high + 1e-3
    assert sum(beta < 1 for beta in shapes) == pytest.approx(100, abs=30)


@pytest.mark.parametrize("cutoff", [math.pi / 3, math.pi / 2, 2.2])
def test_sinc_passes_low_frequencies_and_stops_high_ones(cutoff: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.random, "uniform", lambda low, high: cutoff)
    kernel = kernels.sinc(SIZE, math.pi / 3, SIZE)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel.min() < 0  # it rings
    response = np.abs(np.fft.fft2(np.roll(np.pad(kernel, ((0, 43), (0, 43))), (-10, -10), (0, 1))))
    angular = np.abs(np.fft.fftfreq(64)) * 2 * math.pi
    radius = np.hypot(angular[:, None], angular[None])
    assert response[radius < 0.75 * cutoff].min() > 0.75
    assert response[radius > 1.3 * cutoff].max() < 0.2


def test_sinc_cutoffs_come_from_their_range() -> None:
    """The wider the kernel in frequency, the sharper its middle: cutoffs from pi / 3 to pi."""
    middles = [float(kernels.sinc(SIZE, math.pi / 3, SIZE).max()) for _ in range(200)]
    narrow = (math.pi / 3) ** 2 / (4 * math.pi)
    assert narrow * 0.8 < min(middles) < narrow * 1.5
    assert max(middles) > 0.6


def test_the_final_sinc_comes_by_chance_and_is_a_pulse_otherwise() -> None:
    maker = recipe()
    pulses = sum(np.array_equal(maker.draw_final_sinc(0.8), kernels.pulse(SIZE)) for _ in range(500))
    assert pulses == pytest.approx(100, abs=35)


def test_kinds_come_by_chance() -> None:
    maker = recipe(kernel_list=["iso", "plateau_iso"], kernel_prob=[0.25, 0.75], sinc_prob=0.5, blur_sigma=[1, 1])
    drawn = [maker.draw() for _ in range(600)]
    ringing = sum(bool(kernel.min() < 0) for kernel in drawn)
    assert ringing == pytest.approx(300, abs=60)


def test_sizes_are_odd_and_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    maker = recipe(kernel_list=["iso"], kernel_prob=[1], blur_sigma=[3, 3])
    drawn = [maker.draw() for _ in range(200)]
    assert all(kernel.shape == (SIZE, SIZE) for kernel in drawn)
    sides = {int((kernel[SIZE // 2] > 0).sum()) for kernel in drawn}
    assert sides == set(range(7, SIZE + 1, 2))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"blur_kernel_size": 20}, "blur_kernel_size"),
        ({"kernel_list": ["isotropic"], "kernel_prob": [1]}, "isotropic"),
        ({"kernel_prob": [1]}, "kernel_prob"),
        ({"betap_range": None}, "betap_range"),
        ({"blur_sigma": [3, 0.2]}, "blur_sigma"),
    ],
)
def test_impossible_values_are_refused_by_name(changes: Dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        recipe(**changes)
