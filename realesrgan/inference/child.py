"""A child process that may die, and the pipe by which parent and child speak.

The child is spawned, never forked: a forked one hangs once its parent has used DirectML. Small messages are pickled
tuples of plain values; pictures go as raw bytes. Shared memory is not used, because containers often have 64 MB of it
and end a process that writes past them, and temporary files are not, because a child that dies would leave them.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import traceback
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np

from .. import devices, errors
from ..errors import DeviceError, Lines, Phrase, RealESRGANError, as_field

__all__ = ["Child", "ChildGoneError", "Line", "died", "pack_error", "rebuild_error", "share_processor"]

_CHUNK = 8 * 2**20
_PATIENCE = 5.0
_PLAIN = (str, int, float, bool, type(None))
_LOGGER = "realesrgan"


class ChildGoneError(Exception):
    """The child is of no use any more. ``str()`` says how it ended."""


class Line:
    """One end of the pipe. Any thread may send."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, *message: Any) -> None:
        """Send a kind and plain values."""
        with self._lock:
            self._connection.send(message)

    def send_error(self, error: Exception) -> None:
        """Send an error, which the parent raises again, with what it means for the device."""
        self.send("error", devices.classify(error), *pack_error(error))

    def receive(self) -> Tuple[Any, ...]:
        """The next message.

        Raises:
            EOFError: The other end is closed.
        """
        message: Tuple[Any, ...] = self._connection.recv()
        return message

    def send_array(self, array: np.ndarray) -> None:
        """Send the content of a contiguous array."""
        with self._lock:
            for chunk in _chunks(array):
                self._connection.send_bytes(chunk)

    def receive_array(self, shape: Tuple[int, ...], dtype: str) -> np.ndarray:
        """Receive what :meth:`send_array` sent; the shape and type come in a message before it."""
        array = np.empty(shape, np.dtype(dtype))
        for chunk in _chunks(array):
            self._connection.recv_bytes_into(chunk)
        return array


def _chunks(array: np.ndarray) -> Any:
    if array.nbytes == 0:
        return iter(())
    flat: Any = array.reshape(-1).view(np.uint8)
    view = memoryview(flat)
    return (view[start : start + _CHUNK] for start in range(0, len(view), _CHUNK))


class Child:
    """A running child.

    Args:
        target: ``module:function``, imported in the child alone and called with its :class:`Line` and ``arguments``.
        arguments: Plain values.
    """

    def __init__(self, target: str, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        own, other = context.Pipe(duplex=True)
        level = logging.getLogger(_LOGGER).getEffectiveLevel()
        self._process = context.Process(
            target=_enter, args=(other, level, target, arguments), name="realesrgan-worker", daemon=True
        )
        self._connection = own
        self.line = Line(own)
        try:
            _start_deaf(self._process)
        except BaseException:
            own.close()
            raise
        finally:
            other.close()

    @property
    def pid(self) -> Optional[int]:
        return self._process.pid

    def receive(self, silence: Optional[float] = None) -> Tuple[Any, ...]:
        """The child's next message. What it logs is logged here, on the way.

        Args:
            silence: Seconds without any message after which the child counts as hung.

        Raises:
            ChildGoneError: It died or is hung.
        """
        while True:
            try:
                ready = multiprocessing.connection.wait([self._connection, self._process.sentinel], silence)
            except (OSError, ValueError):  # closed by another thread meanwhile, as Windows says it
                raise ChildGoneError(Phrase("child.closed", "it closed its pipe")) from None
            if not ready:
                seconds = f"{silence:.0f}"
                raise ChildGoneError(Phrase("child.silent", f"it said nothing for {seconds} s", seconds=seconds))
            try:
                if self._connection not in ready and not self._connection.poll(0):
                    raise EOFError
                message = self.line.receive()
            except (EOFError, OSError):
                raise ChildGoneError(self._how_it_ended()) from None
            if message[0] != "log":
                return message
            _log_again(*message[1:])

    def answer(self, silence: float, progress: Optional[Callable[..., None]] = None) -> Tuple[Any, ...]:
        """As :meth:`receive`, but messages of the kind ``"progress"`` go to ``progress``."""
        while True:
            message = self.receive(silence)
            if message[0] != "progress":
                return message
            if progress is not None:
                progress(*message[1:])

    def ready(self, silence: float, progress: Optional[Callable[..., None]] = None) -> Dict[str, Any]:
        """What the child says once it has built what it works with; ``progress`` is told what it fetches.

        Raises:
            ChildGoneError: It died or is hung.
            RealESRGANError: It could not build it.
        """
        kind, *values = self.answer(silence, progress)
        if kind == "error":
            raise rebuild_error(*values[1:])
        return dict(values[0])

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Use the line, with an end of the child turned into :class:`ChildGoneError`."""
        try:
            return function(*arguments)
        except (EOFError, OSError):
            raise ChildGoneError(self._how_it_ended()) from None

    def end(self, gently: bool = True) -> None:
        """End the child and wait for it; ``gently``: it may finish what it does, for some seconds."""
        self._connection.close()
        if gently:
            self._process.join(_PATIENCE)
        for stop in (self._process.terminate, self._process.kill):
            if self._process.is_alive():
                stop()
                self._process.join(_PATIENCE)

    def _how_it_ended(self) -> Phrase:
        self._process.join(_PATIENCE)
        code = self._process.exitcode
        if code is None:
            return Phrase("child.closed", "it closed its pipe")
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            return Phrase("child.signal", f"it was ended by {name}", name=name)
        status = str(code) if code < 256 else f"0x{code:08X}"
        return Phrase("child.status", f"its exit status was {status}", status=status)


def died(reason: Any) -> DeviceError:
    """The error of a child that ended while it was needed."""
    return DeviceError(
        f"The worker process ended unexpectedly: {as_field(reason)}. Update the graphics driver, or use smaller tiles "
        "(-t 128) or --device cpu.",
        code="worker.died",
        how=reason,
    )


def share_processor(count: int) -> None:
    """Called in one of ``count`` children that compute at the same time: PyTorch takes its share of the cores.

    With a thread for each core in each child, the threads of one wait for those of the other, and everything becomes
    many times slower.
    """
    try:
        torch: Any = importlib.import_module("torch")
    except (ImportError, OSError):  # a backend that needs no PyTorch
        return
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // max(1, count)))


def _start_deaf(process: Any) -> None:
    """Start a child that never hears Ctrl-C: the parent hears it and decides."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread: the child turns deaf a moment later
        process.start()
        return
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)


