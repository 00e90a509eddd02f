"""Makes videos larger: ``python inference_realesrgan_video.py -i in.mp4``. See :mod:`realesrgan.video_cli`."""

import sys

from realesrgan.video_cli import main

if __name__ == "__main__":
    sys.exit(main())
