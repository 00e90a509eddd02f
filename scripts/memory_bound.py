"""Shows that memory depends on the tile and not on the picture: peak resident memory against a bound, case by case.

    python scripts/memory_bound.py                # two networks, three outscales, three modes, and 1080p x4
    python scripts/memory_bound.py --large        # 3000x3000 to 12000x12000 too; minutes
    python scripts/memory_bound.py --only 1080p

Each case runs in a fresh process on the CPU. Measured is the most memory that was resident during ``enhance``, less
what was resident before it, after an ``enhance`` of a 64x64 picture. The bound: input + result at the network's size
in the output's channels and depth + output (counted once where the two are the same) + 1.25 x the memory model's figure
for one tile (less its weights, which were there before) + 64 MiB. Linux alone: its high-water mark can be reset. Ends
with 1 if a case is over its bound.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Optional, Union

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MIB = 2**20
ALLOWANCE = 64 * MIB
LARGEST_1080P = 900 * 10**6
Case = Dict[str, Union[str, int, float]]


def cases(large: bool) -> List[Case]:
    """The cases; an RRDBNet gets small pictures, since each costs a minute as it is."""
    every: List[Case] = []
    for model, width, height in (("realesr-animevideov3", 1000, 700), ("RealESRGAN_x4plus", 420, 300)):
        for mode in ("RGB", "L", "RGBA"):
            for outscale in (4, 3.5, 2):
                every.append({"model": model, "width": width, "height": height, "mode": mode, "outscale": outscale})
    every.append({"model": "realesr-animevideov3", "width": 1920, "height": 1080, "mode": "RGB", "outscale": 4})
    if large:
        every.append({"model": "realesr-animevideov3", "width": 3000, "height": 3000, "mode": "RGB", "outscale": 4})
    return every


def name_of(case: Case) -> str:
    size = {(1920, 1080): "1080p", (3000, 3000): "12000x12000 result"}.get((case["width"], case["height"]), "")
    return f"{case['model']} {case['width']}x{case['height']} {case['mode']} x{case['outscale']} {size}".strip()


def measure(case: Case) -> Dict[str, float]:
    """One case, in this process; sizes in bytes."""
    from realesrgan import RealESRGANer, devices
    from realesrgan.archs import structure
    from realesrgan.batch.monitor import peak_resident, resident
    from realesrgan.inference import tiling
    from realesrgan.tools.benchmark import network
    from realesrgan.tools.made_pictures import textured

    module, source = network(str(case["model"]), "auto")
    shape = structure.of(module, 4)
    upsampler = RealESRGANer(4, None, model=module, device="cpu", pre_pad=0, profile=False)
    mode = str(case["mode"])
    upsampler.enhance(textured(64, 64, mode), outscale=float(case["outscale"]))
    picture = textured(int(case["width"]), int(case["height"]), mode)
    before = resident()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark begins again
    begun = time.perf_counter()
    result, _ = upsampler.enhance(picture, outscale=float(case["outscale"]))
    seconds = time.perf_counter() - begun
    peak = peak_resident() or 0
    pad = upsampler.last_run.tile_pad
    height, width = (
        min(side + 2 * pad, whole) for side, whole in zip(upsampler.last_run.tile, (picture.shape[0], picture.shape[1]))
    )
    cpu = devices.resolve("cpu")
    tile = tiling.tile_bytes(shape, height, width, half=False, device=cpu)
    tile -= cpu.kind.weight_bytes(shape, half=False)
    at_scale = picture.nbytes * 16
    resized = result.nbytes if float(case["outscale"]) != 4 else 0
    return {
        "taken": peak - before,
        "bound": picture.nbytes + at_scale + resized + 1.25 * tile + ALLOWANCE,
        "absolute": peak,
        "tile": max(upsampler.last_run.tile),
        "figure": tile,
        "seconds": seconds,
        "random": float(source == "random"),
    }


def run(case: Case) -> Dict[str, float]:
    """One case in a fresh process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--case", json.dumps(case)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: Dict[str, float] = json.loads(done.stdout.decode("utf-8").splitlines()[-1])
    return found


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="add the 12000x12000 result")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name has this in it")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if not Path("/proc/self/clear_refs").exists():
        print("This needs Linux: /proc/self/clear_refs resets the high-water mark of memory.", file=sys.stderr)
        return 2
    if options.case:
        print(json.dumps(measure(json.loads(options.case))))
        return 0
    chosen = [case for case in cases(options.large) if options.only.lower() in name_of(case).lower()]
    if not chosen:
        print(f"No case has {options.only!r} in its name.", file=sys.stderr)
        return 2
    print("| case | tile | taken MiB | bound MiB | of it one tile | process MiB | seconds | |")
    print("|---|---:|---:|---:|---:|---:|---:|---|")
    over = 0
    for case in chosen:
        found = run(case)
        too_much = found["taken"] > found["bound"]
        if (case["width"], case["height"]) == (1920, 1080):
            too_much = too_much or found["absolute"] >= LARGEST_1080P
        over += too_much
        sizes = " | ".join(f"{found[key] / MIB:.0f}" for key in ("taken", "bound", "figure", "absolute"))
        verdict = ("OVER" if too_much else "holds") + (", random weights" if found["random"] else "")
        print(f"| {name_of(case)} | {found['tile']:.0f} | {sizes} | {found['seconds']:.1f} | {verdict} |", flush=True)
    print(f"\n{len(chosen) - over} of {len(chosen)} hold.")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
