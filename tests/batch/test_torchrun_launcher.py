"""Waiting for the other processes of torchrun: who waits, how long, and who never does."""

from __future__ import annotations

import logging
import os

import pytest

from realesrgan.batch import torchrun as launcher

UNDER_TORCHRUN = {"TORCHELASTIC_USE_AGENT_STORE": "True", "WORLD_SIZE": "3", "RANK": "1"}


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
    assert launcher.end_together(1, UNDER_TORCHRUN, store=lambda: store, poll=0) == 1
    assert (store.ended, store.looks) == (3, 2)


def test_a_good_share_says_so_and_ends():
    store = Store(ended=0)
    assert launcher.end_together(0, UNDER_TORCHRUN, store=lambda: store, poll=0) == 0
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

    assert launcher.end_together(status, environment, store=store) == status


def test_a_store_that_goes_away_ends_the_waiting(caplog):
    class Gone(Store):
        def add(self, key: str, amount: int) -> int:
            if amount == 0:
                raise RuntimeError("Connection reset by peer")
            return super().add(key, amount)

    with caplog.at_level(logging.INFO, "realesrgan.batch.torchrun"):
        assert launcher.end_together(1, UNDER_TORCHRUN, store=lambda: Gone(0), poll=0) == 1
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
    monkeypatch.setattr(launcher.sys, "platform", system)
    monkeypatch.setattr(distributed, "rendezvous", rendezvous)
    assert launcher.end_together(0, UNDER_TORCHRUN) == 0
    assert seen == [("env://", expected)]
    monkeypatch.delenv("USE_LIBUV", raising=False)
