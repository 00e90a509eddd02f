"""The functions of the torch_directml module."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Optional

import torch

from .simulation import BASE_BYTES, Simulation
from .tensor import DEVICE_TYPE


def make_functions(simulation: Simulation) -> Dict[str, Any]:
    """The package's whole interface, by name."""
    adapters = simulation.options.adapters

    def is_available() -> bool:
        return len(adapters) > 0

    def device_count() -> int:
        return len(adapters)

    def device_name(device_id: int) -> str:
        return adapters[device_id].name if 0 <= device_id < len(adapters) else ""

    def default_device() -> int:
        return 0

    def device(device_id: Optional[int] = None) -> torch.device:
        if device_id is None:
            return torch.device(DEVICE_TYPE, 0)
        if not 0 <= device_id < len(adapters):
            raise Exception(
                f"Invalid device_id argument supplied {device_id}. device_id must be in range [0, {len(adapters)})."
            )
        return torch.device(DEVICE_TYPE, device_id)

    def has_float64_support(device_id: int = 0) -> bool:
        simulation.check_alive("has_float64_support")
        if not 0 <= device_id < len(adapters):
            simulation.end("has_float64_support", "SIGSEGV: no such adapter")
        return adapters[device_id].float64

    def gpu_memory(device_id: int = 0, mb_per_tile: int = 1) -> List[float]:
        simulation.check_alive("gpu_memory")
        if not 0 <= device_id < len(adapters):
            simulation.end("gpu_memory", "SIGSEGV: no such adapter")
        if simulation.options.gpu_memory == "empty" or not simulation.tiled_resources:
            return []
        blocks = (simulation.taken[device_id] + BASE_BYTES) / (mb_per_tile * 2**20)
        return [min(1.0, blocks - i) for i in range(math.ceil(blocks))]

    def disable_tiled_resources(is_disabled: bool) -> None:
        simulation.tiled_resources = not is_disabled

    functions = (is_available, device_count, device_name, default_device, device)
    functions += (has_float64_support, gpu_memory, disable_tiled_resources)
    return {function.__name__: function for function in functions}
