"""Triton kernels of `trivd.ops.residual`; features are matrices of one row per position, channels innermost."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from trivd.ops.cuda.arithmetic import BUSY, tile_of, wide
from trivd.ops.cuda.library import launch
from trivd.ops.precision import exact_dtype
from trivd.ops.residual import LAYOUTS, innermost

TALL: tl.constexpr = tl.constexpr(128)  # partial sums that a program adds up at once
NARROW: tl.constexpr = tl.constexpr(16)  # channels for which it does


@triton.jit
def _residual(
    x,
    other,
    bias,
    other_bias,
    result,
    rows,
    channels,
    width,  # of x, in pixels
    HAS_OTHER: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_OTHER_BIAS: tl.constexpr,
    RELU: tl.constexpr,
    UPSAMPLED: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
):
    place = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[
        :, None
    ]  # 32 bits: divisions of 64 take several times longer
    row = place.to(tl.int64)
    channel = tl.program_id(1) * ACROSS + tl.arange(0, ACROSS)[None, :]
    inside = (row < rows) & (channel < channels)
    y = wide(tl.load(x + row * channels + channel, mask=inside, other=0))
    if HAS_BIAS:
        y += wide(tl.load(bias + channel, mask=channel < channels, other=0))
    if HAS_OTHER_BIAS:
        y += wide(tl.load(other_bias + channel, mask=channel < channels, other=0))
    if HAS_OTHER:
        source = row
        if UPSAMPLED:  # heights are even: lines of all pictures may be counted through
            source = (place // width // 2 * (width // 2) + place % width // 2).to(tl.int64)
        y += wide(tl.load(other + source * channels + channel, mask=inside, other=0))
    if RELU:
        y = tl.maximum(y, 0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(result + row * channels + channel, y, mask=inside)


@triton.jit
def _residual_backward(
    gradient,
    result,
    for_x,
    for_other,
    sums,
    rows,  # of `other` where it was upsampled
    channels,
    width,  # in pixels, likewise
    share,  # rows of a program
    RELU: tl.constexpr,
    UPSAMPLED: tl.constexpr,
    BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
):
    """Each program goes over some rows and leaves the sum of their gradients."""
    first = tl.program_id(0) * share
    channel = tl.program_id(1) * ACROSS + tl.arange(0, ACROSS)[None, :]
    total = tl.full((ROWS, ACROSS), 0, sums.dtype.element_ty)
    for start in range(0, share, ROWS):
        step = start + tl.arange(0, ROWS)[:, None]
        place = first + step  # 32 bits, as above
        row = place.to(tl.int64)
        inside = (step < share) & (row < rows) & (channel < channels)
        if UPSAMPLED:
            corner = (place // width).to(tl.int64) * (4 * width) + place % width * 2
            y = wide(tl.load(gradient + corner * channels + channel, mask=inside, other=0))
            y += wide(tl.load(gradient + (corner + 1) * channels + channel, mask=inside, other=0))
            corner += 2 * width
            y += wide(tl.load(gradient + corner * channels + channel, mask=inside, other=0))
            y += wide(tl.load(gradient + (corner + 1) * channels + channel, mask=inside, other=0))
            tl.store(for_other + row * channels + channel, y, mask=inside)
        else:
            y = wide(tl.load(gradient + row * channels + channel, mask=inside, other=0))
        if RELU:
            y = tl.where(tl.load(result + row * channels + channel, mask=inside, other=0) > 0, y, 0)
            tl.store(for_x + row * channels + channel, y, mask=inside)
        if BIAS:
            total += y
    if BIAS:
        out = tl.program_id(1) * ACROSS + tl.arange(0, ACROSS)
        tl.store(sums + tl.program_id(0) * channels + out, tl.sum(total, 0), mask=out < channels)


@triton.jit
def _add_up(sums, result, count, channels):
    """(count, channels) -> (channels,)."""
    channel = tl.program_id(0) * NARROW + tl.arange(0, NARROW)
    total = tl.full((TALL, NARROW), 0, sums.dtype.element_ty)
    for start in range(0, count, TALL):
        row = (start + tl.arange(0, TALL))[:, None]
        inside = (row < count) & (channel[None, :] < channels)
        total += tl.load(sums + row * channels + channel[None, :], mask=inside, other=0)
    tl.store(result + channel, tl.sum(total, 0), mask=channel < channels)


def residual(
    x: Tensor, other: Tensor | None, bias: Tensor | None, other_bias: Tensor | None, relu: bool, upsampled: bool
) -> Tensor:
    x = innermost(x)
    other = None if other is None else innermost(other)
    bias, other_bias = (None if vector is None else vector.contiguous() for vector in (bias, other_bias))
    result = torch.empty_like(x)
    channels = x.shape[1]
    rows = x.numel() // max(channels, 1)
    down, across = tile_of(rows, channels)
    launch(
        _residual,
        (triton.cdiv(rows, down), triton.cdiv(channels, across)),
        *(x, other, bias, other_bias, result, rows, channels, x.shape[-1]),
        HAS_OTHER=other is not None,
        HAS_BIAS=bias is not None,
        HAS_OTHER_BIAS=other_bias is not None,
        RELU=relu,
        UPSAMPLED=upsampled,
        ROWS=down,
        ACROSS=across,
    )
    return result


def residual_backward(gradient: Tensor, result: Tensor | None, bias: bool, upsampled: bool) -> list[Tensor]:
    gradient = innermost(gradient)
    result = None if result is None else innermost(result)
    results = [] if result is None else [torch.empty_like(gradient)]
    if upsampled:
        size = *gradient.shape[:2], gradient.shape[2] // 2, gradient.shape[3] // 2
        layout = LAYOUTS[gradient.dim()]
        results.append(torch.empty(size, dtype=gradient.dtype, device=gradient.device, memory_format=layout))
    channels = gradient.shape[1]
    rows, width = gradient.numel() // max(channels, 1), gradient.shape[-1]
    if upsampled:
        rows, width = rows // 4, width // 2
    down, across = tile_of(rows, channels)
    wide_programs = triton.cdiv(channels, across)
    programs = min(triton.cdiv(rows, down), 4 * BUSY // wide_programs)
    share = triton.cdiv(rows, programs) if programs else 0
    sums = gradient.new_empty((programs, channels) if bias else 0, dtype=exact_dtype(gradient))
    launch(
        _residual_backward,
        (programs, wide_programs),
        gradient,
        result,
        None if result is None else results[0],
        results[-1] if upsampled else None,
        *(sums, rows, channels, width, share),
        RELU=result is not None,
        UPSAMPLED=upsampled,
        BIAS=bias,
        ROWS=down,
        ACROSS=across,
    )
    if bias:
        results.append(sums.new_empty(channels))
        launch(_add_up, (triton.cdiv(channels, NARROW.value),), sums, results[-1], programs, channels)
    return results
