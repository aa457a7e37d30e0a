"""Latent samples z, truncated or not (A, D.1)."""

import math

import numpy as np
import torch
from torch import Tensor

from trivd.runtime.distributed import rank_rows, world_size


def seeded_generator(*key: int) -> torch.Generator:
    """Random numbers on the CPU that depend on `key` alone, independent of those of any other key."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def draw_latents(count: int, dim: int, rng: torch.Generator, truncation: float | None = None) -> Tensor:
    """z ~ N(0, I), (count, dim) float32 on the CPU.

    Args:
        count: samples.
        dim: latent_dim.
        rng: on the CPU: the same draws on every device.
        truncation: entries beyond +-truncation are drawn again, within it (Brock et al. 2019); 0 gives z = 0.
    """
    if truncation == 0:
        return torch.zeros(count, dim, dtype=torch.float32)
    z = torch.randn(count, dim, generator=rng, dtype=torch.float32)
    if truncation is None:
        return z
    # By the inverse of the distribution function, as drawing until it fits never ends for a tiny threshold.
    share = torch.erf(torch.tensor(truncation, dtype=torch.float64) / math.sqrt(2))  # of N(0, 1) within it
    uniform = 2 * torch.rand(count, dim, generator=rng, dtype=torch.float64) - 1
    within = math.sqrt(2) * torch.erfinv(share * uniform)
    return torch.where(z.abs() > truncation, within.float(), z)


def draw_own_latents(
    count: int, dim: int, rng: torch.Generator, copies: int = 1, truncation: float | None = None
) -> Tensor:
    """z (count, dim) of this process, as `draw_latents` draws it for the global batch; see `rank_rows`."""
    return rank_rows(draw_latents(count * world_size(), dim, rng, truncation), copies)
