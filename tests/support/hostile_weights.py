"""Weight files made to cost much, to lie, or to be taken for something else; each kind by a seed."""

from __future__ import annotations

import collections
import io
import json
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import torch

from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from support.tiny_zoo import saved

KEY = "body.0.weight"


def load(path: str) -> str:
    """Load a file as the program does; what came of it, in a word."""
    from realesrgan.errors import WeightsError
    from realesrgan.weights import loading

    try:
        loaded = loading.load(path, trust=True)
        loaded.build()
    except WeightsError as error:
        assert len(str(error)) < 2000, "a text of the file is shown at length"
        assert str(error).isprintable(), "a control character of the file is shown"
        return str(error.code)
    return "loaded"


def state(dice: random.Random) -> Dict[str, torch.Tensor]:
    torch.manual_seed(dice.randrange(1 << 30))
    if dice.random() < 0.5:
        return dict(SRVGGNetCompact(3, 3, 4, dice.randrange(1, 4), 2).state_dict())
    return dict(RRDBNet(3, 3, 4, 4, 1, 2).state_dict())


def archive(pickled: bytes, records: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A .pth file of these parts."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/byteorder", b"little")
        for name, data in records.items():
            file.writestr(f"archive/data/{name}", data)
        file.writestr("archive/version", b"3\n")
    return stream.getvalue()


class Raw(bytes):
    """Instructions of a pickle."""


def op(*parts: Any) -> Raw:
    return Raw(b"".join(part if isinstance(part, bytes) else value(part) for part in parts))


def value(thing: Any) -> bytes:
    """The instructions that push a plain value."""
    if isinstance(thing, Raw):
        return thing
    return pickle.dumps(thing, 2)[2:-1]


def name(module: str, attribute: str) -> Raw:
    return Raw(f"c{module}\n{attribute}\n".encode())


def tensor(
    storage: str = "FloatStorage",
    key: str = "0",
    count: int = 4,
    offset: int = 0,
    shape: Tuple[int, ...] = (4,),
    strides: Tuple[int, ...] = (1,),
) -> Raw:
    """The instructions that torch writes for a tensor."""
    place = op(b"(", "storage", name("torch", storage), key, "cpu", count, b"tQ")
    rest = op(offset, shape, strides, False, name("collections", "OrderedDict"), b")R")
    return op(name("torch._utils", "_rebuild_tensor_v2"), b"(", place, rest, b"tR")


def mapping(items: Mapping[str, Raw]) -> bytes:
    return b"\x80\x02}(" + b"".join(value(key) + item for key, item in items.items()) + b"u."


def hash_bomb(dice: random.Random) -> bytes:
    """A key that takes 2**depth steps to hash."""
    depth = dice.randrange(40, 120)
    made = b"\x80\x02}K\x01\x85q\x01" + b"h\x01\x86q\x01" * depth + b"K\x01s."
    return archive(made, {})


def nested(dice: random.Random) -> bytes:
    depth = dice.randrange(1000, 150_000)
    opening, closing = dice.choice([(b"]", b"a"), (b")", b"\x85")])
    body = opening * depth + closing * (depth - 1) if closing == b"a" else b")" + closing * depth
    return archive(b"\x80\x02" + body + b".", {})


def many_steps(dice: random.Random) -> bytes:
    return archive(b"\x80\x02(" + b"N" * dice.randrange(600_000, 3_000_000) + b"t.", {})


def repeated_list(dice: random.Random) -> bytes:
    """A long list that is made into a dictionary again and again."""
    pairs = b"](" + b"".join(value([str(number), 1]) for number in range(2000)) + b"eq\x01"
    again = name("collections", "OrderedDict") + b"h\x01\x85R"
    return archive(b"\x80\x02(" + pairs + again * dice.randrange(2000, 20_000) + b"t.", {})


def colliding_keys(dice: random.Random) -> bytes:
    """Numbers that share a hash."""
    step = (1 << 61) - 1
    numbers = b"".join(value(index * step) + b"N" for index in range(1, dice.randrange(20_000, 60_000)))
    return archive(b"\x80\x02}(" + numbers + b"u.", {})


def long_number(dice: random.Random) -> bytes:
    """A number written as a line of digits."""
    return archive(b"\x80\x02" + dice.choice([b"L", b"I"]) + b"9" * dice.randrange(200_000, 2_000_000) + b"\n.", {})


def claims(dice: random.Random) -> bytes:
    """Much more numbers than the file has."""
    count = 1 << dice.randrange(12, 45)
    item = tensor(dice.choice(["FloatStorage", "HalfStorage", "DoubleStorage"]), count=count, shape=(count,))
    return archive(mapping({KEY: item}), {"0": b"\0" * 16})


