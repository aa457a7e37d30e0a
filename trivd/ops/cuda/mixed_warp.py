"""Triton kernels of `trivd.ops.mixed_warp`.

Every program works on positions of one sample. It computes weights anew where it needs them, so that none are stored:
those of a tap are S times a column of the kernels, both softmaxes of what was predicted.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from trivd.ops.cuda.arithmetic import wide
from trivd.ops.cuda.library import launch
from trivd.ops.cuda.mixing import column_of, kernels_backward, scale_of, selection_of
from trivd.ops.cuda.softmax import softmax_slope
from trivd.ops.cuda.warp import constants, gather_tile, may_reach, neighbour, product_tile, products
from trivd.ops.mixed_warp import kernel_count
from trivd.ops.operator import channels_innermost, empty
from trivd.ops.precision import exact_dtype

LARGEST_SUM = 2048  # elements of the partial sums that a program reads at once


@triton.jit
def _mixed_warp(
    h,
    selection,
    kernels,
    result,
    positions,
    blocks,
    channels,
    height,
    width,
    of_selection,
    of_kernels,
    LINKS: tl.constexpr,
    MIXED: tl.constexpr,
    N: tl.constexpr,
    NS: tl.constexpr,
    TAPS: tl.constexpr,
    K: tl.constexpr,
    REPLICATE: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
    UNROLL: tl.constexpr,
    SUMS: tl.constexpr,
):
    sample = (tl.program_id(0) // blocks).to(tl.int64)
    link = tl.program_id(2)
    place = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)[:, None]
    position = sample * positions + place
    channel = tl.program_id(1) * ACROSS + tl.arange(0, ACROSS)[None, :]
    exists = (place < positions) & (channel < channels)
    chosen = selection_of(selection + link * N, position, place < positions, of_selection, N, NS)
    if MIXED:
        kernels += sample * of_kernels + link * (N * K * K)
    largest, total = scale_of(kernels, MIXED, N, K, NS, TAPS)
    warped = tl.zeros((ROWS, ACROSS), SUMS)
    for tap in tl.range(0, K * K, loop_unroll_factor=UNROLL):
        step, inside = neighbour(place, tap, height, width, K, REPLICATE)
        source = position + step
        column = column_of(kernels, largest, total, tap, MIXED, N, K, NS)
        weight = tl.sum(chosen * column, axis=1, keep_dims=True)  # Eq 12
        warped += weight * wide(tl.load(h + source * channels + channel, mask=exists & inside, other=0))  # Eq 11
    tl.store(result + (position * LINKS + link) * channels + channel, warped, mask=exists)


@triton.jit
def _mixed_warp_backward_features(
    gradient,
    selection,
    kernels,
    result,
    positions,
    blocks,
    channels,
    height,
    width,
    of_selection,
    of_kernels,
    LINKS: tl.constexpr,
    MIXED: tl.constexpr,
    N: tl.constexpr,
    NS: tl.constexpr,
    TAPS: tl.constexpr,
    K: tl.constexpr,
    REPLICATE: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
    UNROLL: tl.constexpr,
    SUMS: tl.constexpr,
):
    """Each position gathers from the neighbours that read it, as in `trivd.ops.cuda.warp`."""
    sample = (tl.program_id(0) // blocks).to(tl.int64)
    place = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)[:, None]
    position = sample * positions + place
    channel = tl.program_id(1) * ACROSS + tl.arange(0, ACROSS)[None, :]
    exists = (place < positions) & (channel < channels)
    if MIXED:
        kernels += sample * of_kernels
    result_sum = tl.zeros((ROWS, ACROSS), SUMS)
    for link in range(LINKS):
        largest, total = scale_of(kernels, MIXED, N, K, NS, TAPS)
        for reader in tl.range(0, K * K, loop_unroll_factor=UNROLL):
            step, inside = neighbour(place, reader, height, width, K, False)
            source = position + step
            inside &= place < positions
            chosen = selection_of(selection + link * N, source, inside, of_selection, N, NS)
            if REPLICATE:
                weight = tl.zeros((ROWS, 1), SUMS)
                for tap in range(K * K):
                    if may_reach(reader, tap, K):
                        back, _ = neighbour(place + step, tap, height, width, K, True)
                        column = column_of(kernels, largest, total, tap, MIXED, N, K, NS)
                        weight += tl.where(step + back == 0, tl.sum(chosen * column, axis=1, keep_dims=True), 0)
            else:
                column = column_of(kernels, largest, total, K * K - 1 - reader, MIXED, N, K, NS)
                weight = tl.sum(chosen * column, axis=1, keep_dims=True)
            g = tl.load(gradient + (source * LINKS + link) * channels + channel, mask=exists & inside, other=0)
            result_sum += weight * wide(g)
        if MIXED:
            kernels += N * K * K
    tl.store(result + position * channels + channel, result_sum, mask=exists)


@triton.jit
def _mixed_warp_backward_weights(
    gradient,
    h,
    selection,
    kernels,
    for_selection,
    partial,
    positions,
    blocks,
    channels,
    height,
    width,
    of_selection,
    of_kernels,
    LINKS: tl.constexpr,
    MIXED: tl.constexpr,
    N: tl.constexpr,
    NS: tl.constexpr,
    TAPS: tl.constexpr,
    K: tl.constexpr,
    REPLICATE: tl.constexpr,
    ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
    CHUNKS: tl.constexpr,
    UNROLL: tl.constexpr,
    SUMS: tl.constexpr,
):
    """Gradients of the selection's logits, and of the kernels the sums over this program's positions."""
    sample = (tl.program_id(0) // blocks).to(tl.int64)
    link = tl.program_id(1)
    place = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)[:, None]
    position = sample * positions + place
    exists = place < positions
    n = tl.arange(0, NS)[None, :]
    chosen = selection_of(selection + link * N, position, exists, of_selection, N, NS)
    if MIXED:
        kernels += sample * of_kernels + link * (N * K * K)
        partial += (tl.program_id(0).to(tl.int64) * LINKS + link) * (N * K * K)
    largest, total = scale_of(kernels, MIXED, N, K, NS, TAPS)
    for_weights = products(
        gradient + link * channels,
        h,
        position,
        place,
        exists,
        channels,
        height,
        width,
        LINKS * channels,
        K,
        REPLICATE,
        ROWS,
        ACROSS,
        CHUNKS,
        TAPS,
        UNROLL,
        SUMS,
    )
    for_chosen = tl.zeros((ROWS, NS), SUMS)
    for tap in tl.range(0, K * K):
        of_tap = tl.sum(tl.where(tl.arange(0, TAPS)[None, :] == tap, for_weights, 0), axis=1, keep_dims=True)
        for_chosen += of_tap * column_of(kernels, largest, total, tap, MIXED, N, K, NS)
        if MIXED:
            tl.store(partial + n * (K * K) + tap, tl.sum(chosen * of_tap, axis=0, keep_dims=True), mask=n < N)
    # Logits that fill up the rows have the gradient zero, and belong to the last link.
    written = n < (of_selection if link == LINKS - 1 else (link + 1) * N) - link * N
    address = for_selection + position * of_selection + link * N + n
    tl.store(address, softmax_slope(for_chosen, chosen), mask=exists & written)


def mixed_warp(h: Tensor, selection: Tensor, kernels: Tensor | None, links: int, taps: int, replicate: bool) -> Tensor:
    h, selection, kernels = _prepared(h, selection, kernels)
    batch, channels, height, width = h.shape
    result = empty(h, links * channels)
    tile = gather_tile(h.numel() // max(channels, 1), channels, height * width)
    blocks = triton.cdiv(height * width, tile["ROWS"])
    launch(
        _mixed_warp,
        (batch * blocks, triton.cdiv(channels, tile["ACROSS"]), links),
        *(h, selection, kernels, result),
        *_sizes(h, selection, kernels, blocks),
        **_constants(h, selection, kernels, links, taps, replicate),
        **tile,
    )
    return result


def mixed_warp_backward(
    gradient: Tensor, h: Tensor, selection: Tensor, kernels: Tensor | None, links: int, taps: int, replicate: bool
) -> list[Tensor]:
    gradient, (h, selection, kernels) = channels_innermost(gradient), _prepared(h, selection, kernels)
    batch, channels, height, width = h.shape
    rows = h.numel() // max(channels, 1)
    fixed = _constants(h, selection, kernels, links, taps, replicate)
    results = [torch.empty_like(h), torch.empty_like(selection)]

    tile = product_tile(rows, channels, height * width)
    blocks = triton.cdiv(height * width, tile["ROWS"])
    count = links * fixed["N"]  # kernels of a sample
    partial = None if kernels is None else h.new_empty(batch, blocks, count, taps, dtype=exact_dtype(h))
    launch(
        _mixed_warp_backward_weights,
        (batch * blocks, links),
        *(gradient, h, selection, kernels, results[1], partial),
        *_sizes(h, selection, kernels, blocks),
        **fixed,
        **tile,
    )
    if kernels is not None:
        results.append(torch.empty_like(kernels))
        across = triton.next_power_of_2(taps + kernels.shape[1] - count * taps)
        down = min(triton.next_power_of_2(blocks), max(1, LARGEST_SUM // across))
        launch(
            kernels_backward,
            (batch, count),
            *(partial, kernels, results[2], blocks, kernels.shape[1]),
            COUNT=count,
            TAPS=across,
            K=fixed["K"],
            DOWN=down,
            CHUNKS=triton.cdiv(blocks, down),
            SUMS=fixed["SUMS"],
        )

    tile = gather_tile(rows, channels, height * width)
    blocks = triton.cdiv(height * width, tile["ROWS"])
    launch(
        _mixed_warp_backward_features,
        (batch * blocks, triton.cdiv(channels, tile["ACROSS"])),
        *(gradient, selection, kernels, results[0]),
        *_sizes(h, selection, kernels, blocks),
        **fixed,
        **tile,
    )
    return results


def _prepared(h: Tensor, selection: Tensor, kernels: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    return channels_innermost(h), channels_innermost(selection), None if kernels is None else kernels.contiguous()


def _sizes(h: Tensor, selection: Tensor, kernels: Tensor | None, blocks: int) -> tuple[int, ...]:
    """The numbers that kernels are given, after their tensors."""
    _, channels, height, width = h.shape
    of_kernels = 0 if kernels is None else kernels.shape[1]
    return height * width, blocks, channels, height, width, selection.shape[1], of_kernels


def _constants(
    h: Tensor, selection: Tensor, kernels: Tensor | None, links: int, taps: int, replicate: bool
) -> dict[str, Any]:
    """What kernels are compiled for, except their tiles."""
    count = kernel_count(selection, kernels, links, taps)
    return {
        "LINKS": links,
        "MIXED": kernels is not None,
        "N": count,
        "NS": triton.next_power_of_2(selection.shape[1] - (links - 1) * count),  # what fills up rows included
        "TAPS": triton.next_power_of_2(taps),
        **constants(h, taps, replicate),
    }
