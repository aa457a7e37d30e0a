"""Kernel-based warping (paper B) and the hyper-networks f that predict its weights (F.1)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.models.layers import SNConv, SNLinear

POOLED = 4  # output size of f's adaptive max-pooling (F.1)


class _Warp(torch.autograd.Function):
    """Eq 11, whose backward gathers like its forward: autograd's own would write nine padded gradients."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(h, weights)
        taps = weights.unsqueeze(2).unbind(1)  # k^2 of (B, 1, H, W)
        neighbours = _neighbours(h, len(taps))
        result = taps[0] * neighbours[0]
        for tap, neighbour in zip(taps[1:], neighbours[1:], strict=True):
            result.addcmul_(tap, neighbour)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        h, weights = ctx.saved_tensors
        taps = weights.shape[1]
        for_weights = torch.stack([(gradient * neighbour).sum(dim=1) for neighbour in _neighbours(h, taps)], dim=1)
        # Position p is read through tap q by the position that lies opposite: p - offset(q), the tap counted backwards.
        readers = _neighbours(gradient, taps)[::-1]
        reading = _neighbours(weights, taps)[::-1]  # all taps of each reader; the one that reads p is needed
        for_h = reading[0][:, :1] * readers[0]
        for q in range(1, taps):
            for_h.addcmul_(reading[q][:, q : q + 1], readers[q])
        return for_h, for_weights


def _neighbours(x: Tensor, taps: int) -> list[Tensor]:
    """x (B, C, H, W) seen from each tap of a k x k kernel, zeros outside: k^2 views (B, C, H, W)."""
    height, width = x.shape[-2:]
    size = round(taps**0.5)
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

    def bind(self) -> Callable[[dict[str, Tensor]], Tensor]:
        """A function from the outputs of the first convolutions to warping weights (B, L, k^2, H, W)."""
        hidden, output = self.hidden.bind(), self.output.bind()

        def weights(read: dict[str, Tensor]) -> Tensor:
            pooled = F.adaptive_max_pool2d(F.relu(read["kernel_features"]), POOLED).flatten(1)
            kernels = output(F.relu(hidden(pooled))).unflatten(1, (self.links, self.taps, self.taps)).softmax(-1)
            selection = read["selection"].unflatten(1, (self.links, self.taps)).softmax(2)  # S: (B, L, N, H, W)
            mixed = kernels.mT.to(selection.dtype) @ selection.flatten(3)  # Eq 12: (B, L, k^2, H W)
            return mixed.unflatten(3, selection.shape[3:])

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

    def bind(self) -> Callable[[dict[str, Tensor]], Tensor]:
        """A function from the output of the first convolution to warping weights (B, 1, k^2, H, W)."""
        hidden, output = self.hidden.bind(), self.output.bind()

        def weights(read: dict[str, Tensor]) -> Tensor:
            return output(F.relu(hidden(F.relu(read["kernel_features"])))).softmax(1).unsqueeze(1)

        return weights
