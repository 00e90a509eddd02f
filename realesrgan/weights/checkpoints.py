"""Read a checkpoint file into a state dict without running code from it."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Union

from realesrgan.errors import Phrase, WeightsError, as_field, one_line
from realesrgan.weights import zoo

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Checkpoint", "interpolate", "read", "safetensors_library", "torch_is_breakable", "verify"]

# CVE-2025-32434 (before 2.6) and CVE-2026-24747 (before 2.10): weights_only=True can be made to run code.
_SAFE_TORCH = (2, 10)

# What torch.save wrote before its zip form: a pickle of its magic number comes first.
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: parameters in float32 on the CPU, and the SHA-256 of the file."""

    state_dict: Dict[str, Tensor]
    sha256: str


def read(path: Path, *, trust: bool = False, sha256: str = "", size: Optional[int] = None) -> Checkpoint:
    """Load a ``.pth`` or ``.safetensors`` file; the content decides which, not the name.

    The bytes that are verified are the bytes that are loaded. Pickles are loaded with ``weights_only=True`` always;
    where this torch is known to be breakable nevertheless, only if their SHA-256 is an official one's, or with trust.

    Args:
        trust: Load a pickle of unknown origin on such a torch. Lifts no other check.
        sha256: Expected SHA-256 in lower-case hexadecimal; empty if any will do.
        size: Expected number of bytes, for the message.

    Raises:
        WeightsError: Missing, empty, incomplete, not the expected bytes, unsafe, or not a checkpoint.
    """
    data = _read_bytes(path)
    found = hashlib.sha256(data).hexdigest()
    _check_hash(path, sha256, found, size, len(data))
    kind = _kind_of(data, path)
    if kind == "safetensors":
        content = _load_safetensors(data, path)
    else:
        if not trust and torch_is_breakable() and found not in {spec.sha256 for spec in zoo.MODELS.values()}:
            raise _untrusted(path)
        content = _load_pickle(data, path)
    return Checkpoint(_parameters(content, path), found)


def verify(path: Path, sha256: str, size: Optional[int] = None) -> None:
    """Check a file's SHA-256 without loading it.

    Raises:
        WeightsError: It cannot be read, or has another.
    """
    data = _read_bytes(path)
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


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {one_line(error)}. Check the path, or give a model's name to have its "
            f"weights found ({', '.join(zoo.names())}).",
            code="weights.unreadable",
            path=str(path),
            reason=error,
        ) from None
    if not data:
        raise WeightsError(
            f"{path} is empty (0 bytes); a checkpoint is expected. Delete it and fetch it again.",
            code="weights.empty",
            path=str(path),
        )
    if re.match(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|\?xml|head)", data[:200], re.IGNORECASE):
        raise WeightsError(
            f"{path} is a web page, not a checkpoint. Delete it and download the file itself.",
            code="weights.page",
            path=str(path),
        )
    return data


def _kind_of(data: bytes, path: Path) -> str:
    """``'safetensors'`` or ``'pickle'``; raises on anything that must not or cannot be loaded."""
    if data.startswith(b"PK\x03\x04"):
        _check_archive(data, path)
        return "pickle"
    if data.startswith(_LEGACY_START):
        return "pickle"
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < 1 << 27:
        return "safetensors"
    if _is_tar(data):
        raise WeightsError(
            f"{path} is in torch's old tar form, which can run code however it is loaded, and is refused. Ask its "
            "author for a .safetensors file or one saved with torch 1.6 or newer.",
            code="weights.tar",
            path=str(path),
        )
    raise WeightsError(
        f"{path} is not a checkpoint: it begins with {data[:8]!r}; a .pth file of torch or a .safetensors file is "
        "expected.",
        code="weights.format",
        path=str(path),
        found=repr(data[:8]),
    )


