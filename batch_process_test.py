"""A folder again and again in one process: ``python batch_process_test.py --input-dir D --iterations 10``.

All of it is in :mod:`realesrgan.tools.stability.repeated`.
"""

import sys

from realesrgan.tools.stability.repeated import main

if __name__ == "__main__":
    sys.exit(main())
