"""Crashes, damage, full disks and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from clips import Nearest, decode, packets, picture, pictures, times, write

from realesrgan.errors import TileError
from realesrgan.video import flow
from realesrgan.video.journal import Journal, Segment
from realesrgan.video.problems import VideoError
from realesrgan.video.run import part_path, parts_folder

ROOT = Path(__file__).resolve().parents[2]
FRAMES = [picture(number) for number in range(36)]

CHILD = """
import sys, time
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
from clips import Nearest
from realesrgan.video.probe import probe
from realesrgan.video.run import VideoOptions, process
from realesrgan.video.source import VideoSource
{setup}
def after(count):
    with open({log!r}, "a") as log:
        log.write("x")
    time.sleep({pause})
process(VideoSource(probe(Path({clip!r}))), Nearest(after), Path({target!r}), VideoOptions(outscale=2.0, segment=6))
"""


def child(tmp_path, clip, target, pause=0.0, setup=""):
    names = {"root": str(ROOT), "tests": str(Path(__file__).parent), "log": str(tmp_path / "log"), "setup": setup}
    code = CHILD.format(clip=str(clip), target=str(target), pause=pause, **names)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def journaled(target):
    path = parts_folder(target) / "journal.jsonl"
    return path.read_text(encoding="utf-8").count('"first"') if path.exists() else 0


def test_a_killed_run_goes_on_and_ends_the_same(tmp_path, enlarge):
    clip = write(tmp_path / "in.mp4", FRAMES, sound=True)
    _, whole = enlarge(clip, name="whole", segment=6)
    target = tmp_path / "result.mp4"
    running = child(tmp_path, clip, target, pause=0.05)
    wait_for(lambda: journaled(target) >= 3, running)
    running.kill()
    running.communicate()
    assert not target.exists()
    finished = journaled(target)
    upsampler = Nearest()
    result, target = enlarge(clip, upsampler, segment=6)
    assert result.resumed == 6 * finished
    assert upsampler.seen == result.computed == 36 - 6 * finished
    assert packets(target, "video") == packets(whole, "video"), "the very same bytes"
    assert packets(target, "audio") == packets(clip, "audio")
    assert times(target) == times(clip)
    assert not parts_folder(target).exists()


def test_killed_while_joining_only_joins_again(tmp_path, enlarge, monkeypatch):
    from realesrgan.video import run

    clip = write(tmp_path / "in.mp4", FRAMES[:12])
    real = run.join

    def die(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(run, "join", die)
    with pytest.raises(MemoryError):
        enlarge(clip, segment=6)
    monkeypatch.setattr(run, "join", real)
    upsampler = Nearest()
    result, target = enlarge(clip, upsampler, segment=6)
    assert (upsampler.seen, result.frames, len(decode(target))) == (0, 12, 12)


class TestJournal:
    SEGMENT = Segment(first=0, pts=[0, 2, 1], last=1, size=4, anchor=(2, 77), repeated=1, concealed=[(1, 1, "damaged")])

    @pytest.fixture()
    def folder(self, tmp_path):
        journal = Journal(tmp_path / "parts", {"model": "a", "scale": 2.0})
        (tmp_path / "parts" / "00000000.nut").write_bytes(b"1234")
        journal.add(self.SEGMENT)
        return tmp_path / "parts"

    def test_what_is_written_is_read(self, folder):
        journal = Journal(folder, {"model": "a", "scale": 2.0})
        assert journal.segments == [self.SEGMENT]
        assert journal.done() == {0, 1, 2}
        assert not journal.is_whole
        journal.end(3)
        assert Journal(folder, {"model": "a", "scale": 2.0}).is_whole

    @pytest.mark.parametrize("cut", range(1, 60, 7))
    def test_a_torn_last_line_does_not_count(self, folder, cut):
        path = folder / "journal.jsonl"
        path.write_bytes(path.read_bytes()[:-cut])
        journal = Journal(folder, {"model": "a", "scale": 2.0})
        # Only the line's end may be missing and the line still be whole.
        assert journal.segments == ([self.SEGMENT] if cut == 1 else [])
        journal.end(0)
        for line in path.read_text(encoding="utf-8").splitlines():
            json.loads(line)

    def test_a_damaged_segment_is_computed_again(self, folder, said):
        (folder / "00000000.nut").write_bytes(b"123")
        assert Journal(folder, {"model": "a", "scale": 2.0}).segments == []
        assert said == ["video.segment"]

    def test_other_options_are_refused_and_restart_throws_away(self, folder):
        with pytest.raises(VideoError, match="another model. .*--restart"):
            Journal(folder, {"model": "b", "scale": 2.0})
        assert (folder / "00000000.nut").exists()
        assert Journal(folder, {"model": "b", "scale": 2.0}, restart=True).segments == []


def test_a_gap_in_the_middle_is_filled(tmp_path, enlarge):
    """One of three finished segments is lost: only its frames are computed."""
    clip = write(tmp_path / "in.mp4", FRAMES, sound=True)
    _, whole = enlarge(clip, name="whole", segment=12)

    def stop(count):
        if count == 30:
            raise TileError("broken")

    with pytest.raises(TileError):
        enlarge(clip, Nearest(stop), segment=12)
    target = tmp_path / "result.mp4"
    assert journaled(target) == 3, "what was enlarged before the error is kept"
    (parts_folder(target) / "00000012.nut").unlink()
    upsampler = Nearest()
    _, target = enlarge(clip, upsampler, segment=12)
    assert upsampler.seen == 12 + 36 - 29
    assert times(target) == times(whole)
    for ours, theirs in zip(pictures(target), pictures(whole)):
        assert np.abs(ours.astype(int) - theirs).mean() < 2


def test_resuming_seeks_to_the_right_frame(tmp_path, enlarge, monkeypatch):
    """The frames before the place are not all decoded, and the place is the right one."""
    from realesrgan.video.source import Anchor, VideoSource

    clip = write(tmp_path / "in.mp4", FRAMES)
    from realesrgan.video.probe import probe

    source = VideoSource(probe(clip))
    shots = list(source.shots())
    anchor = Anchor(29, *shots[29].anchor())
    decoded = []
    real = VideoSource._decoded

    def counting(self, container):
        for item in real(self, container):
            decoded.append(item[0])
            yield item

    monkeypatch.setattr(VideoSource, "_decoded", counting)
    rest = list(source.shots(anchor))
    assert [(shot.index, shot.pts) for shot in rest] == [(shot.index, shot.pts) for shot in shots[30:]]
    assert len(decoded) < 20, "a key frame is every twelve frames"
    decoded.clear()
    wrong = Anchor(29, shots[29].pts, 12345)
    assert [shot.index for shot in source.shots(wrong)] == list(range(36)), "not found: from the start"


def test_ctrl_c_leaves_a_playable_part_and_goes_on(tmp_path, enlarge):
    clip = write(tmp_path / "in.mp4", FRAMES, sound=True)

    def press(count):
        if count == 20:
            raise KeyboardInterrupt

    result, target = enlarge(clip, Nearest(press), segment=8)
    assert result.interrupted
    assert result.path == part_path(target) and not target.exists()
    assert result.frames == 19
    assert times(result.path) == times(clip)[:19]
    sound = packets(result.path, "audio")
    assert 0 < len(sound) < len(packets(clip, "audio"))
    assert sound == packets(clip, "audio")[: len(sound)]
    upsampler = Nearest()
    result, target = enlarge(clip, upsampler, segment=8)
    assert upsampler.seen == 36 - 19
    assert times(target) == times(clip)
    assert packets(target, "audio") == packets(clip, "audio")
    assert not part_path(target).exists()


@pytest.mark.skipif(os.name == "nt", reason="no signal can be sent to one process there")
def test_a_real_ctrl_c(tmp_path, enlarge):
    clip = write(tmp_path / "in.mp4", FRAMES)
    target = tmp_path / "result.mp4"
    running = child(tmp_path, clip, target, pause=0.05)
    wait_for(lambda: journaled(target) >= 1, running)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors.decode()
    assert 6 <= len(decode(part_path(target))) < 36


@pytest.mark.skipif(os.name == "nt", reason="no limit of file sizes there")
def test_a_full_disk_stops_cleanly(tmp_path, enlarge):
    """The system refuses to let a file grow: as a full disk does, by an error of write()."""
    noise = np.random.default_rng(1).integers(0, 255, (24, 48, 64, 3)).astype(np.uint8)
    clip = write(tmp_path / "in.mkv", list(noise), codec="ffv1", pix_fmt="bgr0")
    target = tmp_path / "result.mp4"
    setup = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))"
    running = child(tmp_path, clip, target, setup=setup)
    _, errors = running.communicate(timeout=60)
    assert b"video.problems.VideoError" in errors and b"make room on the disk" in errors, errors.decode()
    assert not target.exists()
    assert not list(tmp_path.rglob("*.partial"))
    result, target = enlarge(clip, segment=6)
    assert result.frames == len(decode(target)) == 24


def damaged_copy(clip, to, number, change):
    """A copy of an MP4 in which the bytes of one packet are changed."""
    with av.open(str(clip)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
        place, size, moment = packet.pos, packet.size, float(packet.pts * packet.time_base)
    data = bytearray(clip.read_bytes())
    change(data, place, size)
    to.write_bytes(data)
    return moment


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

    def frame(garbage, corner=0):
        # 16-bit colours: a whole step of five bits must differ, not a level of eight.
        img = np.full((20, width, 3), 90, np.uint8)
        img[-2:, -2:] += corner
        packed = av.VideoFrame.from_ndarray(img, format="bgr24").reformat(format=pix_fmt)
        for plane, each in zip(packed.planes, LAYOUTS[pix_fmt]):
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size).copy()
            rows[:, (plane.width + (pix_fmt == "yuyv422") * plane.width % 2) * each :] = garbage
            plane.update(rows)
        return packed

    assert same_picture(frame(1), frame(2))
    assert checksum(frame(1)) == checksum(frame(2))
    assert not same_picture(frame(1), frame(1, corner=24))
    assert checksum(frame(1)) != checksum(frame(1, corner=24))
