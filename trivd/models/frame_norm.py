"""Batch normalisation with statistics of its own for each time step, its affine maps, and the ReLU that follows."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.models.layers import SNLinear
from trivd.ops.cuda import library
from trivd.ops.normalize import normalize, over_processes, statistics
from trivd.ops.precision import full_precision
from trivd.runtime.distributed import all_reduce_mean, world_size

# Scale and offset of a normalisation, each (B, C) or (C,).
Affine = tuple[Tensor, Tensor]


class FrameNormReLU(nn.Module):
    """Batch normalisation with statistics of its own for each time step (A), and the ReLU that follows it everywhere.

    Statistics are taken over batch and space, never over time. In evaluation they are the standing statistics,
    averages over many batches (E.2), which are NaN until they have been collected.

    Args:
        frames: T, the number of time steps.
        channels: of the features.
        condition_dim: size of the conditioning vector that scale and offset are an affine map of; None: both learned.
    """

    standing_mean: Tensor
    standing_variance: Tensor
    epsilon = 1e-5  # BigGAN's

    def __init__(self, frames: int, channels: int, condition_dim: int | None) -> None:
        super().__init__()
        self.register_buffer("standing_mean", torch.full((frames, channels), float("nan")))
        self.register_buffer("standing_variance", torch.full((frames, channels), float("nan")))
        self.collecting = False  # averaging standing statistics, see `collect`
        self.collected = 0
        self.scale: nn.Module | nn.Parameter
        self.offset: nn.Module | nn.Parameter
        if condition_dim is None:
            self.scale = nn.Parameter(torch.ones(channels))
            self.offset = nn.Parameter(torch.zeros(channels))
        else:
            self.scale = SNLinear(condition_dim, channels)  # predicts scale - 1
            self.offset = SNLinear(condition_dim, channels)

    def collect(self, on: bool) -> None:
        """Start to average the statistics of every batch afresh, or stop, and average over all processes."""
        self.collecting = on
        if on:
            self.collected = 0
        elif world_size() > 1:
            counts = torch.tensor(float(self.collected), device=self.standing_mean.device)
            share = self.collected / float(all_reduce_mean(counts))
            for standing in (self.standing_mean, self.standing_variance):
                standing.copy_(all_reduce_mean(standing.nan_to_num() * share))  # NaN: this process had no batch

    def forward(self, x: Tensor, affine: Affine) -> Tensor:
        """(T, B, C, H, W), its entry of `affine_maps` -> (T, B, C, H, W)."""
        own = self.training or self.collecting
        with torch.no_grad():
            mean, variance = statistics(x) if own else (self.standing_mean, self.standing_variance)
            if self.training:
                mean, variance = over_processes(mean, variance)
        y = normalize(x, mean, variance, affine, epsilon=self.epsilon, own=own)
        if self.collecting:
            self.collected += 1
            for standing, batch in ((self.standing_mean, mean), (self.standing_variance, variance)):
                standing.copy_(batch if self.collected == 1 else torch.lerp(standing, batch, 1 / self.collected))
        return y


def affine_maps(module: nn.Module, condition: Tensor) -> dict[FrameNormReLU, Affine]:
    """Scale and offset of every FrameNormReLU in `module`; those that depend on condition (B, dim) as one product."""
    norms = [norm for norm in module.modules() if isinstance(norm, FrameNormReLU)]
    layers = [layer for norm in norms for layer in norm.children() if isinstance(layer, SNLinear)]
    predicted: Iterator[Tensor] = iter(())
    fused = library.fused(condition, "normalize")
    if layers:
        with full_precision(condition):
            weight = torch.cat([layer.normalized_weight() for layer in layers])
            biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]  # all have one
            if fused:  # 1 is added to all scales at once
                biases[::2] = torch._foreach_add(biases[::2], 1)
            predicted = iter(
                F.linear(condition, weight, torch.cat(biases)).split([len(layer.weight) for layer in layers], dim=1)
            )
    maps: dict[FrameNormReLU, Affine] = {}
    for norm in norms:
        if isinstance(norm.scale, Tensor) and isinstance(norm.offset, Tensor):
            maps[norm] = norm.scale, norm.offset
        else:
            scale = next(predicted)
            maps[norm] = scale if fused else 1 + scale, next(predicted)
    return maps
