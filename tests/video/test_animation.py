"""Animated pictures: GIF, WebP and APNG in, a video or an animated picture out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import Nearest, decode, picture, pictures, times, write
from PIL import Image

from realesrgan.cli import run as cli_run
from realesrgan.cli import video as video_cli
from realesrgan.video.animation import AnimationSource, is_animation
from realesrgan.video.tasks import find_tasks

DATA = Path(__file__).resolve().parents[1] / "data" / "video"
LENGTHS = [100, 200, 100, 300, 70]
FRAMES = [picture(number) for number in range(len(LENGTHS))]


class Described(Nearest):
    def enhance(self, img, outscale=None, alpha_upsampler="realesrgan"):
        result, _ = super().enhance(img, outscale, alpha_upsampler)
        return result, "RGBA" if img.shape[2] == 4 else "RGB"

    def describe(self):
        return {"name": "fake", "device": "cpu", "precision": "fp32", "model": "nearest", "tile_pad": 0}


@pytest.fixture()
def command(tmp_path, monkeypatch, capsys):
    """``command(*words)``: the status and what was said; results go to ``out``."""
    upsampler = Described()
    monkeypatch.setattr(cli_run, "build_upscaler", lambda *args, **kwargs: upsampler)

    def call(*words):
        status = video_cli.main([*map(str, words), "-o", str(tmp_path / "out"), "-s", "2", "--lang", "en"])
        shown = capsys.readouterr()
        return status, shown.out + shown.err

    call.upsampler = upsampler
    return call


def holes(number):
    """Where frame ``number`` is transparent: a square that moves."""
    mask = np.zeros((48, 64), bool)
    mask[20:40, 4 * number : 4 * number + 20] = True
    return mask


def animate(path, transparent=False, loop=3, lengths=LENGTHS):
    """An animated picture of ``FRAMES``, with Pillow."""
    made = []
    for number in range(len(lengths)):
        rgba = np.dstack((FRAMES[number % 5][:, :, ::-1], np.full((48, 64), 255, np.uint8)))
        if transparent:
            rgba[holes(number % 5)] = 0
        made.append(Image.fromarray(rgba if transparent else np.ascontiguousarray(rgba[:, :, :3])))
    exact = {"lossless": True} if path.suffix == ".webp" else {}
    loops = {} if loop is None else {"loop": loop}
    disposal = {"disposal": 2} if transparent and path.suffix == ".gif" else {}
    made[0].save(path, save_all=True, append_images=made[1:], duration=lengths, **loops, **exact, **disposal)
    return path


def read(path):
    """Frames as RGBA, how long each is shown, and how often all of them."""
    with Image.open(path) as image:
        frames, lengths = [], []
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            frames.append(np.asarray(image.convert("RGBA")).astype(int))
            lengths.append(image.info["duration"])
        return frames, lengths, image.info.get("loop")


def doubled(array):
    return array.repeat(2, 0).repeat(2, 1)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_opaque_animation_becomes_a_video_with_its_times(tmp_path, command, suffix):
    status, said = command("-i", animate(tmp_path / f"anim.{suffix}"))
    assert status == 0, said
    target = tmp_path / "out" / "anim_out.mp4"
    assert times(target) == pytest.approx([0, 0.1, 0.3, 0.4, 0.7], abs=1e-4)
    shown = pictures(target, matrix=1)
    for number, frame in enumerate(FRAMES):
        assert np.abs(shown[number].astype(int) - doubled(frame)).mean() < 6
    import av

    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(0.77, abs=0.01), "also that of the last one"


def test_a_gif_whose_pixel_format_has_transparency_and_whose_pixels_have_none(tmp_path, command):
    status, said = command("-i", DATA / "anim.gif")
    assert status == 0, said
    assert times(tmp_path / "out" / "anim_out.mp4") == pytest.approx([0, 0.1, 0.3, 0.4, 0.7, 0.8], abs=1e-4)
    assert command("-i", DATA / "anim.gif", "--ext", "gif")[0] == 0
    _, lengths, loop = read(tmp_path / "out" / "anim_out.gif")
    assert (lengths, loop) == ([100, 200, 100, 300, 100, 100], 0)


@pytest.mark.parametrize("source", ["gif", "webp", "png"])
@pytest.mark.parametrize("wish", ["gif", "webp"])
@pytest.mark.parametrize("transparent", [False, True])
def test_an_animated_picture_keeps_times_loop_and_transparency(tmp_path, command, source, wish, transparent):
    status, said = command("-i", animate(tmp_path / f"anim.{source}", transparent), "--ext", wish)
    assert status == 0, said
    target = tmp_path / "out" / f"anim_out.{wish}"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [target.name]
    frames, lengths, loop = read(target)
    assert (lengths, loop) == (LENGTHS, 3)
    for number, frame in enumerate(frames):
        assert frame.shape == (96, 128, 4)
        clear = doubled(holes(number)) if transparent else np.zeros((96, 128), bool)
        assert np.array_equal(frame[:, :, 3] == 0, clear)
        right = doubled(FRAMES[number][:, :, ::-1])
        assert np.abs(frame[:, :, :3] - right)[~clear].mean() < 8


@pytest.mark.parametrize(("loop", "expected"), [(None, None), (0, 0), (1, 1), (7, 7)])
def test_how_often_a_gif_is_shown(tmp_path, command, loop, expected):
    """A GIF that does not tell is shown once."""
    assert command("-i", animate(tmp_path / "anim.gif", loop=loop), "--ext", "gif")[0] == 0
    assert read(tmp_path / "out" / "anim_out.gif")[2] == expected
    assert command("-i", tmp_path / "anim.gif", "--ext", "webp")[0] == 0
    assert read(tmp_path / "out" / "anim_out.webp")[2] == (1 if expected is None else expected)


def test_a_transparent_animation_says_how_it_is_kept(tmp_path, command):
    status, said = command("-i", animate(tmp_path / "anim.gif", transparent=True))
    assert status == 2
    assert "has transparency, which h264 cannot store" in said and "--ext webp" in said
    assert command("-i", tmp_path / "anim.gif", "--drop-alpha")[0] == 0
    assert len(decode(tmp_path / "out" / "anim_out.mp4")) == 5


def test_edges_of_transparency_get_no_fringe(tmp_path):
    """The colour under transparent pixels is black in the file, and that of its neighbours for the network."""
    source = AnimationSource(animate(tmp_path / "anim.gif", transparent=True))
    for number, shot in enumerate(source.shots()):
        inside = shot.picture[:, :, :3][holes(number)]
        assert np.abs(inside.astype(int) - FRAMES[number][holes(number)]).mean() < 40
        assert not shot.picture[:, :, 3][holes(number)].any()


def test_a_video_as_an_animated_picture(tmp_path, command):
    clip = write(tmp_path / "film.mp4", [picture(number) for number in range(10)], sound=True)
    status, said = command("-i", clip, "--ext", "gif")
    assert status == 0
    assert "contains pictures only: 1 other streams" in said
    frames, lengths, loop = read(tmp_path / "out" / "film_out.gif")
    shown = times(clip)
    assert sum(lengths) == pytest.approx(1000 * (shown[-1] + shown[1] - shown[0]), abs=11)
    assert len(frames) == 10 and loop == 0


def test_frames_that_are_too_short_for_the_format_are_said(tmp_path, command):
    clip = write(tmp_path / "film.mkv", [picture(number) for number in range(12)], codec="ffv1", pix_fmt="bgr0")
    status, said = command("-i", clip, "--ext", "gif", "--fps", "240")
    assert status == 0
    assert "frames are shown for less time than gif can say" in said
    assert min(read(tmp_path / "out" / "film_out.gif")[1]) >= 10


def test_frames_without_a_time_are_shown_as_players_show_them(tmp_path):
    animate(tmp_path / "anim.gif", lengths=[0, 0, 50, 0])
    source = AnimationSource(tmp_path / "anim.gif")
    assert [shot.pts for shot in source.shots()] == [0, 100, 200, 250]
    assert source.step == 100


def test_an_interrupted_animation_goes_on(tmp_path, command):
    animate(tmp_path / "anim.webp", lengths=[40] * 30)

    def stop(count):
        if count == 12:
            raise KeyboardInterrupt

    command.upsampler._after = stop
    status, _ = command("-i", tmp_path / "anim.webp", "--ext", "webp", "--segment", "5", "--no-skip-repeats")
    assert status == 130
    assert len(read(tmp_path / "out" / "anim_out.part.webp")[0]) == 11
    command.upsampler._after = None
    seen = command.upsampler.seen
    status, _ = command("-i", tmp_path / "anim.webp", "--ext", "webp", "--segment", "5", "--no-skip-repeats")
    assert status == 0
    assert command.upsampler.seen - seen == 19
    assert sum(read(tmp_path / "out" / "anim_out.webp")[1]) == 1200


def test_a_result_larger_than_the_format_is_refused_before_the_work(tmp_path, command):
    Image.new("RGB", (9000, 2)).save(tmp_path / "wide.gif")
    status, said = command("-i", tmp_path / "wide.gif", "--ext", "webp")
    assert status == 2
    assert "A webp file allows at most 16383x16383 pixels, the result has 18000x4" in said
    assert command.upsampler.seen == 0


def test_a_gif_cut_short_gives_what_it_has(tmp_path, command):
    path = animate(tmp_path / "anim.gif")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    status, said = command("-i", path)
    assert status == 0
    assert said.count("cannot be read further") == 1
    assert 1 <= len(decode(tmp_path / "out" / "anim_out.mp4")) < 5
    path.write_bytes(b"GIF89a")
    status, said = command("-i", path)
    assert status == 1 and "cannot be read as a video" in said


def test_animations_of_a_folder_are_videos_and_still_pictures_frames(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    animate(folder / "b.gif")
    animate(folder / "a.webp")
    assert [task.path.name for task in find_tasks(folder)] == ["a.webp", "b.gif"]
    for name in ("a.webp", "b.gif"):
        Image.new("RGB", (8, 8)).save(folder / name)
    assert [len(task.pictures) for task in find_tasks(folder)] == [2]


def test_what_an_animation_is(tmp_path):
    assert is_animation(animate(tmp_path / "a.webp"))
    (tmp_path / "a.webp").rename(tmp_path / "film.mp4")
    assert is_animation(tmp_path / "film.mp4"), "by its content"
    Image.new("RGB", (8, 8)).save(tmp_path / "still.png")
    (tmp_path / "text.gif").write_text("GIF89a, it says", encoding="utf-8")
    for name in ("still.png", "text.gif", "nothing.gif"):
        assert not is_animation(tmp_path / name)
