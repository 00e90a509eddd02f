"""Makes videos larger: ``python inference_realesrgan_video.py -i in.mp4``. See :mod:`realesrgan.cli.video`."""

import sys

from realesrgan.cli.video import main

if __name__ == "__main__":
    sys.exit(main())
