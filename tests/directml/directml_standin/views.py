"""Views, live ones and copies that are written back, and indexing by them."""

from __future__ import annotations

from typing import Any, Callable

import torch

from .simulation import COPY_FACTOR, RESULT_FACTOR
from .tensor import DMLTensor, wrap


def read(tensor: DMLTensor, operation: str) -> torch.Tensor:
    """The numbers of `tensor`; notes a view that is older than what it is a view of."""
    parent = tensor._dml_parent
    if tensor._dml_live:
        read(parent, operation)
        return tensor._dml_inner
    if parent is not None and parent._dml_block.version != tensor._dml_seen:
        tensor._dml_seen = parent._dml_block.version  # said once a change
        if not _equal(tensor._dml_replay(parent._dml_inner), tensor._dml_inner):
            tensor._dml_simulation.bite(5, operation, f"stale view of shape {tuple(tensor.shape)} read")
    return tensor._dml_inner


def _equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    """The same numbers, where NaN equals NaN."""
    return torch.equal(torch.isnan(first), torch.isnan(second)) and torch.equal(
        torch.nan_to_num(first), torch.nan_to_num(second)
    )


def make_view(
    parent: DMLTensor, inner: torch.Tensor, replay: Callable[[torch.Tensor], torch.Tensor], live: bool
) -> DMLTensor:
    """A view for the CPU view `inner`, which `replay` makes of the parent's numbers: itself, or a copy of it."""
    view = wrap(parent._dml_simulation, inner if live else inner.clone(), parent.device.index, COPY_FACTOR)
    view._dml_parent = parent
    view._dml_live = live
    view._dml_replay = replay
    view._dml_seen = parent._dml_block.version
    return view


def written(tensor: DMLTensor, operation: str) -> None:
    """After a write to `tensor`: writes it back into what it is a view of, and so on up."""
    tensor._dml_block.version += 1
    if tensor._dml_orphan:
        tensor._dml_simulation.bite(5, operation, "in-place on a result of split or chunk is lost")
    while tensor._dml_parent is not None:
        parent = tensor._dml_parent
        if not tensor._dml_live:
            tensor._dml_replay(parent._dml_inner).copy_(tensor._dml_inner)
        parent._dml_block.version += 1
        tensor._dml_seen = parent._dml_block.version
        tensor = parent


def get_item(tensor: DMLTensor, key: Any) -> Any:
    simulation, index = tensor._dml_simulation, tensor.device.index
    simulation.begin("getitem", (tuple(tensor.shape),), str(tensor.dtype), index)
    key = _plain(key)
    inner = read(tensor, "getitem")
    result = inner[key]
    if _shares(result, inner):
        return make_view(tensor, result, lambda base: base[key], not _offset_in_a_row(key))
    return wrap(simulation, result, index, RESULT_FACTOR)


def set_item(tensor: DMLTensor, key: Any, value: Any) -> None:
    simulation, index = tensor._dml_simulation, tensor.device.index
    shapes = (tuple(tensor.shape),) + ((tuple(value.shape),) if isinstance(value, torch.Tensor) else ())
    simulation.begin("setitem", shapes, str(tensor.dtype), index)
    if isinstance(value, DMLTensor):
        value = read(value, "setitem")
    tensor._dml_inner[_plain(key)] = value
    written(tensor, "setitem")


def _offset_in_a_row(key: Any) -> bool:
    """Whether a key takes a range that does not begin at the start, in an axis behind the first one: `x[:, 1:3]`."""
    parts = key if isinstance(key, tuple) else (key,)
    return any(isinstance(part, slice) and (part.start or 0) != 0 for part in parts[1:])


def _plain(key: Any) -> Any:
    if isinstance(key, (tuple, list)):
        return type(key)(_plain(part) for part in key)
    return key._dml_inner if isinstance(key, DMLTensor) else key


def _shares(result: torch.Tensor, inner: torch.Tensor) -> bool:
    return result.untyped_storage().data_ptr() == inner.untyped_storage().data_ptr() and inner.numel() > 0
