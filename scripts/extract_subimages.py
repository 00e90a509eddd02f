"""Cut large pictures into overlapping square parts, so that training reads less for each patch.

    python scripts/extract_subimages.py --input datasets/DF2K/multiscale --output datasets/DF2K/multiscale_sub \
        --crop_size 400 --step 200
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import picture_jobs

from realesrgan.cli.options import whole
from realesrgan.data.sources import FolderSource
from realesrgan.errors import InputError, RealESRGANError

__all__ = ["Cutter", "main", "starts"]


def starts(length: int, size: int, step: int, threshold: int) -> List[int]:
    """Where the parts begin: every ``step``, and a last one at the edge if more than ``threshold`` would be left."""
    places = list(range(0, length - size + 1, step))
    if not places:
        return []
    if length - (places[-1] + size) > threshold:
        places.append(length - size)
    return places


@dataclass(frozen=True)
class Cutter:
    """Cuts one picture; parts are named NAME_s001.png, NAME_s002.png, …"""

    root: Path
    output: Path
    size: int
    step: int
    threshold: int
    compression: int

    def __call__(self, path: Path) -> int:
        pixels = picture_jobs.read(path)
        folder = self.output / path.relative_to(self.root).parent
        count = 0
        for top in starts(pixels.shape[0], self.size, self.step, self.threshold):
            for left in starts(pixels.shape[1], self.size, self.step, self.threshold):
                count += 1
                part = pixels[top : top + self.size, left : left + self.size]
                picture_jobs.write(folder / f"{path.stem}_s{count:03d}.png", part, self.compression)
        return count


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--input", type=Path, required=True, help="folder with pictures")
    parser.add_argument("--output", type=Path, required=True, help="folder for the parts; must not exist")
    parser.add_argument("--crop_size", type=whole(1), default=480, help="side of a part (480)")
    parser.add_argument("--step", type=whole(1), default=240, help="from part to part (240)")
    parser.add_argument("--thresh_size", type=whole(0), default=0, help="ignore rests of so many pixels and less (0)")
    parser.add_argument("--compression_level", type=whole(0, 9), default=3, metavar="0..9", help="of PNG (3)")
    parser.add_argument("--n_thread", type=whole(1), default=4, help="processes (4)")
    args = parser.parse_args(argv)
    try:
        if args.output.exists():
            raise InputError(f"{args.output} exists already: remove it, or name another folder")
        paths = [args.input / key for key in FolderSource(args.input).names()]
        job = Cutter(args.input, args.output, args.crop_size, args.step, args.thresh_size, args.compression_level)
        return picture_jobs.run(job, paths, args.n_thread, "Cutting")
    except RealESRGANError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
