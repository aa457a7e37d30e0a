"""Kernel-based warping (B) and the hyper-networks f that predict its weights from [h; x] (F.1)."""

from itertools import product
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.layers import conv, linear
from trivd.config import ModelConfig


def warp(h: Tensor, weights: Tensor, padding: str = "zeros") -> Tensor:
    """Every position of h (B, C, H, W) as a sum of its k x k neighbours, weighted by weights (B, k^2, H, W) (Eq 11).

    Weight m k + n belongs to row i + m - (k - 1) / 2 and column j + n - (k - 1) / 2; outside lie zeros, or with padding
    "replicate" the nearest border.
    """
    k = isqrt(weights.shape[1])
    height, width = h.shape[2:]
    padded = F.pad(h, (k // 2,) * 4, mode="constant" if padding == "zeros" else padding)
    warped = torch.zeros_like(h)
    for m, n in product(range(k), repeat=2):
        warped = warped + weights[:, None, m * k + n] * padded[:, :, m : m + height, n : n + width]  # Eq 11
    return warped


def hidden_sizes(config: ModelConfig, channels: int) -> tuple[int, int]:
    """Sizes of f's hidden layers: half of the channels of [h; x] each (F.1), if the settings name no others."""
    first, second = (max(1, int(share * channels)) for share in config.warp_hidden)
    return first, second


class FactorizedKernels(nn.Module):
    """f of TSRU and K-TrajGRU: N kernels w for the whole sample, and a map S that mixes them at each position.

    From [h; x] (B, channels, H, W) to the weights of L warps (B, L, k^2, H, W) of `size` k. In the paper, N = k^2.
    """

    def __init__(self, config: ModelConfig, channels: int, size: int) -> None:
        super().__init__()
        self.links, self.taps = config.links, size**2
        self.count = config.warp_kernels or self.taps  # N
        first, second = hidden_sizes(config, channels)
        self.features = conv(channels, first, config.kernel_size)
        self.hidden = linear(first * 4 * 4, second)
        self.output = linear(second, self.links * self.count * self.taps)
        self.selection = conv(channels, self.links * self.count, config.kernel_size)

    def forward(self, hx: Tensor) -> Tensor:
        features = F.adaptive_max_pool2d(F.relu(self.features(hx)), 4).flatten(1)
        kernels = self.output(F.relu(self.hidden(features)))
        w = kernels.unflatten(1, (self.links, self.count, self.taps)).softmax(dim=3)  # (B, L, N, k^2)
        s = self.selection(hx).unflatten(1, (self.links, self.count)).softmax(dim=2)  # (B, L, N, H, W)
        return torch.einsum("blnhw,blnq->blqhw", s, w)  # Eq 12


class PixelwiseKernels(nn.Module):
    """f of PTSRU: a CNN of two hidden layers, (B, channels, H, W) -> (B, 1, k^2, H, W)."""

    def __init__(self, config: ModelConfig, channels: int, size: int) -> None:
        super().__init__()
        first, second = hidden_sizes(config, channels)
        self.features = conv(channels, first, config.kernel_size)
        self.hidden = conv(first, second)
        self.output = conv(second, size**2)

    def forward(self, hx: Tensor) -> Tensor:
        weights: Tensor = self.output(F.relu(self.hidden(F.relu(self.features(hx)))))
        return weights.softmax(dim=1).unsqueeze(1)
