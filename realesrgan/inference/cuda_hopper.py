"""3x3 convolutions on Hopper cards (compute capability 9.0), in Triton's language Gluon.

A program computes 4 rows of ``COLUMNS`` pixels, N channels each. A step of its loop brings 6 lines of pixels, moved by
one of the three column taps, and the weights of that column into shared memory; the copy engine fills with zeros what
lies outside of the picture. The three row taps are products of the same lines, each beginning one line further down:
a third of the traffic that nine separate products would need, which is what limits them. The products of a step run
while the copies of later steps are under way.

The arguments are those of :func:`realesrgan.inference.cuda_kernels.blocks`, with descriptors for pointers; ``extra`` is
``out``.
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

__all__ = ["ROWS", "descriptor", "rows"]

ROWS = 4
"""Rows of pixels that a program computes."""
_INTEGERS = ["plane", "follow", "channel", "out_plane", "out_channel", "extra_plane", "entry_plane", "steps"]


def descriptor(tensor: Any, block: Sequence[int]) -> TensorDescriptor:
    """What the copy engine needs to know of a float16 tensor to copy blocks of this shape."""
    layout = gl.NVMMASharedLayout.get_default_for(list(block), gl.float16)
    return TensorDescriptor(tensor, list(tensor.shape), list(tensor.stride()), list(block), layout)


@gluon.jit
def _bring(
    src,
    weights,
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
    PARTS: gl.constexpr,
    TAPS: gl.constexpr,
    STAGES: gl.constexpr,
):
    """Begin to copy what a step reads: lines two by two, and the weights of a column of taps."""
    stage = number % STAGES
    bar = bars.index(stage)
    step = number // TAPS
    from_plane = gl.where(step < PARTS, plane, follow + step // PARTS - 1)
    from_channel = channel + (step % PARTS) * BLOCK
    column = left + number % TAPS
    row = first + number * TAPS * BLOCK
    mbarrier.expect(bar, (6 * COLUMNS * BLOCK + TAPS * BLOCK * N) * 2, wanted)
    for t in gl.static_range(TAPS):
        tma.async_copy_global_to_shared(weights, [row + t * BLOCK, 0], bar, taps.index(stage * TAPS + t), wanted)
    for pair in gl.static_range(3):
        two = lines.index(stage * 3 + pair)._reinterpret(gl.float16, [1, 2, COLUMNS, BLOCK], src.layout)
        tma.async_copy_global_to_shared(src, [from_plane, top + 2 * pair, column, from_channel], bar, two, wanted)


@gluon.jit
def _line(lines, stage, number: gl.constexpr, COLUMNS: gl.constexpr):
    return lines.index(stage * 3 + number // 2).slice((number % 2) * COLUMNS, COLUMNS, dim=0)


@gluon.jit
def _bring_extra(out, rooms, bar, plane, y, x, channel, N: gl.constexpr, COLUMNS: gl.constexpr):
    """Begin to copy what is added to the result to where the result will leave from."""
    mbarrier.expect(bar, 4 * COLUMNS * N * 2)
    for r in gl.static_range(4):
        room = rooms.index(r)._reinterpret(gl.float16, [1, 1, COLUMNS, N], out.layout)
        tma.async_copy_global_to_shared(out, [plane, y + r, x, channel], bar, room)


@gluon.jit
def _finished(values, added, falling, room, ratio, MODE: gl.constexpr):
    """What becomes of a row of sums, as :func:`realesrgan.inference.cuda_kernels.blocks` says for each ``MODE``."""
    layout: gl.constexpr = values.type.layout
    values = values + added
    if MODE == 1:
        values = values + room.load(layout).to(gl.float32)
    values = gl.where(values >= 0, values, values * falling)
    if MODE == 2:
        values = room.load(layout).to(gl.float32) + ratio * values
    return values


def _name(specialization: Any) -> str:
    """What profilers show: ``rows``, the result channels, the mode, and the taps in a row."""
    constants = specialization.constants
    return "rows_" + "_".join(str(constants[name]) for name in ("N", "MODE", "TAPS"))


@gluon.jit(do_not_specialize=_INTEGERS, repr=_name)
def rows(
    src,
    weights,
    bias,
    slope,
    out,
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
    PARTS: gl.constexpr,
    MODE: gl.constexpr,
    TAPS: gl.constexpr,
    STAGES: gl.constexpr,
    num_warps: gl.constexpr,
):
    pair: gl.constexpr = gl.NVMMASharedLayout.get_default_for([2 * COLUMNS, BLOCK], gl.float16)
    flat: gl.constexpr = gl.NVMMASharedLayout.get_default_for([COLUMNS, N], gl.float16)
    tap: gl.constexpr = gl.NVMMASharedLayout.get_default_for([BLOCK, N], gl.float16)
    mma: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, N, 16])
    taps = gl.allocate_shared_memory(gl.float16, [STAGES * TAPS, BLOCK, N], tap)
    lines = gl.allocate_shared_memory(gl.float16, [STAGES * 3, 2 * COLUMNS, BLOCK], pair)
    bars = gl.allocate_shared_memory(gl.int64, [STAGES + 1, 1], mbarrier.MBarrierLayout())
    for each in gl.static_range(STAGES + 1):
        mbarrier.init(bars.index(each), count=1)
    fence_async_shared()

    x = gl.program_id(0) * COLUMNS
    y = gl.program_id(1) * 4
    phase = gl.program_id(2)
    top = y - 1
    left = x - 1
    if TAPS == 2:
        top += phase // 2
        left += phase % 2
    count = steps * TAPS
    first = phase * count * TAPS * BLOCK
    for early in gl.static_range(STAGES - 1):
        _bring(
            src,
            weights,
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
            PARTS,
            TAPS,
            STAGES,
        )
    zero = gl.zeros([COLUMNS, N], gl.float32, mma)
    row0 = warpgroup_mma_init(zero)
    row1 = warpgroup_mma_init(zero)
    row2 = warpgroup_mma_init(zero)
    row3 = warpgroup_mma_init(zero)
    for number in range(count):
        stage = number % STAGES
        mbarrier.wait(bars.index(stage), (number // STAGES) & 1)
        for t in gl.static_range(TAPS):
            weight = taps.index(stage * TAPS + t)
            row0 = warpgroup_mma(_line(lines, stage, t, COLUMNS), weight, row0, is_async=True)
            row1 = warpgroup_mma(_line(lines, stage, t + 1, COLUMNS), weight, row1, is_async=True)
            row2 = warpgroup_mma(_line(lines, stage, t + 2, COLUMNS), weight, row2, is_async=True)
            row3 = warpgroup_mma(_line(lines, stage, t + 3, COLUMNS), weight, row3, is_async=True)
        # Up to seven products may still run, all of this step: what the step before has read can be overwritten.
        sum0, sum1, sum2, sum3 = warpgroup_mma_wait(num_outstanding=7, deps=(row0, row1, row2, row3))
        row0 = warpgroup_mma_init(sum0)
        row1 = warpgroup_mma_init(sum1)
        row2 = warpgroup_mma_init(sum2)
        row3 = warpgroup_mma_init(sum3)
        ahead = number + STAGES - 1
        _bring(
            src,
            weights,
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
            PARTS,
            TAPS,
            STAGES,
        )
    sum0, sum1, sum2, sum3 = warpgroup_mma_wait(num_outstanding=0, deps=(row0, row1, row2, row3))

    # The lines' memory is free now: what is added comes there, and the result leaves from there.
    rooms = lines._reinterpret(gl.float16, [STAGES * 6 * BLOCK // N, COLUMNS, N], flat)
    bar = bars.index(STAGES)
    if MODE != 0:
        _bring_extra(out, rooms, bar, extra_plane, y, x, out_channel, N, COLUMNS)
        mbarrier.wait(bar, 0)
    channels = gl.arange(0, N, layout=gl.SliceLayout(0, mma))
    added = gl.expand_dims(gl.load(bias + channels), 0)
    falling = gl.expand_dims(gl.load(slope + channels), 0)
    sum0 = _finished(sum0, added, falling, rooms.index(0), ratio, MODE)
    sum1 = _finished(sum1, added, falling, rooms.index(1), ratio, MODE)
    sum2 = _finished(sum2, added, falling, rooms.index(2), ratio, MODE)
    sum3 = _finished(sum3, added, falling, rooms.index(3), ratio, MODE)
    if MODE == 2:  # noqa: SIM102 - the first is known when compiling, the second is not
        if outer != 0.0:
            _bring_extra(out, rooms, bar, entry_plane, y, x, out_channel, N, COLUMNS)
            mbarrier.wait(bar, 1)
            sum0 = rooms.index(0).load(mma).to(gl.float32) + outer * sum0
            sum1 = rooms.index(1).load(mma).to(gl.float32) + outer * sum1
            sum2 = rooms.index(2).load(mma).to(gl.float32) + outer * sum2
            sum3 = rooms.index(3).load(mma).to(gl.float32) + outer * sum3
    rooms.index(0).store(sum0.to(gl.float16))
    rooms.index(1).store(sum1.to(gl.float16))
    rooms.index(2).store(sum2.to(gl.float16))
    rooms.index(3).store(sum3.to(gl.float16))
    fence_async_shared()
    for r in gl.static_range(4):
        room = rooms.index(r)._reinterpret(gl.float16, [1, 1, COLUMNS, N], out.layout)
        if TAPS == 3:
            tma.async_copy_shared_to_global(out, [out_plane, y + r, x, out_channel], room)
        else:  # the picture of twice the size, seen as rows x 2 x columns x (2 x channels)
            tma.async_copy_shared_to_global(out, [y + r, phase // 2, x, (phase % 2) * N], room)
    tma.store_wait(0)
    for each in gl.static_range(STAGES + 1):
        mbarrier.invalidate(bars.index(each))
