"""The side of tuning that runs in a child process: one network, one precision, tiles from small to large."""

from __future__ import annotations

import statistics
import time
from typing import Iterator, List, Optional

import numpy as np

from realesrgan import devices
from realesrgan.errors import RealESRGANError, as_field
from realesrgan.inference import tiling, upsampler
from realesrgan.inference.arrays import Plane
from realesrgan.inference.child import Line, pack_error
from realesrgan.inference.precision import Networks, Source, check_device
from realesrgan.inference.tiling import Box
from realesrgan.weights import loading as weights
from realesrgan.weights import zoo

__all__ = ["serve"]

_LONGER = (768, 1024)
_ENOUGH = 0.5
"""Seconds of work after which a rate is believed."""
_RUNS = 5
_SPILLED = 0.6
"""A tile this much slower than the best one before it has spilled into the main memory, or soon will."""


def serve(line: Line, request: Optional[str]) -> None:
    """Tell the device, then answer each ``(model, half, below, seconds)`` until the parent closes the pipe.

    With the device, unless one is asked for by name, come the names of others that may be the same card, and quicker.

    Answers: ``("network", structure, the tile by the rule)``, ``("kernels", shapes)`` where our own kernels run, then
    ``("tile", side)`` and ``("measured", side, seconds)`` in turns, then ``("end", why)``: ``""`` (all sizes),
    ``time``, ``slower``, ``room`` (by the rule, a larger tile will not fit), ``memory``, ``lost`` or a sentence.
    """
    try:
        device = devices.resolve(request)
        others = () if devices.is_explicit(request) else tuple(other.spec for other in devices.same_card(device))
    except RealESRGANError as error:
        line.send("refused", pack_error(error))
        return
    line.send("device", device, others)
    while True:
        model, half, below, seconds = line.receive()
        try:
            line.send("end", _measure(line, device, model, half, below, seconds))
        except (EOFError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - the parent says it; what is lost is lost with this process
            kind = devices.classify(error)
            line.send("end", as_field(error) if kind == "other" else kind)


def _measure(line: Line, device: devices.Device, model: str, half: bool, below: int, seconds: float) -> str:
    end = time.perf_counter() + seconds
    spec = zoo.get(model)
    source = Source.of_weights(weights.or_random(model, arrays=not device.capabilities.through_torch))
    shape = spec.network
    pad = shape.default_pad
    line.send("network", shape, tiling.device_tile(shape, pad, half=half, device=device))
    networks = upsampler.networks_of(source, device)
    check_device(networks)
    if half:
        networks.choose(True)
        if not networks.half:
            return "half"
        if networks.own_kernels:
            from realesrgan.tools.tune import kernels

            shapes = kernels.search(device, (end - time.perf_counter()) / 3, kernels.once)
            networks.use_shapes(shapes)
            line.send("kernels", shapes)
    rates: List[float] = []
    cost = 0.0  # seconds for a pixel that is read
    for side in _sides(device, below):
        read = side + 2 * pad
        own = networks.own_kernels
        if tiling.tile_bytes(shape, read, read, half=half, device=device, kernels=own) > tiling.budget(device):
            return "room"
        if 2 * cost * read**2 > end - time.perf_counter():
            return "time"
        line.send("tile", side)
        taken = _time(networks, side, pad, spec.scale, end)
        line.send("measured", side, taken)
        cost = taken / read**2
        rates.append(side**2 / taken)
        if rates[-1] < _SPILLED * max(rates):
            return "slower"
    return ""


def _sides(device: devices.Device, below: int) -> Iterator[int]:
    longer = _LONGER if device.capabilities.asynchronous else ()
    return (side for side in (*tiling.LADDER[1:], *longer) if side < below)


def _time(networks: Networks, side: int, pad: int, scale: int, end: float) -> float:
    """Seconds for one tile of uint8 pixels, its result brought to the host; the first run is not counted."""
    network = networks.current()
    read = side + 2 * pad
    pixels = np.random.default_rng(0).integers(0, 256, (read, read, 3), np.uint8)
    plane, stored = Plane(pixels, 255.0), np.dtype(np.uint8)
    keep = Box(pad, pad, pad + side, pad + side)
    # As many as a picture of several tiles keeps under way at the same time.
    count = 1 if networks.device.capabilities.through_torch else 1 + network.in_flight(read, read)

    def run() -> float:
        begun = time.perf_counter()
        tiles = [network.rows(plane, pixels, keep, scale, stored) for _ in range(count)]
        for rows in [rows for tile in tiles for rows in tile]:
            rows.wait()
        return (time.perf_counter() - begun) / count

    first = run()
    taken: List[float] = []
    while len(taken) < _RUNS and sum(taken) < _ENOUGH and time.perf_counter() + first < end:
        taken.append(run())
    return statistics.median(taken) if taken else first
