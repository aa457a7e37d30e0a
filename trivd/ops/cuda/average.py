"""Triton kernels of `trivd.ops.average`; features are matrices of one row per position, channels innermost.

A program computes some windows of 2 x 2 pixels, or 2 x 2 x 2, those beyond an odd border too, which have no average.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from trivd.ops.average import halved, whole
from trivd.ops.cuda.arithmetic import tile_of, wide
from trivd.ops.cuda.library import launch
from trivd.ops.residual import innermost


@triton.jit
def _window(frames, height, width, ROWS: tl.constexpr, LENGTH: tl.constexpr):
    """Sample, first frame, row and column of windows, and their places in the averages (-1: outside)."""
    across, down, along = tl.cdiv(width, 2), tl.cdiv(height, 2), tl.cdiv(frames, LENGTH)
    # In 32 bits: divisions of 64 take several times longer.
    place = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    column, row = place % across, place // across % down
    frame, sample = place // across // down % along, (place // across // down // along).to(tl.int64)
    full = (column < width // 2) & (row < height // 2) & (frame < frames // LENGTH)
    target = ((sample * (frames // LENGTH) + frame) * (height // 2) + row) * (width // 2) + column
    return sample, frame * LENGTH, row * 2, column * 2, tl.where(full, target, -1)


@triton.jit
def _average_pool(
    x,
    activated,
    result,
    samples,
    channels,
    frames,
    height,
    width,
    RELU: tl.constexpr,
    LENGTH: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
):
    sample, frame, row, column, target = _window(frames, height, width, ROWS, LENGTH)
    channel = tl.program_id(1) * ACROSS + tl.arange(0, ACROSS)[None, :]
    total = wide(tl.full((ROWS, ACROSS), 0, x.dtype.element_ty))
    for part in tl.static_range(LENGTH * 4):
        t, i, j = frame + part // 4, row + part // 2 % 2, column + part % 2
        inside = (sample < samples) & (t < frames) & (i < height) & (j < width) & (channel < channels)
        source = (((sample * frames + t) * height + i) * width + j) * channels + channel
        y = wide(tl.load(x + source, mask=inside, other=0))
        total += y
        if RELU:
            tl.store(activated + source, tl.maximum(y, 0, propagate_nan=tl.PropagateNan.ALL), mask=inside)
    inside = (sample < samples) & (target >= 0) & (channel < channels)
    tl.store(result + target * channels + channel, total / (LENGTH * 4), mask=inside)


@triton.jit
def _average_pool_backward(
    gradient,
    activated,
    for_activated,
    result,
    samples,
    channels,
    frames,
    height,
    width,
    RELU: tl.constexpr,
    LENGTH: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
):
    sample, frame, row, column, target = _window(frames, height, width, ROWS, LENGTH)
    channel = tl.program_id(1) * ACROSS + tl.arange(0, ACROSS)[None, :]
    inside = (sample < samples) & (target >= 0) & (channel < channels)
    share = wide(tl.load(gradient + target * channels + channel, mask=inside, other=0)) / (LENGTH * 4)
    for part in tl.static_range(LENGTH * 4):
        t, i, j = frame + part // 4, row + part // 2 % 2, column + part % 2
        inside = (sample < samples) & (t < frames) & (i < height) & (j < width) & (channel < channels)
        source = (((sample * frames + t) * height + i) * width + j) * channels + channel
        y = share
        if RELU:
            g = wide(tl.load(for_activated + source, mask=inside, other=0))
            y += tl.where(tl.load(activated + source, mask=inside, other=0) > 0, g, 0)
        tl.store(result + source, y, mask=inside)


def _launch(kernel: Any, whole_: Tensor, tensors: tuple[Tensor | None, ...], relu: bool, time: bool) -> None:
    samples, channels, *size = whole_.shape
    frames, height, width = size if len(size) == 3 else (1, *size)
    length = 2 if time else 1
    windows = samples * triton.cdiv(frames, length) * triton.cdiv(height, 2) * triton.cdiv(width, 2)
    down, across = tile_of(windows, channels)
    launch(
        kernel,
        (triton.cdiv(windows, down), triton.cdiv(channels, across)),
        *(*tensors, samples, channels, frames, height, width),
        RELU=relu,
        LENGTH=length,
        ROWS=down,
        ACROSS=across,
    )


def average_pool(x: Tensor, relu: bool, time: bool) -> list[Tensor]:
    x, pooled = innermost(x), halved(x, time)
    activated = torch.empty_like(x) if relu else None
    _launch(_average_pool, x, (x, activated, pooled), relu, time)
    return [pooled] if activated is None else [activated, pooled]


def average_pool_backward(
    gradient: Tensor, activated: Tensor | None, for_activated: Tensor | None, size: list[int], time: bool
) -> Tensor:
    gradient, result = innermost(gradient), whole(gradient, size)
    activated = None if activated is None else innermost(activated)
    for_activated = None if for_activated is None else innermost(for_activated)
    _launch(_average_pool_backward, result, (gradient, activated, for_activated, result), activated is not None, time)
    return result
