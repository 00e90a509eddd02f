"""The stand-in in processes of their own: subprocesses, spawned workers, and a process that dies."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import torch, torch_directml
device = torch_directml.device()
total = (torch.ones(4).to(device) * 2).sum().item()
print(total, torch_directml.device_name(0).strip("\\0"))
"""
DYING = WORK + "torch.zeros(2, 2).to(device).flip(-1)"


def run(code: str, environment: dict) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)


def events(path: Path) -> list:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_subprocess_finds_it(directml_env, tmp_path):
    record = tmp_path / "record.jsonl"
    done = run(WORK, directml_env(record=str(record)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1) == ["8.0", "Radeon RX 580 Series\n"]
    seen = events(record)
    assert [e["event"] for e in seen] == ["imported", "opened", "exit"]
    assert seen[-1]["operations"]["mul"] == 1 and seen[-1]["dtypes"] == {"torch.float32": 5}


def test_ends_kill_the_process(directml_env, tmp_path):
    record = tmp_path / "record.jsonl"
    done = run(DYING, directml_env(ends="kill", record=str(record)))
    assert done.returncode not in (0, 1) and "8.0" not in done.stderr
    assert "flip" in next(e for e in events(record) if e["event"] == "ended")["reason"]


def test_broken_in_a_subprocess(directml_env):
    done = run(WORK, directml_env(import_error="libd3d12"))
    assert "OSError: libd3d12.so: cannot open shared object file" in done.stderr


def _worker(queue) -> None:
    import torch
    import torch_directml

    try:
        queue.put((torch.ones(2).to(torch_directml.device()) + 1).cpu().tolist())
    except RuntimeError as error:
        queue.put(str(error))


def test_spawned_workers(directml_with, tmp_path):
    """The first worker loses the device, the next one has it again; their parent never opens it."""
    context = multiprocessing.get_context("spawn")
    answers = []
    with directml_with(lost_after=1, once=str(tmp_path / "lost")) as simulation:
        for _ in range(2):
            queue = context.Queue()
            worker = context.Process(target=_worker, args=(queue,))
            worker.start()
            answers.append(queue.get(timeout=60))
            worker.join(60)
        assert simulation.opened_by is None
    assert answers == ["Unknown error -2005270523", [2.0, 2.0]]


FORKING = """
import os, torch, torch_directml
x = torch.ones(2).to(torch_directml.device())
child = os.fork()
if child == 0:
    try:
        x + 1
    except BaseException as error:
        os._exit(7 if type(error).__name__ == "ProcessEnded" else 8)
    os._exit(0)
assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 7
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_told(directml_env):
    done = run(FORKING, directml_env())
    assert done.returncode == 0, done.stderr
