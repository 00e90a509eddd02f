"""One picture on several devices: each has a process of its own, and whoever is free computes the next tile.

The picture is cut, judged and put together here, by the engine that serves one device, so the pixels are the same as
on one device with the same tiles.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Deque, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from .. import devices
from ..errors import DeviceLostError, Phrase, RealESRGANError, as_field, notice, one_line
from . import engine
from .arrays import Plane, Rows
from .child import Child, ChildGoneError, Line, pack_error, rebuild_error, share_processor
from .engine import RunRecord, enlarge
from .isolated import try_build
from .tiling import Box, Canvas

__all__ = ["SharedUpsampler", "serve"]

logger = logging.getLogger(__name__)

_AHEAD = 2
"""Tiles that one device is given at once: one that it computes, one that is on its way to it."""

Progress = Callable[[int, int], None]


class _Card:
    """A process with one device, and the tiles that it has been given."""

    def __init__(self, spec: str, arguments: Mapping[str, Any], count: int) -> None:
        self.spec = spec
        self.alive = True
        self.under_way: Deque[Future[Rows]] = deque()
        self._lock = threading.Lock()
        own = {**arguments, "device": spec, "gpu_id": None}
        self._child = Child("realesrgan.inference.shared:serve", own, count)
        self._sending = ThreadPoolExecutor(1, thread_name_prefix=f"tiles-{spec}")

    def ready(self, progress: Optional[Progress]) -> Dict[str, Any]:
        """What the process built.

        Raises:
            RealESRGANError: It could not build it.
        """
        found = self._child.ready(900.0, progress)
        threading.Thread(target=self._listen, name=f"rows-{self.spec}", daemon=True).start()
        return found

    def give(self, header: Tuple[Any, ...], pixels: np.ndarray) -> Future[Rows]:
        """Compute a tile."""
        future: Future[Rows] = Future()
        with self._lock:
            self.under_way.append(future)
        self._sending.submit(self._send, header, pixels)
        return future

    def _send(self, header: Tuple[Any, ...], pixels: np.ndarray) -> None:
        try:
            self._child.line.send("tile", *header)
            self._child.line.send_array(pixels)
        except (OSError, ValueError):
            pass  # the listener says so

    def _listen(self) -> None:
        try:
            while True:
                kind, *values = self._child.receive(900.0 if self.under_way else None)
                if kind == "rows":
                    shape, dtype, health = values
                    rows = Rows(0, self._child.call(self._child.line.receive_array, shape, dtype), health)
                    self._next().set_result(rows)
                elif kind == "failed":
                    self._next().set_exception(_as_raised(*values))
        except Exception as gone:  # noqa: BLE001 - whatever ends this thread, nobody may wait for it for ever
            self.alive = False
            reason = as_field(gone)
            while self.under_way:
                self._next().set_exception(
                    DeviceLostError(
                        f"The process of {self.spec} ended: {reason}.",
                        code="shared.ended",
                        device=self.spec,
                        how=reason,
                    )
                )

    def _next(self) -> Future[Rows]:
        with self._lock:
            return self.under_way.popleft()

    def close(self) -> None:
        self.alive = False
        self._child.end(gently=False)
        self._sending.shutdown(wait=False)


def _as_raised(kind: str, packed: Tuple[Any, ...]) -> Exception:
    """The child's error, such that the engine judges it as it would have judged it there."""
    if kind == "memory":
        return MemoryError(packed[1])
    error = rebuild_error(*packed)
    if kind == "lost" and not isinstance(error, DeviceLostError):
        return DeviceLostError(str(error))
    return error


