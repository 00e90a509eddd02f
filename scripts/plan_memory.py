"""What the plan of a run costs for each picture, before the first one is read: memory and CPU time, for made names.

    python scripts/plan_memory.py                       # 100,000 and 1,000,000 names
    python scripts/plan_memory.py --counts 10000 --files  # empty files, so that listing the folder is measured too

Names are like those of cameras, a thousand in a folder. Each count is measured in a fresh process.
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path, PurePath
from typing import List

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realesrgan.batch.plan import BatchOptions
from realesrgan.batch.run import make_plan
from realesrgan.files import listing
from realesrgan.files.naming import Source


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--files", action="store_true", help="make the files, and list them as the program does")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def sources(root: Path, count: int, files: bool) -> List[Source]:
    names = [f"{number // 1000:04}/IMG_{number:08}.jpg" for number in range(count)]
    if not files:
        return [Source(Path(os.path.join(root, name)), PurePath(name)) for name in names]  # noqa: PTH118
    return listing.list_pictures([root], recursive=True)


def measure(count: int, files: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        root, output = Path(name) / "in", Path(name) / "out"
        for number in range(count if files else 0):
            folder = root / f"{number // 1000:04}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"IMG_{number:08}.jpg").touch()
        marks = [(resident(), time.process_time())]
        found = sources(root, count, files)
        marks.append((resident(), time.process_time()))
        plan = make_plan(found, BatchOptions(output), {})
        marks.append((resident(), time.process_time()))
        travelling = len(pickle.dumps(plan.outputs.names(found[0])))
    steps = [
        f"{(after[0] - before[0]) / count:.0f} bytes and {1e6 * (after[1] - before[1]) / count:.0f} us of CPU"
        for before, after in zip(marks, marks[1:])
    ]
    whole = (marks[2][0] - marks[0][0]) / 1e6
    print(
        f"{len(found)} names: {'listing' if files else 'sources'} {steps[0]} a picture, plan {steps[1]} a picture, "
        f"together {whole:.0f} MB; a picture takes {travelling} bytes of it along to a worker",
        flush=True,
    )


def main() -> None:
    options = parse()
    if options.one:
        measure(options.one, options.files)
        return
    for count in options.counts:
        words = [sys.executable, __file__, "--one", str(count), *(["--files"] if options.files else [])]
        subprocess.run(words, check=True)


if __name__ == "__main__":
    main()
