"""Makes inputs/clip.mp4: two seconds of moving shapes and text, with a white flash and a beep at the same moment.

python scripts/make_test_clip.py [PATH]     (needs PyAV: python -m pip install av)

96x64, 24 frames a second, drawn on twos as anime is (every drawing is shown twice), H.264 and AAC, BT.601. The flash
(two white frames) and the beep (1 kHz, a tenth of a second) begin at 1.000 s: whatever is done to the clip, they must
still do so together.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path
from typing import Any, Iterator

import av
import numpy as np
from PIL import Image, ImageDraw

CLIP = Path(__file__).resolve().parent.parent / "inputs" / "clip.mp4"
WIDTH, HEIGHT, RATE, SECONDS = 96, 64, 24, 2
SOUND_RATE = 48000
FLASH = 1.0
FINE = 4  # drawn so many times larger, then averaged down, for smooth edges


def drawing(moment: float) -> np.ndarray:
    """What is to be seen at a moment, as 64x96x3 RGB."""
    if FLASH <= moment < FLASH + 2 / RATE:
        return np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    image = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), "#bfe3f5")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 47 * FINE, WIDTH * FINE, HEIGHT * FINE), fill="#8ccf7e")
    x, y = 14 + 30 * moment, 42 - 22 * abs(np.sin(np.pi * moment * 2))
    ball = [value * FINE for value in (x - 7, y - 7, x + 7, y + 7)]
    draw.ellipse(ball, fill="#d9534f", outline="#1f2430", width=FINE)
    turn = moment * np.pi / 2
    corners = [(76 + 11 * np.cos(turn + k * np.pi / 2), 22 + 11 * np.sin(turn + k * np.pi / 2)) for k in range(4)]
    draw.polygon([(a * FINE, b * FINE) for a, b in corners], fill="#2f6fb3", outline="#12335a")
    image = image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    ImageDraw.Draw(image).text((6, 50), f"clip {moment:4.2f} s", fill="#1f2430")
    return np.asarray(image)


def sound() -> np.ndarray:
    """Silence with the beep, float32 in -1..1."""
    times = np.arange(SOUND_RATE * SECONDS) / SOUND_RATE
    beep = (times >= FLASH) & (times < FLASH + 0.1)
    return (0.5 * np.sin(2 * np.pi * 1000 * times) * beep).astype(np.float32)


def frames() -> Iterator[Any]:
    for number in range(RATE * SECONDS):
        frame = av.VideoFrame.from_ndarray(drawing((number - number % 2) / RATE), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG")
        frame.pts, frame.time_base = number, Fraction(1, RATE)
        yield frame


def make(path: Path) -> None:
    """Write the clip."""
    with av.open(str(path), "w", format="mp4") as out:
        video = out.add_stream("libx264", rate=RATE, options={"crf": "14", "preset": "veryslow"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        context = video.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = 6, 1, 6, 6
        audio = out.add_stream("aac", rate=SOUND_RATE)
        audio.bit_rate = 64000
        samples, first = sound(), 0
        for frame in frames():
            for packet in video.encode(frame):
                out.mux(packet)
            while first < len(samples) and first / SOUND_RATE <= frame.pts / RATE:
                part = samples[first : first + 1024]
                heard = av.AudioFrame.from_ndarray(part[None].repeat(2, 0), format="fltp", layout="stereo")
                heard.sample_rate, heard.pts = SOUND_RATE, first
                for packet in audio.encode(heard):
                    out.mux(packet)
                first += len(part)
        for stream in (video, audio):
            for packet in stream.encode(None):
                out.mux(packet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, default=CLIP, help="default: inputs/clip.mp4")
    path = parser.parse_args().path
    make(path)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
