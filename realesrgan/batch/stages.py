"""Reading ahead and writing behind: two small bounded stages around work that must stay in the calling thread.

Both keep the order of the items, hold at most a stated number of items and about a stated number of bytes, and give
an exception back as part of the outcome instead of raising it in a thread. All waiting is in short steps, because a
blocked lock cannot be interrupted by Ctrl-C on Windows.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Callable, Deque, Dict, Generic, Iterator, List, Optional, Sequence, Tuple, TypeVar

__all__ = ["Outcome", "ReadAhead", "WriteBehind", "default_readers", "default_writers"]

_POLL = 0.2

Item = TypeVar("Item")
Key = TypeVar("Key")
Value = TypeVar("Value")


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


def _call(function: Callable[[Item], Value], item: Item, key: Key) -> Outcome[Key, Value]:
    start = time.perf_counter()
    try:
        value = function(item)
    except BaseException as error:  # noqa: BLE001 - a thread has nobody to raise to; the caller decides
        return Outcome(key, None, error, time.perf_counter() - start)
    return Outcome(key, value, None, time.perf_counter() - start)


def default_readers() -> int:
    """One thread keeps up with any device; a second one helps where cores are plenty."""
    return 2 if (os.cpu_count() or 1) >= 4 else 1


def default_writers() -> int:
    """Encoding is the slower side: up to four threads."""
    return max(1, min(4, os.cpu_count() or 1))


class _Stage:
    """The lock, the stop flag and the threads that both stages share."""

    def __init__(self, workers: int, name: str) -> None:
        self._condition = threading.Condition()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(workers)
        ]

    def _start(self) -> None:
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        raise NotImplementedError

    def _wait_for(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._condition.wait(_POLL)

    def close(self) -> None:
        """Start nothing new, let running calls end, and join the threads."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_POLL)


class ReadAhead(_Stage, Generic[Item, Value]):
    """Iterates the outcomes of ``function`` over ``items``, in order, computed ahead of their use.

    Args:
        items: What to read.
        function: Reads one item; runs in a thread.
        size_of: Bytes that a value holds.
        workers: Threads.
        ahead: At most this many items are read and not yet taken.
        budget: Bytes that may wait. One item may always wait, whatever its size.
    """

    def __init__(
        self,
        items: Sequence[Item],
        function: Callable[[Item], Value],
        *,
        size_of: Callable[[Value], int] = lambda value: 0,
        workers: int = 1,
        ahead: int = 4,
        budget: int = 256 << 20,
    ) -> None:
        super().__init__(workers, "read-ahead")
        self._items = items
        self._function = function
        self._size_of = size_of
        self._ahead = max(1, ahead)
        self._budget = budget
        self._next = 0
        self._taken = 0
        self._held = 0
        self._largest = 0
        self._sizes: Dict[int, int] = {}
        self._ready: Dict[int, Outcome[Item, Value]] = {}
        self._start()

    def _may_read(self) -> bool:
        waiting = self._next - self._taken
        # What is being read has no size yet: count it as the largest seen so far.
        reading = waiting - len(self._ready)
        expected = self._held + (reading + 1) * self._largest
        return waiting < self._ahead and (waiting == 0 or expected <= self._budget)

    def _work(self) -> None:
        while True:
            with self._condition:
                self._wait_for(lambda: self._stopped or self._next >= len(self._items) or self._may_read())
                if self._stopped or self._next >= len(self._items):
                    return
                index = self._next
                self._next += 1
            outcome = _call(self._function, self._items[index], self._items[index])
            size = self._size_of(outcome.value) if outcome.value is not None else 0
            with self._condition:
                self._ready[index] = outcome
                self._sizes[index] = size
                self._held += size
                self._largest = max(self._largest, size)
                self._condition.notify_all()
            del outcome  # a picture must not live on in an idle thread

    def __iter__(self) -> Iterator[Outcome[Item, Value]]:
        while self._taken < len(self._items):
            yield self._take()

    def _take(self) -> Outcome[Item, Value]:
        with self._condition:
            index = self._taken
            self._wait_for(lambda: index in self._ready)
            outcome = self._ready.pop(index)
            self._held -= self._sizes.pop(index)
            self._taken += 1
            self._condition.notify_all()
            return outcome

    def __enter__(self) -> ReadAhead[Item, Value]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class WriteBehind(_Stage, Generic[Key, Item, Value]):
    """Runs ``function`` on submitted items in threads and gives the outcomes back in the order of submission.

    An outcome carries the key that was submitted with the item, not the item: a finished picture is let go at once.

    Args:
        function: Writes one item.
        workers: Threads.
        behind: At most this many items are submitted and not finished.
        budget: Bytes that those may hold. One item is always taken, whatever its size.
    """

    def __init__(
        self,
        function: Callable[[Item], Value],
        *,
        workers: int = 2,
        behind: Optional[int] = None,
        budget: int = 512 << 20,
    ) -> None:
        super().__init__(workers, "write-behind")
        self._function = function
        self._behind = behind or 2 * workers
        self._budget = budget
        self._queue: Deque[Tuple[int, Key, Item, int]] = deque()
        self._open = 0
        self._held = 0
        self._submitted = 0
        self._given = 0
        self._finished: Dict[int, Outcome[Key, Value]] = {}
        self._start()

    def submit(self, key: Key, item: Item, size: int = 0) -> None:
        """Hand over one item of ``size`` bytes; blocks while the bounds are reached."""
        with self._condition:
            self._wait_for(lambda: self._open == 0 or (self._open < self._behind and self._held + size <= self._budget))
            self._queue.append((self._submitted, key, item, size))
            self._submitted += 1
            self._open += 1
            self._held += size
            self._condition.notify_all()

    def _work(self) -> None:
        while True:
            with self._condition:
                self._wait_for(lambda: self._stopped or bool(self._queue))
                if not self._queue:
                    return
                index, key, item, size = self._queue.popleft()
            outcome = _call(self._function, item, key)
            with self._condition:
                self._finished[index] = outcome
                self._open -= 1
                self._held -= size
                self._condition.notify_all()
            del item, outcome

    def finished(self) -> List[Outcome[Key, Value]]:
        """What has finished since the last call, up to the first that has not."""
        with self._condition:
            outcomes = []
            while self._given in self._finished:
                outcomes.append(self._finished.pop(self._given))
                self._given += 1
            return outcomes

    def drain(self) -> List[Outcome[Key, Value]]:
        """Wait for everything submitted, and give the rest of the outcomes."""
        with self._condition:
            self._wait_for(lambda: self._open == 0)
        return self.finished()

    def __enter__(self) -> WriteBehind[Key, Item, Value]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
