"""What a training must save beside its weights to go on exactly: random number generators, and files written whole.

States contain tensors and plain values only, so they load with ``weights_only=True``: no code runs from a state file.
"""

from __future__ import annotations

import pickle
import random
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Union

import numpy as np
import torch

from realesrgan.errors import RealESRGANError, WeightsError, one_line
from realesrgan.files.atomic import write_atomically

__all__ = ["load_file", "plain", "restore_rng", "rng_state", "save_file"]


def rng_state() -> Dict[str, Any]:
    """The states of Python's, numpy's, torch's and (where there is one) CUDA's generators, as plain values."""
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    state: Dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "numpy": [str(kind), [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_rng(state: Dict[str, Any]) -> None:
    """Put the generators where :func:`rng_state` found them."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def plain(value: Any) -> Any:
    """A state dict with subclasses of dict (such as a scheduler's Counter) turned into dicts."""
    if isinstance(value, Counter):
        return {"__counter__": dict(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"__counter__"}:
            return Counter(value["__counter__"])
        return {key: _restored(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_restored(item) for item in value)
    return value


def save_file(value: Any, path: Union[str, Path]) -> None:
    """``torch.save``: a file by this name is always whole.

    Raises:
        RealESRGANError: It cannot be written.
    """
    try:
        write_atomically(path, lambda stream: torch.save(value, stream))
    except (OSError, RuntimeError) as error:
        raise RealESRGANError(f"cannot save {path}: {error}", code="train.save", path=str(path)) from error


def load_file(path: Union[str, Path]) -> Any:
    """What :func:`save_file` or another program saved, on the CPU. Runs no code from the file.

    Raises:
        WeightsError: There is no such file, or it is broken, or it contains more than tensors and plain values.
    """
    if not Path(path).is_file():
        raise WeightsError(f"there is no file {path}: download or train it, or correct its path in the options")
    try:
        return _restored(torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise WeightsError(f"cannot load {path}: {one_line(error)}") from error
