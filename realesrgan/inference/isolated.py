"""The upsampler in a child process that may die and is started again.

On DirectML, memory that stays stuck after out of memory, or a card that Windows has reset, ends the process's use of
the card, and some operations end the process itself. So the picture is handed to a child; when that is lost, a new one
goes on with the same picture in smaller tiles. This process never imports torch_directml and never opens a device.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

import numpy as np

from .. import devices
from ..errors import DeviceLostError, DeviceOutOfMemoryError, InputError, Phrase, notice
from .child import Child, ChildGoneError, Line, died, rebuild_error
from .tiling import halved

__all__ = ["IsolatedUpsampler", "Settings", "build", "isolates", "serve", "try_build"]

logger = logging.getLogger(__name__)

_BUILD, _SERVE = "realesrgan.inference.isolated:build", "realesrgan.inference.isolated:serve"
_ATTRIBUTES = ("scale", "tile_size", "tile_pad", "pre_pad", "half", "model_name", "weights_source")
"""Of the upsampler, that are the same here."""

Progress = Callable[[int, int], None]


def isolates(wish: Optional[bool], request: Optional[str]) -> bool:
    """Whether the work is to be done in a child process.

    Args:
        wish: ``--isolate`` or ``--no-isolate``; None leaves it to :func:`realesrgan.devices.may_be_lost`.
        request: What ``--device`` says.

    Raises:
        InputError: The request cannot be read.
    """
    return devices.may_be_lost(request or None) if wish is None else wish


@dataclass(frozen=True)
class Settings:
    """How a child is run.

    Attributes:
        factory: ``module:function`` that builds the upsampler in the child from the arguments.
        restarts: New processes that one picture may take.
        silence: Seconds without a tile, a line or a byte after which a child counts as hung.
        pause: Seconds before a new process, in which Windows can bring a card back.
    """

    factory: str = _BUILD
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
        last_run: See :class:`~realesrgan.inference.engine.RunRecord`.
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
        self._lasting = halved(known) if known else 0
        # A picture smaller than a tile needs its own half, but the pictures after it do not.
        smaller = min(self._lasting, halved(min(tile or known, side))) if side else self._lasting
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
        self._child = child = Child(_SERVE, self.settings.factory, arguments)
        try:
            self._described, attributes = self._answer(child, self._progress)
        except BaseException:
            self._discard()
            raise
        vars(self).update(attributes)
        return child

    def _ask(
        self,
        img: np.ndarray,
        outscale: Optional[float],
        alpha_upsampler: Optional[str],
        tile: int,
        progress: Optional[Progress],
    ) -> Tuple[np.ndarray, str]:
        child = self._child or self._start()
        with self._speaking():
            shape = tuple(map(int, img.shape))
            child.call(child.line.send, "enhance", shape, img.dtype.str, outscale, alpha_upsampler, tile)
            child.call(child.line.send_array, img)
        shape, dtype, mode, self.last_run, self._described = self._answer(child, progress)
        with self._speaking():
            return child.call(child.line.receive_array, shape, dtype), mode

    def _answer(self, child: Child, progress: Optional[Progress]) -> Any:
        """The child's next values; progress is passed on, an error raised."""
        with self._speaking():
            kind, *values = child.answer(self.settings.silence, progress)
        if kind != "error":
            return values
        error = _judge(values[0], rebuild_error(*values[1:]))
        if isinstance(error, (DeviceLostError, DeviceOutOfMemoryError)):
            raise _LostError(error)
        raise error

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """What ends a conversation half-way ends the child: the next it says would belong to this picture."""
        try:
            yield
        except ChildGoneError as gone:
            self._discard()
            raise _LostError(died(gone)) from None
        except BaseException:  # Ctrl-C, or an error of the caller's progress
            self._discard()
            raise

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


# ------------------------------------------------------------------------------------------------- the child's side


def build(*, faces: Optional[Mapping[str, Any]] = None, **arguments: Any) -> Any:
    """Build, in the child, a RealESRGANer, or with ``faces`` (its further arguments) a FaceEnhancer around it."""
    from .upsampler import RealESRGANer

    upsampler = RealESRGANer(**arguments)
    if faces is None:
        return upsampler
    module: Any = importlib.import_module("realesrgan.inference.faces.enhancer")
    return module.FaceEnhancer(upsampler, progress=arguments.get("progress"), **faces)


def try_build(line: Line, arguments: Mapping[str, Any], factory: str = _BUILD) -> Any:
    """Build in the child, and send the progress; an error is sent too, and None is given."""
    module, _, name = factory.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
        return make(**arguments, progress=lambda done, total: line.send("progress", done, total))
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        line.send_error(error)
        return None


def serve(line: Line, factory: str, arguments: Mapping[str, Any]) -> None:
    """Build the upsampler, then answer until the parent closes the pipe."""
    built = try_build(line, arguments, factory)
    if built is None:
        return
    inner = getattr(built, "upsampler", built)
    line.send("ready", built.describe(), {name: getattr(inner, name) for name in _ATTRIBUTES if hasattr(inner, name)})
    while True:
        _, shape, dtype, outscale, alpha_upsampler, tile = line.receive()
        img = line.receive_array(shape, dtype)
        try:
            if tile:
                inner.tile_size = tile
            pixels, mode = built.enhance(
                img, outscale, alpha_upsampler, progress=lambda done, total: line.send("progress", done, total)
            )
        except Exception as error:  # noqa: BLE001 - raised again in the parent
            line.send_error(error)
            continue
        pixels = np.ascontiguousarray(pixels)
        line.send("done", pixels.shape, pixels.dtype.str, mode, built.last_run, built.describe())
        line.send_array(pixels)
