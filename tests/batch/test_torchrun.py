"""A folder shared out by the real torchrun, with a tiny network: every picture once, the bytes of one process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from realesrgan.batch import report
from tests.support import networks
from tests.support.picture_samples import noise, put

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "inference_realesrgan.py"
PICTURES = 7
DAMAGED = "0.png"


def environment():
    """One thread each, and no answers but the loopback's."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    windows = {"USE_LIBUV": "0"} if os.name == "nt" else {}  # PyTorch for Windows has no libuv
    return {**kept, **windows, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", "CUDA_VISIBLE_DEVICES": ""}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def torchrun(*words):
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    if os.name == "nt":  # with an address torchrun asks for libuv, whatever USE_LIBUV says
        return start(*launcher, "--standalone", PROGRAM, *words)
    return start(*launcher, "--master-addr", "127.0.0.1", "--master-port", free_port(), PROGRAM, *words)


def start(*words):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=str(ROOT),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=240,
        check=False,
    )


def prepare(tmp_path):
    """A folder of pictures and a checkpoint; the words that all runs share.

    Every second picture is small, one of those damaged, and the others are large: the first of two shares ends with an
    error while the second is at work, and torchrun ends every process as soon as one ends with an error.
    """
    folder, weights = tmp_path / "in", tmp_path / "tiny.pth"
    for index in range(PICTURES):
        side = 300 if index % 2 else 9 + index
        put(folder / f"{index}.png", noise(side, side + 3, 3, seed=index))
    (folder / DAMAGED).write_bytes(b"no picture")
    torch.save({"params": networks.srvgg().state_dict()}, weights)
    return folder, ["-i", folder, "--model_path", weights, "--trust-weights", "--device", "cpu", "--lang", "en"]


def results(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def test_two_processes_do_every_picture_once_and_alike(tmp_path):
    folder, words = prepare(tmp_path)
    alone = start(PROGRAM, *words, "-o", tmp_path / "alone")
    assert alone.returncode == 1, alone.stdout
    shared = torchrun(*words, "-o", tmp_path / "shared", "--report", tmp_path / "run.jsonl")
    assert shared.returncode != 0, "the status of the share with the damaged picture is lost"

    expected = results(tmp_path / "alone")
    assert len(expected) == PICTURES - 1
    assert results(tmp_path / "shared") == expected, shared.stdout
    shares = [report.load(tmp_path / f"run.{number}-of-2.jsonl") for number in (1, 2)]
    names = [[Path(record.input).name for record in records] for records in shares]
    assert sorted(names[0] + names[1]) == sorted(path.name for path in folder.iterdir())
    assert min(map(len, names)) >= PICTURES // 2
    failed = [Path(record.input).name for record in shares[0] + shares[1] if record.status != report.DONE]
    assert failed == [DAMAGED]
