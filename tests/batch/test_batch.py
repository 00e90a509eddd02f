"""Files in, files out, with a stand-in that repeats pixels: what a batch does around the network."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from realesrgan import files
from realesrgan.batch import plan as batch_plan
from realesrgan.batch import report
from realesrgan.batch import run as batch
from realesrgan.batch.monitor import Monitor
from realesrgan.errors import DeviceLostError, DeviceOutOfMemoryError, InputError, PictureError
from tests.support.nearest import Nearest
from tests.support.picture_samples import get, noise, put

WAIT = 20


def enlarged(pixels: np.ndarray, factor: int = 4) -> np.ndarray:
    return pixels.repeat(factor, 0).repeat(factor, 1)


@pytest.fixture()
def folder(tmp_path):
    """Six pictures, two of which cannot be read."""
    for index in range(4):
        put(tmp_path / "in" / f"{index}.png", noise(5 + index, 6, 3, seed=index))
    (tmp_path / "in" / "1b.png").write_bytes(b"")
    (tmp_path / "in" / "2b.jpg").write_text("no picture", encoding="utf-8")
    return tmp_path / "in"


def run(folder, output, upscaler=None, **options):
    """A batch over a folder; returns its result and its events."""
    events = []
    keywords = {name: options.pop(name) for name in ("former", "writer", "monitor") if name in options}
    sources = files.list_pictures([folder], recursive=options.pop("recursive", False))
    settings = batch.BatchOptions(output=output, **options)
    result = batch.run(sources, upscaler or Nearest(), settings, events.append, **keywords)
    return result, events


def test_good_pictures_are_done_and_bad_ones_named(folder, tmp_path):
    result, _ = run(folder, tmp_path / "out")
    assert (result.total, result.done, result.skipped, result.not_done) == (6, 4, 0, 0)
    assert not result.ok
    assert [Path(record.input).name for record in result.failed] == ["1b.png", "2b.jpg"]
    assert [record.error_code for record in result.failed] == ["picture.empty", "picture.format"]
    for index in range(4):
        expected = enlarged(get(folder / f"{index}.png"))
        assert np.array_equal(get(tmp_path / "out" / f"{index}_out.png"), expected)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{index}_out.png" for index in range(4)]


def test_reports_come_in_the_order_of_the_list_though_writing_does_not(folder, tmp_path, monkeypatch):
    original, first_may_end = files.write, threading.Event()

    def slow_first(path, *arguments, **keywords):
        if Path(path).name == "0_out.png":
            assert first_may_end.wait(WAIT)
        elif Path(path).name == "1_out.png":
            first_may_end.set()
        return original(path, *arguments, **keywords)

    monkeypatch.setattr(files, "write", slow_first)
    _, events = run(folder, tmp_path / "out", writers=2)
    assert [event.index for event in events if event.kind == "end"] == [0, 1, 2, 3, 4, 5]


def test_the_next_picture_is_read_and_the_last_one_written_while_the_device_works(folder, tmp_path, monkeypatch):
    read, written = threading.Event(), threading.Event()
    read_picture, write_picture = files.read, files.write

    def reading(path, **keywords):
        if path.name == "3.png":
            read.set()
        return read_picture(path, **keywords)

    def writing(path, *arguments, **keywords):
        notes = write_picture(path, *arguments, **keywords)
        if path.name == "0_out.png":
            written.set()
        return notes

    def device(img):
        if img.shape[0] == 6:  # 1.png: while it is on the device, 0.png is written and 3.png read
            assert read.wait(WAIT)
            assert written.wait(WAIT)

    monkeypatch.setattr(files, "read", reading)
    monkeypatch.setattr(files, "write", writing)
    result, _ = run(folder, tmp_path / "out", Nearest(device))
    assert result.done == 4


def test_everything_a_record_says(folder, tmp_path):
    with report.ReportWriter(tmp_path / "report.jsonl") as writer:
        run(folder, tmp_path / "out", writer=writer, digest="d1")
    records = report.load(tmp_path / "report.jsonl")
    assert [record.status for record in records] == ["done", "done", "failed", "done", "failed", "done"]
    first = records[0]
    assert Path(first.output) == tmp_path / "out" / "0_out.png"
    assert (first.input_size, first.output_size, first.mode) == ((6, 5), (24, 20), "RGB")
    assert (first.device, first.precision, first.tile, first.tile_pad, first.tiles) == ("cpu", "fp32", (64, 32), 7, 2)
    assert (first.model, first.weights, first.options) == ("nearest", "none", "d1")
    assert first.input_bytes == (folder / "0.png").stat().st_size
    assert first.output_bytes == (tmp_path / "out" / "0_out.png").stat().st_size
    assert min(first.read_seconds, first.device_seconds, first.write_seconds) >= 0
    assert records[2].error_code == "picture.empty"
    assert "1b.png" in records[2].error_text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeviceOutOfMemoryError("too small"), "device.memory"),
        (ValueError("a mistake"), "unexpected"),
        (MemoryError(), "host.memory"),
    ],
)
def test_a_failure_on_the_device_ends_one_picture_only(folder, tmp_path, error, code):
    def fail_on_second(img):
        if img.shape[0] == 6:
            raise error

    result, _ = run(folder, tmp_path / "out", Nearest(fail_on_second))
    assert result.done == 3
    assert [record.error_code for record in result.failed] == [code, "picture.empty", "picture.format"]
    assert not (tmp_path / "out" / "1_out.png").exists()


def test_a_lost_device_ends_its_use_and_the_rest_says_why(folder, tmp_path):
    def lose(img):
        if img.shape[0] == 6:
            raise DeviceLostError("the card is gone")

    upscaler = Nearest(lose)
    with report.ReportWriter(tmp_path / "r.jsonl") as writer:
        result, events = run(folder, tmp_path / "out", upscaler, writer=writer)
    assert len(upscaler.seen) == 2
    assert (result.done, len(result.failed), result.not_done) == (1, 1, 4)
    assert [record.status for record in report.load(tmp_path / "r.jsonl")] == ["done", "failed"] + ["not done"] * 4
    assert "the card is gone" in report.load(tmp_path / "r.jsonl")[-1].error_text
    assert [event.index for event in events if event.kind == "end"] == list(range(6))


def test_ctrl_c_writes_what_is_computed_and_nothing_else(folder, tmp_path):
    def stop(img):
        if img.shape[0] == 7:
            raise KeyboardInterrupt

    before = threading.active_count()
    with report.ReportWriter(tmp_path / "r.jsonl") as writer:
        result, _ = run(folder, tmp_path / "out", Nearest(stop), writer=writer)
    assert result.interrupted
    assert not result.ok
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0_out.png", "1_out.png"]
    assert [record.status for record in report.load(tmp_path / "r.jsonl")] == ["done", "done", "failed"]
    assert threading.active_count() == before


def test_a_failed_write_is_reported_and_leaves_nothing(folder, tmp_path, monkeypatch):
    original = files.write

    def full(path, *arguments, **keywords):
        if path.name.startswith("2"):
            raise PictureError(f"{path}: no space left", path=str(path), reason="no space left")
        return original(path, *arguments, **keywords)

    monkeypatch.setattr(files, "write", full)
    result, _ = run(folder, tmp_path / "out")
    assert [Path(record.input).name for record in result.failed] == ["1b.png", "2.png", "2b.jpg"]
    assert result.failed[1].device_seconds is not None


def test_a_report_that_cannot_be_written_ends_nothing(folder, tmp_path, caplog):
    class Full(report.ReportWriter):
        def write(self, record):
            raise OSError(28, "No space left on device")

    with Full(tmp_path / "r.jsonl") as writer:
        result, _ = run(folder, tmp_path / "out", writer=writer)
    assert result.done == 4
    assert [record.message for record in caplog.records if "No space left" in record.message] != []
    assert len([record for record in caplog.records if "r.jsonl" in record.message]) == 1


def test_skip_existing_reads_and_computes_only_what_is_missing(folder, tmp_path):
    run(folder, tmp_path / "out")
    (tmp_path / "out" / "2_out.png").unlink()
    upscaler = Nearest()
    result, _ = run(folder, tmp_path / "out", upscaler, skip_existing=True)
    assert (result.done, result.skipped, len(result.failed)) == (1, 3, 2)
    assert [seen[0] for seen in upscaler.seen] == [(7, 6, 3)]


def test_skip_existing_tells_a_jpg_from_a_png_of_the_same_name(tmp_path):
    put(tmp_path / "in" / "a.jpg", noise(8, 8, 3))
    put(tmp_path / "in" / "a.png", noise(8, 8, 3))
    run(tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_out.jpg", "a_out.png"]
    (tmp_path / "out" / "a_out.jpg").unlink()
    result, _ = run(tmp_path / "in", tmp_path / "out", skip_existing=True)
    assert (result.done, result.skipped) == (1, 1)
    assert (tmp_path / "out" / "a_out.jpg").exists()


def former(path):
    return report.load_all(path)


def again(folder, tmp_path, **options):
    """A second run with the report of the first; the names that it did."""
    upscaler = Nearest()
    options.setdefault("digest", "d")
    with report.ReportWriter(tmp_path / "r.jsonl") as writer:
        _, events = run(
            folder, tmp_path / "out", upscaler, writer=writer, former=former(tmp_path / "r.jsonl"), **options
        )
    return sorted(Path(event.source.path).stem for event in events if event.kind == "start")


def test_resume_does_what_failed_is_missing_has_changed_or_has_other_options(folder, tmp_path):
    assert again(folder, tmp_path) == ["0", "1", "2", "3"]
    assert again(folder, tmp_path) == []
    put(folder / "1b.png", noise(4, 4, 3))  # failed before, and is good now
    assert again(folder, tmp_path) == ["1b"]
    (tmp_path / "out" / "0_out.png").unlink()
    assert again(folder, tmp_path) == ["0"]
    (tmp_path / "out" / "3_out.png").write_bytes(b"something else")
    assert again(folder, tmp_path) == ["3"]
    put(folder / "2.png", noise(9, 9, 3))
    assert again(folder, tmp_path) == ["2"]
    assert again(folder, tmp_path) == []
    assert again(folder, tmp_path, digest="other") == ["0", "1", "1b", "2", "3"]
    assert again(folder, tmp_path, digest="other", suffix="x") == ["0", "1", "1b", "2", "3"]
    skipped = [record for record in report.load(tmp_path / "r.jsonl") if record.status == report.SKIPPED]
    assert skipped == []


def test_shares_are_the_whole_without_overlap(tmp_path):
    for index in range(7):
        put(tmp_path / "in" / f"{index}.png", noise(4, 4, 3, seed=index))
    put(tmp_path / "in" / "3.bmp", noise(4, 4, 3))
    done = []
    for index in (1, 2, 3):
        result, events = run(tmp_path / "in", tmp_path / "out", shard=(index, 3))
        names = [event.source.path.name for event in events if event.kind == "end"]
        assert len(names) == result.total
        done.append(names)
    assert sorted(name for names in done for name in names) == sorted(path.name for path in (tmp_path / "in").iterdir())
    assert any({"3.bmp", "3.png"} <= set(names) for names in done)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2", ""])
def test_a_share_that_is_none(text):
    with pytest.raises(ValueError, match=r"1/|i/n"):
        batch_plan.parse_shard(text)


def test_two_inputs_of_one_name(tmp_path):
    put(tmp_path / "in" / "a.bmp", noise(4, 4, 3, seed=1))
    put(tmp_path / "in" / "a.png", noise(4, 4, 3, seed=2))
    result, _ = run(tmp_path / "in", tmp_path / "out", extension="png")
    assert result.done == 1
    assert [record.error_code for record in result.failed] == ["picture.clash"]
    assert Path(result.failed[0].input).name == "a.bmp"
    assert np.array_equal(get(tmp_path / "out" / "a_out.png"), enlarged(get(tmp_path / "in" / "a.png")))


def test_an_input_is_never_overwritten(tmp_path):
    before = put(tmp_path / "in" / "a.png", noise(4, 4, 3)).read_bytes()
    result, _ = run(tmp_path / "in", tmp_path / "in", suffix="")
    assert [record.error_code for record in result.failed] == ["picture.overwrites"]
    assert (tmp_path / "in" / "a.png").read_bytes() == before


def test_the_tree_is_kept(tmp_path):
    put(tmp_path / "in" / "사진" / "é😀.png", noise(4, 4, 3))
    result, _ = run(tmp_path / "in", tmp_path / "out", recursive=True)
    assert result.ok
    assert (tmp_path / "out" / "사진" / "é😀_out.png").exists()


def test_output_that_is_a_file_or_cannot_be_made(folder, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        run(folder, tmp_path / "file")
    assert caught.value.code == "output.file"
    with pytest.raises(PictureError) as caught_too:
        run(folder, tmp_path / "file" / "below")
    assert caught_too.value.code == "output.unwritable"


# Alpha


def test_constant_alpha_does_not_go_through_the_network(tmp_path):
    pixels = noise(6, 7, 4)
    pixels[:, :, 3] = 77
    put(tmp_path / "in" / "a.png", pixels)
    upscaler = Nearest()
    run(tmp_path / "in", tmp_path / "out", upscaler)
    assert [seen[0] for seen in upscaler.seen] == [(6, 7, 3)]
    assert np.array_equal(get(tmp_path / "out" / "a_out.png"), enlarged(pixels))


def test_colour_is_bled_under_transparency_unless_told_not_to(tmp_path):
    pixels = np.zeros((6, 8, 4), np.uint8)
    pixels[:, :4] = (10, 20, 30, 255)  # the rest is transparent black
    put(tmp_path / "in" / "a.png", pixels)
    upscaler = Nearest()
    run(tmp_path / "in", tmp_path / "out", upscaler)
    assert (upscaler.seen[0][2][:, :, :3] == (10, 20, 30)).all()
    assert np.array_equal(upscaler.seen[0][2][:, :, 3], pixels[:, :, 3])
    plain = Nearest()
    run(tmp_path / "in", tmp_path / "plain", plain, alpha_bleed=False)
    assert np.array_equal(plain.seen[0][2], pixels)


def test_without_bleeding_constant_alpha_goes_through_too(tmp_path):
    pixels = noise(6, 7, 4)
    pixels[:, :, 3] = 255
    put(tmp_path / "in" / "a.png", pixels)
    upscaler = Nearest()
    run(tmp_path / "in", tmp_path / "out", upscaler, alpha_bleed=False)
    assert [seen[0] for seen in upscaler.seen] == [(6, 7, 4)]


@pytest.mark.parametrize(
    ("alpha_upsampler", "constant", "shapes"),
    [("realesrgan", False, 2), ("bicubic", False, 1), ("realesrgan", True, 1)],
)
def test_grey_with_alpha_stays_grey_with_alpha(tmp_path, alpha_upsampler, constant, shapes):
    from PIL import Image

    grey, opacity = noise(6, 7), np.full((6, 7), 90, np.uint8) if constant else noise(6, 7, seed=2) | 128
    (tmp_path / "in").mkdir()
    Image.merge("LA", (Image.fromarray(grey), Image.fromarray(opacity))).save(tmp_path / "in" / "a.png")
    upscaler = Nearest()
    _, events = run(tmp_path / "in", tmp_path / "out", upscaler, alpha_upsampler=alpha_upsampler)
    assert [seen[0] for seen in upscaler.seen] == [(6, 7)] * shapes
    with Image.open(tmp_path / "out" / "a_out.png") as out:
        assert out.mode == "LA"
        planes = [np.asarray(plane) for plane in out.split()]
    assert np.array_equal(planes[0], enlarged(grey))
    if alpha_upsampler == "realesrgan":
        assert np.array_equal(planes[1], enlarged(opacity))
    else:
        expected = cv2.resize(opacity.astype(np.float32), (28, 24), interpolation=cv2.INTER_LINEAR)
        assert np.abs(planes[1] - expected).max() <= 0.51
    tiles = [event.tiles for event in events if event.kind == "tiles"]
    assert tiles == ([(1, 4), (2, 4), (3, 4), (4, 4)] if shapes == 2 else [(1, 2), (2, 2)])


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 3), (6, 7, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_depth_and_channels_stay(tmp_path, shape, dtype):
    pixels = noise(*shape, dtype=dtype) | (1 << 7)
    put(tmp_path / "in" / "a.png", pixels)
    result, _ = run(tmp_path / "in", tmp_path / "out", outscale=2.0, alpha_bleed=False)
    assert result.ok
    out = get(tmp_path / "out" / "a_out.png")
    assert out.dtype == dtype
    assert np.array_equal(out, enlarged(pixels, 2))


def test_memory_does_not_grow_with_the_number_of_files(tmp_path, monkeypatch):
    """No more pictures are alive at once in a long run than the bounds allow."""
    import weakref

    put(tmp_path / "in" / "a.png", noise(8, 8, 3))
    source = files.list_pictures([tmp_path / "in"])[0]
    many = [files.Source(source.path, source.relative.with_name(f"{index}.png")) for index in range(60)]
    references = []
    most = []
    read = files.read

    def counted(path, **keywords):
        picture = read(path, **keywords)
        references.append(weakref.ref(picture.pixels))
        most.append(sum(reference() is not None for reference in references))
        return picture

    monkeypatch.setattr(files, "read", counted)
    upscaler = Nearest()
    upscaler.seen = _Forgetful()
    result = batch.run(many, upscaler, batch.BatchOptions(tmp_path / "out", readers=2, writers=2))
    assert result.done == 60
    assert max(most) <= 8


class _Forgetful(list):
    def append(self, item):
        pass


def test_pictures_in_a_row_share_what_the_first_one_built(tmp_path, monkeypatch):
    """The network on its device and the memory that the device's allocator holds are not given up in between."""
    from realesrgan import RealESRGANer, devices
    from realesrgan.inference import network
    from realesrgan.weights import loading as weights
    from tests.support import networks

    counts = {"networks": 0, "frees": 0, "loads": 0}

    def counting(name, real):
        def call(*arguments, **options):
            counts[name] += 1
            return real(*arguments, **options)

        return call

    monkeypatch.setattr(network.TileNetwork, "__init__", counting("networks", network.TileNetwork.__init__))
    monkeypatch.setattr(devices, "free", counting("frees", devices.free))
    monkeypatch.setattr(weights, "load", counting("loads", weights.load))
    upscaler = RealESRGANer(4, None, model=networks.srvgg(), device="cpu")
    for index in range(6):
        put(tmp_path / "in" / f"{index}.png", noise(20, 30, 3, seed=index))
    result, _ = run(tmp_path / "in", tmp_path / "out", upscaler)
    assert result.done == 6
    assert counts == {"networks": 1, "frees": 0, "loads": 0}


def test_the_monitor_is_told(folder, tmp_path):
    with Monitor(interval=0.01) as monitor:
        run(folder, tmp_path / "out", monitor=monitor)
    assert [use.name for use in monitor.pictures] == ["0.png", "1.png", "2.png", "3.png"]
