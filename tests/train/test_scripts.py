"""The scripts that prepare data and export networks."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from training import ROOT, require_basicsr

require_basicsr()
pytestmark = pytest.mark.train

import torch  # noqa: E402

from realesrgan.data import textures  # noqa: E402


def script(name: str) -> Any:
    if str(ROOT / "scripts") not in sys.path:
        sys.path.insert(0, str(ROOT / "scripts"))
    return importlib.import_module(name)


@pytest.fixture()
def data(tmp_path: Path) -> Path:
    textures.draw_folder(tmp_path / "HR 그림", 3, 60, 1, tmp_path / "LR", 4)
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
    assert "is there already" in capsys.readouterr().err


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
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    torch.manual_seed(0)
    network = {
        "rrdbnet": lambda: RRDBNet(3, 3, scale=4, num_feat=8, num_block=1, num_grow_ch=4),
        "unshuffled": lambda: RRDBNet(3, 3, scale=2, num_feat=8, num_block=1, num_grow_ch=4),
        "srvgg": lambda: SRVGGNetCompact(3, 3, num_feat=8, num_conv=2, upscale=4),
    }[kind]()
    torch.save({"params": network.state_dict()}, tmp_path / "net.pth")
    target = tmp_path / "out" / "net.onnx"
    export = script("export_onnx")
    assert export.main(["--model", str(tmp_path / "net.pth"), "--output", str(target)]) == 0
    said = capsys.readouterr().out
    assert f"multiples of {2 if kind == 'unshuffled' else 1}," in said
    # The comparison can fail: another network's parameters are told apart.
    with torch.no_grad():
        next(iter(network.parameters())).add_(0.1)
    assert export.difference(network.eval(), target, 2) > 1e-3


def test_export_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert script("export_onnx").main(["--model", "no_such_model", "--output", str(tmp_path / "x.onnx")]) == 1
    assert "no_such_model" in capsys.readouterr().err
