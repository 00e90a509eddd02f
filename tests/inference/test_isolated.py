"""The child process that may die: what is handed over, and how the work goes on when it dies."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List

import numpy as np
import pytest
from support.mortal import read

from realesrgan.backends import base
from realesrgan.errors import DeviceError, DeviceLostError, DeviceOutOfMemoryError, InputError, RealESRGANError
from realesrgan.inference import isolated as worker
from realesrgan.inference.child import pack_error, rebuild_error

PICTURE = np.arange(1000 * 6 * 3, dtype=np.uint8).reshape(1000, 6, 3)
QUICK = worker.Settings(factory="support.mortal:build", pause=0.0)

Make = Callable[..., worker.IsolatedUpsampler]


@pytest.fixture()
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


@pytest.fixture()
def make(log: Path) -> Iterator[Make]:
    made: List[worker.IsolatedUpsampler] = []

    def build(settings: worker.Settings = QUICK, **arguments: Any) -> worker.IsolatedUpsampler:
        made.append(worker.IsolatedUpsampler(settings=settings, log=str(log), **arguments))
        return made[-1]

    yield build
    for each in made:
        each.close()
    assert not multiprocessing.active_children()


def doubled(img: np.ndarray) -> np.ndarray:
    return np.kron(img, np.ones((2, 2) + (1,) * (img.ndim - 2), img.dtype))


def calls(log: Path, what: str = "enhance") -> list:
    return [line for line in read(log) if line["what"] == what]


def test_it_looks_like_the_upsampler(make: Make, log: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="realesrgan")
    bytes_done: List[tuple] = []
    upsampler = make(progress=lambda *done: bytes_done.append(done), tile=64, model_path="모델.pth")
    assert (upsampler.scale, upsampler.tile_size, upsampler.tile_pad) == (2, 64, 10)
    described = upsampler.describe()
    assert described["device"] == "directml:0" and described["isolated"] is True
    assert described["pid"] == upsampler.pid != os.getpid()
    assert bytes_done == [(1, 2)]
    tiles: List[tuple] = []
    out, mode = upsampler.enhance(PICTURE, 3.5, None, progress=lambda *done: tiles.append(done))
    np.testing.assert_array_equal(out, doubled(PICTURE))
    assert mode == "RGB" and tiles == [(1, 4), (4, 4)]
    assert upsampler.last_run.tile == (64, 64) and upsampler.last_run.precision == "fp32"
    (line,) = calls(log)
    assert (line["outscale"], line["alpha"], line["tile"]) == (3.5, None, 64)
    assert calls(log, "start")[0]["others"] == {"model_path": "모델.pth"}
    (record,) = [record for record in caplog.records if record.getMessage() == "said by the child"]
    assert (record.name, record.notice_code) == ("realesrgan.weights.loading", "weights.said")
    assert record.notice_fields == {"name": "한글"}
    assert "developers" not in caplog.text, "the level of this process counts in the child"


def test_pictures_of_any_layout_and_more_than_one_chunk_arrive_whole(make: Make) -> None:
    upsampler = make()
    rng = np.random.default_rng(1)
    large = rng.integers(0, 65536, (1700, 1300, 4)).astype(np.uint16)  # 17 MB, answered with 71 MB
    for img in (large, large[::-1, ::2, 0], large[:1, :1], large[:0], large[:9, :9].astype(np.float32)):
        out, _ = upsampler.enhance(img)
        assert out.dtype == img.dtype
        np.testing.assert_array_equal(out, img.repeat(2, 0).repeat(2, 1))


def test_what_is_no_picture_never_reaches_the_child(make: Make, log: Path) -> None:
    upsampler = make()
    for wrong in (None, [[1]], np.array([["a"]]), np.array([[object()]])):
        with pytest.raises(InputError, match="numpy"):
            upsampler.enhance(wrong)  # type: ignore[arg-type]
    assert calls(log) == []


@pytest.mark.parametrize("death", ["kill", "exit", "lost", "raw lost", "memory", "ended"])
def test_a_picture_goes_on_in_a_new_process_with_half_the_tile(
    death: str, make: Make, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upsampler = make(orders=("ok", death))
    upsampler.enhance(PICTURE)
    out, _ = upsampler.enhance(PICTURE)
    np.testing.assert_array_equal(out, doubled(PICTURE))
    upsampler.enhance(PICTURE)
    starts = calls(log, "start")
    assert [line["tile"] for line in starts] == [0, 256]
    assert starts[0]["pid"] != starts[1]["pid"]
    assert [line["tile"] for line in calls(log)] == [0, 0, 256, 256]
    assert upsampler.restarts == 1
    said = [record for record in caplog.records if getattr(record, "notice_code", "") == "worker.restarted"]
    assert len(said) == 1 and said[0].notice_fields["tile"] == 256
    assert "start again" not in said[0].getMessage(), "advice for those who must act has no place here"


def test_tiles_are_halved_again_each_time_and_stay_so(make: Make, log: Path) -> None:
    upsampler = make(tile=200, orders=("kill", "lost", "kill", "ok", "kill", "kill", "kill"))
    upsampler.enhance(PICTURE)
    upsampler.enhance(PICTURE)
    assert [line["tile"] for line in calls(log)] == [200, 100, 50, 32, 32, 32, 32, 32]


def test_a_small_picture_is_halved_itself_without_harm_to_those_after_it(make: Make, log: Path) -> None:
    upsampler = make(orders=("lost", "lost"))
    upsampler.enhance(PICTURE[:100])
    upsampler.enhance(PICTURE)
    assert [line["tile"] for line in calls(log)] == [0, 50, 32, 128]


@pytest.mark.parametrize(
    ("death", "error", "code"),
    [
        ("kill", DeviceError, "worker.died"),
        ("lost", DeviceLostError, "device.lost"),
        ("raw lost", DeviceLostError, "device.lost"),
        ("memory", DeviceOutOfMemoryError, "device.memory"),
    ],
)
def test_a_picture_takes_only_so_many_processes(death: str, error: type, code: str, make: Make, log: Path) -> None:
    settings = worker.Settings(factory=QUICK.factory, pause=0.0, restarts=2)
    upsampler = make(settings, orders=(death,) * 3)
    with pytest.raises(error) as caught:
        upsampler.enhance(PICTURE)
    assert type(caught.value) is error and caught.value.code == code
    assert len(calls(log)) == 3
    if death == "kill" and sys.platform != "win32":
        assert "SIGKILL" in str(caught.value)
    out, _ = upsampler.enhance(PICTURE)
    np.testing.assert_array_equal(out, doubled(PICTURE))


@pytest.mark.parametrize(("order", "error"), [("picture", InputError), ("value", RealESRGANError)])
def test_an_error_of_the_picture_alone_keeps_the_process(order: str, error: type, make: Make, log: Path) -> None:
    upsampler = make(orders=(order,))
    with pytest.raises(error) as caught:
        upsampler.enhance(PICTURE)
    assert type(caught.value) is error
    if order == "picture":
        assert str(caught.value) == "not this one"
        assert caught.value.code == "image.shape"
        assert caught.value.fields == {"shape": (1, 2), "path": "x"}
    else:
        assert "ValueError: a mistake of ours" in str(caught.value)
    assert "mortal.py" in str(caught.value.__cause__), "--verbose shows where it came from"
    upsampler.enhance(PICTURE)
    assert len(calls(log, "start")) == 1


def test_a_hung_process_is_ended_and_replaced(make: Make, log: Path) -> None:
    settings = worker.Settings(factory=QUICK.factory, pause=0.0, silence=3.0)
    upsampler = make(settings, orders=("hang",))
    upsampler.enhance(PICTURE)
    assert [line["tile"] for line in calls(log)] == [0, 256]


def test_an_error_while_building_is_raised_and_leaves_no_process(make: Make, log: Path) -> None:
    with pytest.raises(InputError, match="not this one"):
        make(at_start=("picture",))
    assert len(calls(log, "start")) == 1
    assert not multiprocessing.active_children()


def test_a_process_that_dies_while_building_gets_a_second_chance_and_no_third(make: Make, log: Path) -> None:
    assert make(at_start=("kill",)).scale == 2
    log.unlink()
    with pytest.raises(DeviceError) as caught:
        make(at_start=("exit", "exit"))
    assert caught.value.code == "worker.died" and "exit status was 3" in str(caught.value)
    assert len(calls(log, "start")) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_exception_of_this_process_ends_the_child_at_once(error: type, make: Make, log: Path) -> None:
    upsampler = make()

    def stop(done: int, total: int) -> None:
        raise error

    with pytest.raises(error):
        upsampler.enhance(PICTURE, progress=stop)
    assert upsampler.pid is None and not multiprocessing.active_children()
    out, _ = upsampler.enhance(PICTURE)
    np.testing.assert_array_equal(out, doubled(PICTURE))


def test_close_lets_the_child_end_by_itself(make: Make) -> None:
    with make() as upsampler:
        (child,) = multiprocessing.active_children()
    assert child.exitcode == 0
    assert upsampler.pid is None


def test_errors_of_every_kind_survive_the_way() -> None:
    def over(error: Exception) -> Exception:
        return rebuild_error(*pack_error(error))

    lost = over(DeviceLostError("gone", device="directml:1"))
    assert (type(lost), str(lost), lost.fields) == (DeviceLostError, "gone", {"device": "directml:1"})
    assert isinstance(over(MemoryError("host")), MemoryError)
    assert type(over(KeyError("notice"))) is RealESRGANError, "a name in the errors module that is no error of ours"


@pytest.mark.parametrize(
    ("wish", "request_", "environment", "installed", "expected"),
    [
        (True, "cpu", "", False, True),
        (False, "dml", "", True, False),
        (None, "dml:1", "", False, True),
        (None, "directml", "", True, True),
        (None, "cpu", "", True, False),
        (None, "cuda:0", "", True, False),
        (None, None, "", True, True),
        (None, None, "", False, False),
        (None, "auto", "", True, True),
        (None, None, "cpu", True, False),
        (None, None, "dml", False, True),
        (None, "cuda", "dml", True, False),
    ],
)
def test_where_directml_may_be_taken_the_work_is_isolated(
    wish: Any, request_: Any, environment: str, installed: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REALESRGAN_DEVICE", environment)
    monkeypatch.setattr(base.importlib.util, "find_spec", lambda name: object() if installed else None)
    assert worker.isolates(wish, request_) is expected


def test_a_request_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InputError, match="not known"):
        worker.isolates(None, "voodoo")


def environment_of_tests() -> Dict[str, str]:
    here = Path(__file__).resolve().parents[1]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])}


def test_the_parent_imports_neither_torch_nor_torch_directml(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "import numpy as np\n"
        "from realesrgan.inference import isolated as worker\n"
        "if __name__ == '__main__':\n"
        "    settings = worker.Settings(factory='support.mortal:build')\n"
        "    assert worker.isolates(None, 'dml')\n"
        "    with worker.IsolatedUpsampler(settings=settings, log=sys.argv[1]) as upsampler:\n"
        "        out, mode = upsampler.enhance(np.zeros((3, 4, 3), np.uint8))\n"
        "    print(out.shape, sorted(name for name in sys.modules if name.partition('.')[0] in\n"
        "                            ('torch', 'torch_directml')))\n",
        encoding="utf-8",
    )
    command = [sys.executable, str(program), str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment_of_tests(), check=False)
    assert done.stdout.strip() == "(6, 8, 3) []", done.stderr
    assert done.stderr == "said by the child\n"


WAITING = """
import sys
import numpy as np
from realesrgan.inference import isolated as worker
if __name__ == '__main__':
    settings = worker.Settings(factory='support.mortal:build')
    upsampler = worker.IsolatedUpsampler(settings=settings, log=sys.argv[1], orders=('hang',))
    try:
        upsampler.enhance(np.zeros((3, 4, 3), np.uint8), progress=lambda *done: print('begun', flush=True))
    except KeyboardInterrupt:
        print('stopped', upsampler.pid, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("interrupted", [True, False], ids=["Ctrl-C", "killed"])
def test_no_child_outlives_its_parent(interrupted: bool, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(WAITING, encoding="utf-8")
    parent = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment_of_tests(),
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "begun\n"
    if interrupted:
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to both
    else:
        parent.kill()
    output, errors = parent.communicate(timeout=60)  # until the last process with the pipes open is gone
    if interrupted:
        assert (output, parent.returncode) == ("stopped None\n", 0)
        assert "Traceback" not in errors


@pytest.fixture()
def checkpoint(tmp_path: Path) -> Path:
    import torch

    from realesrgan.archs.rrdbnet_arch import RRDBNet

    torch.manual_seed(3)
    path = tmp_path / "작은.pth"
    torch.save({"params": RRDBNet(3, 3, scale=4, num_feat=8, num_block=1, num_grow_ch=4).state_dict()}, path)
    return path


def in_a_child(checkpoint: Path, **arguments: Any) -> worker.IsolatedUpsampler:
    settings = worker.Settings(pause=0.0)
    every = {"scale": 4, "model_path": str(checkpoint), "trust_weights": True, "tile_pad": 4, **arguments}
    return worker.IsolatedUpsampler(settings=settings, **every)


def expected(checkpoint: Path, img: np.ndarray) -> np.ndarray:
    from realesrgan import RealESRGANer

    here = RealESRGANer(4, str(checkpoint), device="cpu", tile_pad=4, tile=64, trust_weights=True)
    return here.enhance(img)[0]


@pytest.fixture()
def photo() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (60, 90, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "fault",
    [
        {"lost_after": 250, "once": "lost"},
        {"adapters": "small", "stuck_memory": True},
    ],
    ids=["lost", "stuck memory"],
)
def test_on_directml_a_picture_survives_the_loss_of_the_card(
    fault: Dict[str, Any], directml_with: Any, checkpoint: Path, photo: np.ndarray, tmp_path: Path, caplog: Any
) -> None:
    from directml_standin import adapters

    if "once" in fault:
        fault = {**fault, "once": str(tmp_path / "lost")}
    if "adapters" in fault:
        fault = {**fault, "adapters": adapters(16_000_000)}
    with directml_with(record=str(tmp_path / "record.jsonl"), **fault) as simulation:
        with in_a_child(checkpoint, device="dml", tile=128) as upsampler:
            first = upsampler.pid
            out, _ = upsampler.enhance(photo)
            assert upsampler.describe()["device"] == "directml:0"
            assert upsampler.pid != first and upsampler.restarts >= 1
            assert max(upsampler.last_run.tile) <= 64
        assert simulation.opened_by is None and not simulation.ended
        assert "torch_directml" not in sys.modules
    assert "worker.restarted" in [getattr(record, "notice_code", "") for record in caplog.records]
    difference = np.abs(out.astype(int) - expected(checkpoint, photo))
    assert (difference <= 1).mean() >= 0.999


def test_faces_are_restored_in_the_child_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import ModuleType, SimpleNamespace

    from realesrgan.inference import upsampler as upsampler_room

    class Enhancer:
        def __init__(self, upsampler: Any, **options: Any) -> None:
            self.upsampler, self.options = upsampler, options

    faces = ModuleType("realesrgan.inference.faces.enhancer")
    faces.FaceEnhancer = Enhancer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "realesrgan.inference.faces.enhancer", faces)
    monkeypatch.setattr(upsampler_room, "RealESRGANer", lambda **arguments: SimpleNamespace(**arguments))
    built = worker.build(scale=4, progress=print, faces={"trust_weights": True})
    assert built.upsampler.scale == 4 and built.options == {"trust_weights": True, "progress": print}
    assert worker.build(scale=2, progress=None, faces=None).scale == 2


def test_a_pipe_that_another_thread_closes_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, waiting for a pipe that is closed meanwhile raises "the handle is invalid"."""
    import multiprocessing.connection

    from realesrgan.inference import child

    def closed(objects: object, timeout: object = None) -> object:
        raise OSError(6, "Invalid handle")

    waiting = object.__new__(child.Child)
    waiting._connection = waiting._process = SimpleNamespace(sentinel=0)  # type: ignore[assignment]
    monkeypatch.setattr(multiprocessing.connection, "wait", closed)
    with pytest.raises(child.ChildGoneError, match="closed its pipe"):
        waiting.receive()
