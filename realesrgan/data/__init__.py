"""Training data. Importing this package imports nothing: training registers what it needs when it starts."""

from __future__ import annotations

from typing import List

__all__: List[str] = []
