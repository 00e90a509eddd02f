"""What a pickle of torch describes, read without building anything, so that it can be judged before torch sees it.

:func:`read` follows the instructions with values of its own: containers, plain values, and :class:`Storage` and
:class:`Tensor` where torch would make one. It knows only the instructions and the few names that a state dict needs,
takes time and memory in proportion to the pickle, and needs no torch.
"""

from __future__ import annotations

import io
import pickletools
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

from realesrgan.errors import Phrase, as_field

if TYPE_CHECKING:
    import numpy as np

__all__ = ["DTYPES", "Pickle", "PickleRefused", "Storage", "Tensor", "array", "ends_early", "read"]

MAX_STEPS = 500_000
"""Instructions of one pickle: a thousand times those of RealESRGAN_x4plus take a second."""
_MAX_LINE = 4096
_MAX_DEPTH = 6
_MAX_SIDES = 16
_LONGEST_KEY = 100

#: Class of a storage -> bytes of a number, its kind, and its type in numpy, where a network here may have such numbers.
DTYPES: Mapping[str, Tuple[int, str, str]] = MappingProxyType(
    {
        "DoubleStorage": (8, "floating", "<f8"),
        "FloatStorage": (4, "floating", "<f4"),
        "HalfStorage": (2, "floating", "<f2"),
        "BFloat16Storage": (2, "floating", "<u2"),
        "LongStorage": (8, "whole", "<i8"),
        "IntStorage": (4, "whole", "<i4"),
        "ShortStorage": (2, "whole", "<i2"),
        "CharStorage": (1, "whole", "i1"),
        "ByteStorage": (1, "whole", "u1"),
        "BoolStorage": (1, "bool", "?"),
        "ComplexFloatStorage": (8, "complex", ""),
        "ComplexDoubleStorage": (16, "complex", ""),
        **{f"{name}Storage": (1, "quantised", "") for name in ("QUInt8", "QInt8", "QUInt4x2", "QUInt2x4")},
        "QInt32Storage": (4, "quantised", ""),
    }
)
#: What rebuilds a tensor that no network here has, and what such a tensor is called.
_STRANGE: Mapping[str, str] = MappingProxyType(
    {
        "_rebuild_sparse_tensor": "sparse",
        "_rebuild_qtensor": "quantised",
        "_rebuild_meta_tensor_no_storage": "meta",
        "_rebuild_nested_tensor": "nested",
        "_rebuild_tensor_v3": "unusual",
        "_rebuild_wrapper_subclass": "subclassed",
        "_rebuild_device_tensor_from_numpy": "device-bound",
        "_rebuild_device_tensor_from_cpu_tensor": "device-bound",
    }
)
_UTILS = "torch._utils."
_KNOWN = frozenset(
    ["collections.OrderedDict", "collections.Counter", "torch.Size", "torch.device"]
    + [f"{_UTILS}{name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter", *_STRANGE)]
    + [f"torch.{name}" for name in DTYPES]
    + [f"torch.{kind}{bits}" for kind in ("float", "int", "uint", "complex") for bits in (8, 16, 32, 64, 128)]
    + [f"torch.{name}" for name in ("bfloat16", "bool", "qint8", "quint8", "qint32", "strided", "sparse_coo")]
    + ["torch.per_tensor_affine", "torch.per_channel_affine", "torch.serialization._get_layout"]
    + ["torch.storage.UntypedStorage"]
)


