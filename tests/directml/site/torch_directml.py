"""Stands where the real torch_directml would: on the path, importing it starts the stand-in.

Options come from directml_standin.install in this process, otherwise as JSON from the environment variable
REALESRGAN_TEST_STANDIN.
"""

import sys
from pathlib import Path

_LIBRARY = str(Path(__file__).resolve().parents[1])
if _LIBRARY not in sys.path:
    sys.path.append(_LIBRARY)

import directml_standin  # noqa: E402

directml_standin.activate(globals())
del sys, Path
