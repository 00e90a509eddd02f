"""Checkpoint files: read into a state dict without running code, wherever in the file it is, whatever its names are.

Whether the parameters are a network's is decided by their shapes (:func:`realesrgan.weights.zoo.recognise`).
"""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import pickle
import re
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple, TypeVar, Union

from realesrgan.errors import Phrase, WeightsError, as_field, one_line
from realesrgan.weights import pickles, zoo

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Checkpoint",
    "failure",
    "interpolate",
    "own_names",
    "parse",
    "read",
    "safetensors_library",
    "torch_is_breakable",
    "unfit_tensor",
    "verify",
    "without_prefix",
]

Value = TypeVar("Value")

# CVE-2025-32434 (before 2.6) and CVE-2026-24747 (before 2.10): weights_only=True can be made to run code.
_SAFE_TORCH = (2, 10)

# What torch.save wrote before its zip form: a pickle of its magic number comes first.
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_PICKLES = 5  # the magic number, the version, the system, the content, the names of what follows

#: Bytes of a file that is read.
MAX_BYTES = 2_000_000_000
_HEAD = 4096
_LONGEST_HEADER = 16 << 20  # of a .safetensors file; one with 5,000 tensors has 0.5 MB
_MOST_RECORDS = 50_000
_WRAPPED = 5  # dictionaries in dictionaries that are looked into
_MOST_TIMES = 4  # the tensors of a file may share numbers, as an averaged network and the trained one do
_SHOWN = 80

#: Keys under which training programs put a state dict, best first: an averaged network before the trained one.
_WRAPPERS = ("params_ema", "params", "g_ema", "state_dict", "model_state_dict", "model", "generator", "netG", "net_g")
# Before every name: of wrappers for several cards and for torch.compile, of the network's own place in a larger one.
_PREFIXES = ("module.", "_orig_mod.", "params_ema.", "params.", "state_dict.", "generator.", "netG.", "net_g.", "net.")
# Such a prefix is removed also where others (a discriminator's) are beside it.
_SELECTING = frozenset(["params_ema.", "params.", "generator.", "netG.", "net_g."])
_DEEPEST = 4  # wrappers in wrappers, prefixes before prefixes

_SEQUENTIAL = re.compile(r"model\.(\d+)\.(weight|bias)")
# Old names of an RRDBNet -> its own. The first pair is ESRGAN's first release, the second its later one.
_RENAMED: Tuple[Tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(old), new)
    for old, new in (
        (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3."),
        (r"model\.1\.sub\.\d+\.(?=(?:weight|bias)$)", "conv_body."),
        (r"RRDB_trunk\.(\d+)\.RDB(\d)\.conv(\d)\.", r"body.\1.rdb\2.conv\3."),
        (r"trunk_conv\.", "conv_body."),
        (r"upconv(\d)\.", r"conv_up\1."),
        (r"HRconv\.", "conv_hr."),
    )
)


@dataclass(frozen=True)
class Checkpoint:
    """What a file contains: parameters in float32 on the CPU, and the SHA-256 of the file."""

    state_dict: Dict[str, Any]
    sha256: str


def read(
    path: Path, *, trust: bool = False, sha256: str = "", size: Optional[int] = None, arrays: bool = False
) -> Checkpoint:
    """Load a ``.pth`` or ``.safetensors`` file; the content decides which, not the name.

    The bytes that are verified are the bytes that are loaded. Pickles are loaded with ``weights_only=True`` always;
    where this torch is known to be breakable nevertheless, only if their SHA-256 is an official one's, or with trust.

    Args:
        trust: Load a pickle of unknown origin on such a torch. Lifts no other check.
        sha256: Expected SHA-256 in lower-case hexadecimal; empty if any will do.
        size: Expected number of bytes, for the message.
        arrays: Give numpy arrays, and do not ask torch: a pickle is then read by :mod:`realesrgan.weights.pickles`.

    Raises:
        WeightsError: Missing, empty, incomplete, not the expected bytes, unsafe, or not a checkpoint.
    """
    data = _read_bytes(path, verified=bool(sha256))
    return parse(data, path, trust=trust, sha256=sha256, size=size, arrays=arrays)


