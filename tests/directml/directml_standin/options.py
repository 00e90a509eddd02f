"""What a stand-in simulates: its adapters and the faults it shall have."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from typing import Optional, Tuple

GIB = 2**30
OPTIONS_VARIABLE = "REALESRGAN_TEST_STANDIN"

IMPORT_ERRORS = {
    "libd3d12": (OSError, "libd3d12.so: cannot open shared object file: No such file or directory"),
    "symbol": (ImportError, "torch_directml_native.so: undefined symbol: _ZN2at4_ops5zeros4callE"),
    "runtime": (RuntimeError, "The DirectML runtime could not be initialised"),
}
OUT_OF_MEMORY_TEXTS = {
    "allocate": "Could not allocate tensor with {bytes} bytes. There is not enough GPU video memory available!",
    "unknown": "Unknown error -2147024882",
}
LOST_TEXTS = {
    "removed": "Unknown error -2005270523",
    "hung": "Unknown error -2005270522",
    "fail": "Unknown error -2147467259",
    "suspended": "The GPU device instance has been suspended. Use GetDeviceRemovedReason to determine the appropriate "
    "action.",
    "reason": "GetDeviceRemovedReason: the device was removed",
    "887A0005": "HRESULT 887A0005: the device was removed",
    "887A0006": "HRESULT 887A0006: the device hung",
}
RX_580 = "Radeon RX 580 Series\0"
INTEGRATED = "AMD Radeon(TM) Graphics\0"


@dataclass
class Adapter:
    """One simulated card.

    name: as device_name tells it, with the NUL that the real one may leave at the end.
    memory: bytes of its own, None for no limit.
    float64: whether it can do float64 at all.
    """

    name: str = RX_580
    memory: Optional[int] = 8 * GIB
    float64: bool = True


@dataclass
class Options:
    """Everything that can be asked of a stand-in. Goes through an environment variable as JSON.

    adapters: in the order of the backend's indices; () is "installed, but no usable adapter".
    import_error: a key of IMPORT_ERRORS: `import torch_directml` raises it.
    missing: names that the module lacks.
    gpu_memory: 'fractions' or 'empty'.
    out_of_memory: a key of OUT_OF_MEMORY_TEXTS, or 'both' in turns; 'unknown' is what the real one says for a tile.
    out_of_memory_at: the operation with this number runs out of memory, once; None for never.
    stuck_memory: after memory ran out every allocation of more than a few kB is refused until the process ends.
    lost_after: the device is lost after so many operations; None for never.
    lost: a key of LOST_TEXTS.
    once: a path: the first process to lose its device makes this file, and no later one loses it by lost_after.
    half: what FP16 does: 'exact', 'nan', 'black' or 'off' (results 1/16 too large).
    half_from: the number of FP16 convolutions that are still right.
    spill: memory over an adapter's own is given from `shared` bytes without an error, and work becomes slow.
    spill_sleep: real seconds that each operation takes while it is spilled.
    elsewhere: bytes of each adapter that other programs take,
    elsewhere_from: from the operation after this one on.
    watchdog_flops: so much work in one submission loses the device; None for no watchdog.
    ends: 'raise' ProcessEnded, or 'kill' the process as the real package does (for child processes).
    cut_at: sizes from here on are cut (2**32 on the real one; a test may take less).
    record: a file to which each process appends its events as JSON lines; None for no file.
    base_bytes: what is taken before the first tensor.
    keep_operations: how many operations are kept one by one (all are counted).
    """

    adapters: Tuple[Adapter, ...] = field(default_factory=lambda: (Adapter(),))
    import_error: Optional[str] = None
    missing: Tuple[str, ...] = ()
    gpu_memory: str = "fractions"
    out_of_memory: str = "unknown"
    out_of_memory_at: Optional[int] = None
    stuck_memory: bool = True
    lost_after: Optional[int] = None
    lost: str = "removed"
    once: Optional[str] = None
    half: str = "exact"
    half_from: int = 0
    spill: bool = False
    shared: int = 16 * GIB
    spill_sleep: float = 0.0
    elsewhere: int = 0
    elsewhere_from: int = 0
    watchdog_flops: Optional[float] = None
    ends: str = "raise"
    cut_at: int = 2**32
    record: Optional[str] = None
    base_bytes: int = 8_000_000
    keep_operations: int = 200_000

    def __post_init__(self) -> None:
        self.adapters = tuple(Adapter(**a) if isinstance(a, dict) else a for a in self.adapters)
        self.missing = tuple(self.missing)
        allowed = (
            ("import_error", (None, *IMPORT_ERRORS)),
            ("gpu_memory", ("fractions", "empty")),
            ("out_of_memory", ("both", *OUT_OF_MEMORY_TEXTS)),
            ("lost", tuple(LOST_TEXTS)),
            ("half", ("exact", "nan", "black", "off")),
            ("ends", ("raise", "kill")),
        )
        for name, values in allowed:
            if getattr(self, name) not in values:
                raise ValueError(f"Options.{name} is {getattr(self, name)!r}; allowed are {values}")

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Options:
        values = json.loads(text)
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"the stand-in has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        return cls(**values)

    @classmethod
    def from_environment(cls) -> Options:
        return cls.from_json(os.environ.get(OPTIONS_VARIABLE) or "{}")


def adapters(*memories: Optional[int], name: str = RX_580, float64: bool = True) -> Tuple[Adapter, ...]:
    """One adapter of `name` for each number of bytes."""
    return tuple(Adapter(name, memory, float64) for memory in memories)


def integrated_first(memory: Optional[int] = 8 * GIB) -> Tuple[Adapter, ...]:
    """An integrated adapter of 512 MiB at index 0, an RX 580 at index 1."""
    return (Adapter(INTEGRATED, GIB // 2, False), Adapter(RX_580, memory))
