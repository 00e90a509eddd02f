"""--resume skips what would come out the same: the same weights and options, and a result that nobody changed."""

from __future__ import annotations

import json
import os
import re

import pytest
from support.picture_samples import pattern, put

from realesrgan.batch import report
from realesrgan.cli import commands as cli
from tests.support.nearest import Nearest


class Weighted(Nearest):
    """Describes the weights that it was made with."""

    sha256 = "11"
    faces = ""

    def describe(self):
        return {**super().describe(), "weights_sha256": self.sha256, "face_weights_sha256": self.faces}


@pytest.fixture()
def resume(tmp_path, monkeypatch, capsys, stand_in):
    """``resume(*words)`` goes on with two pictures; gives how many were done and skipped, and what was said."""
    stand_in(Weighted())
    monkeypatch.setattr(Weighted, "sha256", "11")
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a.png", "b.png")):
        put(tmp_path / "in" / name, pattern(6, 7, seed=seed))

    def call(*words, flag="--resume", status=0):
        assert cli.main(["-i", "in", "-o", "out", flag, *words]) == status
        shown = capsys.readouterr()
        done, skipped = re.search(r"(\d+) done, (\d+) skipped", shown.out).groups()
        return int(done), int(skipped), shown.out + shown.err

    assert call()[:2] == (2, 0)
    assert call()[:2] == (0, 2)
    return call


def test_other_weights_of_the_same_name_are_done_again(resume, monkeypatch):
    monkeypatch.setattr(Weighted, "sha256", "22")
    done, skipped, said = resume()
    assert (done, skipped) == (2, 0)
    assert "2 pictures were done with other options or other weights: they are done again." in said
    assert resume()[:2] == (0, 2)


def test_other_weights_for_faces_are_done_again(resume, monkeypatch):
    monkeypatch.setattr(Weighted, "faces", "33+44+55")
    assert resume("--face_enhance")[:2] == (2, 0)
    assert resume("--face_enhance")[:2] == (0, 2)
    monkeypatch.setattr(Weighted, "faces", "33+44+66")
    assert resume("--face_enhance")[:2] == (2, 0)


def test_the_same_weights_under_another_path_are_the_same(resume):
    assert resume("--model_path", "elsewhere/RealESRGAN_x4plus.pth")[:2] == (0, 2)


def test_a_result_of_the_same_size_with_other_bytes_is_done_again(resume, tmp_path):
    path = tmp_path / "out" / "a_out.png"
    good, times = path.read_bytes(), path.stat()
    path.write_bytes(good[:-1] + b"!")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert resume(flag="--resume=size")[:2] == (0, 2), "the old way looks at the size alone"
    done, skipped, said = resume()
    assert (done, skipped) == (1, 1)
    assert "1 pictures were done, but the picture or its result has changed since" in said
    assert path.read_bytes() == good


def test_a_result_that_was_touched_is_done_again(resume, tmp_path):
    path = tmp_path / "out" / "a_out.png"
    os.utime(path, (1, 1))
    assert resume(flag="--resume=size")[:2] == (0, 2)
    assert resume()[:2] == (1, 1)


def test_a_report_without_hashes_is_trusted_only_the_old_way(resume, tmp_path):
    path = tmp_path / "out" / "report.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line.pop("output_hash", None)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert resume(flag="--resume=size")[:2] == (0, 2)
    assert resume()[:2] == (2, 0)


@pytest.mark.parametrize("output", ["out/a_out.png\0", "", "out", "elsewhere/a_out.png", 5, ["out/a_out.png"]])
def test_lines_that_we_do_not_write_lead_to_no_unexpected_error(resume, tmp_path, output):
    path = tmp_path / "out" / "report.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines[0]["output"] = output
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done, skipped, said = resume()
    assert (done, skipped) == (1, 1)
    assert "Unexpected" not in said


def test_a_report_whose_closing_fails_is_an_error_with_a_summary(resume, monkeypatch, capsys):
    real = report.ReportWriter.close

    def close(self):
        real(self)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report.ReportWriter, "close", close)
    done, skipped, said = resume(status=1)
    assert (done, skipped) == (0, 2)
    assert "The end of the report" in said and "No space left on device" in said
