"""TensorFlow 1's bilinear resize, which the reference feature networks see their frames through.

It differs from every resize of torch: pixel i of the output is read at i * in / out, without half-pixel centres.
"""

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
    # In float32 as TensorFlow: a double would put some of the pixels a step to the side.
    position = np.arange(size, dtype=np.float32) * np.float32(video.shape[axis] / size)
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, video.shape[axis] - 1)  # the last pixel is repeated beyond the border
    shape = [1] * video.dim()
    shape[axis] = size
    weight = torch.from_numpy(position - below.astype(np.float32)).to(video.device).view(shape)
    start, stop = (
        video.index_select(axis, torch.from_numpy(indices).to(video.device)).float() for indices in (below, above)
    )
    return stop.sub_(start).mul_(weight).add_(start)
