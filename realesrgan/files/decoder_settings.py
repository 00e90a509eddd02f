"""Settings of Pillow, OpenCV and ``warnings`` that hold while pictures are decoded, and are put back afterwards."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from typing import Callable, ContextManager, Iterator

import cv2
from PIL import Image, ImageFile

__all__ = ["any_size", "quiet"]


class _Shared:
    """A change to the whole process that threads share: the first in makes it, the last out undoes it."""

    def __init__(self, change: Callable[[], ContextManager[None]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._undo = contextlib.ExitStack()
        self.users = 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self.users == 0:
                self._undo.enter_context(self._change())
            self.users += 1
        try:
            yield
        finally:
            with self._lock:
                self.users -= 1
                if self.users == 0:
                    self._undo.close()


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        # Pillow gives some warnings in its caller's name.
        warnings.filterwarnings("ignore", module=r"realesrgan\.decoders$")
        yield


@contextlib.contextmanager
def _decoders() -> Iterator[None]:
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    getter, setter = getattr(cv2, "getLogLevel", None), getattr(cv2, "setLogLevel", None)
    level = getter() if getter else 0
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    if getter and setter:
        setter(0)
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated
        if getter and setter:
            setter(level)


@contextlib.contextmanager
def _no_limit() -> Iterator[None]:
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


_shared_decoders = _Shared(_decoders)
_shared_warnings = _Shared(_no_warnings)

#: Lift Pillow's own pixel limit, where ours has been checked before.
any_size = _Shared(_no_limit)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Pillow's warnings out of ``-W error``, OpenCV's remarks off the console, and Pillow strict about truncation.

    The lines that libtiff itself prints about some damaged files cannot be switched off through Pillow.
    """
    # Newer Pythons can keep the filters of warnings per thread; then each thread needs its own change.
    own = getattr(sys.flags, "context_aware_warnings", 0)
    with _shared_decoders(), _no_warnings() if own else _shared_warnings():
        yield
