"""What Python runs when it starts where this package is installed: it lets ``import basicsr`` work by itself.

Installed beside the package as ``_realesrgan_startup.py``, with a ``realesrgan.pth`` that imports it. It puts one
finder at the end of ``sys.meta_path`` and does nothing more: the finder is asked only for modules that no other finder
has, and answers for one that torchvision no longer has. ``REALESRGAN_STARTUP=0`` leaves it out.
"""

import os
import sys

_MISSING = "torchvision.transforms.functional_tensor"


class _Startup:
    @staticmethod
    def find_spec(fullname, path=None, target=None):
        if fullname != _MISSING:
            return None
        from realesrgan.models import compat  # its import puts the real finder in place

        return compat.spec_of(fullname)


if os.environ.get("REALESRGAN_STARTUP", "1") != "0":
    sys.meta_path.append(_Startup)
