"""One video on several devices: what comes out is what one device makes, whatever is lost on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import Nearest, damaged_copy, decode, packets, picture, planes_of, times, write

from realesrgan import RealESRGANer
from realesrgan.batch import dispatch
from realesrgan.batch.dispatch import Worker
from realesrgan.cli import video as video_cli
from realesrgan.errors import DeviceLostError, Phrase, TileError
from realesrgan.inference.child import pack_error
from realesrgan.video import shared
from realesrgan.video import source as sources
from realesrgan.video import worker as video_worker
from realesrgan.video.encoding import EncoderChoice
from realesrgan.video.pieces import Cutter, VideoPlan, read
from realesrgan.video.probe import probe
from realesrgan.video.pyav import VideoError
from realesrgan.video.run import VideoOptions, part_path, parts_folder, plan, process
from realesrgan.video.shared import Crew
from realesrgan.video.source import FolderSource, VideoSource
from realesrgan.video.tasks import Task, open_source
from realesrgan.video.worker import DEPTH, SERVE, Desk

FRAMES = [picture(number) for number in range(36)]


class Enlarger(Nearest):
    """Also takes the progress of tiles, as the real one."""

    def enhance(self, img, outscale=None, alpha_upsampler="realesrgan", progress=None):
        return super().enhance(img, outscale, alpha_upsampler)


class Hands(Worker):
    """A worker in threads of this process. It is lost, once it has posted so many messages of a kind.

    Args:
        after: Is called with the number of each frame that it enlarges.
        lost: (kind, count): the message before which it is lost.
        goes_on: How often it begins anew.
    """

    depth = 2

    def __init__(self, name="hands", after=None, lost=None, goes_on=0):
        super().__init__()
        self.name, self.lost, self.goes_on = name, lost, goes_on
        self.upsampler = Enlarger(after)
        self.pieces, self.told = [], []
        self.closed = False
        self.desk = None

    def begin(self, plan, post):
        self.begun = plan, post
        self.desk = Desk(self.upsampler, lambda *message: self._tell(post, *message))
        self.alive = True
        self.desk.plan(*plan)

    def _tell(self, post, kind, *values):
        if not self.alive:
            return
        self.told.append(kind)
        if self.lost and self.lost[0] == kind and self.told.count(kind) == self.lost[1]:
            self.alive = False
            self.desk.stop()
            post(self, ("gone", Phrase("child.closed", "it closed its pipe")))
            return
        post(self, (kind, *values))

    def hand(self, job):
        self.under_way[job.index] = job
        self.pieces.append((job.first, len(job.frames)))
        self.desk.job(job)

    def stop(self):
        self.desk.stop()

    def again(self, kind):
        self.close()
        self.goes_on -= 1
        if self.goes_on < 0:
            return False
        self.begin(*self.begun)
        return True

    def close(self):
        self.closed = True
        self.alive = False
        if self.desk is not None:
            self.desk.close()


@pytest.fixture()
def enlarge_on(tmp_path):
    """``enlarge_on(source, *workers, **options)``: on several workers; gives the result and its path."""
    started = []

    def call(source, *workers, name="result", encoder=None, progress=None, **options):
        source = source if hasattr(source, "shots") else VideoSource(probe(source))
        options.setdefault("outscale", 2.0)
        options.setdefault("segment", 6)
        settings = VideoOptions(encoder=EncoderChoice(**(encoder or {})), **options)
        form = plan(source, settings)
        target = tmp_path / f"{name}.{form.container}"
        crew = Crew(list(workers))
        started.extend(workers)
        return process(source, None, target, settings, progress, crew=crew), target

    yield call
    for worker in started:
        worker.close()


def whole(path):
    """Everything of every stream: what two results have to have in common."""
    with av.open(str(path)) as container:
        streams = [(stream.type, stream.codec_context.name, dict(stream.metadata)) for stream in container.streams]
        found = [
            (packet.stream.index, packet.pts, packet.dts, packet.duration, packet.is_keyframe, bytes(packet))
            for packet in container.demux()
        ]
        return streams, dict(container.metadata), found


def same_frames(one, other):
    ours, theirs = decode(one), decode(other)
    assert [moment for moment, _ in ours] == [moment for moment, _ in theirs]
    for (_, first), (_, second) in zip(ours, theirs):
        for a, b in zip(planes_of(first), planes_of(second)):
            assert np.array_equal(a, b)


def journaled(target):
    path = parts_folder(target) / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line["first"] for line in lines if "first" in line]


# ------------------------------------------------------------------------------------------------------- the same


def variable(path):
    """Times without a rhythm, a late start, B frames and few key frames."""
    generator = np.random.default_rng(5)
    pts = 700 + np.cumsum(generator.integers(1, 90, len(FRAMES)))
    return write(path, FRAMES, pts=[int(moment) for moment in pts], time_base=Fraction(1, 1000), sound=True)


def one_key_frame(path):
    return write(path, FRAMES, options={"crf": "10", "bf": "3", "g": "500", "sc_threshold": "0"})


def open_gop(path):
    return write(path, FRAMES, codec="mpeg2video", options={"g": "9", "bf": "2", "q": "3"})


def repeats(path):
    return write(path, [FRAMES[number // 5] for number in range(36)], options={"qp": "0", "g": "12"})


def deep(path):
    return write(path, FRAMES, codec="libx265", pix_fmt="yuv420p10le", options={"x265-params": "log-level=error"})


@pytest.mark.parametrize(
    ("make", "suffix"),
    [(variable, "mkv"), (one_key_frame, "mp4"), (open_gop, "ts"), (repeats, "mp4"), (deep, "mp4")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_same_file_as_on_one_device(tmp_path, enlarge, enlarge_on, make, suffix):
    clip = make(tmp_path / f"in.{suffix}")
    _, one = enlarge(clip, name="one", segment=6)
    workers = [Hands("a"), Hands("b"), Hands("c")]
    result, several = enlarge_on(clip, *workers)
    assert whole(several) == whole(one)
    same_frames(several, one)
    assert (result.frames, result.devices) == (36, 3)
    assert result.computed + result.repeated == 36
    assert result.dropped == 0
    assert sum(bool(worker.pieces) for worker in workers) >= 2
    assert not parts_folder(several).exists()


@pytest.mark.parametrize("fps", [Fraction(10), Fraction(60), Fraction(24000, 1001)])
def test_a_constant_rate(tmp_path, enlarge, enlarge_on, fps):
    clip = variable(tmp_path / "in.mkv")
    _, one = enlarge(clip, name="one", segment=6, fps=fps)
    _, several = enlarge_on(clip, Hands("a"), Hands("b"), fps=fps)
    assert whole(several) == whole(one)


@pytest.mark.parametrize("number", [0, 5, 6, 17, 35])
def test_damage_at_and_between_the_borders(tmp_path, enlarge, enlarge_on, number):
    clip = write(tmp_path / "in.mp4", FRAMES, options={"crf": "10", "bf": "0", "g": "12"})

    def change(data, place, size):
        data[place : place + size] = b"\xff" * size

    hurt = tmp_path / "hurt.mp4"
    damaged_copy(clip, hurt, number, change)
    first, one = enlarge(hurt, name="one", segment=6)
    result, several = enlarge_on(hurt, Hands("a"), Hands("b"))
    assert first.concealed and result.concealed == first.concealed
    assert result.dropped == first.dropped
    assert whole(several) == whole(one)


def test_a_folder_of_frames_and_an_animation(tmp_path, enlarge, enlarge_on):
    import cv2
    from PIL import Image

    folder = tmp_path / "frames"
    folder.mkdir()
    for number, pixels in enumerate(FRAMES):
        (folder / f"{number:03}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    (folder / "006.png").write_bytes(b"no picture")
    made = FolderSource(folder, sorted(folder.iterdir()), Fraction(24))
    _, one = enlarge(folder, name="one", source=made, segment=6)
    _, several = enlarge_on(made, Hands("a"), Hands("b"))
    assert whole(several) == whole(one)

    images = [Image.fromarray(pixels[:, :, ::-1]) for pixels in FRAMES[:14]]
    images[0].save(tmp_path / "in.gif", save_all=True, append_images=images[1:], duration=40, loop=2)
    gif = open_source(Task(tmp_path / "in.gif"), None)
    encoder = {"container": "gif"}
    _, one = enlarge(tmp_path, name="gif1", source=gif, segment=6, encoder=encoder)
    _, several = enlarge_on(gif, Hands("a"), Hands("b"), name="gif2", encoder=encoder)
    assert several.read_bytes() == one.read_bytes()


def test_pieces_are_decoded_from_the_key_frame_before_them(tmp_path, monkeypatch):
    """Each reader decodes little more than its own frames, and where a seek misleads it, all from the start."""
    clip = write(tmp_path / "in.mp4", FRAMES)
    source = VideoSource(probe(clip))
    form = plan(source, VideoOptions(outscale=2.0))
    video = VideoPlan(source, (0,), form, None, tmp_path, 2.0, "realesrgan", 6, 300.0, True, "")
    cutter = Cutter(video, 1, set(range(12, 18)))
    pieces = list(cutter)
    assert [(piece.first, piece.end) for piece in pieces] == [(0, 6), (6, 12), (18, 24), (24, 30), (30, 36)]
    assert cutter.total == 36
    decoded = []
    real = VideoSource._decoded

    def counting(self, container):
        for item in real(self, container):
            decoded.append(item[0])
            yield item

    monkeypatch.setattr(VideoSource, "_decoded", counting)
    expected = {shot.index: sources.checksum(shot.picture) for shot in source.shots()}
    for piece in pieces:
        decoded.clear()
        shots = list(read(video, piece.after(piece.first + 2)))
        assert [shot.index for shot in shots] == list(range(piece.first + 2, piece.end))
        assert [sources.checksum(shot.picture) for shot in shots] == [expected[shot.index] for shot in shots]
        assert len(decoded) <= 12 + 6
    decoded.clear()
    misled = pieces[-1].frames[2:]
    wrong = pieces[-1].__class__(
        30, 30, (pieces[-1].frames[0], (misled[0][0], 1, ""), *misled), 1, pieces[-1].anchor, 0
    )
    with pytest.raises(VideoError) as caught:
        list(read(video, wrong))
    assert caught.value.code == "video.frame_lost"


# --------------------------------------------------------------------------------------- what is lost on the way


@pytest.mark.parametrize("kind", ["frames", "segment", "end"])
@pytest.mark.parametrize("goes_on", [0, 1])
def test_a_lost_workers_frames_are_done_by_another(tmp_path, enlarge, enlarge_on, said, kind, goes_on):
    clip = write(tmp_path / "in.mp4", FRAMES, sound=True)
    _, one = enlarge(clip, name="one", segment=6)
    counts = {"frames": 5, "segment": 1, "end": 1}
    dying = Hands("dying", lost=(kind, counts[kind]), goes_on=goes_on)
    seen = []
    result, several = enlarge_on(clip, dying, Hands("other"), progress=lambda done, total: seen.append(done))
    assert whole(several) == whole(one)
    assert result.frames == 36 and seen[-1] == 36 and max(seen) == 36
    assert ("pool.again" if goes_on else "pool.lost") in said


def test_secured_frames_of_a_lost_piece_are_not_computed_again(tmp_path, enlarge_on):
    """A piece is secured in parts where it takes long; only what is missing of it goes to another."""
    clip = write(tmp_path / "in.mp4", FRAMES)
    dying = Hands("dying", lost=("segment", 4), goes_on=1)
    result, several = enlarge_on(clip, dying, segment=36, segment_seconds=0.0)
    assert result.frames == 36 and times(several) == times(clip)
    again = [first for first, count in dying.pieces if count < 24]
    assert again and min(again) >= 2, dying.pieces
    assert result.computed + result.repeated < 2 * 36


def test_frames_that_take_every_worker_with_them_end_the_run_and_keep_the_rest(tmp_path, enlarge_on):
    clip = write(tmp_path / "in.mp4", FRAMES)

    class Fragile(Hands):
        def hand(self, job):
            super().hand(job)
            if job.index == 12:
                packed = pack_error(DeviceLostError("removed"))
                self.begun[1](self, ("end", 12, "lost", packed, {}))

    workers = [Fragile("a", goes_on=9), Fragile("b", goes_on=9)]
    with pytest.raises(VideoError, match="12 to 17 .* 3 processes") as caught:
        enlarge_on(clip, *workers)
    assert caught.value.code == "video.lost"
    target = tmp_path / "result.mp4"
    assert not target.exists() and journaled(target) and 12 not in journaled(target)
    result, target = enlarge_on(clip, Hands("c"))
    assert result.resumed >= 6 and result.frames == 36


def test_without_a_device_the_run_ends_and_keeps_what_it_has(tmp_path, enlarge_on):
    clip = write(tmp_path / "in.mp4", FRAMES)
    with pytest.raises(VideoError) as caught:
        enlarge_on(clip, Hands("a", lost=("segment", 3)))
    assert caught.value.code == "video.no_device"
    assert len(journaled(tmp_path / "result.mp4")) == 2


def test_an_error_that_is_not_the_devices_ends_the_run(tmp_path, enlarge_on):
    clip = write(tmp_path / "in.mp4", FRAMES)

    def fail(count):
        if count == 8:
            raise TileError("broken")

    workers = [Hands("a", fail), Hands("b", lambda count: time.sleep(0.02))]
    with pytest.raises(TileError):
        enlarge_on(clip, *workers)
    assert not any(worker.under_way for worker in workers), "they are ready for another video"
    assert 0 in journaled(tmp_path / "result.mp4")
    result, _ = enlarge_on(clip, *workers)
    assert result.frames == 36


def test_a_change_of_size_is_told_after_what_is_before_it(tmp_path, enlarge, enlarge_on):
    first = write(tmp_path / "a.ts", FRAMES[:20], codec="mpeg2video", format="mpegts")
    other = [picture(number, 96, 64) for number in range(10)]
    second = write(tmp_path / "b.ts", other, codec="mpeg2video", format="mpegts", pts=range(24, 34))
    clip = tmp_path / "in.ts"
    clip.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(VideoError) as one:
        enlarge(clip, name="one", segment=6)
    with pytest.raises(VideoError) as several:
        enlarge_on(clip, Hands("a"), Hands("b"))
    assert one.value.code == several.value.code == "video.size_change"
    assert whole(part_path(tmp_path / "result.mp4")) == whole(part_path(tmp_path / "one.mp4"))


# -------------------------------------------------------------------------------------------------------- going on


def test_ctrl_c_keeps_what_is_enlarged_and_one_device_goes_on(tmp_path, enlarge, enlarge_on):
    clip = write(tmp_path / "in.mp4", FRAMES, sound=True)

    def press(done, _):
        if done >= 20:
            raise KeyboardInterrupt

    slow = [Hands(name, lambda count: time.sleep(0.01)) for name in "ab"]
    result, target = enlarge_on(clip, *slow, progress=press)
    assert result.interrupted and not target.exists()
    assert result.path == part_path(target)
    assert times(result.path) == times(clip)[: result.frames]
    assert not list(parts_folder(target).glob("*.partial"))
    upsampler = Nearest()
    again, target = enlarge(clip, upsampler, segment=6)
    assert 18 <= again.resumed < 36 and upsampler.seen == 36 - again.resumed
    assert times(target) == times(clip) and packets(target, "audio") == packets(clip, "audio")
    assert not part_path(target).exists()


def test_several_go_on_where_one_was_interrupted(tmp_path, enlarge, enlarge_on):
    clip = write(tmp_path / "in.mp4", FRAMES)

    def press(count):
        if count == 16:
            raise KeyboardInterrupt

    result, target = enlarge(clip, Nearest(press), segment=6)
    assert result.interrupted and result.frames == 15
    workers = [Hands("a"), Hands("b")]
    result, target = enlarge_on(clip, *workers)
    assert (result.resumed, result.frames) == (15, 36)
    assert sum(worker.upsampler.seen for worker in workers) == 36 - 15
    assert times(target) == times(clip)


def test_a_gap_is_filled(tmp_path, enlarge_on):
    clip = write(tmp_path / "in.mp4", FRAMES)

    def press(done, _):
        if done >= 30:
            raise KeyboardInterrupt

    _, target = enlarge_on(clip, Hands("a"), progress=press)
    (parts_folder(target) / "00000012.nut").unlink()
    worker = Hands("b")
    result, target = enlarge_on(clip, worker)
    assert (12, 6) in worker.pieces and result.frames == 36
    assert times(target) == times(clip)


def test_another_file_of_the_same_name_there(tmp_path, enlarge_on, monkeypatch):
    clip = write(tmp_path / "in.mp4", FRAMES)

    class Elsewhere(Hands):
        def begin(self, plan, post):
            changed = plan[0].__class__(**{**plan[0].__dict__, "sizes": (1,)})
            super().begin((changed,), post)

    stranger, good = Elsewhere("a"), Hands("b")
    result, _ = enlarge_on(clip, stranger, good)
    assert result.frames == 36 and stranger.upsampler.seen == 0
    with pytest.raises(VideoError) as caught:
        enlarge_on(clip, Elsewhere("c"), name="other")
    assert caught.value.code == "video.no_device" and "another file" in str(caught.value)


def test_pieces_under_way_and_cut_are_few(tmp_path, enlarge_on, monkeypatch):
    """Cutting waits for the devices, however long the video is."""
    clip = write(tmp_path / "in.mp4", [picture(number) for number in range(90)])
    most, waiting = [], []
    told = shared._Shared.told

    def count(self, kind, *values):
        told(self, kind, *values)
        waiting.append(len(self.waiting))
        most.append(max(len(worker.under_way) for worker in self.workers))

    monkeypatch.setattr(shared._Shared, "told", count)
    monkeypatch.setattr(shared, "_AHEAD", 3)
    worker = Hands("a", lambda count: time.sleep(0.002))
    result, _ = enlarge_on(clip, worker, segment=3)
    assert result.frames == 90 and len(worker.pieces) == 30
    assert max(waiting) <= 4 and max(most) <= worker.depth
    assert threading.active_count() < 30


def test_short_videos_are_cut_for_all():
    crew = Crew([Hands("a"), Hands("b")])
    assert crew.segment(240, 10_000) == 240
    assert crew.segment(240, 800) == 100
    assert crew.segment(240, 40) == 24
    assert crew.segment(6, 40) == 6
    assert crew.segment(240, None) == 240


# ----------------------------------------------------------------------------------------------------- processes


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny network of its own numbers."""
    import torch
    from support.tiny_zoo import network

    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save({"params": network(3).state_dict()}, path)
    return path


