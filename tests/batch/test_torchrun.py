"""Shares and waiting under torchrun; a folder shared out by the real one, with a tiny network."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from realesrgan.batch import report, torchrun
from tests.support import networks
from tests.support.picture_samples import noise, put

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "inference_realesrgan.py"
PICTURES = 7
UNDER_TORCHRUN = {"TORCHELASTIC_USE_AGENT_STORE": "True", "WORLD_SIZE": "3", "RANK": "1"}
# PyTorch for Windows has no libuv. With --master-addr torchrun 2.4 asks for it whatever USE_LIBUV says; with
# --standalone it keeps no store by which a share that ends with an error waits for the others.
STANDALONE = os.name == "nt"
DAMAGED = [] if STANDALONE else ["0.png"]


def environment():
    """One thread each, and no answers but the loopback's."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    windows = {"USE_LIBUV": "0"} if STANDALONE else {}
    return {**kept, **windows, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", "CUDA_VISIBLE_DEVICES": ""}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def under_torchrun(*words):
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    if STANDALONE:
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
    for name in DAMAGED:
        (folder / name).write_bytes(b"no picture")
    torch.save({"params": networks.srvgg().state_dict()}, weights)
    return folder, ["-i", folder, "--model_path", weights, "--trust-weights", "--device", "cpu", "--lang", "en"]


def results(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def has_localhost():
    try:
        return bool(socket.getaddrinfo("localhost", None))
    except OSError:
        return False


@pytest.mark.skipif(not has_localhost(), reason="the name localhost is unknown, and torchrun asks for it")
def test_two_processes_do_every_picture_once_and_alike(tmp_path):
    folder, words = prepare(tmp_path)
    alone = start(PROGRAM, *words, "-o", tmp_path / "alone")
    assert alone.returncode == len(DAMAGED), alone.stdout
    shared = under_torchrun(*words, "-o", tmp_path / "shared", "--report", tmp_path / "run.jsonl")
    assert bool(shared.returncode) == bool(DAMAGED), "the status of the share with the damaged picture is lost"

    expected = results(tmp_path / "alone")
    assert len(expected) == PICTURES - len(DAMAGED)
    assert results(tmp_path / "shared") == expected, shared.stdout
    shares = [report.load(tmp_path / f"run.{number}-of-2.jsonl") for number in (1, 2)]
    names = [[Path(record.input).name for record in records] for records in shares]
    assert sorted(names[0] + names[1]) == sorted(path.name for path in folder.iterdir())
    assert min(map(len, names)) >= PICTURES // 2
    failed = [Path(record.input).name for record in shares[0] + shares[1] if record.status != report.DONE]
    assert failed == DAMAGED


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({"RANK": "1", "WORLD_SIZE": "3"}, (2, 3)),
        ({}, (1, 1)),
        ({"RANK": "3", "WORLD_SIZE": "3"}, (1, 1)),
        ({"RANK": "x", "WORLD_SIZE": "3"}, (1, 1)),
    ],
)
def test_the_share_of_a_process(environment, share):
    assert torchrun.shard(environment) == share


class Store:
    """Counts; at each look after the first ``add`` one more process has ended."""

    def __init__(self, ended: int) -> None:
        self.ended = ended
        self.looks = 0

    def add(self, key: str, amount: int) -> int:
        if amount == 0:
            self.looks += 1
            self.ended += 1
        self.ended += amount
        return self.ended


def test_a_failed_share_waits_for_all_others():
    store = Store(ended=0)
    assert torchrun.end_together(1, UNDER_TORCHRUN, store=lambda: store, poll=0) == 1
    assert (store.ended, store.looks) == (3, 2)


def test_a_good_share_says_so_and_ends():
    store = Store(ended=0)
    assert torchrun.end_together(0, UNDER_TORCHRUN, store=lambda: store, poll=0) == 0
    assert (store.ended, store.looks) == (1, 0)


@pytest.mark.parametrize(
    ("status", "environment"),
    [
        (1, {}),
        (1, {"RANK": "0", "WORLD_SIZE": "2"}),  # another launcher
        (1, {**UNDER_TORCHRUN, "WORLD_SIZE": "1"}),
        (130, UNDER_TORCHRUN),
    ],
)
def test_nobody_is_asked(status, environment):
    def store():
        raise AssertionError("asked")

    assert torchrun.end_together(status, environment, store=store) == status


def test_a_store_that_goes_away_ends_the_waiting(caplog):
    class Gone(Store):
        def add(self, key: str, amount: int) -> int:
            if amount == 0:
                raise RuntimeError("Connection reset by peer")
            return super().add(key, amount)

    with caplog.at_level(logging.INFO, "realesrgan.batch.torchrun"):
        assert torchrun.end_together(1, UNDER_TORCHRUN, store=lambda: Gone(0), poll=0) == 1
    assert "Connection reset by peer" in caplog.text


@pytest.mark.parametrize(
    ("system", "given", "expected"), [("win32", None, "0"), ("win32", "1", "1"), ("linux", None, None)]
)
def test_the_store_does_without_libuv_on_windows(monkeypatch, system, given, expected):
    from torch import distributed

    seen = []

    def rendezvous(address):
        seen.append((address, os.environ.get("USE_LIBUV")))
        yield Store(ended=2), 1, 3

    monkeypatch.setenv("USE_LIBUV", given or "")
    if given is None:
        monkeypatch.delenv("USE_LIBUV")
    monkeypatch.setattr(torchrun.sys, "platform", system)
    monkeypatch.setattr(distributed, "rendezvous", rendezvous)
    assert torchrun.end_together(0, UNDER_TORCHRUN) == 0
    assert seen == [("env://", expected)]
    monkeypatch.delenv("USE_LIBUV", raising=False)
