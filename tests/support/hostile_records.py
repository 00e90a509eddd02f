"""Reports and journals that no run of ours left: seeded mutations of good ones, and files made to cost much."""

from __future__ import annotations

import json
import logging
import random
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

VALUES: List[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    7,
    2**31,
    2**63,
    2**64,
    10**30,
    0.5,
    -1e308,
    "",
    "a",
    "0",
    "\0",
    "../..",
    "\ud800",
    "x" * 5000,
    [],
    [0],
    [1, 2],
    [[1]],
    {},
    {"a": 1},
    [None],
    "done",
    "CON",
    "/dev/zero",
    float("inf"),
    float("nan"),
]


def report_lines() -> List[Dict[str, Any]]:
    """What a run of three pictures leaves."""
    line = {
        "input": "in/0.png",
        "status": "done",
        "output": "out/0_out.png",
        "read_seconds": 0.1,
        "device_seconds": 2.5,
        "write_seconds": 0.2,
        "device": "cpu",
        "model": "RealESRGAN_x4plus",
        "precision": "fp32",
        "tile": [532, 256],
        "tile_pad": 32,
        "tiles": 2,
        "input_size": [3, 2],
        "output_size": [12, 8],
        "mode": "RGB",
        "input_bytes": 123,
        "input_mtime_ns": 1,
        "output_bytes": 5,
        "output_mtime_ns": 2,
        "output_hash": "0011223344556677",
        "options": "d",
        "notes": ["a note"],
        "finished": "2026-01-01T00:00:00Z",
    }
    return [{**line, "input": f"in/{number}.png", "output": f"out/{number}_out.png"} for number in range(3)]


def journal_lines() -> List[Dict[str, Any]]:
    """What a run of a video of 18 frames leaves."""
    lines: List[Dict[str, Any]] = [{"identity": {"model": "a", "scale": 2.0}}]
    for first in (0, 6, 12):
        pts = [first + place for place in (0, 2, 1, 4, 3, 5)]
        segment = {"first": first, "pts": pts, "last": 1, "size": 4, "crc": zlib.crc32(b"%04d" % first)}
        lines.append({**segment, "anchor": [first + 5, 77], "repeated": 1, "concealed": [[first, first, "damaged"]]})
    return [*lines, {"total": 18}]


def dump(lines: List[Any]) -> bytes:
    return b"".join(json.dumps(line).encode("utf-8", "backslashreplace") + b"\n" for line in lines)


def _other_value(lines: List[Any], rng: random.Random) -> bytes:
    line = rng.choice(lines)
    key = rng.choice(sorted(line))
    if isinstance(line[key], list) and line[key] and rng.random() < 0.5:
        line[key][rng.randrange(len(line[key]))] = rng.choice(VALUES)
    else:
        line[key] = rng.choice(VALUES)
    return dump(lines)


def _other_number(lines: List[Any], rng: random.Random) -> bytes:
    text = dump(lines)
    places = [place for place, char in enumerate(text) if chr(char).isdigit()]
    out = bytearray(text)
    for _ in range(rng.randint(1, 4)):
        out[rng.choice(places)] = ord(rng.choice("0123456789"))
    return bytes(out)


def _lost_key(lines: List[Any], rng: random.Random) -> bytes:
    line = rng.choice(lines)
    line.pop(rng.choice(sorted(line)))
    return dump(lines)


def _shuffled(lines: List[Any], rng: random.Random) -> bytes:
    lines += [json.loads(json.dumps(rng.choice(lines))) for _ in range(rng.randint(0, 3))]
    rng.shuffle(lines)
    return dump(lines[: rng.randint(1, len(lines))])


def _flipped(lines: List[Any], rng: random.Random) -> bytes:
    out = bytearray(dump(lines))
    for _ in range(rng.randint(1, 8)):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _cut(lines: List[Any], rng: random.Random) -> bytes:
    text = dump(lines)
    start, end = sorted(rng.randrange(len(text)) for _ in range(2))
    return text[:start] + text[end:]


