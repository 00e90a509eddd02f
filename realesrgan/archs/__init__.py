"""The networks: plain ``torch.nn`` modules under the names that checkpoints and scripts know.

Importing this package imports nothing else, so that :mod:`realesrgan.weights.zoo` can describe networks where torch
is absent.
"""

from __future__ import annotations

from typing import List

__all__: List[str] = []
