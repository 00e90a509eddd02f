"""A stand-in for torch-directml 0.2.5 on the CPU: its interface, traps, memory, ways to fail. See README.md."""

from .install import activate, current, install, remove
from .options import (
    GIB,
    IMPORT_ERRORS,
    INTEGRATED,
    LOST_TEXTS,
    OPTIONS_VARIABLE,
    OUT_OF_MEMORY_TEXTS,
    RX_580,
    Adapter,
    Options,
    adapters,
    integrated_first,
)
from .simulation import Operation, ProcessEnded, Simulation, Trap

__all__ = [
    "GIB",
    "IMPORT_ERRORS",
    "INTEGRATED",
    "LOST_TEXTS",
    "OPTIONS_VARIABLE",
    "OUT_OF_MEMORY_TEXTS",
    "RX_580",
    "Adapter",
    "Operation",
    "Options",
    "ProcessEnded",
    "Simulation",
    "Trap",
    "activate",
    "adapters",
    "current",
    "install",
    "integrated_first",
    "remove",
]
