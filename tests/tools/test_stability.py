"""batch_process_test.py and long_running_test.py: what they find, what they let pass, what they leave behind."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import mmap
import re
import sys
import threading
import time
from pathlib import Path, PurePath

import cv2
import numpy as np
import pytest
import torch

from realesrgan import devices, files
from realesrgan.batch import report
from realesrgan.batch import run as batch
from realesrgan.errors import DeviceLostError, PictureError, TileError
from realesrgan.files import writing as writer
from realesrgan.files.naming import Source
from realesrgan.inference.upsampler import RealESRGANer
from realesrgan.tools import made_pictures
from realesrgan.tools.stability import drift, faults, long_run, program, repeated
from tests.support import networks
from tests.support.nearest import Nearest
from tests.support.windows import ON_WINE

QUIET = program.Screen()


def pictures(folder, count=3, side=40):
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(2)
    sources = []
    for index in range(count):
        path = folder / f"{index}.png"
        path.write_bytes(cv2.imencode(".png", noise.integers(0, 255, (side, side + index, 3), np.uint8))[1].tobytes())
        sources.append(Source(path, PurePath(path.name)))
    return sources


def checkpoint(folder):
    path = folder / "tiny.pth"
    torch.save({"params": networks.srvgg().state_dict()}, path)
    return path


def build(name, fault, **options):
    module = networks.srvgg() if name == "srvgg" else networks.rrdb()
    fault.attach(module)
    return RealESRGANer(4, None, model=module, **{"device": "cpu", **options})


def verdicts(checks):
    return {check.name: check.ok for check in checks}


# Faults


@pytest.mark.parametrize("text", faults.OUT_OF_MEMORY)
def test_texts_mean_out_of_memory(text):
    assert devices.classify(RuntimeError(text)) == "memory"


@pytest.mark.parametrize("name", ["srvgg", "rrdb"])
def test_network_faults_come_when_armed_and_go(name):
    fault = faults.NetworkFault()
    upsampler = build(name, fault)
    image = np.random.default_rng(1).integers(0, 255, (40, 48, 3), np.uint8)
    usual, _ = upsampler.enhance(image)
    fault.arm("nan")
    with pytest.raises(TileError) as caught:
        upsampler.enhance(image)
    assert caught.value.code == "tile.nan"
    again, _ = upsampler.enhance(image)
    assert np.array_equal(usual, again)
    fault.arm("oom", text=faults.OUT_OF_MEMORY[0])
    split, _ = upsampler.enhance(image)
    assert (fault.fired, upsampler.last_run.splits) == (1, 1)
    assert np.abs(split.astype(int) - usual).max() <= 1
    fault.arm("nan")
    fault.disarm()
    upsampler.enhance(image)


def test_every_corrupt_file_is_refused(tmp_path):
    paths = faults.corrupt_files(tmp_path / "damaged")
    assert len(paths) == len(faults.CORRUPT) >= 5
    for path in paths:
        with pytest.raises(PictureError) as caught:
            files.read(path)
        assert caught.value.code.startswith("picture.")


def test_a_slow_disk_is_slow_and_then_no_more(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 255, (20, 20, 3), np.uint8)
    files.write(tmp_path / "usual.png", pixels)
    before = writer.write_atomically
    began = time.perf_counter()
    with faults.SlowDisk(rate=20_000, pause=0.01)() as disk:
        files.write(tmp_path / "slow.png", pixels)
    seconds = time.perf_counter() - began
    assert writer.write_atomically is before
    assert (tmp_path / "slow.png").read_bytes() == (tmp_path / "usual.png").read_bytes()
    assert disk.files == 1
    assert seconds >= disk.slept >= 1200 / 20_000


def test_corpus_has_every_kind_and_is_repeatable(tmp_path):
    sources = made_pictures.write_kinds(tmp_path / "one", 48)
    again = made_pictures.write_kinds(tmp_path / "two", 48)
    assert [source.path.read_bytes() for source in sources] == [source.path.read_bytes() for source in again]
    seen = set()
    for source in sources:
        picture = files.read(source.path)
        assert max(picture.pixels.shape[:2]) <= 49
        seen.add((picture.mode, 8 * picture.pixels.dtype.itemsize, source.path.suffix))
    assert seen == {(mode, depth, suffix) for _, mode, depth, suffix in made_pictures.KINDS}


# Vitals


def fresh_memory(size):
    """From the system itself: the allocator may have memory left over that is resident already."""
    memory = mmap.mmap(-1, size)
    memory.write(b"\x01" * size)
    return memory


def test_vitals_see_memory_handles_and_threads(tmp_path):
    watch = drift.Vitals()
    before = watch.take(1)
    held = fresh_memory(40_000_000)
    # Many, since what other tests left behind may end meanwhile.
    release = threading.Event()
    threads = [threading.Thread(target=release.wait) for _ in range(40)]
    with contextlib.ExitStack() as opened:
        for number, thread in enumerate(threads):
            opened.enter_context((tmp_path / str(number)).open("w", encoding="utf-8"))
            thread.start()
        after = watch.take(2)
        release.set()
        for thread in threads:
            thread.join()
    assert after.resident - before.resident > 30_000_000
    assert ON_WINE or after.handles > before.handles + 20  # psutil counts none there
    assert after.threads > before.threads + 20
    assert (after.pictures, len(held), before.device) == (2, 40_000_000, None)


# A folder again and again


def repeat(tmp_path, upscaler, passes=8, sources=None):
    run = repeated.Repetition(
        sources or pictures(tmp_path / "in"), upscaler, batch.BatchOptions(output=tmp_path / "out"), drift.Vitals()
    )
    for _ in range(passes):
        run.once(QUIET)
    checks, trends = program.checks_of(run.vitals.samples, 20, str)
    return run, verdicts(run.checks() + checks), trends


def test_a_steady_program_keeps_bytes_handles_and_threads(tmp_path):
    run, found, _ = repeat(tmp_path, Nearest())
    assert {name for name, ok in found.items() if not ok} <= {"resident memory"}  # too few pictures to be sure of it
    assert (run.pictures, run.files) == (24, 24)


def test_changed_bytes_are_found(tmp_path):
    upscaler = Nearest()
    plain = upscaler.enhance

    def enhance(img, *arguments, **options):
        pixels, mode = plain(img, *arguments, **options)
        pixels[0, 0] ^= len(upscaler.seen) == 8  # one bit, in one picture of the third pass
        return pixels, mode

    upscaler.enhance = enhance
    run, found, _ = repeat(tmp_path, upscaler, passes=4)
    assert found["same bytes"] is False
    assert run.changed == ["pass 3: 1_out.png"]


def test_a_failing_picture_is_named(tmp_path):
    sources = pictures(tmp_path / "in")
    sources[1].path.write_bytes(b"no picture")
    run, found, _ = repeat(tmp_path, Nearest(), passes=2, sources=sources)
    assert found["every picture done"] is False
    assert [Path(name).name for name in run.failed] == ["1.png"]
    assert found["same bytes"] is True


def test_a_memory_leak_is_found(tmp_path):
    kept = []
    _, found, trends = repeat(tmp_path, Nearest(lambda img: kept.append(fresh_memory(2_000_000))), passes=12)
    assert found["resident memory"] is False
    assert 1500 < trends["resident"].slope < 2500


def test_leaks_of_handles_and_threads_are_found(tmp_path):
    kept, release = [], threading.Event()

    def leak(img):
        kept.append((tmp_path / "x").open("a", encoding="utf-8"))
        kept.append(threading.Thread(target=release.wait))
        kept[-1].start()

    try:
        _, found, _ = repeat(tmp_path, Nearest(leak), passes=6)
    finally:
        release.set()
        for one in kept:
            one.join() if isinstance(one, threading.Thread) else one.close()
    assert found["threads"] is False
    assert ON_WINE or found["file handles"] is False  # psutil counts none there


def run_batch(tmp_path, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["batch_process_test.py"])
    pictures(tmp_path / "in")
    common = ["--input-dir", tmp_path / "in", "--output", tmp_path / "report.json", "--max-slope", "1e9"]
    status = repeated.main([str(word) for word in [*common, *words]])
    return status, json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))


def test_the_batch_program_with_a_real_network(tmp_path, monkeypatch, capsys):
    weights = checkpoint(tmp_path)
    words = ["--model_path", weights, "--trust-weights", "--device", "cpu"]
    words += ["--iterations", 8, "--results", tmp_path / "kept"]
    status, written = run_batch(tmp_path, monkeypatch, *words)
    text = capsys.readouterr().out
    assert status == 0, text
    assert "PASSED" in text
    assert written["passed"] is True
    assert written["pictures"] == 24
    assert len(written["samples"]) == 8
    assert written["machine"]["versions"]["torch"] == torch.__version__
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["0_out.png", "1_out.png", "2_out.png"]
    assert cv2.imread(str(tmp_path / "kept" / "0_out.png")).shape == (160, 160, 3)


@pytest.mark.parametrize("flag", ["--output", "--plot"])
@pytest.mark.parametrize("main", [repeated.main, long_run.main])
def test_no_picture_is_overwritten(main, flag, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(program, "build", lambda *_: Nearest())
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "inputs")
    before = (tmp_path / "inputs" / "0.png").read_bytes()
    with pytest.raises(SystemExit) as ended:
        main(["--input-dir", "inputs", flag, "inputs/0.png"])
    assert ended.value.code == 2
    assert "is the input" in capsys.readouterr().err
    assert (tmp_path / "inputs" / "0.png").read_bytes() == before


def test_ctrl_c_gives_the_summary_so_far(tmp_path, monkeypatch, capsys):
    calls = iter(range(1000))

    def stop(img):
        if next(calls) == 16:  # in the sixth pass
            raise KeyboardInterrupt

    monkeypatch.setattr(program, "build", lambda *_: Nearest(stop))
    status, written = run_batch(tmp_path, monkeypatch)
    assert status == 130
    assert written["interrupted"] is True
    assert written["passes"] == 5
    assert "as far as it went" in capsys.readouterr().out


def test_a_lost_device_ends_the_run_and_fails_it(tmp_path, monkeypatch):
    def lose(img):
        raise DeviceLostError("gone")

    monkeypatch.setattr(program, "build", lambda *_: Nearest(lose))
    status, written = run_batch(tmp_path, monkeypatch)
    assert (status, written["passes"]) == (1, 1)


@pytest.mark.parametrize(
    "words",
    [
        ["--iterations", "0"],
        ["--input-dir", "nowhere"],
        ["-n", "no_such_model"],
        ["--results", "."],
        ["--model_path", "missing.pth"],
    ],
)
def test_wrong_usage_of_the_batch_program(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "inputs")
    with pytest.raises(SystemExit) as ended:
        repeated.main(words)
    assert ended.value.code == 2
    assert words[-1] in capsys.readouterr().err


def test_the_plot_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    samples = [drift.Sample(5 * n, float(n), 800_000_000 + n, 10_000_000, 5, 1) for n in range(1, 30)]
    _, trends = program.checks_of(samples, 20, str)
    assert program.plot(tmp_path / "new" / "drift.png", samples, trends, "title")
    assert files.read(tmp_path / "new" / "drift.png").pixels.shape[0] > 300


# The long run


def long(tmp_path, inject=faults.KINDS, builder=build, models=("srvgg", "rrdb"), count=5):
    sources = made_pictures.write_kinds(tmp_path / "in", 40)[:count]
    return long_run.LongRun(builder, models, sources, inject, tmp_path, seed=1)


def decks(run, count=1):
    for task in run.first_rounds():
        assert run.do(task)
    for _ in range(count * 2 * max(1, len(run.inject)) * len(run.models)):
        assert run.do(run.next_round())


# NaN on its way into a 16-bit picture, before its tile is refused; numpy says so.
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_every_fault_leads_to_what_it_must(tmp_path):
    run = long(tmp_path)
    decks(run)
    assert run.judge.deviations == []
    assert run.judge.injected == {"oom": 2, "nan": 2, "corrupt": 10, "slow-disk": 2}
    assert verdicts(run.checks()) == {"as it must be": True, "faults as expected": True}
    # One picture failed in each round with NaN; nothing else did.
    assert run.judge.statuses == {report.DONE: run.judge.pictures - 2, report.FAILED: 2}
    assert run.judge.nearest >= long_run.NEAR
    assert run.built == 2 + 4 - len([model for model in run.models if model not in run._up])


def test_nan_in_fp16_is_redone(tmp_path, directml):
    run = long(
        tmp_path,
        inject=("nan",),
        builder=lambda name, fault: build(name, fault, device="directml", half=True),
        models=("rrdb",),
        count=3,
    )
    decks(run)
    assert run.judge.deviations == []
    assert run.judge.injected == {"nan": 1}
    assert run.judge.statuses == {report.DONE: run.judge.pictures}


def test_a_result_that_changes_is_a_deviation(tmp_path):
    run = long(tmp_path, inject=(), models=("srvgg",))
    run.do(run.first_rounds()[0])
    with torch.no_grad():
        run.upsampler("srvgg").inner.model.body[0].weight.mul_(1.01)
    run.do(run.next_round())
    assert run.judge.deviating == 5
    assert "other bytes than before" in run.judge.deviations[0]
    assert verdicts(run.checks()) == {"as it must be": False}


def test_a_fault_that_is_not_noticed_is_a_deviation(tmp_path):
    class Blind(faults.NetworkFault):
        """NaN becomes a grey tile: what a program without a check would write."""

        def _after(self, layer, inputs, output):
            return output * 0 if self._fires("nan") else None

    def builder(name, fault):
        fault.__class__ = Blind
        return build(name, fault)

    run = long(tmp_path, inject=("nan",), builder=builder, models=("srvgg",))
    decks(run)
    assert run.judge.deviating == 2
    assert "it had to fail, but is done" in run.judge.deviations[0]
    assert "5 files lie in the output folder, 4 were written" in run.judge.deviations[1]
    assert verdicts(run.checks()) == {"as it must be": False, "faults as expected": False}


def test_a_fault_that_never_comes_is_a_deviation(tmp_path, monkeypatch):
    monkeypatch.setattr(faults.NetworkFault, "_fires", lambda self, kind: False)
    run = long(tmp_path, inject=("oom",), models=("srvgg",))
    decks(run)
    assert run.judge.deviating == 1
    assert "0 times instead of" in run.judge.deviations[0]


def test_a_leftover_is_a_deviation(tmp_path, monkeypatch):
    run = long(tmp_path, inject=(), models=("srvgg",))
    original = batch.run

    def untidy(sources, upscaler, options, watch):
        result = original(sources, upscaler, options, watch)
        (options.output / ".a.png.0123456789abcdef.partial").write_bytes(b"half")
        return result

    monkeypatch.setattr(batch, "run", untidy)
    run.do(run.first_rounds()[0])
    assert run.judge.deviations == ["clean, srvgg: 6 files lie in the output folder, 5 were written"]


def test_likeness(tmp_path):
    usual = np.full((10, 10, 3), 100, np.uint8)
    other = usual.copy()
    other[0, 0, 0] += 30
    for name, pixels in (("a", usual), ("b", other), ("c", usual[:5])):
        files.write(tmp_path / f"{name}.png", pixels)
    assert long_run.likeness(tmp_path / "a.png", tmp_path / "a.png") == float("inf")
    expected = 10 * np.log10(255**2 / (30**2 / 300))
    assert long_run.likeness(tmp_path / "a.png", tmp_path / "b.png") == pytest.approx(expected)
    assert long_run.likeness(tmp_path / "a.png", tmp_path / "c.png") == float("-inf")


def test_the_long_program(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["long_running_test.py"])
    monkeypatch.setattr(long_run, "_SUMMARY", 0.0)
    words = ["--duration", "0", "--model_path", checkpoint(tmp_path), "--device", "cpu", "--max-side", 24]
    words += ["-n", "realesr-animevideov3", "--output", tmp_path / "report.json", "--trust-weights"]
    status = long_run.main([str(word) for word in words])
    text = capsys.readouterr().out
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (status, written["passed"]) == (1, False), "one round shows nothing of memory"
    assert "too few samples" in text
    assert "[0:00:0" in text
    assert written["pictures"] == 2 * len(made_pictures.KINDS)
    assert written["statuses"] == {report.DONE: 2 * len(made_pictures.KINDS)}
    assert [check["name"] for check in written["checks"] if check["ok"]] == ["as it must be", "device memory"]
    assert "FAILED: resident memory (too few samples), file handles (too few samples)" in text
    assert len(re.findall(r"^\[0:00:0", text, re.MULTILINE)) == 1, "what the last minute said is not said again"


def test_too_few_pictures_names_the_flag_that_helps(tmp_path, monkeypatch, capsys):
    noise = itertools.cycle((504_000_000, 500_000_000, 500_000_000, 504_000_000))  # no slope, but wide bounds
    monkeypatch.setattr(drift, "resident", lambda: next(noise))
    monkeypatch.setattr(program, "build", lambda *_: Nearest())
    status, written = run_batch(tmp_path, monkeypatch, "--iterations", "10", "--max-slope", "20")
    text = capsys.readouterr().out
    assert (status, written["passed"]) == (1, False)
    assert "FAILED: resident memory (not shown)" in text
    found = re.search(r"too few pictures to tell: do about (\d+) \(--iterations (\d+)\)", text)
    assert found, text
    assert int(found[2]) == -(-int(found[1]) // 3)


def test_ctrl_c_in_the_long_program(tmp_path, monkeypatch, capsys):
    built = []

    def stop(img):
        if len(built[-1].seen) == 7:
            raise KeyboardInterrupt

    def fake(*_):
        built.append(Nearest(stop))
        built[-1].half = False
        return built[-1]

    monkeypatch.setattr(program, "build", fake)
    assert long_run.main(["--duration", "1000", "--max-side", "16"]) == 130
    assert "as far as it went" in capsys.readouterr().out


@pytest.mark.parametrize("main", [repeated.main, long_run.main])
def test_ctrl_c_before_the_first_picture(main, tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "build", stop)
    pictures(tmp_path / "in")
    with pytest.raises(SystemExit) as ended:
        main(["--input-dir", str(tmp_path / "in")])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Stopped before the first picture.\n"


def test_faults_that_no_picture_is_large_enough_for_are_named(tmp_path):
    sources = pictures(tmp_path / "small", side=20)
    run = long_run.LongRun(build, ("srvgg",), sources, ("oom", "corrupt"), tmp_path, seed=1)
    decks(run)
    assert run.judge.deviations == []
    (check,) = (check for check in run.checks() if check.name == "faults as expected")
    assert (check.ok, check.verdict) == (False, "not all came")
    assert check.figures == "oom 0/0, corrupt 3/3; too short a run, or no picture of 33 pixels a side, for oom"


def test_a_bar_with_the_time_left_on_a_terminal_and_none_elsewhere(monkeypatch, capsys):
    screen = program.Screen(100)
    screen.at(50, "7 pictures")
    screen.line("plain")
    screen.close()
    assert capsys.readouterr() == ("plain\n", "")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    screen = program.Screen(100)
    screen._bar.start_t -= 30  # half of it has taken 30 seconds
    screen.at(50, "7 pictures")
    screen._bar.refresh()
    screen.line("above the bar")
    screen.at(1000)
    screen._bar.refresh()
    screen.close()
    text = shown.getvalue()
    assert re.search(r" 50% \|.*\| 00:3\d gone, 00:(29|3\d) left +, 7 pictures", text), text
    assert re.search(r"100% \|.*\| 00:3\d gone, 00:00 left", text), "what lasts longer than asked ends at the end"
    assert capsys.readouterr().out == "above the bar\n"


def test_without_matplotlib_the_figures_are_there_all_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(program, "build", lambda *_: Nearest())
    plot = tmp_path / "drift.png"
    status, written = run_batch(tmp_path, monkeypatch, "--iterations", "10", "--plot", plot)
    assert (status, written["passed"]) == (0, True)
    assert f"{plot} is not drawn: it needs matplotlib" in capsys.readouterr().out
    assert not plot.exists()


@pytest.mark.parametrize("words", [["--inject", "oom,fire"], ["-s", "2"], ["-n", "no_such_model"]])
def test_wrong_usage_of_the_long_program(words, capsys):
    with pytest.raises(SystemExit) as ended:
        long_run.main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err
