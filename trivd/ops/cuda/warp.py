"""Triton kernels of `trivd.ops.warp`; features are matrices of one row per position, channels innermost."""

from math import isqrt
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from trivd.ops.cuda.arithmetic import BUSY, LARGEST_BLOCK, block_of, wide
from trivd.ops.cuda.library import launch
from trivd.ops.operator import channels_innermost


@triton.jit
def neighbour(place, tap, height, width, K: tl.constexpr, REPLICATE: tl.constexpr):
    """How far from these positions (int32) a tap reads, and whether inside; with REPLICATE, the nearest that is."""
    row = place // width % height
    column = place % width
    i = row + tap // K - K // 2
    j = column + tap % K - K // 2
    if REPLICATE:
        i = tl.minimum(tl.maximum(i, 0), height - 1)
        j = tl.minimum(tl.maximum(j, 0), width - 1)
    inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
    return (i - row) * width + (j - column), inside


@triton.jit
def may_reach(reader, tap, K: tl.constexpr):
    """Whether `tap` of the neighbour `reader` of a position may read this: straight, or from the border outwards.

    It leaves out most pairs at once; for the others, `neighbour` says whether it does.
    """
    down = reader // K - K // 2
    right = reader % K - K // 2
    beyond = down + tap // K - K // 2  # of the position, in rows
    aside = right + tap % K - K // 2
    return (((beyond <= 0) & (down >= 0)) | ((beyond >= 0) & (down <= 0)) | (beyond == 0)) & (
        ((aside <= 0) & (right >= 0)) | ((aside >= 0) & (right <= 0)) | (aside == 0)
    )


@triton.jit
def products(
    gradient,
    h,
    position,
    place,
    exists,
    channels,
    height,
    width,
    of_gradient,
    K: tl.constexpr,
    REPLICATE: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
    CHUNKS: tl.constexpr,
    TAPS: tl.constexpr,
    UNROLL: tl.constexpr,
    SUMS: tl.constexpr,
):
    """Gradients of the weights of each position (ROWS, TAPS): sums over channels of its gradient times what taps read.

    They are stored together in the end: a store in between would hold up all loads after it.

    Args:
        gradient: address of its first channel.
        h: features.
        position: (ROWS, 1) int64, a row of memory.
        place: (ROWS, 1) int32, from which its image row and column follow.
        exists: whether each does.
        channels: of h.
        height: of h.
        width: of h.
        of_gradient: channels in a row of `gradient`.
        K: size of the warping kernels.
        REPLICATE: whether their border lies outside.
        ROWS: number of positions.
        ACROSS: channels that are read at once.
        CHUNKS: how often.
        TAPS: K^2 or more.
        UNROLL: taps at once.
        SUMS: type of the sums.
    """
    index = tl.arange(0, TAPS)[None, :]
    found = tl.zeros((ROWS, TAPS), SUMS)
    for tap in tl.range(0, K * K, loop_unroll_factor=UNROLL):
        step, inside = neighbour(place, tap, height, width, K, REPLICATE)
        total = tl.zeros((ROWS, ACROSS), SUMS)
        for chunk in tl.range(0, CHUNKS, loop_unroll_factor=CHUNKS if CHUNKS <= 2 else 1):  # more would spill
            channel = chunk * ACROSS + tl.arange(0, ACROSS)[None, :]
            there = exists & (channel < channels)  # the same for all taps: read once where they are unrolled
            g = wide(tl.load(gradient + position * of_gradient + channel, mask=there, other=0))
            there &= inside
            total += g * wide(tl.load(h + (position + step) * channels + channel, mask=there, other=0))
        found = tl.where(index == tap, tl.sum(total, axis=1, keep_dims=True), found)
    return found


@triton.jit
def _warp(
    h,
    weights,
    result,
    rows,
    channels,
    height,
    width,
    K: tl.constexpr,
    REPLICATE: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
    UNROLL: tl.constexpr,
    SUMS: tl.constexpr,
):
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    position = place.to(tl.int64)
    channel = tl.program_id(1) * ACROSS + tl.arange(0, ACROSS)[None, :]
    exists = (place < rows) & (channel < channels)
    total = tl.zeros((ROWS, ACROSS), SUMS)
    for tap in tl.range(0, K * K, loop_unroll_factor=UNROLL):
        step, inside = neighbour(place, tap, height, width, K, REPLICATE)
        source = position + step
        weight = wide(tl.load(weights + position * (K * K) + tap, mask=(place < rows) & inside, other=0))
        total += weight * wide(tl.load(h + source * channels + channel, mask=exists & inside, other=0))
    tl.store(result + position * channels + channel, total, mask=exists)


