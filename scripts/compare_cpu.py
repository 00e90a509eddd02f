"""Compares this program on the processor with the original, and its network with other runtimes. Needs Linux or macOS.

    pip install --no-deps --target original realesrgan==0.3.0       # and basicsr: see requirements-train.txt
    python scripts/compare_cpu.py pictures --original original      # enhance() of a 512x256 picture
    pip install onnx onnxruntime openvino ncnn
    python scripts/compare_cpu.py tiles                             # one tile through the network alone

Every candidate lives in a process of its own and has run once before it is timed. They take turns, so that whatever
else the machine does hits all of them; each round gives ratios, and the medians of the ratios are what counts. FP32,
all of the machine's processors, RealESRGAN_x4plus with the same weights for all.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MODEL = "RealESRGAN_x4plus"
SIZE = (512, 256)
PICTURES = {
    "original": "the original, untiled as is its default",
    "original-tiled": "the original in tiles of 256, padding 10",
    "ours-same": "ours, padding 10, tile chosen",
    "ours": "ours, defaults",
}
TILES = {"ours": "ours", "onnxruntime": "onnxruntime", "openvino": "OpenVINO", "ncnn": "ncnn"}


def prepare(folder: Path, kind: str) -> None:
    """The network's weights in the forms that the candidates read."""
    import torch

    from realesrgan.tools.benchmark import network

    module, source = network(MODEL, "auto")
    torch.save({"params_ema": module.state_dict()}, folder / "weights.pth")
    print(f"weights: {source}", flush=True)
    if kind == "tiles":
        try:
            from scripts.export_onnx import export

            export(module, folder / "network.onnx", 1)
        except Exception as error:  # noqa: BLE001 - the other candidates can do without
            print(f"no ONNX file: {error}", flush=True)


def make(candidate: str, kind: str, folder: Path, side: int) -> Callable[[], Any]:
    """What one turn of a candidate does."""
    if kind == "pictures":
        return _original(candidate, folder) if candidate.startswith("original") else _ours(candidate, folder)
    return {"ours": _tile, "onnxruntime": _onnxruntime, "openvino": _openvino, "ncnn": _ncnn}[candidate](folder, side)


def _ours(candidate: str, folder: Path) -> Callable[[], Any]:
    from realesrgan import RealESRGANer
    from realesrgan.tools.made_pictures import textured

    pad = 10 if candidate == "ours-same" else None
    path = str(folder / "weights.pth")
    upsampler = RealESRGANer(
        4, path, tile_pad=pad, pre_pad=0, half=False, device="cpu", profile=False, trust_weights=True
    )
    picture = textured(*SIZE)
    return lambda: upsampler.enhance(picture)


def _original(candidate: str, folder: Path) -> Callable[[], Any]:
    from realesrgan.models import compat
    from realesrgan.tools.made_pictures import textured

    picture = textured(*SIZE)
    compat.install()
    for name in [name for name in sys.modules if name.split(".")[0] == "realesrgan"]:
        del sys.modules[name]
    sys.path.insert(0, os.environ["ORIGINAL"])
    import torch
    from basicsr.archs.rrdbnet_arch import RRDBNet

    from realesrgan.utils import RealESRGANer

    network = RRDBNet(num_in_ch=3, num_out_ch=3, num_feat=64, num_block=23, num_grow_ch=32, scale=4)
    upsampler = RealESRGANer(
        scale=4,
        model_path=str(folder / "weights.pth"),
        model=network,
        tile=256 if candidate == "original-tiled" else 0,
        tile_pad=10,
        pre_pad=0,
        half=False,
        device=torch.device("cpu"),
    )
    return lambda: upsampler.enhance(picture, outscale=4)


def _tile(folder: Path, side: int) -> Callable[[], Any]:
    import torch

    from realesrgan import devices
    from realesrgan.inference.network import TileNetwork
    from realesrgan.inference.tiling import Box
    from realesrgan.tools.benchmark import network

    device = devices.resolve("cpu")
    runner, x = TileNetwork(network(MODEL, "auto")[0], device), torch.rand(1, 3, side, side)

    def turn() -> None:
        for _ in runner.bands(x, Box(0, 0, side, side), 4):
            pass

    return turn


def _pixels(side: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).random((1, 3, side, side), np.float32)


def _onnxruntime(folder: Path, side: int) -> Callable[[], Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "network.onnx"), providers=["CPUExecutionProvider"])
    x = _pixels(side)
    return lambda: session.run(None, {"input": x})


