"""Stages in threads with bounded channels between them.

All waiting is in short steps, because a blocked lock cannot be interrupted by Ctrl-C on Windows. The first error of any
stage stops all of them and comes out where the group is joined.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Callable, Deque, Generic, Iterator, List, Optional, TypeVar

__all__ = ["Channel", "Group", "Stopped"]

_POLL = 0.2
Item = TypeVar("Item")


class Stopped(Exception):
    """The group was told to stop: a stage ends without a word."""


class Channel(Generic[Item]):
    """A queue between two stages that holds at most ``room`` items, and an end."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._items: Deque[Item] = deque()
        self._ended = False
        self._stopped = False
        self._condition = threading.Condition()

    def put(self, item: Item) -> None:
        """Add an item; waits for room.

        Raises:
            Stopped: The group stops.
        """
        with self._condition:
            while len(self._items) >= self._room and not self._stopped:
                self._condition.wait(_POLL)
            if self._stopped:
                raise Stopped
            self._items.append(item)
            self._condition.notify_all()

    def end(self) -> None:
        """Nothing more comes."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def stop(self) -> None:
        """Let all who wait give up."""
        with self._condition:
            self._stopped = True
            self._items.clear()
            self._condition.notify_all()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._condition:
                while not (self._items or self._ended or self._stopped):
                    self._condition.wait(_POLL)
                if self._stopped:
                    raise Stopped
                if not self._items:
                    return
                item = self._items.popleft()
                self._condition.notify_all()
            yield item


class Group:
    """Threads that end together."""

    def __init__(self) -> None:
        self._channels: List[Channel[Any]] = []
        self._threads: List[threading.Thread] = []
        self._error: Optional[BaseException] = None
        self._lock = threading.Lock()

    def channel(self, room: int) -> Channel[Any]:
        """A channel that stops with the group."""
        channel: Channel[Any] = Channel(room)
        self._channels.append(channel)
        return channel

    def start(self, name: str, stage: Callable[[], None]) -> None:
        """Run a stage in a thread."""
        thread = threading.Thread(target=self._run, args=(stage,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def map(
        self, name: str, function: Callable[[Any], Any], source: Channel[Any], sink: Channel[Any]
    ) -> None:  # fmt: skip
        """A stage that turns each item of ``source`` into one of ``sink``, in order."""

        def stage() -> None:
            for item in source:
                sink.put(function(item))
            sink.end()

        self.start(name, stage)

    def _run(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - a thread has nobody to raise to; join() does
            with self._lock:
                self._error = self._error or error
            self.stop()

    def stop(self) -> None:
        """Tell all stages to end."""
        for channel in self._channels:
            channel.stop()

    def join(self) -> None:
        """Wait for all stages.

        Raises:
            The first error of a stage.
        """
        self._wait()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def end(self) -> None:
        """Tell all stages to end, and wait until they have."""
        self.stop()
        self._wait()

    def _wait(self) -> None:
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_POLL)