def _enter(connection: Any, level: int, target: str, arguments: Tuple[Any, ...]) -> None:
    """The child's first function."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="realesrgan-parent", daemon=True).start()
    line = Line(connection)
    logger = logging.getLogger(_LOGGER)
    logger.setLevel(level)
    logger.propagate = False
    logger.addHandler(_Forward(line))
    module, _, name = target.partition(":")
    try:
        getattr(importlib.import_module(module), name)(line, *arguments)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone
    finally:
        connection.close()


def _end_with_parent() -> None:
    """End this process when the parent is gone, whatever it is busy with; a closed pipe alone would not be noticed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Forward(logging.Handler):
    """Sends the child's records to the parent."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        code = getattr(record, "notice_code", None)
        fields = _plain_fields(getattr(record, "notice_fields", {}))
        try:
            self._line.send("log", record.name, record.levelno, record.getMessage(), code, fields)
        except (OSError, ValueError):
            pass  # no process listens any more; the next answer will find out


def _log_again(name: str, level: int, text: str, code: Optional[str], fields: Dict[str, Any]) -> None:
    extra = None if code is None else {"notice_code": code, "notice_fields": fields}
    logging.getLogger(name).log(level, text, extra=extra)


def _plain_fields(fields: Any) -> Dict[str, Any]:
    return {str(name): _plain(value) for name, value in dict(fields).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(map(_plain, value))
    return value if type(value) in _PLAIN or isinstance(value, (Phrase, Lines)) else str(value)


class _ChildTraceback(Exception):
    """Where an error came from in the child; shown as its cause."""


def pack_error(error: BaseException) -> Tuple[Any, ...]:
    """An error as plain values."""
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    code = error.code if isinstance(error, RealESRGANError) else None
    fields = _plain_fields(error.fields) if isinstance(error, RealESRGANError) else {}
    return type(error).__name__, str(error), code, fields, trace


def rebuild_error(name: str, text: str, code: Optional[str], fields: Dict[str, Any], trace: str) -> Exception:
    """The error that :func:`pack_error` packed, as one of ours."""
    known = getattr(errors, name, None)
    error: Exception
    if isinstance(known, type) and issubclass(known, RealESRGANError):
        error = known(text, code=code)
        error.fields = dict(fields)
    elif name == "MemoryError":
        error = MemoryError(text)
    elif code is not None:  # of a class that a later package defines
        error = RealESRGANError(text, code=code)
        error.fields = dict(fields)
    else:
        reason = Phrase("quote", f"{name}: {' '.join(text.split())}")
        error = RealESRGANError(f"The worker process failed: {reason}.", code="worker.failed", reason=reason)
    error.__cause__ = _ChildTraceback("\n" + trace)
    return error
