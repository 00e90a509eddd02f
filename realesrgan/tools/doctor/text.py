"""The doctor's sentences: what is found, and the next step. Their Korean is in :mod:`realesrgan.cli.ko`.

A finding ``CODE`` has its Korean sentences under ``doctor.CODE`` and ``doctor.CODE.next``.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Tuple

from realesrgan.cli import messages
from realesrgan.errors import Phrase, as_field

__all__ = ["FINDINGS", "finding", "pack", "reason"]

#: Code -> what is found, and the next step.
FINDINGS: Dict[str, Tuple[str, str]] = {
    "directml.missing": (
        "torch-directml is not installed, so the graphics card is not used.",
        "python -m pip install torch-directml, in an environment of its own (python scripts/first_run.py).",
    ),
    "directml.version": (
        "torch {torch} does not fit the installed torch-directml, which needs torch {needs}.",
        "python -m pip install --force-reinstall torch-directml, or a fresh environment (scripts/first_run.py).",
    ),
    "directml.wsl_library": (
        "torch-directml does not find Windows' DirectX library libd3d12.so in this WSL.",
        "In Windows: wsl --update, then wsl --shutdown. In WSL /usr/lib/wsl/lib must be in LD_LIBRARY_PATH.",
    ),
    "directml.not_here": (
        "torch-directml is installed, but it works on Windows and WSL2 only (libd3d12.so is not here).",
        "python -m pip uninstall torch-directml, and install the PyTorch for your card (CUDA or ROCm).",
    ),
    "directml.broken": (
        "torch-directml cannot be imported: {reason}",
        "python -m pip install --force-reinstall torch-directml, or a fresh environment (scripts/first_run.py).",
    ),
    "directml.ended": (
        "Python itself ends while torch-directml is imported (status {status}).",
        "Update the graphics driver; then python -m pip install --force-reinstall torch-directml",
    ),
    "directml.no_adapter": (
        "torch-directml finds no DirectX 12 adapter.",
        "Install the driver of your graphics card (amd.com/support) and do not work over Remote Desktop.",
    ),
    "cuda.cpu_torch": (
        "There is an NVIDIA card ({card}), but this PyTorch ({torch}) is built without CUDA.",
        "Install the CUDA build: python -m pip install torch --index-url https://download.pytorch.org/whl/cu126",
    ),
    "cuda.driver": (
        "There is an NVIDIA card ({card}, driver {driver}), but PyTorch {torch} (CUDA {cuda}) cannot use it.",
        "Update NVIDIA's driver; a card older than this PyTorch supports needs an older PyTorch.",
    ),
    "linux.amd": (
        "There is an AMD card ({card}); on Linux DirectML does not exist, and this PyTorch is not the ROCm build.",
        "python -m pip install ncnn: the card is then used through Vulkan (driver: mesa-vulkan-drivers).",
    ),
    "driver.basic": (
        "Windows drives a card with {name}: its own driver is not installed.",
        "Install the driver of the card (amd.com/support, nvidia.com/drivers, intel.com).",
    ),
    "driver.old": (
        "The driver of {name} is old ({driver}).",
        "Install the newest one for the card: amd.com/support (RX 400 and 500: the 'Polaris and Vega' driver).",
    ),
    "card.small": (
        "{name} has {memory} GB: tiles are small, the large models slow.",
        "Prefer -n realesr-general-x4v3 or -n realesr-animevideov3.",
    ),
    "card.integrated_first": (
        "DirectML's first adapter is the integrated {first}; this program uses {name} ({spec}) anyway.",
        "Nothing to do. --device dml:0 would use the integrated one.",
    ),
    "card.integrated_only": (
        "DirectML finds only the integrated {name}, which is slow.",
        "If there is a graphics card too: install its driver, and enable it in Windows' graphics settings.",
    ),
    "card.software": (
        "DirectML finds only {name}, a software renderer; the CPU is used, which is quicker.",
        "Install the driver of your graphics card.",
    ),
    "device.refused": (
        "{reason}",
        "Leave --device out to let the program choose.",
    ),
    "device.ended": (
        "The process ended while the device was tried (status {status}).",
        "Update the graphics driver; until then use --device cpu.",
    ),
    "device.failed": (
        "The test failed: {reason}",
        "Update the graphics driver; until then use --device cpu.",
    ),
    "device.wrong": (
        "{device} computes wrong pictures: {difference} of 255 levels off with {model}.",
        "Update the graphics driver, use --device cpu, and please send a report (--report doctor.json).",
    ),
    "python.bits": (
        "This Python is a {bits}-bit one; PyTorch exists for 64 bits only.",
        "Install the 64-bit Python 3.11 from python.org.",
    ),
    "python.new": (
        "Python {version} is too new for torch-directml (3.8 to 3.12), so the graphics card cannot be used.",
        "python -m pip install ncnn (Vulkan), or Python 3.11 and: py -3.11 scripts/first_run.py",
    ),
    "windows.old": (
        "Windows build {build} is too old for DirectML (16299, that is Windows 10 version 1709, or newer).",
        "Update Windows.",
    ),
    "library.missing": (
        "{name} is not installed.",
        "python -m pip install {package}",
    ),
    "library.broken": (
        "{name} cannot be imported: {reason}",
        "python -m pip install --force-reinstall {package}, best in a fresh environment (scripts/first_run.py).",
    ),
    "library.runtime": (
        "{name} cannot be imported because the Microsoft Visual C++ runtime is missing ({reason}).",
        "Install https://aka.ms/vs/17/release/vc_redist.x64.exe and open a new console.",
    ),
    "library.ended": (
        "Python itself ends while {name} is imported (status {status}).",
        "Reinstall it in a fresh environment: python scripts/first_run.py",
    ),
    "torch.none": (
        "PyTorch is not installed: Vulkan works without it; DirectML, CUDA and the CPU do not.",
        "Nothing, unless you need them: python scripts/first_run.py --torch",
    ),
    "torch.missing": (
        "PyTorch is not installed.",
        "python scripts/first_run.py, or the command that pytorch.org shows.",
    ),
    "torch.missing_directml": (
        "PyTorch is not installed.",
        "python -m pip install torch-directml (it brings the PyTorch that fits), or python scripts/first_run.py",
    ),
    "environment": (
        "The environment variable {name} is '{value}'.",
        "Remove it to let the program choose the device.",
    ),
    "cpu.only": (
        "No graphics card is used: the CPU does the work, which takes minutes for a large picture.",
        "The small models are quickest there: -n realesr-general-x4v3 or -n realesr-animevideov3.",
    ),
    "half.off": (
        "FP16 is not reliable on this device: {reason}",
        "Nothing to do: FP32 is used.",
    ),
    "weights.damaged": (
        "The weights of {name} are damaged: {reason}",
        "Delete the file; it is fetched again.",
    ),
    "weights.none": (
        "No weights are available yet; the first run downloads them.",
        "For a machine without internet: python -m realesrgan --download-models, elsewhere.",
    ),
    "disk.results": (
        "Only {free} are free where results go.",
        "Make room, or give another folder with -o.",
    ),
    "disk.weights": (
        "Only {free} are free where weights go.",
        "Make room; all models together take 230 MB.",
    ),
    "disk.temporary": (
        "Only {free} are free for temporary files.",
        "Make room on that disk.",
    ),
    "memory.low": (
        "This machine has {memory} of main memory.",
        "Close other programs; large pictures may not fit.",
    ),
    "profile.none": (
        "The tile size is a rule of thumb so far.",
        "realesrgan tune measures what is best on this machine.",
    ),
}


def finding(code: str, fields: Mapping[str, Any]) -> Tuple[Phrase, Phrase]:
    """What is found and the next step."""
    what, step = FINDINGS[code]
    return messages.phrase(f"doctor.{code}", what, **fields), messages.phrase(f"doctor.{code}.next", step, **fields)


def pack(error: Any) -> Dict[str, Any]:
    """An error or a phrase as JSON keeps it: ``reason``, the English text, and ``said``, by which it is translated."""
    field = as_field(error)
    return {"reason": str(field), "said": _packed(field)}


def reason(entry: Mapping[str, Any]) -> Any:
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
