"""Small videos for the tests, and what can be read from a video without the code under test."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

MATRICES = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}  # red and blue weights (ITU-T H.273)


class Nearest:
    """Stands for the upsampler: every pixel becomes a block. ``seen`` counts the calls."""

    def __init__(self, after=None):
        self.seen = 0
        self.shapes = set()
        self._after = after

    def enhance(self, img, outscale=None, alpha_upsampler="realesrgan"):
        self.seen += 1
        self.shapes.add((img.shape, img.dtype))
        height, width = img.shape[:2]
        size = int(width * outscale), int(height * outscale)
        if self._after is not None:
            self._after(self.seen)
        return cv2.resize(img, size, interpolation=cv2.INTER_NEAREST), "RGB"


def picture(number, width=64, height=48):
    """BGR with soft colours and a square that moves; no two numbers below 40 give the same."""
    y, x = np.mgrid[0:height, 0:width]
    img = np.stack([60 + x * 100 // width, 80 + y * 100 // height, np.full_like(x, 90 + 3 * (number % 40))], -1)
    img = img.astype(np.uint8)
    left = 2 + (number * 4) % (width - 12)
    img[8:20, left : left + 10] = (40, 60, 220)
    return img


def to_yuv(bgr, matrix, full, depth=8):
    """444 planes by the standard's own equations, rounded: 3xHxW."""
    red_weight, blue_weight = MATRICES[matrix]
    blue, green, red = (bgr[..., channel].astype(np.float64) / 255 for channel in range(3))
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    cb, cr = (blue - luma) / (2 * (1 - blue_weight)), (red - luma) / (2 * (1 - red_weight))
    unit = 1 << (depth - 8)
    if full:
        top = (1 << depth) - 1
        planes = (luma * top, cb * top + (1 << depth) // 2, cr * top + (1 << depth) // 2)
    else:
        planes = ((16 + 219 * luma) * unit, (128 + 224 * cb) * unit, (128 + 224 * cr) * unit)
    return np.stack(planes).round().clip(0, (1 << depth) - 1).astype(np.uint8 if depth == 8 else np.uint16)


def yuv_frame(planes, pix_fmt):
    """A frame of three (or more) full planes."""
    frame = av.VideoFrame(planes.shape[2], planes.shape[1], pix_fmt)
    for plane, values in zip(frame.planes, planes):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        data = np.ascontiguousarray(values).view(np.uint8)
        rows[:, : data.shape[1]] = data
        plane.update(rows)
    return frame


def planes_of(frame, dtype=np.uint8):
    """The planes of a frame without the bytes beyond its width."""
    found = []
    for plane in frame.planes:
        row = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        found.append(row.view(dtype)[:, : plane.width])
    return found


def write(
    path,
    frames,
    *,
    codec="libx264",
    pix_fmt="yuv420p",
    pts=None,
    time_base=Fraction(1, 24),
    options=None,
    matrix=6,
    full=False,
    sar=None,
    sound=False,
    format=None,
    primaries=None,
    transfer=None,
    subtitle=None,
    chapters=None,
    interlaced=False,
    sound_start=0,
):
    """Write a video of ``frames`` (BGR arrays or frames), and sound of the same length beginning at ``sound_start``."""
    options = options or ({"crf": "10", "bf": "2", "g": "12"} if codec == "libx264" else {})
    pts = list(range(len(frames))) if pts is None else pts
    with av.open(str(path), "w", format=format) as out:
        video = out.add_stream(codec, rate=Fraction(24), options=options)
        first = frames[0]
        height, width = first.shape[:2] if isinstance(first, np.ndarray) else (first.height, first.width)
        context = video.codec_context
        context.width, context.height, context.pix_fmt, context.time_base = width, height, pix_fmt, time_base
        context.colorspace, context.color_range = matrix, 2 if full else 1
        context.color_primaries = 1 if primaries is None else primaries
        context.color_trc = 1 if transfer is None else transfer
        if sar is not None:
            context.sample_aspect_ratio = sar
        if interlaced:
            context.flags |= 1 << 18 | 1 << 29
        audio = None
        if sound:
            audio = out.add_stream("aac", rate=48000)
            audio.metadata["language"] = "kor"
        words = None
        if subtitle is not None:
            words = copied_stream(out, subtitle.streams.subtitles[0])
            words.metadata["language"] = "fra"
        if chapters is not None:
            out.set_chapters(chapters)
        for frame, moment in zip(frames, pts):
            if isinstance(frame, np.ndarray):
                frame = av.VideoFrame.from_ndarray(frame, format="bgr24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = moment, time_base
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if words is not None:
            for packet in subtitle.demux(subtitles=0):
                if packet.size:
                    packet.stream = words
                    out.mux(packet)
        if audio is not None:
            _add_sound(out, audio, float((pts[-1] - pts[0]) * time_base), sound_start)
    return Path(path)


HAS_CHAPTERS = hasattr(av.container.OutputContainer, "set_chapters")
needs_chapters = pytest.mark.skipif(not HAS_CHAPTERS, reason="PyAV before 16 cannot write chapters")


def copied_stream(out, template):
    """A stream that takes the packets of another one."""
    if hasattr(out, "add_stream_from_template"):
        return out.add_stream_from_template(template)
    return out.add_stream(template=template)  # before PyAV 14


def _add_sound(out, audio, seconds, start):
    generator = np.random.default_rng(3)
    for number in range(int(seconds * 48000 / 1024)):
        noise = generator.normal(0, 0.1, (2, 1024)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start + number * 1024, Fraction(1, 48000)
        out.mux(audio.encode(frame))
    out.mux(audio.encode(None))


def damaged_copy(clip, to, number, change):
    """A copy of an MP4 in which the bytes of one packet are changed."""
    with av.open(str(clip)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
        place, size, moment = packet.pos, packet.size, float(packet.pts * packet.time_base)
    data = bytearray(clip.read_bytes())
    change(data, place, size)
    to.write_bytes(data)
    return moment


def decode(path):
    """(time in seconds as a fraction, frame) of every frame of the first video stream."""
    with av.open(str(path)) as container:
        return [(frame.pts * frame.time_base, frame) for frame in container.decode(video=0)]


def times(path):
    return [float(moment) for moment, _ in decode(path)]


def bgr(frame, matrix=6):
    """A frame of 8 bits in BGR; YUV by the standard's own equations, because FFmpeg's quick way is 4 levels off."""
    if frame.format.is_rgb:
        return frame.to_ndarray(format="bgr24")
    assert frame.format.name in ("yuv420p", "yuv444p") and frame.color_range == 1
    red_weight, blue_weight = MATRICES[matrix]
    luma, *chroma = (plane.astype(np.float32) for plane in planes_of(frame))
    cb, cr = ((cv2.resize(plane, luma.shape[::-1]) - 128) / 224 for plane in chroma)
    luma = (luma - 16) / 219
    blue, red = luma + 2 * (1 - blue_weight) * cb, luma + 2 * (1 - red_weight) * cr
    green = (luma - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    return (np.stack((blue, green, red), -1) * 255).round().clip(0, 255).astype(np.uint8)


def pictures(path, matrix=6):
    """Every frame in BGR."""
    return [bgr(frame, matrix) for _, frame in decode(path)]


def packets(path, kind):
    """(digest, time in seconds) of every packet of the first stream of a kind."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [
            (hashlib.sha256(bytes(packet)).hexdigest(), float(packet.pts * packet.time_base))
            for packet in container.demux(stream)
            if packet.size
        ]


def beep(path):
    """When the first loud sound is heard, in seconds."""
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.abs(frame.to_ndarray()[0]) > 0.2
            if loud.any():
                return frame.time + int(np.argmax(loud)) / frame.sample_rate
    return None


def flash(path):
    """When the first white frame is seen, in seconds."""
    for moment, frame in decode(path):
        if frame.to_ndarray(format="gray").mean() > 245:
            return float(moment)
    return None


def chapters():
    """Two chapters, as PyAV gives them."""
    base = Fraction(1, 1000)
    return [
        {"id": 1, "start": 0, "end": 500, "time_base": base, "metadata": {"title": "one"}},
        {"id": 2, "start": 500, "end": 1250, "time_base": base, "metadata": {"title": "둘"}},
    ]
