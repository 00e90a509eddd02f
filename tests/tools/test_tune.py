"""Tuning: what is measured and kept, in bounded time, through lost devices; and that the next run uses it."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import pytest
from support.player import CARD, NETWORK

from realesrgan import RealESRGANer
from realesrgan.backends import BACKENDS
from realesrgan.inference import tuned as profile
from realesrgan.tools.tune import command as tune
from realesrgan.weights import zoo

ROOT = Path(__file__).resolve().parents[2]
MODEL = "realesr-animevideov3"


@pytest.fixture(autouse=True)
def own_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    monkeypatch.setenv(profile.VARIABLE, str(path))
    return path


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ([(64, 1.0)], 64),
        ([(64, 1.0), (128, 2.0), (256, 8.1)], 128),
        ([(64, 1.0), (128, 4.0), (256, 15.8)], 64),  # 1 % quicker is not worth the memory
        ([(64, 1.0), (128, 3.9), (256, 14.0)], 256),
    ],
)
def test_the_smallest_of_nearly_equal_tiles_is_best(measured: list, expected: int) -> None:
    tile, rate = tune.best(measured)
    assert tile == expected
    assert rate == pytest.approx(tile**2 / dict(measured)[tile])


def test_models_of_one_network_are_measured_once() -> None:
    assert tune._distinct(["realesrnet_x4plus", "RealESRGAN_x4plus", MODEL]) == ["RealESRNet_x4plus", MODEL]
    assert len(tune._distinct(zoo.names())) == 5


def test_wrong_usage(capsys: pytest.CaptureFixture) -> None:
    assert tune.main(["--models", "x4minus"]) == 2
    assert "x4minus" in capsys.readouterr().out
    for seconds in ("0", "nan", "-1", "soon"):
        with pytest.raises(SystemExit) as caught:
            tune.main(["--seconds", seconds])
        assert caught.value.code == 2


def test_forgetting(own_profile: Path, capsys: pytest.CaptureFixture) -> None:
    profile.store(CARD, NETWORK, [profile.Choice(64, False, 1.0)])
    assert tune.main(["--forget", "--lang", "en"]) == 0
    assert not own_profile.exists()
    assert tune.main(["--forget", "--lang", "ko"]) == 0
    assert "저장된 결과가 없습니다" in capsys.readouterr().out


@pytest.fixture()
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs the command on scripted answers; gives the exit status and what was asked."""

    class Scripted(tune.Child):
        def __init__(self, target: str, *arguments: Any) -> None:
            assert target == "realesrgan.tools.tune.measure:serve"
            super().__init__("support.player:play", str(tmp_path / "script.json"))

    def run(script: List[Any], *arguments: str) -> Any:
        (tmp_path / "script.json").write_text(json.dumps(script), encoding="utf-8")
        monkeypatch.setattr(tune, "Child", Scripted)
        status = tune.main(["--models", MODEL, "--lang", "en", *arguments])
        asked = tmp_path / "script.asked"
        return status, [json.loads(line) for line in asked.read_text(encoding="utf-8").splitlines()]

    return run


def answers(*measured: Any, end: str = "") -> List[Any]:
    found: List[Any] = []
    for side, seconds in measured:
        found += [["tile", side], ["measured", side, seconds]]
    return [*found, ["end", end]]


def test_the_quicker_precision_wins_and_both_are_kept(played: Any, capsys: pytest.CaptureFixture) -> None:
    status, asked = played([answers((128, 2.0), (256, 7.0)), answers((128, 2.0), (256, 6.0), end="memory")])
    assert status == 0
    assert profile.lookup(CARD, NETWORK, None).tile == 256
    assert profile.lookup(CARD, NETWORK, None).half
    assert profile.lookup(CARD, NETWORK, False).rate == pytest.approx(256**2 / 7, abs=0.1)
    assert [request[2] for request in asked] == [False, True]
    assert asked[0][0] == asked[1][0], "one child does both"
    assert f"{MODEL}: tile 256, FP16" in capsys.readouterr().out
    assert not multiprocessing.active_children()


def test_the_kernels_that_were_found_are_kept_with_their_precision(played: Any) -> None:
    half = [["kernels", {"wide": [8, 16, 64, 2, 4]}], *answers((128, 1.0))]
    status, _ = played([answers((128, 2.0)), half])
    assert status == 0
    assert profile.lookup(CARD, NETWORK, True).kernels == {"wide": (8, 16, 64, 2, 4)}
    assert profile.lookup(CARD, NETWORK, False).kernels == {}


@pytest.mark.parametrize("end", ["die", ["end", "lost"]])
def test_a_tile_that_costs_the_process_is_not_tried_again(end: Any, played: Any) -> None:
    script = [[*answers((128, 2.0), (256, 7.0))[:-1], ["tile", 384], end], answers((128, 3.0))]
    status, asked = played(script)
    assert status == 0
    assert profile.lookup(CARD, NETWORK, None) == profile.Choice(256, False, round(256**2 / 7, 1))
    assert asked[0][3] > 10_000 and asked[1][3] == 384
    assert asked[0][0] != asked[1][0]


def test_stuck_memory_gets_a_new_process_but_fp16_may_try_larger(played: Any) -> None:
    _, asked = played([[["tile", 64], ["measured", 64, 1.0], ["tile", 96], ["end", "memory"]], answers((256, 1.0))])
    assert asked[1][3] > 10_000
    assert asked[0][0] != asked[1][0]


