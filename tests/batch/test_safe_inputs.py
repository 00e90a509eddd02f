"""Nothing that a run reads is written to, whatever names and links lead there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.picture_samples import by_opencv, pattern, put

from realesrgan.cli import commands as cli
from realesrgan.files import paths

ROOT = Path(__file__).resolve().parents[2]
needs_links = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")


@pytest.fixture()
def folder(tmp_path, monkeypatch, stand_in):
    """``in`` with two pictures, ``out`` beside it, empty, and a stand-in for the network."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a.png", "b.png")):
        put(tmp_path / "in" / name, pattern(6, 7, seed=seed))
    (tmp_path / "out").mkdir()
    return tmp_path


def enlarge(*words):
    return cli.main(["-i", "in", "-o", "out", *words])


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "in").iterdir()}


def link(kind, path, target):
    """A symbolic or a hard link at ``path``."""
    path.symlink_to(target) if kind == "symbolic" else os.link(target, path)


@needs_links
@pytest.mark.parametrize("kind", ["symbolic", "hard"])
@pytest.mark.parametrize("at", ["in/a.png", "in/b.png"])
def test_a_results_name_that_is_a_link_to_an_input(folder, capsys, kind, at):
    before = contents(folder)
    link(kind, folder / "out" / "a_out.png", folder / at)
    assert enlarge() == 1
    assert contents(folder) == before
    assert f"would overwrite the input {Path(at)}" in capsys.readouterr().err
    assert (folder / "out" / "b_out.png").exists()


@needs_links
def test_an_input_that_is_a_link_to_a_results_name(folder, capsys):
    kept = by_opencv(".png", pattern(6, 7, seed=5))
    (folder / "out" / "a_out.png").write_bytes(kept)
    (folder / "in" / "c.png").symlink_to(folder / "out" / "a_out.png")
    assert enlarge() == 1
    assert (folder / "out" / "a_out.png").read_bytes() == kept
    assert f"would overwrite the input {Path('in/c.png')}" in capsys.readouterr().err


@needs_links
def test_two_results_that_are_linked_to_each_other(folder, capsys):
    (folder / "out" / "a_out.png").symlink_to("b_out.png")
    assert enlarge() == 1
    assert "has the same result name" in capsys.readouterr().err
    once = (folder / "out" / "b_out.png").read_bytes()
    (folder / "out" / "a_out.png").unlink()
    assert enlarge() == 0
    assert (folder / "out" / "b_out.png").read_bytes() == once, "it was b's own result"


@pytest.mark.parametrize("flag", ["--report", "--monitor-memory"])
@pytest.mark.parametrize("kind", ["itself", "symbolic", "hard"])
def test_a_list_that_names_an_input(folder, capsys, flag, kind):
    if kind != "itself" and os.name == "nt":
        pytest.skip("links need rights on Windows")
    before = contents(folder)
    path = folder / "in" / "b.png"
    if kind != "itself":
        path = folder / "list"
        link(kind, path, folder / "in" / "b.png")
    assert enlarge(f"{flag}={path}") == 2
    error = capsys.readouterr().err
    assert f"{flag} {path} is the input {Path('in/b.png')}" in error
    assert contents(folder) == before
    assert not list((folder / "out").iterdir()), "nothing is begun"


def test_a_list_that_names_the_weights(folder, capsys):
    (folder / "own.pth").write_bytes(b"weights")
    assert enlarge("--report", "own.pth", "--model_path", "own.pth") == 2
    assert "is the input own.pth" in capsys.readouterr().err
    assert (folder / "own.pth").read_bytes() == b"weights"


@pytest.mark.parametrize("flag", ["--report", "--monitor-memory"])
@pytest.mark.parametrize("name", ["a_out.png", "A_OUT.PNG" if os.name == "nt" else "b_out.png"])
def test_a_list_that_names_a_result(folder, capsys, flag, name):
    assert enlarge(f"{flag}=out/{name}") == 2
    assert "is where the result of" in capsys.readouterr().err
    assert not list((folder / "out").iterdir())


def test_two_lists_that_are_one_file(folder, capsys):
    assert enlarge("--report", "list", "--monitor-memory=list") == 2
    assert "--monitor-memory and --report name one file, list" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--report", "--monitor-memory"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_a_list_that_is_no_file_is_refused_and_not_waited_for(folder, flag, kind):
    path = folder / "list"
    if kind == "folder":
        path.mkdir()
    elif os.name == "nt":
        pytest.skip("no such files there")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = Path(os.devnull)
    words = [sys.executable, "-m", "realesrgan", "-i", "in", "-o", "out", "--resume", f"{flag}={path}", "--lang", "en"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=folder, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert f"{flag} {path} is a folder, a pipe or a device. Name a file." in done.stderr


def test_the_reports_of_shards_are_files_of_their_own(folder):
    assert enlarge("--report", "list.jsonl", "--shard", "1/2") == 0
    assert (folder / "list.1-of-2.jsonl").exists()


class TestInputs:
    def test_what_is_not_there_is_no_input(self, tmp_path):
        inputs = paths.Inputs([tmp_path / "a", tmp_path / "nul\0"])
        assert inputs.at(tmp_path / "a") is None
        assert inputs.at(tmp_path / "nul\0") is None

    def test_the_first_name_of_a_file_is_told(self, tmp_path):
        (tmp_path / "a").write_bytes(b"")
        os.link(tmp_path / "a", tmp_path / "b")
        inputs = paths.Inputs([tmp_path / "a", tmp_path / "b"])
        assert inputs.at(tmp_path / "b") == tmp_path / "a"
