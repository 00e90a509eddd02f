"""What Windows knows about the display adapters and DirectML does not say: memory and driver, from the registry."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, List, Optional

__all__ = ["Adapter", "adapters", "total_memory"]

_CLASS_KEY = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


@dataclass(frozen=True)
class Adapter:
    """A display adapter as its driver registered it.

    Attributes:
        name: For example ``"Radeon RX 580 Series"``.
        memory: Dedicated memory in bytes, or None where the driver does not say.
        driver: Version of the driver, or an empty string.
    """

    name: str
    memory: Optional[int]
    driver: str


def adapters() -> List[Adapter]:
    """The display adapters in the registry; empty on other systems or where it cannot be read."""
    try:
        winreg = importlib.import_module("winreg")
    except ImportError:
        return []
    return _read(winreg)


def total_memory(name: str, found: Optional[List[Adapter]] = None) -> Optional[int]:
    """Dedicated memory in bytes of the adapter of this name; the smallest where several cards share the name."""
    wanted = name.strip().lower()
    sizes = [a.memory for a in (adapters() if found is None else found) if a.name.lower() == wanted and a.memory]
    return min(sizes) if sizes else None


def _read(winreg: Any) -> List[Adapter]:
    found: List[Adapter] = []
    try:
        root = winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _CLASS_KEY)
    except OSError:
        return found
    with root:
        index = 0
        while True:
            try:
                name = winreg.EnumKey(root, index)
            except OSError:
                return found
            index += 1
            # The class's folder also contains "Configuration" and "Properties", which may refuse to be opened.
            if not name.isdigit():
                continue
            try:
                with winreg.OpenKey(root, name) as key:
                    found.append(_adapter(winreg, key))
            except OSError:
                continue


def _adapter(winreg: Any, key: Any) -> Adapter:
    def value(name: str) -> Any:
        try:
            return winreg.QueryValueEx(key, name)[0]
        except OSError:
            return None

    memory = value("HardwareInformation.qwMemorySize")
    if isinstance(memory, bytes):
        memory = int.from_bytes(memory[:8], "little")
    name = value("DriverDesc")
    if not name:
        raise OSError("an adapter without a name")
    return Adapter(str(name).strip("\0 "), int(memory) if memory else None, str(value("DriverVersion") or ""))
