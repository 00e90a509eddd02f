"""A machine with tiny models: nothing on it yet, offline; with a release server, with the PyPI package."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Iterator

import pytest
from support import tiny_zoo
from support.http_server import Server
from support.tiny_zoo import TinyZoo


@pytest.fixture()
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> TinyZoo:
    caplog.set_level(logging.INFO)
    return tiny_zoo.bare_machine(monkeypatch, tmp_path)


@pytest.fixture()
def server(tiny: TinyZoo, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as running:
        yield tiny_zoo.online(monkeypatch, tiny, running)


@pytest.fixture()
def package(tiny: TinyZoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return tiny_zoo.with_package(monkeypatch, tiny, tmp_path)
