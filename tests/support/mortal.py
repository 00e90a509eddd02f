"""A stand-in for the upsampler that dies, fails and speaks on command; built in a child process. Needs no torch."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np

from realesrgan import errors

LOST = "Unknown error -2005270523"


@dataclass(frozen=True)
class Run:
    tile: Tuple[int, int]
    precision: str = "fp32"


class Mortal:
    """Doubles a picture by repeating pixels.

    Args:
        log: A file to which every call appends a line of JSON.
        orders: What befalls the first calls, one after the other, over all processes: ``ok``, ``kill``, ``exit``,
            ``lost``, ``raw lost``, ``memory``, ``value``, ``picture``, ``hang``, ``half an answer`` or ``ended``.
        at_start: The same for building.
    """

    scale = 2

    def __init__(
        self,
        log: str,
        orders: Tuple[str, ...] = (),
        at_start: Tuple[str, ...] = (),
        tile: int = 0,
        progress: Any = None,
        **others: Any,
    ) -> None:
        self.log = Path(log)
        self.orders = orders
        self.tile_size = tile
        self.tile_pad = 10
        self.last_run: Optional[Run] = None
        number = self._note("start", tile=tile, others=others, torch="torch" in sys.modules)
        if progress is not None:
            progress(1, 2)
        logging.getLogger("realesrgan.weights.loading").debug("a line for developers")
        errors.notice(logging.getLogger("realesrgan.weights.loading"), "weights.said", "said by the child", name="한글")
        self._obey(at_start[number] if number < len(at_start) else "ok")

    def _note(self, what: str, **values: Any) -> int:
        """Append a line; gives how many lines of that kind there were before."""
        before = sum(line["what"] == what for line in read(self.log))
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, "pid": os.getpid(), **values}) + "\n")
        return before

    def describe(self) -> Dict[str, object]:
        return {"device": "directml:0", "name": "Radeon", "tile": self.tile_size or 512, "pid": os.getpid()}

    def enhance(
        self, img: np.ndarray, outscale: Any = None, alpha_upsampler: Any = None, *, progress: Any = None
    ) -> Tuple[np.ndarray, str]:
        number = self._note("enhance", tile=self.tile_size, outscale=outscale, alpha=alpha_upsampler)
        if progress is not None:
            progress(1, 4)
        self._obey(self.orders[number] if number < len(self.orders) else "ok")
        if progress is not None:
            progress(4, 4)
        self.last_run = Run((self.tile_size, self.tile_size))
        return img.repeat(2, 0).repeat(2, 1), "RGB"

    def _obey(self, order: str) -> None:
        if order == "kill":
            os.kill(os.getpid(), 9)
        elif order == "exit":
            os._exit(3)
        elif order == "hang":
            time.sleep(3600)
        elif order == "lost":
            raise errors.DeviceLostError("the card is gone. Please start again", device="directml:0")
        elif order == "raw lost":
            raise RuntimeError(LOST)
        elif order == "memory":
            raise errors.DeviceOutOfMemoryError("too large", tried=(512, 256, 128, 64, 32))
        elif order == "value":
            raise ValueError("a mistake of ours")
        elif order == "picture":
            raise errors.InputError("not this one", code="image.shape", shape=(1, 2), path=Path("x"))
        elif order == "ended":
            raise SystemExit(9)
        else:
            assert order == "ok", order


def read(log: Path) -> list:
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def build(**arguments: Any) -> Mortal:
    """What Settings.factory names."""
    return Mortal(**arguments)
