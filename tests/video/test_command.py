"""The command: flags, folders, what it says, how it ends. And the clip of inputs/ with the real network."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import Nearest, decode, picture, pictures, times, write

from realesrgan.cli import options as cli_options
from realesrgan.cli import video as video_cli
from realesrgan.video import tasks

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "inputs" / "clip.mp4"
FRAMES = [picture(number) for number in range(10)]


class Described(Nearest):
    def describe(self):
        return {"name": "fake", "device": "cpu", "precision": "fp32", "model": "nearest", "tile_pad": 0}


@pytest.fixture()
def command(tmp_path, monkeypatch, capsys):
    """``command(*words)``: the status, standard output and standard error of a run with the fake upsampler."""
    from realesrgan.cli import run as cli_run

    upsampler = Described()
    monkeypatch.setattr(cli_run, "build_upscaler", lambda *args, **kwargs: upsampler)

    def call(*words):
        status = video_cli.main([*map(str, words), "-o", str(tmp_path / "out"), "--lang", "en"])
        return (status, *capsys.readouterr())

    call.upsampler = upsampler
    call.output = tmp_path / "out"
    return call


def test_the_original_flags():
    words = (
        "-i a.mp4 -n realesr-general-x4v3 -o o -dn 0.3 -s 2 --suffix x -t 64 --tile_pad 8 --pre_pad 2 --face_enhance"
    )
    words += " --fp32 --fps 23.976 --ffmpeg_bin ff --extract_frame_first --num_process_per_gpu 3"
    words += " --alpha_upsampler bicubic --ext png -g 1 --device cpu"
    options = cli_options.parse_video(words.split())
    assert (options.model_name, options.denoise_strength, options.outscale) == ("realesr-general-x4v3", 0.3, 2.0)
    assert (options.tile, options.tile_pad, options.pre_pad, options.gpu_id) == (64, 8, 2, 1)
    assert options.fps == Fraction(24000, 1001)
    assert len(cli_options.former_flags(options)) == 4
    plain = cli_options.parse_video([])
    assert (plain.model_name, plain.outscale, plain.suffix, plain.fps) == ("realesr-animevideov3", 4.0, "out", None)
    assert (str(plain.input), str(plain.output)) == ("inputs", "results")


def test_the_file_of_a_single_result_is_named(tmp_path, monkeypatch, capsys):
    from realesrgan.cli import run as cli_run

    upsampler = Described()
    monkeypatch.setattr(cli_run, "build_upscaler", lambda *args, **kwargs: upsampler)
    clip = write(tmp_path / "in.mp4", FRAMES[:3])

    def call(*words):
        return video_cli.main([*map(str, words), "--lang", "en", "-s", "2"])

    for name in ("a/film.mp4", "film.MKV", "film.gif"):
        assert call("-i", clip, "-o", tmp_path / name) == 0
        assert len(decode(tmp_path / name)) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "film.MKV", "film.gif", "in.mp4"]
    assert call("-i", clip, "-o", tmp_path / "x.mp4", "--container", "mkv") == 2
    assert "kind mp4" in capsys.readouterr().err
    assert call("-i", clip, "-o", clip) == 2, "the input is not overwritten"
    # A folder keeps being one, whatever its name, and so does the output of several videos.
    (tmp_path / "folder.mp4").mkdir()
    assert call("-i", clip, "-o", tmp_path / "folder.mp4") == 0
    assert [path.name for path in (tmp_path / "folder.mp4").iterdir()] == ["in_out.mp4"]


def test_half_of_the_cores_are_left_to_the_encoder_where_a_card_computes(command, tmp_path, monkeypatch):
    import torch

    clip = write(tmp_path / "in.mp4", FRAMES[:2])
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(video_cli.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(command.upsampler, "_after", lambda count: seen.append(torch.get_num_threads()))
    try:
        torch.set_num_threads(4)
        for device, expected in (("cuda:0", 1), ("cpu", 4)):
            seen.clear()
            about = {**command.upsampler.describe(), "device": device}
            monkeypatch.setattr(command.upsampler, "describe", lambda about=about: about)
            assert command("-i", clip, "--restart")[0] == 0
            assert seen == [expected, expected]
            assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("words", [["--fps", "0"], ["--fps", "1/0"], ["-s", "x"], ["--crf", "99"], ["film.mp4"]])
def test_wrong_usage(words, capsys):
    assert video_cli.main(words) == 2
    assert "error" in capsys.readouterr().err


def test_help_needs_neither_torch_nor_av():
    code = """
