"""``realesrgan cluster`` and ``realesrgan cluster-node``: the driver, and the start of a machine."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from realesrgan.batch import pool, report
from realesrgan.cli import messages
from realesrgan.cli import options as cli_options
from realesrgan.cli import run as cli_run
from realesrgan.cli import video as cli_video
from realesrgan.cli.console import INTERRUPTED, Console, prepare_streams, status_of
from realesrgan.errors import InputError, RealESRGANError, one_line
from realesrgan.files.naming import Source
from realesrgan.tools import python_path

from . import videos
from .store import Store, is_address, local
from .workers import Carrier, Team

__all__ = ["Crew", "import_ray", "main", "node", "parse"]

_QUIET = {
    # Ray's own reports to its makers, and its remarks on a machine's memory and on ports.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags of the main command, and those of a cluster.

    Raises:
        SystemExit: Wrong usage (status 2), or ``--help`` (status 0).
    """
    parser = cli_options.build_parser("realesrgan cluster")
    _add_cluster(parser)
    return parser.parse_args(parser.canonical(arguments))  # type: ignore[no-any-return]


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "cluster", "With -i FILM.mp4, or a folder of videos, the flags are those of 'realesrgan video' and these."
    )
    group.add_argument("--address", help="auto, HOST:PORT or ray://HOST:10001 (default: start Ray on this machine)")
    group.add_argument(
        "--carry", action="store_true", help="carry files with the work: the machines need not share the folders"
    )


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the driver; exit status as the main command's."""
    prepare_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if videos.are_meant(words):
            return _drive_videos(videos.parse(words, _add_cluster))
        options = parse(words)
    except SystemExit as end:
        return status_of(end)
    with Console(options.lang or messages.system_language(), options.verbose) as console:
        try:
            if not options.model_path:
                options.model_name = cli_options.model_name(options.model_name)
            return _drive(options, console)
        except RealESRGANError as error:
            console.error(error)
            return status_of(error)
        except KeyboardInterrupt:
            return INTERRUPTED


def _drive(options: argparse.Namespace, console: Console) -> int:
    ray = import_ray()
    options.input = [local(item) for item in options.input]
    options.output = local(str(options.output))
    stores = [item for item in options.input if is_address(item)]
    if stores and len(stores) < len(options.input):
        raise InputError(
            "Addresses of a store and paths cannot be mixed after -i: give them to two runs.", code="cluster.mixed"
        )
    with tempfile.TemporaryDirectory(prefix="realesrgan-plan-") as planned:
        crew = Crew(ray, options)
        if stores or is_address(options.output):
            if not stores:
                raise InputError(
                    f"The output {options.output} is in a store, the input is not: copy the input there first.",
                    code="cluster.output",
                    output=options.output,
                )
            address = options.output
            if is_address(address):
                if options.resume and options.report is None:
                    raise InputError(
                        "--resume with results in a store keeps its report here: name it with --report.",
                        code="cluster.report",
                    )
                options.output = planned
            crew.carrier = crew.store = Store(stores, address, options.recursive, Path(options.output))
        elif options.carry:
            crew.carrier = Carrier()
        try:
            return cli_run.upscale(options, console, crew)
        finally:
            crew.close()
            if ray.is_initialized():
                ray.shutdown()


def _drive_videos(options: argparse.Namespace) -> int:
    def connected() -> Any:
        ray = import_ray()
        _connect(ray, options)
        return ray

    team = videos.VideoTeam(connected, options.carry)
    try:
        return cli_video.run_with(options, team)
    finally:
        team.close()


class Crew(cli_run.Team):
    """The actors of a cluster."""

    team = Team

    def __init__(self, ray: Any, options: argparse.Namespace) -> None:
        self._ray = ray
        self._options = options
        self._team: Optional[Team] = None
        self.carrier: Optional[Carrier] = None
        self.store: Optional[Store] = None

    def sources(self, options: argparse.Namespace) -> Optional[List[Source]]:
        return None if self.store is None else list(self.store.sources)

    def start(self, arguments: Mapping[str, Any], count: int) -> List[pool.Worker]:
        _connect(self._ray, self._options)
        self._team = self.team(self._ray, cli_run.worker_arguments(arguments, self._options), self.carrier)
        first = self._team.first()
        self.more = self._team.more
        return first

    def close(self) -> None:
        """Let go of Ray's objects, before Ray is shut down."""
        if self._team is not None:
            self._team.close()

    def left(self, sources: List[Source], digest: str) -> List[Source]:
        if self.store is None or not self._options.resume or self._options.report is None:
            return sources
        return self.store.left(report.load(self._options.report), digest)


def _connect(ray: Any, options: argparse.Namespace) -> None:
    settings: Dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if options.address is None:
        specs = Counter(pool.devices_for(options.device or "auto"))
        settings.update(
            address="local",  # not a cluster that this machine happens to be a part of
            resources={spec: float(count) for spec, count in specs.items()},
            num_gpus=0,
            include_dashboard=False,
            runtime_env={"env_vars": {"PYTHONPATH": python_path()}},
        )
    else:
        settings["address"] = options.address
    try:
        ray.init(**settings)
    except Exception as error:
        raise RealESRGANError(
            f"The cluster at {options.address or 'this machine'} cannot be used: {one_line(error)[:300]}",
            code="cluster.connect",
            address=options.address or "127.0.0.1",
            reason=error,
        ) from error


def import_ray() -> Any:
    """The module, with its reports to its makers switched off.

    Raises:
        InputError: It is not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f"A cluster needs Ray, which cannot be imported ({one_line(error)}). Install it: pip install ray.",
            code="cluster.missing",
            reason=error,
        ) from error
    return ray


def node(argv: Optional[Sequence[str]] = None) -> int:
    """Run ``realesrgan cluster-node``: start Ray on this machine with a resource for each device; until Ctrl-C."""
    prepare_streams()
    parser = argparse.ArgumentParser(
        prog="realesrgan cluster-node",
        description="Offers this machine's devices to a cluster. The first machine is started with --head.",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--head", action="store_true", help="begin a cluster here; the others give --address HOST:6379")
    where.add_argument("--address", help="HOST:PORT of the machine that was started with --head")
    parser.add_argument("--device", default="all", help="devices to offer: all, or a list such as dml:0,dml:1")
    parser.add_argument("--lang", choices=messages.LANGUAGES, help="language (default: the system's)")
    try:
        options = parser.parse_args(argv)
    except SystemExit as end:
        return status_of(end)
    lang = options.lang or messages.system_language()
    try:
        import_ray()
        specs = Counter(pool.devices_for(options.device))
    except RealESRGANError as error:
        print(messages.render(error, lang), file=sys.stderr)
        return 1
    said = messages.phrase("cluster.node", "This machine offers: {devices}. Ctrl-C ends it.", devices=sorted(specs))
    print(messages.render(said, lang), flush=True)
    resources = json.dumps({spec: float(count) for spec, count in specs.items()})
    program = shutil.which("ray", path=str(Path(sys.executable).parent)) or shutil.which("ray") or "ray"
    command = [program, "start", "--block", "--disable-usage-stats", "--num-gpus", "0", "--resources", resources]
    command += ["--head", "--include-dashboard", "false"] if options.head else ["--address", options.address]
    try:
        return subprocess.call(command, env={**os.environ, "PYTHONPATH": python_path()})
    except KeyboardInterrupt:
        return 0
