"""The record of a run: what is written comes back, also after a kill."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from realesrgan.batch import report
from realesrgan.errors import InputError
from realesrgan.files import paths


def test_a_record_comes_back_as_it_was(tmp_path):
    record = report.Record(
        "그림 é😀.png", report.DONE, "out/그림.png", 0.1, 2.0, 0.3, tile=(532, 256), input_size=(3, 2), notes=("a", "b")
    )
    with report.ReportWriter(tmp_path / "sub" / "report.jsonl") as writer:
        writer.write(record)
        on_disk = (tmp_path / "sub" / "report.jsonl").read_bytes()  # before it is closed: flushed line by line
    assert on_disk.decode("utf-8").endswith("\n")
    assert "그림 é😀.png" in on_disk.decode("utf-8")
    assert report.load(tmp_path / "sub" / "report.jsonl") == [record]


def test_a_name_that_is_not_unicode_survives(tmp_path):
    name = os.fsdecode(b"bad\xff.png") if os.name != "nt" else "bad\udcff.png"
    with report.ReportWriter(tmp_path / "r.jsonl") as writer:
        writer.write(report.Record(name, report.DONE))
    assert report.load(tmp_path / "r.jsonl")[0].input == name


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full, on Linux")
def test_a_full_disk_is_said_by_the_write_and_not_once_more_by_closing(monkeypatch):
    monkeypatch.setattr(paths, "check_regular", lambda *_: None)  # a device is refused otherwise
    writer = report.ReportWriter("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        writer.write(report.Record("a.png", report.DONE))
    writer.close()


@pytest.mark.parametrize("cut", [2, 5, 20, 45])
def test_any_prefix_is_a_report(tmp_path, cut):
    path = tmp_path / "r.jsonl"
    with report.ReportWriter(path) as writer:
        writer.write(report.Record("a.png", report.DONE))
        writer.write(report.Record("é😀.png", report.FAILED, error_text="a long enough text to cut in"))
    path.write_bytes(path.read_bytes()[:-cut])
    assert [record.input for record in report.load(path)] == ["a.png"]
    with report.ReportWriter(path) as writer:  # and it can be gone on with
        writer.write(report.Record("c.png", report.DONE))
    assert [record.input for record in report.load(path)] == ["a.png", "c.png"]


def test_lines_that_are_no_records_are_left_out(tmp_path):
    path = tmp_path / "r.jsonl"
    good = json.dumps({"input": "a.png", "status": "done", "of a later version": 1})
    path.write_text(f'[1, 2]\n7\n{{"input": 3, "status": "done"}}\n\n{good}\nnull\n', encoding="utf-8")
    assert report.load(path) == [report.Record("a.png", "done")]


@pytest.mark.parametrize(
    "values",
    [
        {"output": 3},
        {"output": ["a"]},
        {"finished": 7},
        {"tile": [1]},
        {"tile": "ab"},
        {"tiles": 1.5},
        {"tiles": True},
        {"input_bytes": "12"},
        {"read_seconds": "soon"},
        {"notes": "text"},
        {"notes": [1]},
        {"error_text": {}},
        {"input": None},
        {"status": 1},
    ],
)
def test_a_line_with_a_value_of_another_type_is_no_record(values, tmp_path, caplog):
    path = tmp_path / "r.jsonl"
    good = {"input": "a.png", "status": "done"}
    path.write_text(json.dumps({**good, **values}) + "\n" + json.dumps(good) + "\n", encoding="utf-8")
    assert report.load_all(path) == {report.key("a.png"): report.Record("a.png", "done")}
    assert [entry.notice_code for entry in caplog.records] == ["report.lines"]


def test_skipped_lines_are_said_once_and_a_torn_end_is_not(tmp_path, caplog):
    path = tmp_path / "r.jsonl"
    good = json.dumps({"input": "a.png", "status": "done"})
    path.write_text(f'{good}\n{{"input": "b', encoding="utf-8")
    assert len(report.load(path)) == 1
    assert not caplog.records
    path.write_text(f'[[[[\nnull\n{good}\n{{"input": "b', encoding="utf-8")
    assert len(report.load(path)) == 1
    assert [(entry.notice_code, entry.notice_fields["count"]) for entry in caplog.records] == [("report.lines", 3)]


def test_the_hash_sees_the_start_the_middle_and_the_end(tmp_path):
    path = tmp_path / "result.png"
    content = bytearray(1 << 20)
    path.write_bytes(content)
    first = report.content_hash(path)
    for place in (0, 1 << 19, (1 << 20) - 1):
        content[place] = 1
        path.write_bytes(content)
        assert report.content_hash(path) != first
        content[place] = 0
    path.write_bytes(b"short")
    assert report.content_hash(path) != first


def test_a_new_run_starts_the_report_anew_unless_it_appends(tmp_path):
    path = tmp_path / "r.jsonl"
    for append, expected in ((True, 1), (True, 2), (False, 1)):
        with report.ReportWriter(path, append=append) as writer:
            writer.write(report.Record("a.png", report.DONE))
        assert len(report.load(path)) == expected


def test_missing_is_empty_and_unreadable_is_an_error(tmp_path):
    assert report.load(tmp_path / "none.jsonl") == []
    with pytest.raises(InputError) as caught:
        report.load(tmp_path)
    assert caught.value.code == "output.not_file"
    with pytest.raises(InputError) as caught:
        report.ReportWriter(tmp_path)
    assert caught.value.code == "output.not_file"
    assert str(tmp_path) in str(caught.value)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        report.ReportWriter(tmp_path / "file" / "report.jsonl")
    assert caught.value.code == "report.write"


def test_the_last_word_counts_and_skipped_says_nothing(tmp_path):
    path = tmp_path / "report.jsonl"
    a, b = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    with report.ReportWriter(path) as writer:
        writer.write(report.Record(a, report.FAILED, finished="2026-01-01T00:00:00Z"))
        writer.write(report.Record(a, report.DONE, finished="2026-01-02T00:00:00Z"))
        writer.write(report.Record(a, report.SKIPPED, finished="2026-01-03T00:00:00Z"))
    with report.ReportWriter(report.shard_path(path, 2, 2)) as writer:
        writer.write(report.Record(b, report.DONE, finished="2026-01-01T00:00:00Z"))
        writer.write(report.Record(a, report.FAILED, finished="2026-01-01T12:00:00Z"))
    (tmp_path / "report.other.jsonl").write_text("not of this run", encoding="utf-8")
    latest = report.load_all(path)
    assert {name: record.status for name, record in latest.items()} == {
        report.key(a): report.DONE,
        report.key(b): report.DONE,
    }


def test_shards_have_files_of_their_own():
    assert report.shard_path("x/report.jsonl", 1, 1) == Path("x/report.jsonl")
    assert report.shard_path("x/report.jsonl", 2, 4) == Path("x/report.2-of-4.jsonl")


def test_the_digest_follows_each_option():
    options = {"model": "a", "tile": 0, "outscale": 4.0, "name": "é"}
    assert report.digest(options) == report.digest(dict(reversed(list(options.items()))))
    others = {report.digest({**options, name: "changed"}) for name in options}
    assert len(others) == len(options)
    assert report.digest(options) not in others
