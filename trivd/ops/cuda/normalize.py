"""Triton kernels of `trivd.ops.normalize`; features are matrices of one row per position, channels innermost.

Sums over many rows are taken in parts, which a second kernel adds up in a fixed order: results never vary.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from trivd.ops.cuda.arithmetic import wide
from trivd.ops.cuda.library import launch
from trivd.ops.cuda.parts import PARTIAL, Division, combine_parts, part_of_rows, partial_grid, statistics_of_parts
from trivd.ops.operator import channels_innermost
from trivd.ops.precision import exact_dtype


@triton.jit
def _moments(mean, variance, EPSILON: tl.constexpr, samples, channels, channel):
    """Mean and 1 / standard deviation of the frame of this program's picture; programs along axis 0 are pictures."""
    place = tl.program_id(0).to(tl.int64) // samples * channels + channel
    inside = channel < channels
    centre = wide(tl.load(mean + place, mask=inside, other=0))
    return centre, 1 / tl.sqrt(wide(tl.load(variance + place, mask=inside, other=0)) + EPSILON)


@triton.jit
def _of_sample(values, stride, samples, channels, channel):
    """Scale or offset of the sample of this program's picture; the stride is 0 where all samples share them."""
    place = (tl.program_id(0) % samples).to(tl.int64) * stride + channel
    return wide(tl.load(values + place, mask=channel < channels, other=0))


@triton.jit
def _normalize(
    x,
    mean,
    variance,
    scale,
    offset,
    y,
    samples,
    rows,
    channels,
    tiles,
    scale_stride,
    offset_stride,
    EPSILON: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
):
    first, count = part_of_rows(rows, tiles, ROWS)
    lane = tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(2) * ACROSS + tl.arange(0, ACROSS)[None, :]
    centre, rstd = _moments(mean, variance, EPSILON, samples, channels, channel)
    gain = _of_sample(scale, scale_stride, samples, channels, channel) * rstd
    shift = _of_sample(offset, offset_stride, samples, channels, channel)
    start = (tl.program_id(0).to(tl.int64) * rows + first) * channels + channel
    for tile in range(tl.cdiv(count, ROWS)):
        row = tile * ROWS + lane
        inside = (row < count) & (channel < channels)
        place = start + row.to(tl.int64) * channels
        value = (wide(tl.load(x + place, mask=inside, other=0)) - centre) * gain + shift
        tl.store(y + place, tl.maximum(value, 0, propagate_nan=tl.PropagateNan.ALL), mask=inside)


