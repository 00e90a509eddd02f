"""DirectML: AMD and Intel cards under Windows, through the package torch-directml.

What is known about that package, and is not asked of it because it ends the process, is in ``docs/directml.md``.
"""

from __future__ import annotations

import importlib
import re
import sys
from importlib import metadata
from typing import Any, Dict, Iterator, List, Mapping, Optional

from ..archs.structure import Structure
from ..errors import Phrase
from . import windows
from .base import (
    LIMIT,
    NOTE,
    PROBLEM,
    Backend,
    Capabilities,
    Device,
    Examined,
    Finding,
    MissingError,
    integrated_name,
    software_name,
    torch,
    version_numbers,
)

__all__ = ["DirectML"]

_NEWEST_PYTHON = (3, 12)
_WINDOWS_BUILD = 16299  # Windows 10, version 1709: the first with what torch-directml needs
_DRIVER_MODEL = 27  # Windows drivers are numbered by their driver model first: 27 came in 2020, 30 to 32 are today's
_SMALL = 3.5 * 2**30
_REINSTALL = "python -m pip install --force-reinstall torch-directml, or a fresh environment (scripts/first_run.py)."


class DirectML(Backend):
    """See the module."""

    name = "directml"
    label = "DirectML"
    aliases = ("dml", "privateuseone")
    spelling = "directml (dml, dml:1)"
    package = "torch_directml"
    remedy = Phrase(
        "device.get_directml",
        "pip install torch-directml (Windows or WSL2, Python 3.8 to 3.12, in an environment of its own)",
    )
    # Windows resets a card that works on one submission for more than two seconds (facts in docs/directml.md), hence
    # submission_flops: half a second of a card that reaches 1 TFLOP/s.
    capabilities = Capabilities(
        multi_prelu=False,
        few_operators=True,
        largest_tensor=2**32 - 1,
        submission_flops=500_000_000_000,
        band_rows=16,
        tall_bands=True,
        whole_pictures=False,
        recovers_memory=False,
        isolates=True,
    )
    out_of_memory = re.compile(r"not enough GPU video memory available|-2147024882|8007000E", re.IGNORECASE)
    lost = re.compile(
        r"-2005270522|-2005270523|-2147467259|GPU device instance has been suspended|GetDeviceRemovedReason|"
        r"887A000[5-7]",
        re.IGNORECASE,
    )
    spills = True

    def find(self) -> List[Device]:
        if not self.installed():
            raise MissingError(
                Phrase("device.no_package", "torch-directml is not installed", package="torch-directml"), False
            )
        directml = _library()
        # device_count() first, always: without an adapter other questions end the process.
        count = int(directml.device_count())
        if count < 1:
            raise MissingError(
                Phrase("device.no_adapter", "torch-directml is installed but finds no DirectX 12 adapter"), True
            )
        registered = windows.adapters()
        devices = []
        for index in range(count):
            name = str(directml.device_name(index)).replace("\0", "").strip() or f"adapter {index}"
            driver = next((a.driver for a in registered if a.name.lower() == name.lower()), "")
            memory = windows.total_memory(name, registered)
            devices.append(Device(self.name, index, name, memory, integrated_name(name), software_name(name), driver))
        return devices

    def missed(self) -> bool:
        return sys.platform == "win32"

    def facts(self) -> Dict[str, Any]:
        return {"directml_needs": _needed_torch()}

    def package_facts(self, module: Any) -> Dict[str, Any]:
        # Nothing but the number may be asked before it is known to be above 0.
        return {"adapters": int(module.device_count())}

    def brings_torch(self, facts: Mapping[str, Any]) -> Optional[Finding]:
        if not _wanted(facts) or _too_new(facts):
            return None
        return Finding(
            PROBLEM,
            "torch.missing_directml",
            "PyTorch is not installed.",
            "python -m pip install torch-directml (it brings the PyTorch that fits), or python scripts/first_run.py",
        )

    def findings(self, examined: Examined) -> Iterator[Finding]:
        facts = examined.facts
        wanted, too_new = _wanted(facts) and not examined.on_card, _too_new(facts)
        if wanted and too_new and not facts["packages"]["torch-directml"]:
            yield Finding(
                LIMIT,
                "python.new",
                "Python {version} is too new for torch-directml (3.8 to 3.12), so the graphics card cannot be used.",
                "python -m pip install ncnn (Vulkan), or Python 3.11 and: py -3.11 scripts/first_run.py",
                version=facts["python"]["version"],
            )
        build = facts["system"]["build"]
        if build is not None and build < _WINDOWS_BUILD:
            yield Finding(
                LIMIT,
                "windows.old",
                "Windows build {build} is too old for DirectML (16299, that is Windows 10 version 1709, or newer).",
                "Update Windows.",
                build=build,
            )
        if (facts["imports"].get("torch") or {"ok": False})["ok"]:
            yield from _about_package(examined, wanted and not too_new)
        yield from _about_cards(examined)

    def torch_device(self, device: Device) -> Any:
        return _library().device(device.index)

    def wait(self, device: Device) -> None:
        # There is no call for it. One element of its own comes back when all that was queued before it is done; an
        # element of a larger tensor would bring that whole tensor to the host.
        (torch().zeros(1, device=self.torch_device(device)) + 1).cpu()

    def memory_used(self, device: Device) -> Optional[int]:
        # Fractions of blocks of the given number of megabytes; an empty list where the driver gives nothing.
        fractions = _library().gpu_memory(device.index, 1)
        return int(sum(fractions) * 2**20) if fractions else None

    def weight_bytes(self, structure: Structure, half: bool) -> int:
        # The last convolution of every dense block is kept twice: as it came, and with the residual's factor.
        scaled = 3 * structure.depth * 9 * structure.features * (structure.features + 4 * structure.growth)
        return super().weight_bytes(structure, half) + (scaled * (2 if half else 4) if structure.last else 0)

    def tile_bytes(self, structure: Structure, height: int, width: int, half: bool, rows: Optional[int] = None) -> int:
        # Its allocator takes about twice as much as lives at once: the measured rule of docs/directml.md.
        pixels = structure.pixels(height, width)
        weights = self.weight_bytes(structure, half)
        if structure.last:
            share = structure.features / 64
            # What bands of 16 rows take was measured, and what the whole last stage takes: between them by the rows.
            further = max(min(rows or 0, height // structure.unshuffle) - self.capabilities.band_rows, 0)
            band = (12_000 if half else 22_000) * further * (width // structure.unshuffle)
            trunk = (3_000 if half else 10_000) * pixels
            return weights + int(share * (trunk + band)) + (64 if half else 32) * 2**20
        # Not measured: twice what lives at once, as was measured for RRDBNet. All rows of the end at once are in it.
        channels = 4 * structure.features + structure.scale**2 * 9
        return weights + 2 * (2 if half else 4) * channels * pixels + 32 * 2**20


def _library() -> Any:
    """The package torch_directml, imported when it is first asked for."""
    return importlib.import_module("torch_directml")


def _needed_torch() -> Optional[str]:
    """The version of torch that the installed torch-directml was made for."""
    try:
        wanted = metadata.requires("torch-directml") or []
    except metadata.PackageNotFoundError:
        return None
    found = (re.match(r"torch\s*\(?==\s*([\w.]+)", line) for line in wanted)
    return next((match.group(1) for match in found if match), None)


def _wanted(facts: Mapping[str, Any]) -> bool:
    """On Windows and WSL2, unless there is an NVIDIA card, which CUDA would serve."""
    return bool(facts["system"]["platform"] == "win32" or facts["system"]["wsl"]) and not facts["nvidia"]


def _too_new(facts: Mapping[str, Any]) -> bool:
    return version_numbers(facts["python"]["version"]) > _NEWEST_PYTHON


def _about_package(examined: Examined, wanted: bool) -> Iterator[Finding]:
    """Whether torch-directml, beside a PyTorch that works, is there and works too."""
    facts, package = examined.facts, examined.package
    torch_version, needs, ended = facts["imports"]["torch"]["version"], facts["directml_needs"], facts["ended"]
    if ended and ended["step"] == "import torch_directml":
        yield Finding(
            LIMIT,
            "directml.ended",
            "Python itself ends while torch-directml is imported (status {status}).",
            "Update the graphics driver; then python -m pip install --force-reinstall torch-directml",
            status=ended["status"],
        )
    fits = not needs or torch_version.split("+")[0] == needs
    if not fits:
        yield Finding(
            LIMIT,
            "directml.version",
            "torch {torch} does not fit the installed torch-directml, which needs torch {needs}.",
            _REINSTALL,
            torch=torch_version,
            needs=needs,
        )
    if package is None:
        return
    reason = package.get("reason", "")
    if package["ok"]:
        if not package["adapters"]:
            yield Finding(
                LIMIT,
                "directml.no_adapter",
                "torch-directml finds no DirectX 12 adapter.",
                "Install the driver of your graphics card (amd.com/support) and do not work over Remote Desktop.",
            )
    elif package["error"] == "missing":
        if wanted:
            yield Finding(
                LIMIT,
                "directml.missing",
                "torch-directml is not installed, so the graphics card is not used.",
                "python -m pip install torch-directml, in an environment of its own (python scripts/first_run.py).",
            )
    elif re.search("libd3d12|libdxcore", reason):
        if facts["system"]["wsl"]:
            yield Finding(
                LIMIT,
                "directml.wsl_library",
                "torch-directml does not find Windows' DirectX library libd3d12.so in this WSL.",
                "In Windows: wsl --update, then wsl --shutdown. In WSL /usr/lib/wsl/lib must be in LD_LIBRARY_PATH.",
            )
        else:
            yield Finding(
                LIMIT,
                "directml.not_here",
                "torch-directml is installed, but it works on Windows and WSL2 only (libd3d12.so is not here).",
                "python -m pip uninstall torch-directml, and install the PyTorch for your card (CUDA or ROCm).",
            )
    elif fits and package["error"] != "ended":
        yield Finding(
            LIMIT,
            "directml.broken",
            "torch-directml cannot be imported: {reason}",
            _REINSTALL,
            reason=f"{package['error']}: {reason}",
        )


def _about_cards(examined: Examined) -> Iterator[Finding]:
    devices = examined.devices
    discrete = [device for device in devices if not device["integrated"] and not device["software"]]
    for device in discrete:
        driver = version_numbers(device["driver"])
        if driver and 20 <= driver[0] < _DRIVER_MODEL:
            yield Finding(
                LIMIT,
                "driver.old",
                "The driver of {name} is old ({driver}).",
                "Install the newest one for the card: amd.com/support (RX 400 and 500: the 'Polaris and Vega' driver).",
                name=device["name"],
                driver=device["driver"],
            )
        if device["memory"] and device["memory"] < _SMALL:
            yield Finding(
                NOTE,
                "card.small",
                "{name} has {memory} GB: tiles are small, the large models slow.",
                "Prefer -n realesr-general-x4v3 or -n realesr-animevideov3.",
                name=device["name"],
                memory=f"{device['memory'] / 2**30:.1f}",
            )
    first = next((device for device in devices if device["spec"] == f"{DirectML.name}:0"), None)
    if first and first["integrated"] and discrete:
        yield Finding(
            NOTE,
            "card.integrated_first",
            "DirectML's first adapter is the integrated {first}; this program uses {name} ({spec}) anyway.",
            "Nothing to do. --device dml:0 would use the integrated one.",
            first=first["name"],
            name=discrete[0]["name"],
            spec=discrete[0]["spec"],
        )
    elif devices and all(device["software"] for device in devices):
        yield Finding(
            LIMIT,
            "card.software",
            "DirectML finds only {name}, a software renderer; the CPU is used, which is quicker.",
            "Install the driver of your graphics card.",
            name=devices[0]["name"],
        )
    elif devices and not discrete:
        yield Finding(
            LIMIT,
            "card.integrated_only",
            "DirectML finds only the integrated {name}, which is slow.",
            "If there is a graphics card too: install its driver, and enable it in Windows' graphics settings.",
            name=devices[0]["name"],
        )
