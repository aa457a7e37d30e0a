"""Between a video as the networks see it, float (..., C, H, W) in [-1, 1], and as files do, uint8 (..., H, W, C)."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_pixels(video: Tensor) -> Tensor:
    """Float (..., C, H, W) in [-1, 1] to uint8 (..., H, W, C) on the same device: rounded, values beyond it clipped."""
    pixels = (video.detach().float().add(1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.movedim(-3, -1).contiguous()


def to_uint8(video: Tensor) -> npt.NDArray[np.uint8]:
    """`to_pixels` as an array; the inverse of `to_float` on all 256 values."""
    array: npt.NDArray[np.uint8] = to_pixels(video).cpu().numpy()
    return array


def to_float(video: npt.NDArray[np.uint8] | Tensor) -> Tensor:
    """Uint8 (..., H, W, C) to float32 (..., C, H, W) in [-1, 1], on the same device.

    Raises:
        TypeError: the values are not uint8, so that their range is unknown.
    """
    pixels = torch.as_tensor(video)
    if pixels.dtype != torch.uint8:
        raise TypeError(f"to_float takes uint8 pixels, not {pixels.dtype}.")
    return (pixels.float() / 127.5 - 1).movedim(-1, -3).contiguous()
