"""Warping weights read as motion: the expected displacement at every position, combined from coarse to fine (Figure 3).

Flow is backward, in pixels, channels (x, y): content at (x, y) came from (x + flow_x, y + flow_y) of the step before.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from trivd.config import MotionLevels, chosen_levels
from trivd.runtime.errors import TrivdError

NO_MOTION = "This model has no motion field: its model.unit does not warp; use a TSRU or k_traj_gru."


def expected_displacement(weights: Tensor) -> Tensor:
    """Mean displacement under warping weights, taken as a distribution over the kernel's taps (section 4, Figure 3).

    Tap q = m k + n reads the past at row i + m - (k-1)/2 and column j + n - (k-1)/2 (Eq 11).

    Args:
        weights: (..., k*k, H, W) with k odd; non-negative, summing to 1 over the taps.

    Returns:
        Backward flow (..., 2, H, W), channels (x, y), in pixels of this resolution.

    Raises:
        ValueError: the number of taps is not the square of an odd number.
    """
    taps = weights.shape[-3]
    size = math.isqrt(taps)
    if size * size != taps or size % 2 == 0:
        raise ValueError(f"Warping weights have {taps} taps; they must be k*k with k odd.")
    offsets = torch.arange(size, dtype=weights.dtype, device=weights.device) - (size - 1) / 2  # (k,)
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")  # row offset m, column offset n
    vectors = torch.stack((x.flatten(), y.flatten()))  # (2, k*k)
    return torch.einsum("dq,...qhw->...dhw", vectors, weights)


def motion_field(warps: Mapping[int, Tensor], resolution: int, levels: MotionLevels) -> Tensor:
    """Flow of a whole prediction: coarse flow, upsampled and scaled, plus the next finer one, and so on (Figure 3).

    Each unit warps its own state, so levels that each follow the whole motion count it several times in their sum. The
    paper's figure combines the two finest levels.

    Args:
        warps: resolution r -> weights (T, B, L, k*k, r, r) of L links, which are averaged.
        resolution: height and width of the result.
        levels: which of them take part, see `trivd.config.levels.chosen_levels`.

    Returns:
        Backward flow (T, B, 2, resolution, resolution), in pixels of that resolution.

    Raises:
        TrivdError: `warps` is empty, as it is for a recurrent unit that does not warp, or lacks one of the levels.
    """
    if not warps:
        raise TrivdError(NO_MOTION)
    coarsest, *finer = chosen_levels(levels, warps)
    flow = expected_displacement(warps[coarsest]).mean(dim=2)  # (T, B, 2, r, r), links averaged
    for level in finer:
        flow = _resize(flow, level) + expected_displacement(warps[level]).mean(dim=2)
    return _resize(flow, resolution)


def endpoint_error(flow: Tensor, truth: Tensor, visible: Tensor) -> Tensor:
    """Mean distance between the two flows' end points over the visible pixels, in pixels; NaN if none is visible.

    Args:
        flow: (..., 2, H, W).
        truth: the same shape.
        visible: bool (..., H, W); false where the content was hidden before, so that it has no true flow.

    Returns:
        A tensor without dimensions.
    """
    distance = (flow - truth).square().sum(dim=-3).sqrt()  # (..., H, W)
    return distance[visible].mean()


def _resize(flow: Tensor, resolution: int) -> Tensor:
    """Flow (T, B, 2, r, r) at another resolution, its vectors in that resolution's pixels."""
    factor = resolution / flow.shape[-1]
    resized = F.interpolate(flow.flatten(0, 1), size=(resolution, resolution), mode="bilinear", align_corners=False)
    return factor * resized.view(*flow.shape[:2], *resized.shape[1:])
