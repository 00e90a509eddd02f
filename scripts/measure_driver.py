"""What handing out pictures costs on a large cluster: the real driver, real Ray, and stand-ins that only wait.

    python scripts/measure_driver.py                          # 1,000 workers that are done at once: the most it can do
    python scripts/measure_driver.py --seconds 12             # 1,000 workers that take 12 s for a picture
    python scripts/measure_driver.py --workers 64 --players 1 # as many processes as workers

Real are: listing the folder, the plan, `realesrgan cluster`'s own handing out, Ray's calls, the records, the report.
Not real: the work. An actor loads no network, reads and writes no picture; it waits and answers with a record of the
usual size. One actor's process plays many workers (--players), each of which waits by itself; the driver knows each
as a worker of its own. Ray's nodes are all on this machine (ray.cluster_utils), so the network is not measured.

CPU seconds are those of the driver's process, of Ray's node managers (raylet) and of its head (gcs), from the first
picture handed out to the end of the run, by the system's own count: they hardly depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar, Dict, List, Mapping

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realesrgan.batch import report
from realesrgan.batch.plan import Job
from realesrgan.batch.worker import DEPTH
from realesrgan.cli import messages
from realesrgan.cli import run as cli_run
from realesrgan.cli.console import Console
from realesrgan.tools.cluster import command, workers

ROOT = Path(__file__).resolve().parent.parent
DESCRIBED = {
    "device": "cpu",
    "backend": "cpu",
    "name": "stand-in",
    "precision": "fp16",
    "tile": 512,
    "memory": None,
    "model": "RealESRGAN_x4plus",
    "weights_sha256": "0" * 64,
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000, help="workers that the driver sees (default: 1000)")
    parser.add_argument("--players", type=int, default=50, help="workers that one process plays (default: 50)")
    parser.add_argument("--nodes", type=int, default=4, help="nodes of Ray beside its head (default: 4)")
    parser.add_argument("--count", type=int, default=20000, help="pictures (default: 20000)")
    parser.add_argument("--seconds", type=float, default=0.0, help="that a worker takes for a picture (default: 0)")
    parser.add_argument("--carry", type=int, default=0, metavar="KB", help="carry files of so many KB, and back")
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON as well")
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


class StandIn:
    """Has an actor's methods; a picture takes a while and leaves a record."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        # A worker has DEPTH pictures under way, and each waits for those before it.
        self._seconds = DEPTH * float(os.environ["STAND_IN_SECONDS"])

    def describe(self) -> Dict[str, Any]:
        return DESCRIBED

    def plan(self, *_: Any) -> None:
        """Nothing is to be known."""

    async def do(self, planned: None, job: Job, *_: Any) -> Any:
        await asyncio.sleep(self._seconds)
        return self._record(job), "", None, b""

    async def do_carried(self, planned: None, job: Job, *values: Any) -> Any:
        await asyncio.sleep(self._seconds)
        data = next(value for value in values if isinstance(value, bytes))
        return self._record(job), "", None, data

    def stop(self) -> None:
        """Nothing is under way that could be dropped."""

    @staticmethod
    def _record(job: Job) -> report.Record:
        source, options = str(job.source.path), "0" * 16
        return report.Record(
            source,
            report.DONE,
            source.replace("/in/", "/out/"),
            0.02,
            0.24,
            0.15,
            "cuda:0",
            "RealESRGAN_x4plus",
            "pypi",
            "fp16",
            (512, 512),
            32,
            8,
            (1920, 1080),
            (7680, 4320),
            "RGB",
            412345,
            1764140000123456789,
            3123456,
            1764140000123456789,
            "0" * 16,
            options,
        )


class Worker(workers.RayWorker):
    """One of several that share an actor; notes when the first one begins."""

    began: ClassVar[Dict[str, float]] = {}

    def begin(self, *arguments: Any) -> None:
        if not Worker.began:
            Worker.began.update(now())
        super().begin(*arguments)


class Team(workers.Team):
    """Makes ``players`` workers of each actor."""

    actor = StandIn
    concurrency = 1_000_000
    players = 1
    count = 1

    def first(self) -> List[Any]:
        ready: List[Any] = []
        while len(ready) < self.count:
            ready += super().first()
        return [
            Worker(self._ray, one._actor, f"{one.name}.{number}", one.described, self._carrier, self._threads)
            for number in range(self.players)
            for one in ready
        ]


class Crew(command.Crew):
    team = Team

    def start(self, *arguments: Any) -> Any:
        made = super().start(*arguments)
        self.more = None  # all are there
        return made


def now() -> Dict[str, float]:
    """Wall and CPU seconds of this process, and its memory."""
    process = psutil.Process()
    times = process.cpu_times()
    return {
        "wall": time.perf_counter(),
        "user": times.user,
        "system": times.system,
        "rss": float(process.memory_info().rss),
        "threads": float(process.num_threads()),
    }


