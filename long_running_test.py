"""Mixed pictures and models for a given time, with faults on request.

``python long_running_test.py --duration 3600 --inject oom,nan,corrupt,slow-disk``.
All of it is in :mod:`realesrgan.tools.stability.long_run`.
"""

import sys

from realesrgan.tools.stability.long_run import main

if __name__ == "__main__":
    sys.exit(main())
