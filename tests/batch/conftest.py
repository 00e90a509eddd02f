"""Fixtures of the batch tests."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from realesrgan.cli import run as cli_run
from tests.support.nearest import Nearest


@pytest.fixture()
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """The command line in English, as no launcher's process, with a stand-in for the network.

    ``stand_in(upscaler)`` puts another one there.
    """

    def use(upscaler: Any) -> None:
        monkeypatch.setattr(cli_run, "build_upscaler", lambda *_: upscaler)

    use(Nearest())
    monkeypatch.setenv("LC_ALL", "C")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return use
