"""The benchmark: what is asked for, cells timed for real on the CPU, what goes wrong in one, and its outputs."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import pytest

from realesrgan import devices
from realesrgan.errors import DeviceLostError, DeviceOutOfMemoryError, InputError
from realesrgan.inference import upsampler
from realesrgan.tools import benchmark, benchmark_table
from realesrgan.tools.benchmark_table import LOST, OK, OUT_OF_MEMORY, Cell, Result

SMALL = "realesr-animevideov3"
ABOUT = {
    "command": "python benchmark_directml.py --quick",
    "date": "2026-11-26",
    "device": "directml:0",
    "backend": "DirectML",
    "name": "Radeon RX 580 Series",
    "memory": 8 * 2**30,
    "driver": "31.0",
    "cores": 8,
    "threads": 4,
    "system": "Windows 10",
    "python": "3.8.10",
    "realesrgan": "0.2.0",
    "torch": "2.4.1",
    "torch-directml": "0.2.5",
    "numpy": "1.24",
    "opencv": "4.10",
}


@pytest.fixture(scope="module")
def bench() -> benchmark.Bench:
    return benchmark.Bench(devices.resolve("cpu"), SMALL, False, weights_from="random")


def cell(tile: Any = 32, **changes: Any) -> Cell:
    return Cell(**{"model": SMALL, "half": False, "width": 48, "height": 40, "tile": tile, "pad": 4, **changes})


def run(arguments: List[str], confirm: Callable[[str], bool] = lambda question: False) -> tuple[int, List[Result]]:
    options = benchmark.read(arguments)
    program = benchmark.Benchmark(options, devices.resolve("cpu"), "command", confirm)
    return program.run(), program.results


# ---------------------------------------------------------------------------------------------- what is asked for


def test_the_plans_own_command_is_understood() -> None:
    options = benchmark.read(["--resolutions", "720p,1080p,4K", "--tile-sizes", "256,512,1024"])
    assert options.resolutions == ((1280, 720), (1920, 1080), (3840, 2160))
    assert options.tiles == (256, 512, 1024)
    assert options.models == ("RealESRGAN_x4plus",)
    assert options.precisions is None and not options.yes


def test_lists_may_be_separated_by_spaces_and_hold_auto_and_sizes() -> None:
    options = benchmark.read(["--resolutions", "640x360", "480p", "--tile-sizes", "auto", "0", "--models", "all"])
    assert options.resolutions == ((640, 360), (854, 480))
    assert options.tiles == (None, 0)
    assert SMALL in options.models and len(options.models) > 4


@pytest.mark.parametrize(
    "words, named",
    [
        (["--resolutions", "huge"], "huge"),
        (["--resolutions", "0x10"], "0x10"),
        (["--tile-sizes", "-1"], "--tile-sizes"),
        (["--tile-pad", "many"], "--tile-pad"),
        (["--repeats", "0"], "--repeats"),
        (["--precisions", "bf16"], "bf16"),
        (["--output", "table.xlsx"], "table.xlsx"),
        (["--models", "RealESRGAN_x5"], "RealESRGAN_x5"),
    ],
)
def test_a_wrong_value_is_named_and_ends_with_2(
    words: List[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if words[0] == "--tile-sizes":
        words = [f"{words[0]}={words[1]}"]
    assert benchmark.main([*words, "--device", "cpu"]) == 2
    assert named in capsys.readouterr().err


def test_it_can_be_imported_without_pytorch() -> None:
    code = "import sys; sys.modules['torch'] = None; import realesrgan.tools.benchmark"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# --------------------------------------------------------------------------------------------------------- cells


def test_a_cell_is_timed_and_told_what_ran(bench: benchmark.Bench) -> None:
    result = bench.run(cell(32), warmup=1, repeats=3)
    assert result.status == OK and len(result.seconds) == 3 and min(result.seconds) > 0
    assert (result.tile, result.pad, result.tiles) == (32, 4, 4)
    assert result.median == sorted(result.seconds)[1]
    assert result.tflops == pytest.approx(result.tflop / result.median)
    assert result.pixels_per_second == pytest.approx(48 * 40 / result.median)
    assert result.planned and result.planned > 0 and result.weights == "random"


def test_tile_0_is_untiled(bench: benchmark.Bench) -> None:
    result = bench.run(cell(0), warmup=0, repeats=1)
    assert (result.tile, result.tiles) == (0, 1)


def test_the_work_of_a_cell_counts_padding(bench: benchmark.Bench) -> None:
    assert bench.work(cell(0)) < bench.work(cell(32)) < bench.work(cell(16))


def test_out_of_memory_is_a_cell_of_its_own_and_the_next_one_runs(
    bench: benchmark.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, picture: np.ndarray, *rest: Any, **more: Any) -> Any:
        raise DeviceOutOfMemoryError("no memory for a tile of 32", tried=(64, 32))

    with monkeypatch.context() as patch:
        patch.setattr(upsampler.RealESRGANer, "enhance", refuse)
        result = bench.run(cell(32), 0, 1)
    assert result.status == OUT_OF_MEMORY and "tile of 32" in result.note and result.seconds == ()
    assert bench.run(cell(32), 0, 1).status == OK


def test_a_plain_memory_error_is_out_of_memory_too(bench: benchmark.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, *arguments: Any, **more: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(upsampler.RealESRGANer, "enhance", refuse)
    assert bench.run(cell(32), 0, 1).status == OUT_OF_MEMORY


def test_a_picture_beyond_the_main_memory_is_not_tried(bench: benchmark.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_free_memory", lambda: 10**8)
    result = bench.run(cell(0, width=20000, height=20000), 0, 1)
    assert result.status == OUT_OF_MEMORY and result.note.startswith("not tried")


def test_a_lost_device_ends_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: Any, picture: np.ndarray, *rest: Any, **more: Any) -> Any:
        raise DeviceLostError("the device was removed")

    monkeypatch.setattr(benchmark.Bench, "rate", lambda self: 1e12)
    monkeypatch.setattr(upsampler.RealESRGANer, "enhance", lost)
    status, results = run(
        ["--models", SMALL, "--resolutions", "48x40", "--tile-sizes", "16,32", "--weights-from", "random"]
    )
    assert status == 1 and [result.status for result in results] == [LOST]


def test_half_precision_is_refused_where_the_device_does_not_use_it() -> None:
    bench = benchmark.Bench(devices.resolve("cpu"), SMALL, True, weights_from="random")
    result = bench.run(cell(32, half=True), 0, 1)
    assert result.status == "not run" and "FP16" in result.note


def test_the_same_seeded_weights_every_time() -> None:
    first, source = benchmark.network("RealESRGAN_x4plus_anime_6B", "random")
    second, _ = benchmark.network("RealESRGAN_x4plus_anime_6B", "random")
    assert source == "random"
    assert all(bool((a == b).all()) for a, b in zip(first.parameters(), second.parameters()))


# ------------------------------------------------------------------------------------------------ estimate, --yes


WORDS = [
    "--models",
    SMALL,
    "--resolutions",
    "48x40",
    "--tile-sizes",
    "32",
    "--weights-from",
    "random",
    "--repeats",
    "1",
]


def test_a_long_run_asks_first_and_no_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[str] = []
    monkeypatch.setattr(benchmark.Bench, "rate", lambda self: 1e3)  # a machine that would take hours
    status, results = run(WORDS, lambda question: bool(asked.append(question)))
    assert (status, results, len(asked)) == (2, [], 1)
    assert "h" in asked[0]


def test_yes_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark.Bench, "rate", lambda self: 1e3)
    status, results = run([*WORDS, "--yes"], lambda question: pytest.fail("asked"))
    assert status == 0 and [result.status for result in results] == [OK]


def test_a_short_run_does_not_ask(capsys: pytest.CaptureFixture[str]) -> None:
    status, results = run(WORDS, lambda question: pytest.fail("asked"))
    captured = capsys.readouterr()
    assert status == 0 and len(results) == 1
    assert "1 cells, about" in captured.err
    assert "| " + SMALL in captured.out


def test_without_a_terminal_the_question_says_what_to_give(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert benchmark._ask("This will take about 2 h.") is False
    assert "--yes" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------- outputs

RESULTS = [
    Result(
        cell(512, width=1920, height=1080),
        "release",
        tile=512,
        pad=32,
        tiles=12,
        first=9.0,
        seconds=(3.0, 1.0, 2.0),
        tflop=75.0,
        device_peak=3 * 2**30,
        resident_peak=2**30,
        planned=2**31,
    ),
    Result(cell(None), "random", tile=0, tiles=1, seconds=(0.5,), tflop=0.1, resident_peak=2**29),
    Result(cell(0, half=True), "random", status=OUT_OF_MEMORY, note="Could not allocate | tensor"),
]


def test_the_markdown_table_lines_up_and_says_what_it_is() -> None:
    text = benchmark_table.as_markdown(RESULTS, ABOUT)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 5 and len({len(row) for row in rows[:4]}) == 1
    assert "Radeon RX 580 Series (directml:0, 8.0 GiB)" in text and "torch-directml 0.2.5" in text
    assert "512 pad 32" in rows[2] and "1.000..3.000" in rows[2] and " 3072 " in rows[2]
    assert "auto: untiled" in rows[3] and "512 r" in rows[3]
    assert OUT_OF_MEMORY in rows[4]


def test_json_holds_every_run_and_csv_a_row_a_cell(tmp_path: Path) -> None:
    for name in ("t.json", "t.csv", "t.md"):
        benchmark_table.write(tmp_path / name, RESULTS, ABOUT)
    held = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert held["environment"]["torch"] == "2.4.1"
    assert held["cells"][0]["seconds"] == [3.0, 1.0, 2.0] and held["cells"][0]["median_seconds"] == 2.0
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == [OK, OK, OUT_OF_MEMORY]
    assert float(rows[0]["tflop_per_second"]) == 37.5 and rows[0]["name"] == "Radeon RX 580 Series"
    assert (tmp_path / "t.md").read_text(encoding="utf-8") == benchmark_table.as_markdown(RESULTS, ABOUT)


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    benchmark_table.plot(tmp_path / "t.png", RESULTS, ABOUT)
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_plot_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(InputError, match="pip install matplotlib"):
        benchmark_table.load_plotting()


def test_a_file_that_cannot_be_written_is_said_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    bad.mkdir()
    status, _ = run([*WORDS, "--output", f"{good},{bad}"])
    assert status == 1 and good.is_file()
    assert "bad.json cannot be written" in capsys.readouterr().err


def test_operators_and_waits_are_counted_in_one_more_run(directml_with: Any) -> None:
    with directml_with():
        bench = benchmark.Bench(devices.resolve("dml"), SMALL, False, weights_from="random")
        assert bench.run(cell(), 0, 1).status == OK
        note = bench.counted(cell())
    operators, waits = [int(word) for word in note.split() if word.isdigit()][:2]
    assert 4 * 60 < operators < 4 * 120 and waits >= 4 and note.endswith("in 4 tiles")
    assert "MB to the host" in note
