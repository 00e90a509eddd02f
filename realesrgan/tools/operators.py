"""Counts what a tile asks of a device: operators, and what is brought to the host.

On DirectML each operator costs about 0.04 ms of the host, and each wait for the card more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Count", "Counter"]


@dataclass(frozen=True)
class Count:
    """What was asked for.

    Attributes:
        operators: Operators on the device, views of tensors included.
        waits: Copies to the host; each waits for the device.
        fetched: Bytes that they brought. torch-directml copies the whole tensor behind a slice or another view: so it
            is counted.
    """

    operators: int
    waits: int
    fetched: int


class Counter(TorchDispatchMode):
    """Inside it, operators on devices other than the host are counted.

    Args:
        device_type: Count what happens on this type of device only, for example ``"privateuseone"``; None counts on
            all but the CPU. ``"meta"`` computes nothing: what it brings to the host is zeros.
    """

    def __init__(self, device_type: Optional[str] = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self._type = device_type
        self._operators = 0
        self._fetches: List[int] = []

    @property
    def count(self) -> Count:
        """What was counted until now."""
        return Count(self._operators, len(self._fetches), sum(self._fetches))

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [value for value in _flat((args, kwargs)) if isinstance(value, torch.Tensor)]
        there = [tensor for tensor in tensors if self._counts(tensor)]
        target = kwargs.get("device")
        if there and target is not None and torch.device(target).type == "cpu" != there[0].device.type:
            source = there[0]
            self._operators += 1
            self._fetches.append(_behind(source))
            if source.device.type == "meta":
                return torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)
            return function(*args, **kwargs)
        result = function(*args, **kwargs)
        made = [value for value in _flat((result,)) if isinstance(value, torch.Tensor) and self._counts(value)]
        self._operators += bool(there or made)
        return result

    def _counts(self, tensor: torch.Tensor) -> bool:
        kind = tensor.device.type
        return kind != "cpu" if self._type is None else kind == self._type


def _behind(tensor: torch.Tensor) -> int:
    """Bytes of the tensor that a view is a part of."""
    base = tensor._base
    whole = tensor if base is None or base.numel() < tensor.numel() else base
    return int(whole.numel() * whole.element_size())


def _flat(value: Any) -> List[Any]:
    if isinstance(value, (list, tuple)):
        return [inner for one in value for inner in _flat(one)]
    if isinstance(value, dict):
        return _flat(list(value.values()))
    return [value]
