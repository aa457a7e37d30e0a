"""TensorFlow 1's bilinear resize, which the reference feature networks see their frames through.

It differs from every resize of torch: pixel i of the output is read at i * in / out, without half-pixel centres.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor


def resize_bilinear(video: Tensor, height: int, width: int) -> Tensor:
    """`tf.compat.v1.image.resize_bilinear(align_corners=False)`, to the last bit in float32; no antialiasing.

    Args:
        video: clips (B, T, H, W, C) of uint8.
        height: of the output, pixels.
        width: of the output, pixels.

    Returns:
        (B, T, height, width, C), float32 from 0 to 255.
    """
    return _interpolate(_interpolate(video, 3, width), 2, height).float()


def _interpolate(video: Tensor, axis: int, size: int) -> Tensor:
    """Linear interpolation along one axis, whose output has `size` entries."""
    if video.shape[axis] == size:
        return video  # every pixel is read at its own place
    below, above, weight = _neighbours(video.shape[axis], size, video.device)
    start, stop = (video.index_select(axis, indices).float() for indices in (below, above))
    return stop.sub_(start).mul_(weight.view(size, *[1] * (video.dim() - 1 - axis))).add_(start)


@cache
def _neighbours(before: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `size` pixels, the two of `before` that it lies between, and the share of the second."""
    # In float32 as TensorFlow: a double would put some of the pixels a step to the side.
    position = np.arange(size, dtype=np.float32) * np.float32(before / size)
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, before - 1)  # the last pixel is repeated beyond the border
    share = position - below.astype(np.float32)
    first, second, weight = (torch.from_numpy(array).to(device) for array in (below, above, share))
    return first, second, weight
