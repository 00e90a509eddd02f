"""Thousands of hostile pictures in child processes: no more than 2 seconds and 300 MB for any of them.

``pytest -rP tests/files/test_corpus_hostile.py`` shows the counts and the largest figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import List

from support.hostile_pictures import COUNT, NAMED

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 2.0
MEMORY = 300 << 20


def children(*arguments: List[str]) -> List[dict]:
    """What children say that read hostile pictures, all of them at the same time; each must end by itself."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "support.hostile_pictures", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            cwd=ROOT,
            env=environment,
        )
        for words in arguments
    ]
    lines: List[dict] = []
    for child in started:
        out, err = child.communicate(timeout=900)
        assert child.returncode == 0, err[-3000:]
        lines += map(json.loads, out.splitlines())
    return lines


def within_limits(found: List[dict]) -> None:
    slowest, largest = max(found, key=lambda line: line["seconds"]), max(found, key=lambda line: line["bytes"])
    print(Counter(line["result"] for line in found))
    print(f"slowest: {slowest['name']}, {slowest['seconds']:.2f} s")
    print(f"largest: {largest['name']}, {largest['bytes'] >> 20} MB")
    assert [line for line in found if line["seconds"] > SECONDS or line["bytes"] > MEMORY] == []


def test_a_corpus_of_hostile_pictures() -> None:
    assert COUNT >= 2200
    found = children(*([str(start), str(COUNT), "2"] for start in range(2)))
    assert len(found) == COUNT
    within_limits(found)
    codes = Counter(line["result"] for line in found)
    allowed = {"", "picture.damaged", "picture.truncated", "picture.too_large", "picture.format", "picture.unsupported"}
    assert set(codes) <= allowed | {"picture.empty", "picture.video"}
    assert codes["picture.damaged"] > COUNT // 10 and codes[""] > COUNT // 10, "neither too tame nor too wild"


def test_the_cases_by_which_the_limits_were_found() -> None:
    found = children([])
    assert [line["name"] for line in found] == list(NAMED)
    within_limits(found)
    assert [line["result"] for line in found] == ["", "", "", "picture.damaged"]
