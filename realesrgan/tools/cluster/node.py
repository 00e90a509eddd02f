"""``realesrgan cluster-node``: offers this machine's devices to a cluster."""

from __future__ import annotations

from .command import node as main

__all__ = ["main"]