def test_small_tiles_alone_are_not_kept_when_time_was_short(played: Any, capsys: pytest.CaptureFixture) -> None:
    status, _ = played([answers((64, 1.0), (128, 2.0), end="time"), answers(end="half")])
    assert status == 1
    assert profile.lookup(CARD, NETWORK, None) is None
    out = capsys.readouterr().out
    assert "usual tile 192" in out and "--seconds" in out.splitlines()[-1] and "doctor" not in out


def test_no_time_at_all_is_said_as_what_it_is(played: Any, capsys: pytest.CaptureFixture) -> None:
    status, _ = played([answers(end="time"), answers(end="time")], "--seconds", "1")
    assert status == 1
    out = capsys.readouterr().out
    assert out.count("the time was up before the first tile") == 2
    assert "the time did not suffice" in out.splitlines()[-1] and "doctor" not in out


def test_a_device_without_fp16_is_given_all_the_time_in_fp32(played: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = BACKENDS["directml"]
    monkeypatch.setattr(backend, "capabilities", replace(backend.capabilities, half=False))
    status, asked = played([answers((192, 2.0))], "--seconds", "100")
    assert status == 0
    assert [request[2] for request in asked] == [False] and asked[0][4] > 90


def test_a_child_that_always_dies_ends_the_command(played: Any) -> None:
    status, asked = played([["die"], ["die"]])
    assert status == 1 and len(asked) == 2


# The real thing.


def test_on_directml_it_measures_keeps_and_the_next_run_uses_it(
    directml_with: Any, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture, own_profile: Path
) -> None:
    from directml_standin import adapters

    caplog.set_level(logging.INFO, logger="realesrgan")
    with directml_with(adapters=adapters(60_000_000), stuck_memory=True) as simulation:
        status = tune.main(["--device", "dml", "--models", MODEL, "--seconds", "600", "--lang", "en"])
        assert simulation.opened_by is None and "torch_directml" not in sys.modules
        out = capsys.readouterr().out
        assert status == 0, out
        found = json.loads(own_profile.read_text(encoding="utf-8"))["entries"][0]["choices"]
        assert set(found) == {"fp32", "fp16"}
        # 128 does not fit in FP32, and what it took stays taken: FP16 needs a new process.
        assert found["fp32"]["tile"] in (64, 96) and found["fp16"]["tile"] in (64, 96, 128)
        tuned = RealESRGANer(4, None, model=zoo.build(zoo.get(MODEL)), device="dml", half=None)
        expected = max(found.items(), key=lambda item: item[1]["rate"])
        assert tuned.describe()["tile"] == expected[1]["tile"]
        assert tuned.describe()["precision"] == expected[0]
        assert "profile.used" in said(caplog, tuned)
        plain = RealESRGANer(4, None, model=zoo.build(zoo.get(MODEL)), device="dml", half=None, profile=False)
        assert plain.describe()["profile"] is False and not plain.half


def said(caplog: pytest.LogCaptureFixture, upsampler: Any) -> List[str]:
    import numpy as np

    upsampler.enhance(np.zeros((40, 40, 3), np.uint8))
    return [getattr(record, "notice_code", "") for record in caplog.records]


def test_a_device_that_is_not_there_is_named_in_the_users_language(capsys: pytest.CaptureFixture) -> None:
    assert tune.main(["--device", "mps:3", "--models", MODEL, "--lang", "ko"]) == 2
    told = capsys.readouterr().out
    assert "mps:3 장치가 없습니다(PyTorch가 Apple GPU를 찾지 못합니다)" in told and "이 컴퓨터의 장치: " in told


def test_the_parent_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from realesrgan.tools import tune\n"
        "if __name__ == '__main__':\n"
        "    status = tune.main(['--device', 'dml:9', '--models', 'realesr-animevideov3', '--lang', 'en'])\n"
        "    print(status, 'torch' in sys.modules)\n"
    )
    program = tmp_path / "program.py"
    program.write_text(code, encoding="utf-8")
    environment: Dict[str, str] = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, env=environment, check=True)
    assert "directml:9 is not available" in done.stdout
    assert done.stdout.splitlines()[-1] == "2 False"


def test_a_card_is_measured_behind_each_backend_and_the_quickest_is_said(
    played: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PLAYED_OTHER", "vulkan")
    status, asked = played([answers((256, 4.0)), answers((256, 3.0)), answers((256, 2.0)), answers((256, 1.0))])
    assert status == 0
    assert len({request[0] for request in asked}) == 2, "a child for each backend"
    other = replace(CARD, backend="vulkan")
    monkeypatch.setattr(profile, "library_version", lambda device: profile.torch_version())
    assert profile.lookup(CARD, NETWORK, None).rate == pytest.approx(256**2 / 3, abs=0.1)
    assert profile.lookup(CARD, NETWORK, False).rate == pytest.approx(256**2 / 4, abs=0.1)
    entries = json.loads(Path(os.environ[profile.VARIABLE]).read_text(encoding="utf-8"))["entries"]
    assert [entry["device"].split(" ")[0] for entry in entries] == ["directml", "vulkan"]
    out = capsys.readouterr().out
    assert f"{MODEL}: Vulkan is quickest on {other.name} (3.0 times as quick as DirectML)." in out
    assert out.count("Measuring 1 networks") == 2
