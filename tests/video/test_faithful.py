"""Every frame, its sound, its time, its colours."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from clips import Nearest, decode, packets, picture, pictures, planes_of, times, to_yuv, write, yuv_frame

from realesrgan.errors import InputError
from realesrgan.video import join
from realesrgan.video.probe import probe

QUARTER = np.array([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30], np.int32).tobytes()  # turned by 90 degrees
FRAMES = [picture(number) for number in range(30)]

needs_ffv1_in_mp4 = pytest.mark.skipif(
    av.library_versions["libavformat"] < (62,), reason="FFmpeg before 8 has no FFV1 in MP4"
)


def test_frames_and_times_are_kept_across_segments(tmp_path, enlarge):
    clip = write(tmp_path / "in.mp4", FRAMES, sound=True)
    result, target = enlarge(clip, segment=7)
    assert (result.frames, result.dropped, result.computed) == (30, 0, 30)
    assert times(target) == times(clip)
    assert len(decode(target)) == len(decode(clip)) == 30
    shown = decode(target)[17][1]
    assert (shown.width, shown.height) == (128, 96)
    wanted = [frame.repeat(2, 0).repeat(2, 1) for frame in FRAMES]
    for number, shown in enumerate(pictures(target)):
        errors = [np.abs(shown.astype(int) - other).mean() for other in wanted]
        assert int(np.argmin(errors)) == number
        assert errors[number] < 3


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_variable_rate_and_a_late_start(tmp_path, enlarge, suffix, container):
    pts = np.cumsum([900 * 90, *([3600, 1800, 7200, 2700, 90000] * 6)]).tolist()[:30]
    clip = write(
        tmp_path / f"in.{suffix}", FRAMES, pts=pts, time_base=Fraction(1, 90000), sound=True, sound_start=24000
    )
    _, target = enlarge(clip, segment=8, encoder={"container": container})
    slack = 0 if container == "mp4" else 0.0006  # Matroska counts milliseconds
    assert times(target) == pytest.approx(times(clip), abs=slack)
    assert times(target)[0] > 0.5
    heard, sound = packets(clip, "audio"), packets(target, "audio")
    assert [time for _, time in sound] == pytest.approx([time for _, time in heard], abs=max(slack, 1e-4))


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_sound_is_copied_bit_for_bit(tmp_path, enlarge, container):
    clip = write(tmp_path / "in.mp4", FRAMES, sound=True)
    _, target = enlarge(clip, encoder={"container": container})
    assert [digest for digest, _ in packets(target, "audio")] == [digest for digest, _ in packets(clip, "audio")]
    with av.open(str(target)) as container:
        assert container.streams.audio[0].metadata["language"] == "kor"


@pytest.mark.parametrize(("rate", "count"), [("12", 15), ("48", 60), ("30000/1001", 38)])
def test_fps_resamples(tmp_path, enlarge, rate, count):
    clip = write(tmp_path / "in.mp4", FRAMES, pts=[12 + number for number in range(30)])
    upsampler = Nearest()
    result, target = enlarge(clip, upsampler, fps=Fraction(rate), segment=16)
    moments = times(target)
    assert len(moments) == result.frames == count
    assert moments == pytest.approx([0.5 + number / float(Fraction(rate)) for number in range(count)], abs=1e-4)
    assert upsampler.seen <= 30, "a frame that is shown twice is computed once"
    # Each frame is the one on the screen then.
    for number in (3, count - 2):
        original = int((moments[number] - 0.5) * 24 + 1e-3)
        shown = pictures(target)[number].astype(int)
        assert np.abs(shown - FRAMES[original].repeat(2, 0).repeat(2, 1)).mean() < 3


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_rotation_is_carried(tmp_path, enlarge, container):
    clip = write(tmp_path / "in.mov", FRAMES[:5])
    assert join.patch_matrix(clip, QUARTER)
    assert probe(clip).rotation == QUARTER, "the clip is turned"
    _, target = enlarge(clip, encoder={"container": container})
    found = np.frombuffer(probe(target).rotation, np.int32)
    assert found[[0, 1, 3, 4]].tolist() == [0, 65536, -65536, 0]
    assert (decode(target)[0][1].width, decode(target)[0][1].height) == (128, 96)


@pytest.mark.parametrize(
    ("codec", "container"),
    [
        ("h264", "mp4"),
        ("h264", "mkv"),
        ("h264", "mov"),
        ("hevc", "mp4"),
        ("hevc", "mkv"),
        ("hevc", "mov"),
        ("av1", "mp4"),
        pytest.param("ffv1", "mp4", marks=needs_ffv1_in_mp4),
    ],
)
def test_pixel_shape_and_colour_tags_are_carried(tmp_path, enlarge, codec, container):
    clip = write(
        tmp_path / "in.mkv",
        FRAMES[:6],
        matrix=9,
        primaries=9,
        transfer=16,
        full=True,
        sar=Fraction(4, 3),
        pix_fmt="yuv420p10le",
        options={"crf": "10"},
    )
    _, target = enlarge(clip, encoder={"codec": codec, "container": container}, segment=4)
    info = probe(target)
    assert (info.colour.matrix, info.colour.primaries, info.colour.transfer, info.colour.range) == (9, 9, 16, 2)
    assert info.depth == 10
    assert len(decode(target)) == 6
    assert info.sar == Fraction(4, 3)


def test_a_pixel_shape_that_cannot_be_carried_is_said(tmp_path, enlarge, said):
    clip = write(tmp_path / "in.mkv", FRAMES[:2], sar=Fraction(4, 3))
    enlarge(clip, encoder={"codec": "ffv1"})
    assert "video.pixel_shape" in said
    said.clear()
    enlarge(clip, encoder={"container": "mkv"})
    assert "video.pixel_shape" not in said


def test_ten_bits_stay_ten_bits(tmp_path, enlarge):
    """A ramp with four steps to every 8-bit level comes back with all of its steps."""
    ramp = np.broadcast_to((256 + np.arange(256)).astype(np.uint16), (3, 64, 256)).copy()
    ramp[1:] = 512
    clip = write(tmp_path / "in.mkv", [yuv_frame(ramp, "yuv444p10le")] * 3, codec="ffv1", pix_fmt="yuv444p10le")
    upsampler = Nearest()
    _, target = enlarge(clip, upsampler, outscale=1.0, encoder={"codec": "ffv1"})
    assert upsampler.shapes == {((64, 256, 3), np.dtype(np.uint16))}
    frame = decode(target)[1][1]
    assert frame.format.name == "yuv444p10le"
    luma, blue, red = planes_of(frame, np.uint16)
    assert np.abs(luma.astype(int) - ramp[0]).max() <= 1
    assert np.abs(blue.astype(int) - 512).max() <= 1 and np.abs(red.astype(int) - 512).max() <= 1
    assert len(np.unique(luma)) > 200


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_colours_are_those_of_the_picture_path(tmp_path, enlarge, matrix, full, depth):
    """RGB -> YUV by the standard's equations -> our path -> back by the same equations: within two levels."""
    bgr = picture(3, 64, 48)
    form = "yuv444p" if depth == 8 else "yuv444p10le"
    frames = [yuv_frame(to_yuv(bgr, matrix, full, depth), form)] * 2
    clip = write(tmp_path / "in.mkv", frames, codec="ffv1", pix_fmt=form, matrix=matrix, full=full)
    seen = []

    class Keep(Nearest):
        def enhance(self, img, **options):
            seen.append(img)
            return super().enhance(img, **options)

    _, target = enlarge(clip, Keep(), encoder={"codec": "ffv1"})
    unit = 1 if depth == 8 else 257
    assert np.abs(seen[0].astype(float) / unit - bgr).max() <= 2, "what the network sees"
    wanted = to_yuv(bgr.repeat(2, 0).repeat(2, 1), matrix, full, depth).astype(int)
    found = planes_of(decode(target)[0][1], np.uint8 if depth == 8 else np.uint16)
    for plane, expected in zip(found, wanted):
        assert np.abs(plane.astype(int) - expected).max() <= 2 * (1 << (depth - 8))


