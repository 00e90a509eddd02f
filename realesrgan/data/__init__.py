"""Training data. Importing this package imports nothing: training registers what it needs when it starts."""

from __future__ import annotations

__all__ = ["KERNEL_KEYS"]

#: Options of a data set for the blur kernels of a stage; those of the second stage end in 2.
KERNEL_KEYS = "blur_kernel_size kernel_list kernel_prob sinc_prob blur_sigma betag_range betap_range"
