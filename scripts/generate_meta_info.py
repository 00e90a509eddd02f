"""Write a list of training pictures: a line each with the path relative to a root.

    python scripts/generate_meta_info.py --input datasets/DF2K/HR datasets/DF2K/multiscale \
        --root datasets/DF2K datasets/DF2K --meta_info datasets/DF2K/meta_info/meta_info_DF2Kmultiscale.txt --check
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import List, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm import tqdm

from realesrgan.data.sources import SUFFIXES, FolderSource
from realesrgan.errors import InputError, RealESRGANError, one_line
from realesrgan.files.atomic import write_atomically

__all__ = ["collect", "main", "save_lines"]


def collect(folder: Path, root: Path, check: bool) -> List[str]:
    """Paths of the pictures in and below ``folder``, relative to ``root``; with ``check`` only those that decode.

    Raises:
        InputError: There is no such folder, no picture in it, or it is not below the root.
    """
    keys = FolderSource(folder).names()
    try:
        inside = folder.resolve().relative_to(root.resolve())
    except ValueError as error:
        raise InputError(f"{folder} does not lie below its root {root}") from error
    source, lines = FolderSource(folder), []
    for key in tqdm(keys, desc=str(folder), unit="picture", disable=None):
        try:
            if check:
                source.read(source.path_of(key))
        except RealESRGANError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        lines.append((inside / key).as_posix())
    return lines


def save_lines(lines: Sequence[str], path: Path) -> None:
    """Write a list in UTF-8, whole or not at all.

    Raises:
        RealESRGANError: It cannot be written.
    """
    content = "".join(f"{line}\n" for line in lines).encode("utf-8")
    try:
        write_atomically(path, lambda stream: stream.write(content))
    except OSError as error:
        raise RealESRGANError(f"cannot write {path}: {one_line(error)}") from error


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=f"Suffixes: {', '.join(SUFFIXES)}")
    parser.add_argument("--input", nargs="+", type=Path, required=True, help="folders with pictures")
    parser.add_argument("--root", nargs="+", type=Path, required=True, help="the root of each (one for all will do)")
    parser.add_argument("--meta_info", type=Path, required=True, help="the list to write")
    parser.add_argument("--check", action="store_true", help="decode every picture and leave out the broken ones")
    args = parser.parse_args(argv)
    roots = args.root * len(args.input) if len(args.root) == 1 else args.root
    try:
        if len(roots) != len(args.input):
            raise InputError(f"--root takes one folder, or as many as --input ({len(args.input)}), not {len(roots)}")
        lines = [line for folder, root in zip(args.input, roots) for line in collect(folder, root, args.check)]
        save_lines(lines, args.meta_info)
    except RealESRGANError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.meta_info}: {len(lines)} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
