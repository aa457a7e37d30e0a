"""Pooled differences of all pairs of channels, from which Dynamic ConvLSTM predicts its kernels (F.4)."""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.ops.cpu.library import kernel, launch
from trivd.ops.cuda import library
from trivd.ops.operator import Operator, save_inputs
from trivd.ops.precision import exact_dtype


def pooling_windows(maps: Tensor, count: int) -> Tensor:
    """The places of each window of adaptive pooling, (B, c, width, H, W) -> (B, c, places, width x count x count).

    Windows that are smaller than the largest name their last place several times.
    """
    windows = _windows(_windows(maps, 3, count), 5, count)  # (B, c, width, count, rows, count, columns)
    return windows.permute(0, 1, 4, 6, 2, 3, 5).flatten(4).flatten(2, 3)


def _windows(maps: Tensor, dim: int, count: int) -> Tensor:
    """The windows along one dimension, which becomes two: (..., length, ...) -> (..., count, places, ...)."""
    length = maps.shape[dim]
    if length % count == 0 and library.fused(maps, "differences"):  # elsewhere it would change the order of sums
        return maps.unflatten(dim, (count, length // count))
    most = max(-(-(i + 1) * length // count) - i * length // count for i in range(count))
    number = torch.arange(count, device=maps.device)[:, None]
    first, last = number * length // count, ((number + 1) * length - 1) // count
    # Computed on the device: a list of places would be copied there, which no CUDA graph can record.
    places = torch.minimum(first + torch.arange(most, device=maps.device), last)  # (count, most)
    return maps.index_select(dim, places.flatten()).unflatten(dim, places.shape)


def pooled_differences(now: Tensor, before: Tensor) -> Tensor:
    """ReLU of the largest difference in each window, for all pairs of channels.

    Args:
        now: (B, c, places, cells), cells being the windows of all feature maps.
        before: the same.

    Returns:
        (B, c, c, cells): relu(max over places p of now[b, i, p] - before[b, j, p]) at [b, j, i].

    Raises:
        ValueError: the shapes differ, or have other than four dimensions.
    """
    if now.dim() != 4 or now.shape != before.shape:
        raise ValueError(f"Windows {tuple(now.shape)} and {tuple(before.shape)} must be of one shape (B, c, p, cells).")
    pooled: Tensor = _pooled_differences(now, before)
    return pooled


# The plain form


def plain_pooled_differences(now: Tensor, before: Tensor) -> Tensor:
    return F.relu((now.unsqueeze(1) - before.unsqueeze(2)).max(dim=3).values)


def plain_pooled_differences_backward(gradient: Tensor, now: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of now and before: each goes to the first place of the largest difference, if that is positive."""
    most, place = (now.unsqueeze(1) - before.unsqueeze(2)).max(dim=3, keepdim=True)  # (B, c, c, 1, cells)
    passed = torch.where(most > 0, gradient.unsqueeze(3), 0)
    shares = passed.new_zeros(*passed.shape[:3], now.shape[2], passed.shape[4]).scatter_(3, place, passed)
    return shares.sum(dim=1), -shares.sum(dim=2)


_pooled_differences = Operator(
    "pooled_differences",
    plain_pooled_differences,
    lambda now, before: now.new_empty(now.shape[0], now.shape[1], now.shape[1], now.shape[3]),
)
_pooled_differences_backward = Operator(
    "pooled_differences_backward",
    plain_pooled_differences_backward,
    lambda gradient, now, before: (now.new_empty(now.shape), before.new_empty(before.shape)),
)

# CPU


class _Pairs(ctypes.Structure):
    """Sizes, as in cpu/kernels/differences.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("samples", "channels", "places", "cells"))


@_pooled_differences.kernel("CPU")
def _(now: Tensor, before: Tensor) -> Tensor:
    """Write no difference to memory."""
    compiled = kernel("pooled_differences", now, before)
    if compiled is None:
        return plain_pooled_differences(now, before)
    now, before = now.contiguous(), before.contiguous()
    result = now.new_empty(now.shape[0], now.shape[1], now.shape[1], now.shape[3])
    launch(compiled, now, before, result, _Pairs(*now.shape), elements=result.numel())
    return result


@_pooled_differences_backward.kernel("CPU")
def _(gradient: Tensor, now: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    compiled = kernel("pooled_differences_backward", gradient, now, before)
    if compiled is None:
        return plain_pooled_differences_backward(gradient, now, before)
    gradient, now, before = gradient.contiguous(), now.contiguous(), before.contiguous()
    for_now, for_before = (torch.zeros_like(now, dtype=exact_dtype(now)) for _ in range(2))
    launch(compiled, gradient, now, before, for_now, for_before, _Pairs(*now.shape), elements=gradient.numel())
    return for_now.to(now.dtype), for_before.to(now.dtype)


# The derivative


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor] = _pooled_differences_backward(gradient, *ctx.saved_tensors)
    return gradients


_pooled_differences.derivative(save_inputs, _backward)
