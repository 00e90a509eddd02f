"""Killed at any moment, a run leaves whole files only, and goes on to the same bytes as a run that nobody disturbed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from realesrgan.batch import report
from tests.support.picture_samples import noise, put

ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).parents[1] / "support" / "resume_child.py"
PICTURES = 30
KILLS = 24


def start(mode, seed, folder, output):
    words = [sys.executable, str(CHILD), mode, str(seed), "-i", str(folder), "-o", str(output), "--resume"]
    return subprocess.Popen(
        [*words, "--lang", "en"],
        cwd=str(ROOT),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}


def wait_for(process, word):
    """Read lines until one is ``word``; False if the process ended before, or does not say it in a minute."""
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        return any(line.strip() == word for line in process.stdout)
    finally:
        watchdog.cancel()


def kill(process):
    process.kill()  # SIGKILL; TerminateProcess on Windows
    process.communicate(timeout=60)


def results(output):
    return {path.name: path.read_bytes() for path in sorted(output.iterdir()) if path.suffix == ".png"}


def test_kill_and_resume_give_the_bytes_of_an_undisturbed_run(tmp_path):
    folder, output, undisturbed = tmp_path / "in", tmp_path / "out", tmp_path / "undisturbed"
    for index in range(PICTURES):
        put(folder / f"{index:02}.png", noise(8 + index, 12, 3, seed=index))

    whole = start("plain", 0, folder, undisturbed)
    text, _ = whole.communicate(timeout=120)
    assert whole.returncode == 0, text
    expected = results(undisturbed)
    assert len(expected) == PICTURES

    dice = random.Random(11)
    inside = killed = 0
    for attempt in range(3 * KILLS):
        if killed >= KILLS and inside >= KILLS // 2:
            break
        if len(results(output) if output.exists() else {}) > PICTURES // 2:
            # Enough is left to be killed in only if some of it is done again.
            for path in dice.sample(sorted(output.glob("*.png")), PICTURES // 2):
                path.unlink()
        process = start("stall" if attempt % 2 == 0 else "slow", attempt, folder, output)
        assert wait_for(process, "begun")
        if attempt % 2 == 0:
            stalled = wait_for(process, "stalled")
            assert stalled, "the run ended before the write that was to be interrupted"
            assert list(output.glob(".*.partial")), "an unfinished file lies beside the results"
            inside += 1
        else:
            time.sleep(dice.random() * 0.5)
        if process.poll() is None:
            killed += 1
        kill(process)
        for name, content in results(output).items() if output.exists() else ():
            assert content == expected[name], f"{name} is not whole after kill {attempt}"
    print(f"{killed} kills, {inside} of them inside a write")
    assert killed >= 20
    assert inside >= 10

    last = start("plain", 0, folder, output)
    text, _ = last.communicate(timeout=120)
    assert last.returncode == 0, text
    assert results(output) == expected
    assert "0 failed" in text
    statuses = {record.status for record in report.load_all(output / "report.jsonl").values()}
    assert statuses == {report.DONE}

    nothing = start("plain", 0, folder, output)
    text, _ = nothing.communicate(timeout=120)
    assert f"0 done, {PICTURES} skipped, 0 failed" in text
