"""The state of one simulated process: memory taken, work submitted, faults due, everything that was asked."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, NoReturn, Optional, Tuple

import torch

from .options import LOST_TEXTS, OUT_OF_MEMORY_TEXTS, Options

# What the real allocator took is this many times the bytes of the live tensors (see README.md, "Memory").
RESULT_FACTOR = 3.27
COPY_FACTOR = 2 * RESULT_FACTOR
UPLOAD_FACTOR = 1.0
# Simulated speed, FLOP a second: an RX 580 at its best; and how many times slower it is when it has spilled.
SPEED = 6.2e12
SPILL_SLOWDOWN = 20
SUBMITTED_AFTER = 13
"""Operators after which the real one hands what is queued to the card by itself."""
SMALL = 4096
"""Bytes that are given even where memory is stuck: numbers, not pictures."""

FORBIDDEN_DTYPES = {
    getattr(torch, name)
    for name in ("bfloat16", "complex32", "complex64", "complex128", "uint16", "uint32", "uint64")
    if hasattr(torch, name)
}
INFERENCE_TEXT = "Cannot set version_counter for inference tensor"
CHANNELS_LAST_TEXT = "'memory_format' argument is must be Contiguous for DML tensors"
FLOAT64_TEXT = "The GPU device does not support Double (Float64) operations!"


class ProcessEnded(BaseException):
    """Here the real package would have ended the process (SIGABRT, SIGSEGV, or a hang). Nothing may catch it."""


class Operation(NamedTuple):
    """One operation asked of a device."""

    name: str
    shapes: Tuple[Tuple[int, ...], ...]
    dtype: str
    index: int


class Trap(NamedTuple):
    """One time that a trap bit: its number in the list of traps, the operation, what happened."""

    number: int
    operation: str
    detail: str


class Block:
    """Memory of one tensor on an adapter; given back when nothing refers to it any longer."""

    __slots__ = ("__weakref__", "epoch", "index", "need", "simulation", "version")

    def __init__(self, simulation: Simulation, index: int, need: float, epoch: int) -> None:
        self.simulation, self.index, self.need, self.epoch = simulation, index, need, epoch
        self.version = 0

    def __del__(self) -> None:
        self.simulation.release(self)


class Simulation:
    """One simulated process with its adapters."""

    def __init__(self, options: Optional[Options] = None) -> None:
        self.options = options or Options()
        count = max(1, len(self.options.adapters))
        self.taken = [0.0] * count
        self.peak = [0.0] * count
        self.epochs = [0] * count
        self.stuck = [False] * count
        self.operations: List[Operation] = []
        self.counts: Counter = Counter()
        self.dtypes: Counter = Counter()
        self.traps: List[Trap] = []
        self.ended: List[str] = []
        self.fallbacks: Counter = Counter()
        self.lost: Optional[str] = None
        self.out_of_memory = 0
        self.spills = 0
        self.read_backs = 0
        self.fetched = 0
        self.queued_operators = 0
        self.submissions = 0
        self.operation_number = 0
        self.half_convolutions = 0
        self.pending_flops = 0.0
        self.largest_submission = 0.0
        self.simulated_seconds = 0.0
        self.tiled_resources = True
        self.removed = False
        self.saved_module: Optional[Any] = None
        self.saved_variable: Optional[str] = None
        self.imported = False
        self.listed = False
        self.opened_by: Optional[int] = None
        self._warned = False
        self._lock = threading.RLock()
        atexit.register(self._at_exit)

    # --- what every use of a device goes through ---

    def check_alive(self, what: str) -> None:
        """ProcessEnded without adapters, in a forked child and after an end; RuntimeError on a lost device."""
        if self.ended:
            raise ProcessEnded(f"{what}: the process had already ended ({self.ended[-1]})")
        if self.removed:
            raise RuntimeError("This stand-in for torch-directml has been removed: a test let its tensors outlive it.")
        if not self.options.adapters:
            self.end(what, "SIGSEGV: no usable adapter")
        if self.opened_by is None:
            self.opened_by = os.getpid()
            self._event("opened")
        elif self.opened_by != os.getpid():
            self.end(what, "a forked child hangs once the parent has used the device")
        if self.lost is not None:
            raise RuntimeError(self.lost)

    def begin(self, name: str, shapes: Tuple[Tuple[int, ...], ...], dtype: str, index: int) -> None:
        """Records an operation and lets the faults that are due happen."""
        self.check_alive(name)
        with self._lock:
            self.operation_number += 1
            number = self.operation_number
            self.counts[name] += 1
            self.dtypes[dtype] += 1
            if len(self.operations) < self.options.keep_operations:
                self.operations.append(Operation(name, shapes, dtype, index))
            if self.queued_operators == SUBMITTED_AFTER:
                self._submit_queued()
            self.queued_operators += 1
        if torch.is_inference_mode_enabled() and name in ("getitem", "setitem"):
            self.bite(9, name, "inference_mode")
            raise RuntimeError(INFERENCE_TEXT)
        if self.options.lost_after is not None and number > self.options.lost_after and self._first_loss():
            self.lose(f"after {self.options.lost_after} operations")
        if self.options.out_of_memory_at == number:
            self.run_out(index, 0)
        if self.is_spilled(index) and self.options.spill_sleep:
            time.sleep(self.options.spill_sleep)

    def end(self, operation: str, reason: str) -> NoReturn:
        """What the real package answers with SIGABRT or SIGSEGV."""
        text = f"{operation}: {reason}"
        self.ended.append(text)
        self._event("ended", reason=text)
        if self.options.ends == "kill":
            sys.stderr.write(f"stand-in for torch-directml: process ended: {text}\n")
            sys.stderr.flush()
            os.abort()
        raise ProcessEnded(text)

    def bite(self, number: int, operation: str, detail: str) -> None:
        self.traps.append(Trap(number, operation, detail))
        self._event("trap", number=number, operation=operation, detail=detail)

    def forgive(self) -> None:
        """For tests that end the 'process' on purpose: it lives again, and the fixture does not complain."""
        self.ended.clear()

    # --- memory ---

    def limit(self, index: int) -> Optional[int]:
        own = self.options.adapters[index].memory
        return own if own is None or not self.options.spill else own + self.options.shared

    def require(self, index: int, size: int, factor: float) -> None:
        """RuntimeError with the real text when `size` bytes more do not fit."""
        limit = self.limit(index)
        if self.stuck[index] and size > SMALL:
            self.run_out(index, size)
        if limit is not None and self._in_use(index) + size * factor > limit:
            self.run_out(index, size)

    def _in_use(self, index: int) -> float:
        """Bytes that this process and the others have taken."""
        others = self.options.elsewhere if self.operation_number > self.options.elsewhere_from else 0
        return self.options.base_bytes + self.taken[index] + others

    def allocate(self, index: int, size: int, factor: float) -> Block:
        with self._lock:
            self.require(index, size, factor)
            self.taken[index] += size * factor
            self.peak[index] = max(self.peak[index], self.taken[index] + self.options.base_bytes)
            self.spills += self.is_spilled(index)
            return Block(self, index, size * factor, self.epochs[index])

    def release(self, block: Block) -> None:
        with self._lock:
            if block.epoch == self.epochs[block.index]:
                self.taken[block.index] -= block.need

    def is_spilled(self, index: int) -> bool:
        own = self.options.adapters[index].memory
        return self.options.spill and own is not None and self._in_use(index) > own

    def run_out(self, index: int, size: int) -> NoReturn:
        self.out_of_memory += 1
        self._event("out of memory", bytes=size, taken=round(self.taken[index]))
        if self.options.stuck_memory:
            self.stuck[index] = True
            self.epochs[index] += 1  # what lives now is never given back
        kind = self.options.out_of_memory
        if kind == "both":
            kind = tuple(OUT_OF_MEMORY_TEXTS)[self.out_of_memory % 2]
        raise RuntimeError(OUT_OF_MEMORY_TEXTS[kind].format(bytes=size))

    def reset_peak(self) -> None:
        self.peak = [taken + self.options.base_bytes for taken in self.taken]

    # --- work ---

    def submit(self, index: int, flops: float) -> None:
        """Counts work; too much of it in one submission loses the device."""
        with self._lock:
            self.pending_flops += flops
            self.largest_submission = max(self.largest_submission, self.pending_flops)
            self.simulated_seconds += flops / SPEED * (SPILL_SLOWDOWN if self.is_spilled(index) else 1)
        limit = self.options.watchdog_flops
        if limit is not None and self.pending_flops > limit:
            self.lose(f"watchdog: {self.pending_flops:.3g} FLOP in one submission")

    def _submit_queued(self) -> None:
        self.submissions += 1
        self.queued_operators = 0
        self.pending_flops = 0.0

    def half_fault(self) -> Optional[str]:
        """What is wrong with this FP16 convolution, None for nothing."""
        self.half_convolutions += 1
        return self.options.half if self.half_convolutions > self.options.half_from else None

    def half_is_black(self) -> bool:
        """Whether FP16 results are 0 from now on."""
        return self.options.half == "black" and self.half_convolutions > self.options.half_from

    def read_back(self, size: int) -> None:
        """Brings `size` bytes to the host, and waits for all that was queued."""
        self.read_backs += 1
        self.fetched += size
        if self.queued_operators:
            self._submit_queued()

    def lose(self, reason: str) -> NoReturn:
        self.lost = LOST_TEXTS[self.options.lost]
        self._event("lost", reason=reason, text=self.lost)
        raise RuntimeError(self.lost)

    def fall_back(self, name: str) -> None:
        """An operator that the package lacks: on the CPU, with one warning a process."""
        self.fallbacks[name] += 1
        self.read_back(0)
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"The operator 'aten::{name}' is not currently supported on the DML backend and will fall back to run "
                "on the CPU. This may have performance implications.",
                UserWarning,
                stacklevel=5,
            )

    def _first_loss(self) -> bool:
        if self.options.once is None:
            return True
        try:
            os.close(os.open(self.options.once, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    # --- the record file ---

    def note_imported(self) -> None:
        self.imported = True
        self._event("imported")

    def note_listed(self) -> None:
        if not self.listed:
            self.listed = True
            self._event("listed")

    def _event(self, event: str, **details: Any) -> None:
        if self.options.record is None:
            return
        line: Dict[str, Any] = {"pid": os.getpid(), "event": event, **details}
        with Path(self.options.record).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """The end of the 'process': tensors that still live can no longer be used."""
        atexit.unregister(self._at_exit)
        self._at_exit()
        self.removed = True

    def _at_exit(self) -> None:
        if self.opened_by != os.getpid():
            return
        self._event("exit", operations=dict(self.counts), dtypes=dict(self.dtypes), peak=[round(p) for p in self.peak])