def drive(options: argparse.Namespace) -> None:
    """The driver's process: what `realesrgan cluster` does, with other actors."""
    ray = command.import_ray()
    Team.players, Team.count = options.players, -(-options.workers // options.players)
    words = ["-i", str(options.folder / "in"), "-o", str(options.folder / "out"), "--recursive", "--lang", "en"]
    words += ["--report", str(options.folder / "report.jsonl"), "--address", options.drive]
    given = command.parse(words)
    begun = now()
    with Console(messages.system_language(), False) as console:
        crew = Crew(ray, given)
        crew.carrier = workers.Carrier() if options.carry else None
        status = cli_run.upscale(given, console, crew)
        ended = now()
        crew.close()
    found = {f"run_{name}": ended[name] - Worker.began[name] for name in ("wall", "user", "system")}
    found.update({f"before_{name}": Worker.began[name] - begun[name] for name in ("wall", "user", "system")})
    found.update(rss_begun=Worker.began["rss"], rss_ended=ended["rss"], threads=ended["threads"], status=status)
    print(json.dumps(found))


def of_ray() -> Dict[str, float]:
    """CPU seconds of Ray's processes below this one, by what they are, and bytes of what is not a worker."""
    found = {"raylet": 0.0, "gcs": 0.0, "actors": 0.0, "raylet_rss": 0.0, "gcs_rss": 0.0}
    for process in psutil.Process().children(recursive=True):
        try:
            words, times, used = " ".join(process.cmdline()), process.cpu_times(), process.memory_info().rss
        except psutil.Error:
            continue
        for kind, sign in (("raylet", "/raylet/raylet "), ("gcs", "/gcs/gcs_server"), ("actors", "ray::StandIn")):
            found[kind] += (times.user + times.system) * (sign in words)
            if kind != "actors":
                found[f"{kind}_rss"] += used * (sign in words)
    return found


def make_folder(where: Path, options: argparse.Namespace) -> None:
    """Empty files, a thousand in a folder, since nobody reads them; with --carry they have bytes."""
    content = os.urandom(options.carry * 1000)
    for number in range(options.count):
        folder = where / "in" / f"{number // 1000:04}"
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"IMG_{number:08}.jpg").write_bytes(content)


def main() -> None:
    options = parse()
    if options.drive:
        drive(options)
        return
    os.environ.update(
        PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "scripts")]),
        RAY_USAGE_STATS_ENABLED="0",
        STAND_IN_SECONDS=str(options.seconds),
    )
    from ray.cluster_utils import Cluster

    actors = -(-options.workers // options.players)
    with tempfile.TemporaryDirectory() as name:
        make_folder(Path(name), options)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for number in range(options.nodes):
                share = len(range(number, actors, options.nodes))
                cluster.add_node(num_cpus=1, resources={"cpu": share}, object_store_memory=200 * 2**20)
            before = of_ray()
            words = [sys.executable, __file__, "--drive", cluster.address, "--folder", name]
            words += ["--workers", str(options.workers), "--players", str(options.players)]
            words += ["--carry", str(options.carry)]
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=True)
            after = of_ray()
        finally:
            cluster.shutdown()
        lines = (Path(name) / "report.jsonl").read_bytes().count(b"\n")
    found: Dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    show(options, {**found, **{kind: after[kind] - before[kind] for kind in before}, "lines": lines}, actors)


def show(options: argparse.Namespace, found: Dict[str, float], actors: int) -> None:
    count = options.count
    driver = found["run_user"] + found["run_system"]
    print(
        f"{count} pictures, {options.workers} workers played by {actors} processes on {options.nodes} nodes, "
        f"{options.seconds} s a picture" + (f", {options.carry} KB carried there and back" if options.carry else "")
    )
    print(
        f"before the first picture: {found['before_wall']:.1f} s, "
        f"{1e6 * (found['before_user'] + found['before_system']) / count:.0f} us of CPU a picture (list, plan, actors)"
    )
    print(f"run: {found['run_wall']:.1f} s, {count / found['run_wall']:.0f} pictures/s; {found['lines']:.0f} records")
    print(
        f"driver: {1e6 * driver / count:.0f} us of CPU a picture, so at most {count / driver:.0f} a second by one core"
    )
    print(
        f"Ray: node managers {1e6 * found['raylet'] / count:.0f} us a picture, head {1e6 * found['gcs'] / count:.0f} us"
    )
    memory = [f"{found[name] / 1e6:.0f} MB" for name in ("rss_begun", "rss_ended")]
    print(f"driver's memory: {memory[0]} at the first picture, {memory[1]} at the end; {found['threads']:.0f} threads")
    grown = [f"{found[name] / 1e6:+.1f} MB" for name in ("raylet_rss", "gcs_rss")]
    print(f"Ray's memory, from before to after: {options.nodes + 1} node managers together {grown[0]}, head {grown[1]}")
    if options.json:
        print(json.dumps({**vars(options), "folder": None, **found}))
    if found["status"] or found["lines"] != count:
        sys.exit("not every picture was done")


if __name__ == "__main__":
    main()
