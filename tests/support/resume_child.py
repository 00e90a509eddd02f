"""A run of the command line over a folder with the stand-in, which a test kills at a moment of its choice.

Usage: resume_child.py MODE SEED ARGUMENTS...  With the mode ``stall`` the n-th write (chosen by the seed) stops at a
random byte, says so on standard output, and waits to be killed. With ``slow`` every step takes a random few
milliseconds. With ``plain`` nothing is changed.
"""

from __future__ import annotations

import os
import random
import sys
import time

from realesrgan.cli import commands as cli
from realesrgan.cli import run as cli_run
from realesrgan.files import atomic
from realesrgan.files import writing as writer
from tests.support.nearest import Nearest


def say(word: str) -> None:
    """One line in one piece, whatever the other threads print."""
    os.write(1, f"\n{word}\n".encode())


class Stalling:
    """A stream that takes some bytes and then nothing more."""

    def __init__(self, stream, room: int) -> None:
        self._stream = stream
        self._room = room

    def write(self, data) -> int:
        data = bytes(data)
        if len(data) >= self._room:
            self._stream.write(data[: self._room])
            self._stream.flush()
            say("stalled")
            time.sleep(600)
        self._room -= len(data)
        return self._stream.write(data)

    def __getattr__(self, name):
        return getattr(self._stream, name)


def main() -> int:
    mode, seed, *arguments = sys.argv[1:]
    dice = random.Random(int(seed))
    original = atomic.write_atomically
    writes = iter(range(10**6))
    chosen = dice.randrange(3)

    def stall(path, produce):
        room = dice.randrange(1, 250)
        if next(writes) != chosen:
            return original(path, produce)
        return original(path, lambda stream: produce(Stalling(stream, room)))

    def slow(path, produce):
        time.sleep(dice.random() * 0.02)
        original(path, produce)
        time.sleep(dice.random() * 0.02)

    if mode != "plain":
        writer.write_atomically = stall if mode == "stall" else slow
    pause = dice.random() * 0.02 if mode == "slow" else 0
    cli._need_libraries = lambda torch: None
    cli_run.build_upscaler = lambda *_: Nearest(lambda img: time.sleep(pause))
    say("begun")
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
