"""Hostile weight files: none takes much time or memory, ends the process, or is loaded as something it is not."""

from __future__ import annotations

import collections
import random
from pathlib import Path
from typing import Callable, Dict

import pytest
import torch
from support import bounded, hostile_weights
from support.tiny_zoo import saved

from realesrgan.errors import WeightsError
from realesrgan.weights import checkpoints, pickles

SECONDS, MEGABYTES = 2.0, 300.0
COUNT = 504


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.pth"
    path.write_bytes(saved(hostile_weights.state(random.Random(0))))
    return path


def loads(*paths: Path, good: Path) -> Dict[str, str]:
    """What came of each file, in a child process with limits; the first, good one brings the imports."""
    hostile = bounded.run(
        "support.hostile_weights:load", map(str, paths), seconds=SECONDS, megabytes=MEGABYTES, first=str(good)
    )
    return {path.name: outcome.answer for path, outcome in zip(paths, hostile)}


KINDS = {
    "hash_bomb": "weights.unsafe",
    "many_steps": "weights.unsafe",
    "repeated_list": "weights.unsafe",
    "colliding_keys": "weights.unsafe",
    "claims": "weights.damaged",
    "expanded": "weights.tensor",
    "out_of_range": "weights.tensor",
    "shared": "weights.damaged",
    "quantised": "weights.tensor",
    "asks_for": "weights.unsafe",
    "deflated": "weights.compressed",
    "overlapping": "weights.damaged",
    "old_tar": "weights.tar",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, good: Path) -> Dict[str, str]:
    folder = tmp_path_factory.mktemp("kinds")
    return loads(*(hostile_weights.one(kind, folder, number) for kind in KINDS for number in range(3)), good=good)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_refused_for_what_it_is(answers: Dict[str, str], kind: str) -> None:
    found = [answer for name, answer in answers.items() if name.startswith(f"{kind}-")]
    assert found == [KINDS[kind]] * 3


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda value: value[:1].expand(value.shape), "expanded"),
        (lambda value: value.to_sparse(), "sparse"),
        (lambda value: value.to("meta"), "meta"),
        (lambda value: value.to(torch.complex64), "complex"),
        (lambda value: value > 0, "bool"),
        (lambda value: value.to(torch.int16), "int16"),
    ],
)
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_the_key_is_named(tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor], word: str, new: bool) -> None:
    state = hostile_weights.state(random.Random(3))
    key = next(name for name, value in state.items() if value.dim() == 4 and value.shape[0] > 1)
    path = tmp_path / "own.pth"
    path.write_bytes(saved({"params": {**state, key: change(state[key])}}, _use_new_zipfile_serialization=new))
    from realesrgan.weights import loading

    with pytest.raises(WeightsError) as caught:
        loading.load(path, trust=True)
    assert caught.value.code == "weights.tensor"
    assert key in str(caught.value) and word in str(caught.value)


def test_a_corpus_of_hostile_files(tmp_path: Path, good: Path) -> None:
    paths = hostile_weights.corpus(tmp_path, COUNT)
    outcomes = loads(*paths, good=good)
    assert len(outcomes) == COUNT
    by_kind = collections.defaultdict(collections.Counter)
    for name, answer in outcomes.items():
        by_kind[name.split("-")[1]][answer] += 1
    # A change of a few bytes may leave a good file (a name of nothing, a number of a version).
    harmless = {"flipped", "flipped_pickle", "legacy", "texts"}
    assert {kind for kind, answers in by_kind.items() if answers["loaded"]} <= harmless


def test_a_file_larger_than_any_checkpoint_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "MAX_BYTES", 1000)
    path = tmp_path / "large.pth"
    path.write_bytes(b"\0" * 1001)
    with pytest.raises(WeightsError) as caught:
        checkpoints.read(path)
    assert caught.value.code == "weights.too_large"
    assert "1000" in str(caught.value) and "1001" in str(caught.value)


def test_what_is_judged_is_what_torch_builds() -> None:
    """The reader that judges and torch agree on shapes, strides and places of tensors, in both forms of the file."""
    import io
    import zipfile

    numbers = torch.arange(24.0)
    content = {
        "whole": numbers.view(2, 3, 4),
        "turned": numbers.view(4, 6).t(),
        "part": numbers[4:10],
        "half": torch.nn.Parameter(numbers.half()),
        "single": torch.tensor(3),
    }
    with zipfile.ZipFile(io.BytesIO(saved({"params": content}))) as archive:
        read = pickles.read(archive.read("archive/data.pkl")).value["params"]
    for key, value in content.items():
        seen = read[key]
        assert (seen.shape, seen.strides, seen.offset) == (tuple(value.shape), value.stride(), value.storage_offset())
        assert seen.fault() == ""
