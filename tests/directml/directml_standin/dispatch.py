"""How an operation on simulated tensors is run: recorded, unwrapped, computed on the CPU, wrapped again."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch

from .simulation import COPY_FACTOR, RESULT_FACTOR, UPLOAD_FACTOR, Simulation
from .tensor import DEVICE_TYPE, DMLTensor, adopt, check_dtype, check_format, wrap
from .views import make_view, read, written

# Operators that the package lacks; they run on the CPU and are right.
FALLBACKS = {
    "roll",
    "std",
    "nan_to_num",
    "lerp",
    "median",
    "nanmedian",
    "grid_sampler_2d",
    "grid_sampler_3d",
    "mish",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
}
# The same memory under another shape of metadata: nothing is copied.
_SAME_MEMORY = {"detach", "alias"}
_LOST_VIEWS = {"split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk"}
_COPYING = {"cat", "stack", "repeat", "index_select", "flip", "roll"}
_KEEPING = {"clone", "_to_copy"}
_REFUSED = {"set_", "resize_", "resize_as_", "unsqueeze_", "squeeze_", "transpose_", "t_", "as_strided_"}


class Info(NamedTuple):
    """What the schema of an operator says of it."""

    name: str
    is_view: bool
    written_positions: Tuple[int, ...]
    written_names: Tuple[str, ...]


_INFOS: Dict[Any, Info] = {}


def info_of(func: Any) -> Info:
    info = _INFOS.get(func)
    if info is None:
        positions, names = [], []
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                positions.append(position)
                names.append(argument.name)
        is_view = not names and any(r.alias_info is not None for r in func._schema.returns)
        info = Info(func.overloadpacket.__name__, is_view, tuple(positions), tuple(names))
        _INFOS[func] = info
    return info


class Call:
    """One operation while it runs. args and kwargs as asked; inner_args and inner_kwargs on the CPU."""

    def __init__(self, func: Any, info: Info, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> None:
        self.func, self.info, self.args, self.kwargs = func, info, args, kwargs
        self.tensors: List[torch.Tensor] = []
        self.on_device: List[DMLTensor] = []
        for value in (*args, *kwargs.values()):
            for part in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(part, torch.Tensor):
                    self.tensors.append(part)
                    if isinstance(part, DMLTensor):
                        self.on_device.append(part)
        self.simulation: Simulation = self.on_device[0]._dml_simulation
        self.index: int = self.on_device[0].device.index

    def begin(self) -> None:
        shapes = tuple(tuple(t.shape) for t in self.tensors)
        self.simulation.begin(self.info.name, shapes, str(self.on_device[0].dtype), self.index)
        check_format(self.simulation, self.info.name, self.kwargs.get("memory_format"))
        check_dtype(self.simulation, self.kwargs.get("dtype"), self.index)
        if self.kwargs.get("pin_memory"):
            self.simulation.bite(11, self.info.name, "pin_memory")
            raise RuntimeError(f"cannot pin '{DEVICE_TYPE}' only dense CPU tensors can be pinned")

    def check_devices(self) -> None:
        for tensor in self.tensors:
            if not isinstance(tensor, DMLTensor) and tensor.dim() > 0:
                raise RuntimeError(f"unbox expects Dml at::Tensor as inputs (aten::{self.info.name})")
            if isinstance(tensor, DMLTensor) and tensor.device.index != self.index:
                raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices")

    def unwrap(self) -> None:
        self.inner_args = [self._unwrap(a) for a in self.args]
        self.inner_kwargs = {k: self._unwrap(v) for k, v in self.kwargs.items()}
        device = self.inner_kwargs.get("device")
        if device is not None and torch.device(device).type == DEVICE_TYPE:
            self.inner_kwargs["device"] = torch.device("cpu")

    def _unwrap(self, value: Any) -> Any:
        if isinstance(value, DMLTensor):
            return read(value, self.info.name)
        if isinstance(value, (list, tuple)):
            return type(value)([self._unwrap(v) for v in value])
        return value

    def compute(self) -> Any:
        """On the CPU; FP16 that the CPU lacks is computed in FP32 and rounded to half, an operation at a time."""
        try:
            return self.func(*self.inner_args, **self.inner_kwargs)
        except RuntimeError as error:
            if "'Half'" not in str(error) or self.info.written_names:
                raise
        args = [_to_dtype(a, torch.float16, torch.float32) for a in self.inner_args]
        return _to_dtype(self.func(*args, **self.inner_kwargs), torch.float32, torch.float16)

    def finish(self, out: Any) -> Any:
        """The results as tensors of the device."""
        if self.info.written_names:
            return self._finish_in_place(out)
        if self.info.name in _LOST_VIEWS and isinstance(out, (list, tuple)):
            return [self._orphan(o) for o in out]
        if self.info.is_view and isinstance(out, (list, tuple)):  # unbind
            parent, func, rest, kwargs = self.on_device[0], self.func, self.inner_args[1:], self.inner_kwargs
            return [
                make_view(parent, o, lambda base, n=n: func(base, *rest, **kwargs)[n], live=True)
                for n, o in enumerate(out)
            ]
        if self.info.is_view and isinstance(out, torch.Tensor):
            return self._finish_view(out)
        if isinstance(out, torch.Tensor):
            return self._finish_tensor(out)
        if isinstance(out, (list, tuple)):
            return tuple(self._finish_tensor(o) if isinstance(o, torch.Tensor) else o for o in out)
        self.simulation.read_back(0)
        return out

    def _finish_tensor(self, out: torch.Tensor) -> DMLTensor:
        for tensor in self.on_device:
            if out is tensor._dml_inner:
                return tensor
        if self.info.name == "_unsafe_view":
            return wrap(self.simulation, out, self.index, block=self.on_device[0]._dml_block)
        factor = RESULT_FACTOR
        if self.info.name in _COPYING:
            factor = COPY_FACTOR
        elif self.info.name in _KEEPING:
            factor = UPLOAD_FACTOR
        return wrap(self.simulation, out, self.index, factor)

    def _finish_view(self, out: torch.Tensor) -> DMLTensor:
        parent = self.on_device[0]
        if self.info.name in _SAME_MEMORY:
            same = wrap(self.simulation, out, self.index, block=parent._dml_block)
            adopt(same, parent)
            return same
        func, rest, kwargs = self.func, self.inner_args[1:], self.inner_kwargs
        return make_view(parent, out, lambda base: func(base, *rest, **kwargs), live=True)

    def _orphan(self, out: torch.Tensor) -> DMLTensor:
        piece = wrap(self.simulation, out.clone(), self.index, COPY_FACTOR)
        piece._dml_orphan = True
        return piece

    def _finish_in_place(self, out: Any) -> Any:
        results = []
        for position, name in zip(self.info.written_positions, self.info.written_names):
            target = self.kwargs.get(name, self.args[position] if position < len(self.args) else None)
            if isinstance(target, DMLTensor):
                if target._dml_inner.shape != target.shape:
                    raise NotImplementedError(f"the stand-in does not resize tensors ({self.info.name})")
                written(target, self.info.name)
            results.append(target)
        if isinstance(out, (list, tuple)):
            return tuple(results)
        return None if out is None else results[0]


def _to_dtype(value: Any, old: torch.dtype, new: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(new) if value.dtype == old else value
    if isinstance(value, (list, tuple)):
        return type(value)([_to_dtype(v, old, new) for v in value])
    return value


def dispatch(func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
    from .operators import HANDLERS

    info = info_of(func)
    call = Call(func, info, args, kwargs)
    call.begin()
    if info.name == "to":  # in inference mode it comes as it was called
        values = (*args[1:], *kwargs.values())
        kinds = {"device": torch.device, "dtype": torch.dtype}
        call.kwargs = {name: next((v for v in values if isinstance(v, kind)), None) for name, kind in kinds.items()}
        return HANDLERS["_to_copy"](call)
    handler: Optional[Any] = HANDLERS.get(info.name)
    if handler is not None:
        return handler(call)
    if info.name in _REFUSED:
        raise NotImplementedError(f"the stand-in does not change a tensor's shape in place ({info.name})")
    call.check_devices()
    if info.name in FALLBACKS:
        call.simulation.fall_back(info.name)
    call.unwrap()
    out = call.compute()
    if call.simulation.half_is_black():
        out = out.zero_() if info.written_names and _is_half(out) else black(out)
    return call.finish(out)


def black(out: Any) -> Any:
    """FP16 results become 0."""
    return torch.zeros_like(out) if _is_half(out) else out


def _is_half(out: Any) -> bool:
    return isinstance(out, torch.Tensor) and out.dtype == torch.float16
