"""The same computations written as most people would write them: what ours is compared with."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm


def unfold_warp(h: Tensor, weights: Tensor) -> Tensor:
    """Eq 11 with `F.unfold`, which writes out all k^2 neighbours; shapes as of `trivd.models.warping.warp`."""
    size = round(weights.shape[1] ** 0.5)
    neighbours = F.unfold(h, size, padding=size // 2).view(*h.shape[:2], size**2, *h.shape[2:])  # (B, C, k^2, H, W)
    return (neighbours * weights.unsqueeze(1)).sum(dim=2)


def sliced_warp(h: Tensor, weights: Tensor) -> Tensor:
    """Eq 11 as a sum of k^2 shifted slices of the padded features; shapes as of `trivd.models.warping.warp`."""
    size = round(weights.shape[1] ** 0.5)
    height, width = h.shape[2:]
    padded = F.pad(h, (size // 2,) * 4)
    warped = torch.zeros_like(h)
    for tap in range(size**2):
        m, n = divmod(tap, size)
        warped = warped + weights[:, tap : tap + 1] * padded[:, :, m : m + height, n : n + width]
    return warped


class PlainConvGRU(nn.Module):
    """ConvGRU (Eq 1-5) with one convolution of [h; x] for each gate at each step.

    Its weights are normalised once per sequence, as ours are, so that only the recurrence is compared.

    Args:
        input_channels: of x.
        hidden_channels: of the state.
        kernel_size: odd.
    """

    def __init__(self, input_channels: int, hidden_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.reset, self.update, self.candidate = (
            spectral_norm(
                nn.Conv2d(hidden_channels + input_channels, hidden_channels, kernel_size, padding=kernel_size // 2)
            )
            for _ in range(3)
        )

    def forward(self, x: Tensor, initial: Tensor) -> Tensor:
        """x (T, B, input channels, H, W), initial (B, hidden channels, H, W) -> states (T, B, hidden channels, H, W)"""
        h, states = initial, []
        with parametrize.cached():
            for x_t in x:
                both = torch.cat([h, x_t], dim=1)
                r = torch.sigmoid(self.reset(both))
                u = torch.sigmoid(self.update(both))
                c = F.relu(self.candidate(torch.cat([r * h, x_t], dim=1)))
                h = u * h + (1 - u) * c
                states.append(h)
        return torch.stack(states)
