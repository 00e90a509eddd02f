"""What the benchmark is asked for: its command line, read into plain values."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from realesrgan.cli.options import model_name
from realesrgan.errors import InputError
from realesrgan.weights import zoo
from realesrgan.weights.fetch import SOURCES

__all__ = ["QUICK_MODELS", "QUICK_SIZES", "RESOLUTIONS", "Options", "read", "resolution"]

RESOLUTIONS = {
    "480p": (854, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "1440p": (2560, 1440),
    "4K": (3840, 2160),
}
"""Width and height of a picture that goes in."""
QUICK_MODELS = ("RealESRGAN_x4plus", "RealESRGAN_x2plus", "realesr-general-x4v3", "realesr-animevideov3")
QUICK_SIZES = ((1920, 1080), (1280, 720), (854, 480), (640, 360), (426, 240), (256, 144), (160, 90), (96, 54))
"""With --quick each model takes the largest that its share of the time allows."""


@dataclass(frozen=True)
class Options:
    """What to time, how often, and where results go. None leaves a choice to the program; a tile None is automatic."""

    models: Tuple[str, ...]
    resolutions: Optional[Tuple[Tuple[int, int], ...]]
    tiles: Tuple[Optional[int], ...]
    precisions: Optional[Tuple[bool, ...]]
    pad: Optional[int]
    device: Optional[str]
    weights_from: str
    compiled: bool
    warmup: int
    repeats: int
    quick: bool
    yes: bool
    outputs: Tuple[Path, ...]
    plot: Optional[Path]


def read(argv: Optional[Sequence[str]]) -> Options:
    """Read the command line; argparse ends the process for --help and for flags that are not known.

    Raises:
        InputError: A value is not what it should be.
    """
    given = _parser().parse_args(argv)
    quick = given.quick
    models = _split(given.models) or (list(QUICK_MODELS) if quick else ["RealESRGAN_x4plus"])
    sizes = _split(given.resolutions) or ([] if quick else ["720p", "1080p"])
    tiles = _split(given.tile_sizes) or (["auto"] if quick else ["256", "512"])
    every = [name.lower() for name in models] == ["all"]
    return Options(
        models=tuple(zoo.names() if every else map(model_name, models)),
        resolutions=tuple(map(resolution, sizes)) or None,
        tiles=tuple(None if word == "auto" else _number("--tile-sizes", word, 0) for word in tiles),
        precisions=tuple(map(_precision, _split(given.precisions))) or None,
        pad=None if given.tile_pad is None else _number("--tile-pad", given.tile_pad, 0),
        device=given.device,
        weights_from=given.weights_from,
        compiled=given.compile,
        warmup=_number("--warmup", given.warmup or ("0" if quick else "1"), 0),
        repeats=_number("--repeats", given.repeats or ("3" if quick else "5"), 1),
        quick=quick,
        yes=given.yes,
        outputs=tuple(_output(Path(word)) for word in _split(given.output)),
        plot=Path(given.plot) if given.plot else None,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmark_directml.py",
        description="Times enhance() on any device, DirectML or not: median and spread, peak memory, TFLOP/s.",
        epilog="Lists are separated by commas or spaces.",
    )
    known = ", ".join(RESOLUTIONS)
    add = parser.add_argument
    add("--resolutions", nargs="+", metavar="SIZE", help=f"input sizes: {known} or WxH (default: 720p,1080p)")
    add("--tile-sizes", nargs="+", metavar="N", help="tile sizes; 0: untiled; auto (default: 256,512)")
    add("--tile-pad", metavar="N", help="padding of a tile (default: the model's own)")
    add("--models", nargs="+", metavar="NAME", help="models, or all (default: RealESRGAN_x4plus)")
    add("--precisions", nargs="+", metavar="P", help="fp32, fp16 (default: what the device prefers)")
    add("--device", help="directml, dml:1, cuda, cuda:0, xpu, mps, cpu (default: the first there is)")
    add(
        "--weights-from",
        default="auto",
        choices=[*SOURCES, "random"],
        help="auto downloads nothing and takes random weights where there are none (default: auto)",
    )
    add("--compile", action="store_true", help="through torch.compile")
    add("--warmup", metavar="N", help="runs before timing (default: 1)")
    add("--repeats", metavar="N", help="timed runs (default: 5)")
    add("--quick", action="store_true", help="four models at sizes that suit this device; under two minutes")
    add("--yes", action="store_true", help="go on even if it will take more than ten minutes")
    add("--output", nargs="+", action="append", metavar="FILE", help="results.json, results.csv, results.md")
    add("--plot", metavar="FILE", help="draw results.png (needs matplotlib)")
    return parser


def _split(words: Optional[Sequence[object]]) -> List[str]:
    """Words separated by commas, spaces or repeated flags, each once."""
    flat: List[str] = []
    for word in words or ():
        parts = word.split(",") if isinstance(word, str) else _split(word) if isinstance(word, list) else []
        flat += [part.strip() for part in parts if part.strip()]
    return list(dict.fromkeys(flat))


def resolution(text: str) -> Tuple[int, int]:
    """Width and height of ``720p``, ``4K``, ``854x480`` ...

    Raises:
        InputError: It is none of these.
    """
    named = {name.lower(): size for name, size in RESOLUTIONS.items()}.get(text.lower())
    found = re.match(r"([1-9]\d{0,4})x([1-9]\d{0,4})$", text.lower())
    if named is None and found is None:
        raise InputError(
            f"The resolution {text!r} is not known; allowed are {', '.join(RESOLUTIONS)} or WxH such as 800x600.",
            code="benchmark.resolution",
            value=text,
        )
    return named or (int(found.group(1)), int(found.group(2)))  # type: ignore[union-attr]


def _precision(text: str) -> bool:
    if text.lower() not in ("fp16", "fp32"):
        raise InputError(f"The precision {text!r} is not known; allowed are fp32 and fp16.", value=text)
    return text.lower() == "fp16"


def _number(flag: str, text: str, least: int) -> int:
    if not re.match(r"\d{1,6}$", text) or int(text) < least:
        auto = ", or auto" if flag == "--tile-sizes" else ""
        raise InputError(f"{flag} takes whole numbers of {least} or more{auto}, not {text!r}.", flag=flag, value=text)
    return int(text)


def _output(path: Path) -> Path:
    if path.suffix.lower() not in (".json", ".csv", ".md"):
        raise InputError(f"--output writes .json, .csv and .md, not {path.name!r}.", path=str(path))
    return path