class PickleRefused(Exception):
    """Torch is not to see this file. ``unsafe``: it asks for more than numbers; otherwise it is damaged."""

    def __init__(self, reason: Any, *, unsafe: bool = True) -> None:
        super().__init__(reason)
        self.reason = as_field(reason)
        self.unsafe = unsafe


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file: class of torch, name of its record, count of numbers."""

    kind: str
    key: str
    count: int

    @property
    def bytes(self) -> int:
        return self.count * DTYPES[self.kind][0]


@dataclass(frozen=True)
class Tensor:
    """A tensor that torch would make. ``strange`` says why no network here has such a one, and is empty otherwise."""

    storage: Any = None
    offset: int = 0
    shape: Tuple[int, ...] = ()
    strides: Tuple[int, ...] = ()
    strange: str = ""

    @property
    def count(self) -> int:
        count = 1
        for side in self.shape:
            count *= side
        return count

    def fault(self) -> str:
        """Why torch is not to make it, in a word such as ``"sparse"`` or ``"expanded"``; empty if it may."""
        if self.strange:
            return self.strange
        kind = DTYPES[self.storage.kind][1]
        if kind in ("complex", "quantised"):
            return kind
        reach = 0
        for stride, side in sorted(zip(self.strides, self.shape)) if self.count else ():
            if side > 1 and stride <= reach:
                return "expanded"  # several of its places are one number of the file
            reach += (side - 1) * stride
        return "" if self.count == 0 or self.offset + reach < self.storage.count else "truncated"


@dataclass
class Pickle:
    """What a pickle describes.

    Attributes:
        value: Containers, plain values, and :class:`Tensor` and :class:`Storage`.
        end: Where in the bytes it ends.
        tensors: All tensors that torch would make, wherever they are.
        storages: By the names of their records.
    """

    value: Any
    end: int
    tensors: List[Tensor]
    storages: Dict[str, Storage]

    def fault(self) -> Tuple[str, str]:
        """The key of a tensor that torch is not to make and what it is, or two empty texts."""
        wrong = next((tensor for tensor in self.tensors if tensor.fault()), None)
        if wrong is None:
            return "", ""
        return next((key for key, tensor in _named(self.value) if tensor is wrong), "?"), wrong.fault()

    @property
    def stored(self) -> int:
        """Bytes of all storages."""
        return sum(storage.bytes for storage in self.storages.values())

    @property
    def unpacked(self) -> int:
        """Bytes of all tensors, each for itself."""
        return sum(tensor.count * DTYPES[tensor.storage.kind][0] for tensor in self.tensors if not tensor.strange)


@dataclass(frozen=True)
class _Name:
    text: str


@dataclass
class _Machine:
    stack: List[Any] = field(default_factory=list)
    marks: List[int] = field(default_factory=list)
    memo: Dict[int, Any] = field(default_factory=dict)
    tensors: List[Tensor] = field(default_factory=list)
    storages: Dict[str, Storage] = field(default_factory=dict)
    steps: int = 0

    def count(self, steps: int = 1) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise PickleRefused(Phrase("unsafe.steps", f"it has more than {MAX_STEPS} instructions", count=MAX_STEPS))

    def since_mark(self) -> List[Any]:
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def take(self, count: int) -> Tuple[Any, ...]:
        taken = tuple(self.stack[len(self.stack) - count :])
        if len(taken) != count or (self.marks and len(self.stack) - count < self.marks[-1]):
            raise IndexError("the stack is too short")
        del self.stack[len(self.stack) - count :]
        return taken

    def top(self) -> Any:
        (value,) = self.take(1)
        self.stack.append(value)
        return value


class _Lines(io.BytesIO):
    """Bytes whose lines are short: Python's own reader turns a long line into a number in quadratic time."""

    def readline(self, size: Any = -1) -> bytes:
        line = super().readline(_MAX_LINE + 1)
        if len(line) > _MAX_LINE:
            raise ValueError("a line is too long")
        return line


def array(tensor: Tensor, numbers: bytes) -> np.ndarray:
    """A tensor without :meth:`Tensor.fault` as an array: float32, or whole numbers of its own type.

    Args:
        numbers: The bytes of its storage, little-endian.
    """
    import numpy as np

    _, kind, dtype = DTYPES[tensor.storage.kind]
    stored = np.frombuffer(numbers, dtype)
    if tensor.storage.kind == "BFloat16Storage":  # the upper half of a float32
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    steps = tuple(stride * stored.itemsize for stride in tensor.strides)
    seen = np.lib.stride_tricks.as_strided(stored[tensor.offset :], tensor.shape, steps, writeable=False)
    return np.array(seen, np.float32 if kind == "floating" else stored.dtype, order="C")


