"""What the driver keeps of a cluster's work: no Ray, but something that answers as its actors do."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Optional

import pytest

from realesrgan.batch import pool, report
from realesrgan.batch.plan import BatchOptions, Job
from realesrgan.errors import DeviceError
from realesrgan.files.naming import Source
from realesrgan.tools.cluster import workers

COUNT = 300


class RayTaskError(Exception):
    """An actor's method raised."""


class Ray:
    """Answers in threads, after a moment, as Ray does; counts what is being asked at once, and keeps no answer."""

    exceptions = SimpleNamespace(RayTaskError=RayTaskError)

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(4)
        self.lock = threading.Lock()
        self.now = 0
        self.most = 0
        self.answers: List[weakref.ref[Answer]] = []

    def kill(self, actor: Any) -> None:
        actor.killed = True


class Answer:
    """An object reference."""

    def __init__(self, ray: Ray, result: Any) -> None:
        self._future: Future[Any] = Future()
        ray.answers.append(weakref.ref(self))

        def end() -> None:
            with ray.lock:
                ray.now -= 1
            if isinstance(result, Exception):
                self._future.set_exception(result)
            else:
                self._future.set_result(result)

        with ray.lock:
            ray.now += 1
            ray.most = max(ray.most, ray.now)
        ray.threads.submit(end)

    def future(self) -> Future[Any]:
        return self._future


class Actor:
    """A handle; ``errors`` are raised for the pictures with these numbers."""

    def __init__(self, ray: Ray, lost_at: Optional[int] = None, fails_at: Optional[int] = None) -> None:
        self.ray, self.lost_at, self.fails_at, self.killed = ray, lost_at, fails_at, False
        self.plan = SimpleNamespace(remote=lambda options: None)
        self.stop = SimpleNamespace(remote=lambda: None)
        self.do = SimpleNamespace(remote=lambda planned, job: self.answer(job, job.names.path(".png"), b""))
        self.do_carried = SimpleNamespace(
            remote=lambda planned, job, data: self.answer(job, Path("elsewhere/result.png"), data[::-1])
        )

    def answer(self, job: Job, output: Path, data: bytes) -> Answer:
        if self.lost_at is not None and job.index >= self.lost_at:
            return Answer(self.ray, RuntimeError("the actor died"))
        if job.index == self.fails_at:
            return Answer(self.ray, RayTaskError("a defect"))
        record = report.Record("elsewhere", report.DONE, str(output))
        return Answer(self.ray, (record, "", None, data))


def play(tmp_path: Path, ray: Ray, *actors: Actor, carrier: Any = None) -> Any:
    (tmp_path / "in").mkdir()
    sources = []
    for number in range(COUNT):
        path = tmp_path / "in" / f"{number:03}.png"
        path.write_bytes(b"<%d" % number)
        sources.append(Source(path, Path(path.name)))
    threads = ThreadPoolExecutor(4)
    team = [
        workers.RayWorker(ray, actor, f"cpu #{number}", {}, carrier, threads) for number, actor in enumerate(actors)
    ]
    with report.ReportWriter(tmp_path / "r.jsonl") as writer:
        result = pool.run(sources, team, BatchOptions(tmp_path / "out"), writer=writer)
    threads.shutdown()
    assert all(actor.killed for actor in actors)
    return result


@pytest.mark.parametrize("carrier", [None, workers.Carrier()])
def test_what_is_under_way_is_bounded_and_every_answer_is_let_go(tmp_path: Path, carrier: Any) -> None:
    ray = Ray()
    result = play(tmp_path, ray, *[Actor(ray) for _ in range(5)], carrier=carrier)
    assert result.ok and result.done == COUNT and len(ray.answers) == COUNT
    assert 0 < ray.most <= 5 * workers.DEPTH
    ray.threads.shutdown()
    gc.collect()
    assert not [answer for answer in ray.answers if answer() is not None]
    records = report.load(tmp_path / "r.jsonl")
    assert [Path(record.input).name for record in records] == [f"{number:03}.png" for number in range(COUNT)]
    if carrier is not None:
        assert (tmp_path / "out" / "007_out.png").read_bytes() == b"7<"


def test_a_lost_actor_and_a_defect(tmp_path: Path) -> None:
    ray = Ray()
    result = play(tmp_path, ray, Actor(ray, lost_at=20), Actor(ray))
    assert result.ok and result.done == COUNT
    ray = Ray()
    (tmp_path / "two").mkdir()
    result = play(tmp_path / "two", ray, Actor(ray, fails_at=9), Actor(ray, fails_at=9))
    assert result.done == COUNT - 1
    assert [(Path(record.input).name, record.error_code) for record in result.failed] == [("009.png", "worker.failed")]


def test_a_file_that_cannot_be_carried_fails_alone(tmp_path: Path) -> None:
    class Broken(workers.Carrier):
        def read(self, job: Job) -> bytes:
            if job.index == 3:
                raise PermissionError(13, "Permission denied")
            if job.index == 4:
                raise RuntimeError("the store's own error")
            return super().read(job)

        def write(self, target: Path, data: bytes) -> None:
            if target.name.startswith("005"):
                raise RuntimeError("the store is full")
            super().write(target, data)

    ray = Ray()
    result = play(tmp_path, ray, Actor(ray), Actor(ray), carrier=Broken())
    failed = {Path(record.input).name: str(record.error_text) for record in result.failed}
    assert result.done == COUNT - 3 and set(failed) == {"003.png", "004.png", "005.png"}
    assert "no permission" in failed["003.png"] and "the store is full" in failed["005.png"]


class Resources:
    """A cluster whose devices are free only after so many questions."""

    def __init__(self, offered: float, free_after: float = 1e9) -> None:
        self.offered, self.asked, self.free_after = offered, 0, free_after
        made = SimpleNamespace(describe=SimpleNamespace(remote=lambda: "described"))
        self.remote = lambda cls: SimpleNamespace(options=lambda **needs: SimpleNamespace(remote=lambda given: made))
        self.wait = lambda refs, **more: (refs, [])
        self.get = lambda ref: {"device": "cpu"}

    def cluster_resources(self) -> Any:
        return {"CPU": 4.0, "cpu": self.offered} if self.offered else {"CPU": 4.0}

    def available_resources(self) -> Any:
        self.asked += 1
        return {"CPU": 4.0, "cpu": self.offered if self.asked > self.free_after else 0.0}


def test_a_device_that_another_run_uses_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Resources(1.0, 5)
    (worker,) = workers.Team(ray, {}, None).first()
    assert worker.name == "cpu #1" and ray.asked > 5
    monkeypatch.setattr(workers, "_PATIENCE", 0.5)
    with pytest.raises(DeviceError) as raised:
        workers.Team(Resources(1.0), {}, None).first()
    assert raised.value.code == "cluster.busy"
    ray = Resources(0.0)
    with pytest.raises(DeviceError) as raised:
        workers.Team(ray, {}, None).first()
    assert raised.value.code == "cluster.none" and ray.asked <= 3, "nothing to wait for"