class _Pending:
    """A tile under way; another device computes it if the first one is lost."""

    def __init__(self, network: _SharedNetwork, header: Tuple[Any, ...], pixels: np.ndarray) -> None:
        self._network = network
        self._header = header
        self._pixels = pixels
        self._card, self._future = self._give()

    def _give(self) -> Tuple[_Card, Future[Rows]]:
        alive = [card for card in self._network.cards if card.alive]
        if not alive:
            raise DeviceLostError("No device is left: all of them were lost.", code="shared.none")
        card = min(alive, key=lambda each: len(each.under_way))
        return card, card.give(self._header, self._pixels)

    @property
    def ready(self) -> bool:
        """Whether :meth:`wait` would not wait."""
        return self._future.done()

    def wait(self) -> Rows:
        """The rows, once they are here."""
        while True:
            try:
                return self._future.result()
            except DeviceLostError as error:
                if self._card.alive:
                    self._card.close()
                notice(
                    logger,
                    "shared.lost",
                    f"{self._card.spec} is lost: {one_line(error)}. The others compute its tiles.",
                    once=True,
                    device=self._card.spec,
                    reason=error,
                )
                self._card, self._future = self._give()


class _SharedNetwork:
    """Looks to the engine like a network on one device."""

    def __init__(self, cards: List[_Card], half: bool) -> None:
        self.cards = cards
        self.half = half

    def in_flight(self, height: int, width: int) -> int:
        return _AHEAD * len(self.cards)

    def rows(self, plane: Plane, pixels: np.ndarray, keep: Box, scale: int, dtype: Any) -> Iterator[_Pending]:
        header = (pixels.shape, pixels.dtype.str, plane.max_value, keep, scale, np.dtype(dtype).str, self.half)
        yield _Pending(self, header, pixels)


class _SharedNetworks:
    """Looks to the engine like :class:`realesrgan.inference.precision.Networks`."""

    def __init__(self, cards: List[_Card], device: devices.Device, half: bool) -> None:
        self.device = device
        self.half = half
        self._half, self._single = _SharedNetwork(cards, True), _SharedNetwork(cards, False)

    def current(self) -> _SharedNetwork:
        return self._half if self.half else self._single

    def single(self) -> _SharedNetwork:
        return self._single

    def fall_back(self, reason: Phrase) -> None:
        """FP16 is left for FP32, on all devices and for good."""
        self.half = False
        notice(
            logger,
            "precision.single",
            f"FP16 is not reliable on {self.device.name} ({reason}): going on in FP32.",
            device=self.device.name,
            reason=reason,
        )


class SharedUpsampler:
    """Looks like :class:`~realesrgan.inference.upsampler.RealESRGANer`; the tiles are computed by several devices.

    Args:
        device: ``"all"`` or a list such as ``"cuda:0,cuda:1"``; see :func:`realesrgan.devices.all_of`.
        progress: Called with bytes done and in all while weights are downloaded.
        **arguments: Further keyword arguments of RealESRGANer, plain values only.

    Raises:
        RealESRGANError: A device is missing, or none can be used.
    """

    def __init__(self, *, device: str, progress: Optional[Progress] = None, **arguments: Any) -> None:
        specs = devices.all_of(device)
        self._cards = [_Card(spec, arguments, len(specs)) for spec in specs]
        self.last_run: Any = RunRecord()
        found: List[Dict[str, Any]] = []
        try:
            for card in self._cards:
                found.append(card.ready(progress if not found else None))
        except ChildGoneError as gone:
            self.close()
            raise RealESRGANError(
                f"A worker process ended while it was started: {one_line(gone)}.", code="shared.start", reason=gone
            ) from None
        except BaseException:
            self.close()
            raise
        first = found[0]
        self._described = first["described"]
        self.scale, self.pre_pad, self.tile_pad = first["scale"], first["pre_pad"], first["tile_pad"]
        self._multiple = first["multiple"]
        # The largest that all of them hold.
        self.tile_size = min(int(each["described"]["tile"]) for each in found)
        half = all(each["described"]["precision"] == "fp16" for each in found)
        self._networks: Any = _SharedNetworks(self._cards, first["device"], half)
        self._limit: Optional[int] = None

    def __enter__(self) -> SharedUpsampler:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for card in self._cards:
            card.close()

    def describe(self) -> Dict[str, object]:
        """See :meth:`realesrgan.inference.upsampler.RealESRGANer.describe`; ``device`` names all devices."""
        names = ",".join(card.spec for card in self._cards)
        precision = "fp16" if self._networks.half else "fp32"
        return {**self._described, "device": names, "precision": precision, "tile": self.tile_size, "isolated": True}

    def enhance(
        self,
        img: np.ndarray,
        outscale: Optional[float] = None,
        alpha_upsampler: Optional[str] = "realesrgan",
        *,
        progress: Optional[Progress] = None,
    ) -> Tuple[np.ndarray, str]:
        """See :meth:`realesrgan.inference.upsampler.RealESRGANer.enhance`."""
        begun = time.perf_counter()
        pixels, mode, outcomes = enlarge(img, self.scale, outscale, alpha_upsampler, self._run, progress)
        self.last_run = RunRecord.of(outcomes, self.tile_pad, self._networks.half, time.perf_counter() - begun)
        return pixels, mode

    def _run(self, plane: Plane, out: np.ndarray, progress: Optional[Progress]) -> engine.Outcome:
        height, width = plane.pixels.shape[:2]
        canvas = Canvas(height, width, self.pre_pad, self._multiple)
        tile = self.tile_size if self._limit is None else min(self.tile_size, self._limit)
        outcome = engine.run(self._networks, engine.Job(plane, canvas, self.scale, tile, self.tile_pad), out, progress)
        self._limit = outcome.limit or self._limit
        return outcome


