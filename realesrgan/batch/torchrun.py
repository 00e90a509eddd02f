"""Under torchrun: each process does its share, and one that ends with an error waits until the others have done theirs.

torchrun stops all processes as soon as one of them ends with a status other than 0. One damaged picture must not cost
the others their shares, and its status must not be lost either.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any, Callable, Mapping, Optional, Tuple

__all__ = ["end_together", "shard"]

logger = logging.getLogger(__name__)

_KEY = "realesrgan/ended"


def shard(environment: Mapping[str, str]) -> Tuple[int, int]:
    """The share of a process that torchrun started, counted from 1, and how many there are; ``(1, 1)`` for others."""
    try:
        rank, count = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    except (KeyError, ValueError):
        return 1, 1
    return (rank + 1, count) if 0 <= rank < count else (1, 1)


def end_together(
    status: int, environment: Mapping[str, str], *, store: Optional[Callable[[], Any]] = None, poll: float = 0.5
) -> int:
    """Say that this process's share is done; if it ends with an error, wait for the other processes.

    Without torchrun, or where its store does not answer (any more), nothing is waited for.

    Args:
        status: What the process will end with; 130 (Ctrl-C, which torchrun hears too) does not wait.
        environment: Of the process.
        store: Gives a store with ``add(key, amount)``, replaced in tests.
        poll: Seconds between two looks.

    Returns:
        ``status``.
    """
    count = environment.get("WORLD_SIZE", "")
    # Other launchers set RANK as well, but keep no store, and do not end the other processes.
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or not count.isdigit() or int(count) < 2:
        return status
    if status == 130:
        return status
    try:
        shared = (store or _agent_store)()
        ended = int(shared.add(_KEY, 1))
        if status and ended < int(count):
            logger.info("this share is done: waiting for the other processes")
        while status and ended < int(count):
            time.sleep(poll)
            ended = int(shared.add(_KEY, 0))
    except (RuntimeError, ValueError, OSError, ImportError) as error:  # the store went with the last of the others
        logger.info("torchrun's store does not answer: %s", error)
    return status


def _agent_store() -> Any:
    from torch import distributed

    if sys.platform == "win32":
        # PyTorch for Windows has no libuv. torchrun itself, which starts before us, needs the variable too.
        os.environ.setdefault("USE_LIBUV", "0")
    shared, _, _ = next(distributed.rendezvous("env://"))  # type: ignore[attr-defined,no-untyped-call,unused-ignore]
    return shared
