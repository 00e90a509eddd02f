"""How fast this machine is, on any device.

``python benchmark_directml.py --resolutions 720p,1080p,4K --tile-sizes 256,512,1024``, or ``--quick``.
All of it is in :mod:`realesrgan.tools.benchmark`.
"""

import sys

from realesrgan.tools.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
