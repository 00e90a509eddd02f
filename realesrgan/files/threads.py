"""Work in threads, in order and bounded: reading ahead of its use, and writing behind the caller's back.

Both keep the order of the items, keep at most a stated number of items and about a stated number of bytes, and give
an exception back as part of the outcome instead of raising it in a thread. All waiting is in short steps, because a
blocked lock cannot be interrupted by Ctrl-C on Windows.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Callable, Deque, Generic, Iterable, Iterator, List, Optional, TypeVar

__all__ = ["Outcome", "ReadAhead", "WriteBehind", "default_readers", "default_writers"]

_POLL = 0.2

Item = TypeVar("Item")
Key = TypeVar("Key")
Value = TypeVar("Value")
Own = TypeVar("Own", bound="_Ordered[Any, Any, Any]")


@dataclass(frozen=True)
class Outcome(Generic[Key, Value]):
    """What one call gave: a value or an error, and the wall time it took in seconds."""

    key: Key
    value: Optional[Value]
    error: Optional[BaseException]
    seconds: float

    def result(self) -> Value:
        """The value; raises the error if there was one."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


def default_readers() -> int:
    """One thread keeps up with any device; a second one helps where cores are plenty."""
    return 2 if (os.cpu_count() or 1) >= 4 else 1


def default_writers() -> int:
    """Encoding is the slower side: up to four threads."""
    return max(1, min(4, os.cpu_count() or 1))


def _call(function: Callable[[Item], Value], item: Item, key: Key) -> Outcome[Key, Value]:
    start = time.perf_counter()
    try:
        value = function(item)
    except BaseException as error:  # noqa: BLE001 - a thread cannot raise to its caller; the caller decides
        return Outcome(key, None, error, time.perf_counter() - start)
    return Outcome(key, value, None, time.perf_counter() - start)


class _Ordered(Generic[Key, Item, Value]):
    """The threads, and what was given to them, in order, until its outcome is taken."""

    def __init__(self, function: Callable[[Item], Value], workers: int, room: int, name: str) -> None:
        self._function = function
        self._workers = workers
        self._room = max(1, room)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._open: Deque[Future[Outcome[Key, Value]]] = deque()

    def _start(self, key: Key, item: Item) -> Future[Outcome[Key, Value]]:
        future = self._pool.submit(_call, self._function, item, key)
        self._open.append(future)
        return future

    def _unfinished(self) -> List[Future[Outcome[Key, Value]]]:
        return [future for future in self._open if not future.done()]

    def close(self) -> None:
        """Start nothing that was not submitted, let running calls end, and join the threads."""
        self._settle()
        self._pool.shutdown()

    def _settle(self) -> None:
        while wait(self._unfinished(), _POLL).not_done:
            pass

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class ReadAhead(_Ordered[Item, Item, Value]):
    """Iterates the outcomes of ``function`` over ``items``, in order, computed ahead of their use.

    Args:
        items: What to read. With ``size_of`` they are asked for in any thread, else in the caller's.
        function: Reads one item; runs in a thread.
        size_of: Bytes that a value occupies; without it values are counted only.
        workers: Threads.
        ahead: At most this many items are read and not yet taken.
        budget: Bytes that may wait. One item may always wait, whatever its size.
    """

    def __init__(
        self,
        items: Iterable[Item],
        function: Callable[[Item], Value],
        *,
        size_of: Optional[Callable[[Value], int]] = None,
        workers: int = 1,
        ahead: int = 4,
        budget: int = 256 << 20,
    ) -> None:
        super().__init__(function, workers, ahead, "read-ahead")
        self._items = iter(items)
        self._size_of = size_of
        self._budget = budget
        self._largest = 0
        self._lock = threading.RLock()
        self._fill()

    def _may_read(self) -> bool:
        if not self._open or self._size_of is None:
            return len(self._open) < self._room
        done = [future.result().value for future in self._open if future.done() and not future.cancelled()]
        sizes = [0 if value is None else self._size_of(value) for value in done]
        self._largest = max(self._largest, *sizes, 0)
        # What is being read has no size yet: count it as the largest seen so far.
        reading = len(self._open) - len(done)
        expected = sum(sizes) + (reading + 1) * self._largest
        return len(self._open) < self._room and reading < self._workers and expected <= self._budget

    def _fill(self, _: object = None) -> None:
        with self._lock:
            while self._may_read():
                try:
                    item = next(self._items)
                except StopIteration:
                    return
                future = self._start(item, item)
                if self._size_of is not None:  # its size decides whether another one may be read
                    future.add_done_callback(self._fill)

    def __iter__(self) -> Iterator[Outcome[Item, Value]]:
        self._fill()
        while self._open:
            while not self._open[0].done():
                wait([self._open[0]], _POLL)
            with self._lock:
                outcome = self._open.popleft().result()
            self._fill()
            yield outcome
            del outcome  # a picture must not live on while the next is waited for

    def close(self) -> None:
        """Start nothing new, let running calls end, and join the threads."""
        with self._lock:
            self._items = iter(())
            waiting = list(self._open)
        for future in waiting:
            future.cancel()
        super().close()


class WriteBehind(_Ordered[Key, Item, Value]):
    """Runs ``function`` on submitted items in threads and gives the outcomes back in the order of submission.

    An outcome carries the key that was submitted with the item, not the item: a finished picture is let go at once.

    Args:
        function: Writes one item.
        workers: Threads.
        behind: At most this many items are submitted and not finished.
        budget: Bytes that those may occupy. One item is always accepted, whatever its size.
    """

    def __init__(
        self,
        function: Callable[[Item], Value],
        *,
        workers: int = 2,
        behind: int = 0,
        budget: int = 512 << 20,
    ) -> None:
        super().__init__(function, workers, behind or 2 * workers, "write-behind")
        self._budget = budget
        self._sizes: Deque[int] = deque()

    def submit(self, key: Key, item: Item, size: int = 0) -> None:
        """Hand over one item of ``size`` bytes; blocks while the bounds are reached."""
        while True:
            unfinished = self._unfinished()
            held = sum(known for known, future in zip(self._sizes, self._open) if not future.done())
            if not unfinished or (len(unfinished) < self._room and held + size <= self._budget):
                break
            wait(unfinished, _POLL, FIRST_COMPLETED)
        self._sizes.append(size)
        self._start(key, item)

    def finished(self) -> List[Outcome[Key, Value]]:
        """What has finished since the last call, up to the first that has not."""
        outcomes = []
        while self._open and self._open[0].done():
            self._sizes.popleft()
            outcomes.append(self._open.popleft().result())
        return outcomes

    def drain(self) -> List[Outcome[Key, Value]]:
        """Wait for everything submitted, and give the rest of the outcomes."""
        self._settle()
        return self.finished()
