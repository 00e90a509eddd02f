"""Write a list of training pairs: a line "GT, LQ" each, both relative to their roots.

    python scripts/generate_meta_info_pairdata.py --input datasets/DF2K/HR_sub datasets/DF2K/LR_sub \
        --root datasets/DF2K --meta_info datasets/DF2K/meta_info/meta_info_DF2K_sub_pair.txt
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import List, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from generate_meta_info import collect, save_lines

from realesrgan.errors import InputError, RealESRGANError

__all__ = ["main", "pair"]


def pair(gt: Sequence[str], lq: Sequence[str]) -> List[str]:
    """The lines: pictures of the same name (without suffix) belong together.

    Raises:
        InputError: A picture has no partner, or two bear the same name.
    """
    sides = []
    for name, paths in (("high", gt), ("low", lq)):
        by_stem = {Path(path).stem: path for path in paths}
        if len(by_stem) != len(paths):
            raise InputError(f"two pictures of the {name} resolution bear the same name")
        sides.append(by_stem)
    lonely = sorted(set(sides[0]) ^ set(sides[1]))
    if lonely:
        raise InputError(f"{len(lonely)} pictures have no partner of the same name: {', '.join(lonely[:5])}")
    return [f"{sides[0][stem]}, {sides[1][stem]}" for stem in sorted(sides[0])]


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--input", nargs=2, type=Path, required=True, metavar=("GT", "LQ"), help="the two folders")
    parser.add_argument("--root", nargs="+", type=Path, required=True, help="their roots (one for both will do)")
    parser.add_argument("--meta_info", type=Path, required=True, help="the list to write")
    parser.add_argument("--check", action="store_true", help="decode every picture")
    args = parser.parse_args(argv)
    try:
        if len(args.root) > 2:
            raise InputError(f"--root takes one or two folders, not {len(args.root)}")
        lines = pair(*(collect(f, r, args.check) for f, r in zip(args.input, args.root * 2)))
        save_lines(lines, args.meta_info)
    except RealESRGANError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.meta_info}: {len(lines)} pairs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
