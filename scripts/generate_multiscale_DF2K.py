"""Add smaller versions of high-resolution pictures to a training set.

python scripts/generate_multiscale_DF2K.py --input datasets/DF2K/HR --output datasets/DF2K/multiscale
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import picture_jobs

from realesrgan.cli.options import whole
from realesrgan.data.sources import FolderSource
from realesrgan.errors import RealESRGANError

__all__ = ["Shrinker", "main"]

FACTORS = (0.75, 0.5, 1 / 3)


@dataclass(frozen=True)
class Shrinker:
    """Makes NAMET0.png, NAMET1.png, … of one picture: by each factor, and one whose short side is ``shortest``."""

    root: Path
    output: Path
    shortest: int

    def __call__(self, path: Path) -> int:
        pixels = picture_jobs.read(path)
        height, width = pixels.shape[:2]
        # The smallest one keeps the proportions, whatever the size of the original.
        factors = [*FACTORS, self.shortest / min(height, width)]
        folder, made = self.output / path.relative_to(self.root).parent, 0
        for number, factor in enumerate(factors):
            if factor > 1:
                continue  # it is small enough as it is
            size = (max(1, round(width * factor)), max(1, round(height * factor)))
            smaller = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            picture_jobs.write(folder / f"{path.stem}T{number}.png", smaller)
            made += 1
        return made


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--input", type=Path, required=True, help="folder with pictures")
    parser.add_argument("--output", type=Path, required=True, help="folder for the smaller ones")
    parser.add_argument("--shortest_edge", type=whole(1), default=400, help="short side of the smallest version (400)")
    parser.add_argument("--n_thread", type=whole(1), default=4, help="processes (4)")
    args = parser.parse_args(argv)
    try:
        paths = [args.input / key for key in FolderSource(args.input).names()]
        return picture_jobs.run(
            Shrinker(args.input, args.output, args.shortest_edge), paths, args.n_thread, "Shrinking"
        )
    except RealESRGANError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