MUTATIONS: List[Callable[[List[Any], random.Random], bytes]] = [
    _other_value,
    _other_number,
    _lost_key,
    _shuffled,
    _flipped,
    _cut,
]


def costly(good: bytes) -> Iterator[Tuple[str, bytes]]:
    """Files that are meant to take long or much memory."""
    yield "nested lists", b"[" * 3_000_000
    yield "nested objects", b'{"a":' * 600_000
    yield "many small lists", b'{"input":[' + b"[]," * 2_000_000 + b"[]]}"
    yield "many objects in one line", b'{"identity":[' + b"{}," * 2_000_000 + b"{}]}"
    yield "lists in lists in an object", b'{"input":' + b"[" * 1_000_000
    yield "many keys", b"{" + b",".join(b'"%d":0' % key for key in range(500_000)) + b"}"
    yield "a number of a million digits", b'{"input":' + b"9" * 1_000_000 + b"}"
    yield "many numbers of a thousand digits", b"[" + b",".join([b"9" * 1000] * 5000) + b"]"
    yield "a line without an end", b"x" * 20_000_000
    yield "blank lines", b"\n" * 1_000_000
    yield "one letter a line", b"a\n" * 300_000
    yield "zeros", bytes(5_000_000)
    yield "escapes", b'{"input":"' + b"\\u0000" * 1_000_000 + b'"}'
    yield "the same line again and again", good * 2000
    yield "a byte order mark", b"\xef\xbb\xbf" + good
    yield "UTF-16", good.decode().encode("utf-16")
    yield "nothing", b""


def write_corpus(folder: Path, good: Callable[[], List[Dict[str, Any]]], count: int) -> List[Path]:
    """Write the costly files and ``count`` mutations; returns their paths."""
    folder.mkdir(parents=True)
    paths = []
    for number, (_, content) in enumerate(costly(dump(good()))):
        paths.append(folder / f"costly{number}")
        paths[-1].write_bytes(content)
    for seed in range(count):
        rng = random.Random(seed)
        paths.append(folder / f"mutation{seed}")
        paths[-1].write_bytes(MUTATIONS[seed % len(MUTATIONS)](good(), rng))
    return paths


def plan_from_report(path: str) -> str:
    """Go on from a report, up to the plan; what became of it, in a word."""
    from realesrgan.batch import BatchOptions, plan, report
    from realesrgan.errors import RealESRGANError
    from realesrgan.files.naming import Source

    logging.disable()

    try:
        former = report.load_all(path)
    except RealESRGANError as error:
        return f"refused: {error.code}"
    sources = [Source(Path(f"in/{number}.png"), Path(f"{number}.png")) for number in range(3)]
    sources += [Source(Path(record.input), Path("x.png")) for record in list(former.values())[:5]]
    jobs = plan.plan_jobs(sources, BatchOptions(Path("out"), digest="d"), former)
    assert len(jobs) == len(sources)
    return f"{len(former)} records"


def open_journal(path: str) -> str:
    """Go on from a journal with three whole segments beside it, up to what is to be joined."""
    import shutil

    from realesrgan.errors import RealESRGANError
    from realesrgan.video.journal import Journal

    logging.disable()
    folder = Path(path + ".parts")
    folder.mkdir()
    for first in (0, 6, 12):
        (folder / f"{first:08d}.nut").write_bytes(b"%04d" % first)
    shutil.copy(path, folder / "journal.jsonl")
    try:
        journal = Journal(folder, {"model": "a", "scale": 2.0})
    except RealESRGANError as error:
        return f"refused: {error.code}"
    ordered = journal.ordered()
    shown = sorted(pts for segment in ordered for pts in segment.pts)
    assert len(shown) == len(set(shown)), "two frames at one time"
    assert journal.done() <= set(range(18)), "frames that no file holds"
    assert ordered or not journal.is_whole, "whole without a frame"
    again = Journal(folder, {"model": "a", "scale": 2.0})
    assert (again.segments, again.total) == (journal.segments, journal.total), "what is kept is read again"
    return f"{len(journal.done())} frames, whole: {journal.is_whole}"
