"""3x3 convolutions on Hopper cards (compute capability 9.0), in Triton's language Gluon.

A program computes ``ROWS`` x ``COLUMNS`` pixels of N channels. A step of its loop brings ``ROWS`` + 2 lines of pixels,
moved by one of the three column taps, and the weights of that column into shared memory; the tensor copy engine fills
with zeros what lies outside of the picture. The three row taps are three products from the same lines, each beginning
one line further down: a third of the traffic that nine separate products would need. The products of a step run while
the copies of later steps are under way.

The arguments are those of :func:`realesrgan.inference.cuda_kernels.blocks`, with descriptors for pointers.
"""

from __future__ import annotations

from typing import Any, Sequence

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_init,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

__all__ = ["descriptor", "rows"]

_INTEGERS = ["plane", "follow", "channel", "out_plane", "out_channel", "extra_plane", "entry_plane", "steps"]


def descriptor(tensor: Any, block: Sequence[int]) -> TensorDescriptor:
    """What the copy engine needs to know of a float16 tensor to copy blocks of this shape."""
    layout = gl.NVMMASharedLayout.get_default_for(list(block), gl.float16)
    return TensorDescriptor(tensor, list(tensor.shape), list(tensor.stride()), list(block), layout)


@gluon.jit
def _bring(
    src,
    src_rest,
    weights,
    weights_rest,
    lines,
    taps,
    bars,
    number,
    plane,
    follow,
    channel,
    top,
    left,
    first,
    wanted,
    N: gl.constexpr,
    BLOCK: gl.constexpr,
    COLUMNS: gl.constexpr,
    ROWS: gl.constexpr,
    PARTS: gl.constexpr,
    TAPS: gl.constexpr,
    STAGES: gl.constexpr,
    HEIGHT: gl.constexpr,
):
    LINES: gl.constexpr = ROWS + TAPS - 1
    stage = number % STAGES
    bar = bars.index(stage)
    step = number // TAPS
    from_plane = gl.where(step < PARTS, plane, follow + step // PARTS - 1)
    from_channel = channel + (step % PARTS) * BLOCK
    column = left + number % TAPS
    row = first + number * TAPS * HEIGHT
    mbarrier.expect(bar, (LINES * COLUMNS * BLOCK + TAPS * BLOCK * N) * 2, wanted)
    two = taps.index(stage * TAPS)._reinterpret(gl.float16, weights.block_type.shape, weights.layout)
    tma.async_copy_global_to_shared(weights, [row, 0], bar, two, wanted)
    if TAPS == 3:
        one = taps.index(stage * TAPS + 2)._reinterpret(gl.float16, weights_rest.block_type.shape, weights_rest.layout)
        tma.async_copy_global_to_shared(weights_rest, [row + 2 * HEIGHT, 0], bar, one, wanted)
    upper = lines.index(stage * LINES)._reinterpret(gl.float16, [1, ROWS, COLUMNS, BLOCK], src.layout)
    tma.async_copy_global_to_shared(src, [from_plane, top, column, from_channel], bar, upper, wanted)
    lower = lines.index(stage * LINES + ROWS)._reinterpret(gl.float16, [1, TAPS - 1, COLUMNS, BLOCK], src_rest.layout)
    tma.async_copy_global_to_shared(src_rest, [from_plane, top + ROWS, column, from_channel], bar, lower, wanted)


@gluon.jit
def _finished(
    values, falling, extra, room, whole, bar, extra_plane, entry_plane, y, x, channel, ratio, outer, MODE: gl.constexpr
):
    """What becomes of the sums, as :func:`realesrgan.inference.cuda_kernels.blocks` says for each ``MODE``."""
    layout: gl.constexpr = values.type.layout
    if MODE != 0:
        mbarrier.expect(bar, extra.block_type.nbytes)
        tma.async_copy_global_to_shared(extra, [extra_plane, y, x, channel], bar, room)
        mbarrier.wait(bar, 0)
    if MODE == 1:
        values = values + whole.load(layout).to(gl.float32)
    values = gl.where(values >= 0, values, values * falling)
    if MODE == 2:
        values = whole.load(layout).to(gl.float32) + ratio * values
        if outer != 0.0:
            mbarrier.expect(bar, extra.block_type.nbytes)
            tma.async_copy_global_to_shared(extra, [entry_plane, y, x, channel], bar, room)
            mbarrier.wait(bar, 1)
            values = whole.load(layout).to(gl.float32) + outer * values
    return values


@gluon.jit(do_not_specialize=_INTEGERS)
def rows(
    src,
    src_rest,
    weights,
    weights_rest,
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
    N: gl.constexpr,
    BLOCK: gl.constexpr,
    COLUMNS: gl.constexpr,
    ROWS: gl.constexpr,
    PARTS: gl.constexpr,
    MODE: gl.constexpr,
    TAPS: gl.constexpr,
    STAGES: gl.constexpr,
    TRANSPOSED: gl.constexpr,
    num_warps: gl.constexpr,
):
    LINES: gl.constexpr = ROWS + TAPS - 1
    PIXELS: gl.constexpr = ROWS * COLUMNS
    HEIGHT: gl.constexpr = N if TRANSPOSED else BLOCK  # of one tap's weights
    line: gl.constexpr = gl.NVMMASharedLayout.get_default_for([COLUMNS, BLOCK], gl.float16)
    flat: gl.constexpr = gl.NVMMASharedLayout.get_default_for([COLUMNS, N], gl.float16)
    if TRANSPOSED:  # channels x pixels: the weights are the left factor
        tap: gl.constexpr = gl.NVMMASharedLayout.get_default_for([N, BLOCK], gl.float16)
        mma: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, num_warps // 4], [16, 4 * PIXELS // num_warps, 16])
        over: gl.constexpr = gl.SliceLayout(1, mma)
        taps = gl.allocate_shared_memory(gl.float16, [STAGES * TAPS, N, BLOCK], tap)
        total = warpgroup_mma_init(gl.zeros([N, PIXELS], gl.float32, mma))
    else:
        tap: gl.constexpr = gl.NVMMASharedLayout.get_default_for([BLOCK, N], gl.float16)
        mma: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, N, 16])
        over: gl.constexpr = gl.SliceLayout(0, mma)
        taps = gl.allocate_shared_memory(gl.float16, [STAGES * TAPS, BLOCK, N], tap)
        total = warpgroup_mma_init(gl.zeros([PIXELS, N], gl.float32, mma))
    lines = gl.allocate_shared_memory(gl.float16, [STAGES * LINES, COLUMNS, BLOCK], line)
    bars = gl.allocate_shared_memory(gl.int64, [STAGES + 1, 1], mbarrier.MBarrierLayout())
    for each in gl.static_range(STAGES + 1):
        mbarrier.init(bars.index(each), count=1)
    fence_async_shared()

    x = gl.program_id(0) * COLUMNS
    y = gl.program_id(1) * ROWS
    phase = gl.program_id(2)
    top = y - 1
    left = x - 1
    if TAPS == 2:
        top += phase // 2
        left += phase % 2
    count = steps * TAPS
    first = phase * count * TAPS * HEIGHT
    for early in gl.static_range(STAGES - 1):
        _bring(
            src,
            src_rest,
            weights,
            weights_rest,
            lines,
            taps,
            bars,
            early,
            plane,
            follow,
            channel,
            top,
            left,
            first,
            early < count,
            N,
            BLOCK,
            COLUMNS,
            ROWS,
            PARTS,
            TAPS,
            STAGES,
            HEIGHT,
        )
    for number in range(count):
        stage = number % STAGES
        mbarrier.wait(bars.index(stage), (number // STAGES) & 1)
        for t in gl.static_range(TAPS):
            pixels = lines.index(stage * LINES + t)._reinterpret(gl.float16, [PIXELS, BLOCK], line)
            if TRANSPOSED:
                total = warpgroup_mma(taps.index(stage * TAPS + t), pixels.permute((1, 0)), total, is_async=True)
            else:
                total = warpgroup_mma(pixels, taps.index(stage * TAPS + t), total, is_async=True)
        # What may still run is this step's: the step before has read its stage, which can be filled again.
        total = warpgroup_mma_init(warpgroup_mma_wait(num_outstanding=TAPS, deps=(total,)))
        ahead = number + STAGES - 1
        _bring(
            src,
            src_rest,
            weights,
            weights_rest,
            lines,
            taps,
            bars,
            ahead,
            plane,
            follow,
            channel,
            top,
            left,
            first,
            ahead < count,
            N,
            BLOCK,
            COLUMNS,
            ROWS,
            PARTS,
            TAPS,
            STAGES,
            HEIGHT,
        )
    values = warpgroup_mma_wait(num_outstanding=0, deps=(total,))

    # The stages' memory is free now: what is added comes there, and the result leaves from there.
    room = lines.index(0)._reinterpret(gl.float16, out.block_type.shape, out.layout)
    whole = lines.index(0)._reinterpret(gl.float16, [PIXELS, N], flat)
    if TRANSPOSED:
        whole = whole.permute((1, 0))
    channels = gl.arange(0, N, layout=over)
    values = values + gl.expand_dims(gl.load(bias + channels), 1 if TRANSPOSED else 0)
    falling = gl.expand_dims(gl.load(slope + channels), 1 if TRANSPOSED else 0)
    bar = bars.index(STAGES)
    values = _finished(
        values,
        falling,
        extra,
        room,
        whole,
        bar,
        extra_plane,
        entry_plane,
        y,
        x,
        out_channel,
        ratio,
        outer,
        MODE,
    )
    whole.store(values.to(gl.float16))
    fence_async_shared()
    if TAPS == 3:
        tma.async_copy_shared_to_global(out, [out_plane, y, x, out_channel], room)
    else:  # the picture of twice the size, seen as rows x 2 x columns x (2 x channels)
        tma.async_copy_shared_to_global(out, [y, phase // 2, x, (phase % 2) * N], room)
    tma.store_wait(0)
    for each in gl.static_range(STAGES + 1):
        mbarrier.invalidate(bars.index(each))