def parse(
    data: bytes,
    path: Path,
    *,
    trust: bool = False,
    sha256: str = "",
    size: Optional[int] = None,
    arrays: bool = False,
) -> Checkpoint:
    """As :func:`read`, with the content of a file given; ``path`` is what messages call it."""
    _check_head(data[:_HEAD], path, bool(sha256))
    found = hashlib.sha256(data).hexdigest()
    _check_hash(path, sha256, found, size, len(data))
    kind = _kind_of(data)
    if kind == "safetensors":
        content = _load_safetensors(data, path, arrays)
    elif arrays:
        content = _array_pickle(kind, data, path)
    else:
        (_check_archive if kind == "zip" else _check_legacy)(data, path)
        if not trust and torch_is_breakable() and found not in {spec.sha256 for spec in zoo.MODELS.values()}:
            raise _untrusted(path)
        content = _load_pickle(data, path)
    return Checkpoint(_parameters(content, path, arrays), found)


def verify(path: Path, sha256: str, size: Optional[int] = None) -> None:
    """Check a file's SHA-256 without loading it.

    Raises:
        WeightsError: It cannot be read, or has another.
    """
    data = _read_bytes(path, verified=True)
    _check_hash(path, sha256, hashlib.sha256(data).hexdigest(), size, len(data))


def torch_is_breakable() -> bool:
    """Whether a crafted pickle can run code in this torch in spite of ``weights_only=True``."""
    import torch

    numbers = re.match(r"(\d+)\.(\d+)", torch.__version__)
    return numbers is None or (int(numbers.group(1)), int(numbers.group(2))) < _SAFE_TORCH


def interpolate(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], first_weight: float, second_weight: float
) -> Dict[str, Tensor]:
    """``first_weight * first + second_weight * second`` for every parameter.

    Raises:
        WeightsError: They are not of the same network.
    """
    different = sorted(first.keys() ^ second.keys()) or [key for key in first if first[key].shape != second[key].shape]
    if different:
        raise WeightsError(
            "Only checkpoints of the same network can be mixed; these differ in "
            f"{len(different)} parameters, the first being {different[0]}.",
            code="weights.mix",
            count=len(different),
            parameter=different[0],
        )
    return {key: first_weight * value + second_weight * second[key] for key, value in first.items()}


def without_prefix(state: Mapping[str, Value]) -> Dict[str, Value]:
    """The parameters without what programs put before all their names, such as ``module.``."""
    found = dict(state)
    for _ in range(_DEEPEST):
        # "model." is also the beginning of the names of ESRGAN's first release.
        prefixes = _PREFIXES if any(map(_SEQUENTIAL.fullmatch, found)) else (*_PREFIXES, "model.")
        prefix = next((prefix for prefix in prefixes if _applies(prefix, found)), None)
        if prefix is None:
            break
        found = {key[len(prefix) :]: value for key, value in found.items() if key.startswith(prefix)}
    return found


def _applies(prefix: str, state: Mapping[str, Value]) -> bool:
    having = sum(key.startswith(prefix) for key in state)
    return having > 0 and (having == len(state) or prefix in _SELECTING)


def own_names(state: Mapping[str, Value]) -> Dict[str, Value]:
    """The parameters of an RRDBNet by its own names where they go by older ones; others as they are."""
    renamed: Dict[str, Value] = {}
    last: List[int] = sorted({int(found.group(1)) for found in map(_SEQUENTIAL.fullmatch, state) if found})
    for key, value in state.items():
        found = _SEQUENTIAL.fullmatch(key)
        if found is not None:
            key = f"{_place(last.index(int(found.group(1))), len(last))}.{found.group(2)}"
        for old, new in _RENAMED:
            key, count = old.subn(new, key, count=1) if old.match(key) else (key, 0)
            if count:
                break
        renamed[key] = value
    return renamed if len(renamed) == len(state) else dict(state)


def _place(position: int, count: int) -> str:
    """Name of a convolution outside of an RRDBNet's blocks by its place among ``count`` of them, in forward order."""
    if position == 0:
        return "conv_first"
    if position == count - 1:
        return "conv_last"
    return "conv_hr" if position == count - 2 else f"conv_up{position}"


def failure(path: Path, code: str, told: str, **fields: Any) -> WeightsError:
    """The error for one file: ``<path> <told>``, with the field ``path``."""
    return WeightsError(f"{path} {told}", code=code, path=str(path), **fields)


