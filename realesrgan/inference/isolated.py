"""The upsampler in a child process that may die and is started again.

On DirectML, memory that stays stuck after out of memory, or a card that Windows has reset, ends the process's use of
the card, and some operations end the process itself. So the picture is handed to a child; when that is lost, a new one
goes on with the same picture in smaller tiles. This process never imports torch_directml and never opens a device.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np

from .. import devices
from ..errors import DeviceLostError, DeviceOutOfMemoryError, InputError, Phrase, notice
from .child import Child, ChildGoneError, died, rebuild_error

__all__ = ["FLOOR", "IsolatedUpsampler", "Settings", "isolates"]

logger = logging.getLogger(__name__)

FLOOR = 32
"""Smallest side of a tile that a new process is given."""

_SERVE = "realesrgan.inference.isolated_child:serve"

Progress = Callable[[int, int], None]


def isolates(wish: Optional[bool], request: Optional[str]) -> bool:
    """Whether the work is to be done in a child process.

    Args:
        wish: ``--isolate`` or ``--no-isolate``; None leaves it to the device.
        request: What ``--device`` says.

    Without a wish it is done where a device may be lost for good; see :func:`realesrgan.devices.may_be_lost`.

    Raises:
        InputError: The request cannot be read.
    """
    if wish is not None:
        return wish
    return devices.may_be_lost(request or None)


@dataclass(frozen=True)
class Settings:
    """How a child is run.

    Attributes:
        factory: ``module:function`` that builds the upsampler in the child from the arguments.
        restarts: New processes that one picture may take.
        silence: Seconds without a tile, a line or a byte after which a child counts as hung.
        pause: Seconds before a new process, in which Windows can bring a card back.
    """

    factory: str = "realesrgan.inference.isolated_child:build"
    restarts: int = 3
    silence: float = 900.0
    pause: float = 2.0


#: The first sentence alone of the errors after which a new process goes on, by code.
_FIRST = {"device.lost": "worker.lost", "device.memory": "worker.memory", "worker.died": "worker.ended"}


class _LostError(Exception):
    """The child, or its use of the device, is lost; ``error`` is raised if no further process may be started."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class IsolatedUpsampler:
    """Looks like :class:`~realesrgan.inference.upsampler.RealESRGANer`; the work is done in a child process.

    Args:
        settings: How the child is run.
        progress: Called with bytes done and in all while weights are downloaded.
        **arguments: Keyword arguments of RealESRGANer, plain values only; ``faces`` as :func:`build` accepts it.

    Attributes:
        last_run: The values of :class:`~realesrgan.inference.upsampler.RunRecord`.
        restarts: New processes so far.

    Raises:
        RealESRGANError: As RealESRGANer does; a DeviceError of code ``worker.died`` if two children died on the way.
    """

    scale: int
    last_run: Any = None

    def __init__(
        self, *, settings: Optional[Settings] = None, progress: Optional[Progress] = None, **arguments: Any
    ) -> None:
        self.settings = settings or Settings()
        self.restarts = 0
        self._progress = progress
        self._arguments = arguments
        self._child: Optional[Child] = None
        self._described: Dict[str, object] = {}
        self._lasting = 0  # the tile after a restart; 0 before the first
        try:
            self._start()
        except _LostError as first:
            self._again(first, 0)
            try:
                self._start()
            except _LostError as second:
                raise second.error from second.error.__cause__

    def __enter__(self) -> IsolatedUpsampler:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def pid(self) -> Optional[int]:
        """The child's process number, None while there is none."""
        return None if self._child is None else self._child.pid

    def describe(self) -> Dict[str, object]:
        """See :meth:`realesrgan.inference.upsampler.RealESRGANer.describe`; ``isolated`` is True."""
        return {**self._described, "isolated": True}

    def close(self) -> None:
        """End the child. The next picture would start another."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def enhance(
        self,
        img: np.ndarray,
        outscale: Optional[float] = None,
        alpha_upsampler: Optional[str] = "realesrgan",
        *,
        progress: Optional[Progress] = None,
    ) -> Tuple[np.ndarray, str]:
        """See :meth:`realesrgan.inference.upsampler.RealESRGANer.enhance`.

        Raises:
            DeviceLostError: The device was lost in every process that was tried.
            DeviceOutOfMemoryError: Memory did not suffice in any of them.
            DeviceError: (code ``worker.died``) All of them died on this picture; the next one may well succeed.
        """
        if not isinstance(img, np.ndarray) or img.dtype.kind not in "buif":
            kind = type(img).__name__
            raise InputError(f"enhance() accepts a numpy array of numbers, not {kind}.", code="image.type", type=kind)
        tile = self._lasting
        for attempt in range(self.settings.restarts + 1):
            try:
                return self._ask(np.ascontiguousarray(img), outscale, alpha_upsampler, tile, progress)
            except _LostError as lost:
                if attempt == self.settings.restarts:
                    raise lost.error from lost.error.__cause__
                tile = self._again(lost, max(img.shape[:2]), tile)
        raise AssertionError("unreachable")

    def _again(self, lost: _LostError, side: int, tile: int = 0) -> int:
        """Settle on tiles of half the size from now on, say so, and give the tile for a picture of this side."""
        self._discard()
        self.restarts += 1
        known = self._lasting or int(str(self._described.get("tile") or 0)) or side
        self._lasting = max(FLOOR, -(-known // 2)) if known else 0
        # A picture smaller than a tile needs its own half, but the pictures after it do not.
        smaller = max(FLOOR, min(self._lasting, -(-min(tile or known, side) // 2))) if side else self._lasting
        # The first sentence; the others say what to do where nothing goes on by itself.
        first = re.split(r"\.(?:\s|$)", str(lost.error), maxsplit=1)[0]
        code = getattr(lost.error, "code", "quote")
        reason = Phrase(_FIRST.get(code, code), first, **getattr(lost.error, "fields", {}))
        tiles = Phrase("worker.tiles", f", with tiles of {smaller} pixels", tile=smaller) if smaller else ""
        notice(
            logger,
            "worker.restarted",
            f"{reason}. Going on in a new process{tiles}.",
            reason=reason,
            tile=smaller or "auto",
            tiles=tiles,
        )
        time.sleep(self.settings.pause)
        return smaller

    def _start(self) -> Child:
        arguments = dict(self._arguments)
        if self._lasting:
            arguments["tile"] = self._lasting
        self._child = Child(_SERVE, self.settings.factory, arguments)
        _, described, attributes = self._wait("ready", self._progress)
        self._described = described
        for name, value in attributes.items():
            setattr(self, name, value)
        return self._child

    def _ask(
        self,
        img: np.ndarray,
        outscale: Optional[float],
        alpha_upsampler: Optional[str],
        tile: int,
        progress: Optional[Progress],
    ) -> Tuple[np.ndarray, str]:
        child = self._child or self._start()
        try:
            shape = tuple(map(int, img.shape))
            child.call(child.line.send, "enhance", shape, img.dtype.str, outscale, alpha_upsampler, tile)
            child.call(child.line.send_array, img)
        except ChildGoneError as gone:
            raise self._died(gone) from None
        except BaseException:
            self._discard()
            raise
        _, shape, dtype, mode, run, self._described = self._wait("done", progress)
        self.last_run = SimpleNamespace(**run)
        try:
            return child.call(child.line.receive_array, shape, dtype), mode
        except ChildGoneError as gone:
            raise self._died(gone) from None
        except BaseException:
            self._discard()
            raise

    def _wait(self, kind: str, progress: Optional[Progress]) -> Tuple[Any, ...]:
        """The child's message of that kind; progress is passed on, an error raised."""
        child = self._child
        assert child is not None
        try:
            while True:
                message = child.receive(self.settings.silence)
                if message[0] == kind:
                    return message
                if message[0] == "error":
                    break
                if progress is not None:
                    progress(*message[1:])
        except ChildGoneError as gone:
            raise self._died(gone) from None
        except BaseException:  # Ctrl-C or the callback's own: what the child says next would belong to this picture
            self._discard()
            raise
        error = _judge(message[1], rebuild_error(*message[2:]))
        if kind == "ready":
            self._discard()
        if isinstance(error, (DeviceLostError, DeviceOutOfMemoryError)):
            raise _LostError(error)
        raise error

    def _died(self, gone: ChildGoneError) -> _LostError:
        self._discard()
        return _LostError(died(gone))

    def _discard(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end(gently=False)


def _judge(kind: str, error: Exception) -> Exception:
    """An error of ours for one that a device raised outside the engine, such as while the network is sent to it."""
    if isinstance(error, (DeviceLostError, DeviceOutOfMemoryError)) or kind == "other":
        return error
    made: Exception = DeviceLostError(str(error)) if kind == "lost" else DeviceOutOfMemoryError(str(error))
    made.__cause__ = error.__cause__
    return made
