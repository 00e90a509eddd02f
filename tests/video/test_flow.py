"""The stages: bounded, never idle for the others, and frames that are the same computed once."""

from __future__ import annotations

import threading
import time

import av
import numpy as np
import pytest
from clips import Nearest, packets, picture, write

FRAMES = [picture(number) for number in range(36)]


class TestRepeats:
    @pytest.fixture()
    def clip(self, tmp_path):
        """Drawn on threes, without loss."""
        frames = [picture(number // 3) for number in range(18)]
        return write(tmp_path / "in.mkv", frames, codec="ffv1", pix_fmt="bgr0")

    def test_they_are_computed_once_and_nothing_changes(self, clip, enlarge):
        once, each = Nearest(), Nearest()
        result, target = enlarge(clip, once, segment=7, encoder={"codec": "ffv1"})
        _, plain = enlarge(clip, each, segment=7, encoder={"codec": "ffv1"}, skip_repeats=False, name="plain")
        assert (once.seen, each.seen) == (6, 18)
        assert (result.repeated, result.frames) == (12, 18)
        assert packets(target, "video") == packets(plain, "video")

    def test_one_level_is_a_difference(self, tmp_path, enlarge):
        frames = [picture(0), picture(0), picture(0).copy()]
        frames[2][47, 63, 2] ^= 1
        clip = write(tmp_path / "in.mkv", frames, codec="ffv1", pix_fmt="bgr0")
        upsampler = Nearest()
        enlarge(clip, upsampler)
        assert upsampler.seen == 2


class TestBounds:
    def test_a_slow_encoder_holds_the_others_back(self, tmp_path, enlarge, monkeypatch):
        from realesrgan.video import encoding

        clip = write(tmp_path / "in.mp4", FRAMES)
        written = []
        ahead = []
        real = encoding.SegmentFile.add

        def slow(self, frame, pts):
            time.sleep(0.02)
            written.append(pts)
            real(self, frame, pts)

        monkeypatch.setattr(encoding.SegmentFile, "add", slow)
        enlarge(clip, Nearest(lambda count: ahead.append(count - len(written))))
        assert max(ahead) <= 8
        assert len(written) == 36

    @pytest.mark.parametrize("stage", ["decode", "to_pixels", "network", "from_pixels", "encode", "check"])
    def test_an_error_of_any_stage_ends_all_and_keeps_what_was_before_it(self, stage, tmp_path, enlarge, monkeypatch):
        from realesrgan.video import pipeline

        clip = write(tmp_path / "in.mp4", FRAMES)
        real = pipeline.Work.timed
        calls = []

        def fail(self, name, function, *arguments, **options):
            if name == stage:
                calls.append(name)
                if len(calls) == (2 if stage == "check" else 20):
                    raise ArithmeticError(stage)
            return real(self, name, function, *arguments, **options)

        monkeypatch.setattr(pipeline.Work, "timed", fail)
        before = threading.active_count()
        with pytest.raises(ArithmeticError, match=stage):
            enlarge(clip, segment=6)
        assert threading.active_count() == before
        parts = tmp_path / ".result.mp4.parts"
        assert not list(parts.glob("*.partial"))
        monkeypatch.undo()
        upsampler = Nearest()
        result, target = enlarge(clip, upsampler, segment=6)
        assert upsampler.seen == 36 - result.resumed
        assert result.resumed >= 6, "what was checked before the error is not computed again"
        assert len(packets(target, "video")) == 36


# Bytes that a pixel takes in each plane.
LAYOUTS = {"yuv420p": (1, 1, 1), "yuv422p10le": (2, 2, 2), "nv12": (1, 2), "p010le": (2, 4), "bgr24": (3,)}
LAYOUTS.update({"bgra": (4,), "gbrp": (1, 1, 1), "gray": (1,), "yuyv422": (2,), "rgb565le": (2,)})


@pytest.mark.parametrize("pix_fmt", sorted(LAYOUTS))
@pytest.mark.parametrize("width", [33, 64])
def test_every_pixel_counts_in_a_comparison_and_no_other_byte(pix_fmt, width):
    from realesrgan.video.pixels import checksum, same_picture

    def frame(garbage, changed=None):
        made = av.VideoFrame(width, 20, pix_fmt)
        for number, (plane, each) in enumerate(zip(made.planes, LAYOUTS[pix_fmt])):
            rows = np.full((plane.buffer_size // plane.line_size, plane.line_size), garbage, np.uint8)
            used = (plane.width + (pix_fmt == "yuyv422") * plane.width % 2) * each
            rows[: plane.height, :used] = 90
            rows[plane.height - 1, used - 1] += number == changed
            plane.update(rows)
        return made

    assert same_picture(frame(1), frame(2))
    assert checksum(frame(1)) == checksum(frame(2))
    for number in range(len(LAYOUTS[pix_fmt])):
        assert not same_picture(frame(1), frame(1, changed=number))
        assert checksum(frame(1)) != checksum(frame(1, changed=number))