@triton.jit
def _sums_of_parts(
    gradient,
    x,
    y,
    mean,
    variance,
    for_scale,
    for_offset,
    samples,
    rows,
    channels,
    tiles,
    EPSILON: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
):
    """Sums of g xhat and of g over each part of a picture's rows, (T, B, parts, C)."""
    first, count = part_of_rows(rows, tiles, ROWS)
    lane = tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(2) * ACROSS + tl.arange(0, ACROSS)[None, :]
    centre, rstd = _moments(mean, variance, EPSILON, samples, channels, channel)
    start = (tl.program_id(0).to(tl.int64) * rows + first) * channels + channel
    scales = tl.zeros((ROWS, ACROSS), for_scale.dtype.element_ty)
    offsets = tl.zeros((ROWS, ACROSS), for_scale.dtype.element_ty)
    for tile in range(tl.cdiv(count, ROWS)):
        row = tile * ROWS + lane
        inside = (row < count) & (channel < channels)
        place = start + row.to(tl.int64) * channels
        g = wide(tl.load(gradient + place, mask=inside, other=0))
        g = tl.where(wide(tl.load(y + place, mask=inside, other=0)) > 0, g, 0)
        scales += g * (wide(tl.load(x + place, mask=inside, other=0)) - centre)
        offsets += g
    place = (tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * channels + channel
    tl.store(for_scale + place, tl.sum(scales, axis=0)[None, :] * rstd, mask=channel < channels)
    tl.store(for_offset + place, tl.sum(offsets, axis=0)[None, :], mask=channel < channels)


@triton.jit
def _add_parts(
    scale_parts,
    offset_parts,
    scale,
    means,
    for_scale,
    for_offset,
    frames,
    groups,
    parts,
    channels,
    positions,
    scale_stride,
    OWN: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
):
    """From partial sums (T, groups, parts, C): first programs the means of a frame, the others gradients of a group.

    A group is a sample, or all samples where they share scale and offset.
    """
    program = tl.program_id(0)
    lane = tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(1) * ACROSS + tl.arange(0, ACROSS)[None, :]
    of_frame = program < frames
    count = tl.where(of_frame, groups, frames) * parts
    if of_frame and not OWN:
        count = 0
    scales = tl.zeros((ROWS, ACROSS), scale_parts.dtype.element_ty)
    offsets = tl.zeros((ROWS, ACROSS), scale_parts.dtype.element_ty)
    for first in range(0, count, ROWS):
        term = first + lane
        frame = tl.where(of_frame, program, term // parts)
        group = tl.where(of_frame, term // parts, program - frames)
        inside = (term < count) & (channel < channels)
        place = ((frame.to(tl.int64) * groups + group) * parts + term % parts) * channels + channel
        weight = wide(tl.load(scale + group.to(tl.int64) * scale_stride + channel, mask=inside & of_frame, other=0))
        weight = tl.where(of_frame, weight, 1)
        scales += tl.load(scale_parts + place, mask=inside, other=0) * weight
        offsets += tl.load(offset_parts + place, mask=inside, other=0) * weight
    of_scale, of_offset = tl.sum(scales, axis=0)[None, :], tl.sum(offsets, axis=0)[None, :]
    inside = channel < channels
    if of_frame:
        tl.store(means + program.to(tl.int64) * channels + channel, of_offset / positions, mask=inside)
        second = (frames + program).to(tl.int64)  # not frames alone: Triton makes a constant of the number 1
        tl.store(means + second * channels + channel, of_scale / positions, mask=inside)
    else:
        place = (program - frames).to(tl.int64) * channels + channel
        tl.store(for_scale + place, of_scale, mask=inside)
        tl.store(for_offset + place, of_offset, mask=inside)


@triton.jit
def _normalize_backward(
    gradient,
    x,
    y,
    mean,
    variance,
    scale,
    means,
    for_x,
    samples,
    rows,
    channels,
    tiles,
    scale_stride,
    projection,
    EPSILON: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
):
    first, count = part_of_rows(rows, tiles, ROWS)
    lane = tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(2) * ACROSS + tl.arange(0, ACROSS)[None, :]
    centre, rstd = _moments(mean, variance, EPSILON, samples, channels, channel)
    # rstd (scale g - shared - xhat projection) = gain g - shift - (x - mean) slope
    gain = _of_sample(scale, scale_stride, samples, channels, channel) * rstd
    frame = means + tl.program_id(0).to(tl.int64) // samples * channels + channel
    shift = wide(tl.load(frame, mask=channel < channels, other=0)) * rstd
    slope = wide(tl.load(frame + projection, mask=channel < channels, other=0)) * rstd * rstd
    start = (tl.program_id(0).to(tl.int64) * rows + first) * channels + channel
    for tile in range(tl.cdiv(count, ROWS)):
        row = tile * ROWS + lane
        inside = (row < count) & (channel < channels)
        place = start + row.to(tl.int64) * channels
        g = wide(tl.load(gradient + place, mask=inside, other=0))
        g = tl.where(wide(tl.load(y + place, mask=inside, other=0)) > 0, g, 0)
        centred = wide(tl.load(x + place, mask=inside, other=0)) - centre
        tl.store(for_x + place, gain * g - shift - slope * centred, mask=inside)


def _pictures(x: Tensor) -> tuple[Division, tuple[int, ...]]:
    """The division of pictures among programs, and what their kernels are told: samples, rows, channels, tiles."""
    frames, samples, channels, height, width = x.shape
    division = Division(frames * samples, height * width, channels)
    return division, (samples, height * width, channels, division.tiles)


def _vectors(values: Tensor) -> tuple[Tensor, int]:
    """Scale or offset, (B, C) or (C,), and how far the vectors of two samples are apart in memory."""
    values = values if values.stride(-1) == 1 else values.contiguous()
    return values, values.stride(0) if values.dim() == 2 else 0


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    x = channels_innermost(x)
    frames, samples, channels, height, width = x.shape
    rows = samples * height * width
    division = Division(frames, rows, channels)
    parts = division.parts
    means, squares = torch.empty(2, frames, parts, channels, dtype=exact_dtype(x), device=x.device)
    launch(statistics_of_parts, division.grid, x, means, squares, rows, channels, division.tiles, **division.constants)
    mean = means.new_empty(frames, channels)
    variance = torch.empty_like(mean)
    launch(
        combine_parts,
        partial_grid(frames, channels),
        *(means, squares, mean, variance, rows, division.tiles * division.down, parts, channels),
        ROWS=PARTIAL[0],
        ACROSS=PARTIAL[1],
    )
    return mean, variance


def normalize(
    x: Tensor, mean: Tensor, variance: Tensor, epsilon: float, own: bool, scale: Tensor, offset: Tensor
) -> Tensor:
    x = channels_innermost(x)
    y = torch.empty_like(x)
    (scale, scale_stride), (offset, offset_stride) = _vectors(scale), _vectors(offset)
    division, sizes = _pictures(x)
    launch(
        _normalize,
        division.grid,
        *(x, mean, variance, scale, offset, y, *sizes, scale_stride, offset_stride),
        EPSILON=epsilon,
        **division.constants,
    )
    return y


def normalize_sums(
    gradient: Tensor,
    x: Tensor,
    y: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
    own: bool,
    scale: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    gradient, x, y = map(channels_innermost, (gradient, x, y))
    scale, stride = _vectors(scale)
    division, sizes = _pictures(x)
    frames, samples, channels, height, width = x.shape
    partial = torch.empty(2, frames, samples, division.parts, channels, dtype=exact_dtype(x), device=x.device)
    launch(
        _sums_of_parts,
        division.grid,
        *(gradient, x, y, mean, variance, *partial, *sizes),
        EPSILON=epsilon,
        **division.constants,
    )
    means, for_scale, for_offset = mean.new_empty(2, *mean.shape), *mean.new_empty(2, *scale.shape)
    groups, parts = (samples, division.parts) if scale.dim() == 2 else (1, samples * division.parts)
    launch(
        _add_parts,
        partial_grid(frames + groups, channels),
        *(*partial, scale, means, for_scale, for_offset),
        *(frames, groups, parts, channels, samples * height * width, stride),
        OWN=own,
        ROWS=PARTIAL[0],
        ACROSS=PARTIAL[1],
    )
    return means, for_scale, for_offset


def normalize_backward(
    gradient: Tensor,
    x: Tensor,
    y: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
    scale: Tensor,
    means: Tensor,
) -> Tensor:
    gradient, x, y = map(channels_innermost, (gradient, x, y))
    for_x = torch.empty_like(x)
    scale, stride = _vectors(scale)
    division, sizes = _pictures(x)
    launch(
        _normalize_backward,
        division.grid,
        *(gradient, x, y, mean, variance, scale, means.contiguous(), for_x, *sizes, stride, mean.numel()),
        EPSILON=epsilon,
        **division.constants,
    )
    return for_x