import sys
for name in ("av", "torch", "numpy", "cv2"):
    sys.modules[name] = None
from realesrgan.cli.video import main
sys.exit(main(["--help"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--face_enhance" in done.stdout and "pip install av" in done.stdout


def test_a_missing_pyav_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    assert video_cli.main(["-i", str(CLIP), "--lang", "en"]) == 2
    assert "python -m pip install av" in capsys.readouterr().err
    assert video_cli.main(["-i", str(CLIP), "--lang", "ko"]) == 2
    assert "PyAV가 필요한데" in capsys.readouterr().err


def test_one_video(tmp_path, command):
    clip = write(tmp_path / "film.mkv", FRAMES, sound=True)
    status, out, _ = command("-i", clip, "-s", "2", "--preview", "2", "--num_process_per_gpu", "2", "--suffix", "x2")
    assert status == 0
    assert len(decode(command.output / "film_x2.mp4")) == 10
    assert "10 frames in" in out and "dropped 0" in out and "device busy" in out
    assert "--num_process_per_gpu: one process is enough" in out
    side_by_side = cv2.imread(str(command.output / "film_x2_preview1.png"))
    assert side_by_side.shape == (96, 2 * 128 + 4, 3)
    assert (command.output / "film_x2_preview2.png").exists()


def test_a_missing_input(command):
    status, _, err = command("-i", "nowhere.mp4")
    assert status == 2
    assert "'nowhere.mp4' does not exist" in err


def test_the_input_is_never_overwritten(tmp_path, command):
    command.output.mkdir()
    clip = write(command.output / "film.mp4", FRAMES)
    before = clip.read_bytes()
    status, _, err = command("-i", clip, "--suffix", "")
    assert status == 2 and "would overwrite the input" in err
    assert clip.read_bytes() == before


def test_no_other_input_is_overwritten_either(tmp_path, command):
    """film.mkv becomes film.mp4, which is an input itself."""
    command.output.mkdir()
    for name in ("film.mkv", "film.mp4"):
        write(command.output / name, FRAMES)
    before = {path.name: path.read_bytes() for path in command.output.iterdir()}
    status, _, err = command("-i", command.output, "--suffix", "")
    assert status == 1 and err.count("would overwrite the input") == 2
    assert {path.name: path.read_bytes() for path in command.output.iterdir()} == before


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("name", ["film_out.mp4", "film_out.part.mp4", "film_out_preview1.png"])
def test_no_input_is_overwritten_through_a_link(tmp_path, command, name):
    command.output.mkdir()
    clip = write(tmp_path / "film.mp4", FRAMES)
    before = clip.read_bytes()
    os.link(clip, command.output / name)
    status, _, err = command("-i", clip, "--preview", "1")
    assert status == 2 and "would overwrite the input" in err
    assert clip.read_bytes() == before


def test_a_video_in_the_folder_of_a_results_segments_is_not_taken_for_one(tmp_path, command):
    parts = command.output / ".00000000_out.mp4.parts"
    parts.mkdir(parents=True)
    clip = write(parts / "00000000.nut", FRAMES)
    status, _, err = command("-i", clip)
    assert status == 2 and "would overwrite the input" in err
    assert clip.exists()


def test_results_beside_their_videos_are_not_enlarged_again(tmp_path, command):
    command.output.mkdir()
    write(command.output / "film.mp4", FRAMES)
    assert command("-i", command.output)[0] == 0
    status, _, err = command("-i", command.output)
    assert status == 0
    assert "1 files in" in err and "not enlarged again" in err
    assert sorted(path.name for path in command.output.iterdir() if path.name[0] != ".") == ["film.mp4", "film_out.mp4"]


def test_other_weights_under_the_same_name_are_other_weights(tmp_path, command, monkeypatch):
    clip = write(tmp_path / "film.mp4", FRAMES)
    described = command.upsampler.describe()
    monkeypatch.setattr(command.upsampler, "describe", lambda: {**described, "weights_sha256": "11"})

    def stop(count):
        if count == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.upsampler, "_after", stop)
    assert command("-i", clip, "--segment", "2")[0] == 130
    monkeypatch.setattr(command.upsampler, "_after", None)
    monkeypatch.setattr(command.upsampler, "describe", lambda: {**described, "weights_sha256": "22"})
    status, _, err = command("-i", clip, "--segment", "2")
    assert status == 1 and "a run with another weights" in err
    assert command("-i", clip, "--segment", "2", "--restart")[0] == 0


def test_a_folder_of_frames(tmp_path, command):
    folder = tmp_path / "my film"
    folder.mkdir()
    for number, img in enumerate(FRAMES):
        cv2.imwrite(str(folder / f"frame{number:04d}.png"), img)
    (folder / "frame0004.png").write_bytes(b"broken")
    status, _, err = command("-i", folder, "-s", "2")
    assert status == 0
    target = command.output / "my film_out.mp4"
    assert times(target) == pytest.approx([number / 24 for number in range(10)], abs=1e-4)
    assert "frame 4" in err and "shown again" in err
    assert command.upsampler.seen == 9
    shown = pictures(target, matrix=1)
    assert np.abs(shown[7].astype(int) - FRAMES[7].repeat(2, 0).repeat(2, 1)).mean() < 3
    assert command("-i", folder, "-s", "2", "--fps", "10")[0] == 0
    assert times(target) == pytest.approx([number / 10 for number in range(10)], abs=1e-4)


def test_frames_of_several_sizes_are_refused(tmp_path, command):
    folder = tmp_path / "frames"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), picture(0, 64, 48))
    cv2.imwrite(str(folder / "1.png"), picture(1, 66, 48))
    status, _, err = command("-i", folder)
    assert status == 1
    assert "1.png has 66x48 pixels" in err


