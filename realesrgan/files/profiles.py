"""What colours mean: ICC profiles as bytes, and profiles made of what PNG, HEIC and AVIF say without one."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Callable, Dict, Optional, Tuple

import numpy as np

__all__ = ["Color", "icc_fits", "icc_space"]

#: Chromaticities x, y of red, green, blue and white by their code in ITU-T H.273.
_PRIMARIES: Dict[int, Tuple[float, ...]] = {
    1: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}
_PRIMARIES[7] = _PRIMARIES[6]
_VIDEO = (1, 6, 14, 15)
_SRGB = 13
_HDR = {16: "PQ", 18: "HLG"}


def _linear_of_srgb(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _linear_of_video(value: np.ndarray) -> np.ndarray:
    return np.where(value < 0.081, value / 4.5, ((value + 0.099) / 1.099) ** (1 / 0.45))


@dataclass(frozen=True)
class Color:
    """The colour space of a picture without an ICC profile.

    Attributes:
        cicp: Codes of primaries and transfer in ITU-T H.273, as in PNG's ``cICP`` and in HEIC and AVIF.
        gamma: The exponent of the file, as in PNG's ``gAMA`` (0.45455 for most).
        chromaticities: x, y of white, red, green and blue, as in PNG's ``cHRM``.
        srgb: PNG's ``sRGB``: the rendering intent.
    """

    cicp: Optional[Tuple[int, int]] = None
    gamma: Optional[float] = None
    chromaticities: Optional[Tuple[float, ...]] = None
    srgb: Optional[int] = None

    @property
    def name(self) -> str:
        """What a user calls it, for a note."""
        if self.cicp is None:
            return "gAMA/cHRM"
        return _HDR.get(self.cicp[1], f"cICP-{self.cicp[0]}-{self.cicp[1]}")

    @property
    def plain(self) -> bool:
        """Whether it is sRGB, or so near to it that viewers show it as that."""
        if self.cicp is not None:
            return self.cicp[0] in (1, 2) and self.cicp[1] in (_SRGB, 2, *_VIDEO)
        gamma = self.gamma is None or abs(self.gamma - 0.45455) < 0.005
        return self.srgb is not None or (gamma and self._near_srgb())

    def _near_srgb(self) -> bool:
        wanted = _PRIMARIES[1][6:] + _PRIMARIES[1][:6]
        found = self.chromaticities
        return found is None or all(abs(a - b) < 0.005 for a, b in zip(found, wanted))

    def profile(self, mode: str) -> Optional[bytes]:
        """An ICC profile for ``L``, ``LA``, ``RGB`` or ``RGBA``; None where it is sRGB or cannot be made (PQ, HLG)."""
        if self.plain:
            return None
        curve = self._curve()
        primaries = _PRIMARIES.get(self.cicp[0]) if self.cicp else _PRIMARIES[1]
        if self.cicp is None and self.chromaticities is not None:
            primaries = self.chromaticities[2:] + self.chromaticities[:2]
        if curve is None or primaries is None:
            return None
        try:
            return _make_profile(primaries, curve, grey=mode.startswith("L"))
        except (np.linalg.LinAlgError, ZeroDivisionError, OverflowError, struct.error):
            return None  # chromaticities that are no triangle

    def _curve(self) -> Optional[bytes]:
        """ICC's curve from stored values to light."""
        gamma = {4: 2.2, 5: 2.8, 8: 1.0}.get(self.cicp[1]) if self.cicp else 1 / self.gamma if self.gamma else None
        if gamma is not None:
            code = round(gamma * 256)
            return b"curv\0\0\0\0" + struct.pack(">IHH", 1, code, 0) if 0 < code < 65536 else None
        linear: Callable[[np.ndarray], np.ndarray] = _linear_of_srgb
        if self.cicp is not None and self.cicp[1] not in (_SRGB, 2):
            if self.cicp[1] not in _VIDEO:
                return None
            linear = _linear_of_video
        table: np.ndarray = np.rint(linear(np.linspace(0, 1, 1024)) * 65535).astype(">u2")
        return b"curv\0\0\0\0" + struct.pack(">I", 1024) + table.tobytes()


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _make_profile(primaries: Tuple[float, ...], curve: bytes, grey: bool) -> bytes:
    """An ICC profile of version 2 with a curve and, for colour, the primaries adapted to D50 by Bradford's matrix."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1.0, 0.8249])
    points = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in zip(primaries[::2], primaries[1::2])]).T
    white, columns = points[:, 3], points[:, :3]
    columns = columns * np.linalg.solve(columns, white)
    adapt = np.linalg.solve(bradford, np.diag((bradford @ d50) / (bradford @ white)) @ bradford)
    columns = adapt @ columns
    text = b"from the picture's colour tags\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz(*d50),
    }
    if grey:
        tags[b"kTRC"] = curve
    else:
        for number, name in enumerate((b"r", b"g", b"b")):
            tags[name + b"XYZ"], tags[name + b"TRC"] = _xyz(*columns[:, number]), curve
    offset = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    space = b"GRAY" if grey else b"RGB "
    head = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(body), bytes(4), 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    return (head + _xyz(*d50)[8:]).ljust(128, b"\0") + table + body


def icc_space(icc: bytes) -> Optional[str]:
    """The colour space that an ICC profile is for (``RGB``, ``GRAY``, ``CMYK`` ...); None if it is no profile."""
    if len(icc) < 132 or icc[36:40] != b"acsp":
        return None
    return icc[16:20].decode("latin-1").strip()


def icc_fits(icc: bytes, mode: str) -> bool:
    """Whether a profile may be attached to a picture of ``mode`` (``L``, ``LA``, ``RGB``, ``RGBA``)."""
    return icc_space(icc) == ("GRAY" if mode.startswith("L") else "RGB")
