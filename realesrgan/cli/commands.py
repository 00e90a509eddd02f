"""The command line: what it accepts, what it says, and with which status it ends.

Needs the standard library alone until pictures are to be enlarged, so that ``--help`` and ``doctor`` work where torch
does not.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Dict, List, Optional, Sequence

from .. import devices
from ..errors import RealESRGANError, one_line
from ..files.paths import unquoted
from . import messages
from . import options as cli_options
from .console import FAILED, INTERRUPTED, OK, USAGE, Console, prepare_streams, status_of

__all__ = ["FAILED", "INTERRUPTED", "OK", "USAGE", "main"]

_COMMANDS: Dict[str, str] = {
    "doctor": "realesrgan.tools.doctor.command",
    "tune": "realesrgan.tools.tune.command",
    "video": "realesrgan.cli.video",
    "web": "realesrgan.tools.web",
    "cluster": "realesrgan.tools.cluster",
    "cluster-node": "realesrgan.tools.cluster.node",
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the program.

    Args:
        argv: Words after the program's name; by default those of the process.

    Returns:
        0 if all went well, 1 if something failed, 2 for wrong usage, 130 after Ctrl-C.
    """
    prepare_streams()
    arguments = unquoted(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in _COMMANDS:
            return _command(arguments[0], arguments[1:])
        return _upscale(cli_options.parse(arguments))
    except (SystemExit, KeyboardInterrupt) as end:
        return status_of(end)


def _command(name: str, arguments: List[str]) -> int:
    """Hand the rest of the words to another command."""
    with Console(messages.system_language(), "-v" in arguments or "--verbose" in arguments) as console:
        try:
            module = importlib.import_module(_COMMANDS[name])
        except (ImportError, OSError) as error:
            console.warn(
                "cli.command_missing",
                "'{command}' needs {missing}, which cannot be imported here. Install it with: python -m pip install "
                "{missing}",
                command=name,
                missing=getattr(error, "name", None) or one_line(error),
            )
            if console.verbose:
                console.line(f"    {type(error).__name__}: {error}", problem=True)
            return FAILED
        status: int = module.main(arguments)
        return status


def _upscale(options: argparse.Namespace) -> int:
    with Console(options.lang or messages.system_language(), options.verbose) as console:
        try:
            if options.download_models is not None:
                from .run import download_models

                return download_models(options, console)
            if not options.model_path:
                options.model_name = cli_options.model_name(options.model_name)
            _need_libraries(devices.several(options.device) or devices.through_torch(options.device))
            from .run import upscale

            return upscale(options, console)
        except RealESRGANError as error:
            console.error(error)
            return status_of(error)
        except KeyboardInterrupt:
            console.close_bars()
            from . import show

            show.interrupted(show.continuing_flag(options), console)
            return INTERRUPTED
        except Exception as error:  # noqa: BLE001 - a mistake of ours: one line, and the trace with --verbose
            console.error(error)
            return FAILED


def _need_libraries(torch: bool) -> None:
    """See that the libraries can be imported; each of them fails in ways of its own on a half installed system.

    Args:
        torch: PyTorch is one of them.

    Raises:
        RealESRGANError: One cannot.
    """
    needed = [("numpy", "numpy"), ("cv2", "opencv-python"), ("PIL", "Pillow"), *([("torch", "torch")] if torch else [])]
    for name, package in needed:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            raise RealESRGANError(
                f"{name} cannot be imported: {one_line(error)}. Install it with: python -m pip install {package}. "
                "'python -m realesrgan doctor' says more.",
                code="cli.library",
                library=name,
                package=package,
                reason=error,
            ) from error
