"""The stages: bounded, never idle for the others, and frames that are the same computed once."""

from __future__ import annotations

import threading
import time

import av
import numpy as np
import pytest
from clips import Nearest, packets, picture, write

from realesrgan.video import flow

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
        from realesrgan.video import segments

        clip = write(tmp_path / "in.mp4", FRAMES)
        written = []
        ahead = []
        real = segments.SegmentFile.add

        def slow(self, frame, pts):
            time.sleep(0.02)
            written.append(pts)
            real(self, frame, pts)

        monkeypatch.setattr(segments.SegmentFile, "add", slow)
        enlarge(clip, Nearest(lambda count: ahead.append(count - len(written))))
        assert max(ahead) <= 8
        assert len(written) == 36

    def test_a_channel_holds_no_more_than_its_room(self):
        group = flow.Group()
        channel = group.channel(2)
        sent = []

        def send():
            for number in range(10):
                channel.put(number)
                sent.append(number)
            channel.end()

        group.start("send", send)
        deadline = time.monotonic() + 10
        while len(sent) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert sent == [0, 1]
        assert list(channel) == list(range(10))
        group.join()

    def test_the_first_error_ends_all(self):
        group = flow.Group()
        first, second = group.channel(1), group.channel(1)
        before = threading.active_count()

        def fail(item):
            raise ValueError(f"item {item}")

        def feed():
            for number in range(1000):
                first.put(number)

        group.start("feed", feed)
        group.map("fail", fail, first, second)
        with pytest.raises(flow.Stopped):
            list(second)
        with pytest.raises(ValueError, match="item 0"):
            group.join()
        assert threading.active_count() <= before


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