def read(data: bytes, start: int = 0) -> Pickle:
    """What the pickle at ``start`` describes.

    Raises:
        PickleRefused: It asks for more than a state dict needs, takes too many instructions, or is damaged.
    """
    stream = _Lines(data)
    stream.seek(start)
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.count()
            if opcode.name == "STOP":
                (value,) = machine.take(1)
                return Pickle(value, stream.tell(), machine.tensors, machine.storages)
            act = _ACTIONS.get(opcode.name)
            if act is None:
                raise PickleRefused(
                    Phrase("unsafe.instruction", f"it has the instruction {opcode.name}", name=opcode.name)
                )
            act(machine, argument)
    except PickleRefused:
        raise
    except Exception as error:  # whatever damaged bytes lead to
        raise PickleRefused(error, unsafe=False) from error
    raise PickleRefused(ends_early(len(data)), unsafe=False)


def ends_early(size: int) -> Phrase:
    """What is wrong with a pickle, or with what follows it, in a file of ``size`` bytes."""
    return Phrase("damaged.pickle_end", f"its pickle ends early, at {size} bytes", size=size)


def _key(value: Any) -> Any:
    """A key of a dictionary: only such values as take a moment to hash, and do not share their hashes."""
    if value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) < 1 << 31):
        return value
    raise PickleRefused(Phrase("unsafe.key", f"a key in it is a {_kind(value)}", kind=_kind(value)))


def _misused(kind: str) -> PickleRefused:
    return PickleRefused(Phrase("unsafe.misused", f"it uses a {kind} as no state dict does", kind=kind))


def _asks(name: str) -> PickleRefused:
    name = name[:_LONGEST_KEY]
    return PickleRefused(Phrase("unsafe.asks", f"it asks for {name}", name=name))


def _no_shape() -> PickleRefused:
    return PickleRefused(Phrase("damaged.shape", "the shape of a tensor in it is none"), unsafe=False)


def _kind(value: Any) -> str:
    return type(value).__name__.lower().lstrip("_")


def _set_items(machine: _Machine, pairs: Sequence[Any]) -> None:
    target = machine.top()
    if not isinstance(target, dict):
        raise _misused(_kind(target))
    for key, value in zip(pairs[::2], pairs[1::2]):
        target[_key(key)] = value


def _append(machine: _Machine, values: Sequence[Any]) -> None:
    target = machine.top()
    if not isinstance(target, list):
        raise _misused(_kind(target))
    target.extend(values)


def _name(machine: _Machine, text: str) -> None:
    if text not in _KNOWN:
        raise _asks(text)
    machine.stack.append(_Name(text))


def _reduce(machine: _Machine, _: Any) -> None:
    function, arguments = machine.take(2)
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise _misused(_kind(function))
    made = _call(machine, function.text, arguments)
    if isinstance(made, Tensor) and function.text != f"{_UTILS}_rebuild_parameter":
        machine.tensors.append(made)
    machine.stack.append(made)


def _call(machine: _Machine, name: str, arguments: Tuple[Any, ...]) -> Any:
    if name in ("collections.OrderedDict", "collections.Counter"):
        made: Dict[Any, Any] = {}
        for given in arguments:
            machine.count(len(given))
            for key, value in given.items() if isinstance(given, dict) else given:
                made[_key(key)] = value
        return made
    if name == "torch.Size":
        return _sides(arguments[0])
    if name in ("torch.device", "torch.serialization._get_layout"):
        return None
    own = name[len(_UTILS) :] if name.startswith(_UTILS) else ""
    if own in _STRANGE:
        return Tensor(strange=_STRANGE[own])
    if own in ("_rebuild_tensor", "_rebuild_tensor_v2"):
        storage, offset, shape, strides = arguments[:4]
        if not isinstance(storage, Storage):
            raise _misused(_kind(storage))
        if len(_sides(shape)) != len(_sides(strides)):
            raise _no_shape()
        return Tensor(storage, _whole(offset), _sides(shape), _sides(strides))
    if own == "_rebuild_parameter" and isinstance(arguments[0], Tensor):
        return arguments[0]
    raise _asks(name)


