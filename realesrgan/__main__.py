"""``python -m realesrgan``: the same program as ``inference_realesrgan.py``."""

from __future__ import annotations

import sys

from realesrgan.cli import main

if __name__ == "__main__":
    sys.exit(main())
