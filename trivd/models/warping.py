"""Kernel-based warping (paper B) and the hyper-networks f that predict its weights (F.1)."""

import ctypes
from collections.abc import Callable
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trivd.models.layers import SNConv, SNLinear
from trivd.ops.cpu.library import MOST_TAPS, kernel, threads
from trivd.ops.gates import softmax
from trivd.ops.unroll import Recursion, share_layer

POOLED = 4  # output size of f's adaptive max-pooling (F.1)
# Offsets of logits with which warps start as "copy": of each kernel's own tap, and of the centre in what selects.
OWN_TAP = 5.0
CENTRE = 2.0


class _Shape(ctypes.Structure):
    """Sizes of features and strides of weights, as in kernels/warp.h."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("batch", "channels", "height", "width", "size", "of_sample", "of_tap", "of_row", "of_column")
    )


class _Warp(torch.autograd.Function):
    """Eq 11, whose backward gathers like its forward: autograd's own would write k^2 padded gradients."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(h, weights)
        compiled = kernel("warp", h, weights) if weights.shape[1] <= MOST_TAPS else None
        if compiled is None:
            taps = weights.unsqueeze(2).unbind(1)  # k^2 of (B, 1, H, W)
            neighbours = _neighbours(h, len(taps))
            result = taps[0] * neighbours[0]
            for tap, neighbour in zip(taps[1:], neighbours[1:], strict=True):
                result.addcmul_(tap, neighbour)
            return result
        h = h.contiguous(memory_format=torch.channels_last)
        result = torch.empty_like(h)
        pointers = (tensor.data_ptr() for tensor in (h, weights, result))
        compiled(*pointers, ctypes.byref(_shape(h, weights)), threads(h.numel()))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        h, weights = ctx.saved_tensors
        taps = weights.shape[1]
        compiled = kernel("warp_backward", gradient, h, weights) if taps <= MOST_TAPS else None
        if compiled is None:
            for_weights = torch.stack([(gradient * neighbour).sum(dim=1) for neighbour in _neighbours(h, taps)], dim=1)
            # Position p is read through tap q by the position opposite: p - offset(q), the tap counted backwards.
            readers = _neighbours(gradient, taps)[::-1]
            reading = _neighbours(weights, taps)[::-1]  # all taps of each reader; the one that reads p is needed
            for_h = reading[0][:, :1] * readers[0]
            for q in range(1, taps):
                for_h.addcmul_(reading[q][:, q : q + 1], readers[q])
            return for_h, for_weights
        gradient, h, weights = (t.contiguous(memory_format=torch.channels_last) for t in (gradient, h, weights))
        for_h, for_weights = torch.empty_like(h), torch.empty_like(weights)
        pointers = (tensor.data_ptr() for tensor in (gradient, h, weights, for_h, for_weights))
        compiled(*pointers, ctypes.byref(_shape(h, weights)), threads(h.numel()))
        return for_h, for_weights


def _shape(h: Tensor, weights: Tensor) -> _Shape:
    batch, channels, height, width = h.shape
    return _Shape(batch, channels, height, width, isqrt(weights.shape[1]), *weights.stride())


