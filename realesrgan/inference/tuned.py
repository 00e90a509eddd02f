"""What ``realesrgan tune`` found: the tile and the precision that suit a device best, kept in a file of the user's.

An entry counts only for the device, its driver, the PyTorch (or ncnn) and the version of this package that it was
measured with. Neither is imported here; the version is read from the package's metadata.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .. import __version__
from ..backends import BACKENDS
from ..backends.base import installed_version
from ..devices import available
from ..errors import InputError, Phrase, notice, one_line
from ..files import atomic, naming, paths
from ..weights import folders

if TYPE_CHECKING:
    from ..archs.structure import Structure
    from ..devices import Device

__all__ = [
    "VARIABLE",
    "Choice",
    "Entry",
    "forget",
    "location",
    "lookup",
    "quickest",
    "say_used",
    "store",
    "structure_key",
]

logger = logging.getLogger(__name__)

VARIABLE = "REALESRGAN_PROFILE"
"""Environment variable: another file, or ``off``."""
_INPUTS = frozenset((*naming.PICTURE_SUFFIXES, ".pth", ".safetensors", ".bin", ".param"))
"""Suffixes of files that are no profiles, whatever they contain."""
_FORMAT = 1
_PRECISIONS = {"fp16": True, "fp32": False}
_MEASURED_WITH = ("driver", "torch", "realesrgan")
_TEXTS = ("device", "structure", *_MEASURED_WITH)
_SIDES = range(16, 8193)
_BLOCKS = range(1, 513)
_QUICKER = 1.1
"""Another device is used if it is this many times as quick."""


@dataclass(frozen=True)
class Choice:
    """A way to run a network on a device.

    Attributes:
        tile: Side of a tile without its padding.
        half: Measured in FP16.
        rate: Input pixels a second.
        kernels: Shapes of our own kernels' blocks by role; see :data:`realesrgan.inference.cuda_conv.SHAPES`.
    """

    tile: int
    half: bool
    rate: float
    kernels: Mapping[str, Tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """What is known of one network on one device: at most one choice for each precision.

    ``torch`` is what :func:`library_version` gives.
    """

    device: str
    structure: str
    driver: str
    torch: str
    realesrgan: str
    choices: Tuple[Choice, ...]

    def best(self, half: Optional[bool]) -> Optional[Choice]:
        """The quickest choice; True or False: of those that were measured in that precision."""
        fitting = [choice for choice in self.choices if half is None or choice.half == half]
        return max(fitting, key=lambda choice: choice.rate, default=None)

    def as_json(self) -> Dict[str, Any]:
        """As the file keeps it."""
        choices = {
            "fp16" if choice.half else "fp32": {"tile": choice.tile, "rate": choice.rate, "kernels": choice.kernels}
            for choice in self.choices
        }
        return {**{name: getattr(self, name) for name in _TEXTS}, "choices": choices}


def location() -> Optional[Path]:
    """The file of the profile; None where it is switched off or there is no folder for it."""
    named = os.environ.get(VARIABLE, "")
    if named:
        return None if named.lower() == "off" else Path(named)
    base = folders.user_folder("config")
    return base / "profile.json" if base is not None else None


def structure_key(structure: Structure) -> str:
    """A few words by which networks of equal cost are known, for example ``rrdbnet x4 /1 64+32 16697987``."""
    features = f"{structure.features}+{structure.growth}"
    return f"{structure.family} x{structure.scale} /{structure.unshuffle} {features} {structure.weights}"


def torch_version() -> str:
    """PyTorch's version from its metadata, or an empty string."""
    return installed_version("torch") or ""


def library_version(device: Device) -> str:
    """The version of what runs networks on a device: PyTorch's, or ncnn's with its name before it."""
    if device.capabilities.through_torch:
        return torch_version()
    version = installed_version(device.kind.package)
    return f"{device.kind.package} {version}" if version else ""