def _read_bytes(path: Path, *, verified: bool) -> bytes:
    """The whole file. One that will not be verified is refused by its first bytes before the rest is read."""
    try:
        if path.exists() and not path.is_file():
            raise OSError(Phrase("input.no_file", "it is not a file"))
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > MAX_BYTES:
                told = f"has {size} bytes; a checkpoint has {MAX_BYTES} at most. Give the path of a checkpoint."
                raise failure(path, "weights.too_large", told, found=size, limit=MAX_BYTES)
            head = stream.read(_HEAD)
            _check_head(head, path, verified)
            # No more than there are: Windows commits all the memory that a read may fill, however short the file is.
            return head + stream.read(max(0, size - len(head)))
    except OSError as error:
        told = (
            f"cannot be read: {one_line(error)}. Check the path, or give a model's name to have its "
            f"weights found ({', '.join(zoo.names())})."
        )
        raise failure(path, "weights.unreadable", told, reason=error) from None


def _check_head(head: bytes, path: Path, verified: bool) -> None:
    if not head:
        told = "is empty (0 bytes); a checkpoint is expected. Delete it and fetch it again."
        raise failure(path, "weights.empty", told)
    if re.match(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|\?xml|head)", head, re.IGNORECASE):
        told = "is a web page, not a checkpoint. Delete it and download the file itself."
        raise failure(path, "weights.page", told)
    if _is_tar(head):
        told = (
            "is in torch's old tar form, which can run code however it is loaded, and is refused. Ask its author for a "
            ".safetensors file or one saved with torch 1.6 or newer."
        )
        raise failure(path, "weights.tar", told)
    if not verified and _kind_of(head) is None:
        begin = repr(head[:8])
        told = f"is not a checkpoint: it begins with {begin}; a .pth file of torch or a .safetensors file is expected."
        raise failure(path, "weights.format", told, found=begin)


def _kind_of(head: bytes) -> Optional[str]:
    """``'zip'``, ``'legacy'`` (torch before 1.6) or ``'safetensors'`` by a file's first bytes; None if none of them."""
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(_LEGACY_START):
        return "legacy"
    safetensors = head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER
    return "safetensors" if safetensors else None


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return True


def _array_pickle(kind: Optional[str], data: bytes, path: Path) -> Any:
    """What a pickle of torch contains, its tensors as arrays."""
    numbers: Dict[str, bytes] = {}
    if kind == "zip":
        found = _check_archive(data, path)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            folder = archive.namelist()[0].partition("/")[0]
            for key in found.storages:
                numbers[key] = archive.read(f"{folder}/data/{key}")
    else:
        found, keys, position = _check_legacy(data, path)
        for key in keys:  # a count of numbers, then they
            end = position + 8 + found.storages[key].bytes
            numbers[key] = data[position + 8 : end]
            position = end
    return _with_arrays(found.value, numbers)


def _with_arrays(value: Any, numbers: Mapping[str, bytes], depth: int = 0) -> Any:
    if isinstance(value, pickles.Tensor):
        return pickles.array(value, numbers[value.storage.key])
    if isinstance(value, dict) and depth < _WRAPPED:
        return {key: _with_arrays(inner, numbers, depth + 1) for key, inner in value.items()}
    return value