def _sides(numbers: Any) -> Tuple[int, ...]:
    if not isinstance(numbers, (tuple, list)) or len(numbers) > _MAX_SIDES:
        raise _no_shape()
    return tuple(map(_whole, numbers))


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise _no_shape()
    return value


def _persistent(machine: _Machine, _: Any) -> None:
    (identity,) = machine.take(1)
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise _misused(_kind(identity))
    kind, key, _place, count = identity[1:5]
    if not isinstance(kind, _Name) or not isinstance(key, (str, int)):
        raise _misused(_kind(kind))
    if identity[5:] not in ((), (None,)):
        raise _misused("view")
    name = kind.text.rpartition(".")[2]
    storage = Storage(name if name in DTYPES else "ByteStorage", str(key), _whole(count))
    if machine.storages.setdefault(storage.key, storage) != storage:
        raise _no_shape()
    machine.stack.append(storage)


def _build(machine: _Machine, _: Any) -> None:
    target, _state = machine.take(2)
    if not isinstance(target, dict):
        raise _misused(_kind(target))
    machine.stack.append(target)


def _stack_global(machine: _Machine, _: Any) -> None:
    module, name = machine.take(2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise _misused(_kind(module))
    _name(machine, f"{module}.{name}")


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(machine.take(count))


def _put(machine: _Machine, argument: Any) -> None:
    machine.memo[argument] = machine.top()


#: Instructions that are a plain value.
_VALUES = ["BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"]
_VALUES += ["BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"]
_ACTIONS: Mapping[str, Callable[[_Machine, Any], Any]] = MappingProxyType(
    {
        **dict.fromkeys(["PROTO", "FRAME"], lambda machine, _: None),
        **dict.fromkeys(_VALUES, lambda machine, value: machine.stack.append(value)),
        "NONE": lambda machine, _: machine.stack.append(None),
        "NEWTRUE": lambda machine, _: machine.stack.append(True),
        "NEWFALSE": lambda machine, _: machine.stack.append(False),
        "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
        "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
        "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
        "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
        "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
        "TUPLE1": _tuple_of(1),
        "TUPLE2": _tuple_of(2),
        "TUPLE3": _tuple_of(3),
        "APPEND": lambda machine, _: _append(machine, machine.take(1)),
        "APPENDS": lambda machine, _: _append(machine, machine.since_mark()),
        "SETITEM": lambda machine, _: _set_items(machine, machine.take(2)),
        "SETITEMS": lambda machine, _: _set_items(machine, machine.since_mark()),
        **dict.fromkeys(["BINPUT", "LONG_BINPUT"], _put),
        "MEMOIZE": lambda machine, _: _put(machine, len(machine.memo)),
        **dict.fromkeys(["BINGET", "LONG_BINGET"], lambda machine, key: machine.stack.append(machine.memo[key])),
        "GLOBAL": lambda machine, text: _name(machine, ".".join(text.split(" ", 1))),
        "STACK_GLOBAL": _stack_global,
        "REDUCE": _reduce,
        "BUILD": _build,
        "BINPERSID": _persistent,
    }
)


def _named(value: Any) -> Iterator[Tuple[str, Tensor]]:
    """The tensors in a value, with their keys joined by ``/``; each container is entered once."""
    seen = set()
    waiting: List[Tuple[str, Any, int]] = [("", value, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        if isinstance(value, Tensor):
            yield name, value
        if not isinstance(value, (dict, list, tuple)) or id(value) in seen or depth > _MAX_DEPTH:
            continue
        seen.add(id(value))
        items = value.items() if isinstance(value, dict) else enumerate(value)
        waiting += [(f"{name}/{str(key)[:_LONGEST_KEY]}".lstrip("/"), item, depth + 1) for key, item in items]
