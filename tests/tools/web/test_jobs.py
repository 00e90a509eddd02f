"""Runs that the page starts, without the page: real pictures through the real program."""

from __future__ import annotations

import threading
import time
import zipfile
from pathlib import Path
from typing import Any, Iterator, List

import cv2
import numpy as np
import pytest

from realesrgan.cli.messages import LANGUAGES
from realesrgan.errors import InputError
from realesrgan.tools.web import words
from realesrgan.tools.web.jobs import Desk, Job, Progress, as_shown, copied, zipped
from realesrgan.weights import zoo

FLAGS = ["-n", "realesr-animevideov3", "-s", "2", "--device", "cpu", "-t", "32"]


@pytest.fixture()
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "runs").mkdir()
    made = Desk(tmp_path / "runs", "pypi")
    yield made
    made.close()


def put(path: Path, height: int = 24, width: int = 40) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def ended(job: Job) -> Progress:
    job.thread.join(120)
    assert job.progress.ended
    return job.progress


def test_a_broken_picture_is_named_and_does_not_end_the_rest(desk: Desk, tmp_path: Path) -> None:
    good, other = put(tmp_path / "그림.png"), put(tmp_path / "b.jpg")
    bad = tmp_path / "망가진.png"
    bad.write_bytes(good.read_bytes()[:60])
    job = desk.pictures([good, bad, other], FLAGS, "ko")
    progress = ended(job)
    assert progress.state == "done" and progress.files == (3, 3) and progress.share == 1
    assert [result.after.name for result in progress.results] == ["그림_out.png", "b_out.jpg"]
    assert progress.results[0].sizes == ((40, 24), (80, 48))
    problems = [text for text, problem in progress.lines if problem]
    assert len(problems) == 1 and problems[0].startswith("망가진.png: ") and str(tmp_path) not in problems[0]
    with zipfile.ZipFile(zipped(progress.results, job.folder / "all.zip")) as archive:
        assert archive.namelist() == ["그림_out.png", "b_out.jpg"] and archive.testzip() is None


def test_the_network_is_loaded_once_for_the_same_flags(desk: Desk, tmp_path: Path) -> None:
    picture = put(tmp_path / "a.png")
    loaded: List[Any] = []
    for flags in (FLAGS, FLAGS, [*FLAGS, "--tile_pad", "4"]):
        ended(desk.pictures([picture], flags, "en"))
        loaded.append(desk._upscaler[1])
    assert loaded[0] is loaded[1] and loaded[1] is not loaded[2]


def test_a_stop_leaves_whole_files_only(desk: Desk, tmp_path: Path) -> None:
    paths = [put(tmp_path / f"{index}.png", 96, 96) for index in range(12)]
    job = desk.pictures(paths, FLAGS, "en")
    while not job.progress.results and not job.progress.ended:
        time.sleep(0.01)
    job.stop()
    progress = ended(job)
    assert progress.state == "stopped" and 0 < len(progress.results) < 12
    written = sorted((job.folder / "results").iterdir())
    assert [path.name for path in written] == sorted(result.after.name for result in progress.results)
    assert all(cv2.imread(str(path)).shape == (192, 192, 3) for path in written)


def test_one_run_at_a_time_in_the_order_of_their_coming(desk: Desk) -> None:
    order: List[int] = []
    gate = threading.Event()
    jobs = [desk._start("en", lambda job, number=number: (gate.wait(20), order.append(number))) for number in range(4)]
    while [job.progress.state for job in jobs] != ["loading", "waiting", "waiting", "waiting"]:
        time.sleep(0.01)
    assert [job.progress.ahead for job in jobs] == [0, 1, 2, 3]
    jobs[2].stop()
    assert ended(jobs[2]).state == "stopped"
    gate.set()
    assert [ended(job).state for job in jobs] == ["done", "done", "stopped", "done"]
    assert order == [0, 1, 3]


def test_a_pause_waits_between_tiles_and_goes_on(desk: Desk, tmp_path: Path) -> None:
    job = desk.pictures([put(tmp_path / "a.png", 200, 200)], FLAGS, "en")
    job.pause(True)
    while job.progress.state != "paused" and not job.progress.ended:
        time.sleep(0.01)
    assert job.progress.state == "paused"
    share = job.progress.share
    time.sleep(0.3)
    assert job.progress.share == share
    job.pause(False)
    assert ended(job).state == "done"


def test_what_cannot_begin_is_an_error_in_the_readers_language(desk: Desk, tmp_path: Path) -> None:
    progress = ended(desk.pictures([put(tmp_path / "a.png")], ["--model_path", str(tmp_path / "no.pth")], "ko"))
    assert progress.state == "failed"
    assert "no.pth" in progress.lines[-1][0] and any("가" <= letter <= "힣" for letter in progress.lines[-1][0])


def test_the_folder_of_a_run_goes_an_hour_later(desk: Desk, tmp_path: Path) -> None:
    job = desk.pictures([put(tmp_path / "a.png")], FLAGS, "en")
    ended(job)
    desk.sweep()
    assert job.folder.is_dir() and desk.job(job.name) is job
    desk.sweep(age=-1)
    assert not job.folder.exists() and desk.job(job.name) is None


def test_closing_stops_what_runs_and_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    desk = Desk(root, "pypi")
    job = desk.pictures([put(tmp_path / f"{index}.png", 96, 96) for index in range(20)], FLAGS, "en")
    while job.progress.state in ("waiting", "loading"):
        time.sleep(0.01)
    desk.close()
    assert job.progress.state == "stopped" and not root.exists()


def test_a_format_that_browsers_do_not_draw_is_shown_as_png(tmp_path: Path) -> None:
    tiff = put(tmp_path / "a.tiff")
    shown = as_shown(tiff, tmp_path)
    assert shown.suffix == ".png" and (cv2.imread(str(shown)) == cv2.imread(str(tiff))).all()
    assert as_shown(put(tmp_path / "b.jpg"), tmp_path) == tmp_path / "b.jpg"


def test_results_are_copied_whole_and_nothing_is_replaced(desk: Desk, tmp_path: Path) -> None:
    progress = ended(desk.pictures([put(tmp_path / "a.png"), put(tmp_path / "b.png")], FLAGS, "en"))
    folder = tmp_path / "mine"
    with pytest.raises(InputError, match="not a folder"):
        copied(progress.results, folder)
    folder.mkdir()
    assert copied(progress.results, folder) == 2
    (folder / "a_out.png").unlink()
    with pytest.raises(InputError, match=r"b_out\.png"):
        copied(progress.results, folder)
    assert not (folder / "a_out.png").exists()


def test_both_languages_have_the_same_words_and_every_model_exists() -> None:
    english, korean = (words.words(lang) for lang in LANGUAGES)
    assert set(english) == set(korean)
    for name, text in english.items():
        assert text.count("{") == korean[name].count("{"), name
        assert any("가" <= letter <= "힣" for letter in korean[name]) or name in ("title",), name
    for name, model in (*words.KINDS, *words.VIDEO_KINDS):
        assert name in english and model in zoo.MODELS
