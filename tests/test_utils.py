"""The old import names."""

from __future__ import annotations

import importlib.util
import queue
import subprocess
import sys

import numpy as np
import pytest

from realesrgan import files, utils
from realesrgan.errors import PictureError
from tests.support.picture_samples import noise, put

OLD_PATHS = [
    ".".join(filter(None, [place.rpartition(":")[0], entry.partition("=")[0]]))
    for place, modules in utils._MOVED.items()
    for entry in modules.split()
]


@pytest.mark.parametrize("old", OLD_PATHS)
def test_every_old_path_leads_to_a_module(old):
    assert importlib.util.find_spec(f"realesrgan.{utils._new_path(old)}") is not None


def save(path, seed):
    pixels = noise(5, 6, 3, seed=seed)
    put(path, pixels)
    return pixels


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("ahead", [0, 1, 10])
def test_reading_ahead_keeps_the_order(tmp_path, started, ahead):
    expected = [save(tmp_path / f"é😀{index}.png", index) for index in range(5)]
    reader = utils.PrefetchReader([str(tmp_path / f"é😀{index}.png") for index in range(5)], ahead)
    if started:
        reader.start()
    pictures = list(reader)
    assert len(pictures) == 5
    assert all(np.array_equal(picture, pixels) for picture, pixels in zip(pictures, expected))
    with pytest.raises(StopIteration):
        next(reader)


def test_an_unreadable_picture_is_an_error_in_its_place(tmp_path):
    save(tmp_path / "a.png", 1)
    (tmp_path / "b.png").write_bytes(b"")
    last = save(tmp_path / "c.png", 2)
    reader = utils.PrefetchReader([tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"], 2)
    next(reader)
    with pytest.raises(PictureError, match=r"b\.png"):
        next(reader)
    assert np.array_equal(next(reader), last)


def test_the_consumer_writes_until_it_is_told_to_quit(tmp_path):
    waiting = queue.Queue()
    consumer = utils.IOConsumer(None, waiting, 3)
    consumer.start()
    pixels = save(tmp_path / "seed.png", 1)
    waiting.put({"output": pixels, "save_path": str(tmp_path / "그림 é😀.png")})
    waiting.put({"output": pixels, "save_path": str(tmp_path / "no.such_format")})
    waiting.put({"output": pixels[:2], "save_path": str(tmp_path / "second.png")})
    waiting.put("quit")
    consumer.join(20)
    assert not consumer.is_alive()
    assert np.array_equal(files.read(tmp_path / "그림 é😀.png").pixels, pixels)
    assert np.array_equal(files.read(tmp_path / "second.png").pixels, pixels[:2])
    assert len(consumer.errors) == 1
    assert "no.such_format" in str(consumer.errors[0])


def test_the_upsampler_is_fetched_only_when_asked_for():
    script = (
        "import sys; from realesrgan import utils; utils.PrefetchReader, utils.IOConsumer\n"
        "assert 'torch' not in sys.modules\n"
        "from realesrgan.utils import RealESRGANer; import realesrgan\n"
        "assert RealESRGANer is realesrgan.RealESRGANer\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = utils.nothing_like_it
