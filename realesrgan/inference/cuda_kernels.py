"""Kernels in Triton for CUDA cards from compute capability 8.0 on: convolutions, and what comes behind a network.

Pictures are float16, planes x rows x columns x channels. Weights lie in the order in which a program reads them: for
each block of input channels and each column tap, the row taps, each ``BLOCK`` x N.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["blocks", "quantised", "shuffled"]

_SOURCE = ["plane", "follow", "channel", "steps", "height", "width"]
_TARGET = ["out_plane", "out_channel", "extra_plane", "entry_plane"]


@triton.jit(do_not_specialize=[*_SOURCE, *_TARGET])
def blocks(
    src,
    weights,
    bias,
    slope,
    out,
    extra,
    plane,
    follow,
    channel,
    out_plane,
    out_channel,
    extra_plane,
    entry_plane,
    steps,
    ratio,
    outer,
    height,
    width,
    src_plane,
    src_row,
    src_pixel,
    out_plane_size,
    out_row,
    out_pixel,
    extra_plane_size,
    extra_row,
    extra_pixel,
    N: tl.constexpr,
    BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    PARTS: tl.constexpr,
    MODE: tl.constexpr,
    TAPS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """A 3x3 convolution, or the four 2x2 convolutions that a nearest doubling and a 3x3 convolution come to.

    Programs: columns / ``COLUMNS``, rows / ``ROWS``, and the four phases where ``TAPS`` is 2. ``steps`` blocks of
    ``BLOCK`` input channels are read: ``PARTS`` of them from ``plane``, beginning at ``channel``, then those of plane
    ``follow`` and of the planes behind it. With v = the sum plus ``bias``, and f(v) = v or ``slope`` * v below 0, the
    result is:

    - ``MODE`` 0: f(v).
    - ``MODE`` 1: f(v + extra), at ``extra_plane`` and ``out_channel`` of ``extra``.
    - ``MODE`` 2: extra + ``ratio`` * f(v); where ``outer`` is not 0, entry + ``outer`` * that, from ``entry_plane`` of
      ``extra``.
    """
    pixel = tl.arange(0, ROWS * COLUMNS)
    y = tl.program_id(1) * ROWS + pixel // COLUMNS
    x = tl.program_id(0) * COLUMNS + pixel % COLUMNS
    phase = tl.program_id(2)
    top = y - 1
    left = x - 1
    if TAPS == 2:
        top += phase // 2
        left += phase % 2
    within = tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    count = steps * TAPS * TAPS
    weight = weights + (phase * count * BLOCK + within)[:, None] * N + n[None, :]
    total = tl.zeros((ROWS * COLUMNS, N), tl.float32)
    for number in tl.range(0, count, num_stages=STAGES):
        step = number // (TAPS * TAPS)
        column = left + number // TAPS % TAPS
        row = top + number % TAPS
        from_plane = tl.where(step < PARTS, plane, follow + step // PARTS - 1)
        from_channel = channel + (step % PARTS) * BLOCK
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        start = src + from_plane.to(tl.int64) * src_plane + from_channel
        offset = row.to(tl.int64) * src_row + column * src_pixel
        pixels = tl.load(start + offset[:, None] + within[None, :], mask=inside[:, None], other=0.0)
        total = tl.dot(pixels, tl.load(weight + number * BLOCK * N), total)

    inside = (y < height) & (x < width)
    values = total + tl.load(bias + n)[None, :]
    at = y.to(tl.int64) * extra_row + x * extra_pixel + out_channel
    at = at[:, None] + n[None, :]
    if MODE != 0:
        start = extra + tl.cast(extra_plane, tl.int64) * extra_plane_size
        added = tl.load(start + at, mask=inside[:, None], other=0.0).to(tl.float32)
    if MODE == 1:
        values += added
    values = tl.where(values >= 0, values, values * tl.load(slope + n)[None, :])
    if MODE == 2:
        values = added + ratio * values
        if outer != 0.0:
            start = extra + tl.cast(entry_plane, tl.int64) * extra_plane_size
            values = tl.load(start + at, mask=inside[:, None], other=0.0).to(tl.float32) + outer * values
    if TAPS == 2:
        y = 2 * y + phase // 2
        x = 2 * x + phase % 2
    to = out + tl.cast(out_plane, tl.int64) * out_plane_size + out_channel
    to += (y.to(tl.int64) * out_row + x * out_pixel)[:, None] + n[None, :]
    tl.store(to, values.to(tl.float16), mask=inside[:, None])


@triton.jit(do_not_specialize=["row", "column", "width"])
def shuffled(
    features,
    base,
    out,
    row,
    column,
    width,
    features_row,
    features_pixel,
    base_channel,
    base_row,
    base_pixel,
    out_channel,
    out_row,
    SCALE: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The pixel-shuffle of features (3 * ``SCALE``**2 of a pixel's channels) plus the enlarged base, as 3 x H x W.

    Programs: columns of the result / ``COLUMNS``, rows of the result; its first pixel is that of ``row`` and
    ``column`` of the features and of the base.
    """
    x = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    y = tl.program_id(1)
    inside = x < width
    from_row = (row + y // SCALE).to(tl.int64)
    from_column = column + x // SCALE
    place = features + from_row * features_row + from_column * features_pixel + (y % SCALE) * SCALE + x % SCALE
    under = base + from_row * base_row + from_column * base_pixel
    for channel in tl.static_range(3):
        value = tl.load(place + channel * SCALE * SCALE, mask=inside, other=0.0).to(tl.float32)
        value += tl.load(under + channel * base_channel, mask=inside, other=0.0).to(tl.float32)
        to = out + tl.cast(channel, tl.int64) * out_channel + y.to(tl.int64) * out_row + x
        tl.store(to, value.to(tl.float16), mask=inside)


@triton.jit(do_not_specialize=["width"])
def quantised(
    values,
    out,
    health,
    width,
    channel,
    row,
    pixel,
    largest,
    GREY: tl.constexpr,
    ROUNDED: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Finished values (3 x H x W, RGB, 0..1) as stored ones (H x W x 3 in BGR order, or H x W), and what they are like.

    Programs: rows, columns / ``COLUMNS``. The stored ones are of the type of ``out``; ``ROUNDED``: clamped, times
    ``largest``, and rounded half to even. ``health`` gets two numbers a program: 1 for NaN or infinity among the
    values, else 0; and the brightest value.
    """
    y = tl.program_id(0)
    x = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = x < width
    place = values + y.to(tl.int64) * row + x * pixel
    red = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    green = tl.load(place + channel, mask=inside, other=0.0).to(tl.float32)
    blue = tl.load(place + 2 * channel, mask=inside, other=0.0).to(tl.float32)
    finite = (tl.abs(red) < float("inf")) & (tl.abs(green) < float("inf")) & (tl.abs(blue) < float("inf"))
    brightest = tl.where(inside, tl.maximum(tl.maximum(red, green), blue), float("-inf"))
    program = y * tl.num_programs(1) + tl.program_id(1)
    tl.store(health + 2 * program, 1.0 - tl.min(finite.to(tl.float32), 0))
    tl.store(health + 2 * program + 1, tl.max(brightest, 0))
    if ROUNDED:
        red = tl.minimum(tl.maximum(red, 0.0), 1.0)
        green = tl.minimum(tl.maximum(green, 0.0), 1.0)
        blue = tl.minimum(tl.maximum(blue, 0.0), 1.0)
    to = y.to(tl.int64) * width + x
    if GREY:
        _put(out + to, red * 0.299 + green * 0.587 + blue * 0.114, largest, inside, ROUNDED)
    else:
        _put(out + 3 * to, blue, largest, inside, ROUNDED)
        _put(out + 3 * to + 1, green, largest, inside, ROUNDED)
        _put(out + 3 * to + 2, red, largest, inside, ROUNDED)


@triton.jit
def _put(out, value, largest, inside, ROUNDED: tl.constexpr):
    if ROUNDED:
        # Added to a number whose last bit counts one, a value is rounded half to even by the addition itself.
        value = (value * largest + 12582912.0) - 12582912.0
    tl.store(out, value.to(out.dtype.element_ty), mask=inside)
