"""A picture through a plan of tiles, into a finished host array.

Whole pictures live on the host; a device sees one tile. A network gives finished rows on the host, checked, reduced to
the picture's own channels and quantised; here they are put into their place. How many may be under way while the
device works on the next is the network's to say. No torch.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from .. import devices
from ..errors import DeviceLostError, DeviceOutOfMemoryError, Phrase, RealESRGANError, TileError, notice, one_line
from . import arrays, tiling
from .arrays import Plane
from .precision import BLACK, Networks
from .tiling import FLOOR, Canvas, Tile, halved

__all__ = ["Job", "Outcome", "Pace", "RunRecord", "enlarge", "run"]

logger = logging.getLogger(__name__)

_PAGE = 4096
_ROWS = 64
_SLOWER = 3
_IN_A_ROW = 2  # one slow tile may be another program's doing
_SHORTEST = 0.05  # seconds; below, the clock and the scheduler count more than the card

Progress = Callable[[int, int], None]


class Pace:
    """The pace of one device and network over all pictures of a run: notices when a card becomes slow without an error.

    Under Windows a card whose memory is full borrows from the main memory and says nothing; the same work then takes
    many times as long. So the time of a tile is compared with the quickest equal tile before it.
    """

    def __init__(self) -> None:
        self._quickest: Dict[Tuple[int, int, bool], float] = {}
        self._slow = 0
        self._said = False

    def dropped(self, shape: Tuple[int, int, bool], seconds: float) -> bool:
        """Take note of a finished tile.

        Args:
            shape: Rows and columns that were read, and whether it was in FP16: what makes tiles equal.

        Returns:
            Whether this tile and the one before it took over three times as long as an equal one once did.
        """
        quickest = self._quickest.setdefault(shape, seconds)
        self._quickest[shape] = min(quickest, seconds)
        slow = seconds > max(_SLOWER * quickest, _SHORTEST)
        self._slow = self._slow + 1 if slow else 0
        if self._slow < _IN_A_ROW:
            return False
        self._slow = 0
        return True

    def say(self, device: str, tile: int, smaller: int) -> None:
        """Tell the user, once."""
        if not self._said:
            self._said = True
            notice(
                logger,
                "tile.slow",
                f"{device} became {_SLOWER} times slower at a tile of {tile} pixels, probably because its memory is "
                f"full and it borrows from the main memory: going on with {smaller}. Close other programs that use it.",
                device=device,
                tile=tile,
                smaller=smaller,
            )


@dataclass(frozen=True)
class Job:
    """What to do with a plane: ``tile`` is the side of a tile, 0 for the whole picture, ``pad`` its padding.

    ``pace`` is given where a tile may become slow without an error.
    """

    plane: Plane
    canvas: Canvas
    scale: int
    tile: int
    pad: int
    pace: Optional[Pace] = None


@dataclass(frozen=True)
class Outcome:
    """How it went.

    Attributes:
        shape: Height and width of the largest written tile.
        splits: How often a tile was split because memory ran out.
        redone: Tiles computed again in FP32.
        limit: The tile side that memory allowed, None if it never ran out and nothing became slow.
    """

    tiles: int = 0
    shape: Tuple[int, int] = (0, 0)
    splits: int = 0
    redone: int = 0
    limit: Optional[int] = None


@dataclass(frozen=True)
class RunRecord:
    """How the last picture was computed.

    Attributes:
        tile: Height and width of the largest tile, without its padding.
        tile_pad: Its padding.
        tiles: Tiles computed, alpha's included.
        precision: ``"fp16"`` or ``"fp32"``, at the end of the picture.
        splits: How often tiles were made smaller because memory ran out.
        redone: Tiles computed again in FP32.
        seconds: Wall time of the call.
    """

    tile: Tuple[int, int] = (0, 0)
    tile_pad: int = 0
    tiles: int = 0
    precision: str = "fp32"
    splits: int = 0
    redone: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], tile_pad: int, half: bool, seconds: float) -> RunRecord:
        """The record of a picture whose planes went so."""
        return cls(
            tile=(max(outcome.shape[0] for outcome in outcomes), max(outcome.shape[1] for outcome in outcomes)),
            tile_pad=tile_pad,
            tiles=sum(outcome.tiles for outcome in outcomes),
            precision="fp16" if half else "fp32",
            splits=sum(outcome.splits for outcome in outcomes),
            redone=sum(outcome.redone for outcome in outcomes),
            seconds=seconds,
        )


def run(networks: Networks, job: Job, out: np.ndarray, progress: Optional[Progress] = None) -> Outcome:
    """Compute every tile of a job into ``out``.

    Args:
        out: ``height*scale`` x ``width*scale``, x3 in BGR order for a colour plane; uint8, uint16, or float32 for the
            network's plain output. May be a view.
        progress: Called with the tiles done and the tiles planned after each tile.

    Raises:
        DeviceOutOfMemoryError: Not even a tile of :data:`realesrgan.inference.tiling.FLOOR` fits.
        DeviceLostError: The device is gone.
        TileError: The network failed for another reason, or gave NaN in FP32.
    """
    return _Run(networks, job, out, progress).finish()


def enlarge(
    img: np.ndarray,
    scale: int,
    outscale: Optional[float],
    alpha_upsampler: Optional[str],
    run: Callable[[Plane, np.ndarray, Optional[Progress]], Outcome],
    progress: Optional[Progress],
) -> Tuple[np.ndarray, str, List[Outcome]]:
    """A picture's colour and alpha through ``run``, and to the size that is wanted.

    Args:
        img, outscale, alpha_upsampler, progress: See :meth:`realesrgan.RealESRGANer.enhance`.
        run: Puts a plane, enlarged by ``scale``, into an array.

    Returns:
        The picture, its mode, and how each plane went.
    """
    picture = arrays.decode(img)
    width, height = picture.size_at(scale if outscale is None else outscale)
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[picture.mode]
    result = arrays.allocate(picture.height * scale, picture.width * scale, channels, picture.depth)
    through_network = picture.alpha is not None and alpha_upsampler == "realesrgan"
    colors = result[:, :, :3] if picture.alpha is not None else result
    outcomes = [run(picture.color, colors, _part(progress, 0, 2 if through_network else 1))]
    if picture.alpha is not None and through_network:
        outcomes.append(run(picture.alpha, result[:, :, 3], _part(progress, 1, 2)))
    elif picture.alpha is not None:
        arrays.resize_alpha(picture.alpha, scale, result[:, :, 3])
    return arrays.resize(result, width, height), picture.mode, outcomes


def _part(progress: Optional[Progress], number: int, count: int) -> Optional[Progress]:
    """The progress of one of several runs of equal length."""
    return None if progress is None else lambda done, total: progress(number * total + done, count * total)


@dataclass
class _Flight:
    """A tile that the device works on.

    Attributes:
        half: It is computed in FP16.
        trial: It is computed in FP32 to learn whether black is right, FP16 still being in force.
        black_input: All of its pixels are 0.
        begun: When it was begun, in seconds.
    """

    tile: Tile
    begun: float
    half: bool
    trial: bool
    black_input: bool


class _CallbackError(Exception):
    """``error`` came from the caller's ``progress`` and is raised as it is."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Run:
    def __init__(self, networks: Networks, job: Job, out: np.ndarray, progress: Optional[Progress]) -> None:
        self.networks = networks
        self.job = job
        self.out = out
        self.progress = progress
        self.device = networks.device
        self.waiting: Deque[Tile] = deque(tiling.plan(job.canvas, job.tile, job.pad))
        self.under_way: Deque[Tuple[_Flight, Any]] = deque()
        """Tiles with rows on their way to the host: ``wait()`` gives :class:`realesrgan.inference.arrays.Rows`."""
        self.trials: Set[Tile] = set()
        self.tried: Set[int] = set()
        self.tile = self.waiting[0]
        """The tile that is worked on or waited for: the one that an error belongs to."""
        self.outcome = Outcome()
        self.last_done = 0.0
        self.touched = False

    def finish(self) -> Outcome:
        while self.waiting or self.under_way:
            too_large = False
            try:
                if self.waiting:
                    self._cut_or_launch(self.waiting.popleft())
                else:
                    self._land()
            except _CallbackError as stopped:
                raise stopped.error from stopped.error.__cause__
            except Exception as error:  # noqa: BLE001 - backends raise plain Exception too
                self._raise_unless_memory(self.tile, error)
                too_large = True
            if too_large:  # outside the handler, where the failed tile's tensors are gone
                self._shrink(self.tile)
        return self.outcome

    def _cut_or_launch(self, tile: Tile) -> None:
        limit = self.outcome.limit
        if limit is not None and tile.side > limit:
            self.waiting.extendleft(reversed(tiling.split(self.job.canvas, tile, limit, self.job.pad)))
        else:
            self._launch(tile)

    def _launch(self, tile: Tile) -> None:
        self.tile = tile
        trial = tile in self.trials
        network = self.networks.single() if trial else self.networks.current()
        pixels = self.job.plane.crop(self.job.canvas, tile.read)
        flight = _Flight(tile, time.perf_counter(), network.half, trial, not bool(pixels.any()))
        keep = tile.write.relative_to(tile.read)
        room = network.in_flight(tile.read.height, tile.read.width)
        for rows in network.rows(self.job.plane, pixels, keep, self.job.scale, self.out.dtype):
            self.under_way.append((flight, rows))
            while len(self.under_way) > room:
                self._land()
            self.tile = tile

    def _land(self) -> None:
        flight, arriving = self.under_way.popleft()
        self.tile = flight.tile
        if not self.touched:
            self._touch(arriving)
        rows = arriving.wait()
        target = self.tile.write.scaled(self.job.scale)
        first = target.y0 + rows.row
        rows.into(self.out[first : first + rows.pixels.shape[0], target.x0 : target.x1])
        if rows.health is not None:
            self._judge(flight, *rows.health)

    def _touch(self, rows: Any) -> None:
        """Write to the pages of the result while the device is busy, so that the system hands their memory out now."""
        self.touched = True
        step = max(1, _PAGE // self.out.strides[1])
        for row in range(0, self.out.shape[0], _ROWS):
            if rows.ready:
                break
            self.out[row : row + _ROWS, ::step] = 0

    def _judge(self, flight: _Flight, broken: bool, brightest: float) -> None:
        """A tile whose last band has arrived is accepted, or is computed again in FP32."""
        black = brightest <= BLACK and not flight.black_input
        if flight.half and (broken or not self.networks.half):
            self._leave_half(Phrase("half.tile_nan", "a tile came back with NaN or infinity"))
            self._again(flight.tile)
        elif flight.half and black:
            self.trials.add(flight.tile)
            self._again(flight.tile)
        elif broken:
            raise TileError(
                f"The network gave NaN or infinity for the tile at {_place(flight.tile)} in FP32. The weights or the "
                "graphics driver are broken: fetch the weights again, update the driver, or use --device cpu.",
                code="tile.nan",
                tile=_place(flight.tile),
            )
        else:
            if flight.trial and not black:
                self._leave_half(Phrase("half.tile_black", "a tile came back black"))
            self._accept(flight)

    def _leave_half(self, reason: Phrase) -> None:
        if self.networks.half:
            self.networks.fall_back(reason)

    def _again(self, tile: Tile) -> None:
        self.waiting.appendleft(tile)
        self.outcome = replace(self.outcome, redone=self.outcome.redone + 1)

    def _accept(self, flight: _Flight) -> None:
        tile = flight.tile
        height, width = self.outcome.shape
        shape = max(height, tile.write.height), max(width, tile.write.width)
        self.outcome = replace(self.outcome, tiles=self.outcome.tiles + 1, shape=shape)
        if self.progress is not None:
            ahead = len(self.waiting) + len({id(each) for each, _ in self.under_way})
            try:
                self.progress(self.outcome.tiles, self.outcome.tiles + ahead)
            except Exception as error:
                raise _CallbackError(error) from error
        self._keep_pace(flight)

    def _keep_pace(self, flight: _Flight) -> None:
        pace, now = self.job.pace, time.perf_counter()
        # Tiles overlap where copies do: what counts is the time since the one before.
        begun, self.last_done = max(flight.begun, self.last_done), now
        read = flight.tile.read
        if pace is None or not pace.dropped((read.height, read.width, flight.half), now - begun):
            return
        smaller = halved(flight.tile.side)
        if smaller < min(flight.tile.side, self.outcome.limit or flight.tile.side):
            self.outcome = replace(self.outcome, limit=smaller)
            pace.say(self.device.name, flight.tile.side, smaller)

    def _raise_unless_memory(self, tile: Tile, error: Exception) -> None:
        if isinstance(error, RealESRGANError):
            raise error
        kind = devices.classify(error)
        if kind == "lost":
            raise DeviceLostError(
                f"{self.device.spec} ({self.device.name}) stopped answering while it worked on the tile at "
                f"{_place(tile)}. This process cannot use it any more: start again with smaller "
                "tiles (-t 256), or with --device cpu.",
                device=self.device.spec,
                name=self.device.name,
            ) from error
        if kind == "other":
            reason = Phrase("quote", f"{type(error).__name__}: {one_line(error)}")
            raise TileError(
                f"The network failed on the tile at {_place(tile)}: {reason}. Try --device cpu; "
                "'python -m realesrgan doctor' checks the device.",
                code="tile.failed",
                tile=_place(tile),
                reason=reason,
            ) from error
        self.tried.add(tile.side)
        if tile.side <= FLOOR:
            tried = tuple(sorted(self.tried, reverse=True))
            raise DeviceOutOfMemoryError(
                f"The memory of {self.device.spec} ({self.device.name}) does not suffice: tiles of "
                f"{', '.join(map(str, tried))} pixels were tried, down to the smallest. Close other programs that "
                "use the graphics card, or use --device cpu.",
                device=self.device.spec,
                name=self.device.name,
                tried=tried,
            ) from error
        # A tensor that we refused ourselves leaves the backend's allocator as it was.
        if not self.device.capabilities.recovers_memory and not isinstance(error, MemoryError):
            smaller = halved(tile.side)
            raise DeviceOutOfMemoryError(
                f"{self.device.spec} ({self.device.name}) ran out of memory at a tile of {tile.side} pixels. This "
                f"process cannot use it any more: start again with smaller tiles (-t {smaller}), or with --device cpu.",
                code="device.memory_stuck",
                device=self.device.spec,
                name=self.device.name,
                tile=tile.side,
                smaller=smaller,
            ) from error

    def _shrink(self, tile: Tile) -> None:
        # What has arrived of this tile does not count; tiles before it are accepted.
        self.under_way = deque(pair for pair in self.under_way if pair[0].tile != tile)
        limit = halved(tile.side)
        self.waiting.appendleft(tile)
        self.outcome = replace(self.outcome, splits=self.outcome.splits + 1, limit=limit)
        while self.under_way:
            other = self.under_way[0][0].tile
            try:
                self._land()
            except _CallbackError:
                raise
            except Exception as error:  # noqa: BLE001 - tiles that were computed at the same time fail alike
                self._raise_unless_memory(other, error)
                self.under_way = deque(pair for pair in self.under_way if pair[0].tile != other)
                self.waiting.appendleft(other)
        devices.free(self.device)
        notice(
            logger,
            "tile.smaller",
            f"{self.device.name} ran out of memory at a tile of {tile.side} pixels: going on with {limit}.",
            device=self.device.name,
            tile=tile.side,
            smaller=limit,
        )


def _place(tile: Tile) -> str:
    return f"x {tile.write.x0}, y {tile.write.y0} ({tile.write.width}x{tile.write.height})"
