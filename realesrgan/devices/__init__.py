"""Which devices there are, what they can do, and what their errors mean. The only room that names a backend.

torch and torch_directml are imported when first asked for, never on import, so that ``--help`` and the doctor run
where they are broken. What is known about torch-directml, and is not asked of it because it ends the process, stands
in ``docs/directml.md``.
"""

from __future__ import annotations

from .choosing import ENVIRONMENT, is_explicit, may_be_lost, parse, resolve
from .failures import classify
from .finding import Listing, Note, available
from .kinds import CAPABILITIES, ORDER, Capabilities, Device
from .work import (
    Arrival,
    drain,
    free,
    from_host,
    full_precision,
    is_host,
    memory_free,
    memory_used,
    peak_memory,
    reset_peak_memory,
    synchronize,
    to_host,
)

__all__ = [
    "CAPABILITIES",
    "ENVIRONMENT",
    "ORDER",
    "Arrival",
    "Capabilities",
    "Device",
    "Listing",
    "Note",
    "available",
    "classify",
    "drain",
    "free",
    "from_host",
    "full_precision",
    "is_explicit",
    "is_host",
    "may_be_lost",
    "memory_free",
    "memory_used",
    "parse",
    "peak_memory",
    "reset_peak_memory",
    "resolve",
    "synchronize",
    "to_host",
]
