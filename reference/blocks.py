"""BigGAN's residual blocks (Brock et al. 2019), of G and of the discriminators, and batch normalisation (A)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.layers import conv, framewise, linear


class FrameNorm(nn.Module):
    """Batch normalisation of each time step on its own: in training by the batch, else by standing statistics (A, E.2).

    Scale and offset are affine maps of a conditioning vector of size `condition_dim`; without one, both are learned.
    """

    standing_mean: Tensor
    standing_variance: Tensor
    scale: Any  # linear layers, or parameters (C,)
    offset: Any

    def __init__(self, frames: int, channels: int, condition_dim: int | None) -> None:
        super().__init__()
        for name in ("standing_mean", "standing_variance"):
            self.register_buffer(name, torch.full((frames, channels), float("nan")))
        if condition_dim is None:
            self.scale, self.offset = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        else:
            self.scale, self.offset = (linear(condition_dim, channels) for _ in range(2))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(T, B, C, H, W), (B, condition_dim) -> (T, B, C, H, W)"""
        if self.training:
            y = torch.stack([F.batch_norm(x_t, None, None, training=True) for x_t in x])
        else:
            standing = zip(x, self.standing_mean, self.standing_variance, strict=True)
            y = torch.stack([F.batch_norm(x_t, mean, variance) for x_t, mean, variance in standing])
        scale, offset = self.scale, self.offset
        if isinstance(scale, nn.Module):
            scale, offset = 1 + scale(condition), offset(condition)  # (B, C)
        return y * scale[..., None, None] + offset[..., None, None]


class GBlock(nn.Module):
    """G's block: (T, B, in, H, W) -> (T, B, out, H', W'), H' = 2 H if it upsamples."""

    def __init__(self, frames: int, inputs: int, outputs: int, condition_dim: int, upsample: bool) -> None:
        super().__init__()
        self.resize = nn.Upsample(scale_factor=2, mode="nearest") if upsample else nn.Identity()
        self.norm1 = FrameNorm(frames, inputs, condition_dim)
        self.conv1 = conv(inputs, outputs)
        self.norm2 = FrameNorm(frames, outputs, condition_dim)
        self.conv2 = conv(outputs, outputs)
        self.shortcut = conv(inputs, outputs, 1) if upsample or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = framewise(self.resize, F.relu(self.norm1(x, condition)))
        h = framewise(self.conv1, h)
        h = framewise(self.conv2, F.relu(self.norm2(h, condition)))
        return h + framewise(self.shortcut, framewise(self.resize, x))


class DBlock(nn.Module):
    """The discriminators' block: (B, in, [T,] H, W) -> (B, out, [T',] H', W'), H' = H / 2 if it pools.

    With 3 dimensions it convolves over time too. All but a network's first block activate first.
    """

    def __init__(
        self, inputs: int, outputs: int, dimensions: int, activate: bool, pool: bool, *, pool_time: bool = False
    ) -> None:
        super().__init__()
        self.activate, self.pool, self.pool_time = activate, pool, pool_time
        self.conv1 = conv(inputs, outputs, 3, dimensions)
        self.conv2 = conv(outputs, outputs, 3, dimensions)
        self.shortcut = conv(inputs, outputs, 1, dimensions) if inputs != outputs else nn.Identity()

    def unpooled(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(x) if self.activate else x)
        return self.conv2(F.relu(h)) + self.shortcut(x)

    def forward(self, x: Tensor) -> Tensor:
        h = self.unpooled(x)
        return average_pool(h, self.pool_time) if self.pool else h


def average_pool(x: Tensor, pool_time: bool = False) -> Tensor:
    """Averages over 2 x 2 pixels, of pairs of frames if asked: (B, C, [T,] H, W) -> (B, C, [T',] H / 2, W / 2).

    T' is T / 2, rounded down, but at least 1.
    """
    if x.dim() == 4:
        return F.avg_pool2d(x, 2)
    return F.avg_pool3d(x, (min(2, x.shape[2]) if pool_time else 1, 2, 2))


def discriminator_blocks(
    inputs: int, width: int, depth: int, *, pooled: int, temporal: int = 0, pool_time: bool = False
) -> nn.ModuleList:
    """Blocks of widths ch x (1, 2, 4, ...), of which the first `temporal` are 3D and the first `pooled` pool (A)."""
    widths = [inputs] + [width * 2**i for i in range(depth)]
    kinds = ((3, pool_time) if i < temporal else (2, False) for i in range(depth))
    return nn.ModuleList(
        DBlock(widths[i], widths[i + 1], dimensions, activate=i > 0, pool=i < pooled, pool_time=time)
        for i, (dimensions, time) in enumerate(kinds)
    )
