"""The names that older scripts import from here: RealESRGANer, PrefetchReader and IOConsumer, and nothing else.

New code takes :class:`realesrgan.RealESRGANer` and :func:`realesrgan.batch.run`.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from typing import TYPE_CHECKING, Any, Iterator, List, Sequence, Union

import numpy as np

from . import files
from .errors import PictureError

if TYPE_CHECKING:
    from .upsampler import RealESRGANer

__all__ = ["IOConsumer", "PrefetchReader", "RealESRGANer"]

_log = logging.getLogger(__name__)

PathLike = Union[str, "os.PathLike[str]"]


class PrefetchReader(threading.Thread):
    """Reads pictures ahead in a thread; iterate it for the pixels, in the order of the list.

    A picture that cannot be read raises its :class:`PictureError` when its turn comes; ``next`` then goes on with
    the one after it.

    Args:
        img_list: Paths.
        num_prefetch_queue: How many pictures may wait.
    """

    def __init__(self, img_list: Sequence[PathLike], num_prefetch_queue: int) -> None:
        super().__init__(name="prefetch-reader", daemon=True)
        self.img_list = img_list
        self.que: queue.Queue[Union[np.ndarray, PictureError, None]] = queue.Queue(max(1, num_prefetch_queue))

    def run(self) -> None:
        for path in self.img_list:
            try:
                self.que.put(files.read(path).pixels)
            except PictureError as error:
                self.que.put(error)
        self.que.put(None)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        if self.ident is None:
            self.start()
        item = self.que.get()
        if item is None:
            self.que.put(None)  # whoever asks again gets the same answer, and does not wait for ever
            raise StopIteration
        if isinstance(item, PictureError):
            raise item
        return item


class IOConsumer(threading.Thread):
    """Writes pictures that come through a queue, until the message ``'quit'`` comes.

    A message is a mapping with ``output`` (pixels as :func:`realesrgan.files.write` takes them) and ``save_path``.

    Args:
        opt: Taken for the sake of older scripts; not used.
        que: The queue.
        qid: A number for the log.

    Attributes:
        errors: What could not be written. Each is logged too, and ends nothing.
    """

    def __init__(self, opt: Any, que: queue.Queue[Any], qid: int) -> None:
        super().__init__(name=f"io-consumer-{qid}")
        self.opt = opt
        self.qid = qid
        self.errors: List[PictureError] = []
        self._queue = que

    def run(self) -> None:
        while True:
            message = self._queue.get()
            if isinstance(message, str) and message == "quit":
                _log.debug("writer %s is done", self.qid)
                return
            try:
                files.write(message["save_path"], message["output"])
            except PictureError as error:
                self.errors.append(error)
                _log.error("%s", error)


def __getattr__(name: str) -> Any:
    # RealESRGANer brings torch along; reading and writing do not need it.
    if name != "RealESRGANer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .upsampler import RealESRGANer as value

    globals()[name] = value
    return value
