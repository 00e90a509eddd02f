"""The operators that do not do on the device what they do on the CPU."""

from __future__ import annotations

from typing import Any, Callable, Dict

import torch

from .dispatch import Call, black
from .simulation import RESULT_FACTOR, UPLOAD_FACTOR
from .tensor import DEVICE_TYPE, POISON, DMLTensor, behind, wrap
from .views import read, written


def _prepare(call: Call) -> None:
    call.check_devices()
    call.unwrap()


def copy_(call: Call) -> torch.Tensor:
    target, source = call.args[0], call.args[1]
    if not isinstance(target, DMLTensor):  # device to host
        call.simulation.read_back(behind(source))
        if _is_view(target):
            call.simulation.bite(1, "copy_", f"paste of {tuple(source.shape)} into a view of a CPU tensor is lost")
            return target
        return target.copy_(_converted(read(source, "copy_"), target.dtype))
    numbers = read(source, "copy_") if isinstance(source, DMLTensor) else source
    target._dml_inner.copy_(_converted(numbers, target.dtype))
    written(target, "copy_")
    return target


def _is_view(tensor: torch.Tensor) -> bool:
    return (
        tensor._is_view()
        or not tensor.is_contiguous()
        or tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size()
    )


def _converted(numbers: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """As the device converts: NaN becomes 255 in uint8."""
    if dtype == torch.uint8 and numbers.is_floating_point():
        return torch.where(torch.isnan(numbers), torch.full_like(numbers, 255), numbers).to(dtype)
    return numbers.to(dtype)


def _to_copy(call: Call) -> torch.Tensor:
    source = call.args[0]
    dtype = call.kwargs.get("dtype") or source.dtype
    device = call.kwargs.get("device")
    numbers = read(source, "_to_copy")
    result = _converted(numbers, dtype)
    if result is numbers:
        result = numbers.clone()
    if device is not None and torch.device(device).type != DEVICE_TYPE:
        call.simulation.read_back(behind(source))
        return result.to(device)
    index = call.index if device is None or device.index is None else device.index
    return wrap(call.simulation, result, index, UPLOAD_FACTOR)


def clone(call: Call) -> torch.Tensor:
    _prepare(call)
    return call.finish(call.compute())


def _local_scalar_dense(call: Call) -> Any:
    call.simulation.read_back(behind(call.args[0]))
    return read(call.args[0], "item").item()


def convolution(call: Call) -> torch.Tensor:
    if torch.is_autocast_enabled(DEVICE_TYPE):
        call.simulation.bite(11, "convolution", "autocast")
        raise NotImplementedError("Could not run 'aten::convolution' with autocast on the 'PrivateUse1' backend.")
    _prepare(call)
    inputs, weight = call.inner_args[:2]
    transposed = call.inner_args[6]
    spatial = _spatial(call)
    channels = weight.shape[1] * call.inner_args[8] if transposed else weight.shape[0]
    count = inputs.shape[0] * channels
    for extent in spatial:
        count *= extent
    call.simulation.require(call.index, count * inputs.element_size(), RESULT_FACTOR)
    work = weight.numel() // weight.shape[0] * count * 2.0
    call.simulation.submit(call.index, work)
    if inputs.dtype != torch.float16:
        return call.finish(call.compute())
    args = [a.float() if isinstance(a, torch.Tensor) else a for a in call.inner_args]
    out = call.func(*args).half()
    return call.finish(_half_fault(call, out))


def _spatial(call: Call) -> list:
    inputs, weight, _, stride, padding, dilation, transposed, out_padding, _ = call.inner_args
    sizes = []
    for i, extent in enumerate(inputs.shape[2:]):
        s, p, d = (values[i] if len(values) > 1 else values[0] for values in (stride, padding, dilation))
        reach = d * (weight.shape[2 + i] - 1)
        if transposed:
            sizes.append((extent - 1) * s - 2 * p + reach + 1 + (out_padding[i] if out_padding else 0))
        else:
            sizes.append((extent + 2 * p - reach - 1) // s + 1)
    return sizes


def _half_fault(call: Call, out: torch.Tensor) -> torch.Tensor:
    kind = call.simulation.half_fault()
    if kind == "nan":
        return torch.full_like(out, float("nan"))
    if kind == "off":
        return out * 1.0625
    return black(out) if kind == "black" else out


def matmul(call: Call) -> torch.Tensor:
    _prepare(call)
    first = call.inner_args[1] if call.info.name in ("addmm", "baddbmm") else call.inner_args[0]
    half = first.dtype == torch.float16
    if half:
        call.inner_args = [
            a.float() if isinstance(a, torch.Tensor) and a.dtype == torch.float16 else a for a in call.inner_args
        ]
    out = call.func(*call.inner_args, **call.inner_kwargs)
    call.simulation.submit(call.index, 2.0 * out.numel() * first.shape[-1])
    return call.finish(out.half() if half else out)


def _prelu_kernel(call: Call) -> torch.Tensor:
    inputs, weight = call.args[:2]
    if inputs.dim() == 4 and weight.numel() > 1:
        call.simulation.bite(7, "prelu", f"{weight.numel()} parameters on {tuple(inputs.shape)}")
        call.simulation.end("prelu", "SIGABRT: more than one parameter on 4-D input")
    _prepare(call)
    if not inputs.is_contiguous():
        call.simulation.bite(14, "prelu", f"a permuted tensor of shape {tuple(inputs.shape)}")
        numbers = call.inner_args[0]
        in_memory = torch.as_strided(numbers, (numbers.numel(),), (1,), numbers.storage_offset())
        call.inner_args[0] = in_memory.reshape(numbers.shape)
    return call.finish(call.compute())


def flip(call: Call) -> torch.Tensor:
    if any(d < 0 for d in call.args[1]):
        call.simulation.bite(8, "flip", f"dims {list(call.args[1])}")
        call.simulation.end("flip", "SIGSEGV: negative dimension")
    _prepare(call)
    return call.finish(call.compute())


def constant_pad_nd(call: Call) -> torch.Tensor:
    _prepare(call)
    if any(call.inner_args[1]):
        return call.finish(call.compute())
    call.simulation.bite(2, "pad", "constant padding of zero width")
    return call.finish(torch.full_like(call.inner_args[0], POISON))


def reflection_pad2d(call: Call) -> torch.Tensor:
    _prepare(call)
    left, right, top, bottom = call.inner_args[1]
    if (left, right) != (top, bottom):
        call.simulation.bite(3, "reflection_pad2d", f"shape for amounts {[left, right, top, bottom]} swapped")
    out = call.compute()
    height, width = call.inner_args[0].shape[-2:]
    swapped = (*out.shape[:-2], height + left + right, width + top + bottom)
    return call.finish(out.reshape(swapped) if out.numel() == torch.Size(swapped).numel() else out.mT.contiguous())


def upsample_bilinear2d(call: Call) -> torch.Tensor:
    _prepare(call)
    numbers, size, align_corners = call.inner_args[:3]
    if align_corners or tuple(size) == tuple(numbers.shape[2:]):
        return call.finish(call.compute())
    call.simulation.bite(4, "upsample_bilinear2d", "half-pixel offset lost")
    work = numbers.float()
    for dim, target in ((2, size[0]), (3, size[1])):
        extent = work.shape[dim]
        place = torch.arange(target, dtype=torch.float32) * (extent / target)
        low = place.floor().long().clamp(max=extent - 1)
        high = (low + 1).clamp(max=extent - 1)
        part = (place - low).view([-1 if d == dim else 1 for d in range(4)])
        work = work.index_select(dim, low) * (1 - part) + work.index_select(dim, high) * part
    return call.finish(work.to(numbers.dtype))


def var(call: Call) -> torch.Tensor:
    _prepare(call)
    dim = call.inner_args[1] if len(call.inner_args) > 1 else None
    if dim:
        return call.finish(call.compute())
    if call.inner_kwargs.get("correction", 1) != 0:
        call.simulation.bite(6, "var", "biased")
    keepdim = call.inner_kwargs.get("keepdim", False)
    return call.finish(torch.var(call.inner_args[0], dim, correction=0, keepdim=keepdim))


HANDLERS: Dict[str, Callable[[Call], Any]] = {
    "copy_": copy_,
    "_to_copy": _to_copy,
    "clone": clone,
    "_local_scalar_dense": _local_scalar_dense,
    "convolution": convolution,
    "mm": matmul,
    "bmm": matmul,
    "addmm": matmul,
    "baddbmm": matmul,
    "_prelu_kernel": _prelu_kernel,
    "flip": flip,
    "constant_pad_nd": constant_pad_nd,
    "reflection_pad2d": reflection_pad2d,
    "upsample_bilinear2d": upsample_bilinear2d,
    "var": var,
}
