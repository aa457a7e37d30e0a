"""Between a video as the networks see it, float (..., C, H, W) in [-1, 1], and as files do, uint8 (..., H, W, C)."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_uint8(video: Tensor) -> npt.NDArray[np.uint8]:
    """Float (..., C, H, W) in [-1, 1] to uint8 (..., H, W, C): rounded, values beyond the range clipped.

    The inverse of `to_float` on all 256 values.
    """
    pixels = (video.detach().float().add(1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    array: npt.NDArray[np.uint8] = pixels.movedim(-3, -1).contiguous().cpu().numpy()
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
