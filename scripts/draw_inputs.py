"""Makes the pictures in inputs/: two are drawn here, one is a part of a public-domain photograph.

python scripts/draw_inputs.py     (needs scikit-image for the photograph; it is skipped without)
"""

from __future__ import annotations

from pathlib import Path
from typing import Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw

INPUTS = Path(__file__).resolve().parent.parent / "inputs"
FINE = 8  # drawn so many times larger, then averaged down, for smooth edges


def scaled(points: Sequence[Tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x * FINE, y * FINE) for x, y in points]


def circle(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: str, outline: str = "#1f2430") -> None:
    box = scaled([(x - radius, y - radius), (x + radius, y + radius)])
    draw.ellipse(box, fill=fill, outline=outline, width=FINE * 3 // 2)


def drawing() -> Image.Image:
    """A cat on a hill in flat colours with dark outlines: what the anime models are for. 160x120 RGB."""
    image = Image.new("RGB", (160 * FINE, 120 * FINE), "#bfe3f5")
    draw = ImageDraw.Draw(image)
    circle(draw, 132, 26, 14, "#ffd866")
    for x, y, radius in ((30, 28, 10), (42, 24, 13), (56, 29, 9)):
        circle(draw, x, y, radius, "#ffffff", "#ffffff")
    draw.ellipse(scaled([(-40, 84), (200, 200)]), fill="#8ccf7e", outline="#1f2430", width=FINE * 3 // 2)
    draw.line(scaled([(98, 92), (116, 84), (118, 66), (126, 60)]), fill="#1f2430", width=FINE * 6, joint="curve")
    draw.line(scaled([(98, 92), (116, 84), (118, 66), (126, 60)]), fill="#e8925c", width=FINE * 3, joint="curve")
    circle(draw, 80, 86, 22, "#e8925c")
    for ear in ([(61, 52), (60, 30), (77, 42)], [(99, 52), (100, 30), (83, 42)]):
        draw.polygon(scaled(ear), fill="#e8925c")
        draw.line(scaled([*ear, ear[0]]), fill="#1f2430", width=FINE * 3 // 2, joint="curve")
    circle(draw, 80, 57, 22, "#e8925c")
    for x in (71, 89):
        circle(draw, x, 54, 5, "#ffffff")
        circle(draw, x, 55, 2, "#1f2430")
    draw.polygon(scaled([(77, 62), (83, 62), (80, 66)]), fill="#c25b6a")
    for end in ((48, 60), (48, 66), (112, 60), (112, 66)):
        draw.line(scaled([(72 if end[0] < 80 else 88, 63), end]), fill="#1f2430", width=FINE)
    return image.resize((160, 120), Image.Resampling.BOX)


def badge() -> Image.Image:
    """A round sign with a soft shadow on nothing: a picture with transparency. 96x96 RGBA."""
    size = 96
    y, x = np.mgrid[0:size, 0:size].astype(np.float64)
    shadow = np.clip(1.2 - np.hypot(x - 50, y - 52) / 40, 0, 1) * 150
    below = Image.fromarray(np.dstack([np.zeros((size, size, 3)), shadow]).round().astype(np.uint8), "RGBA")
    image = Image.new("RGBA", (size * FINE, size * FINE), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    circle(draw, 46, 46, 38, "#2f6fb3", "#12335a")
    draw.polygon(scaled([(46, 20), (70, 46), (56, 46), (56, 70), (36, 70), (36, 46), (22, 46)]), fill="#ffffff")
    return Image.alpha_composite(below, image.resize((size, size), Image.Resampling.BOX))


def astronaut() -> Image.Image:
    """Eileen Collins, NASA, public domain, as scikit-image ships it: a part, halved. 160x160 RGB."""
    from skimage import data

    part = Image.fromarray(data.astronaut()[0:320, 64:384])
    return part.resize((160, 160), Image.Resampling.BOX)


def main() -> None:
    pictures = {"drawing": drawing, "badge": badge, "astronaut": astronaut}
    for name, make in pictures.items():
        try:
            picture = make()
        except ImportError as error:
            print(f"{name}.png is left as it is: {error}")
            continue
        path = INPUTS / f"{name}.png"
        picture.save(path, optimize=True)
        print(f"{path}: {picture.width}x{picture.height} {picture.mode}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