def _neighbours(x: Tensor, taps: int) -> list[Tensor]:
    """x (B, C, H, W) seen from each tap of a k x k kernel, zeros outside: k^2 views (B, C, H, W)."""
    height, width = x.shape[-2:]
    size = isqrt(taps)
    padded = F.pad(x, (size // 2,) * 4)
    return [padded[..., m : m + height, n : n + width] for m in range(size) for n in range(size)]


def warp(h: Tensor, weights: Tensor) -> Tensor:
    """Each position becomes a weighted mean of its k x k neighbours, the same for all channels (Eq 11).

    Args:
        h: features (B, C, H, W); outside of them lie zeros.
        weights: (B, k^2, H, W); weight m k + n belongs to row i + m - (k-1)/2 and column j + n - (k-1)/2.

    Returns:
        warped features (B, C, H, W).
    """
    warped: Tensor = _Warp.apply(h, weights.to(h.dtype))
    return warped


def _bias(layer: nn.Module) -> Tensor:
    bias = layer.bias
    assert isinstance(bias, Tensor)
    return bias


class FactorizedKernels(nn.Module):
    """f of the TSRUs and K-TrajGRU: N = k^2 kernels for the whole sample, mixed at every position (Eq 12).

    Its two first convolutions, which read [h; x], belong to the unit so that they run with the unit's others: `reads`
    names them and their channels. After them: ReLU -> 4 x 4 adaptive max-pooling -> linear -> ReLU -> linear.

    Args:
        channels: of [h; x].
        size: k.
        links: L, number of warps predicted.
    """

    def __init__(self, channels: int, size: int, links: int) -> None:
        super().__init__()
        self.taps = size**2
        self.links = links
        self.reads = {"kernel_features": channels // 2, "selection": links * self.taps}
        pooled = (channels // 2) * POOLED**2
        self.hidden = SNLinear(pooled, pooled // 2)
        self.output = SNLinear(pooled // 2, links * self.taps**2)

    def start_as_copy(self, first: nn.ModuleDict) -> None:
        """Let kernel n start as a shift to tap n, and the selection map prefer that of the centre.

        Started as means, kernels are all alike; those that others outrun stay so, and many taps are never used.

        Args:
            first: the unit's convolutions named in `reads`.
        """
        with torch.no_grad():
            _bias(self.output).copy_((OWN_TAP * torch.eye(self.taps)).flatten().repeat(self.links))
            _bias(first["selection"])[self.taps // 2 :: self.taps] = CENTRE

    def bind(self, recursion: Recursion | None = None) -> Callable[[dict[str, Tensor]], Tensor]:
        """A function from the outputs of the first convolutions to warping weights (B, L, k^2, H, W)."""
        hidden, output = share_layer(self.hidden, "relu", recursion), share_layer(self.output, "identity", recursion)

        def weights(read: dict[str, Tensor]) -> Tensor:
            # ReLU after pooling is ReLU before it, on fewer values.
            pooled = F.relu(F.adaptive_max_pool2d(read["kernel_features"], POOLED).flatten(1))
            kernels = softmax(output(hidden(pooled)).unflatten(1, (self.links, self.taps, self.taps)))
            selection = softmax(read["selection"].movedim(1, -1).unflatten(-1, (self.links, self.taps)))
            height, width = selection.shape[1:3]
            positions = selection.flatten(1, 2).transpose(1, 2)  # S: (B, L, H W, N)
            mixed = positions @ kernels.to(positions.dtype)  # Eq 12: (B, L, H W, k^2)
            return mixed.mT.unflatten(3, (height, width))

        return weights


class PixelwiseKernels(nn.Module):
    """f of the PTSRUs: a CNN of two hidden layers predicts k^2 weights for every position.

    As in `FactorizedKernels` the first convolution belongs to the unit; a hidden layer halves its input's channels.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.reads = {"kernel_features": channels // 2}
        self.hidden = SNConv(channels // 2, channels // 4)
        self.output = SNConv(channels // 4, size**2)

    def start_as_copy(self, first: nn.ModuleDict) -> None:
        """Let the weights start with more on the centre; `first` as in `FactorizedKernels`."""
        with torch.no_grad():
            bias = _bias(self.output)
            bias[len(bias) // 2] = CENTRE

    def bind(self, recursion: Recursion | None = None) -> Callable[[dict[str, Tensor]], Tensor]:
        """A function from the output of the first convolution to warping weights (B, 1, k^2, H, W)."""
        hidden, output = share_layer(self.hidden, "relu", recursion), share_layer(self.output, "identity", recursion)

        def weights(read: dict[str, Tensor]) -> Tensor:
            taps = output(hidden(F.relu(read["kernel_features"])))
            return softmax(taps.movedim(1, -1)).movedim(-1, 1).unsqueeze(1)

        return weights