def test_untagged_colours_are_taken_by_size_and_tagged(tmp_path, enlarge, said):
    clip = write(tmp_path / "in.mkv", FRAMES[:3], matrix=2, primaries=2, transfer=2)
    _, target = enlarge(clip)
    assert "video.assumed_colour" in said
    assert probe(target).colour.matrix == 6
    assert not probe(target).assumed


def test_interlaced_input_is_said(tmp_path, enlarge, said):
    clip = write(tmp_path / "in.mkv", FRAMES[:6], codec="mpeg2video", interlaced=True)
    enlarge(clip)
    assert said.count("video.interlaced") == 1
    enlarge(write(tmp_path / "whole.mkv", FRAMES[:6], codec="mpeg2video"), name="other")
    assert said.count("video.interlaced") == 1


@pytest.mark.parametrize(("size", "scale"), [((63, 47), 1.0), ((33, 31), 1.5), ((21, 35), 2.0)])
def test_odd_sizes(tmp_path, enlarge, said, size, scale):
    width, height = size
    frames = [picture(number, width, height) for number in range(4)]
    clip = write(tmp_path / "in.mkv", frames, codec="ffv1", pix_fmt="bgr0")
    _, target = enlarge(clip, outscale=scale)
    want = int(width * scale), int(height * scale)
    shown = decode(target)[2][1]
    assert (shown.width, shown.height) == tuple(side + side % 2 for side in want)
    assert ("video.even" in said) == (want != (shown.width, shown.height))
    _, lossless = enlarge(clip, outscale=scale, encoder={"codec": "ffv1"}, name="lossless")
    shown = decode(lossless)[2][1]
    assert (shown.width, shown.height) == want