@pytest.fixture()
def one_thread():
    """The numbers of several threads are not those of one, and each of two processes has one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


CLIP = Path(__file__).resolve().parents[2] / "inputs" / "clip.mp4"


def words(weights, output, *more):
    given = ["-i", CLIP, "-o", output, "--model_path", weights, "-s", "2", "-t", "64", "--segment", "8", "--lang", "en"]
    # Without loss, because x264 gives other bytes on a busy machine.
    return [str(word) for word in (*given, "--fp32", "--trust-weights", "--codec", "ffv1", *more)]


@pytest.mark.parametrize(("device", "shares"), [("cpu", 3), ("cuda:1", 6)])
def test_half_of_the_cores_are_left_to_the_encoders_where_cards_compute(monkeypatch, device, shares):
    seen = []
    monkeypatch.setattr(video_worker, "built_for", lambda line, arguments, count: seen.append(count))
    video_worker.serve(None, {"device": device}, 3)
    assert seen == [shares]


@pytest.mark.slow
def test_the_command_on_two_processes(tmp_path, weights, one_thread, capsys):
    assert video_cli.main(words(weights, tmp_path / "one", "--device", "cpu", "--no-isolate")) == 0
    capsys.readouterr()
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(CLIP, folder / "clip.mp4")
    (folder / "bad.mp4").write_bytes(b"no video")
    short = write(folder / "short.mp4", FRAMES[:10])
    several = words(weights, tmp_path / "two", "--device", "cpu,cpu", "--preview", "1")
    several[several.index(str(CLIP))] = str(folder)
    assert video_cli.main(several) == 1, "one of them is no video"
    said = capsys.readouterr()
    assert whole(tmp_path / "two" / "clip_out.mkv") == whole(tmp_path / "one" / "clip_out.mkv")
    assert times(tmp_path / "two" / "short_out.mkv") == pytest.approx(times(short), abs=0.001)
    names = [f"{name}_out{rest}" for name in ("clip", "short") for rest in (".mkv", "_preview1.png")]
    assert sorted(path.name for path in (tmp_path / "two").iterdir() if path.name[0] != ".") == names
    assert said.out.count("Device: ") == 2 and "48 frames in" in said.out and "dropped 0" in said.out
    assert "2 videos done, 1 failed" in said.out
    assert threading.active_count() < 20


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_a_killed_process_and_the_others_journal(tmp_path, weights, one_thread):
    """One process is killed in the middle, then the run is stopped, and one device finishes what two began."""
    assert video_cli.main(words(weights, tmp_path / "one", "--device", "cpu", "--no-isolate")) == 0
    arguments = {"scale": 2, "model_path": str(weights), "tile": 64, "half": False, "trust_weights": True}
    workers = dispatch.start(["cpu", "cpu"], arguments, serve=SERVE, depth=DEPTH)
    first = [worker._child.pid for worker in workers]
    target = tmp_path / "two" / "clip_out.mp4"
    pressed = []

    def watch(done, _):
        if done >= 10 and not pressed:
            os.kill(first[1], signal.SIGKILL)
            pressed.append("kill")
        if done >= 30 and "stop" not in pressed and [worker._child.pid for worker in workers] != first:
            pressed.append("stop")
            raise KeyboardInterrupt

    try:
        settings = VideoOptions(outscale=2.0, segment=8)
        result = process(VideoSource(probe(CLIP)), None, target, settings, watch, crew=Crew(list(workers)))
    finally:
        for worker in workers:
            worker.close()
    assert pressed == ["kill", "stop"] and result.interrupted
    assert 0 < result.frames < 48
    upsampler = RealESRGANer(2, str(weights), device="cpu", tile=64, half=False)
    again = process(VideoSource(probe(CLIP)), upsampler, target, settings)
    assert again.resumed >= result.frames and again.computed + again.repeated == 48 - again.resumed
    assert times(target) == times(CLIP) and packets(target, "audio") == packets(CLIP, "audio")
    assert len(decode(target)) == 48