# ------------------------------------------------------------------------------------------------- the child's side


def serve(line: Line, arguments: Dict[str, Any], count: int) -> None:
    """Build the upsampler, then compute tiles until the parent closes the pipe; the next one is received meanwhile.

    Args:
        count: Such children on this machine.
    """
    share_processor(count)
    built = try_build(line, arguments)
    if built is None:
        return
    about = {
        "described": dict(built.describe()),
        "scale": built.scale,
        "pre_pad": built.pre_pad,
        "tile_pad": built.tile_pad,
        "multiple": built._multiple(),
        "device": built._networks.device,
    }
    line.send("ready", about)
    tiles: queue.Queue[Any] = queue.Queue(_AHEAD)
    threading.Thread(target=_receive, args=(line, tiles), daemon=True).start()
    with ThreadPoolExecutor(1) as sending:
        while True:
            message = tiles.get()
            if message is None:
                return
            sending.submit(_answer, line, *_compute(built._networks, *message))


def _receive(line: Line, tiles: queue.Queue[Any]) -> None:
    try:
        while True:
            _, shape, dtype, *header = line.receive()
            tiles.put((line.receive_array(shape, dtype), *header))
    except (EOFError, OSError):
        tiles.put(None)


def _compute(
    networks: Any, pixels: np.ndarray, max_value: float, keep: Box, scale: int, dtype: str, half: bool
) -> Tuple[Any, ...]:
    try:
        network = networks.current() if half else networks.single()
        arriving = list(network.rows(Plane(pixels, max_value), pixels, keep, scale, np.dtype(dtype)))
        size = keep.scaled(scale)
        result = np.empty((size.height, size.width, *pixels.shape[2:]), np.dtype(dtype))
        for rows in [each.wait() for each in arriving]:
            rows.into(result[rows.row : rows.row + rows.pixels.shape[0]])
        return "rows", result, rows.health
    except Exception as error:  # noqa: BLE001 - judged in the parent
        return "failed", devices.classify(error), pack_error(error)


def _answer(line: Line, kind: str, *values: Any) -> None:
    try:
        if kind == "rows":
            result, health = values
            line.send("rows", result.shape, result.dtype.str, health)
            line.send_array(np.ascontiguousarray(result))
        else:
            line.send(kind, *values)
    except (OSError, ValueError):
        pass  # the parent is gone
