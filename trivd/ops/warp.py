"""Warping by predicted kernels (Eq 11): each position becomes a weighted mean of its k x k neighbours."""

import ctypes
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.ops.cpu.library import MOST_TAPS, Kernel, kernel, launch
from trivd.ops.operator import Operator, channels_innermost, empty


def warp(h: Tensor, weights: Tensor, replicate: bool = False) -> Tensor:
    """Warp features, all channels alike (Eq 11).

    Args:
        h: features (B, C, H, W).
        weights: (B, k^2, H, W); weight m k + n belongs to row i + m - (k-1)/2 and column j + n - (k-1)/2.
        replicate: whether the nearest border lies outside of the features, in place of zeros.

    Returns:
        warped features (B, C, H, W).

    Raises:
        ValueError: the shapes do not belong together.
    """
    if h.dim() != 4 or weights.dim() != 4 or (h.shape[0], *h.shape[2:]) != (weights.shape[0], *weights.shape[2:]):
        raise ValueError(f"Weights {tuple(weights.shape)} do not warp features {tuple(h.shape)}.")
    warped: Tensor = _warp(h, weights.to(h.dtype), replicate)
    return warped


# The plain form


def plain_warp(h: Tensor, weights: Tensor, replicate: bool) -> Tensor:
    taps = weights.unsqueeze(2).unbind(1)  # k^2 of (B, 1, H, W)
    neighbours = _neighbours(h, len(taps), replicate)
    result = taps[0] * neighbours[0]
    for tap, neighbour in zip(taps[1:], neighbours[1:], strict=True):
        result.addcmul_(tap, neighbour)
    return channels_innermost(result)


def plain_warp_backward(gradient: Tensor, h: Tensor, weights: Tensor, replicate: bool) -> tuple[Tensor, Tensor]:
    """Gradients of h and weights; both gather, like the forward pass."""
    taps, reach = weights.shape[1], isqrt(weights.shape[1]) // 2
    neighbours = _neighbours(h, taps, replicate)
    for_weights = torch.stack([(gradient * neighbour).sum(dim=1) for neighbour in neighbours], dim=3)
    if replicate:  # positions outside have gradients too, which are the border's
        gradient, weights = (F.pad(x, (reach,) * 4) for x in (gradient, weights))
    # Position p is read through tap q by the position opposite: p - offset(q), the tap counted backwards.
    readers = _neighbours(gradient, taps, False)[::-1]
    reading = _neighbours(weights, taps, False)[::-1]  # all taps of each reader; the one that reads p is needed
    for_h = reading[0][:, :1] * readers[0]
    for q in range(1, taps):
        for_h.addcmul_(reading[q][:, q : q + 1], readers[q])
    if replicate:
        for_h = _folded(_folded(for_h, 2, reach), 3, reach)
    return channels_innermost(for_h), for_weights.movedim(3, 1)


def _folded(padded: Tensor, dim: int, reach: int) -> Tensor:
    """Undo a replicating padding of a dimension: what lies outside is added to the border."""
    size = padded.shape[dim] - 2 * reach
    before, inner, after = padded.split([reach, size, reach], dim)
    inner = inner.clone()
    inner.narrow(dim, 0, 1).add_(before.sum(dim, keepdim=True))
    inner.narrow(dim, size - 1, 1).add_(after.sum(dim, keepdim=True))
    return inner


def _neighbours(x: Tensor, taps: int, replicate: bool) -> list[Tensor]:
    """x (B, C, H, W) seen from each tap of a k x k kernel, zeros or its border outside: k^2 views (B, C, H, W)."""
    height, width = x.shape[-2:]
    size = isqrt(taps)
    padded = F.pad(x, (size // 2,) * 4, mode="replicate" if replicate else "constant")
    return [padded[..., m : m + height, n : n + width] for m in range(size) for n in range(size)]


_warp = Operator("warp", plain_warp, lambda h, weights, replicate: empty(h))
_warp_backward = Operator(
    "warp_backward", plain_warp_backward, lambda gradient, h, weights, replicate: (empty(h), empty(weights))
)

# CPU


class _Shape(ctypes.Structure):
    """Sizes of features and strides of weights, as in cpu/kernels/warp.h."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("batch", "channels", "height", "width", "size", "replicate"),
            *("of_sample", "of_tap", "of_row", "of_column"),
        )
    )


def _shape(h: Tensor, weights: Tensor, replicate: bool) -> _Shape:
    return _Shape(*h.shape, isqrt(weights.shape[1]), replicate, *weights.stride())


def _fitting_kernel(name: str, weights: Tensor, *features: Tensor) -> Kernel | None:
    return kernel(name, weights, *features) if weights.shape[1] <= MOST_TAPS else None


@_warp.kernel("CPU")
def _(h: Tensor, weights: Tensor, replicate: bool) -> Tensor:
    compiled = _fitting_kernel("warp", weights, h)
    if compiled is None:
        return plain_warp(h, weights, replicate)
    h = channels_innermost(h)
    result = torch.empty_like(h)
    launch(compiled, h, weights, result, _shape(h, weights, replicate), elements=h.numel())
    return result


@_warp_backward.kernel("CPU")
def _(gradient: Tensor, h: Tensor, weights: Tensor, replicate: bool) -> tuple[Tensor, Tensor]:
    compiled = _fitting_kernel("warp_backward", weights, gradient, h)
    if compiled is None:
        return plain_warp_backward(gradient, h, weights, replicate)
    gradient, h, weights = map(channels_innermost, (gradient, h, weights))
    for_h, for_weights = torch.empty_like(h), torch.empty_like(weights)
    launch(compiled, gradient, h, weights, for_h, for_weights, _shape(h, weights, replicate), elements=h.numel())
    return for_h, for_weights


# The derivative


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
    h, weights, ctx.replicate = inputs
    ctx.save_for_backward(h, weights)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
    for_h, for_weights = _warp_backward(gradient, *ctx.saved_tensors, ctx.replicate)
    return for_h, for_weights, None


_warp.derivative(_save, _backward)
