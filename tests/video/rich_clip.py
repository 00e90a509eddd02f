"""Videos with many other streams, and what can be read of those without the code under test."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from clips import copied_stream


def all_packets(path):
    """Stream number -> kind, codec, language, and (digest, time) of every packet; of all but the first video."""
    with av.open(str(path)) as container:
        found = {}
        for stream in container.streams:
            name = stream.codec_context.name if stream.codec_context else ""
            found[stream.index] = (stream.type, name, stream.metadata.get("language"), [])
        for packet in container.demux():
            if packet.size:
                digest = hashlib.sha256(bytes(packet)).hexdigest()
                found[packet.stream.index][3].append((digest, float(packet.pts * packet.time_base)))
        del found[container.streams.video[0].index]
    return found


def samples(path, number):
    """When a sound stream begins to be heard, and all of its samples."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=number))
    return frames[0].time, np.concatenate([frame.to_ndarray() for frame in frames], 1)


def write_rich(path, frames, *, sounds=("aac",), words=(), fonts=False, cover=False, second=False):
    """Write a video with several other streams: sound by codecs, subtitles from files, a font, a cover, a video."""
    with av.open(str(path), "w") as out:
        pictures = [(_add_pictures(out, frames[0].shape[1::-1]), frames)]
        heard = []
        for codec, language in zip(sounds, ("kor", "eng", "fra", "jpn")):
            heard.append(out.add_stream(codec, rate=48000))
            heard[-1].metadata["language"] = language
        if second:
            pictures.append((_add_pictures(out, (16, 16)), frames))
        opened = [av.open(str(name)) for name in words]
        copies = [copied_stream(out, container.streams.subtitles[0]) for container in opened]
        if fonts:
            out.add_attachment("font.ttf", "application/x-truetype-font", b"a font" * 100)
        if cover:
            pictures.append((_add_pictures(out, (32, 32), "mjpeg", "yuvj420p"), frames[:1]))
            pictures[-1][0].disposition = av.stream.Disposition.attached_pic
        for stream, seen in pictures:
            for number, img in enumerate(seen):
                part = np.ascontiguousarray(img[: stream.height, : stream.width])
                frame = av.VideoFrame.from_ndarray(part, format="bgr24").reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = number, Fraction(1, 24)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        for container, copy in zip(opened, copies):
            for packet in container.demux():
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
            container.close()
        for number, stream in enumerate(heard):
            _add_samples(out, stream, len(frames) / 24, number)
    return Path(path)


def _add_pictures(out, size, codec="libx264", pix_fmt="yuv420p"):
    stream = out.add_stream(codec, rate=24, options={"g": "12"} if codec == "libx264" else {})
    (stream.width, stream.height), stream.pix_fmt = size, pix_fmt
    return stream


def _add_samples(out, stream, seconds, seed):
    generator = np.random.default_rng(seed)
    form = stream.codec_context.format
    size = 1536 if stream.codec_context.name == "ac3" else 1024
    for number in range(int(seconds * 48000 / size)):
        noise = generator.normal(0, 0.1, (2, size))
        values = noise.astype(np.float32) if "flt" in form.name else (noise * 8000).astype(np.int16)
        values = values if form.is_planar else np.ascontiguousarray(values.T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(values, format=form.name, layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, number * size, Fraction(1, 48000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))