def quickest(device: Device, structure: Structure, half: Optional[bool], exclude: Sequence[Device] = ()) -> Device:
    """The device on which tuning found a network quickest; ``device`` where it knows of no quicker one.

    Args:
        device: What would be used without a profile.
        half: See :meth:`Entry.best`.
        exclude: Devices that were found unfit.
    """
    own = lookup(device, structure, half)
    if own is None:
        return device
    best, rate = device, own.rate
    key = structure_key(structure)
    for entry in _entries():
        backend, _, name = entry.device.partition(" ")
        found = entry.best(half)
        if entry.structure != key or backend not in BACKENDS or backend == device.backend:
            continue
        if found is None or found.rate <= _QUICKER * rate:
            continue
        for other in available(backend).devices:
            usable = other.name == name and not other.software and other not in exclude
            if usable and _what_changed(entry, other) is None:
                best, rate = other, found.rate
                break
    if best is not device:
        notice(
            logger,
            "profile.quicker",
            f"{best.label} is used on {best.name}: 'realesrgan tune' found it {rate / own.rate:.1f} times as quick as "
            f"{device.label}. --device {device.backend} or --no-profile overrides it.",
            level=logging.INFO,
            once=True,
            quicker=best.label,
            device=best.name,
            times=f"{rate / own.rate:.1f}",
            usual=device.label,
            flag=device.backend,
        )
    return best


def lookup(device: Device, structure: Structure, half: Optional[bool]) -> Optional[Choice]:
    """What was found best for a network on a device, None if nothing valid is known.

    Args:
        half: See :meth:`Entry.best`.

    A profile that cannot be read or does not fit any more is ignored, and said so once.
    """
    wanted = _device_key(device), structure_key(structure)
    entry = next((entry for entry in _entries() if (entry.device, entry.structure) == wanted), None)
    if entry is None:
        return None
    changed = _what_changed(entry, device)
    if changed:
        notice(
            logger,
            "profile.stale",
            f"The tuned profile of {device.name} is not used: {changed}. Run 'realesrgan tune' again.",
            once=True,
            device=device.name,
            reason=changed,
        )
        return None
    return entry.best(half)


def _entries() -> List[Entry]:
    """What the profile holds; nothing where there is none, or where it cannot be read, which is said once."""
    path = location()
    if path is None or not path.is_file():
        return []
    try:
        return _read(path)
    except (OSError, ValueError) as error:
        notice(
            logger,
            "profile.corrupt",
            f"The profile {path} cannot be read ({one_line(error)}) and is ignored. 'realesrgan tune' writes it again.",
            once=True,
            path=path,
            reason=error,
        )
        return []


def _device_key(device: Device) -> str:
    """The backend and the name, without the index, which changes when a card is added."""
    return f"{device.backend} {device.name}"


def _what_changed(entry: Entry, device: Device) -> Optional[Phrase]:
    now = {"driver": device.driver, "torch": library_version(device), "realesrgan": __version__}
    for name in _MEASURED_WITH:
        then = getattr(entry, name)
        if then != now[name]:
            before, after = then or "?", now[name] or "?"
            told = f"it was measured with {name} {before}, now it is {after}"
            return Phrase("profile.changed", told, name=name, before=before, after=after)
    return None


def say_used(device: Device, choice: Choice) -> None:
    """Tell the user, once, that a run follows the profile."""
    precision = "FP16" if choice.half else "FP32"
    notice(
        logger,
        "profile.used",
        f"Tiles of {choice.tile} pixels in {precision}, as 'realesrgan tune' found best for {device.name}.",
        level=logging.INFO,
        once=True,
        device=device.name,
        tile=choice.tile,
        precision=precision,
    )