def expanded(dice: random.Random) -> bytes:
    sides = dice.choice([((1 << 30,), (0,)), ((4096, 4096, 3), (0, 0, 1)), ((1000, 1000), (1, 1)), ((64, 3), (1, 0))])
    return archive(mapping({KEY: tensor(shape=sides[0], strides=sides[1])}), {"0": b"\0" * 16})


def out_of_range(dice: random.Random) -> bytes:
    offset = dice.choice([4, 1 << 40, 1 << 61])
    return archive(mapping({KEY: tensor(offset=offset)}), {"0": b"\0" * 16})


def shared(dice: random.Random) -> bytes:
    """Many tensors in the same half-precision numbers, each of which grows when it is read."""
    count = 200_000
    item = tensor("HalfStorage", count=count, shape=(count,))
    return archive(mapping({f"a{index}": item for index in range(dice.randrange(500, 2000))}), {"0": b"\0" * 2 * count})


def other_kinds(dice: random.Random) -> bytes:
    """Sparse, meta, complex, bool, whole and other tensors."""
    content = state(dice)
    key = dice.choice(sorted(content))
    plain = content[key]
    kinds: List[Callable[[], Any]] = [
        lambda: plain.to_sparse(),
        lambda: plain.to("meta"),
        lambda: plain.to(torch.complex64),
        lambda: plain > 0,
        lambda: plain.to(torch.int32),
        lambda: plain.to(torch.uint8),
        lambda: plain[:1].expand(plain.shape),
    ]
    content[key] = dice.choice(kinds)()
    return saved(content, _use_new_zipfile_serialization=dice.random() < 0.7)


def quantised(dice: random.Random) -> bytes:
    arguments = op(tensor("QInt8Storage"), b"N") if dice.random() < 0.5 else op(b"N")
    function = dice.choice(["_rebuild_qtensor", "_rebuild_nested_tensor", "_rebuild_sparse_tensor"])
    return archive(mapping({KEY: op(name("torch._utils", function), b"(", arguments, b"tR")}), {"0": b"\0" * 16})


def asks_for(dice: random.Random) -> bytes:
    """Names of code."""
    module, attribute = dice.choice(
        [("os", "system"), ("builtins", "eval"), ("torch", "load"), ("torch.hub", "load"), ("a" * 5000, "b\x1b[31m")]
    )
    return archive(mapping({KEY: op(name(module, attribute), b"(", "x", b"tR")}), {})


def deflated(dice: random.Random) -> bytes:
    """A small file that unpacks to much."""
    count = dice.randrange(10, 40) * 1_000_000
    return archive(mapping({KEY: tensor(count=count, shape=(count,))}), {"0": b"\0" * 4 * count}, zipfile.ZIP_DEFLATED)


def overlapping(dice: random.Random) -> bytes:
    """A directory whose entries share the bytes of one record."""
    body = b"\0" * 100_000
    data = archive(mapping({KEY: tensor(count=25_000, shape=(25_000,))}), {"0": body})
    start = data.rindex(b"PK\x01\x02", 0, data.rindex(b"archive/data/0"))
    size = 46 + len("archive/data/0")
    entry = data[start : start + size]
    end = data.rindex(b"PK\x05\x06")
    first = data.index(b"PK\x01\x02")
    times = dice.randrange(100, 5000)
    directory = data[first:end] + entry * times
    total = struct.unpack("<H", data[end + 10 : end + 12])[0] + times
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, total & 0xFFFF, total & 0xFFFF, len(directory), first, 0)
    return data[:first] + directory + tail


def texts(dice: random.Random) -> bytes:
    """Keys that are not for a terminal."""
    odd = dice.choice(["\x1b]0;title\x07", "k" * 1_000_000, "a\nb\r\n", "\u202eabc", "\ud800"])
    return saved({odd: torch.zeros(2, 2).to_sparse(), "b": [1]}) if dice.random() < 0.5 else saved({odd: [1]})


def numbered(dice: random.Random) -> bytes:
    """Names that promise a giant network."""
    number = dice.choice([10**6, 10**9, 10**18])
    content = state(dice)
    key = dice.choice([f"body.{number}.weight", f"body.{number}.rdb1.conv1.weight", f"model.{number}.weight"])
    content[key] = torch.zeros(4, 4, 3, 3)
    return saved(content)


def thin(dice: random.Random) -> bytes:
    """Shapes with empty or giant sides, and few numbers."""
    content = state(dice)
    for key in dice.sample(sorted(content), 2):
        content[key] = torch.zeros(dice.choice([(0, 3, 3, 3), (0,), (1, 1, 1, 1), (10**6,), (0, 10**9)]))
    return saved(content)