def _openvino(folder: Path, side: int) -> Callable[[], Any]:
    import openvino

    core = openvino.Core()
    model = core.read_model(str(folder / "network.onnx"))
    model.reshape([1, 3, side, side])
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled, x = core.compile_model(model, "CPU", options), _pixels(side)
    return lambda: compiled(x)


def _ncnn(folder: Path, side: int) -> Callable[[], Any]:
    import ncnn
    import numpy as np

    from realesrgan.weights import ncnn as ncnn_weights
    from realesrgan.weights import zoo

    stem = ncnn_weights.package_file(zoo.get(MODEL)).with_suffix("")
    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    net.opt.num_threads = os.cpu_count() or 1
    net.load_param(str(stem.with_suffix(".param")))
    net.load_model(str(stem.with_suffix(".bin")))
    x = ncnn.Mat(np.ascontiguousarray(_pixels(side)[0]))

    def turn() -> None:
        with net.create_extractor() as extractor:
            extractor.input("data", x)
            extractor.extract("output")

    return turn


def serve(candidate: str, kind: str, folder: Path, side: int) -> None:
    """Run a turn for each line of the input; answer with its seconds: wall, user, system."""
    turn = make(candidate, kind, folder, side)
    turn()
    print("ready", flush=True)
    for _ in sys.stdin:
        before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        turn()
        seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
        print(f"turn {seconds} {after.ru_utime - before.ru_utime} {after.ru_stime - before.ru_stime}", flush=True)


class Candidate:
    """A process that waits for its turn."""

    def __init__(self, name: str, kind: str, folder: Path, side: int, original: str) -> None:
        self.name = name
        words = [sys.executable, str(Path(__file__).resolve()), kind, "--serve", name, "--folder", str(folder)]
        self.process = subprocess.Popen(
            [*words, "--side", str(side)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "ORIGINAL": original, "PYTHONWARNINGS": "ignore", "OPENVINO_TELEMETRY": "0"},
        )
        self.there = self._answer("ready") is not None
        self.times: List[Tuple[float, float, float]] = []

    def _answer(self, word: str) -> Any:
        assert self.process.stdout is not None
        return next((line.split()[1:] for line in self.process.stdout if line.startswith(word)), None)

    def turn(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        wall, user, system = map(float, self._answer("turn"))
        self.times.append((wall, user, system))

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def show(candidates: List[Candidate], titles: Dict[str, str], ours: List[str]) -> None:
    print("| candidate | wall s, median | user | system |\n|---|---:|---:|---:|")
    for one in candidates:
        middle = [statistics.median(column) for column in zip(*one.times)]
        print(f"| {titles[one.name]} | {middle[0]:.2f} | {middle[1]:.2f} | {middle[2]:.2f} |")
    mine = [one for one in candidates if one.name in ours]
    for one in (one for one in candidates if one.name not in ours):
        for own in mine:
            for column, what in enumerate(("wall time", "processor time")):
                ratios = [
                    sum(a[column : 2 * column + 1]) / sum(b[column : 2 * column + 1])
                    for a, b in zip(one.times, own.times)
                ]
                spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
                print(f"{titles[one.name]} / {titles[own.name]}, {what}: {statistics.median(ratios):.2f} ({spread})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["pictures", "tiles"])
    parser.add_argument("--original", help="folder that contains the package realesrgan of the original")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=128, help="side of the tile (default: 128)")
    parser.add_argument("--candidates", help="some of them, with commas")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.kind, Path(given.folder), given.side)
        return 0
    titles = PICTURES if given.kind == "pictures" else TILES
    names = given.candidates.split(",") if given.candidates else list(titles)
    if given.kind == "pictures" and not (given.original and (Path(given.original) / "realesrgan").is_dir()):
        parser.error("--original names the folder given to pip's --target (see --help)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, given.kind)
        started = [
            Candidate(one, given.kind, folder, given.side, str(Path(given.original or ".").resolve())) for one in names
        ]
        candidates = [one for one in started if one.there]
        for missing in (one.name for one in started if not one.there):
            print(f"{titles[missing]} does not run here")
        for _ in range(given.rounds):
            for one in candidates:
                one.turn()
        for one in started:
            one.close()
    show(candidates, titles, ["ours-same", "ours"] if given.kind == "pictures" else ["ours"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