def test_a_folder_of_videos(tmp_path, command):
    """One is broken: the others are made, the status tells, and a second run does only what is missing."""
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("a.mp4", "c.mkv"):
        write(folder / name, FRAMES)
    (folder / "b.mp4").write_bytes(b"no video")
    cv2.imwrite(str(folder / "cover.png"), FRAMES[0])
    status, out, err = command("-i", folder, "-s", "2")
    assert status == 1
    assert "2 videos done, 1 failed" in out
    assert "b.mp4 cannot be read" in err and "the videos are used" in err
    assert sorted(path.name for path in command.output.glob("*.mp4")) == ["a_out.mp4", "c_out.mp4"]
    seen = command.upsampler.seen
    assert command("-i", folder, "-s", "2")[0] == 1
    assert command.upsampler.seen == seen
    command("-i", folder, "-s", "3")
    assert command.upsampler.seen == 2 * seen, "other options, another result"


def test_two_videos_of_one_name(tmp_path, command):
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("a.mkv", "a.mp4"):
        write(folder / name, FRAMES[:3])
    status, _, err = command("-i", folder)
    assert status == 1
    assert "a.mkv has the same result name" in err.replace(str(folder) + "/", "")


def test_skip_existing(tmp_path, command):
    clip = write(tmp_path / "film.mp4", FRAMES)
    command.output.mkdir()
    (command.output / "film_out.mp4").write_bytes(b"there")
    status, out, _ = command("-i", clip, "--skip-existing")
    assert (status, command.upsampler.seen) == (0, 0)
    assert "skipped" in out


def test_ctrl_c_ends_with_its_status(tmp_path, command):
    clip = write(tmp_path / "film.mp4", FRAMES)

    def press(count):
        if count == 5:
            raise KeyboardInterrupt

    command.upsampler._after = press
    status, _, err = command("-i", clip)
    assert status == 130
    assert "Stopped after 4 frames" in err and "The same command goes on" in err
    assert len(decode(command.output / "film_out.part.mp4")) == 4


def test_a_tasks_name_is_that_of_the_original():
    assert tasks.Task(Path("a/film.old.mkv")).target(Path("r"), "out", "mp4") == Path("r/film.old_out.mp4")
    assert tasks.Task(Path("a/film.mkv")).target(Path("r"), "", "mkv") == Path("r/film.mkv")


def test_messages_are_said_once_beneath_the_main_command(tmp_path, command, capsys):
    from realesrgan.cli import commands as cli

    clip = write(tmp_path / "in.mkv", FRAMES[:3], matrix=2, primaries=2, transfer=2)
    assert cli.main(["video", "-i", str(clip), "-o", str(tmp_path / "o"), "--lang", "en"]) == 0
    assert capsys.readouterr().out.count("does not say what its colours mean") == 1
