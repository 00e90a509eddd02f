"""The scripts that prepare data and export networks."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import cv2
import numpy as np
import pytest
from training import ROOT, require_basicsr

require_basicsr()
pytestmark = pytest.mark.train

import torch  # noqa: E402

from realesrgan.data import sources  # noqa: E402

MINE = ["--trust-weights"]  # an older torch asks for it


def srvgg() -> torch.nn.Module:
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    return SRVGGNetCompact(3, 3, num_feat=8, num_conv=2, upscale=4)


def checkpoint(network: torch.nn.Module, folder: Path) -> None:
    torch.save({"params": network.state_dict()}, folder / "net.pth")


def script(name: str) -> Any:
    if str(ROOT / "scripts") not in sys.path:
        sys.path.insert(0, str(ROOT / "scripts"))
    return importlib.import_module(name)


@pytest.fixture()
def data(tmp_path: Path) -> Path:
    sources.draw_folder(tmp_path / "HR 그림", 3, 60, 1, tmp_path / "LR", 4)
    return tmp_path


def test_meta_info_lists_relative_paths_and_leaves_out_broken_ones(data: Path, capsys: pytest.CaptureFixture) -> None:
    (data / "HR 그림" / "broken.png").write_bytes(b"x")
    target = data / "meta" / "list.txt"
    main = script("generate_meta_info").main
    arguments = ["--input", str(data / "HR 그림"), "--root", str(data), "--meta_info", str(target)]
    assert main([*arguments, "--check"]) == 0
    assert target.read_text(encoding="utf-8").splitlines() == [f"HR 그림/000{n}.png" for n in range(3)]
    assert "broken.png" in capsys.readouterr().err
    assert main(arguments) == 0
    assert len(target.read_text(encoding="utf-8").splitlines()) == 4
    assert main(["--input", str(data / "LR"), "--root", str(data / "HR 그림"), "--meta_info", str(target)]) == 1
    assert "below its root" in capsys.readouterr().err


def test_pairs_are_listed_by_name(data: Path, capsys: pytest.CaptureFixture) -> None:
    target = data / "pairs.txt"
    arguments = ["--input", str(data / "HR 그림"), str(data / "LR"), "--root", str(data), "--meta_info", str(target)]
    assert script("generate_meta_info_pairdata").main(arguments) == 0
    assert target.read_text(encoding="utf-8").splitlines()[2] == "HR 그림/0002.png, LR/0002.png"
    (data / "LR" / "0001.png").unlink()
    assert script("generate_meta_info_pairdata").main(arguments) == 1
    assert "0001" in capsys.readouterr().err


def test_parts_cover_the_picture(data: Path, capsys: pytest.CaptureFixture) -> None:
    main = script("extract_subimages").main
    arguments = ["--input", str(data / "HR 그림"), "--output", str(data / "sub"), "--crop_size", "32", "--step", "20"]
    assert main([*arguments, "--n_thread", "1"]) == 0
    whole = cv2.imdecode(np.frombuffer((data / "HR 그림" / "0000.png").read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    parts = sorted((data / "sub").glob("0000_s*.png"))
    assert [path.name for path in parts] == [f"0000_s{n:03d}.png" for n in range(1, 10)]
    places = [(top, left) for top in (0, 20, 28) for left in (0, 20, 28)]
    for path, (top, left) in zip(parts, places):
        np.testing.assert_array_equal(cv2.imread(str(path)), whole[top : top + 32, left : left + 32])
    assert main(arguments) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("length", "step", "threshold", "expected"),
    [(100, 30, 0, [0, 30, 60]), (95, 30, 0, [0, 30, 55]), (95, 30, 25, [0, 30]), (40, 10, 0, [0]), (39, 10, 0, [])],
)
def test_starts(length: int, step: int, threshold: int, expected: Any) -> None:
    assert script("extract_subimages").starts(length, 40, step, threshold) == expected


def test_smaller_versions_have_their_sizes(data: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--input", str(data / "HR 그림"), "--output", str(data / "multi"), "--shortest_edge", "24"]
    (data / "HR 그림" / "bad.png").write_bytes(b"x")
    assert (
        script("generate_multiscale_DF2K").main([*arguments, "--n_thread", "2"]) == 1
    )  # one is broken: said at the end
    assert "1 of 4 failed" in capsys.readouterr().out
    sizes = [cv2.imread(str(data / "multi" / f"0000T{n}.png")).shape[0] for n in range(4)]
    assert sizes == [45, 30, 20, 24]


@pytest.mark.parametrize("kind", ["rrdbnet", "unshuffled", "srvgg"])
def test_exported_networks_compute_the_same(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from realesrgan.archs.rrdbnet_arch import RRDBNet

    torch.manual_seed(0)
    network = {
        "rrdbnet": lambda: RRDBNet(3, 3, scale=4, num_feat=8, num_block=1, num_grow_ch=4),
        "unshuffled": lambda: RRDBNet(3, 3, scale=2, num_feat=8, num_block=1, num_grow_ch=4),
        "srvgg": srvgg,
    }[kind]()
    checkpoint(network, tmp_path)
    target = tmp_path / "out" / "net.onnx"
    export = script("export_onnx")
    assert export.main([*MINE, "--model", str(tmp_path / "net.pth"), "--output", str(target)]) == 0
    said = capsys.readouterr().out
    assert f"multiples of {2 if kind == 'unshuffled' else 1}," in said
    # The comparison can fail: another network's parameters are told apart.
    with torch.no_grad():
        next(iter(network.parameters())).add_(0.1)
    assert export.difference(network.eval(), target, 2) > 1e-3


def arguments_of(name: str, data: Path) -> List[str]:
    """A call that works."""
    pictures = ["--input", str(data / "HR 그림")]
    listed = [*pictures, "--root", str(data), "--meta_info", str(data / "list.txt")]
    return {
        "generate_meta_info": listed,
        "generate_meta_info_pairdata": [*pictures, str(data / "LR"), *listed[2:]],
        "extract_subimages": [*pictures, "--output", str(data / "sub"), "--crop_size", "32", "--n_thread", "1"],
        "generate_multiscale_DF2K": [*pictures, "--output", str(data / "multi"), "--n_thread", "1"],
    }[name]


DATA_SCRIPTS = ["generate_meta_info", "generate_meta_info_pairdata", "extract_subimages", "generate_multiscale_DF2K"]


@pytest.mark.parametrize("name", DATA_SCRIPTS)
@pytest.mark.parametrize("console", [True, False])
def test_a_bar_on_a_console_and_none_in_a_file(
    name: str, console: bool, data: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: console)
    assert script(name).main(arguments_of(name, data)) == 0
    said = capsys.readouterr()
    assert ("3/3" in said.err and "picture/s" in said.err) == console
    assert "3" in said.out


@pytest.mark.parametrize("name", DATA_SCRIPTS)
def test_a_folder_that_is_not_there_is_named(name: str, data: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = arguments_of(name, data)
    arguments[1] = str(data / "nowhere")
    assert script(name).main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "nowhere" in said
    (data / "nowhere").mkdir()
    assert script(name).main(arguments) == 1
    assert "no picture in" in capsys.readouterr().err


@pytest.mark.parametrize("name", DATA_SCRIPTS)
def test_a_target_that_cannot_be_written_is_named(name: str, data: Path, capsys: pytest.CaptureFixture) -> None:
    (data / "taken").write_bytes(b"a file")
    arguments = arguments_of(name, data)
    option = "--meta_info" if "--meta_info" in arguments else "--output"
    arguments[arguments.index(option) + 1] = str(data / "taken" / "below")
    assert script(name).main(arguments) == 1
    assert str(data / "taken" / "below") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("generate_meta_info", ["--root", "a", "b"], "--root takes one folder, or as many as --input (1), not 2"),
        ("generate_meta_info_pairdata", ["--root", "a", "b", "c"], "--root takes one or two folders, not 3"),
    ],
)
def test_values_that_cannot_be_are_said(
    name: str, words: List[str], expected: str, data: Path, capsys: pytest.CaptureFixture
) -> None:
    assert script(name).main([*arguments_of(name, data), *words]) == 1
    assert capsys.readouterr().err == f"error: {expected}\n"


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("extract_subimages", ["--crop_size", "0"], "'0' is not a whole number from 1 up"),
        ("extract_subimages", ["--compression_level", "10"], "'10' is not a whole number from 0 to 9"),
        ("generate_multiscale_DF2K", ["--shortest_edge", "0"], "'0' is not a whole number from 1 up"),
    ],
)
def test_numbers_out_of_range_are_said(
    name: str, words: List[str], expected: str, data: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended:
        script(name).main([*arguments_of(name, data), *words])
    assert ended.value.code == 2
    assert f"argument {words[0]}: {expected}" in capsys.readouterr().err


def test_two_processes_make_what_one_makes(data: Path) -> None:
    """By the command, as a user starts it: the jobs must survive being sent to another process."""
    for count in ("1", "2"):
        command = [sys.executable, str(ROOT / "scripts" / "extract_subimages.py"), "--crop_size", "32", "--step", "20"]
        command += ["--input", str(data / "HR 그림"), "--output", str(data / count), "--n_thread", count]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=150)
        assert done.returncode == 0 and done.stdout == "27 pictures made, 0 of 3 failed\n", done.stderr
    one, two = ({path.name: path.read_bytes() for path in (data / count).iterdir()} for count in ("1", "2"))
    assert len(one) == 27 and one == two


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_export_names_the_package_that_it_lacks(
    package: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(srvgg(), tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    target = tmp_path / "net.onnx"
    assert script("export_onnx").main([*MINE, "--model", str(tmp_path / "net.pth"), "--output", str(target)]) == 1
    assert f"pip install {package}" in capsys.readouterr().err
    assert target.exists() == (package == "onnxruntime")
    assert not list(tmp_path.glob(".*.part"))


def test_export_refuses_what_differs_too_much(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(srvgg(), tmp_path)
    export = script("export_onnx")
    monkeypatch.setattr(export, "difference", lambda *_: 2e-4)
    words = [*MINE, "--model", str(tmp_path / "net.pth"), "--output", str(tmp_path / "net.onnx")]
    assert export.main(words) == 1
    assert "more than 1.0e-04 (--tolerance)" in capsys.readouterr().err
    assert export.main([*words, "--tolerance", "1e-3"]) == 0
    assert export.main([*words, "--opset", "99"]) == 1
    assert "--opset is a number from 11 to 20, not 99" in capsys.readouterr().err
    (tmp_path / "taken").write_bytes(b"a file")
    words[-1] = str(tmp_path / "taken" / "net.onnx")
    assert export.main(words) == 1
    assert f"cannot write {words[-1]}" in capsys.readouterr().err


def test_export_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert script("export_onnx").main(["--model", "no_such_model", "--output", str(tmp_path / "x.onnx")]) == 1
    assert "no_such_model" in capsys.readouterr().err
