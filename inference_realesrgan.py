"""Makes pictures larger.

``python inference_realesrgan.py -i in.jpg``. All of it is in :mod:`realesrgan.cli.commands`.
"""

import sys

from realesrgan.cli import main

if __name__ == "__main__":
    sys.exit(main())