def store(device: Device, structure: Structure, choices: List[Choice]) -> Path:
    """Keep what was measured, in place of what was known of this network on this device.

    Returns:
        The file.

    Raises:
        InputError: There is no file to write to, or it is no profile.
        OSError: It cannot be written.
    """
    path = location()
    if path is None:
        raise InputError(
            f"There is no place for the profile: {VARIABLE} is 'off', or there is no home folder.",
            code="profile.nowhere",
            variable=VARIABLE,
        )
    entry = Entry(
        device=_device_key(device),
        structure=structure_key(structure),
        driver=device.driver,
        torch=library_version(device),
        realesrgan=__version__,
        choices=tuple(replace(choice, rate=round(choice.rate, 1)) for choice in choices),
    )
    paths.check_regular(path, VARIABLE)
    if path.suffix.lower() in _INPUTS and path.exists():
        raise InputError(
            f"{VARIABLE} names {path}, a picture or weights, which is left as it is. Name another file.",
            code="profile.other_file",
            variable=VARIABLE,
            path=str(path),
        )
    try:
        entries = _read(path) if path.is_file() else []
    except (OSError, ValueError):
        entries = []  # lookup() has said so, or will
    kept = [old for old in entries if (old.device, old.structure) != (entry.device, entry.structure)]
    document = {"format": _FORMAT, "entries": [each.as_json() for each in [*kept, entry]]}
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    atomic.write_atomically(path, lambda stream: stream.write(text.encode("utf-8")))
    return path


def forget() -> Optional[Path]:
    """Remove the profile; gives the file that was there, or None.

    Raises:
        OSError: It cannot be removed.
    """
    path = location()
    if path is None or not path.is_file():
        return None
    path.unlink()
    return path


def _read(path: Path) -> List[Entry]:
    """The entries of a profile.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not a profile.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or not isinstance(document.get("entries"), list):
        raise ValueError(Phrase("profile.no_entries", "it has no entries"))
    if document.get("format") != _FORMAT:
        form = repr(document.get("format"))
        raise ValueError(
            Phrase("profile.format", f"its format is {form}, not {_FORMAT}", format=form, expected=_FORMAT)
        )
    return [_entry(values) for values in document["entries"]]


def _entry(values: Any) -> Entry:
    if not isinstance(values, dict) or not all(isinstance(values.get(name), str) for name in _TEXTS):
        names = ", ".join(_TEXTS)
        raise ValueError(Phrase("profile.lacks", f"an entry lacks one of {names}", names=names))
    choices = values.get("choices")
    if not isinstance(choices, dict):
        raise ValueError(Phrase("profile.no_choices", "an entry has no choices"))
    return Entry(**{name: values[name] for name in _TEXTS}, choices=tuple(map(_choice, choices, choices.values())))


def _choice(name: Any, found: Any) -> Choice:
    """One precision's choice; sizes that cannot have been measured are refused."""
    numbers: Dict[str, Any] = found if isinstance(found, dict) else {}
    tile, rate = numbers.get("tile"), numbers.get("rate")
    if name not in _PRECISIONS or type(tile) is not int or tile not in _SIDES:
        raise ValueError(Phrase("profile.tile", f"{name!r} has the tile {tile!r}", name=name, tile=repr(tile)))
    if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 < rate < float("inf"):
        raise ValueError(Phrase("profile.rate", f"{name!r} has the rate {rate!r}", name=name, rate=repr(rate)))
    return Choice(tile, _PRECISIONS[name], float(rate), _shapes(name, numbers.get("kernels", {})))


def _shapes(name: str, kernels: Any) -> Dict[str, Tuple[int, ...]]:
    """Shapes of blocks: five numbers each, which :func:`realesrgan.inference.cuda_conv.fits` judges further."""
    shapes = kernels.items() if isinstance(kernels, dict) else [("", kernels)]
    for role, shape in shapes:
        numbers = shape if isinstance(shape, list) else []
        if not role or len(numbers) != 5 or any(type(n) is not int or n not in _BLOCKS for n in numbers):
            raise ValueError(
                Phrase("profile.kernels", f"{name!r} has the kernels {kernels!r}", name=name, kernels=repr(kernels))
            )
    return {role: tuple(shape) for role, shape in shapes}
