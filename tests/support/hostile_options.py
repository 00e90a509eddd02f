"""Files of training options that are none, or that are made to cost much."""

from __future__ import annotations

from realesrgan.errors import InputError

HOSTILE = {
    "tab": b"a:\t- b\n\tc",
    "open": b"a: [1, 2",
    "tag": b"a: !!python/object/apply:os.system ['true']",
    "key": b"? [1, 2]\n: 3",
    "utf8": b"name: \xff\xfe\x00",
    "nul": b"name: a\x00b",
    "date": b"a: 2020-99-99",
    "self": b"a: &a [*a]",
    "laughs": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(12)),
    "deep": b"a: " + b"[" * 5000 + b"]" * 5000,
    "list": b"- a\n- b",
    "nothing": b"",
    "large": b"# " + b"x" * 2_000_000,
    "twice": b"a: 1\na: 2",
    "digits": b"a: " + b"9" * 500_000,
}


def load(path: str) -> str:
    """Read options; what came of it."""
    from realesrgan.models import options as reader

    try:
        reader.load(path)
    except InputError as error:
        assert len(str(error)) < 1000
        return "refused"
    return "loaded"
