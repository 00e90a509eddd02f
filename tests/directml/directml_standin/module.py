"""The functions of the torch_directml module."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Optional

import torch

from .simulation import Simulation
from .tensor import DEVICE_TYPE


class Interface:
    """The package's whole interface: its public methods are the module's functions."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._adapters = simulation.options.adapters

    def is_available(self) -> bool:
        self._simulation.note_listed()
        return len(self._adapters) > 0

    def device_count(self) -> int:
        self._simulation.note_listed()
        return len(self._adapters)

    def device_name(self, device_id: int) -> str:
        return self._adapters[device_id].name if self._has(device_id) else ""

    def default_device(self) -> int:
        return 0

    def device(self, device_id: Optional[int] = None) -> torch.device:
        if device_id is None:
            return torch.device(DEVICE_TYPE, 0)
        if not self._has(device_id):
            raise Exception(
                f"Invalid device_id argument supplied {device_id}. "
                f"device_id must be in range [0, {len(self._adapters)})."
            )
        return torch.device(DEVICE_TYPE, device_id)

    def has_float64_support(self, device_id: int = 0) -> bool:
        self._check("has_float64_support", device_id)
        return self._adapters[device_id].float64

    def gpu_memory(self, device_id: int = 0, mb_per_tile: int = 1) -> List[float]:
        simulation = self._simulation
        self._check("gpu_memory", device_id)
        if simulation.options.gpu_memory == "empty" or not simulation.tiled_resources:
            return []
        blocks = (simulation.taken[device_id] + simulation.options.base_bytes) / (mb_per_tile * 2**20)
        return [min(1.0, blocks - i) for i in range(math.ceil(blocks))]

    def disable_tiled_resources(self, is_disabled: bool) -> None:
        self._simulation.tiled_resources = not is_disabled

    def _has(self, device_id: int) -> bool:
        return 0 <= device_id < len(self._adapters)

    def _check(self, function: str, device_id: int) -> None:
        self._simulation.check_alive(function)
        if not self._has(device_id):
            self._simulation.end(function, "SIGSEGV: no such adapter")


def make_functions(simulation: Simulation) -> Dict[str, Any]:
    """The module's functions by name."""
    interface = Interface(simulation)
    return {name: getattr(interface, name) for name in vars(Interface) if not name.startswith("_")}
