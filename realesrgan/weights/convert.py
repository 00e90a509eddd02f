"""``python -m realesrgan.weights.convert in.pth out.safetensors``: into a form that cannot contain code."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Optional, Sequence

from realesrgan.errors import InputError, RealESRGANError, one_line
from realesrgan.files.atomic import write_atomically
from realesrgan.weights import checkpoints

__all__ = ["convert", "main"]

logger = logging.getLogger(__name__)


def convert(source: Path, target: Path, *, trust: bool = False) -> None:
    """Write the parameters of a checkpoint as a new ``.safetensors`` file.

    Raises:
        WeightsError: ``source`` cannot be loaded (see :func:`realesrgan.weights.checkpoints.read`), or the library
            is missing.
        InputError: ``target`` does not end in ``.safetensors``, exists, or cannot be written.
    """
    if target.suffix.lower() != ".safetensors" or target.exists():
        raise InputError(
            f"The target is a new file whose name ends in .safetensors, not {target}.",
            code="weights.convert_target",
            path=str(target),
        )
    state = checkpoints.read(source, trust=trust).state_dict
    content = checkpoints.safetensors_library(target).save(state)
    try:
        write_atomically(target, lambda stream: stream.write(content))
    except OSError as error:
        raise InputError(
            f"{target} cannot be written: {one_line(error)}.",
            code="weights.convert_write",
            path=target,
            reason=error,
        ) from error


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m realesrgan.weights.convert", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--trust-weights", action="store_true", help="trust whoever made the source")
    options = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        convert(options.source, options.target, trust=options.trust_weights)
    except RealESRGANError as error:
        logger.error("%s", error)
        return 1
    logger.info("%s", options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
