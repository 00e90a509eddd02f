"""The training-pair pool: lets the pictures of one batch differ in how they were degraded.

A batch is degraded as a whole (one resize factor for all), so without the pool every batch would contain one kind of
degradation. The pool keeps the last pairs; each batch leaves its own there and takes others away.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import torch

from realesrgan.errors import InputError

__all__ = ["PairPool"]


def _pack(pictures: Optional[torch.Tensor]) -> Optional[torch.Tensor]:
    """As bytes where that loses nothing (8-bit sources, the rule): a quarter of the size in a saved state."""
    if pictures is None:
        return None
    pictures = pictures.cpu()
    small = (pictures * 255.0).round().clamp(0, 255).to(torch.uint8)
    return small if torch.equal(_unpack(small), pictures) else pictures.clone()


def _unpack(stored: torch.Tensor) -> torch.Tensor:
    return stored.float() / 255.0 if stored.dtype == torch.uint8 else stored


class PairPool:
    """Exchanges pairs of low and high resolution.

    Args:
        size: Pairs to keep (``queue_size``); 0 keeps none and hands every batch back as it is.
    """

    def __init__(self, size: int) -> None:
        if size < 0:
            raise InputError(f"option 'queue_size' is a number of pairs from 0, not {size}")
        self.size = size
        self.count = 0
        self.lq: Optional[torch.Tensor] = None
        self.gt: Optional[torch.Tensor] = None

    def exchange(self, lq: torch.Tensor, gt: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Leave a batch and take one of the same size.

        While the pool fills, the batch itself comes back. From then on each pair is drawn from the pool, without
        repetition, and the new pairs take the places of those drawn.

        Raises:
            InputError: The batch is larger than the pool.
        """
        batch = lq.shape[0]
        if self.size == 0:
            return lq, gt
        if batch > self.size:
            raise InputError(f"option 'queue_size' ({self.size}) must contain a whole batch ({batch} pairs)")
        if self.lq is None or self.gt is None:
            self.lq = lq.new_zeros((self.size, *lq.shape[1:]))
            self.gt = gt.new_zeros((self.size, *gt.shape[1:]))
        if self.count < self.size:
            taken = min(batch, self.size - self.count)
            self.lq[self.count : self.count + taken] = lq[:taken]
            self.gt[self.count : self.count + taken] = gt[:taken]
            self.count += taken
            return lq, gt
        places = torch.randperm(self.size)[:batch].to(lq.device)
        drawn = self.lq[places], self.gt[places]
        self.lq[places] = lq
        self.gt[places] = gt
        return drawn

    def state_dict(self) -> Dict[str, Any]:
        """What :meth:`load_state_dict` accepts, on the CPU."""
        return {"size": self.size, "count": self.count, "lq": _pack(self.lq), "gt": _pack(self.gt)}

    def load_state_dict(self, state: Dict[str, Any], device: torch.device) -> None:
        """Go on with the pairs of a saved pool.

        Raises:
            InputError: It was saved with another ``queue_size``.
        """
        if state["size"] != self.size:
            raise InputError(f"the saved state has a queue_size of {state['size']}, the options say {self.size}")
        self.count = state["count"]
        self.lq = None if state["lq"] is None else _unpack(state["lq"]).to(device)
        self.gt = None if state["gt"] is None else _unpack(state["gt"]).to(device)
