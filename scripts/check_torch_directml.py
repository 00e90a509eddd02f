"""Asks the real torch-directml package, and our resolver about it: ``python scripts/check_torch_directml.py``.

Where the package works (Windows, WSL2), its adapters are listed and a small picture is enlarged on the first of them.
Where it cannot start (Linux without WSL), the resolver must say why and take another device. Each question is asked
in a process of its own, because torch-directml can end its process.

Exit status: 0 all is as promised, 1 it is not, 2 the package is not installed.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys
from typing import Any, Dict, Optional

from environment import ROOT, say

IMPORT = """
import json
try:
    import torch_directml
    answer = {"imported": True, "adapters": int(torch_directml.device_count())}
except BaseException as error:
    answer = {"imported": False, "error": type(error).__name__ + ": " + str(error)}
print(json.dumps(answer))
"""

RESOLVE = """
import json
from realesrgan import devices, errors
listing = devices.available()
answer = {
    "devices": [[d.spec, d.name, d.memory, d.integrated] for d in listing.devices],
    "notes": {note.backend: note.reason for note in listing.notes},
    "auto": devices.resolve("auto").spec,
}
try:
    answer["directml"] = devices.resolve("directml").spec
except errors.DeviceError as error:
    answer["directml_error"] = str(error)
print(json.dumps(answer))
"""

# Two convolutions with random weights, against the CPU.
RUN = """
import json
import numpy as np, torch
from realesrgan import devices
device = devices.resolve("directml").torch_device
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.LeakyReLU(0.2), torch.nn.Conv2d(16, 3, 3))
picture = torch.rand(1, 3, 48, 40)
with torch.no_grad():
    expected = network(picture)
    got = network.to(device)(picture.to(device)).cpu()
print(json.dumps({"difference": float((got - expected).abs().max())}))
"""


def ask(code: str) -> Dict[str, Any]:
    """The JSON that a child process prints last, or how it ended."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False
    )
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        tail = " | ".join(done.stderr.strip().splitlines()[-3:])
        return {"died": done.returncode, "stderr": tail}
    return dict(answer)


def version(name: str) -> Optional[str]:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def row(label: str, value: object) -> None:
    say(f"{label + ':':<18} {value}")


def main() -> int:
    row("system", f"{platform.platform()}, Python {platform.python_version()}")
    row(
        "packages", ", ".join(f"{name} {version(name)}" for name in ("torch-directml", "torch", "torchvision", "numpy"))
    )
    if version("torch-directml") is None:
        row("verdict", "torch-directml is not installed: pip install -r requirements-directml.txt")
        return 2
    imported, resolved = ask(IMPORT), ask(RESOLVE)
    row("import", imported)
    for name, value in resolved.items():
        row(name, value)
    faults = []
    if "auto" not in resolved:
        faults.append("the resolver did not survive")
    elif sys.platform == "win32" and not imported.get("imported"):
        faults.append("it cannot be imported, on the system that it is made for")
    elif imported.get("adapters"):
        ran = ask(RUN)
        row("on the adapter", ran)
        if ran.get("difference", 1.0) > 1e-3:
            faults.append("a small network on the adapter differs from the CPU, or ended the process")
    elif not resolved["notes"].get("directml"):
        faults.append("the resolver does not say why DirectML is not used")
    elif "directml_error" not in resolved or resolved["auto"].startswith("directml"):
        faults.append("the resolver takes a DirectML device that does not exist")
    row("verdict", "; ".join(faults) or "as promised")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
