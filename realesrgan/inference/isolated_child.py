"""The side of :mod:`realesrgan.inference.isolated` that runs in the child: build the upsampler, then answer."""

from __future__ import annotations

import importlib
from dataclasses import asdict, is_dataclass
from typing import Any, Dict, Mapping, Optional

import numpy as np

from .. import devices
from .child import Line, pack_error

__all__ = ["build", "serve"]

_ATTRIBUTES = ("scale", "tile_size", "tile_pad", "pre_pad", "half", "model_name", "weights_source")


def build(*, faces: Optional[Mapping[str, Any]] = None, **arguments: Any) -> Any:
    """Build, in the child, a RealESRGANer, or with ``faces`` (its further arguments) a FaceEnhancer around it."""
    from .upsampler import RealESRGANer

    upsampler = RealESRGANer(**arguments)
    if faces is None:
        return upsampler
    module: Any = importlib.import_module("realesrgan.inference.faces.enhancer")
    return module.FaceEnhancer(upsampler, progress=arguments.get("progress"), **faces)


def serve(line: Line, factory: str, arguments: Dict[str, Any]) -> None:
    """Build the upsampler, then answer until the parent closes the pipe."""
    module, _, name = factory.partition(":")
    try:
        built = getattr(importlib.import_module(module), name)(
            **arguments, progress=lambda done, total: line.send("progress", done, total)
        )
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        line.send("error", devices.classify(error), *pack_error(error))
        return
    inner = getattr(built, "upsampler", built)
    line.send("ready", dict(built.describe()), _attributes(inner))
    while True:
        _, shape, dtype, outscale, alpha_upsampler, tile = line.receive()
        img = line.receive_array(shape, dtype)
        try:
            if tile:
                inner.tile_size = tile
            pixels, mode = built.enhance(
                img, outscale, alpha_upsampler, progress=lambda done, total: line.send("progress", done, total)
            )
        except Exception as error:  # noqa: BLE001 - raised again in the parent
            line.send("error", devices.classify(error), *pack_error(error))
            continue
        pixels = np.ascontiguousarray(pixels)
        line.send("done", pixels.shape, pixels.dtype.str, mode, _run_of(built), dict(built.describe()))
        line.send_array(pixels)


def _attributes(upsampler: Any) -> Dict[str, Any]:
    return {name: getattr(upsampler, name) for name in _ATTRIBUTES if hasattr(upsampler, name)}


def _run_of(upsampler: Any) -> Dict[str, Any]:
    run = getattr(upsampler, "last_run", None)
    return asdict(run) if is_dataclass(run) and not isinstance(run, type) else dict(getattr(run, "__dict__", {}))