def _check_archive(data: bytes, path: Path) -> None:
    """Raises on a truncated zip archive, on flipped bits, which torch does not look for, and on TorchScript."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            bad = archive.testzip()
            names = archive.namelist()
    except zipfile.BadZipFile:
        size = len(data)
        reason = Phrase("damaged.archive_end", f"the zip archive ends early, at {size} bytes", size=size)
        raise _damaged(path, reason) from None
    except Exception as error:
        raise _damaged(path, error) from error
    if bad is not None:
        raise _damaged(path, Phrase("damaged.archive_checksum", f"the checksum of {bad} in it is wrong", name=bad))
    # torch 2.4 hands such a file to torch.jit.load in spite of weights_only=True.
    if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
        raise WeightsError(
            f"{path} is a TorchScript program, not a checkpoint, and is refused. Ask its author for a .safetensors "
            "file, or for a .pth that holds nothing but a state dict.",
            code="weights.script",
            path=str(path),
        )


def _is_tar(data: bytes) -> bool:
    try:
        tarfile.open(fileobj=io.BytesIO(data), mode="r:").close()
    except tarfile.TarError:
        return False
    return True


def _load_pickle(data: bytes, path: Path) -> Any:
    import torch

    try:
        # From memory: torch tries its tar reader on real files only.
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if re.search("truncated|Ran out of input|unexpected EOF", str(error)):
            size = len(data)
            reason = Phrase("damaged.pickle_end", f"its pickle ends early, at {size} bytes", size=size)
            raise _damaged(path, reason) from error
        refusal = _refusal(error)
        raise WeightsError(
            f"{path} holds more than numbers and could run code when loaded, so it is refused: {refusal}. "
            "Ask its author for a .safetensors file, or for one that holds nothing but a state dict.",
            code="weights.unsafe",
            path=str(path),
            reason=refusal,
        ) from error
    except Exception as error:  # damaged bytes fail in any way
        raise _damaged(path, error) from error


def _load_safetensors(data: bytes, path: Path) -> Any:
    library = safetensors_library(path)
    try:
        return library.load(data)
    except Exception as error:  # its own error class has no stable name
        raise _damaged(path, error) from error


def safetensors_library(path: Path) -> Any:
    """``safetensors.torch``; raises WeightsError, which names ``path``, where it is not installed."""
    try:
        import safetensors.torch
    except ImportError as error:
        raise WeightsError(
            f"{path}: the library for .safetensors files is missing. Install it: pip install safetensors",
            code="weights.safetensors",
            path=str(path),
        ) from error
    return safetensors.torch


def _parameters(content: Any, path: Path) -> Dict[str, Tensor]:
    """The state dict inside what a file holds, as float32."""
    import torch

    if isinstance(content, Mapping):
        content = content.get("params_ema", content.get("params", content))
    if not isinstance(content, Mapping) or not content or not all(map(torch.is_tensor, content.values())):
        keys = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
        raise WeightsError(
            f"{path} is not a checkpoint of a network: a state dict, alone or under 'params_ema' or 'params', is "
            f"expected; found {keys or 'nothing'}.",
            code="weights.content",
            path=str(path),
            found=keys or Phrase("nothing", "nothing"),
        )
    return {
        str(key): (value.float() if value.is_floating_point() else value).detach().contiguous()
        for key, value in content.items()
    }


def _check_hash(path: Path, expected: str, found: str, size: Optional[int], found_size: int) -> None:
    if not expected or found == expected:
        return
    sizes = f" ({found_size} bytes, where {size} are expected)" if size and size != found_size else ""
    raise WeightsError(
        f"{path} is not the official file of that name{sizes}: SHA-256 {expected} is expected, {found} is found. If it "
        "is a broken download, delete it and run again. If it is your own, give it another name or give its path "
        "(--model_path).",
        code="weights.hash",
        path=str(path),
        expected=expected,
        found=found,
        expected_size=size or 0,
        found_size=found_size,
    )


def _untrusted(path: Path) -> WeightsError:
    import torch

    command = f'python -m realesrgan.weights.convert "{path}" "{path.with_suffix(".safetensors")}"'
    return WeightsError(
        f"{path} is not one of the official files, and torch {torch.__version__} can be made to run code by a crafted "
        f".pth file. Convert it where torch 2.10 or newer and safetensors are installed: {command}  Or, if you trust "
        "whoever made it, pass --trust-weights (trust_weights=True).",
        code="weights.untrusted",
        path=str(path),
        torch=str(torch.__version__),
        command=command,
    )


def _damaged(path: Path, error: Union[Exception, Phrase]) -> WeightsError:
    reason = as_field(error)
    return WeightsError(
        f"{path} is damaged or incomplete: {reason}. Delete it and fetch it again.",
        code="weights.damaged",
        path=str(path),
        reason=reason,
    )


def _refusal(error: BaseException) -> Phrase:
    """The one fact in torch's long advice, which ends in how to load the file all the same."""
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    if asked is not None:
        return Phrase("unsafe.asks", f"it asks for {asked.group(1)}", name=asked.group(1))
    unsupported = re.search(r"Unsupported[^\n]*", str(error))
    if unsupported:
        return Phrase("quote", unsupported.group(0).rstrip(". "))
    return Phrase("unsafe.refused", "torch refuses its contents")