def _check_archive(data: bytes, path: Path) -> pickles.Pickle:
    """Refuse a zip archive that is damaged (torch does not look at checksums), or more than plain records of numbers.

    Returns:
        What its pickle describes.

    Raises:
        WeightsError: It is cut short, TorchScript, has deflated, encrypted, doubled or overlapping records, or a
            pickle that torch is not to see.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            records = archive.infolist()
            names = [record.filename for record in records]
            # torch 2.4 hands such a file to torch.jit.load in spite of weights_only=True.
            if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
                told = (
                    "is a TorchScript program, not a checkpoint, and is refused. Ask its author for a .safetensors "
                    "file, or for a .pth that contains nothing but a state dict."
                )
                raise failure(path, "weights.script", told)
            _check_records(records, data, path)
            bad = archive.testzip()
            if bad is not None:
                bad = _cut(bad)
                raise _damaged(
                    path, Phrase("damaged.archive_checksum", f"the checksum of {bad} in it is wrong", name=bad)
                )
            folder = names[0].partition("/")[0]
            if f"{folder}/data.pkl" not in names:
                raise _damaged(
                    path, Phrase("damaged.archive_record", "its zip archive has no data.pkl", name="data.pkl")
                )
            found = _judged(archive.read(f"{folder}/data.pkl"), 0, path, len(data))
            sizes = {record.filename: record.file_size for record in records}
            for key, storage in found.storages.items():
                if sizes.get(f"{folder}/data/{key}") != storage.bytes:
                    raise _damaged(path, _numbers(storage.bytes))
            return found
    except zipfile.BadZipFile:
        size = len(data)
        reason = Phrase("damaged.archive_end", f"the zip archive ends early, at {size} bytes", size=size)
        raise _damaged(path, reason) from None
    except WeightsError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error


def _check_records(records: List[zipfile.ZipInfo], data: bytes, path: Path) -> None:
    if not records or len(records) > _MOST_RECORDS:
        count = len(records)
        raise _damaged(path, Phrase("damaged.archive_count", f"its zip archive has {count} records", count=count))
    if data[-22:-18] != b"PK\x05\x06":
        raise _damaged(path, Phrase("damaged.archive_tail", "something follows the end of its zip archive"))
    if any(record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1 for record in records):
        told = (
            "contains compressed or encrypted records, which torch does not write, and is refused. Ask its author for "
            "a file saved by torch.save, or for a .safetensors file."
        )
        raise failure(path, "weights.compressed", told)
    whole = sum(record.file_size for record in records) <= len(data)
    if not whole or len({record.filename for record in records}) != len(records) or records[0].header_offset != 0:
        raise _damaged(path, Phrase("damaged.archive_overlap", "records of its zip archive overlap"))


def _check_legacy(data: bytes, path: Path) -> Tuple[pickles.Pickle, List[str], int]:
    """Refuse a file of torch before 1.6 (pickles, then runs of numbers) that is damaged or not for torch to see.

    Returns:
        The pickle that describes its content, the keys of its runs of numbers in their order, and where they begin.
    """
    position = 0
    storages: Dict[str, pickles.Storage] = {}
    keys: Any = []
    described: Any = None
    for _ in range(_LEGACY_PICKLES):
        found = _judged(data, position, path, len(data))
        position, keys = found.end, found.value
        storages.update(found.storages)
        described = found if found.tensors else described
    stored = sum(8 + storage.bytes for storage in storages.values())
    if not isinstance(keys, list) or set(map(str, keys)) != set(storages) or len(keys) != len(storages):
        raise _damaged(path, _numbers(stored))
    if position + stored > len(data):
        raise _damaged(path, pickles.ends_early(len(data)))
    return described or found, list(map(str, keys)), position


def _judged(data: bytes, start: int, path: Path, size: int) -> pickles.Pickle:
    """What a pickle of a file of ``size`` bytes describes, if torch may see it."""
    try:
        found = pickles.read(data, start)
    except pickles.PickleRefused as error:
        if not error.unsafe:
            raise _damaged(path, error.reason) from error
        raise _unsafe(path, error.reason) from error
    key, fault = found.fault()
    if fault:
        raise unfit_tensor(path, key, fault)
    if found.stored > size or found.unpacked > _MOST_TIMES * size:
        raise _damaged(path, _numbers(max(found.stored, found.unpacked)))
    return found


def _numbers(size: int) -> Phrase:
    return Phrase("damaged.numbers", f"the {size} bytes of numbers that it describes are not in it", size=size)


def unfit_tensor(path: Path, key: str, kind: str) -> WeightsError:
    """The error for a tensor of a kind, such as ``"sparse"``, that a network here cannot have."""
    key = _cut(key)
    told = (
        f"contains a tensor {key} that is {kind}; parameters are whole tensors of floating-point numbers. "
        "Ask its author for a plain state dict."
    )
    return failure(path, "weights.tensor", told, key=key, kind=kind)


def _load_pickle(data: bytes, path: Path) -> Any:
    import torch

    try:
        # From memory: torch tries its tar reader on real files only.
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _unsafe(path, _refusal(error)) from error
    except Exception as error:  # damaged bytes fail in any way
        raise _damaged(path, error) from error


def _load_safetensors(data: bytes, path: Path, arrays: bool) -> Any:
    library = safetensors_library(path, "numpy" if arrays else "torch")
    try:
        return library.load(data)
    except Exception as error:  # its own error class has no stable name
        raise _damaged(path, error) from error


def safetensors_library(path: Path, kind: str = "torch") -> Any:
    """``safetensors.torch`` or ``.numpy``; raises WeightsError, which names ``path``, where it is not installed."""
    try:
        return importlib.import_module(f"safetensors.{kind}")
    except ImportError as error:
        raise WeightsError(
            f"{path}: the library for .safetensors files is missing. Install it: pip install safetensors",
            code="weights.safetensors",
            path=str(path),
        ) from error


def _state_dict_in(content: Any) -> Optional[Dict[str, Any]]:
    """The tensors by name inside what a file contains, out of wrappers; None if there is no state dict.

    Plain values beside the tensors (an iteration, a name) are left out.
    """
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            return None
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    tensors = {str(key): value for key, value in content.items() if hasattr(value, "shape")}
    others = (value for value in content.values() if not hasattr(value, "shape"))
    plain = all(value is None or isinstance(value, (str, int, float)) for value in others)
    return tensors if tensors and plain else None


def _parameters(content: Any, path: Path, arrays: bool) -> Dict[str, Any]:
    """The state dict inside what a file contains, as float32."""
    state = _state_dict_in(content)
    if state is None:
        keys = ", ".join(_cut(key) for key in list(content)[:5]) if isinstance(content, Mapping) else ""
        if not keys:
            keys = Phrase("nothing", "nothing") if isinstance(content, Mapping) else type(content).__name__
        told = (
            "is not a checkpoint of a network: a state dict, alone or under a key such as 'params_ema', "
            f"'params' or 'state_dict', is expected; found {keys}."
        )
        raise failure(path, "weights.content", told, found=keys)
    if arrays:
        return {key: value.astype("<f4") if value.dtype.kind == "f" else value for key, value in state.items()}
    return {
        key: (value.float() if value.is_floating_point() else value).detach().contiguous()
        for key, value in state.items()
    }


def _check_hash(path: Path, expected: str, found: str, size: Optional[int], found_size: int) -> None:
    if not expected or found == expected:
        return
    sizes = f" ({found_size} bytes, where {size} are expected)" if size and size != found_size else ""
    raise failure(
        path,
        "weights.hash",
        f"is not the official file of that name{sizes}: SHA-256 {expected} is expected, {found} is found. If it is a "
        "broken download, delete it and run again. If it is your own, give it another name or give its path "
        "(--model_path).",
        expected=expected,
        found=found,
        expected_size=size or 0,
        found_size=found_size,
    )


def _untrusted(path: Path) -> WeightsError:
    import torch

    command = f'python -m realesrgan.weights.convert "{path}" "{path.with_suffix(".safetensors")}"'
    return failure(
        path,
        "weights.untrusted",
        f"is not one of the official files, and torch {torch.__version__} can be made to run code by a crafted .pth "
        f"file. Convert it where torch 2.10 or newer and safetensors are installed: {command}  Or, if you trust "
        "whoever made it, pass --trust-weights (trust_weights=True).",
        torch=str(torch.__version__),
        command=command,
    )


def _damaged(path: Path, error: Union[Exception, Phrase]) -> WeightsError:
    reason = as_field(error)
    if reason.code == "quote":
        reason = Phrase("quote", _cut(reason).rstrip("."))
    told = f"is damaged or incomplete: {reason}. Delete it and fetch it again."
    return failure(path, "weights.damaged", told, reason=reason)


def _refusal(error: BaseException) -> Phrase:
    """The one fact in torch's long advice, which ends in how to load the file anyway."""
    unsupported = re.search(r"Unsupported[^\n]*", str(error))
    if unsupported:
        return Phrase("quote", unsupported.group(0).rstrip(". "))
    return Phrase("unsafe.refused", "torch refuses its contents")


def _unsafe(path: Path, reason: Phrase) -> WeightsError:
    told = (
        f"contains more than numbers and could run code when loaded, so it is refused: {reason}. Ask its author "
        "for a .safetensors file, or for one that contains nothing but a state dict."
    )
    return failure(path, "weights.unsafe", told, reason=reason)


def _cut(text: object) -> str:
    """A text from a file as it may be shown: in one line, and not longer than a line."""
    line = " ".join(str(text).split())
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line[:_SHOWN])
    return shown + ("..." if len(line) > _SHOWN else "")
