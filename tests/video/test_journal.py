"""What an unfinished video leaves: checked before it is used, and used by one run at a time."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from clips import Nearest, decode, packets, picture, write

from realesrgan.errors import RealESRGANError
from realesrgan.video.journal import Ledger, Lock
from realesrgan.video.pyav import VideoError
from realesrgan.video.run import part_path, parts_folder
from tests.support import hostile_records

ROOT = Path(__file__).resolve().parents[2]
FRAMES = [picture(number) for number in range(36)]


@pytest.fixture()
def unfinished(tmp_path, enlarge):
    """A clip, and what a run left that was stopped after 24 of its 36 frames: four segments."""
    clip = write(tmp_path / "in.mp4", FRAMES)

    def stop(count):
        if count == 25:
            raise KeyboardInterrupt

    result, target = enlarge(clip, Nearest(stop), segment=6)
    assert result.interrupted
    part_path(target).unlink()
    return clip, target, parts_folder(target)


def rewrite(folder, change):
    path = folder / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in change(lines) or lines), encoding="utf-8")


def test_a_segment_with_other_bytes_of_the_same_size_is_computed_again(unfinished, enlarge, said):
    clip, target, parts = unfinished
    path = parts / "00000006.nut"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    upsampler = Nearest()
    result, _ = enlarge(clip, upsampler, segment=6)
    assert said.count("video.segment") == 1
    assert result.resumed == 18 and upsampler.seen == 18
    _, whole = enlarge(clip, segment=6, name="whole")
    assert packets(target, "video") == packets(whole, "video")


CONTRADICTIONS = {
    "no frames in all": lambda lines: [*lines[:1], {"total": 0}],
    "fewer frames than segments": lambda lines: [*lines, {"total": 12}],
    "two numbers of frames": lambda lines: [*lines, {"total": 36}, {"total": 37}],
    "a number that is none": lambda lines: [*lines, {"total": "36"}],
    "segments that overlap": lambda lines: [*lines, {**lines[1], "first": 3}],
    "a segment twice": lambda lines: [*lines, lines[1]],
    "times that go back": lambda lines: [lines[0], lines[1], {**lines[2], "pts": lines[1]["pts"]}, *lines[3:]],
    "no first line": lambda lines: lines[1:],
    "a first line of another kind": lambda lines: [{"identity": 5}, *lines[1:]],
}


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_a_journal_that_contradicts_itself_is_begun_again(unfinished, enlarge, said, kind):
    clip, _, parts = unfinished
    rewrite(parts, CONTRADICTIONS[kind])
    upsampler = Nearest()
    result, target = enlarge(clip, upsampler, segment=6)
    assert said.count("video.contradiction") == 1
    assert (result.resumed, upsampler.seen, result.frames, len(decode(target))) == (0, 36, 36, 36)
    assert not parts.exists()


def test_whatever_a_journal_says_there_is_a_whole_result_or_an_error(unfinished, enlarge):
    clip, target, parts = unfinished
    files = {path.name: path.read_bytes() for path in parts.iterdir()}
    good = files["journal.jsonl"].decode()
    ends = []
    for seed in range(24):
        rng = random.Random(seed)
        parts.mkdir(exist_ok=True)
        for name, content in files.items():
            (parts / name).write_bytes(content)
        lines = [json.loads(line) for line in good.splitlines()]
        mutate = hostile_records.MUTATIONS[seed % len(hostile_records.MUTATIONS)]
        (parts / "journal.jsonl").write_bytes(mutate(lines, rng))
        target.unlink(missing_ok=True)
        try:
            result, _ = enlarge(clip, segment=6)
        except RealESRGANError as error:
            ends.append(error.code)
            assert not target.exists()
            enlarge(clip, segment=6, restart=True)
        else:
            ends.append("done")
            assert result.path == target and result.frames == 36
        assert len(decode(target)) == 36
    assert ends.count("done") > 12, ends


def test_files_of_others_in_the_folder_of_segments_stay(unfinished, enlarge):
    clip, _, parts = unfinished
    (parts / "notes.txt").write_text("mine", encoding="utf-8")
    enlarge(clip, segment=6, restart=True)
    assert [path.name for path in parts.iterdir()] == ["notes.txt"]


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders there")
def test_a_pipe_in_the_place_of_a_list_is_not_waited_for(unfinished, enlarge, tmp_path):
    clip, target, parts = unfinished
    (parts / "journal.jsonl").unlink()
    os.mkfifo(parts / "journal.jsonl")
    with pytest.raises(VideoError) as caught:
        enlarge(clip, segment=6)
    assert caught.value.code == "video.unwritable"
    ledger = Ledger(tmp_path)
    os.mkfifo(tmp_path / ".realesrgan-videos.jsonl")
    target.write_bytes(b"")
    assert not ledger.has(target, {})
    ledger.add(target, {})


class TestLock:
    HOLD = (
        "import sys; sys.path[:0] = [{root!r}]\nfrom pathlib import Path\nfrom realesrgan.video.journal import Lock\n"
    )
    HOLD += "with Lock(Path({target!r})):\n    print('held', flush=True)\n    sys.stdin.read()\n"

    @pytest.fixture()
    def holder(self, tmp_path):
        """Another process that makes ``result.mp4``."""
        code = self.HOLD.format(root=str(ROOT), target=str(tmp_path / "result.mp4"))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", code], **pipes) as running:
            assert running.stdout.readline().strip() == b"held"
            yield running
            running.kill()

    def test_another_run_on_the_same_result_is_refused(self, tmp_path, enlarge, holder):
        clip = write(tmp_path / "in.mp4", FRAMES[:6])
        with pytest.raises(VideoError, match=rf"another run \(process {holder.pid}\)") as caught:
            enlarge(clip)
        assert caught.value.code == "video.locked"
        assert not parts_folder(tmp_path / "result.mp4").exists(), "nothing of the other run is touched"
        holder.stdin.close()
        assert holder.wait(60) == 0
        assert not (tmp_path / ".result.mp4.lock").exists()
        result, _ = enlarge(clip)
        assert result.frames == 6
        assert not (tmp_path / ".result.mp4.lock").exists()

    def test_a_killed_run_holds_nothing(self, tmp_path, enlarge, holder):
        clip = write(tmp_path / "in.mp4", FRAMES[:6])
        holder.kill()
        holder.wait(60)
        assert (tmp_path / ".result.mp4.lock").exists()
        result, _ = enlarge(clip)
        assert result.frames == 6

    def test_many_at_once_have_it_one_after_the_other(self, tmp_path):
        inside, most, rounds = [], [], []

        def take():
            while len(rounds) < 60:
                try:
                    with Lock(tmp_path / "result.mp4"):
                        inside.append(1)
                        most.append(len(inside))
                        inside.pop()
                        rounds.append(1)
                except VideoError:
                    pass

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert max(most) == 1
        assert not list(tmp_path.iterdir())

    def test_a_file_system_without_locks_does_not_end_a_run(self, tmp_path, monkeypatch):
        if os.name == "nt":
            pytest.skip("other calls there")
        import errno
        import fcntl

        def refuse(*_):
            raise OSError(errno.ENOLCK, "no locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
        with Lock(tmp_path / "result.mp4"):
            pass
