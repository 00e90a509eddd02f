"""Damaged files: what cannot be read is concealed by rule and reported."""

from __future__ import annotations

import numpy as np
import pytest
from clips import Nearest, damaged_copy, decode, picture, pictures, times, write

from realesrgan.video.pyav import VideoError

FRAMES = [picture(number) for number in range(36)]


def test_an_unreadable_frame_is_concealed_and_reported(tmp_path, enlarge):
    """The packet of the 11th frame says that it has more bytes than there are: the decoder rejects it."""
    options = {"crf": "10", "bf": "0", "g": "1", "threads": "1"}
    clip = write(tmp_path / "in.mp4", FRAMES, options=options)

    def change(data, place, size):
        data[place : place + size] = b"\xff" * size

    moment = damaged_copy(clip, tmp_path / "bad.mp4", 10, change)
    upsampler = Nearest()
    result, target = enlarge(tmp_path / "bad.mp4", upsampler)
    assert result.concealed == [(10, pytest.approx(moment), "repeated")]
    assert result.frames == len(decode(target)) == 36
    assert times(target) == times(clip)
    assert (upsampler.seen, result.repeated) == (35, 1)
    shown = pictures(target)
    assert np.abs(shown[10].astype(int) - shown[9]).mean() < 1
    assert np.abs(shown[11].astype(int) - FRAMES[11].repeat(2, 0).repeat(2, 1)).mean() < 4


def test_a_mended_frame_is_reported(tmp_path, enlarge):
    clip = write(tmp_path / "in.mp4", FRAMES, options={"crf": "4", "bf": "0", "g": "1", "threads": "1"})

    def change(data, place, size):
        data[place + size // 2 : place + size] = np.random.default_rng(1).bytes(size - size // 2)

    damaged_copy(clip, tmp_path / "bad.mp4", 10, change)
    result, target = enlarge(tmp_path / "bad.mp4")
    assert len(decode(target)) == 36
    assert [(index, kind) for index, _, kind in result.concealed] in ([(10, "damaged")], [(10, "repeated")])


def test_a_truncated_file(tmp_path, enlarge, said):
    clip = write(tmp_path / "in.mkv", [picture(number) for number in range(96)], options={"g": "12", "bf": "0"})
    data = clip.read_bytes()
    short = tmp_path / "short.mkv"
    short.write_bytes(data[: len(data) // 2])
    result, target = enlarge(short)
    readable = len(decode(target))
    assert 20 < readable == result.frames < 96
    assert times(target) == times(clip)[:readable]
    assert "video.short" in said


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_what_is_no_video(tmp_path, enlarge, content):
    path = tmp_path / "in.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError) as caught:
        enlarge(path)
    assert caught.value.code == "video.unreadable"


def test_an_mp4_without_its_index(tmp_path, enlarge):
    clip = write(tmp_path / "in.mp4", FRAMES)
    path = tmp_path / "cut.mp4"
    path.write_bytes(clip.read_bytes()[:-2000])
    with pytest.raises(VideoError, match="fetch it again"):
        enlarge(path)
