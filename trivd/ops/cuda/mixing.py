"""Eq 12 inside Triton kernels: weights of one tap, from softmaxes of logits; and the gradient of kernels' logits."""

import triton
import triton.language as tl

from trivd.ops.cuda.arithmetic import wide
from trivd.ops.cuda.softmax import softmax_rows, softmax_slope


@triton.jit
def selection_of(logits, position, exists, of_selection, N: tl.constexpr, NS: tl.constexpr):
    """S of Eq 12 at each position, (ROWS, NS), from the address of the first sample's first logit."""
    n = tl.arange(0, NS)[None, :]
    return softmax_rows(wide(tl.load(logits + position * of_selection + n, mask=exists & (n < N), other=0)), n < N)


@triton.jit
def scale_of(kernels, MIXED: tl.constexpr, N: tl.constexpr, K: tl.constexpr, NS: tl.constexpr, TAPS: tl.constexpr):
    """Of each kernel's logits the largest, and the sum of exponentials without it, (1, NS) each."""
    if MIXED:
        n = tl.arange(0, NS)[:, None]
        tap = tl.arange(0, TAPS)[None, :]
        logits = wide(tl.load(kernels + n * (K * K) + tap, mask=(n < N) & (tap < K * K), other=0))
        logits = tl.where(tap < K * K, logits, -float("inf"))
        largest = tl.max(logits, axis=1)
        total = tl.sum(tl.exp(logits - largest[:, None]), axis=1)
    else:
        largest = tl.zeros((NS,), tl.float32)
        total = largest
    return largest[None, :], total[None, :]


@triton.jit
def column_of(kernels, largest, total, tap, MIXED: tl.constexpr, N: tl.constexpr, K: tl.constexpr, NS: tl.constexpr):
    """The weight of a tap in each kernel, (1, NS); where kernels are not mixed, kernel n is tap n alone."""
    n = tl.arange(0, NS)[None, :]
    if MIXED:
        weights = tl.exp(wide(tl.load(kernels + n * (K * K) + tap, mask=n < N, other=0)) - largest) / total
    else:
        weights = tl.where(n == tap, 1.0, 0.0)
    return weights


@triton.jit
def kernels_backward(
    partial,
    kernels,
    result,
    blocks,
    of_kernels,
    COUNT: tl.constexpr,
    TAPS: tl.constexpr,
    K: tl.constexpr,
    DOWN: tl.constexpr,
    CHUNKS: tl.constexpr,
    SUMS: tl.constexpr,
):
    """Gradient of one kernel's logits, of COUNT in each sample, from the blocks' sums."""
    sample = tl.program_id(0).to(tl.int64)
    kernel = tl.program_id(1)
    tap = tl.arange(0, TAPS)[None, :]
    sums = tl.zeros((DOWN, TAPS), SUMS)
    for chunk in range(CHUNKS):
        block = chunk * DOWN + tl.arange(0, DOWN)[:, None]
        place = ((sample * blocks + block) * COUNT + kernel) * (K * K) + tap
        sums += tl.load(partial + place, mask=(block < blocks) & (tap < K * K), other=0)
    gradient = tl.sum(sums, axis=0, keep_dims=True)
    place = sample * of_kernels + kernel * (K * K) + tap
    y = softmax_rows(wide(tl.load(kernels + place, mask=tap < K * K, other=0)), tap < K * K)
    # Logits that fill up the row have the gradient zero, and belong to the last kernel.
    end = of_kernels if kernel == COUNT - 1 else (kernel + 1) * (K * K)
    tl.store(result + place, softmax_slope(gradient, y), mask=kernel * (K * K) + tap < end)
