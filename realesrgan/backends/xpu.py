"""XPU: Intel cards, through the XPU build of PyTorch."""

from __future__ import annotations

import re
from typing import List

from ..errors import Phrase
from .base import Capabilities, Device, MissingError, TorchBackend, integrated_name, torch

__all__ = ["XPU"]


class XPU(TorchBackend):
    """See the module."""

    name = "xpu"
    label = "XPU"
    spelling = "xpu"
    remedy = Phrase("device.get_xpu", "install the XPU build of PyTorch and Intel's driver")
    capabilities = Capabilities(channels_last=True)
    out_of_memory = re.compile(r"UR_RESULT_ERROR_OUT_OF")

    def find(self) -> List[Device]:
        library = torch()
        if not (hasattr(library, "xpu") and library.xpu.is_available()):
            raise MissingError(Phrase("device.no_xpu", "PyTorch finds no Intel GPU"), False)
        devices = []
        for index in range(library.xpu.device_count()):
            found = library.xpu.get_device_properties(index)
            name = str(found.name)
            devices.append(Device(self.name, index, name, int(found.total_memory), integrated_name(name)))
        return devices
