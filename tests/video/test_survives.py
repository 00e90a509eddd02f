"""Crashes, damage, full disks and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from clips import Nearest, decode, packets, picture, pictures, times, write

from realesrgan.errors import TileError
from realesrgan.files import atomic
from realesrgan.files.atomic import HeldOpen, ReadOnly
from realesrgan.video import run
from realesrgan.video.journal import Journal, Segment
from realesrgan.video.pyav import VideoError
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


def test_killed_again_and_again(tmp_path, enlarge):
    """At any moment, while a segment is written, noted or joined, too: the end is the same."""
    clip = write(tmp_path / "in.mp4", FRAMES, sound=True)
    _, whole = enlarge(clip, name="whole", segment=6)
    target, log = tmp_path / "result.mp4", tmp_path / "log"
    seen, finished = 0, 0
    for moment in (0.0, 0.03, 0.08, 0.15, 0.3):
        running = child(tmp_path, clip, target, pause=0.01)
        try:
            wait_for(lambda before=seen: (log.stat().st_size if log.exists() else 0) > before, running)
            time.sleep(moment)
        finally:
            running.kill()
            running.communicate()
        seen = log.stat().st_size
        if target.exists():
            break
        assert journaled(target) >= finished, "what was finished stays so"
        finished = journaled(target)
    assert finished or target.exists(), "one of the runs got somewhere"
    if not target.exists():
        _, target = enlarge(clip, segment=6)
    assert packets(target, "video") == packets(whole, "video"), "the very same bytes"
    assert packets(target, "audio") == packets(clip, "audio")
    assert times(target) == times(clip)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".partial"]


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
    SEGMENT = Segment(
        first=0,
        pts=[0, 2, 1],
        last=1,
        size=4,
        crc=zlib.crc32(b"1234"),
        anchor=(2, 77),
        repeated=1,
        concealed=[(1, 1, "damaged")],
    )

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
    assert b"video.pyav.VideoError" in errors and b"make room on the disk" in errors, errors.decode()
    assert not target.exists()
    assert not list(tmp_path.rglob("*.partial"))
    result, target = enlarge(clip, segment=6)
    assert result.frames == len(decode(target)) == 24


@pytest.mark.parametrize(
    ("error", "code"), [(HeldOpen(13, "held"), "video.held"), (ReadOnly(13, "marked"), "video.read_only")]
)
def test_a_target_that_cannot_be_replaced_is_known_before_the_work(tmp_path, enlarge, monkeypatch, error, code):
    """As on Windows, where a player that holds a former result open, or its read-only mark, keeps it as it is."""
    clip = write(tmp_path / "in.mp4", FRAMES[:6])
    target = tmp_path / "result.mp4"
    target.write_bytes(b"old")

    def refuse(path):
        raise error

    monkeypatch.setattr(run, "check_replaceable", refuse)
    monkeypatch.setattr(run, "enlarge", lambda *arguments: pytest.fail("nothing may be computed"))
    with pytest.raises(VideoError) as caught:
        enlarge(clip)
    assert caught.value.code == code
    assert str(target) in str(caught.value)
    assert target.read_bytes() == b"old"


def test_a_target_that_is_opened_during_the_work_keeps_what_is_finished(tmp_path, enlarge, monkeypatch):
    clip = write(tmp_path / "in.mp4", FRAMES[:6])
    target = tmp_path / "result.mp4"
    replace = atomic.replace

    def refuse(source, wanted):
        if Path(wanted) == target:
            raise HeldOpen(13, "held", str(wanted))
        replace(source, wanted)

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "replace", refuse)
        with pytest.raises(VideoError, match="holds it open") as caught:
            enlarge(clip)
    assert caught.value.code == "video.held"
    assert not target.exists()
    assert journaled(target) == 1
    again, _ = enlarge(clip, upsampler=Nearest(lambda count: pytest.fail("all of it is there")))
    assert again.resumed == 6
    assert len(decode(target)) == 6


def test_files_that_a_scanner_holds_for_a_moment(tmp_path, enlarge, monkeypatch):
    """The journal, the segments and the result are each put in place on the second try."""
    clip = write(tmp_path / "in.mp4", FRAMES[:6])
    replace, tried = os.replace, []

    def held(source, target):
        tried.append(Path(target).name)
        if tried.count(Path(target).name) == 1:
            raise PermissionError(13, "The process cannot access the file")
        replace(source, target)

    monkeypatch.setattr(atomic, "_RETRY_PAUSE", 0.0)
    monkeypatch.setattr(os, "replace", held)
    _, target = enlarge(clip)
    assert len(decode(target)) == 6
    assert {name: tried.count(name) for name in tried} == dict.fromkeys(
        ["journal.jsonl", "00000000.nut", "result.mp4"], 2
    )
