"""Time and memory of a run."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from realesrgan import devices
from realesrgan.batch import monitor
from realesrgan.batch.monitor import Monitor

MB = 1 << 20


def test_resident_memory_follows_what_is_held():
    before = monitor.resident()
    assert before is not None
    block = np.ones(64 * MB, np.uint8)
    held = monitor.resident()
    assert 48 * MB <= held - before <= 96 * MB
    assert monitor.peak_resident() >= held
    del block


@pytest.mark.skipif(os.name == "nt", reason="the resource module is there on POSIX only")
def test_systems_without_proc_are_answered_too(monkeypatch, tmp_path):
    expected = monitor.peak_resident()
    monkeypatch.setattr(monitor, "_STATUS", tmp_path / "none")
    assert abs(monitor.peak_resident() - expected) < 16 * MB


def test_a_peak_between_two_samples_is_seen():
    """The interval is longer than the test: only the system's own mark can know."""
    script = (
        "import numpy as np\n"
        "from realesrgan.batch.monitor import Monitor\n"
        "with Monitor(interval=1000) as m:\n"
        "    before = m.samples[0].resident\n"
        "    np.ones(96 << 20, np.uint8)\n"
        "print(m.totals().resident - before)\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert int(out.stdout) > 64 * MB


def test_samples_are_taken_in_a_thread_that_ends():
    values = iter(range(10**6))
    several = threading.Event()

    def memory():
        value = next(values)
        if value > 5:
            several.set()
        return value

    before = threading.active_count()
    with Monitor(interval=0.001, memory=memory) as watched:
        assert several.wait(20)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert [taken.resident for taken in watched.samples] == list(range(len(watched.samples)))
    assert watched.totals().resident == len(watched.samples) - 1


def test_each_picture_has_its_own_peak_and_the_run_the_largest(monkeypatch):
    held = {"resident": 10}
    card = {"used": 1, "peak": 0}
    monkeypatch.setattr(devices, "memory_used", lambda device: card["used"])
    monkeypatch.setattr(devices, "peak_memory", lambda device: card["peak"])
    monkeypatch.setattr(devices, "reset_peak_memory", lambda device: card.update(peak=0))
    with Monitor(devices.Device("cpu", 0, "x"), interval=1000, memory=lambda: held["resident"]) as watched:
        for name, resident, peak in (("a", 500, 70), ("b", 200, 30)):
            watched.begin(name)
            held["resident"] = resident
            watched.sample()
            card["peak"] = peak
            held["resident"] = 10
            watched.end(name)
            watched.add(name, 0.5, 2.0, 0.25)
    assert [(use.name, use.resident, use.device_memory) for use in watched.pictures] == [("a", 500, 70), ("b", 200, 30)]
    totals = watched.totals()
    assert (totals.read, totals.device, totals.write) == (1.0, 4.0, 0.5)
    assert (totals.resident, totals.device_memory) == (500, 70)


def test_what_nobody_tells_is_unknown():
    with Monitor(interval=1000, memory=lambda: None) as watched:
        watched.begin("a")
        watched.end("a")
        watched.add("a", 1, 2, 3)
    lines = watched.table().splitlines()
    assert lines[0].split() == ["picture", "read", "s", "device", "s", "write", "s", "resident", "device", "memory"]
    assert lines[1].split() == ["a", "1.00", "2.00", "3.00", "unknown", "unknown"]
    assert lines[2].startswith("the run")
    assert lines[3].startswith("wall time")


def test_a_device_that_fails_to_answer_ends_nothing(monkeypatch):
    def lost(device):
        raise RuntimeError("device removed")

    for name in ("memory_used", "peak_memory", "reset_peak_memory"):
        monkeypatch.setattr(devices, name, lost)
    with Monitor(devices.Device("cpu", 0, "x"), interval=1000) as watched:
        pass
    assert watched.totals().device_memory is None


def test_a_long_table_shows_both_ends():
    with Monitor(interval=1000) as watched:
        for index in range(100):
            watched.add(f"p{index}", 0, 0, 0)
    names = [line.split()[0] for line in watched.table(rows=4).splitlines()]
    assert names == ["picture", "p0", "p1", "...", "p98", "p99", "the", "wall"]


def test_samples_are_bounded(monkeypatch):
    monkeypatch.setattr(monitor, "_KEPT", 8)
    with Monitor(interval=1000, memory=lambda: 1) as watched:
        for _ in range(100):
            watched.sample()
        assert len(watched.samples) <= 9
        assert watched.interval > 1000
        times = [taken.seconds for taken in watched.samples]
    assert times == sorted(times)


def test_every_sample_in_a_table_of_commas(tmp_path):
    values = iter([1, None, 3, 4, 5])
    with Monitor(interval=1000, memory=lambda: next(values)) as watched:
        watched.sample()
    watched.write_csv(tmp_path / "그림.csv")
    with (tmp_path / "그림.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["seconds", "resident_bytes", "device_bytes"]
    assert [row[1:] for row in rows[1:]] == [["1", ""], ["", ""], ["3", ""]]
    assert [float(row[0]) for row in rows[1:]] == sorted(float(row[0]) for row in rows[1:])
