"""Putting the simulated device into torch, the module into sys.modules, and taking both away again."""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch

from .module import make_functions
from .options import IMPORT_ERRORS, OPTIONS_VARIABLE, Options
from .simulation import RESULT_FACTOR, UPLOAD_FACTOR, Simulation
from .tensor import DEVICE_TYPE, POISON, DMLTensor, check_dtype, check_format, wrap

SITE = Path(__file__).resolve().parents[1] / "site"
MODULE = "torch_directml"

_current: Optional[Simulation] = None
_library: Optional[torch.library.Library] = None


def current() -> Simulation:
    """The simulation that tensors on `privateuseone` belong to."""
    if _current is None:
        raise RuntimeError("No stand-in for torch-directml is installed.")
    return _current


def install(options: Optional[Options] = None) -> Simulation:
    """Makes `import torch_directml` find the stand-in, here and in processes that this one spawns."""
    global _current
    if _current is not None:
        raise RuntimeError("A stand-in for torch-directml is installed already.")
    _current = Simulation(options)
    _current.saved_module = sys.modules.pop(MODULE, None)
    _current.saved_variable = os.environ.get(OPTIONS_VARIABLE)
    os.environ[OPTIONS_VARIABLE] = _current.options.to_json()
    sys.path.insert(0, str(SITE))
    importlib.invalidate_caches()
    return _current


def activate(namespace: Dict[str, Any]) -> None:
    """Fills the module that is being imported; raises what the options say an import raises."""
    global _current
    if _current is None:  # a process of its own, with the options in the environment
        _current = Simulation(Options.from_environment())
    simulation = _current
    simulation.note_imported()
    if simulation.options.import_error is not None:
        kind, text = IMPORT_ERRORS[simulation.options.import_error]
        raise kind(text)
    _register(simulation)
    functions = make_functions(simulation)
    namespace.update({k: v for k, v in functions.items() if k not in simulation.options.missing})


def remove() -> None:
    """Takes everything away. Tensors that still live belong to nothing any more."""
    global _current, _library
    simulation = current()
    simulation.close()
    _current = None
    sys.modules.pop(MODULE, None)
    if simulation.saved_module is not None:
        sys.modules[MODULE] = simulation.saved_module
    os.environ.pop(OPTIONS_VARIABLE, None)
    if simulation.saved_variable is not None:
        os.environ[OPTIONS_VARIABLE] = simulation.saved_variable
    if str(SITE) in sys.path:
        sys.path.remove(str(SITE))
    importlib.invalidate_caches()
    if _library is not None:
        _library._destroy()
        _library = None
        sys.modules.pop(f"torch.{DEVICE_TYPE}", None)
        delattr(torch, DEVICE_TYPE)
        registry = torch.serialization._package_registry
        registry[:] = [entry for entry in registry if entry[2] is not _restore]


def _register(simulation: Simulation) -> None:
    global _library
    if _library is not None:
        return
    module = types.ModuleType(f"torch.{DEVICE_TYPE}")
    module._is_in_bad_fork = lambda: False  # torch.manual_seed warns without these
    module.manual_seed_all = lambda seed: None
    module.get_amp_supported_dtype = lambda: [torch.float16]  # so that autocast may be entered
    torch._register_device_module(DEVICE_TYPE, module)
    torch.serialization.register_package(5, lambda storage: None, _restore)
    _library = torch.library.Library("aten", "IMPL")
    _library.impl("empty.memory_format", _empty, "PrivateUse1")
    _library.impl("empty_strided", _empty_strided, "PrivateUse1")
    _library.impl("full", _full, "PrivateUse1")
    _library.impl("_copy_from", _copy_from, "PrivateUse1")
    for name in _FACTORIES:
        _library.impl(name, _made_on_the_cpu(name), "PrivateUse1")


def _restore(storage: Any, location: str) -> None:
    if location.startswith(DEVICE_TYPE):
        current().bite(10, "load", f"map_location={location}")
        raise TypeError(f"'{DEVICE_TYPE}' object cannot be interpreted as a place for storages (map_location)")


def _factory(name: str, size: List[int], dtype: Optional[torch.dtype], device: Any, pin_memory: Any) -> int:
    simulation = current()
    index = device.index if device is not None and device.index is not None else 0
    simulation.begin(name, (tuple(size),), str(dtype or torch.get_default_dtype()), index)
    if index >= len(simulation.options.adapters):
        raise RuntimeError(f"no adapter {index}")
    check_dtype(simulation, dtype, index)
    if pin_memory:
        simulation.bite(11, name, "pin_memory")
        raise RuntimeError(f"cannot pin '{DEVICE_TYPE}' only dense CPU tensors can be pinned")
    return index


def _unwritten(size: List[int], dtype: Optional[torch.dtype]) -> torch.Tensor:
    tensor = torch.empty(size, dtype=dtype)
    return tensor.fill_(POISON) if tensor.numel() < 2**20 else tensor


def _empty(
    size: List[int],
    dtype: Optional[torch.dtype] = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> DMLTensor:
    index = _factory("empty", size, dtype, device, pin_memory)
    check_format(current(), "empty", memory_format)
    return wrap(current(), _unwritten(size, dtype), index, RESULT_FACTOR)


def _empty_strided(
    size: List[int],
    stride: List[int],
    dtype: Optional[torch.dtype] = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> DMLTensor:
    """What `.to(device)` begins with. A host tensor's copy keeps its strides."""
    index = _factory("empty_strided", size, dtype, device, pin_memory)
    memory = torch.empty_strided(size, stride, dtype=dtype)
    return wrap(current(), memory.fill_(POISON) if memory.numel() < 2**20 else memory, index, UPLOAD_FACTOR)


def _full(
    size: List[int],
    fill_value: Any,
    dtype: Optional[torch.dtype] = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> DMLTensor:
    index = _factory("full", size, dtype, device, pin_memory)
    if dtype is None and isinstance(fill_value, float):
        current().bite(6, "full", "float64")
        dtype = torch.float64
        check_dtype(current(), dtype, index)
    return wrap(current(), torch.full(size, fill_value, dtype=dtype), index, RESULT_FACTOR)


# Otherwise they are made empty and resized, which a wrapper cannot do.
_FACTORIES = ("arange", "arange.start", "arange.start_step", "eye", "eye.m", "randperm", "tril_indices", "triu_indices")


def _made_on_the_cpu(name: str) -> Any:
    packet, _, overload = name.partition(".")
    function = getattr(getattr(torch.ops.aten, packet), overload or "default")

    def factory(
        *args: Any, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None
    ) -> DMLTensor:
        index = _factory(packet, [], dtype, device, pin_memory)
        return wrap(current(), function(*args, dtype=dtype, device=torch.device("cpu")), index, RESULT_FACTOR)

    return factory


def _copy_from(source: torch.Tensor, target: DMLTensor, non_blocking: bool = False) -> torch.Tensor:
    """How torch.tensor(..., device=) fills its tensor, below the dispatch to Python."""
    target._dml_inner.copy_(source)
    target._dml_block.version += 1
    return target
