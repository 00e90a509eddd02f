"""These tests need PyAV (the extra ``video``)."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

import pytest

if str(Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parent))

if importlib.util.find_spec("av") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture()
def said():
    """The codes of the notices that were said, in order."""

    class Keep(logging.Handler):
        def __init__(self):
            super().__init__()
            self.codes = []

        def emit(self, record):
            if hasattr(record, "notice_code"):
                self.codes.append(record.notice_code)

    logger = logging.getLogger("realesrgan")
    handler = Keep()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.codes
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture()
def enlarge(tmp_path):
    """``enlarge(path, **options)``: through the fake upsampler; gives the result and its path."""
    from clips import Nearest

    from realesrgan.video.encoding import EncoderChoice
    from realesrgan.video.probe import probe
    from realesrgan.video.run import VideoOptions, plan, process
    from realesrgan.video.source import VideoSource

    def call(path, upsampler=None, name="result", encoder=None, source=None, **options):
        source = source or VideoSource(probe(path))
        options.setdefault("outscale", 2.0)
        settings = VideoOptions(encoder=EncoderChoice(**(encoder or {})), **options)
        form = plan(source, settings)
        target = tmp_path / f"{name}.{form.container}"
        result = process(source, upsampler or Nearest(), target, settings)
        return result, target

    return call
