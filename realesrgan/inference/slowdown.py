"""Notices when a card becomes slow without an error.

Under Windows a card whose memory is full borrows from the main memory and says nothing; the same work then takes many
times as long. So the time of a tile is compared with the quickest equal tile before it.
"""

from __future__ import annotations

import logging
from typing import Dict, Tuple

from ..errors import notice

__all__ = ["Pace"]

logger = logging.getLogger(__name__)

_FACTOR = 3
_IN_A_ROW = 2  # one slow tile may be another program's doing
_SHORTEST = 0.05  # seconds; below, the clock and the scheduler count more than the card


class Pace:
    """The pace of one device and network, over all pictures of a run."""

    def __init__(self) -> None:
        self._quickest: Dict[Tuple[int, int, bool], float] = {}
        self._slow = 0
        self._said = False

    def dropped(self, shape: Tuple[int, int, bool], seconds: float) -> bool:
        """Take note of a finished tile.

        Args:
            shape: Rows and columns that were read, and whether it was in FP16: what makes tiles equal.
            seconds: Its time.

        Returns:
            Whether this tile and the one before it took over three times as long as an equal one once did.
        """
        quickest = self._quickest.setdefault(shape, seconds)
        self._quickest[shape] = min(quickest, seconds)
        slow = seconds > max(_FACTOR * quickest, _SHORTEST)
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
                f"{device} became {_FACTOR} times slower at a tile of {tile} pixels, probably because its memory is "
                f"full and it borrows from the main memory: going on with {smaller}. Close other programs that use it.",
                device=device,
                tile=tile,
                smaller=smaller,
            )