def safetensors_header(dice: random.Random) -> bytes:
    """Headers that lie."""
    header: Dict[str, Any] = {KEY: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
    entry = header[KEY]
    entry.update(
        dice.choice(
            [
                {"shape": [1 << 60]},
                {"shape": [1 << 40, 1 << 40]},
                {"data_offsets": [0, 1 << 60]},
                {"data_offsets": [16, 0]},
                {"dtype": "BOOL"},
                {"dtype": "I64", "shape": [2]},
                {"dtype": "C64", "shape": [2]},
                {"dtype": "x" * 100_000},
                {"shape": [-1]},
                {"shape": [0, 1 << 62], "data_offsets": [0, 0]},
            ]
        )
    )
    if dice.random() < 0.3:
        header = {f"{KEY}{index}": entry for index in range(20_000)}
    text = json.dumps(header).encode()
    if dice.random() < 0.2:
        text = b'{"a":' * dice.randrange(1000, 200_000)
    size = dice.choice([len(text), len(text) + 1, 1 << 40, (1 << 24) - 1])
    return struct.pack("<Q", size) + text + b"\0" * 16


def legacy(dice: random.Random) -> bytes:
    """The old form, with numbers that claim more than there are."""
    data = saved(state(dice), _use_new_zipfile_serialization=False)
    if dice.random() < 0.5:
        return data[: dice.randrange(20, len(data))]
    place = max(data.rfind(struct.pack("<Q", count)) for count in (4, 8, 12, len(data) // 2))
    assert place > 0
    return data[:place] + struct.pack("<Q", 1 << dice.randrange(20, 60)) + data[place + 8 :]


def old_tar(dice: random.Random) -> bytes:
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as file:
        for _ in range(dice.randrange(1, 4)):
            member = tarfile.TarInfo("n" * dice.randrange(1, 5000))
            member.pax_headers = {"comment": "c" * dice.randrange(1, 100_000)}
            file.addfile(member)
    return stream.getvalue()


def flipped(dice: random.Random) -> bytes:
    """A good file with a few bytes changed, cut short or put in twice."""
    data = bytearray(saved(state(dice), _use_new_zipfile_serialization=dice.random() < 0.6))
    for _ in range(dice.randrange(1, 12)):
        kind = dice.randrange(3)
        place = dice.randrange(len(data))
        if kind == 0:
            data[place] ^= 1 << dice.randrange(8)
        elif kind == 1:
            del data[place : place + dice.randrange(1, 200)]
        else:
            data[place:place] = data[place : place + dice.randrange(1, 200)]
    return bytes(data)


def flipped_pickle(dice: random.Random) -> bytes:
    """A good archive around a pickle with changed bytes: its checksum is right."""
    content = state(dice)
    with zipfile.ZipFile(io.BytesIO(saved(content))) as file:
        pickled = bytearray(next(file.read(name) for name in file.namelist() if name.endswith("data.pkl")))
        records = {name.rpartition("/")[2]: file.read(name) for name in file.namelist() if "/data/" in name}
    for _ in range(dice.randrange(1, 8)):
        pickled[dice.randrange(len(pickled))] = dice.randrange(256)
    return archive(bytes(pickled), records)


def noise(dice: random.Random) -> bytes:
    start = dice.choice([b"PK\x03\x04", b"\x80\x02", b"", struct.pack("<Q", 100) + b"{", b"<html>"])
    return start + bytes(dice.getrandbits(8) for _ in range(dice.randrange(1, 5000)))


KINDS: Tuple[Callable[[random.Random], bytes], ...] = (
    hash_bomb,
    nested,
    many_steps,
    repeated_list,
    colliding_keys,
    long_number,
    claims,
    expanded,
    out_of_range,
    shared,
    other_kinds,
    quantised,
    asks_for,
    deflated,
    overlapping,
    texts,
    numbered,
    thin,
    safetensors_header,
    legacy,
    old_tar,
    flipped,
    flipped_pickle,
    noise,
)

_MOST: Mapping[str, int] = {"many_steps": 3, "repeated_list": 4, "shared": 4, "deflated": 4, "nested": 8}
"""Kinds that take long to make: at most so many of each."""


def corpus(folder: Path, count: int, seed: int = 1) -> List[Path]:
    """Write ``count`` files and give their paths, whose names tell the kind and the seed."""
    dice = random.Random(seed)
    made: collections.Counter[str] = collections.Counter()
    paths: List[Path] = []
    while len(paths) < count:
        kind = KINDS[len(paths) % len(KINDS)]
        if made[kind.__name__] >= _MOST.get(kind.__name__, count):
            kind = dice.choice([flipped, flipped_pickle, other_kinds, legacy])
        made[kind.__name__] += 1
        number = dice.randrange(1 << 30)
        path = folder / f"{len(paths):04}-{kind.__name__}-{number}.pth"
        path.write_bytes(kind(random.Random(number)))
        paths.append(path)
    return paths


def one(kind: str, folder: Path, number: int = 0, suffix: Optional[str] = None) -> Path:
    """A file of one kind."""
    path = folder / f"{kind}-{number}{suffix or '.pth'}"
    path.write_bytes(globals()[kind](random.Random(number)))
    return path
