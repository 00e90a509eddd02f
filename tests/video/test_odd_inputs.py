"""What videos out there do: change their size, lack frames that others need, hold PCM sound, say impossible rates."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import Nearest, copied_stream, decode, packets, picture, times, write
from rich_clip import write_rich

from realesrgan.video.probe import probe
from realesrgan.video.pyav import VideoError, reason_of
from realesrgan.video.run import part_path, plan
from realesrgan.video.source import VideoSource

DATA = Path(__file__).resolve().parents[1] / "data" / "video"
FRAMES = [picture(number) for number in range(36)]


class TestSizes:
    def test_a_change_is_refused_with_its_time_and_what_is_before_it_is_kept(self, tmp_path, enlarge, said):
        upsampler = Nearest()
        with pytest.raises(VideoError, match="from 32x24 to 64x48 pixels after 8 frames, at 0.333 s") as caught:
            enlarge(DATA / "reschange.ts", upsampler, segment=3)
        assert caught.value.code == "video.size_change"
        assert upsampler.seen == 8
        target = tmp_path / "result.mp4"
        assert not target.exists()
        assert len(decode(part_path(target))) == 8
        assert said.count("video.until_there") == 1
        with pytest.raises(VideoError, match="after 8 frames, at 0.333 s"):
            enlarge(DATA / "reschange.ts", upsampler, segment=3)
        assert upsampler.seen == 8, "nothing is computed twice"


def without_packets(source, target, numbers):
    """A copy of a video without some of its packets, counted in the order of the file."""
    with av.open(str(source)) as before, av.open(str(target), "w") as after:
        stream = copied_stream(after, before.streams.video[0])
        for number, packet in enumerate(before.demux(video=0)):
            if packet.size and number not in numbers:
                packet.stream = stream
                after.mux(packet)
    return target


class TestDropped:
    def test_frames_whose_reference_is_missing_are_counted_and_said(self, tmp_path, enlarge, said):
        """Without its first key frame a video cannot be shown before the next one, and decoders say no word."""
        whole = write(tmp_path / "whole.mkv", FRAMES, options={"g": "6", "bf": "0", "sc_threshold": "0"})
        clip = without_packets(whole, tmp_path / "clip.mkv", {0})
        result, target = enlarge(clip)
        assert (result.frames, result.dropped) == (30, 5)
        assert said.count("video.dropped") == 1
        assert len(decode(target)) == 30

    @pytest.mark.parametrize(
        ("codec", "options"),
        [
            ("libx264", {"bf": "3", "g": "12"}),
            ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime"}),
            ("libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime"}),
            ("mpeg4", {"bf": "2"}),
            ("mpeg2video", {"bf": "2"}),
            ("ffv1", {}),
        ],
    )
    def test_a_sound_video_drops_nothing(self, tmp_path, enlarge, said, codec, options):
        if codec not in av.codecs_available:
            pytest.skip(f"this PyAV has no {codec}")
        clip = write(tmp_path / "in.mkv", FRAMES, codec=codec, options=options)
        result, _ = enlarge(clip)
        assert (result.frames, result.dropped) == (36, 0)
        assert "video.dropped" not in said


def sound(path):
    """Digests of the packets of sound; none where there is no sound."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
    return [digest for digest, _ in packets(path, "audio")]


class TestPcm:
    @pytest.fixture(params=["mov", "mkv"])
    def clip(self, tmp_path, request):
        """mp4's writer takes the sound of the MOV file, and refuses that of the MKV file, which lacks the layout."""
        return write_rich(tmp_path / f"in.{request.param}", FRAMES[:6], sounds=("pcm_s16le",))

    def test_it_is_put_into_matroska_and_said(self, clip, enlarge, said):
        assert plan(*asked(clip)).container == "mkv"
        _, target = enlarge(clip)
        assert target.suffix == ".mkv"
        assert sound(target) == sound(clip)
        assert {"video.pcm_matroska", "video.matroska"} & set(said)

    def test_where_mp4_is_asked_for_it_is_said(self, clip, enlarge, said):
        _, target = enlarge(clip, encoder={"container": "mp4"})
        if "video.pcm_mp4" in said:
            assert sound(target) == sound(clip)
        else:
            assert "video.left_out" in said
            assert not sound(target)

    def test_mov_keeps_it_and_says_nothing(self, clip, enlarge, said):
        _, target = enlarge(clip, encoder={"container": "mov"})
        assert sound(target) == sound(clip)
        assert not {"video.pcm_mp4", "video.left_out", "video.pcm_matroska"} & set(said)


def asked(clip):
    from realesrgan.video.run import VideoOptions

    return VideoSource(probe(clip)), VideoOptions(outscale=2.0)


def test_an_impossible_rate_is_a_sentence():
    with pytest.raises(VideoError, match="each of its frames is shown for 2000000000 seconds") as caught:
        probe(DATA / "tinyrate.y4m")
    assert caught.value.code == "video.rate"


def test_a_slow_rate_is_possible(tmp_path, enlarge):
    """A picture a minute."""
    clip = write(
        tmp_path / "in.mkv", FRAMES[:4], codec="ffv1", pix_fmt="bgr0", pts=[0, 60, 120, 180], time_base=Fraction(1)
    )
    _, target = enlarge(clip)
    assert times(target) == pytest.approx([0, 60, 120, 180])


@pytest.mark.parametrize(
    "error",
    [IndexError("tuple index out of range"), KeyError(0), TypeError("an integer is required"), ZeroDivisionError()],
)
def test_a_mistake_inside_pyav_is_no_reason(error):
    assert str(reason_of(error)) == "this version of PyAV cannot handle it"


def test_pyavs_own_errors_are_reasons(tmp_path):
    (tmp_path / "text.mp4").write_text("no video", encoding="utf-8")
    with pytest.raises(av.error.FFmpegError) as caught:
        av.open(str(tmp_path / "text.mp4"))
    assert "Invalid data" in str(reason_of(caught.value))