def test_lossless_rgb_is_exact(tmp_path, enlarge):
    clip = write(tmp_path / "in.mkv", FRAMES[:3], codec="ffv1", pix_fmt="bgr0")
    _, target = enlarge(clip, encoder={"codec": "ffv1"})
    for shown, original in zip(pictures(target), FRAMES):
        assert np.array_equal(shown, original.repeat(2, 0).repeat(2, 1))


class TestAlpha:
    @pytest.fixture()
    def clip(self, tmp_path):
        frames = []
        for number in range(3):
            planes = np.concatenate((to_yuv(picture(number), 6, False), np.full((1, 48, 64), 40 + number, np.uint8)))
            frames.append(yuv_frame(planes, "yuva444p"))
        return write(tmp_path / "in.mkv", frames, codec="ffv1", pix_fmt="yuva444p")

    def test_it_is_refused_where_it_would_be_lost(self, clip, enlarge):
        with pytest.raises(InputError, match="--codec ffv1") as caught:
            enlarge(clip)
        assert caught.value.code == "video.alpha"

    def test_it_is_kept(self, clip, enlarge):
        upsampler = Nearest()
        _, target = enlarge(clip, upsampler, encoder={"codec": "ffv1"})
        assert {shape for shape, _ in upsampler.shapes} == {(48, 64, 4)}
        for number, (_, frame) in enumerate(decode(target)):
            assert frame.format.name == "yuva444p"
            assert (planes_of(frame)[3] == 40 + number).all()

    def test_it_is_dropped_on_demand(self, clip, enlarge, said):
        upsampler = Nearest()
        _, target = enlarge(clip, upsampler, encoder={"drop_alpha": True})
        assert {shape for shape, _ in upsampler.shapes} == {(48, 64, 3)}
        assert "video.alpha_dropped" in said
        assert len(decode(target)) == 3


def test_a_codec_that_the_container_cannot_hold_is_refused_at_once(tmp_path, enlarge):
    clip = write(tmp_path / "in.mp4", FRAMES[:2])
    upsampler = Nearest()
    with pytest.raises(InputError, match="mov cannot store ffv1. Use --container mkv"):
        enlarge(clip, upsampler, encoder={"codec": "ffv1", "container": "mov"})
    assert upsampler.seen == 0


def test_a_wrong_pixel_format_is_refused(tmp_path, enlarge):
    clip = write(tmp_path / "in.mp4", FRAMES[:2])
    with pytest.raises(InputError, match="libx264 does not accept the pixel format rgba"):
        enlarge(clip, encoder={"pix_fmt": "rgba"})


def test_frames_without_rising_time_stamps_are_kept(tmp_path, enlarge, said):
    """An AVI of packed pictures whose stamps are all there, one of them twice (as broken recorders write it)."""
    from dataclasses import replace

    from realesrgan.video.source import VideoSource

    clip = write(tmp_path / "in.mkv", FRAMES[:6])

    class Broken(VideoSource):
        def _decoded(self, container):
            for place, (pts, frame, concealed) in enumerate(super()._decoded(container)):
                yield (None if place == 2 else 0 if place == 4 else pts), frame, concealed

    source = Broken(replace(probe(clip)))
    result, target = enlarge(clip, source=source)
    assert result.frames == len(decode(target)) == 6
    assert times(target) == sorted(set(times(target)))
    assert "video.moved" in said