@triton.jit
def _warp_backward_features(
    gradient,
    weights,
    result,
    rows,
    channels,
    height,
    width,
    K: tl.constexpr,
    REPLICATE: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
    UNROLL: tl.constexpr,
    SUMS: tl.constexpr,
):
    """Each position gathers from the neighbours that read it."""
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    position = place.to(tl.int64)
    channel = tl.program_id(1) * ACROSS + tl.arange(0, ACROSS)[None, :]
    exists = (place < rows) & (channel < channels)
    total = tl.zeros((ROWS, ACROSS), SUMS)
    for reader in tl.range(0, K * K, loop_unroll_factor=UNROLL):
        step, inside = neighbour(place, reader, height, width, K, False)
        source = position + step
        first = weights + source * (K * K)
        if REPLICATE:  # at a border, several of its taps read the position
            weight = tl.zeros((ROWS, 1), SUMS)
            for tap in range(K * K):
                if may_reach(reader, tap, K):
                    back, _ = neighbour(place + step, tap, height, width, K, True)
                    reads = (place < rows) & inside & (step + back == 0)
                    weight += wide(tl.load(first + tap, mask=reads, other=0))
        else:
            weight = wide(tl.load(first + K * K - 1 - reader, mask=(place < rows) & inside, other=0))
        total += weight * wide(tl.load(gradient + source * channels + channel, mask=exists & inside, other=0))
    tl.store(result + position * channels + channel, total, mask=exists)


@triton.jit
def _warp_backward_weights(
    gradient,
    h,
    result,
    rows,
    channels,
    height,
    width,
    K: tl.constexpr,
    REPLICATE: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
    CHUNKS: tl.constexpr,
    TAPS: tl.constexpr,
    UNROLL: tl.constexpr,
    SUMS: tl.constexpr,
):
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    position = place.to(tl.int64)
    exists = place < rows
    found = products(
        gradient,
        h,
        position,
        place,
        exists,
        channels,
        height,
        width,
        channels,
        K,
        REPLICATE,
        ROWS,
        ACROSS,
        CHUNKS,
        TAPS,
        UNROLL,
        SUMS,
    )
    tap = tl.arange(0, TAPS)[None, :]
    tl.store(result + position * (K * K) + tap, found, mask=exists & (tap < K * K))


def gather_tile(rows: int, channels: int, together: int) -> dict[str, int]:
    """Positions and channels that a program warps at once; at most `together` of all positions (rows)."""
    across = min(triton.next_power_of_2(channels), 128)
    down = block_of(rows * channels) // across
    return {"ROWS": max(1, min(down, triton.next_power_of_2(together))), "ACROSS": across}


def product_tile(rows: int, channels: int, together: int) -> dict[str, int]:
    """Positions whose gradients of weights a program computes, and the channels that it reads at once."""
    across = min(triton.next_power_of_2(channels), 256)
    down = max(1, min(2 * LARGEST_BLOCK // across, triton.next_power_of_2(together)))
    while down > 1 and rows < BUSY * down:
        down //= 2
    return {"ROWS": down, "ACROSS": across, "CHUNKS": triton.cdiv(channels, across)}


def constants(h: Tensor, taps: int, replicate: bool) -> dict[str, Any]:
    """What kernels are compiled for: K, the border, taps that are unrolled, and the type of sums."""
    size = isqrt(taps)
    return {
        "K": size,
        "REPLICATE": replicate,
        "UNROLL": taps if size <= 3 else size if size <= 5 else 1,
        "SUMS": tl.float64 if h.dtype == torch.float64 else tl.float32,
    }


def warp(h: Tensor, weights: Tensor, replicate: bool) -> Tensor:
    h, weights = channels_innermost(h), channels_innermost(weights)
    result = torch.empty_like(h)
    sizes = _sizes(h)
    tile = gather_tile(*sizes[:2], together=sizes[0])
    launch(
        _warp,
        (triton.cdiv(sizes[0], tile["ROWS"]), triton.cdiv(sizes[1], tile["ACROSS"])),
        *(h, weights, result, *sizes),
        **constants(h, weights.shape[1], replicate),
        **tile,
    )
    return result


def warp_backward(gradient: Tensor, h: Tensor, weights: Tensor, replicate: bool) -> tuple[Tensor, Tensor]:
    gradient, h, weights = map(channels_innermost, (gradient, h, weights))
    for_h, for_weights = torch.empty_like(h), torch.empty_like(weights)
    sizes, fixed = _sizes(h), constants(h, weights.shape[1], replicate)
    tile = product_tile(*sizes[:2], together=sizes[0])
    launch(
        _warp_backward_weights,
        (triton.cdiv(sizes[0], tile["ROWS"]),),
        *(gradient, h, for_weights, *sizes),
        TAPS=triton.next_power_of_2(weights.shape[1]),
        **fixed,
        **tile,
    )
    tile = gather_tile(*sizes[:2], together=sizes[0])
    launch(
        _warp_backward_features,
        (triton.cdiv(sizes[0], tile["ROWS"]), triton.cdiv(sizes[1], tile["ACROSS"])),
        *(gradient, weights, for_h, *sizes),
        **fixed,
        **tile,
    )
    return for_h, for_weights


def _sizes(h: Tensor) -> tuple[int, int, int, int]:
    """The numbers that kernels are given: positions, channels, height, width."""
    batch, channels, height, width = h.shape
    return batch * height * width, channels, height, width
