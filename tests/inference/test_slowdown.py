"""A card that becomes slow without an error: noticed, said once, answered with smaller tiles."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from support.networks import seeded

from realesrgan import RealESRGANer, devices
from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.inference import engine
from realesrgan.inference.slowdown import Pace

EQUAL = (64, 64, False)


def test_two_slow_tiles_in_a_row_count_and_one_does_not():
    pace = Pace()
    assert not any(pace.dropped(EQUAL, seconds) for seconds in (1.0, 0.9, 2.6, 2.6, 3.5, 1.0, 3.5))
    assert pace.dropped(EQUAL, 3.5)


def test_tiles_of_other_shapes_and_precisions_are_not_compared():
    pace = Pace()
    assert not pace.dropped(EQUAL, 0.1)
    for shape in ((64, 32, False), (64, 64, True)):
        assert not pace.dropped(shape, 9.0)
        assert not pace.dropped(shape, 9.0)


def test_times_too_short_to_tell_do_not_count():
    pace = Pace()
    assert not any(pace.dropped(EQUAL, seconds) for seconds in (0.001, 0.04, 0.04, 0.04))


@pytest.mark.parametrize(
    ("backend", "platform", "spills"),
    [("directml", "linux", True), ("cuda", "win32", True), ("cuda", "linux", False), ("cpu", "win32", False)],
)
def test_which_devices_spill(backend, platform, spills, monkeypatch):
    monkeypatch.setattr("sys.platform", platform)
    assert devices.Device(backend, 0, "x").spills is spills


def test_on_a_card_that_spills_the_tile_shrinks_once_and_the_result_is_right(directml_with, caplog, monkeypatch):
    """Another program takes the card's memory in the middle of a picture. Time is the simulation's own."""
    from directml_standin import Adapter

    module = seeded(lambda: RRDBNet(3, 3, 4, num_feat=8, num_block=1, num_grow_ch=4))
    picture = np.random.default_rng(5).integers(0, 256, (96, 144, 3), dtype=np.uint8)
    card = [Adapter("Radeon RX 580 Series", 200 * 2**20)]

    def enhance():
        made = RealESRGANer(4, None, model=module, tile=48, tile_pad=4, pre_pad=0, half=False, device="directml")
        return made, made.enhance(picture)[0]

    with directml_with(adapters=card) as simulation:
        plain, expected = enhance()
        first, last = simulation.operation_number // 2, simulation.operation_number
    assert plain.last_run.tiles == 6 and last > first > 0
    spilling = {"spill": True, "elsewhere": 199 * 2**20, "elsewhere_from": first}
    with directml_with(adapters=card, **spilling) as simulation, caplog.at_level(logging.WARNING):
        # As if the network were a larger one, whose tiles take seconds.
        clock = SimpleNamespace(perf_counter=lambda: simulation.simulated_seconds * 1e6)
        monkeypatch.setattr(engine, "time", clock)
        made, result = enhance()
        assert simulation.spills > 0
    assert np.abs(result.astype(int) - expected).max() <= 1
    said = [record for record in caplog.records if getattr(record, "notice_code", "") == "tile.slow"]
    assert len(said) == 1 and said[0].notice_fields["smaller"] == 32
    assert made.last_run.tiles > 6
