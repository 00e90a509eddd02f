"""Tensors of the simulated device: a wrapper over a CPU tensor that counts its bytes and copies its views."""

from __future__ import annotations

from typing import Any, Callable, Dict, NoReturn, Optional, Tuple

import torch

from .simulation import CHANNELS_LAST_TEXT, FLOAT64_TEXT, FORBIDDEN_DTYPES, RESULT_FACTOR, Block, Simulation

DEVICE_TYPE = "privateuseone"
# What unwritten memory holds: a finite number, so that only a comparison finds it.
POISON = 123


class DMLTensor(torch.Tensor):
    """A tensor on `privateuseone`. The numbers are in `_dml_inner`, on the CPU.

    A live view shares the numbers of `_dml_parent`. A stale one is a copy; writing to it writes through `_dml_replay`
    into `_dml_parent`, which never refreshes the view.
    """

    _dml_inner: torch.Tensor
    _dml_block: Block
    _dml_simulation: Simulation
    _dml_parent: Optional[DMLTensor]
    _dml_replay: Optional[Callable[[torch.Tensor], torch.Tensor]]
    _dml_seen: int
    _dml_live: bool
    _dml_orphan: bool

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Tuple[Any, ...] = (), kwargs: Optional[Dict[str, Any]] = None
    ) -> Any:
        from .dispatch import dispatch

        return dispatch(func, args, kwargs or {})

    # The C++ indexing wants a device guard, which no Python backend has.
    def __getitem__(self, key: Any) -> Any:
        from .views import get_item

        return get_item(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        from .views import set_item

        set_item(self, key, value)

    # So does autograd: nothing here trains on the device. The flag is kept and means nothing.
    @property
    def requires_grad(self) -> bool:
        return getattr(self, "_dml_requires_grad", False)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._dml_requires_grad = value

    def requires_grad_(self, requires_grad: bool = True) -> torch.Tensor:
        self.requires_grad = requires_grad
        return self

    def copy_(self, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        from .dispatch import dispatch

        return dispatch(torch.ops.aten.copy_.default, (self, source, non_blocking), {})

    def contiguous(self, memory_format: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
        # Whatever the format asked: it is accepted, and the result is contiguous.
        self._dml_simulation.check_alive("contiguous")
        return self if self.is_contiguous() else self.clone(memory_format=torch.contiguous_format)

    @property
    def data(self) -> torch.Tensor:
        return self.detach()

    @data.setter
    def data(self, other: torch.Tensor) -> None:
        torch.Tensor.data.__set__(self, other)  # refuses a tensor of another kind
        adopt(self, other)

    def __deepcopy__(self, memo: Dict[int, Any]) -> torch.Tensor:
        if id(self) in memo:
            return memo[id(self)]
        copied = self.clone()
        copied.requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copied._is_param = True
        memo[id(self)] = copied
        return copied

    def __repr__(self, **kwargs: Any) -> str:
        simulation = self._dml_simulation
        simulation.check_alive("repr")
        if not simulation.options.adapters[self.device.index].float64:
            simulation.bite(12, "repr", "printing needs float64")
            raise RuntimeError(FLOAT64_TEXT)
        simulation.read_back(behind(self))
        return f"{repr(self._dml_inner)[:-1]}, device='{self.device}')"

    def __format__(self, spec: str) -> str:
        return self.item().__format__(spec) if self.dim() == 0 else repr(self)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        # It is saved; what loads it is a function that weights_only does not know.
        self._dml_simulation.read_back(behind(self))
        return _saved, (self._dml_inner.clone(),)

    def numpy(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(self, "numpy", TypeError(_TO_NUMPY.format(self.device)))

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(self, "__array__", TypeError(_TO_NUMPY.format(self.device)))

    def data_ptr(self) -> NoReturn:
        _refuse(self, "data_ptr", RuntimeError("Cannot access data pointer of a tensor that has no storage"))

    def __dlpack__(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(self, "__dlpack__", ValueError(f"Unknown device type {self.device} for Dlpack"))

    def __dlpack_device__(self) -> NoReturn:
        _refuse(self, "__dlpack_device__", ValueError(f"Unknown device type {self.device} for Dlpack"))

    def pin_memory(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(self, "pin_memory", RuntimeError(f"cannot pin '{DEVICE_TYPE}' only dense CPU tensors can be pinned"))


def _saved(numbers: torch.Tensor) -> torch.Tensor:
    return numbers


def behind(tensor: DMLTensor) -> int:
    """Bytes of the tensor that a view is a part of: so much comes to the host."""
    while tensor._dml_parent is not None:
        tensor = tensor._dml_parent
    return tensor._dml_inner.numel() * tensor._dml_inner.element_size()


_TO_NUMPY = "can't convert {} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."


def _refuse(tensor: DMLTensor, name: str, error: Exception) -> NoReturn:
    tensor._dml_simulation.check_alive(name)
    tensor._dml_simulation.bite(11, name, "refused")
    raise error


def wrap(
    simulation: Simulation,
    inner: torch.Tensor,
    index: int,
    factor: float = RESULT_FACTOR,
    block: Optional[Block] = None,
) -> DMLTensor:
    """`inner` as a tensor of adapter `index`; a new block of memory for it unless one is given."""
    size = inner.numel() * inner.element_size()
    if block is None:
        check_dtype(simulation, inner.dtype, index)
        if size >= simulation.options.cut_at:
            inner, size = _cut(simulation, inner, size)
        block = simulation.allocate(index, size, factor)
    tensor = torch.Tensor._make_wrapper_subclass(
        DMLTensor, inner.size(), strides=inner.stride(), dtype=inner.dtype, device=torch.device(DEVICE_TYPE, index)
    )
    tensor._dml_inner = inner
    tensor._dml_block = block
    tensor._dml_simulation = simulation
    tensor._dml_parent = None
    tensor._dml_replay = None
    tensor._dml_seen = 0
    tensor._dml_live = False
    tensor._dml_orphan = False
    return tensor


def adopt(tensor: DMLTensor, other: DMLTensor) -> None:
    """Lets `tensor` be the same memory as `other`."""
    for name in ("_dml_inner", "_dml_block", "_dml_parent", "_dml_replay", "_dml_seen", "_dml_live", "_dml_orphan"):
        setattr(tensor, name, getattr(other, name))


def check_dtype(simulation: Simulation, dtype: Optional[torch.dtype], index: int) -> None:
    if dtype in FORBIDDEN_DTYPES:
        simulation.bite(8, str(dtype), "dtype")
        simulation.end(str(dtype), "SIGABRT: dtype")
    if dtype is torch.float64 and not simulation.options.adapters[index].float64:
        raise RuntimeError(FLOAT64_TEXT)


def check_format(simulation: Simulation, name: str, memory_format: Optional[torch.memory_format]) -> None:
    if memory_format in (torch.channels_last, torch.channels_last_3d):
        simulation.bite(11, name, "channels_last")
        raise RuntimeError(CHANNELS_LAST_TEXT)


def _cut(simulation: Simulation, inner: torch.Tensor, size: int) -> Tuple[torch.Tensor, int]:
    """Only the size modulo `cut_at` exists; what lies behind is unwritten memory."""
    simulation.bite(6, "allocate", f"{size} bytes cut to {size % simulation.options.cut_at}")
    size %= simulation.options.cut_at
    inner = inner.contiguous()
    inner.view(-1)[size // inner.element_size() :] = POISON
    return inner, size
