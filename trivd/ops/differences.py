"""Pooled differences of all pairs of channels, from which Dynamic ConvLSTM predicts its kernels (F.4)."""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trivd.models.layers import exact_dtype
from trivd.ops.cpu.library import kernel, threads


def pooling_windows(maps: Tensor, count: int) -> Tensor:
    """(B, c, width, H, W) -> (B, c, places, width x count x count): the places of each window of adaptive pooling.

    Windows that are smaller than the largest name their last place several times.
    """
    chosen = []
    for length in maps.shape[-2:]:
        bounds = [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
        most = max(end - first for first, end in bounds)
        places = [[min(first + place, end - 1) for place in range(most)] for first, end in bounds]
        chosen.append(torch.tensor(places, device=maps.device))  # (count, most)
    rows, columns = chosen
    picked = maps.index_select(3, rows.flatten()).unflatten(3, rows.shape)
    picked = picked.index_select(5, columns.flatten()).unflatten(5, columns.shape)
    return picked.permute(0, 1, 4, 6, 2, 3, 5).flatten(4).flatten(2, 3)


class _Pairs(ctypes.Structure):
    """Sizes, as in kernels/differences.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("samples", "channels", "places", "cells"))


class _PooledDifferences(torch.autograd.Function):
    """The compiled form of `pooled_differences`, which writes no difference to memory."""

    @staticmethod
    def forward(ctx: Any, now: Tensor, before: Tensor) -> Tensor:
        now, before = now.contiguous(), before.contiguous()
        ctx.save_for_backward(now, before)
        compiled = kernel("pooled_differences", now, before)
        assert compiled is not None
        result = now.new_empty(len(now), now.shape[1], now.shape[1], now.shape[3])
        pointers = (tensor.data_ptr() for tensor in (now, before, result))
        compiled(*pointers, ctypes.byref(_Pairs(*now.shape)), threads(result.numel()))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        now, before = ctx.saved_tensors
        gradient = gradient.contiguous()
        compiled = kernel("pooled_differences_backward", gradient, now, before)
        assert compiled is not None
        for_now, for_before = (torch.zeros_like(now, dtype=exact_dtype(now)) for _ in range(2))
        pointers = (tensor.data_ptr() for tensor in (gradient, now, before, for_now, for_before))
        compiled(*pointers, ctypes.byref(_Pairs(*now.shape)), threads(gradient.numel()))
        return for_now.to(now.dtype), for_before.to(now.dtype)


def pooled_differences(now: Tensor, before: Tensor) -> Tensor:
    """ReLU of the largest difference in each window, for all pairs of channels.

    Args:
        now: (B, c, places, cells), cells being the windows of all feature maps.
        before: the same.

    Returns:
        (B, c, c, cells): relu(max over places p of now[b, i, p] - before[b, j, p]) at [b, j, i].
    """
    if kernel("pooled_differences", now, before) is None:
        return F.relu((now.unsqueeze(1) - before.unsqueeze(2)).max(dim=3).values)
    pooled: Tensor = _PooledDifferences.apply(now, before)
    return pooled
