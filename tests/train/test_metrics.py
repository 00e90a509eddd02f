"""``metrics.jsonl``: what a continued training keeps of it."""

from __future__ import annotations

from realesrgan.files import jsonl
from realesrgan.train import _Record


def test_a_continued_training_keeps_what_was_before_its_state_and_no_torn_line(tmp_path):
    options = {"path": {"experiments_root": str(tmp_path)}, "rank": 0}
    record = _Record(options, 0)
    for step in range(1, 6):
        record.write(iter=step, loss=0.1 * step)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"iter":6,"lo')  # killed while writing
    _Record(options, 3).write(iter=4, loss=7.0)
    kept = [{"iter": step, "loss": 0.1 * step} for step in (1, 2, 3)]
    assert list(jsonl.read(path)) == [*kept, {"iter": 4, "loss": 7.0}]


def test_other_processes_write_nothing(tmp_path):
    record = _Record({"path": {"experiments_root": str(tmp_path)}, "rank": 1}, 0)
    record.write(iter=1)
    assert not list(tmp_path.iterdir())
