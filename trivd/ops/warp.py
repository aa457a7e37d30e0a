"""Warping by predicted kernels (Eq 11): each position becomes a weighted mean of its k x k neighbours."""

import ctypes
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.ops.cpu.library import MOST_TAPS, Kernel, kernel, launch
from trivd.ops.operator import Operator, channels_innermost, empty, save_inputs


def warp(h: Tensor, weights: Tensor) -> Tensor:
    """Warp features, all channels alike (Eq 11).

    Args:
        h: features (B, C, H, W); outside of them lie zeros.
        weights: (B, k^2, H, W); weight m k + n belongs to row i + m - (k-1)/2 and column j + n - (k-1)/2.

    Returns:
        warped features (B, C, H, W).

    Raises:
        ValueError: the shapes do not belong together.
    """
    if h.dim() != 4 or weights.dim() != 4 or (h.shape[0], *h.shape[2:]) != (weights.shape[0], *weights.shape[2:]):
        raise ValueError(f"Weights {tuple(weights.shape)} do not warp features {tuple(h.shape)}.")
    warped: Tensor = _warp(h, weights.to(h.dtype))
    return warped


# The plain form


def plain_warp(h: Tensor, weights: Tensor) -> Tensor:
    taps = weights.unsqueeze(2).unbind(1)  # k^2 of (B, 1, H, W)
    neighbours = _neighbours(h, len(taps))
    result = taps[0] * neighbours[0]
    for tap, neighbour in zip(taps[1:], neighbours[1:], strict=True):
        result.addcmul_(tap, neighbour)
    return channels_innermost(result)


def plain_warp_backward(gradient: Tensor, h: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of h and weights; both gather, like the forward pass."""
    taps = weights.shape[1]
    for_weights = torch.stack([(gradient * neighbour).sum(dim=1) for neighbour in _neighbours(h, taps)], dim=3)
    # Position p is read through tap q by the position opposite: p - offset(q), the tap counted backwards.
    readers = _neighbours(gradient, taps)[::-1]
    reading = _neighbours(weights, taps)[::-1]  # all taps of each reader; the one that reads p is needed
    for_h = reading[0][:, :1] * readers[0]
    for q in range(1, taps):
        for_h.addcmul_(reading[q][:, q : q + 1], readers[q])
    return channels_innermost(for_h), for_weights.movedim(3, 1)


def _neighbours(x: Tensor, taps: int) -> list[Tensor]:
    """x (B, C, H, W) seen from each tap of a k x k kernel, zeros outside: k^2 views (B, C, H, W)."""
    height, width = x.shape[-2:]
    size = isqrt(taps)
    padded = F.pad(x, (size // 2,) * 4)
    return [padded[..., m : m + height, n : n + width] for m in range(size) for n in range(size)]


_warp = Operator("warp", plain_warp, lambda h, weights: empty(h))
_warp_backward = Operator("warp_backward", plain_warp_backward, lambda gradient, h, weights: (empty(h), empty(weights)))

# CPU


class _Shape(ctypes.Structure):
    """Sizes of features and strides of weights, as in cpu/kernels/warp.h."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("batch", "channels", "height", "width", "size", "of_sample", "of_tap", "of_row", "of_column")
    )


def _shape(h: Tensor, weights: Tensor) -> _Shape:
    return _Shape(*h.shape, isqrt(weights.shape[1]), *weights.stride())


def _fitting_kernel(name: str, weights: Tensor, *features: Tensor) -> Kernel | None:
    return kernel(name, weights, *features) if weights.shape[1] <= MOST_TAPS else None


@_warp.kernel("CPU")
def _(h: Tensor, weights: Tensor) -> Tensor:
    compiled = _fitting_kernel("warp", weights, h)
    if compiled is None:
        return plain_warp(h, weights)
    h = channels_innermost(h)
    result = torch.empty_like(h)
    launch(compiled, h, weights, result, _shape(h, weights), elements=h.numel())
    return result


@_warp_backward.kernel("CPU")
def _(gradient: Tensor, h: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    compiled = _fitting_kernel("warp_backward", weights, gradient, h)
    if compiled is None:
        return plain_warp_backward(gradient, h, weights)
    gradient, h, weights = map(channels_innermost, (gradient, h, weights))
    for_h, for_weights = torch.empty_like(h), torch.empty_like(weights)
    launch(compiled, gradient, h, weights, for_h, for_weights, _shape(h, weights), elements=h.numel())
    return for_h, for_weights


# The derivative


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor] = _warp_backward(gradient, *ctx.saved_tensors)
    return gradients


_warp.derivative(save_inputs, _backward)
