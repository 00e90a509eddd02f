"""The slope of memory and its bounds, against tables, numpy, simulated noise and leaks of known size."""

from __future__ import annotations

import numpy as np
import pytest

from realesrgan.tools.stability import drift

MB = 1_000_000


def series(count, noise, slope=0.0, every=5, start=800.0):
    """Pictures and bytes: a line of ``slope`` MB per 1,000 pictures under ``noise`` in MB."""
    pictures = np.arange(1, count + 1) * every
    values = (start + slope * pictures / 1000 + np.asarray(noise)) * MB
    return pictures.tolist(), [int(value) for value in values]


def remembering(dice, count, memory):
    """First-order autoregressive noise of variance 1."""
    noise = np.empty(count)
    noise[0] = dice.standard_normal()
    for index in range(1, count):
        noise[index] = memory * noise[index - 1] + dice.standard_normal() * (1 - memory**2) ** 0.5
    return noise


def test_slope_of_a_line_is_exact_and_needs_no_room():
    found = drift.trend(*series(100, np.zeros(100), slope=13.5))
    assert found.slope == pytest.approx(13.5, abs=1e-3)
    assert found.upper - found.lower < 0.01
    assert (found.samples, found.pictures) == (80, 79 * 5)


def test_slope_and_bounds_are_those_of_a_line_through_five_means():
    dice = np.random.default_rng(1)
    pictures, values = series(50, dice.standard_normal(50), slope=4)
    found = drift.trend(pictures, values)
    x, y = (np.array(each[10:], float).reshape(5, 8).mean(1) for each in (pictures, values))
    (slope, _), covariance = np.polyfit(x, y / 1000, 1, cov=True)
    assert found.slope == pytest.approx(slope)
    # 3.18245 is the textbooks' Student's t for 95 % and three degrees of freedom.
    assert found.upper - found.slope == pytest.approx(covariance[0, 0] ** 0.5 * 3.18245, rel=1e-3)
    assert found.slope - found.lower == pytest.approx(found.upper - found.slope)


@pytest.mark.parametrize("memory", [0, 0.5, 0.9])
@pytest.mark.parametrize("count", [15, 400])
def test_upper_bound_lies_above_the_truth(memory, count):
    dice = np.random.default_rng(7)
    runs = [drift.trend(*series(count, remembering(dice, count, memory), slope=10)) for _ in range(400)]
    missed = sum(found.upper < 10 for found in runs) / len(runs)
    # 2.5 % by design. Of a dozen samples that remember much the parts are not independent: every seventh misses.
    assert missed < {0: 0.06, 0.5: 0.08, 0.9: 0.18}[memory] if count == 15 else missed < 0.04


def test_warm_up_does_not_count():
    noise = np.zeros(60)
    noise[:12] = -300  # a fifth
    assert drift.judge(drift.trend(*series(60, noise))) == drift.SHOWN
    noise[12] = -300
    assert drift.judge(drift.trend(*series(60, noise))) != drift.SHOWN


def test_verdicts():
    dice = np.random.default_rng(3)
    noise = dice.standard_normal(200)
    assert drift.judge(drift.trend(*series(200, noise))) == drift.SHOWN
    assert drift.judge(drift.trend(*series(200, noise, slope=40))) == drift.TOO_MUCH
    assert drift.judge(drift.trend(*series(200, noise, slope=40)), limit=60) == drift.SHOWN
    assert drift.judge(None) == drift.TOO_FEW
    few = drift.trend(*series(12, noise[:12], every=1))
    assert drift.judge(few) in (drift.UNSURE, drift.TOO_MUCH)
    # Steep, but as well not at all: it takes more pictures to call that a drift.
    steep = drift.Trend(50.0, -10.0, 110.0, 10, 100)
    assert drift.judge(steep) == drift.UNSURE
    assert drift.judge(drift.Trend(50.0, 10.0, 90.0, 10, 100)) == drift.TOO_MUCH


def test_as_many_pictures_as_are_said_to_be_needed_suffice():
    dice = np.random.default_rng(5)
    asked = enough = 0
    for _ in range(60):
        short = drift.trend(*series(20, 3 * dice.standard_normal(20), every=2))
        if drift.judge(short) != drift.UNSURE or drift.pictures_needed(short) is None:
            continue
        count = drift.pictures_needed(short) // 2
        assert count > 20
        asked += 1
        enough += drift.judge(drift.trend(*series(count, 3 * dice.standard_normal(count), every=2))) == drift.SHOWN
    assert asked > 10
    assert enough / asked > 0.7
    assert drift.pictures_needed(drift.trend(*series(20, np.zeros(20), slope=50))) is None


def test_values_that_nobody_told_are_left_out():
    pictures, values = series(40, np.zeros(40), slope=2)
    values[20] = None
    assert drift.trend(pictures, values).slope == pytest.approx(2, abs=1e-3)
    assert drift.trend(pictures, [None] * 40) is None
    assert drift.trend(pictures[:6], values[:6]) is None


@pytest.mark.parametrize(
    ("counts", "leak"),
    [
        ([5] * 12, False),
        ([1, 3, 9, 9, 9, 9, 9, 9, 9], False),  # opened once, while warming up
        ([9, 9, 9, 5, 5, 5, 5], False),
        ([5, 5, 5, 7, 5, 5, 7, 5], False),  # comes and goes
        (list(range(20)), True),
        ([5] * 15 + [6] * 15, True),
        ([5, 6], True),
    ],
)
def test_counts(counts, leak):
    before, after = drift.counts_leak(counts)
    assert (after > before) is leak


def test_one_count_says_nothing():
    assert drift.counts_leak([4]) is None
